"""What a driver must keep whose meters have a load profile, or a clock to be set: more checks beside the others.

A driver's author makes his bench a `ProfileBench` and runs `PROFILE_CHECKS` over it, or a `ClockBench` with
`CLOCK_CHECKS`. A value with another's time, or another meter's, would be believed for years.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from openami.gateway.driver import (
    DriverError,
    IdentityMismatch,
    Line,
    LoadProfile,
    MeterClock,
    MeterSilent,
    RawReading,
)
from openami.gateway.driver_contract import Bench, Value
from openami.profile import MeterSerial, Obis

CLOCK_ERROR_MAX: Final = timedelta(seconds=5)
"""How far a clock may be off that was just set: whole seconds, and a slow line's way there."""
_MS: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, order=True)
class Captured:
    """One captured value."""

    at: datetime
    obis: Obis
    value: Value


class ProfileBench(Bench, Protocol):
    """A bench whose meters keep a load profile."""

    def captured(self, serial: MeterSerial) -> Sequence[Captured]:
        """What this meter holds, in the order of its times; three times at least, and all of it long ago."""
        ...


class ClockBench(Bench, Protocol):
    """A bench whose meters' clocks can be set."""

    def clock(self, serial: MeterSerial) -> datetime:
        """What the clock of the meter at this place was last set to, or has shown since it was made."""
        ...


ProfileCheck = Callable[[ProfileBench], Awaitable[None]]
ClockCheck = Callable[[ClockBench], Awaitable[None]]


async def gives_what_was_captured_with_its_times(bench: ProfileBench) -> None:
    """Each meter's own values, exact, in the register's unit, each with the time it was captured at, in UTC."""
    async with bench.driver.open(bench.settings) as line:
        for serial in _serials(bench):
            held = list(bench.captured(serial))
            readings = await _read(bench, line, serial, held[0].at, held[-1].at)
            assert _told(readings) == held
            units = {info.obis: info.unit for info in line.meters[serial].registers}
            assert all(reading.unit == units[reading.obis] for reading in readings)


async def keeps_to_the_span(bench: ProfileBench) -> None:
    """Both ends belong to it, and nothing beyond: a span of no row is an empty answer and no error."""
    serial, _ = _serials(bench)
    held = list(bench.captured(serial))
    times = sorted({each.at for each in held})
    async with bench.driver.open(bench.settings) as line:
        inner = [each for each in held if times[1] <= each.at <= times[-2]]
        assert _told(await _read(bench, line, serial, times[1], times[-2])) == inner
        assert not await _read(bench, line, serial, times[0] + _MS, times[1] - _MS)
        assert not await _read(bench, line, serial, _EPOCH, _EPOCH + timedelta(days=1))


async def says_that_nobody_answers(bench: ProfileBench) -> None:
    """A meter that does not answer is MeterSilent within the deadline."""
    serial, _ = _serials(bench)
    async with bench.driver.open(bench.settings) as line:
        await bench.silence(serial)
        await _expect(MeterSilent, _read_all(bench, line, serial))


async def survives_being_cut_off(bench: ProfileBench) -> None:
    """A load profile is given up when a poll is due: the poll after it has its own values."""
    serial, other = _serials(bench)
    async with bench.driver.open(bench.settings) as line:
        reading = asyncio.ensure_future(_read_all(bench, line, serial))
        await asyncio.sleep(bench.pause_s / 10)
        reading.cancel()
        await asyncio.wait({reading})
        for each in (other, serial):
            async with asyncio.timeout(bench.deadline_s):
                told = await line.meters[each].read(list(bench.values(each)))
            assert {reading.obis: reading.value for reading in told} == dict(bench.values(each))
        assert _told(await _read_all(bench, line, serial)) == list(bench.captured(serial))


async def reads_no_other_meters(bench: ProfileBench) -> None:
    """Another meter at the address, exchanged a moment ago, is IdentityMismatch and gives nothing."""
    serial, _ = _serials(bench)
    async with bench.driver.open(bench.settings) as line:
        await _read_all(bench, line, serial)
        if await bench.exchange(serial):
            await _expect(IdentityMismatch, _read_all(bench, line, serial))


PROFILE_CHECKS: Final[tuple[ProfileCheck, ...]] = (
    gives_what_was_captured_with_its_times,
    keeps_to_the_span,
    says_that_nobody_answers,
    survives_being_cut_off,
    reads_no_other_meters,
)


async def sets_the_clock_it_was_told_to(bench: ClockBench) -> None:
    """The clock shows what it was set to, and the neighbour's what it showed."""
    serial, other = _serials(bench)
    async with bench.driver.open(bench.settings) as line:
        theirs = bench.clock(other)
        now = bench.clock(serial) + timedelta(seconds=90)
        await _set(bench, line, serial, now)
        assert timedelta() <= bench.clock(serial) - now <= CLOCK_ERROR_MAX
        assert bench.clock(other) == theirs, "the neighbour's clock was set"


async def sets_no_other_meters_clock(bench: ClockBench) -> None:
    """Another meter at the address, exchanged a moment ago, is IdentityMismatch and keeps its clock."""
    serial, _ = _serials(bench)
    async with bench.driver.open(bench.settings) as line:
        async with asyncio.timeout(bench.deadline_s):
            await line.meters[serial].read(list(bench.values(serial)))
        if not await bench.exchange(serial):
            return
        before = bench.clock(serial)
        await _expect(IdentityMismatch, _set(bench, line, serial, before + timedelta(seconds=90)))
        assert bench.clock(serial) == before


CLOCK_CHECKS: Final[tuple[ClockCheck, ...]] = (
    sets_the_clock_it_was_told_to,
    sets_no_other_meters_clock,
)


def _serials(bench: Bench) -> tuple[MeterSerial, MeterSerial]:
    one, other = (meter.serial for meter in bench.settings.meters)
    return one, other


async def _read(
    bench: ProfileBench, line: Line, serial: MeterSerial, first: datetime, last: datetime
) -> Sequence[RawReading]:
    meter = line.meters[serial]
    assert isinstance(meter, LoadProfile), f"{serial} keeps a load profile and has no LoadProfile"
    async with asyncio.timeout(bench.deadline_s):
        return await meter.read_profile(first, last)


async def _read_all(bench: ProfileBench, line: Line, serial: MeterSerial) -> Sequence[RawReading]:
    held = bench.captured(serial)
    return await _read(bench, line, serial, held[0].at, held[-1].at)


def _told(readings: Sequence[RawReading]) -> list[Captured]:
    """Return what was told, in order."""
    told = []
    for reading in readings:
        at = reading.meter_time
        assert at is not None, f"{reading.obis} has no time of its own"
        assert at.tzinfo is not None, f"{reading.obis} has a time without a zone"
        told.append(Captured(at, reading.obis, reading.value))
    return sorted(told, key=lambda each: (each.at, each.obis))


async def _set(bench: ClockBench, line: Line, serial: MeterSerial, now: datetime) -> None:
    meter = line.meters[serial]
    assert isinstance(meter, MeterClock), f"{serial} has a clock and no MeterClock"
    async with asyncio.timeout(bench.deadline_s):
        await meter.set_clock(now)


async def _expect(kind: type[DriverError], asking: Awaitable[object]) -> None:
    try:
        answer = await asking
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was due, not {answer!r}")
