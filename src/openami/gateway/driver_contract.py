"""What every driver must keep, as checks its author can run; ours and a stranger's alike.

A driver's author writes one `Bench`: two meters of his protocol on one line, real enough to be silenced,
exchanged and cut off. Then, under pytest:

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    async def test_my_driver_keeps_the_contract(check):
        async with my_bench() as bench:
            await check(bench)

A driver whose meters have relays makes it a `RelayBench` and runs `RELAY_CHECKS` too; for prepayment tokens see
`token_contract`.

Each check opens the line itself and raises AssertionError with what was broken. This module needs no
test framework. ``openami driver test NAME`` runs the checks too, on the bench that a package names by an entry
point of the group ``openami.driver_benches``: a function that takes an empty directory and gives the bench as
an asynchronous context manager (`OpenBench`). ``examples/driver-python`` shows all of it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Protocol

from openami.gateway.driver import (
    Driver,
    DriverError,
    IdentityMismatch,
    Line,
    LineDown,
    LineSettings,
    MeterSilent,
    RawReading,
    RelayControl,
    RelayPosition,
)
from openami.profile import MeterSerial, Obis

Value = int | Decimal | str | bool

# How often a check asks before it says that a line or meter does not come back: with a pause of
# 50 ms, ten seconds.
READS_MAX: Final = 200
_READS_IN_TURNS = 6


class Bench(Protocol):
    """Two meters on one line, and the faults a driver must survive."""

    @property
    def driver(self) -> type[Driver]: ...

    @property
    def settings(self) -> LineSettings:
        """The line with exactly two meters."""
        ...

    @property
    def deadline_s(self) -> float:
        """How long one read may take, its waiting for a silent meter included."""
        ...

    @property
    def pause_s(self) -> float:
        """How long a caller waits between attempts while a line or a meter comes back."""
        ...

    def values(self, serial: MeterSerial) -> Mapping[Obis, Value]:
        """What this meter's registers hold now; the checks read all of them."""
        ...

    def overlaps(self) -> int:
        """How many questions reached the line while another was still unanswered."""
        ...

    async def silence(self, serial: MeterSerial) -> None:
        """The meter stops answering."""
        ...

    async def restore(self, serial: MeterSerial) -> None:
        """The meter answers again, as itself."""
        ...

    async def exchange(self, serial: MeterSerial) -> bool:
        """Put another meter in its place; False if this protocol's meters cannot tell who they are."""
        ...

    async def cut(self) -> None:
        """The line goes down."""
        ...

    async def mend(self) -> None:
        """The line comes back."""
        ...


class RelayBench(Bench, Protocol):
    """A bench whose meters have relays, all of them connected at first."""

    def relay(self, serial: MeterSerial) -> RelayPosition:
        """Where the contactor of the meter at this place stands, whatever anybody was told."""
        ...

    def orders(self, serial: MeterSerial) -> int:
        """How many orders have reached the contactor of the meter at this place."""
        ...

    async def mute_orders(self, serial: MeterSerial) -> None:
        """From now on the meter does what it is ordered, and does not say so."""
        ...


OpenBench = Callable[[Path], AbstractAsyncContextManager[Bench]]
"""What an entry point of ``openami.driver_benches`` names; the directory is the bench's own."""
Check = Callable[[Bench], Awaitable[None]]
RelayCheck = Callable[[RelayBench], Awaitable[None]]


async def reads_what_the_meters_hold(bench: Bench) -> None:
    """Every value is the meter's own, exact, in the unit its register says."""
    async with _line(bench) as line:
        for serial in _serials(bench):
            readings = await _read(bench, line, serial, list(bench.values(serial)))
            assert _held(readings) == dict(bench.values(serial)), (
                "a value is not what the meter holds"
            )
            units = {info.obis: info.unit for info in line.meters[serial].registers}
            for reading in readings:
                assert not isinstance(reading.value, float), f"{reading.obis} is a float: not exact"
                assert reading.unit == units[reading.obis], f"{reading.obis} changed its unit"


async def returns_only_what_was_wanted(bench: Bench) -> None:
    """Nothing that was not asked for is returned, nothing twice, and nothing for an unknown code."""
    async with _line(bench) as line:
        serial = _serials(bench)[0]
        first = next(iter(bench.values(serial)))
        unknown = Obis.parse("1-65:199.128.1*255")
        readings = await _read(bench, line, serial, [first, unknown, first])
        assert [reading.obis for reading in readings] == [first]
        assert list(await _read(bench, line, serial, [unknown])) == []
        assert list(await _read(bench, line, serial, [])) == []


async def keeps_its_registers_fixed(bench: Bench) -> None:
    """What a meter can be asked for does not change while the line is open, and holds what it reads."""
    async with _line(bench) as line:
        serial = _serials(bench)[0]
        before = list(line.meters[serial].registers)
        codes = [info.obis for info in before]
        assert len(set(codes)) == len(codes), "a register stands twice"
        assert set(bench.values(serial)) <= set(codes)
        await _read(bench, line, serial, codes)
        assert list(line.meters[serial].registers) == before, "the registers changed"
        assert set(line.meters) == set(_serials(bench)), "meters are missing, or too many"


