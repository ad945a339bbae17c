"""What a gateway will send in a month, by its configuration (pure): the same envelopes, encoded and measured.

Envelopes are encoded as the gateway encodes them, with values as long as its meters' are; what MQTT, TLS, TCP and
IP add is reckoned (`link_cost`). Telemetry, a few events and the connection itself are in it; a backlog told anew
after an outage costs nothing more, because it is what would have been sent. Commands, sessions and what the
head-end asks for again are not.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

import msgspec

from openami.gateway.config import ScheduleSettings
from openami.gateway.driver import PollGroup, RegisterInfo
from openami.gateway.event_types import EventType
from openami.gateway.events import event_envelope, serial_reading
from openami.gateway.normalise import Source, TimedReading, envelopes
from openami.gateway.on_change import ACCOUNTED_BY, GroupReport, OnChange
from openami.gateway.plausible_values import plausible_value
from openami.link_cost import (
    DAY_S,
    Assumptions,
    cost,
    exchange_link_bytes,
    idle_bytes,
    packet_size,
)
from openami.profile import (
    Envelope,
    EventState,
    EventTopic,
    MeterSerial,
    Obis,
    Quality,
    RegisterCatalogue,
    RegisterReading,
    TelemetryTopic,
    Value,
)

# A meter's disturbances on an unquiet feeder, beginnings and ends together.
EVENTS_PER_METER_DAY: Final = 1.0
# Slower intervals that are looked at, of each group; the configuration decides which of them it can have.
_SLOWER_S: Final = (
    *(2, 3, 5, 10, 15, 20, 30, 60, 90, 120, 180, 300, 450, 600, 900),
    *(1800, 3600, 7200, 10800, 14400, 21600, 43200),
)
# A person chooses among neighbours, not among all.
SLOWER_TOLD_MAX: Final = 3
# The length of a number that a gateway reaches within weeks, unless it is told.
_SEQ: Final = 1_000_000
# As long as any other: to the millisecond.
_TS: Final = datetime(2026, 6, 30, 12, 34, 56, 789_000, tzinfo=UTC)
_PROPERTIES_BYTES: Final[Mapping[str, int]] = {"5": 1, "3.1.1": 0}
# In the place of a topic: the alias's identifier and its two bytes.
_ALIAS_BYTES: Final = 3


@dataclass(frozen=True, slots=True)
class MeterPlan:
    """A meter and what it is asked for; ``known`` are the values it told when it was last read."""

    serial: MeterSerial
    infos: Sequence[RegisterInfo]
    known: Mapping[Obis, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a month is reckoned from."""

    source: Source
    catalogue: RegisterCatalogue
    schedule: ScheduleSettings
    meters: Sequence[MeterPlan]
    protocol: str
    keep_alive_s: int
    reports: Mapping[PollGroup, GroupReport] = field(default_factory=dict)
    """The groups that are told on change …"""
    changed_share: float = 1.0
    """… and the share of their polls, between heartbeats, at which something has changed."""
    events_per_meter_day: float = EVENTS_PER_METER_DAY
    price_per_mb: Decimal | None = None
    topic_aliases: int = 0
    """For how many meters the broker takes an alias in the place of their topic; 0 in MQTT 3.1.1."""
    assumed: Assumptions = field(default_factory=Assumptions)


class Share(msgspec.Struct, frozen=True, rename="camel"):
    """A poll group's part of a month, or the events'; ``bytes`` are all that the link carries for it."""

    name: str
    interval_s: int | None
    messages: int
    payload_bytes: int
    bytes: int
    cost: str | None


class Slower(msgspec.Struct, frozen=True, rename="camel"):
    """What a slower interval of one group would make of the month."""

    group: PollGroup
    interval_s: int
    total_bytes: int
    saved_bytes: int
    saved_cost: str | None


class Budget(msgspec.Struct, frozen=True, rename="camel"):
    """A month. ``idle_bytes`` is what the connection costs by itself: handshakes and pings."""

    meters: int
    meters_read: int
    """Of how many the values are those they told; of the others they are such as a household's."""
    shares: tuple[Share, ...]
    idle_bytes: int
    idle_cost: str | None
    total_bytes: int
    total_cost: str | None
    slower: tuple[Slower, ...]
    assumptions: Assumptions


def budget(plan: Plan) -> Budget:
    """Return a month of this plan, and what slower intervals would save of it."""
    shares = tuple(_shares(plan))
    idle = _idle(plan)
    total = sum(share.bytes for share in shares) + idle
    return Budget(
        meters=len(plan.meters),
        meters_read=sum(bool(meter.known) for meter in plan.meters),
        shares=shares,
        idle_bytes=idle,
        idle_cost=cost(idle, plan.price_per_mb, plan.assumed),
        total_bytes=total,
        total_cost=cost(total, plan.price_per_mb, plan.assumed),
        slower=tuple(_slower(plan, total)),
        assumptions=plan.assumed,
    )


def month_bytes(plan: Plan) -> int:
    """Return all that the link carries in a month of this plan."""
    return sum(share.bytes for share in _shares(plan)) + _idle(plan)


def _shares(plan: Plan) -> Iterator[Share]:
    on_change = OnChange(plan.reports)
    for group in PollGroup:
        whole, unchanged = _polls(group, plan)
        sent: list[_Sent] = []
        for at, meter in enumerate(plan.meters):
            aliased = at < plan.topic_aliases
            sent += _times(whole, _polled(meter, group, plan, aliased=aliased))
            quiet = _polled(meter, group, plan, aliased=aliased, withheld=on_change)
            sent += _times(unchanged, quiet)
        yield _share(group.value, plan.schedule.schedule.interval_s(group), sent, plan)
    events = round(plan.assumed.month_days * plan.events_per_meter_day)
    yield _share("events", None, _times(events, (_event(m, plan) for m in plan.meters)), plan)


