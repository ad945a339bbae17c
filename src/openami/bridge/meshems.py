"""One message of the reference firmware, what is known of its pole, and the time → what is published (pure).

    translate   a message arrived
    silences    time passed, and nothing did

Both return the pole as it is known from now on, envelopes the profile's receivers take, and findings: every
value that is not passed on as it came, and why. Nothing here, and nothing anywhere in this package, makes
a message for the firmware.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, assert_never

from openami.bridge import firmware, pole_clock
from openami.bridge.events import (
    EventType,
    Outgoing,
    Source,
    event,
    telemetry,
    to_the_millisecond,
)
from openami.bridge.findings import Effect, Finding, Reason, finding
from openami.bridge.firmware import Kind, Members, PoleTopic
from openami.bridge.pole_clock import PoleClock
from openami.bridge.registers import (
    Counters,
    Registers,
    cabinet_registers,
    leakage_registers,
    registers_of,
    unusable,
)
from openami.bridge.stream import (
    Hearing,
    Patience,
    Stream,
    heard,
    is_not_polled,
    is_silent,
    is_too_soon,
    last_known,
    vouched,
)
from openami.profile import (
    EventState,
    FeederId,
    GatewayId,
    MeterSerial,
    Obis,
    Quality,
    RegisterReading,
)

# A day, with the hour of a meter: the sensor's tenths of a degree have moved by then, night and noon.
CABINET_SLOWNESS: Final = 24

_FIRMWARE_ID: Final = Obis.parse("0.2.0")


@dataclass(frozen=True, slots=True)
class Message:
    """What the firmware's broker delivered, and when."""

    topic: str
    payload: bytes
    arrived_at: datetime
    retain: bool = False


@dataclass(frozen=True, slots=True)
class PoleMap:
    """What a person says of one pole: whose feeder, which gateway it is called, which meter has which serial."""

    topic: str
    """The pole's name on the firmware's broker, e.g. ``StreetPoleEMS_37EAB0``."""
    feeder_id: FeederId
    gateway_id: GatewayId
    meters: Mapping[str, MeterSerial]
    """The firmware's names, ``meter_0`` to ``meter_5``, and the serials on the meters."""
    panel: MeterSerial | None
    """What the pole's own panel is called; without it, panel, cabinet and nameplate are not published."""
    patience: Patience

    def source(self, serial: MeterSerial) -> Source:
        """Return the three ids of one of its meters."""
        return Source(self.feeder_id, self.gateway_id, serial)


@dataclass(frozen=True, slots=True)
class Pole:
    """What is known of a pole between two messages."""

    clock: PoleClock = field(default_factory=PoleClock)
    streams: Mapping[str, Stream] = field(default_factory=dict)
    """By subtopic; no more than the map has meters, and the panel's few."""


@dataclass(frozen=True, slots=True)
class Translation:
    """What a message, or a silence, comes to."""

    pole: Pole
    outgoing: tuple[Outgoing, ...] = ()
    findings: tuple[Finding, ...] = ()


def translate(
    message: Message, topic: PoleTopic, pole: Pole, known: PoleMap, *, clock_trusted: bool
) -> Translation:
    """Return what a message of this pole comes to.

    ``clock_trusted``: whether the time of arrival is right. Where it is not, nothing is vouched for.
    """
    if topic.kind is Kind.COMMAND:
        return _left_out(pole, Reason.COMMAND_SEEN, "somebody commands this pole, without a key")
    if message.retain:
        return _left_out(pole, Reason.RETAINED, "retained by somebody: how old it is, nobody knows")
    if topic.kind is Kind.DOOR:
        return _door(message, pole, known)
    if topic.kind is Kind.WITHOUT_REGISTERS:
        return _left_out(pole, Reason.NO_REGISTERS, f"{topic.name} holds no register")
    members = firmware.read_members(message.payload)
    if isinstance(members, Finding):
        return Translation(pole, findings=(members,))
    if topic.kind in _ROUND_STAMPED:
        pole = _with_round(pole, members, message.arrived_at)
    serial = known.meters.get(topic.name) if topic.kind is Kind.METER else known.panel
    if serial is None:
        return _without_serial(pole, topic)
    arrival = _Arrival(
        at=message.arrived_at,
        topic=topic,
        members=members,
        uptime_ms=firmware.uptime_of(members),
        source=known.source(serial),
        stream=pole.streams.get(topic.name, Stream()),
        clock=pole.clock,
        patience=_patience(topic.kind, known.patience),
        clock_trusted=clock_trusted,
    )
    verdict = _nameplate(arrival) if topic.kind is Kind.NAMEPLATE else _measured(arrival)
    return Translation(
        _with_stream(pole, topic.name, verdict.stream), verdict.outgoing, verdict.findings
    )