async def says_that_a_meter_is_silent(bench: Bench) -> None:
    """A silent meter is MeterSilent within the deadline, never a value; its neighbour is read on."""
    silent, other = _serials(bench)
    async with _line(bench) as line:
        await _read(bench, line, silent, list(bench.values(silent)))
        await bench.silence(silent)
        for _ in range(3):
            await _expect(MeterSilent, bench, line, silent)
            readings = await _read(bench, line, other, list(bench.values(other)))
            assert _held(readings) == dict(bench.values(other)), "the neighbour suffers"
        await bench.restore(silent)
        assert _held(await _until_read(bench, line, silent)) == dict(bench.values(silent))


async def refuses_another_meter(bench: Bench) -> None:
    """Another meter at the address is IdentityMismatch before any value, and the right one is read again."""
    serial, other = _serials(bench)
    async with _line(bench) as line:
        if not await bench.exchange(serial):
            return
        await _expect(IdentityMismatch, bench, line, serial)
        await _expect(IdentityMismatch, bench, line, serial)
        await _read(bench, line, other, list(bench.values(other)))
        await bench.restore(serial)
        assert _held(await _until_read(bench, line, serial)) == dict(bench.values(serial))


async def survives_being_cancelled(bench: Bench) -> None:
    """A read cancelled at any moment leaves a line that reads on, with right values."""
    serial, other = _serials(bench)
    async with _line(bench) as line:
        for round_trips in range(_READS_IN_TURNS):
            task = asyncio.create_task(
                _attempt(line, serial, list(bench.values(serial))), name="cancelled read"
            )
            await asyncio.sleep(bench.pause_s * round_trips / _READS_IN_TURNS)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        for meter in (other, serial):
            assert _held(await _until_read(bench, line, meter)) == dict(bench.values(meter))


async def takes_turns(bench: Bench) -> None:
    """Reads at the same time share the line one after the other, and each gets its own values."""
    serials = _serials(bench)
    async with _line(bench) as line:
        asked = [*serials] * _READS_IN_TURNS
        answers = await asyncio.gather(
            *(_attempt(line, serial, list(bench.values(serial))) for serial in asked)
        )
        for serial, readings in zip(asked, answers, strict=True):
            assert _held(readings) == dict(bench.values(serial)), (
                "an answer went to the wrong reader"
            )
        assert bench.overlaps() == 0, "two questions were on the line at once"


async def says_that_the_line_is_down(bench: Bench) -> None:
    """A line that breaks is LineDown for every meter on it; when it is back, so are the values."""
    serials = _serials(bench)
    async with _line(bench) as line:
        await _read(bench, line, serials[0], list(bench.values(serials[0])))
        await bench.cut()
        for serial in serials:
            await _expect(LineDown, bench, line, serial)
        await bench.mend()
        for serial in serials:
            assert _held(await _until_read(bench, line, serial)) == dict(bench.values(serial))


async def closes_its_line(bench: Bench) -> None:
    """A closed line can be opened again at once: nothing holds the port."""
    serial = _serials(bench)[0]
    for _ in range(2):
        async with _line(bench) as line:
            await _read(bench, line, serial, list(bench.values(serial)))


CHECKS: Final[tuple[Check, ...]] = (
    reads_what_the_meters_hold,
    returns_only_what_was_wanted,
    keeps_its_registers_fixed,
    says_that_a_meter_is_silent,
    refuses_another_meter,
    survives_being_cancelled,
    takes_turns,
    says_that_the_line_is_down,
    closes_its_line,
)


async def moves_the_relay_it_was_told_to(bench: RelayBench) -> None:
    """The contactor goes where it is ordered, is read back there, and the neighbour's stays."""
    serial, other = _serials(bench)
    async with _line(bench) as line:
        for position in (RelayPosition.DISCONNECTED, RelayPosition.CONNECTED):
            await _order(bench, line, serial, position)
            assert bench.relay(serial) is position
            assert await _position(bench, line, serial) is position
            assert bench.relay(other) is RelayPosition.CONNECTED, "the neighbour's relay moved"
        assert bench.orders(serial) == 2, "an order was repeated"
        assert _held(await _read(bench, line, serial, list(bench.values(serial)))) == dict(
            bench.values(serial)
        )


async def orders_once_though_nobody_answers(bench: RelayBench) -> None:
    """An order without an answer is MeterSilent, not another order; reading tells the truth afterwards."""
    serial, _ = _serials(bench)
    async with _line(bench) as line:
        await bench.mute_orders(serial)
        await _expect_no_order(MeterSilent, bench, line, serial)
        assert bench.orders(serial) == 1, "an order was repeated"
        assert await _until_position(bench, line, serial) is RelayPosition.DISCONNECTED


