"""Readings against those before them: what is told again, what is told of a silent meter, what is in a register.

A gateway may send in any order and as often as it likes. So nothing here asks what came first; only what
cannot both be true of one meter at one time, whoever was told first, is a fault.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from openami.conformance.message import Message
from openami.conformance.occasion import Occasion
from openami.conformance.recent import Recent
from openami.conformance.rules.group import Seen
from openami.profile import (
    Envelope,
    EventTopic,
    Obis,
    Quality,
    RegisterCatalogue,
    RegisterReading,
    Value,
    json_type,
    pointer,
)

# Moments of meters that are remembered: those of 500 meters at 15 minutes for ten hours, some 20 MB. What a
# lost link holds back for longer is still judged by itself.
MOMENTS_KEPT_MAX: Final = 20_000
# Envelopes of one meter and moment that are held against one another: one register group each, and repeats.
ENVELOPES_OF_MOMENT_MAX: Final = 4
# Registers whose last value is remembered: fifty of each of a thousand meters.
REGISTERS_KEPT_MAX: Final = 50_000
# One step of a comms_lost time may be a measurement that was not published; two in a row are a habit.
_STEPS_WITHOUT_MEASUREMENT = 2
# A counter that keeps step with the clock so often, within a fiftieth, is one.
_STEPS_LIKE_A_CLOCK = 4
_CLOCK_TOLERANCE = 0.02
_SECONDS_OF: Final = {"hours": 3600.0, "minutes": 60.0, "seconds": 1.0}

_CREDIT: Final = Obis.parse("96.8.0")
_RELAY: Final = Obis.parse("96.11.1")


@dataclass(slots=True)
class _Register:
    """What is remembered of one register of one meter."""

    measured_ts: datetime | None = None  # the newest that was not comms_lost
    measured_value: Value | None = None
    lost_ts: datetime | None = None  # the newest time that came with comms_lost
    lost_steps: int = 0
    clock_ts: datetime | None = None
    clock_value: float = 0.0
    clock_steps: int = 0
    clock_unit: str = ""


class Readings:
    """Judges readings by those that were seen before."""

    requirements: ClassVar = frozenset(("OA-REG-012", "OA-REG-013", "OA-REG-014", "OA-REG-015"))

    def __init__(self, catalogue: RegisterCatalogue) -> None:
        self._catalogue = catalogue
        self._moments: Recent[tuple[str, str, datetime], tuple[Envelope, ...]] = Recent(
            MOMENTS_KEPT_MAX
        )
        self._registers: Recent[tuple[str, str, Obis], _Register] = Recent(REGISTERS_KEPT_MAX)

    def see(self, seen: Seen) -> Iterable[Occasion]:
        if not isinstance(seen, Message) or seen.envelope is None or seen.published.stored:
            return ()
        # A report tells its time in whole seconds: the relay before and after may share one.
        if seen.kind is EventTopic and "report" in seen.members:
            return ()
        return self._judge(seen.envelope, seen.places)

    def _judge(self, envelope: Envelope, places: Sequence[int] | None) -> Iterator[Occasion]:
        moment = (envelope.feeder_id, envelope.meter_serial, envelope.ts)
        before = self._moments.get(moment) or ()
        others: dict[Obis, RegisterReading] = {
            reading.obis: reading for each in reversed(before) for reading in each.registers
        }
        for index, reading in enumerate(envelope.registers):
            path = pointer("registers", index if places is None else places[index])
            told = others.get(reading.obis)
            if told is not None:
                yield from _told_again(told, reading, path)
            others[reading.obis] = reading
            key = (envelope.feeder_id, envelope.meter_serial, reading.obis)
            register = self._registers.get(key) or _Register()
            yield from self._judge_register(register, reading, envelope.ts, told, path)
            self._registers.note(key, register)
        if envelope not in before:
            self._moments.note(moment, (*before, envelope)[-ENVELOPES_OF_MOMENT_MAX:])

    def _judge_register(
        self,
        register: _Register,
        reading: RegisterReading,
        ts: datetime,
        told: RegisterReading | None,
        path: str,
    ) -> Iterator[Occasion]:
        if reading.obis == _RELAY:
            yield from self._judge_relay_word(reading, path)
        if reading.quality is Quality.COMMS_LOST:
            if register.lost_ts is None or ts > register.lost_ts:
                register.lost_steps += register.lost_ts is not None
                register.lost_ts = ts
            if told is None and register.measured_ts is not None:
                yield self._judge_lost(register, reading, ts, path)
            return
        if reading.obis == _CREDIT and reading.quality is Quality.GOOD:
            yield from _judge_credit(register, reading, ts, path)
        if register.measured_ts is None or ts > register.measured_ts:
            register.measured_ts, register.measured_value = ts, reading.value
        register.lost_ts, register.lost_steps = None, 0

    def _judge_relay_word(self, reading: RegisterReading, path: str) -> Iterator[Occasion]:
        entry = self._catalogue.get(_RELAY)
        if entry is None or entry.values is None or not isinstance(reading.value, str):
            return  # not a word at all: OA-REG-009
        fault = None
        if reading.value not in entry.values:
            fault = (
                f"96.11.1 is {reading.value[:40]!r}: the relay's state is one of "
                f"{', '.join(entry.values)}, and an event code is not sent here"
            )
        yield Occasion("OA-REG-014", fault, path + pointer("value") if fault else "")

    def _judge_lost(
        self, register: _Register, reading: RegisterReading, ts: datetime, path: str
    ) -> Occasion:
        """Judge a last known value of whose time nothing else has been seen."""
        known_ts, known = register.measured_ts, register.measured_value
        assert known_ts is not None, "without a measurement there is nothing to judge by"
        entry = self._catalogue.get(reading.obis)
        counts = entry is not None and entry.monotonic
        if ts > known_ts and counts and _below(reading.value, known):
            fault = (
                f"{reading.obis} is {reading.value} with comms_lost, and {known} was measured before: "
                "the last known value is sent, never a zero"
            )
            return Occasion("OA-REG-012", fault, path + pointer("value"))
        if ts > known_ts and register.lost_steps >= _STEPS_WITHOUT_MEASUREMENT:
            fault = (
                f"the time of {reading.obis} goes on with comms_lost and nothing was measured in "
                "between: ts stays that of the last measurement"
            )
            return Occasion("OA-REG-012", fault, path + pointer("quality"))
        return Occasion("OA-REG-012")


def _told_again(told: RegisterReading, reading: RegisterReading, path: str) -> Iterator[Occasion]:
    """Judge two tellings of one register of one meter at one time."""
    same = told.value == reading.value and json_type(told.value) == json_type(reading.value)
    if Quality.COMMS_LOST in (told.quality, reading.quality):
        fault = None
        if not same:
            fault = (
                f"{reading.obis} is told with comms_lost and without, as {told.value} and "
                f"{reading.value}: with comms_lost the value is the one that was measured then"
            )
        yield Occasion("OA-REG-012", fault, path + pointer("value") if fault else "")
        return
    fault = None
    if not same:
        fault = (
            f"{reading.obis} was {told.value} at this time and is {reading.value} now: "
            "a reading is never changed"
        )
    yield Occasion("OA-REG-015", fault, path + pointer("value") if fault else "")
    if same and told.quality is Quality.SUSPECT:
        raised = None
        if reading.quality is Quality.GOOD:
            raised = f"{reading.obis} was suspect at this time and is good now"
        yield Occasion("OA-REG-013", raised, path + pointer("quality") if raised else "")


def _judge_credit(
    register: _Register, reading: RegisterReading, ts: datetime, path: str
) -> Iterator[Occasion]:
    """Judge whether what is sent as credit is a clock: the meter object of that number counts time."""
    if not isinstance(reading.value, int | float) or isinstance(reading.value, bool):
        return
    if register.clock_ts is None or ts <= register.clock_ts:
        if register.clock_ts is None:
            register.clock_ts, register.clock_value = ts, float(reading.value)
        return
    elapsed_s = (ts - register.clock_ts).total_seconds()
    grown = float(reading.value) - register.clock_value
    register.clock_ts, register.clock_value = ts, float(reading.value)
    unit = next(
        (
            name
            for name, seconds in _SECONDS_OF.items()
            if abs(grown * seconds - elapsed_s) <= _CLOCK_TOLERANCE * elapsed_s
        ),
        "",
    )
    is_in_step = bool(unit) and unit in (register.clock_unit, unit)
    register.clock_steps = register.clock_steps + 1 if is_in_step else 0
    register.clock_unit = unit
    fault = None
    if register.clock_steps >= _STEPS_LIKE_A_CLOCK:
        fault = (
            f"96.8.0 grows as a clock that counts {unit} does: this is the meter's time of operation, "
            "not a credit"
        )
    yield Occasion("OA-REG-014", fault, path + pointer("value") if fault else "")


def _below(value: Value, known: Value | None) -> bool:
    return (
        isinstance(value, int | float)
        and isinstance(known, int | float)
        and not isinstance(value, bool)
        and not isinstance(known, bool)
        and value < known
    )
