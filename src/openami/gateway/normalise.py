"""From what a meter told to what we vouch for: register, unit, sign, decimals, range, quality (pure).

The register list (and the driver's own map, where it is narrower) says what a value may be. A value
that is not one of that register at all (another unit, a text for a number, not a number) is left out
and said; a value that cannot be believed is published ``suspect``, never repaired.

What was known before is an argument and a result: the shell keeps it (`Memory`), nothing here does. A
meter that does not answer is published from it: the last value vouched for, with its own time and the
quality ``comms_lost`` (decision 0007). Quality is lowered on its way north, never raised, so a suspect
value is not repeated as a last known one.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from enum import StrEnum
from functools import cache
from itertools import groupby
from typing import assert_never

import msgspec

from openami.gateway.driver import RawReading, RegisterInfo
from openami.profile import (
    Envelope,
    EventState,
    FeederId,
    GatewayId,
    MeterSerial,
    Obis,
    Quality,
    Register,
    RegisterCatalogue,
    RegisterReading,
    Value,
    json_type,
)

# A counter that went back is believed again when it has gone on from its new place this often: one or
# two readings can be a line fault, three in a row are a meter that was replaced or reset, and its
# customer must not stay `suspect` for ever.
ROLLBACK_CONFIRMED_READINGS = 3
# A step over the rollover is one only if the counter grew by at most this part of its whole range
# meanwhile: a five-digit kWh counter gets 1,000 kWh, half a year of a household; a reset gets caught.
ROLLOVER_GROWTH_SHARE_MAX = 0.01
# A meter's clock may differ this much from a trusted gateway's before it is held to be wrong.
METER_CLOCK_DRIFT_S_MAX = 60
# Beyond it neighbouring integers are one number for most JSON readers, and the profile's codec refuses.
_INTEGER_MAX = 2**53 - 1
# A text register is a serial number, a state, a time; longer is noise on the line.
TEXT_CHARS_MAX = 256
# Far below the 64 KiB of a message (decision 0016): a register takes about 75 bytes.
REGISTERS_PER_ENVELOPE_MAX = 250

# Wide enough that no finite double needs rounding before the rounding we ask for.
_EXACT = Context(prec=400, rounding=ROUND_HALF_EVEN)
_METER_CLOCK = Obis.parse("0-0:1.0.0")


class Doubt(StrEnum):
    """Why a value is not vouched for; also the type of the event that tells of it."""

    REGISTER_ROLLBACK = "register_rollback"
    IMPLAUSIBLE_VALUE = "implausible_value"
    CLOCK_INVALID = "clock_invalid"


class KnownValue(msgspec.Struct, frozen=True, omit_defaults=True):
    """The last value of a register that was vouched for, and when it was measured.

    ``boottime_s`` stands beside a ``ts`` that a clock gave which was not trusted: see `settled`.
    """

    ts: datetime
    value: Value
    unit: str
    boottime_s: float | None = None


class Remembered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of one register between two readings.

    ``restart`` is where a counter that went back went on from, and ``restart_readings`` how often
    since it has not gone back again.
    """

    known: KnownValue | None = None
    doubt: Doubt | None = None
    restart: float | None = None
    restart_readings: int = 0


Memory = Mapping[Obis, Remembered]
"""One meter's registers as they are remembered."""

_NOTHING = Remembered()


@dataclass(frozen=True, slots=True)
class Change:
    """A doubt about a register that began or ended with this reading."""

    obis: Obis
    doubt: Doubt
    state: EventState
    detail: str


@dataclass(frozen=True, slots=True)
class Unusable:
    """A value that is none of its register, and so is left out."""

    obis: Obis
    reason: str


class TimedReading(msgspec.Struct, frozen=True):
    """A register and when it was measured.

    ``boottime_s`` is the second of this boot, where ``ts`` was taken from the gateway's own clock.
    """

    ts: datetime
    reading: RegisterReading
    boottime_s: float | None = None


