"""A mode C line: what is believed of whom, what is said once, and what a line does that never rests."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from tests.drivers.iec62056_bench import ReadOutBench, read_out_bench
from tests.drivers.iec62056_double import Fault, ReadOutDouble
from tests.drivers.line_double import Port

from openami.gateway.driver import (
    DriverError,
    IdentityMismatch,
    Line,
    LineDown,
    LineSettings,
    MeterRefused,
    MeterSettings,
    MeterSilent,
)
from openami.gateway.drivers.iec62056.line import (
    DOUBTS_MAX,
    DRAIN_S_MAX,
    LISTEN_FIRST_S,
    TURN_S_MAX,
    ReadOutLine,
)
from openami.gateway.drivers.iec62056.options import line_plan
from openami.profile import MeterSerial, Obis
from openami.simulator.virtual_time import VirtualTimeLoop

_SERIAL = MeterSerial("DS1000-1")
_ENERGY = Obis.parse("1.8.0")


@asynccontextmanager
async def _opened(bench: ReadOutBench) -> AsyncIterator[Line]:
    async with bench.driver.open(bench.settings) as line:
        yield line


async def _read(line: Line, codes: Sequence[Obis] = (_ENERGY,)) -> dict[str, object]:
    readings = await line.meters[_SERIAL].read(codes)
    return {str(reading.obis): reading.value for reading in readings}


def _replace(
    bench: ReadOutBench, lines: Callable[[int], Sequence[str]], who: str = "DOb6x"
) -> ReadOutDouble:
    double = ReadOutDouble(lines, who)
    bench.bus.put("001", double)
    return double


async def test_an_adapter_with_an_echo_is_read(tmp_path: Path) -> None:
    async with read_out_bench("serial", tmp_path) as bench, _opened(bench) as line:
        bench.bus.echo = True
        assert await _read(line) == {"1.8.0": Decimal("1842.501")}


async def test_a_meter_is_read_out_twice_once_and_then_once(tmp_path: Path) -> None:
    async with read_out_bench("tcp", tmp_path) as bench, _opened(bench) as line:
        for expected in (2, 3, 4):
            await _read(line)
            assert bench.meter(_SERIAL).read_outs == expected


async def test_lost_characters_that_no_check_shows_give_no_wrong_value(tmp_path: Path) -> None:
    async with read_out_bench("tcp", tmp_path) as bench, _opened(bench) as line:
        told = ["2000391.330", "2000391.330", "2000391.0", "2000391.330"]
        _replace(bench, lambda number: ["C.1.0(KS-001)", f"1.8.0({told[number - 1]}*kWh)"])
        for _ in range(2):
            assert await _read(line) == {"1.8.0": Decimal("2000391.330")}


async def test_a_meter_that_never_writes_the_same_way_is_refused(tmp_path: Path) -> None:
    async with read_out_bench("tcp", tmp_path) as bench, _opened(bench) as line:
        double = _replace(bench, lambda n: ["C.1.0(KS-001)", f"1.8.0({'1' * (n % 7 + 1)}*kWh)"])
        with pytest.raises(MeterRefused, match="another form each time"):
            await _read(line)
        assert double.read_outs == 1 + DOUBTS_MAX


async def test_another_serial_number_has_to_be_told_twice(tmp_path: Path) -> None:
    """The first may be a late neighbour's: no electrician is sent for it."""
    async with read_out_bench("tcp", tmp_path) as bench, _opened(bench) as line:
        numbers = ["KS-999", "KS-001", "KS-001", "KS-999", "KS-999"]
        _replace(bench, lambda n: [f"C.1.0({numbers[n - 1]})", "1.8.0(5*kWh)"])
        assert await _read(line) == {"1.8.0": Decimal(5)}
        with pytest.raises(IdentityMismatch) as found:
            await _read(line)
        assert (found.value.expected, found.value.found) == ("KS-001", "KS-999")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1.8.0(5*kWh)"], "does not tell its serial number in 96.1.0 or 0.0.0"),
        (["C.1.0(KS-001)", "2.8.0(5*kWh)"], "1.8.0: the meter does not tell it"),
        (["C.1.0(KS-001)", "1.8.0(5*kW)"], "tells it in 'kW'"),
        (["C.1.0(KS-001)", "1.8.0(5)"], "add `told_unit` to the map"),
    ],
)
async def test_a_read_out_without_what_was_wanted_is_refused(
    lines: list[str], message: str, tmp_path: Path
) -> None:
    async with read_out_bench("tcp", tmp_path) as bench, _opened(bench) as line:
        _replace(bench, lambda _: lines)
        with pytest.raises(MeterRefused, match=message):
            await _read(line)


async def test_what_a_meter_does_not_tell_is_left_out_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with read_out_bench("tcp", tmp_path) as bench, _opened(bench) as line:
        everything = [info.obis for info in line.meters[_SERIAL].registers]
        for _ in range(2):
            assert set(await _read(line, everything)) == {"1.8.0", "32.7.0", "96.1.0"}
        said = [record for record in caplog.records if "does not give" in record.message]
        assert len(said) == len(everything) - 3