def _polls(group: PollGroup, plan: Plan) -> tuple[int, int]:
    """Return how many polls a month tell everything, and how many find nothing changed."""
    month_s = plan.assumed.month_days * DAY_S
    polls = month_s // plan.schedule.schedule.interval_s(group)
    if group not in plan.reports:
        return polls, 0
    beats = month_s // plan.reports[group].heartbeat_s
    whole = beats + round((polls - beats) * plan.changed_share)
    return whole, polls - whole


_Sent = tuple[int, str, bytes]
"""How often a month, on which topic, what; no topic where an alias stands for it."""


def _times(count: int, messages: Iterable[tuple[str, bytes]]) -> list[_Sent]:
    return [(count, topic, payload) for topic, payload in messages] if count else []


def _share(name: str, interval_s: int | None, sent: Sequence[_Sent], plan: Plan) -> Share:
    total = sum(count * _on_the_link(topic, payload, plan) for count, topic, payload in sent)
    return Share(
        name=name,
        interval_s=interval_s,
        messages=sum(count for count, _, _ in sent),
        payload_bytes=sum(count * len(payload) for count, _, payload in sent),
        bytes=total,
        cost=cost(total, plan.price_per_mb, plan.assumed),
    )


def _on_the_link(topic: str, payload: bytes, plan: Plan) -> int:
    properties = _PROPERTIES_BYTES[plan.protocol] + (0 if topic else _ALIAS_BYTES)
    packet = packet_size(len(topic.encode()), len(payload), property_bytes=properties)
    puback = plan.assumed.puback_bytes
    return packet + puback + exchange_link_bytes(packet, plan.assumed)


def _polled(
    meter: MeterPlan,
    group: PollGroup,
    plan: Plan,
    *,
    aliased: bool,
    withheld: OnChange | None = None,
) -> Iterator[tuple[str, bytes]]:
    """Yield what one poll of a group sends: a meter that was read has the registers it answered with.

    ``withheld``: a poll at which nothing has changed.
    """
    accounted = ACCOUNTED_BY in (meter.known or {info.obis for info in meter.infos})
    infos = [
        info
        for info in meter.infos
        if info.group is group
        and (not meter.known or info.obis in meter.known)
        and not (withheld and withheld.covers(info, plan.catalogue, accounted=accounted))
    ]
    readings = [TimedReading(_TS, _reading(info, meter, plan)) for info in infos]
    topic = TelemetryTopic(plan.source.feeder_id, plan.source.gateway_id, meter.serial)
    for envelope, _ in envelopes(readings, source=plan.source, serial=meter.serial):
        yield "" if aliased else str(topic), _encoded(envelope)


def _reading(info: RegisterInfo, meter: MeterPlan, plan: Plan) -> RegisterReading:
    entry = plan.catalogue.get(info.obis)
    value = meter.known.get(info.obis)
    if value is None:
        value = plausible_value(info, entry)
    return RegisterReading(info.obis, value, info.unit, Quality.GOOD)


def _event(meter: MeterPlan, plan: Plan) -> tuple[str, bytes]:
    told = event_envelope(
        EventType.COMMS_LOST,
        EventState.RAISED,
        source=plan.source,
        serial=meter.serial,
        occurred_at=_TS,
        registers=(serial_reading(str(meter.serial), Quality.COMMS_LOST),),
        ts=_TS,
        detail=f"{meter.serial} did not answer within 1 s",
    )
    topic = EventTopic(plan.source.feeder_id, plan.source.gateway_id, meter.serial)
    return str(topic), _encoded(told)


def _encoded(envelope: Envelope) -> bytes:
    return msgspec.structs.replace(envelope, seq=_SEQ).encode()


def _idle(plan: Plan) -> int:
    """A poll's messages go together, so each poll spares one ping; the busiest group has the others within it."""
    asked = {info.group for meter in plan.meters for info in meter.infos}
    sendings = max((_polls(group, plan)[0] for group in asked), default=0)
    return idle_bytes(sendings, plan.keep_alive_s, plan.assumed)


def _slower(plan: Plan, total: int) -> Iterator[Slower]:
    """Yield, for each group whose interval can be chosen, the next slower ones the configuration may have."""
    for group, key in ((PollGroup.FAST, "fast_s"), (PollGroup.BILLING, "billing_s")):
        told = 0
        for interval_s in _SLOWER_S:
            if interval_s <= getattr(plan.schedule, key) or told == SLOWER_TOLD_MAX:
                continue
            try:
                schedule = msgspec.convert(
                    {**msgspec.structs.asdict(plan.schedule), key: interval_s}, ScheduleSettings
                )
            except msgspec.ValidationError:
                continue  # it divides no day, or the two would not be read at one moment
            report = plan.reports.get(group)
            if report is not None and report.heartbeat_s % interval_s:
                continue
            told += 1
            other = replace(plan, schedule=schedule)
            other_total = month_bytes(other)
            saved = total - other_total
            yield Slower(
                group=group,
                interval_s=interval_s,
                total_bytes=other_total,
                saved_bytes=saved,
                saved_cost=cost(saved, plan.price_per_mb, plan.assumed),
            )
