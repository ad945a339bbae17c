"""What raises an alarm: events that matter, and silence. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from openami.headend.alarms import (
    Alarm,
    AlarmKey,
    Condition,
    Origin,
    StateKind,
    alarm_id,
    gravity,
)
from openami.headend.states import GatewayState, MeterState, gateway_state, states_of
from openami.headend.store import GatewayRow, MeterRow, StoredEvent
from openami.profile import EventState, Severity
from openami.profile.event import read_event

# What happened before a head-end first looked is history, and nobody's alarm: but a week-end of it may be news.
EVENTS_LOOKED_BACK_DAYS: Final = 7
SERIOUS: Final = frozenset({Severity.MAJOR, Severity.CRITICAL})
# Told by a gateway as minor, because its readings wait and are not lost; to a biller the clock is a serious matter.
ALWAYS: Final = frozenset({"clock_invalid"})
# The state of the meter says the same, and says it of silent meters no event came from.
SAID_BY_STATE: Final = frozenset({"comms_lost", "comms_restored"})


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


def is_serious(event: StoredEvent) -> bool:
    """Whether an event may raise an alarm."""
    if event.type in SAID_BY_STATE:
        return False
    # Information is never an alarm: the end of one part of a condition is told as a moment of it.
    return event.severity in SERIOUS or (event.type in ALWAYS and event.severity != Severity.INFO)


def by_events(active: Iterable[Alarm], events: Iterable[StoredEvent], now: datetime) -> list[Alarm]:
    """Return the alarms that are new, told again or over, by events that came since the last look.

    In the order in which they happened: a gateway that was away tells the newest first, and a beginning after its
    end would stand for ever.
    """
    oldest = now - timedelta(days=EVENTS_LOOKED_BACK_DAYS)
    known = {alarm.key: alarm for alarm in active if alarm.origin is Origin.EVENT}
    changed: dict[str, Alarm] = {}
    for event in sorted(
        events, key=lambda each: (each.occurred_at, each.state == EventState.CLEARED)
    ):
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
        id=alarm_id(key, event.occurred_at),
        feeder_id=event.feeder_id,
        gateway_id=event.gateway_id,
        meter_serial=key[2],
        kind=event.type,
        origin=Origin.EVENT,
        severity=max(Severity(event.severity), Severity.MINOR, key=gravity),
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