async def test_a_meter_that_this_line_cannot_follow_is_refused_with_the_reason(
    tmp_path: Path,
) -> None:
    async with read_out_bench("tcp", tmp_path) as bench, _opened(bench) as line:
        _replace(bench, lambda _: [], who="DObAx")
        for message in ("goes over to 600 Bd", "goes over to 600 Bd", "asked again in"):
            with pytest.raises(MeterRefused, match=message):
                await _read(line)


async def test_a_connection_closed_for_idleness_is_no_failure(tmp_path: Path) -> None:
    async with read_out_bench("tcp", tmp_path) as bench, _opened(bench) as line:
        assert isinstance(bench.end, Port)
        values = await _read(line)
        bench.end.hang_up_on_next = True
        assert await _read(line) == values
        assert bench.end.connections > 1


async def test_a_spoilt_block_is_had_again_and_costs_no_retry(tmp_path: Path) -> None:
    async with read_out_bench("serial", tmp_path) as bench:
        faults = iter([Fault.NONE, Fault.FLIP, *[Fault.NONE] * 10])
        bench.bus.script = lambda: (next(faults), 0.0)
        assert isinstance(bench.settings.options, dict)
        bench.settings.options["retries"] = 0
        async with _opened(bench) as line:
            assert await _read(line) == {"1.8.0": Decimal("1842.501")}


# --- in virtual time -----------------------------------------------------------------------------


class _Babbler:
    """A wire that says the same for ever, every so often."""

    connected = False

    def __init__(self, octets: bytes, every_s: float) -> None:
        self._octets = octets
        self._every_s = every_s

    async def open(self) -> None:
        self.connected = True

    def close(self) -> None:
        self.connected = False

    async def send(self, octets: bytes) -> None:
        assert self.connected

    async def receive(self) -> bytes:
        await asyncio.sleep(self._every_s)
        return self._octets


def _on(wire: _Babbler, *, retries: int = 0) -> ReadOutLine:
    settings = LineSettings(
        "line",
        [MeterSettings(_SERIAL, {"map": "generic-single-phase"})],
        {
            "transport": "serial",
            "device": "x",
            "retries": retries,
            "silent_share": 1 if retries else 0.05,
        },
    )
    return ReadOutLine(line_plan(settings), wire)


async def _time_to_fail(wire: _Babbler, *, retries: int = 0) -> tuple[float, DriverError]:
    with pytest.raises(DriverError) as failed:
        await _on(wire, retries=retries).read(_SERIAL, [_ENERGY])
    return asyncio.get_running_loop().time(), failed.value


def test_a_line_that_never_rests_is_down() -> None:
    loop = VirtualTimeLoop()
    took_s, error = loop.run_until_complete(_time_to_fail(_Babbler(b"\xff", 0.5)))
    loop.close()
    assert isinstance(error, LineDown)
    assert DRAIN_S_MAX <= took_s < DRAIN_S_MAX + 5


class _Dawdler(_Babbler):
    """Silent until it is spoken to; then one character after the other, each just in time."""

    def __init__(self) -> None:
        super().__init__(b"/", 1.4)
        self._spoken_to = False

    async def send(self, octets: bytes) -> None:
        self._spoken_to = True

    async def receive(self) -> bytes:
        if not self._spoken_to:
            await asyncio.sleep(3600)
        return await super().receive()


async def _dawdle() -> tuple[float, float]:
    """Return how long a dawdling meter has had the line when it was asked twice."""
    line, loop = _on(_Dawdler()), asyncio.get_running_loop()
    with pytest.raises(MeterSilent, match="not done within"):
        await line.read(_SERIAL, [_ENERGY])
    first_s = loop.time()
    with pytest.raises(MeterSilent, match="asked again in"):
        await line.read(_SERIAL, [_ENERGY])
    return first_s, loop.time() - first_s


def test_a_meter_that_dawdles_has_the_line_only_so_long_and_pays_for_it() -> None:
    loop = VirtualTimeLoop()
    first_s, second_s = loop.run_until_complete(_dawdle())
    loop.close()
    assert first_s == pytest.approx(TURN_S_MAX)
    assert second_s == 0


class _Late(_Babbler):
    """What is said comes at its own times, whatever is asked."""

    def __init__(self, *said: tuple[float, bytes]) -> None:
        super().__init__(b"", 0)
        self._said = list(said)
        self.asked_at: list[float] = []

    async def send(self, octets: bytes) -> None:
        self.asked_at.append(asyncio.get_running_loop().time())

    async def receive(self) -> bytes:
        at, octets = self._said[0] if self._said else (1e6, b"")
        await asyncio.sleep(at - asyncio.get_running_loop().time())
        self._said.pop(0)
        return octets


def test_nobody_is_asked_before_a_late_meter_has_been_silent() -> None:
    """A meter that has answered too late waits for us, and then says all it has: the line is left to it."""
    loop = VirtualTimeLoop()
    wire = _Late((6.0, b"/"), (7.5, b"\x00" * 9), (9.0, b"\x00" * 9))
    loop.run_until_complete(_time_to_fail(wire, retries=1))
    loop.close()
    silence_s = 2.0
    assert wire.asked_at == pytest.approx([silence_s, 9.0 + silence_s + LISTEN_FIRST_S])