# Stamped as they are sent; a meter's and the panel's are stamped as their values were copied.
_ROUND_STAMPED: Final = frozenset({Kind.CABINET, Kind.NAMEPLATE})
_MODELS: Final[Mapping[Kind, int]] = {
    Kind.METER: firmware.METER_MODEL,
    Kind.PANEL: firmware.PANEL_MODEL,
}


def _left_out(pole: Pole, reason: Reason, detail: str) -> Translation:
    return Translation(pole, findings=(finding(reason, detail),))


def _with_round(pole: Pole, members: Members, at: datetime) -> Pole:
    uptime_ms = firmware.uptime_of(members)
    if uptime_ms is None:
        return pole
    return replace(pole, clock=pole_clock.with_round(pole.clock, uptime_ms, at))


def _without_serial(pole: Pole, topic: PoleTopic) -> Translation:
    if topic.kind is Kind.METER:
        return _left_out(pole, Reason.UNKNOWN_METER, f"{topic.name} has no serial in the map")
    return _left_out(pole, Reason.NO_PANEL, "the map gives this pole's panel no serial")


def _door(message: Message, pole: Pole, known: PoleMap) -> Translation:
    """The cabinet's door, in two words. It is told when it changes."""
    states = {b"open": EventState.RAISED, b"closed": EventState.CLEARED}
    state = states.get(message.payload)
    if state is None:
        return _left_out(pole, Reason.NOT_JSON, "the door is neither open nor closed")
    if known.panel is None:
        return _left_out(pole, Reason.NO_PANEL, "the map gives this pole's panel no serial")
    stream = pole.streams.get("door", Stream())
    if stream.content == state:
        return _left_out(pole, Reason.DUPLICATE, "the door is as it was")
    if is_too_soon(stream, message.arrived_at):
        return _left_out(pole, Reason.TOO_OFTEN, "the door moves faster than a hand")
    told = event(
        EventType.CABINET_OPEN,
        state,
        known.source(known.panel),
        occurred_at=to_the_millisecond(message.arrived_at),
        detail=f"the firmware says the cabinet is {message.payload.decode()}",
    )
    after = replace(stream, content=state, carried_at=message.arrived_at)
    return Translation(_with_stream(pole, "door", after), (told,))


def _with_stream(pole: Pole, name: str, stream: Stream) -> Pole:
    return replace(pole, streams={**pole.streams, name: stream})


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A message with registers, and what is known of whom it is about."""

    at: datetime
    topic: PoleTopic
    members: Members
    uptime_ms: int | None
    source: Source
    stream: Stream
    clock: PoleClock
    patience: Patience
    clock_trusted: bool

    @property
    def has_events(self) -> bool:
        """Whether it is about a meter or a panel, whose silence a person has to know of."""
        return self.topic.kind in _MODELS


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What an arrival comes to: the stream from now on, what is published, and why no more."""

    stream: Stream
    outgoing: tuple[Outgoing, ...] = ()
    findings: tuple[Finding, ...] = ()


