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
from typing import Final

from openami.bridge import firmware, pole_clock
from openami.bridge.events import (
    EventType,
    Outgoing,
    Source,
    event,
    serial_reading,
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
    arrived = _Arrived(message, topic, members, pole, known, serial, clock_trusted=clock_trusted)
    return arrived.nameplate() if topic.kind is Kind.NAMEPLATE else arrived.translation()


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


class _Arrived:
    """One message with registers, on its way to an envelope."""

    def __init__(
        self,
        message: Message,
        topic: PoleTopic,
        members: Members,
        pole: Pole,
        known: PoleMap,
        serial: MeterSerial,
        *,
        clock_trusted: bool,
    ) -> None:
        self._at = message.arrived_at
        self._topic = topic
        self._members = members
        self._pole = pole
        self._known = known
        self._source = known.source(serial)
        self._clock_trusted = clock_trusted
        self._stream = pole.streams.get(topic.name, Stream())
        self._findings: list[Finding] = []
        self._uptime_ms = firmware.uptime_of(members)

    def translation(self) -> Translation:
        """Return what the message comes to: one envelope, or why there is none."""
        content = self._content()
        if isinstance(content, Finding):
            return self._end(self._stream, content)
        if is_too_soon(self._stream, self._at):
            again = is_not_polled(self._stream, content, self._uptime_ms)
            reason = Reason.DUPLICATE if again else Reason.TOO_OFTEN
            return self._end(self._stream, finding(reason, "sooner than a pole can measure again"))
        before, same_poll = self._stream, is_not_polled(self._stream, content, self._uptime_ms)
        after = heard(
            before,
            content,
            self._uptime_ms,
            self._at,
            _patience(self._topic.kind, self._known.patience),
        )
        registers = self._registers(content, after.counters)
        self._findings += registers.findings
        if after.hearing is Hearing.LOST:
            return self._lost(before, after)
        ts, doubt = self._time(before, same_poll=same_poll)
        if after.hearing is Hearing.DOUBTED:
            doubt = finding(
                Reason.NOT_POLLED if same_poll else Reason.UNCHANGED,
                "every value is what it was",
                effect=Effect.SUSPECT,
            )
        if doubt is not None:
            self._findings.append(doubt)
        return self._told(before, after, registers, ts, vouched_for=doubt is None)

    def nameplate(self) -> Translation:
        """Return the firmware's version and the panel's name, once a day."""
        version = firmware.version_of(self._members)
        if version is None or self._stream.named_on == self._at.date():
            return self._end(self._stream)
        readings = (
            RegisterReading(
                obis=_FIRMWARE_ID,
                value=version,
                unit="",
                quality=Quality.GOOD if self._clock_trusted else Quality.SUSPECT,
            ),
            serial_reading(self._source.serial),
        )
        stream = replace(self._stream, named_on=self._at.date())
        return self._end(stream, outgoing=[telemetry(self._source, self._at, readings)])

    # --- what it says ----------------------------------------------------------------------------

    def _content(self) -> object:
        """Return what is measured, or why there is nothing."""
        kind, members = self._topic.kind, self._members
        expected = _MODELS.get(kind)
        if expected is not None and firmware.model_of(members) != expected:
            return finding(Reason.WRONG_MODEL, f"{self._topic.name} is not of model {expected}")
        self._findings += firmware.not_numbers(members, firmware.measured_members(kind))
        match kind:
            case Kind.METER | Kind.PANEL:
                single = kind is Kind.METER
                measurement = (
                    firmware.meter_measurement(members)
                    if single
                    else firmware.panel_measurement(members)
                )
                return unusable(measurement) or measurement
            case Kind.CABINET:
                return firmware.cabinet_of(members)
            case _:
                leakage = firmware.leakage_of(members)
                return tuple(leakage.items()) or finding(
                    Reason.NO_REGISTERS, "every leakage current is zero, as without a sensor"
                )

    def _registers(self, content: object, counters: Counters) -> Registers:
        match content:
            case firmware.Measurement():
                return registers_of(content, counters)
            case firmware.Cabinet():
                return cabinet_registers(content)
            case _:
                return leakage_registers(firmware.leakage_of(self._members))

    # --- its time --------------------------------------------------------------------------------

    def _time(self, before: Stream, *, same_poll: bool) -> tuple[datetime, Finding | None]:
        """Return when it was measured, and why that is in doubt."""
        if same_poll and before.ts is not None:
            return before.ts, None  # told again: the same reading, under the same time
        moment = None
        if self._uptime_ms is not None and self._uptime_ms != before.uptime_ms:
            moment = pole_clock.measured_at(self._pole.clock, self._uptime_ms, self._at)
        if not self._clock_trusted:
            return moment or self._at, finding(
                Reason.CLOCK_UNTRUSTED, "this machine's clock follows no time source"
            )
        if moment is None:
            return self._at, finding(
                Reason.AGE_UNKNOWN, "when it was measured is not known: stamped as it arrived"
            )
        return moment, None

    # --- what is published -----------------------------------------------------------------------

    def _told(
        self,
        before: Stream,
        after: Stream,
        registers: Registers,
        ts: datetime,
        *,
        vouched_for: bool,
    ) -> Translation:
        ts = to_the_millisecond(ts)
        readings = registers.readings
        if not vouched_for:
            readings = tuple(map(_as_suspect, readings))
        after = replace(vouched(after, ts, readings), ts=ts, counters=registers.counters)
        outgoing: list[Outgoing] = []
        if readings and after.named_on != self._at.date() and self._topic.kind in _MODELS:
            readings = (*readings, serial_reading(self._source.serial))
            after = replace(after, named_on=self._at.date())
        if readings:
            outgoing.append(telemetry(self._source, ts, readings))
        if before.hearing is Hearing.LOST and self._has_events():
            outgoing.append(
                event(
                    EventType.COMMS_RESTORED,
                    EventState.CLEARED,
                    self._source,
                    occurred_at=ts,
                    detail="its values change again",
                )
            )
        if registers.went_back:
            outgoing.append(
                event(
                    EventType.REGISTER_ROLLBACK,
                    EventState.RAISED,
                    self._source,
                    occurred_at=ts,
                    registers=tuple(map(_as_suspect, registers.went_back)),
                    detail="; ".join(
                        each.detail
                        for each in registers.findings
                        if each.reason is Reason.COUNTER_WENT_BACK
                    ),
                )
            )
        return self._end(after, outgoing=outgoing)

    def _lost(self, before: Stream, after: Stream) -> Translation:
        """Say once that the values are old; what is told after that is nothing new."""
        about = finding(Reason.UNCHANGED, "every value is what it was", effect=Effect.LOST)
        if before.hearing is Hearing.LOST:
            return self._end(after, replace(about, effect=Effect.LEFT_OUT))
        outgoing = _losses(
            after,
            self._source,
            at=self._at,
            detail="its values have not changed: the firmware repeats what it last read",
            with_event=self._has_events(),
        )
        return self._end(after, about, outgoing=list(outgoing))

    def _has_events(self) -> bool:
        return self._topic.kind in _MODELS

    def _end(
        self, stream: Stream, *findings: Finding, outgoing: list[Outgoing] | None = None
    ) -> Translation:
        return Translation(
            _with_stream(self._pole, self._topic.name, stream),
            tuple(outgoing or ()),
            (*self._findings, *findings),
        )


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
