"""A profile of traffic: what each meter sent, in numbers. The sheets are made from it.

It is fed with everything that is seen and stays small whatever passes: numbers and not messages, of so many
meters, registers and hours. What does not fit is counted.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median_low
from typing import Final

from openami.conformance.observation import Connected, Observation, Published
from openami.profile import (
    Envelope,
    EventTopic,
    ProfileError,
    Quality,
    TelemetryTopic,
    audit_envelope,
    decode_envelope,
    parse_topic,
)

# A feeder supplies 50 to 500 customers; a larger village is judged feeder by feeder.
METERS_MAX: Final = 500
# A feeder has a gateway for each pole at most, of some ten meters.
GATEWAYS_MAX: Final = 50
# The register list has 67 entries; twice that is a vendor with as many of its own.
REGISTERS_PER_METER_MAX: Final = 128
# The right one, and enough wrong ones to show; a sender can invent one for each message.
UNITS_PER_REGISTER_MAX: Final = 4
# A week: what is older is no longer looked for when a gateway is judged.
HOURS_KEPT_MAX: Final = 7 * 24
# Commonest, a few that jitter makes beside it, and backfill; the rarest one makes room.
SPACINGS_KEPT_MAX: Final = 32
# Fewer than three spacings are a start and a restart, not a habit.
SPACINGS_MIN: Final = 3
# Each is a loss of its own; who has more has another trouble than the list of them.
SEQ_GAPS_KEPT_MAX: Final = 100
# A client that reconnects each second is told by its last connections.
CONNECTIONS_KEPT_MAX: Final = 64
# The longest unit of the list has 8; a longer one is shown by its beginning.
UNIT_CHARS_MAX: Final = 24

_AHEAD = timedelta(hours=1)


@dataclass(slots=True)
class Flow:
    """Messages of one kind, and the bytes they cost. ``packets`` and ``packet_bytes`` count those of which the
    MQTT packet itself was seen."""

    messages: int = 0
    payload_bytes: int = 0
    topic_bytes: int = 0
    packets: int = 0
    packet_bytes: int = 0

    def add(self, published: Published) -> None:
        """Count one more message."""
        self.messages += 1
        self.payload_bytes += len(published.payload)
        self.topic_bytes += len(published.topic.encode())
        if published.wire_bytes:
            self.packets += 1
            self.packet_bytes += published.wire_bytes


@dataclass(slots=True)
class RegisterTraffic:
    """How often a register came, in which units, and how far it was to be trusted."""

    readings: int = 0
    suspect: int = 0
    comms_lost: int = 0
    units: list[str] = field(default_factory=list)


@dataclass(slots=True)
class MeterTraffic:
    """What was seen of one meter. Hours are counted from 1970, by measured time."""

    gateway: str
    meter: str
    telemetry: Flow = field(default_factory=Flow)
    events: Flow = field(default_factory=Flow)
    unreadable: int = 0
    registers: dict[str, RegisterTraffic] = field(default_factory=dict)
    registers_left_out: int = 0
    minutes: dict[int, int] = field(default_factory=dict)
    """Of each hour the minutes in which something was measured, as bits."""
    lost_hours: set[int] = field(default_factory=set)
    """Hours, by the kit's clock, in which it was said that the meter does not answer."""
    spacings: Counter[int] = field(default_factory=Counter)
    """Seconds between one measured time and the next."""
    timed: int = 0
    """Messages that came with something measured."""
    moments: int = 0
    """Measured times of them: a meter's registers may come in several messages."""
    first_ts: datetime | None = None
    last_ts: datetime | None = None
    outside: int = 0
    """Readings measured too long ago, or in the future, by the kit's clock."""


@dataclass(slots=True)
class SeqGap:
    """Numbers of a gateway's envelopes that were not seen, and between which measured times."""

    first: int
    last: int
    after: datetime
    before: datetime