async def orders_nothing_of_a_silent_meter(bench: RelayBench) -> None:
    """A meter that does not answer is MeterSilent within the deadline, and is ordered nothing later either."""
    serial, other = _serials(bench)
    async with _line(bench) as line:
        await bench.silence(serial)
        await _expect_no_order(MeterSilent, bench, line, serial)
        await _read(bench, line, other, list(bench.values(other)))
        await bench.restore(serial)
        assert await _until_position(bench, line, serial) is RelayPosition.CONNECTED
        assert bench.orders(serial) == 0


async def moves_no_other_meters_relay(bench: RelayBench) -> None:
    """Another meter at the address, exchanged a moment ago, is IdentityMismatch and keeps its relay."""
    serial, _ = _serials(bench)
    async with _line(bench) as line:
        await _read(bench, line, serial, list(bench.values(serial)))
        if not await bench.exchange(serial):
            return
        await _expect_no_order(IdentityMismatch, bench, line, serial)
        assert bench.orders(serial) == 0
        assert bench.relay(serial) is RelayPosition.CONNECTED


RELAY_CHECKS: Final[tuple[RelayCheck, ...]] = (
    moves_the_relay_it_was_told_to,
    orders_once_though_nobody_answers,
    orders_nothing_of_a_silent_meter,
    moves_no_other_meters_relay,
)


def checks_for(bench: Bench) -> tuple[Callable[[Any], Awaitable[None]], ...]:
    """Return the checks a bench is to keep: those of relays too, where its meters have them."""
    has_relays = all(hasattr(bench, name) for name in ("relay", "orders", "mute_orders"))
    return (*CHECKS, *RELAY_CHECKS) if has_relays else CHECKS


def _switch(line: Line, serial: MeterSerial) -> RelayControl:
    meter = line.meters[serial]
    assert isinstance(meter, RelayControl), f"{serial} has a relay and no RelayControl"
    return meter


async def _order(bench: Bench, line: Line, serial: MeterSerial, position: RelayPosition) -> None:
    async with asyncio.timeout(bench.deadline_s):
        await _switch(line, serial).set_relay(position)


async def _position(bench: Bench, line: Line, serial: MeterSerial) -> RelayPosition:
    async with asyncio.timeout(bench.deadline_s):
        return await _switch(line, serial).relay_position()


async def _expect_no_order(
    error: type[DriverError], bench: Bench, line: Line, serial: MeterSerial
) -> None:
    try:
        await _order(bench, line, serial, RelayPosition.DISCONNECTED)
    except error:
        return
    except TimeoutError:
        raise AssertionError(f"no {error.__name__} within {bench.deadline_s} s") from None
    raise AssertionError(f"{error.__name__} was due, not an order that is said to be obeyed")


async def _until_position(bench: Bench, line: Line, serial: MeterSerial) -> RelayPosition:
    last: DriverError | None = None
    for _ in range(READS_MAX):
        try:
            return await _position(bench, line, serial)
        except DriverError as error:
            last = error
            await asyncio.sleep(bench.pause_s)
    raise AssertionError(f"{serial} does not come back: {last!r}")


@asynccontextmanager
async def _line(bench: Bench) -> AsyncIterator[Line]:
    async with bench.driver.open(bench.settings) as line:
        yield line


def _serials(bench: Bench) -> tuple[MeterSerial, MeterSerial]:
    first, second = (meter.serial for meter in bench.settings.meters)
    return first, second


def _held(readings: Sequence[RawReading]) -> dict[Obis, Value]:
    return {reading.obis: reading.value for reading in readings}


async def _attempt(line: Line, serial: MeterSerial, codes: Sequence[Obis]) -> Sequence[RawReading]:
    return await line.meters[serial].read(codes)


async def _read(
    bench: Bench, line: Line, serial: MeterSerial, codes: Sequence[Obis]
) -> Sequence[RawReading]:
    async with asyncio.timeout(bench.deadline_s):
        return await _attempt(line, serial, codes)


async def _expect(error: type[DriverError], bench: Bench, line: Line, serial: MeterSerial) -> None:
    try:
        readings = await _read(bench, line, serial, list(bench.values(serial)))
    except error:
        return
    except TimeoutError:
        raise AssertionError(f"no {error.__name__} within {bench.deadline_s} s") from None
    except DriverError as found:
        raise AssertionError(f"{error.__name__} was due, not {found!r}") from found
    raise AssertionError(f"{error.__name__} was due, not {_held(readings)}")


async def _until_read(bench: Bench, line: Line, serial: MeterSerial) -> Sequence[RawReading]:
    last: DriverError | None = None
    for _ in range(READS_MAX):
        try:
            return await _read(bench, line, serial, list(bench.values(serial)))
        except DriverError as error:
            last = error
            await asyncio.sleep(bench.pause_s)
    raise AssertionError(f"{serial} does not come back: {last!r}")