@dataclass(frozen=True, slots=True)
class Normalised:
    """One meter's answer, judged; ``memory`` replaces the one that was passed in."""

    readings: tuple[TimedReading, ...]
    memory: Memory
    changes: tuple[Change, ...] = ()
    unusable: tuple[Unusable, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """Whose envelopes these are."""

    feeder_id: FeederId
    gateway_id: GatewayId


def to_the_millisecond(moment: datetime) -> datetime:
    """Return the millisecond a moment lies in, in UTC: what an envelope's ``ts`` says.

    The measured time, not the instant it was planned for: a line of sixty meters takes seconds, and
    the head-end's balances need to know. And not the second it lies in: a gateway that is started again
    at once polls twice in one, and two values would have one identity (decision 0006).
    """
    return moment.astimezone(UTC).replace(microsecond=moment.microsecond // 1000 * 1000)


def unit_faults(infos: Iterable[RegisterInfo], catalogue: RegisterCatalogue) -> list[str]:
    """Return what is wrong with a register map's units; any is a configuration error (decision 0015)."""
    faults = []
    for info in infos:
        entry = catalogue.get(info.obis)
        if entry is not None and entry.unit and not _same_unit(entry.unit, info.unit):
            faults.append(
                f"{info.obis} ({entry.name}) has the unit {entry.unit!r} in the register list, "
                f"{info.unit!r} in the meter's map"
            )
    return faults


def _same_unit(one: str, other: str) -> bool:
    return one == other or one.casefold() == other.casefold()


def normalise(
    raw: Sequence[RawReading],
    *,
    infos: Mapping[Obis, RegisterInfo],
    catalogue: RegisterCatalogue,
    memory: Memory,
    now: datetime,
    boottime_s: float,
    clock_trusted: bool,
) -> Normalised:
    """Judge one meter's answer, which was in hand at ``now``, second ``boottime_s`` of this boot.

    Without a trusted clock a meter's own time is not judged by ours.
    """
    readings: list[TimedReading] = []
    changes: list[Change] = []
    unusable: list[Unusable] = []
    remembered = dict(memory)
    ts = to_the_millisecond(now)
    for told in raw:
        info, entry = infos.get(told.obis), catalogue.get(told.obis)
        value = _wire_value(told, info, entry)
        if isinstance(value, Unusable) or info is None:
            assert isinstance(value, Unusable)
            unusable.append(value)
            continue
        before = remembered.get(told.obis, _NOTHING)
        place = _Place(
            info=info,
            entry=entry,
            before=before,
            ts=ts,
            boottime_s=boottime_s,
            meter_time=told.meter_time,
            clock_trusted=clock_trusted,
        )
        verdict = place.judge(value)
        readings.append(place.timed(place.reading(value, verdict.doubt)))
        changes.extend(_changes(told.obis, before.doubt, verdict))
        remembered[told.obis] = place.remember(value, verdict)
    return Normalised(tuple(readings), remembered, tuple(changes), tuple(unusable))


# --- is it a value of this register at all? ------------------------------------------------------


def _wire_value(
    told: RawReading, info: RegisterInfo | None, entry: Register | None
) -> Value | Unusable:
    if info is None:
        return Unusable(told.obis, "the meter's map does not have this register")
    if not _same_unit(told.unit, info.unit):
        return Unusable(told.obis, f"the unit is {told.unit!r}, expected {info.unit!r}")
    value = _json_value(told, info.decimals)
    if isinstance(value, Unusable) or entry is None or entry.type in (None, json_type(value)):
        return value
    return Unusable(told.obis, f"a {json_type(value)} where a {entry.type} belongs")


def _json_value(told: RawReading, decimals: int | None) -> Value | Unusable:
    match told.value:
        case bool():
            return told.value
        case str():
            return _text(told.obis, told.value)
        case int() | Decimal():
            return _number(told.obis, told.value, decimals)
        case _:
            assert_never(told.value)


def _text(obis: Obis, text: str) -> str | Unusable:
    if len(text) > TEXT_CHARS_MAX:
        return Unusable(obis, f"a text of {len(text)} characters, at most {TEXT_CHARS_MAX}")
    if any(not character.isprintable() for character in text):
        return Unusable(obis, "a text with characters that cannot be printed")
    return text


def _number(obis: Obis, number: int | Decimal, decimals: int | None) -> int | float | Unusable:
    """Return the nearest double of the exact number, rounded to the register's decimals."""
    if isinstance(number, int):
        return number if abs(number) <= _INTEGER_MAX else _double(obis, Decimal(number))
    if not number.is_finite():
        return Unusable(obis, "not a number")
    if decimals is not None and number.adjusted() < _INTEGER_MAX.bit_length():
        number = number.quantize(_last_place(decimals), context=_EXACT)
    if decimals == 0 and abs(number) <= _INTEGER_MAX:
        return int(number)
    return _double(obis, number)


@cache
def _last_place(decimals: int) -> Decimal:
    """Return a one in the last of so many decimal places."""
    return Decimal(1).scaleb(-decimals)


def _double(obis: Obis, number: Decimal) -> float | Unusable:
    double = float(number) + 0.0  # -0.0 would print as such
    if double - double != 0:
        return Unusable(obis, "a number beyond what a double holds")
    return double


# --- can it be believed? -------------------------------------------------------------------------


class _Verdict(msgspec.Struct, frozen=True):
    doubt: Doubt | None = None
    detail: str = ""
    restart: float | None = None
    restart_readings: int = 0


class _Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a value stands: its register, its past, its time."""

    info: RegisterInfo
    entry: Register | None
    before: Remembered
    ts: datetime
    boottime_s: float
    meter_time: datetime | None
    clock_trusted: bool

    @property
    def by_our_clock(self) -> bool:
        return self.meter_time is None or self._is_ahead(self.meter_time)

    @property
    def measured_at(self) -> datetime:
        """The meter's own time where it gives a possible one, else the poll's."""
        if self.meter_time is None or self.by_our_clock:
            return self.ts
        return to_the_millisecond(self.meter_time)

    @property
    def unit(self) -> str:
        """The register list's spelling where it has one, else the map's."""
        return self.info.unit if self.entry is None or not self.entry.unit else self.entry.unit

    def reading(self, value: Value, doubt: Doubt | None) -> RegisterReading:
        quality = Quality.GOOD if doubt is None else Quality.SUSPECT
        return RegisterReading(obis=self.info.obis, value=value, unit=self.unit, quality=quality)

    def timed(self, reading: RegisterReading) -> TimedReading:
        return TimedReading(
            self.measured_at, reading, self.boottime_s if self.by_our_clock else None
        )

    def remember(self, value: Value, verdict: _Verdict) -> Remembered:
        uncertain = self.by_our_clock and not self.clock_trusted
        now_known = KnownValue(
            self.measured_at, value, self.unit, self.boottime_s if uncertain else None
        )
        return Remembered(
            known=now_known if verdict.doubt is None else self.before.known,
            doubt=verdict.doubt,
            restart=verdict.restart,
            restart_readings=verdict.restart_readings,
        )

    def judge(self, value: Value) -> _Verdict:
        if self.meter_time is not None and self._is_ahead(self.meter_time):
            return _Verdict(Doubt.CLOCK_INVALID, f"measured at {self.meter_time}, which is to come")
        if isinstance(value, str):
            return self._judge_text(value)
        if isinstance(value, bool):
            return _Verdict()
        lowest, highest = _range(self.info, self.entry)
        if not lowest <= value <= highest:
            return _Verdict(
                Doubt.IMPLAUSIBLE_VALUE,
                f"{value} is outside {lowest} to {highest} {self.info.unit}",
            )
        if self.info.monotonic or (self.entry is not None and self.entry.monotonic):
            return self._judge_counter(value)
        return _Verdict()

    def _judge_text(self, text: str) -> _Verdict:
        if self.entry is not None and self.entry.values and text not in self.entry.values:
            known = ", ".join(self.entry.values)
            return _Verdict(Doubt.IMPLAUSIBLE_VALUE, f"{text!r} is none of {known}")
        if self.info.obis == _METER_CLOCK:
            return self._judge_clock(text)
        return _Verdict()

    def _judge_clock(self, text: str) -> _Verdict:
        try:
            told = datetime.fromisoformat(text)
        except ValueError:
            return _Verdict(Doubt.CLOCK_INVALID, f"{text!r} is not a time")
        if told.tzinfo is None or not self.clock_trusted:
            return _Verdict()
        drift_s = (told - self.ts).total_seconds()
        if abs(drift_s) <= METER_CLOCK_DRIFT_S_MAX:
            return _Verdict()
        direction = "ahead" if drift_s > 0 else "behind"
        return _Verdict(
            Doubt.CLOCK_INVALID, f"the meter's clock is {abs(drift_s):.0f} s {direction}"
        )

    def _judge_counter(self, value: float) -> _Verdict:
        known = self.before.known
        if known is None or not isinstance(known.value, int | float) or known.unit != self.unit:
            return _Verdict()
        if value >= known.value or _rolled_over(known.value, value, self.info.rollover):
            return _Verdict()
        goes_on = self.before.restart is not None and value >= self.before.restart
        readings = self.before.restart_readings + 1 if goes_on else 1
        if readings >= ROLLBACK_CONFIRMED_READINGS:
            return _Verdict(detail=f"counts on from {value}")
        return _Verdict(
            Doubt.REGISTER_ROLLBACK,
            f"{value} after {known.value} {self.info.unit}",
            restart=value,
            restart_readings=readings,
        )

    def _is_ahead(self, moment: datetime) -> bool:
        return self.clock_trusted and moment - self.ts > timedelta(seconds=METER_CLOCK_DRIFT_S_MAX)


def _range(info: RegisterInfo, entry: Register | None) -> tuple[float, float]:
    """Return the narrower of what the list and the meter's map hold possible."""
    lowest, highest = float("-inf"), float("inf")
    if entry is not None and entry.range is not None:
        lowest, highest = entry.range
    if info.minimum is not None:
        lowest = max(lowest, info.minimum)
    if info.maximum is not None:
        highest = min(highest, info.maximum)
    return lowest, highest


def _rolled_over(before: float, after: float, rollover: float | None) -> bool:
    if rollover is None or not 0 <= after < before <= rollover:
        return False
    return rollover - before + after <= rollover * ROLLOVER_GROWTH_SHARE_MAX


def _changes(obis: Obis, before: Doubt | None, verdict: _Verdict) -> Iterator[Change]:
    if verdict.doubt == before:
        return
    if before is not None:
        yield Change(obis, before, EventState.CLEARED, verdict.detail)
    if verdict.doubt is not None:
        yield Change(obis, verdict.doubt, EventState.RAISED, verdict.detail)


# --- what is remembered ---------------------------------------------------------------------------


def settled(memory: Memory, boot_moment: datetime) -> Memory:
    """Return the memory with the times of an untrusted clock put right, now that it is trusted.

    ``boot_moment`` is when this machine booted, by the trusted clock.
    """
    if all(map(_is_settled, memory.values())):
        return memory
    return {obis: _settle(remembered, boot_moment) for obis, remembered in memory.items()}


def _is_settled(remembered: Remembered) -> bool:
    return remembered.known is None or remembered.known.boottime_s is None


def _settle(remembered: Remembered, boot_moment: datetime) -> Remembered:
    known = remembered.known
    if known is None or known.boottime_s is None:
        return remembered
    ts = to_the_millisecond(boot_moment + timedelta(seconds=known.boottime_s))
    return msgspec.structs.replace(
        remembered, known=msgspec.structs.replace(known, ts=ts, boottime_s=None)
    )


def without_unknown_times(memory: Memory) -> Memory:
    """Return what can be used of a memory of an earlier boot: nothing whose time was never known."""
    return {
        obis: remembered
        if _is_settled(remembered)
        else msgspec.structs.replace(remembered, known=None)
        for obis, remembered in memory.items()
    }


# --- envelopes -----------------------------------------------------------------------------------


def lost_readings(memory: Memory, wanted: Iterable[Obis]) -> tuple[TimedReading, ...]:
    """Return the last known values of registers whose meter does not answer, each with its own time.

    A register that was never vouched for is left out: there is no value to give (decision 0007).
    """
    return tuple(
        TimedReading(
            known.ts,
            RegisterReading(
                obis=obis, value=known.value, unit=known.unit, quality=Quality.COMMS_LOST
            ),
            known.boottime_s,
        )
        for obis in wanted
        if (known := memory.get(obis, _NOTHING).known) is not None
    )


def envelopes(
    readings: Iterable[TimedReading], *, source: Source, serial: MeterSerial
) -> Iterator[tuple[Envelope, float | None]]:
    """Yield the envelopes that hold these readings of a meter, one for each measured time.

    Each with the second of this boot its time was, where our own clock gave it.
    """
    in_order = sorted(readings, key=lambda timed: (timed.ts, timed.reading.obis))
    for ts, same_time in groupby(in_order, key=lambda timed: timed.ts):
        members = list(same_time)
        for start in range(0, len(members), REGISTERS_PER_ENVELOPE_MAX):
            some = members[start : start + REGISTERS_PER_ENVELOPE_MAX]
            envelope = Envelope(
                ts=ts,
                feeder_id=source.feeder_id,
                gateway_id=source.gateway_id,
                meter_serial=serial,
                registers=tuple(timed.reading for timed in some),
            )
            yield envelope, some[0].boottime_s