@dataclass(slots=True)
class GatewayTraffic:
    """What was seen of one gateway."""

    name: str
    keep_alive_s: int | None = None
    last_seq: int | None = None
    last_seq_ts: datetime | None = None
    last_ts: datetime | None = None
    gaps: list[SeqGap] = field(default_factory=list)
    gaps_left_out: int = 0


class Traffic:
    """The profile; ``see`` everything, then read it."""

    def __init__(self) -> None:
        self.began_at: datetime | None = None
        self.ended_at: datetime | None = None
        self.meters: dict[tuple[str, str], MeterTraffic] = {}
        self.gateways: dict[str, GatewayTraffic] = {}
        self.left_out = 0
        """Messages of meters and gateways that did not fit."""
        self.elsewhere = 0
        """Messages on a topic that is neither telemetry nor event of a meter."""
        self._connections: dict[int, Connected] = {}

    def see(self, observation: Observation) -> None:
        """Take one more thing that was seen into the profile."""
        if self.began_at is None:
            self.began_at = observation.at
        self.ended_at = observation.at
        match observation:
            case Connected():
                if len(self._connections) >= CONNECTIONS_KEPT_MAX:
                    del self._connections[next(iter(self._connections))]
                self._connections[observation.connection] = observation
            case Published():
                self._published(observation)

    def _published(self, published: Published) -> None:
        if published.stored:
            return  # the broker had it from before: it says nothing of what is sent now
        try:
            topic = parse_topic(published.topic)
        except ProfileError:
            topic = None
        if not isinstance(topic, TelemetryTopic | EventTopic):
            self.elsewhere += 1
            return
        name = f"{topic.feeder_id}/{topic.gateway_id}"
        gateway = self._gateway(name)
        meter = self._meter(name, topic.meter_serial)
        if gateway is None or meter is None:
            self.left_out += 1
            return
        self._connection(gateway, published)
        is_telemetry = isinstance(topic, TelemetryTopic)
        if not published.dup:
            # The kit itself brings repetitions about, so they would not be a month's.
            (meter.telemetry if is_telemetry else meter.events).add(published)
        envelope = _envelope(published.payload)
        if envelope is None:
            meter.unreadable += 1
            return
        _count_registers(meter, envelope)
        if is_telemetry and not published.dup:
            _count_time(meter, envelope, published.at)
        _count_seq(gateway, envelope)

    def _gateway(self, name: str) -> GatewayTraffic | None:
        found = self.gateways.get(name)
        if found is None and len(self.gateways) < GATEWAYS_MAX:
            found = self.gateways[name] = GatewayTraffic(name)
        return found

    def _meter(self, gateway: str, serial: str) -> MeterTraffic | None:
        found = self.meters.get((gateway, serial))
        if found is None and len(self.meters) < METERS_MAX:
            found = self.meters[gateway, serial] = MeterTraffic(gateway, serial)
        return found

    def _connection(self, gateway: GatewayTraffic, published: Published) -> None:
        if published.connection is None:
            return
        connected = self._connections.get(published.connection)
        if connected is not None:
            gateway.keep_alive_s = connected.keep_alive_s


def _envelope(payload: bytes) -> Envelope | None:
    """Return what can be read of a message: its good registers, where some are bad."""
    try:
        return decode_envelope(payload)
    except ProfileError:
        return audit_envelope(payload).envelope


def _count_registers(meter: MeterTraffic, envelope: Envelope) -> None:
    for reading in envelope.registers:
        code = str(reading.obis)
        register = meter.registers.get(code)
        if register is None:
            if len(meter.registers) >= REGISTERS_PER_METER_MAX:
                meter.registers_left_out += 1
                continue
            register = meter.registers[code] = RegisterTraffic()
        register.readings += 1
        register.suspect += reading.quality is Quality.SUSPECT
        register.comms_lost += reading.quality is Quality.COMMS_LOST
        unit = reading.unit[:UNIT_CHARS_MAX]
        if unit not in register.units and len(register.units) < UNITS_PER_REGISTER_MAX:
            register.units.append(unit)


