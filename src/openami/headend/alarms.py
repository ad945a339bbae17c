"""Alarms: what a person has to know of, from events that matter and from states that last. Pure.

An alarm is raised once for one thing: a place (feeder, gateway, meter) and a kind. While it stands, the same thing
told again is counted, not raised again. It is over by itself when what raised it is over; a person acknowledges it,
and the two are kept apart: over is not seen, and seen is not over (decision 0043).
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec

from openami.headend.commands import LedgerCommand, is_unresolved
from openami.headend.states import GatewayState, MeterState, gateway_state, states_of
from openami.headend.store import GatewayRow, MeterRow, StoredEvent
from openami.profile import EventState, Severity
from openami.profile.event import read_event
from openami.profile.times import utc_text

# What happened before a head-end first looked is history, and nobody's alarm: but a week-end of it may be news.
EVENTS_LOOKED_BACK_DAYS: Final = 7
# Half of what makes a collision likely after 2**40 alarms.
_ID_BYTES: Final = 10

SERIOUS: Final = frozenset({Severity.MAJOR, Severity.CRITICAL})
# Told by a gateway as minor, because its readings wait and are not lost; to a biller the clock is a serious matter.
ALWAYS: Final = frozenset({"clock_invalid"})
# The state of the meter says the same, and says it of silent meters no event came from.
SAID_BY_STATE: Final = frozenset({"comms_lost", "comms_restored"})


class StateKind(StrEnum):
    """The kinds of alarm that a state raises; those that events raise are called as the event's type."""

    GATEWAY_SILENT = "gateway_silent"
    METER_SILENT = "meter_silent"
    COMMAND_UNKNOWN = "command_unknown"


class Origin(StrEnum):
    """By what an alarm was raised, and so by what it is over."""

    STATE = "state"
    EVENT = "event"