def _measured(arrival: _Arrival) -> _Verdict:
    """Return what a measurement comes to: one envelope, or why there is none."""
    stream, uptime_ms = arrival.stream, arrival.uptime_ms
    content, findings = _content(arrival.topic, arrival.members)
    if isinstance(content, Finding):
        return _Verdict(stream, findings=(*findings, content))
    same_poll = is_not_polled(stream, content, uptime_ms)
    if is_too_soon(stream, arrival.at):
        reason = Reason.DUPLICATE if same_poll else Reason.TOO_OFTEN
        told = finding(reason, "sooner than a pole can measure again")
        return _Verdict(stream, findings=(*findings, told))
    after = heard(stream, content, uptime_ms, arrival.at, arrival.patience)
    registers = _registers(content, after.counters)
    findings = (*findings, *registers.findings)
    if after.hearing is Hearing.LOST:
        return _lost(arrival, after, findings)
    ts, doubt = _time(arrival, same_poll=same_poll)
    if after.hearing is Hearing.DOUBTED:
        reason = Reason.NOT_POLLED if same_poll else Reason.UNCHANGED
        doubt = finding(reason, "every value is what it was", effect=Effect.SUSPECT)
    if doubt is None:
        return _told(arrival, after, registers, ts, findings)
    doubted = replace(registers, readings=tuple(map(_as_suspect, registers.readings)))
    return _told(arrival, after, doubted, ts, (*findings, doubt))


def _nameplate(arrival: _Arrival) -> _Verdict:
    """Return the firmware's version, once a day."""
    version, today = firmware.version_of(arrival.members), arrival.at.date()
    if version is None or arrival.stream.named_on == today:
        return _Verdict(arrival.stream)
    quality = Quality.GOOD if arrival.clock_trusted else Quality.SUSPECT
    reading = RegisterReading(obis=_FIRMWARE_ID, value=version, unit="", quality=quality)
    stream = replace(arrival.stream, named_on=today)
    return _Verdict(stream, (telemetry(arrival.source, arrival.at, (reading,)),))


# --- what it says --------------------------------------------------------------------------------

_Content = firmware.Measurement | firmware.Cabinet | firmware.Leakage


def _content(topic: PoleTopic, members: Members) -> tuple[_Content | Finding, tuple[Finding, ...]]:
    """Return what is measured, or why there is nothing; and what of it could not be read."""
    kind = topic.kind
    expected = _MODELS.get(kind)
    if expected is not None and firmware.model_of(members) != expected:
        return finding(Reason.WRONG_MODEL, f"{topic.name} is not of model {expected}"), ()
    findings = tuple(firmware.not_numbers(members, firmware.measured_members(kind)))
    match kind:
        case Kind.METER:
            measurement = firmware.meter_measurement(members)
            return unusable(measurement) or measurement, findings
        case Kind.PANEL:
            measurement = firmware.panel_measurement(members)
            return unusable(measurement) or measurement, findings
        case Kind.CABINET:
            return firmware.cabinet_of(members), findings
        case _:
            leakage = firmware.leakage_of(members)
            if leakage.is_zero:
                none = "every leakage current is zero, as without a sensor"
                return finding(Reason.NO_REGISTERS, none), findings
            return leakage, findings


def _registers(content: _Content, counters: Counters) -> Registers:
    match content:
        case firmware.Measurement():
            return registers_of(content, counters)
        case firmware.Cabinet():
            return cabinet_registers(content)
        case firmware.Leakage():
            return leakage_registers(content)
        case _:
            assert_never(content)


# --- its time ------------------------------------------------------------------------------------


def _time(arrival: _Arrival, *, same_poll: bool) -> tuple[datetime, Finding | None]:
    """Return when it was measured, and why that is in doubt."""
    before, uptime_ms = arrival.stream, arrival.uptime_ms
    if same_poll and before.ts is not None:
        return before.ts, None  # told again: the same reading, under the same time
    moment = None
    if uptime_ms is not None and uptime_ms != before.uptime_ms:
        moment = pole_clock.measured_at(arrival.clock, uptime_ms, arrival.at)
    if not arrival.clock_trusted:
        doubt = finding(Reason.CLOCK_UNTRUSTED, "this machine's clock follows no time source")
        return moment or arrival.at, doubt
    if moment is None:
        unknown = "when it was measured is not known: stamped as it arrived"
        return arrival.at, finding(Reason.AGE_UNKNOWN, unknown)
    return moment, None


