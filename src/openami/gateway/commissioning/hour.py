"""An hour of envelopes → what is known of each meter (pure).

The outbox keeps what was sent for a week, so the hour is read from what was recorded and no second account is kept
of it: a power cut in the middle costs nothing, and yesterday's hour can be judged today.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from openami.gateway.driver import PollGroup
from openami.gateway.event_types import EventType
from openami.gateway.events import CLOCK
from openami.profile import Envelope, EventState, Obis, Quality, read_time

HOUR: Final = timedelta(hours=1)
IMPORTED: Final = Obis.parse("1.8.0")
EXPORTED: Final = Obis.parse("2.8.0")
POWER_IMPORTED: Final = Obis.parse("1.7.0")
POWER_EXPORTED: Final = Obis.parse("2.7.0")
POWER_NET: Final = Obis.parse("16.7.0")
VOLTAGES: Final = tuple(Obis.parse(code) for code in ("32.7.0", "52.7.0", "72.7.0"))

_DOUBTS: Final = (EventType.IMPLAUSIBLE_VALUE, EventType.REGISTER_ROLLBACK)
_CLOCK: Final = (EventType.CLOCK_INVALID, EventType.CLOCK_ADJUSTED)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One envelope as the outbox holds it."""

    envelope: Envelope
    group: PollGroup | None
    """None for an event."""


# A counter that stands at whole kWh all the hour does not show how finely it counts: most count this finely.
_UNSEEN_STEP_KWH: Final = 0.1


@dataclass(slots=True)
class EnergySpan:
    """An energy register over the hour: its first and last good value, and the last place of the finest one."""

    first: float
    first_at: datetime
    last: float
    last_at: datetime
    finest: float

    @property
    def moved(self) -> float:
        """By how many kWh it went on."""
        return self.last - self.first

    @property
    def step(self) -> float:
        """How finely it counts, as far as it shows; in kWh."""
        return self.finest if self.moved or self.finest < 1 else _UNSEEN_STEP_KWH

    def add(self, at: datetime, value: float) -> None:
        """Take one more reading; they may come in any order."""
        if at < self.first_at:
            self.first, self.first_at = value, at
        if at >= self.last_at:
            self.last, self.last_at = value, at
        self.finest = min(self.finest, _last_place(value))


@dataclass(slots=True)
class Range:
    """The smallest and the greatest of what was measured."""

    low: float
    high: float

    def add(self, value: float) -> None:
        """Take one more value."""
        self.low, self.high = min(self.low, value), max(self.high, value)


@dataclass(slots=True)
class MeterHour:
    """What one meter told within the hour."""

    polls: dict[PollGroup, set[datetime]] = field(default_factory=dict)
    clashes: int = 0
    doubts: Counter[EventType] = field(default_factory=Counter)
    clock_told: Counter[EventType] = field(default_factory=Counter)
    """Events of its clock; the gateway's own stand under its id."""
    suspect: int = 0
    readings: int = 0
    clock_drift_s: float | None = None
    """The furthest its clock was ahead (positive) or behind."""
    voltage: Range | None = None
    imported: EnergySpan | None = None
    exported: EnergySpan | None = None
    power: dict[datetime, float] = field(default_factory=dict)
    """Net kW by measured time; positive is import."""

    def answered(self, group: PollGroup) -> int:
        """Return at how many moments it answered a poll of this group."""
        return len(self.polls.get(group, ()))

    def mean_kw(self) -> float | None:
        """Return the mean of the net power; None where it told none."""
        return sum(self.power.values()) / len(self.power) if self.power else None


def read_hour(
    recorded: Iterable[Recorded], *, began_at: datetime, ended_at: datetime
) -> dict[str, MeterHour]:
    """Fold what was recorded from ``began_at`` up to, not including, ``ended_at``."""
    meters: dict[str, MeterHour] = {}
    for each in recorded:
        envelope = each.envelope
        if began_at <= envelope.ts < ended_at:
            meter = meters.setdefault(envelope.meter_serial, MeterHour())
            if envelope.event is not None:
                _take_event(meter, envelope)
            elif each.group is not None:
                _take_readings(meter, envelope, each.group)
    return meters


def _take_event(meter: MeterHour, envelope: Envelope) -> None:
    assert envelope.event is not None
    event = envelope.event
    if event.state is EventState.CLEARED:
        return
    if event.type == EventType.ADDRESS_CLASH:
        meter.clashes += 1
    elif event.type in _DOUBTS:
        meter.doubts[EventType(event.type)] += 1
    elif event.type in _CLOCK:
        meter.clock_told[EventType(event.type)] += 1


def _take_readings(meter: MeterHour, envelope: Envelope, group: PollGroup) -> None:
    imported = exported = net = None
    for register in envelope.registers:
        if register.quality is Quality.COMMS_LOST:
            continue  # an old value told again: the meter did not answer
        meter.polls.setdefault(group, set()).add(envelope.ts)
        meter.readings += 1
        value = register.value
        if register.obis == CLOCK:  # suspect or not: how far it is off is what is asked
            _take_clock(meter, envelope.ts, str(value))
            continue
        if register.quality is Quality.SUSPECT:
            meter.suspect += 1
            continue
        if isinstance(value, bool | str):
            continue
        if register.obis in VOLTAGES:
            meter.voltage = meter.voltage or Range(value, value)
            meter.voltage.add(value)
        elif register.obis == IMPORTED:
            meter.imported = _counted(meter.imported, envelope.ts, value)
        elif register.obis == EXPORTED:
            meter.exported = _counted(meter.exported, envelope.ts, value)
        elif register.obis == POWER_NET:
            net = value
        elif register.obis == POWER_IMPORTED:
            imported = value
        elif register.obis == POWER_EXPORTED:
            exported = value
    power = net_power(net=net, imported=imported, exported=exported)
    if power is not None:
        meter.power[envelope.ts] = power


def net_power(*, net: float | None, imported: float | None, exported: float | None) -> float | None:
    """Return a net power from what a meter tells of it; None where that is nothing."""
    if net is not None:
        return net
    if imported is None and exported is None:
        return None
    return (imported or 0.0) - (exported or 0.0)


def _take_clock(meter: MeterHour, at: datetime, text: str) -> None:
    told = read_time(text)
    if told is None:
        return
    drift_s = (told - at).total_seconds()
    if meter.clock_drift_s is None or abs(drift_s) > abs(meter.clock_drift_s):
        meter.clock_drift_s = drift_s


def _counted(counter: EnergySpan | None, at: datetime, value: float) -> EnergySpan:
    if counter is None:
        return EnergySpan(value, at, value, at, _last_place(value))
    counter.add(at, value)
    return counter


def _last_place(value: float) -> float:
    """Return the place of the last digit a value shows: 0.01 for 1842.57, 1 for 1842."""
    digits = f"{value:.6f}".rstrip("0").partition(".")[2]
    return float(10 ** -len(digits))