def _count_time(meter: MeterTraffic, envelope: Envelope, at: datetime) -> None:
    if all(reading.quality is Quality.COMMS_LOST for reading in envelope.registers):
        # Its time is that of the last value, and says nothing of this hour but that nobody answered.
        meter.lost_hours.add(hour_of(at))
        _forget_oldest(meter.lost_hours)
        return
    ts = envelope.ts
    if not at - timedelta(hours=HOURS_KEPT_MAX) <= ts <= at + _AHEAD:
        meter.outside += 1
        return
    meter.timed += 1
    hour = hour_of(ts)
    meter.minutes[hour] = meter.minutes.get(hour, 0) | 1 << ts.minute
    _forget_oldest(meter.minutes)
    spacing = None if meter.last_ts is None else round(abs((ts - meter.last_ts).total_seconds()))
    if spacing != 0:
        meter.moments += 1
    if spacing:
        _count_spacing(meter.spacings, spacing)
    meter.first_ts = ts if meter.first_ts is None else min(ts, meter.first_ts)
    meter.last_ts = ts if meter.last_ts is None else max(ts, meter.last_ts)


def _count_spacing(spacings: Counter[int], spacing: int) -> None:
    spacings[spacing] += 1
    if len(spacings) > SPACINGS_KEPT_MAX:
        del spacings[min(spacings, key=lambda each: spacings[each])]


def _forget_oldest(hours: dict[int, int] | set[int]) -> None:
    if len(hours) > HOURS_KEPT_MAX:
        oldest = min(hours)
        if isinstance(hours, set):
            hours.discard(oldest)
        else:
            del hours[oldest]


def _count_seq(gateway: GatewayTraffic, envelope: Envelope) -> None:
    gateway.last_ts = max(envelope.ts, gateway.last_ts or envelope.ts)
    seq = envelope.seq
    if seq is None:
        return
    last, last_ts = gateway.last_seq, gateway.last_seq_ts
    if last is None or last_ts is None:
        gateway.last_seq, gateway.last_seq_ts = seq, envelope.ts
    elif seq > last:
        if seq > last + 1:
            _open_gap(gateway, SeqGap(last + 1, seq - 1, last_ts, envelope.ts))
        gateway.last_seq, gateway.last_seq_ts = seq, envelope.ts
    else:
        _close_gap(gateway, seq)


def _open_gap(gateway: GatewayTraffic, gap: SeqGap) -> None:
    if len(gateway.gaps) < SEQ_GAPS_KEPT_MAX:
        gateway.gaps.append(gap)
    else:
        gateway.gaps_left_out += 1


def _close_gap(gateway: GatewayTraffic, seq: int) -> None:
    """Take a number that came late out of the gap it was missing in; a second copy is in none."""
    for index, gap in enumerate(gateway.gaps):
        if gap.first <= seq <= gap.last:
            rest = [
                SeqGap(gap.first, seq - 1, gap.after, gap.before),
                SeqGap(seq + 1, gap.last, gap.after, gap.before),
            ]
            gateway.gaps[index : index + 1] = [each for each in rest if each.first <= each.last]
            surplus = len(gateway.gaps) - SEQ_GAPS_KEPT_MAX
            if surplus > 0:
                del gateway.gaps[SEQ_GAPS_KEPT_MAX:]
                gateway.gaps_left_out += surplus
            return


def usual_interval_s(spacings: Counter[int]) -> int | None:
    """Return the commonest spacing in seconds, or the median where none prevails; None of too few."""
    total = spacings.total()
    if total < SPACINGS_MIN:
        return None
    [(commonest, times_seen)] = spacings.most_common(1)
    return commonest if 2 * times_seen >= total else median_low(spacings.elements())


def hour_of(moment: datetime) -> int:
    """Return the hours since 1970 at a moment."""
    return int(moment.timestamp()) // 3600