AlarmKey = tuple[str, str, str, str]
"""Feeder, gateway, meter (empty for the gateway's own) and kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One alarm, as it is kept."""

    id: str
    feeder_id: str
    gateway_id: str
    meter_serial: str
    """Empty for an alarm of the gateway itself."""
    kind: str
    origin: Origin
    severity: Severity
    detail: str
    raised_at: datetime
    last_at: datetime
    """When it was last told."""
    times: int = 1
    """How often it was told."""
    cleared_at: datetime | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    note: str | None = None

    @property
    def key(self) -> AlarmKey:
        """Return what it is about."""
        return (self.feeder_id, self.gateway_id, self.meter_serial, self.kind)

    @property
    def stands(self) -> bool:
        """Whether it is not over."""
        return self.cleared_at is None

    @property
    def is_active(self) -> bool:
        """Whether it stands, or is over and nobody has seen it."""
        return self.stands or self.acknowledged_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A state that is an alarm as long as it lasts."""

    feeder_id: str
    gateway_id: str
    meter_serial: str
    kind: StateKind
    severity: Severity
    since: datetime
    detail: str = ""

    @property
    def key(self) -> AlarmKey:
        """Return what it is about."""
        return (self.feeder_id, self.gateway_id, self.meter_serial, self.kind.value)


# --- by states -----------------------------------------------------------------------------------


def silences(
    meters: Sequence[MeterRow], gateways: Sequence[GatewayRow], now: datetime
) -> list[Condition]:
    """Return who is silent. A silent gateway is one alarm: of the meters behind it nothing is known."""
    found = [
        Condition(
            feeder_id=gateway.feeder_id,
            gateway_id=gateway.gateway_id,
            meter_serial="",
            kind=StateKind.GATEWAY_SILENT,
            severity=Severity.MAJOR,
            since=gateway.last_seen,
        )
        for gateway in gateways
        if gateway_state(gateway, now) is GatewayState.GATEWAY_SILENT
    ]
    found.extend(
        Condition(
            feeder_id=meter.feeder_id,
            gateway_id=meter.gateway_id,
            meter_serial=meter.meter_serial,
            kind=StateKind.METER_SILENT,
            severity=Severity.MAJOR,
            since=meter.latest_good_ts or meter.first_seen,
        )
        for meter, state in states_of(meters, gateways, now=now)
        if state is MeterState.METER_SILENT and meter.meter_serial != meter.gateway_id
    )
    return found


def unknown_ends(commands: Iterable[LedgerCommand]) -> list[Condition]:
    """Return the commands of which nobody knows what became of them: a house may be dark, or lit unpaid."""
    return [
        Condition(
            feeder_id=command.feeder_id,
            gateway_id=command.gateway_id,
            meter_serial=command.meter_serial,
            kind=StateKind.COMMAND_UNKNOWN,
            severity=Severity.CRITICAL,
            since=command.ended_at or command.requested_at,
            detail=command.id,
        )
        for command in commands
        if is_unresolved(command)
    ]


def by_states(
    active: Iterable[Alarm],
    conditions: Iterable[Condition],
    now: datetime,
    *,
    judged: frozenset[StateKind] = frozenset(StateKind),
) -> list[Alarm]:
    """Return the alarms that are new or over, by the states that hold now.

    ``judged`` are the kinds that could be looked at: while the head-end does not hear its broker, silence says
    nothing, and an alarm about it neither begins nor ends.
    """
    holding = {each.key: each for each in conditions if each.kind in judged}
    standing = {
        alarm.key: alarm
        for alarm in active
        if alarm.origin is Origin.STATE and alarm.stands and alarm.kind in judged
    }
    raised = [_raised_by(each, now) for key, each in holding.items() if key not in standing]
    over = [replace(alarm, cleared_at=now) for key, alarm in standing.items() if key not in holding]
    return over + raised


def _raised_by(condition: Condition, now: datetime) -> Alarm:
    return Alarm(
        id=_id(condition.key, now),
        feeder_id=condition.feeder_id,
        gateway_id=condition.gateway_id,
        meter_serial=condition.meter_serial,
        kind=condition.kind.value,
        origin=Origin.STATE,
        severity=condition.severity,
        detail=condition.detail,
        raised_at=condition.since,
        last_at=now,
    )


# --- by events -----------------------------------------------------------------------------------


def is_serious(event: StoredEvent) -> bool:
    """Whether an event may raise an alarm."""
    if event.type in SAID_BY_STATE:
        return False
    return event.severity in SERIOUS or event.type in ALWAYS


def by_events(active: Iterable[Alarm], events: Iterable[StoredEvent], now: datetime) -> list[Alarm]:
    """Return the alarms that are new, told again or over, by events in the order they came."""
    oldest = now - timedelta(days=EVENTS_LOOKED_BACK_DAYS)
    known = {alarm.key: alarm for alarm in active if alarm.origin is Origin.EVENT}
    changed: dict[str, Alarm] = {}
    for event in events:
        after = _told(known.get(_key_of(event)), event, oldest)
        if after is not None:
            known[after.key] = changed[after.id] = after
    return list(changed.values())


def _told(known: Alarm | None, event: StoredEvent, oldest: datetime) -> Alarm | None:
    """Return the alarm after an event; None where it changes nothing."""
    stands = known is not None and known.stands
    if event.state == EventState.CLEARED:
        if known is None or not stands or event.occurred_at < known.raised_at:
            return None
        return replace(known, cleared_at=event.occurred_at)
    if not is_serious(event) or event.received_at < oldest:
        return None
    momentary = event.state == EventState.INSTANT
    if known is not None and (stands or (momentary and known.is_active)):
        over = max(known.cleared_at or event.occurred_at, event.occurred_at) if momentary else None
        return replace(
            known,
            times=known.times + 1,
            last_at=max(known.last_at, event.occurred_at),
            cleared_at=None if stands else over,
        )
    key = _key_of(event)
    return Alarm(
        id=_id(key, event.occurred_at),
        feeder_id=event.feeder_id,
        gateway_id=event.gateway_id,
        meter_serial=key[2],
        kind=event.type,
        origin=Origin.EVENT,
        severity=max(Severity(event.severity), Severity.MINOR, key=_GRAVITY.__getitem__),
        detail=detail_of(event),
        raised_at=event.occurred_at,
        last_at=event.occurred_at,
        cleared_at=event.occurred_at if momentary else None,
    )


def detail_of(event: StoredEvent) -> str:
    """Return the sentence an event says of itself; empty where it says none."""
    try:
        told = msgspec.json.decode(event.payload, type=_Told).event
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    read = read_event(told)
    return "" if read is None or read.detail is None else read.detail


class _Told(msgspec.Struct):
    event: Any = None


def _key_of(event: StoredEvent) -> AlarmKey:
    own = event.meter_serial == event.gateway_id
    return (event.feeder_id, event.gateway_id, "" if own else event.meter_serial, event.type)


_GRAVITY: Final = {severity: at for at, severity in enumerate(Severity)}


def gravity(severity: Severity) -> int:
    """Return how grave it is: the higher, the sooner a person should look."""
    return _GRAVITY[severity]


def _id(key: AlarmKey, moment: datetime) -> str:
    told = "\0".join((*key, utc_text(moment)))
    return hashlib.blake2s(told.encode(), digest_size=_ID_BYTES).hexdigest()
