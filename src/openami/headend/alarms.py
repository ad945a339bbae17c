"""Alarms: what a person has to know of, from events that matter and from states that last. Pure.

An alarm is raised once for one thing: a place (feeder, gateway, meter) and a kind. While it stands, the same thing
told again is counted, not raised again. It is over by itself when what raised it is over; a person acknowledges it,
and the two are kept apart: over is not seen, and seen is not over (decision 0043).
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from openami.headend.commands import LedgerCommand, is_unresolved
from openami.profile import Severity
from openami.profile.times import utc_text

# Half of what makes a collision likely after 2**40 alarms.
_ID_BYTES: Final = 10


class StateKind(StrEnum):
    """The kinds of alarm that a state raises; those that events raise are called as the event's type."""

    GATEWAY_SILENT = "gateway_silent"
    METER_SILENT = "meter_silent"
    COMMAND_UNKNOWN = "command_unknown"
    BANDWIDTH_NEAR = "bandwidth_near"
    """A gateway has used most of its month's budget."""
    BANDWIDTH_OVER = "bandwidth_over"


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
        id=alarm_id(condition.key, now),
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


# --- the two of them ------------------------------------------------------------------------------

_GRAVITY: Final = {severity: at for at, severity in enumerate(Severity)}


def gravity(severity: Severity) -> int:
    """Return how grave it is: the higher, the sooner a person should look."""
    return _GRAVITY[severity]


def alarm_id(key: AlarmKey, moment: datetime) -> str:
    told = "\0".join((*key, utc_text(moment)))
    return hashlib.blake2s(told.encode(), digest_size=_ID_BYTES).hexdigest()