# --- what is published ---------------------------------------------------------------------------


def _told(
    arrival: _Arrival,
    after: Stream,
    registers: Registers,
    ts: datetime,
    findings: tuple[Finding, ...],
) -> _Verdict:
    """Return the registers as an envelope, and the events that go with them."""
    ts, readings = to_the_millisecond(ts), registers.readings
    after = replace(vouched(after, ts, readings), ts=ts, counters=registers.counters)
    outgoing = [telemetry(arrival.source, ts, readings)] if readings else []
    if arrival.has_events and arrival.stream.hearing is Hearing.LOST:
        outgoing.append(
            event(
                EventType.COMMS_RESTORED,
                EventState.CLEARED,
                arrival.source,
                occurred_at=ts,
                detail="it is heard again",
            )
        )
    if registers.went_back:
        about = [each for each in findings if each.reason is Reason.COUNTER_WENT_BACK]
        outgoing.append(
            event(
                EventType.REGISTER_ROLLBACK,
                EventState.RAISED,
                arrival.source,
                occurred_at=ts,
                registers=registers.went_back,
                detail="; ".join(each.detail for each in about),
            )
        )
    return _Verdict(after, tuple(outgoing), findings)


def _lost(arrival: _Arrival, after: Stream, findings: tuple[Finding, ...]) -> _Verdict:
    """Say once that the values are old; what is told after that is nothing new."""
    is_said = arrival.stream.hearing is Hearing.LOST
    about = finding(
        Reason.UNCHANGED,
        "every value is what it was",
        effect=Effect.LEFT_OUT if is_said else Effect.LOST,
    )
    if is_said:
        return _Verdict(after, findings=(*findings, about))
    outgoing = _losses(
        after,
        arrival.source,
        at=arrival.at,
        detail="its values have not changed: the firmware repeats what it last read",
        with_event=arrival.has_events,
    )
    return _Verdict(after, tuple(outgoing), (*findings, about))


def _patience(kind: Kind, patience: Patience) -> Patience:
    """Return how long values may stay the same: air in a closed cabinet does, for much longer than a voltage."""
    if kind is not Kind.CABINET:
        return patience
    return replace(
        patience, doubt_after=patience.lost_after, lost_after=CABINET_SLOWNESS * patience.lost_after
    )


def _as_suspect(reading: RegisterReading) -> RegisterReading:
    return RegisterReading(
        obis=reading.obis, value=reading.value, unit=reading.unit, quality=Quality.SUSPECT
    )


def _losses(
    stream: Stream, source: Source, *, at: datetime, detail: str, with_event: bool
) -> Iterator[Outgoing]:
    """Yield the last known values with their own times, and the event that says so."""
    for ts, readings in last_known(stream):
        yield telemetry(source, ts, readings)
    if with_event:
        yield event(
            EventType.COMMS_LOST,
            EventState.RAISED,
            source,
            occurred_at=to_the_millisecond(at),
            detail=detail,
        )


def silences(pole: Pole, known: PoleMap, now: datetime) -> Translation:
    """Return what is to be said of the meters that were heard, and have been silent for too long."""
    outgoing: list[Outgoing] = []
    findings: list[Finding] = []
    for name, stream in pole.streams.items():
        topic = firmware.parse_topic(f"{firmware.ROOT}/{known.topic}/{name}")
        serial = known.meters.get(name, known.panel)
        if topic is None or serial is None or topic.kind not in _SILENT_WHEN_MISSING:
            continue
        if is_silent(stream, now, known.patience):
            pole = _with_stream(pole, name, replace(stream, hearing=Hearing.LOST))
            outgoing += _losses(
                stream,
                known.source(serial),
                at=now,
                detail="nothing has come from it",
                with_event=topic.kind in _MODELS,
            )
            findings.append(finding(Reason.NOT_POLLED, f"{name} is silent", effect=Effect.LOST))
    return Translation(pole, tuple(outgoing), tuple(findings))


_SILENT_WHEN_MISSING: Final = frozenset({Kind.METER, Kind.PANEL, Kind.CABINET})
