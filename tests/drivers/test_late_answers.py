"""Late, lost and broken answers on a shared line: values are missing, never wrong.

Every value tells its unit, its register and the number of the question it answers, so a value from another
meter, another register or an earlier question is seen at once.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.drivers.line_double import DoubleMeter, Fault, LineDouble, on_port, on_pty

from openami.gateway.driver import DriverError, LineSettings, MeterSettings
from openami.gateway.drivers.modbus import ModbusDriver
from openami.profile import MeterSerial, Obis

# Two areas, blocks of equal size, and far apart: the worst a line can offer to a late answer.
_ADDRESSES = {
    "32.7.0": ("input", 0x00),
    "31.7.0": ("input", 0x02),
    "13.7.0": ("input", 0x04),
    "33.7.0": ("input", 0x06),
    "1.7.0": ("input", 0x20),
    "9.7.0": ("input", 0x22),
    "14.7.0": ("input", 0x24),
    "53.7.0": ("input", 0x26),
    "1.8.0": ("holding", 0x40),
    "2.8.0": ("holding", 0x42),
    "3.8.0": ("holding", 0x44),
    "4.8.0": ("holding", 0x60),
}
_MAP = """
id = "tell-tale"
vendor = "test"
model = "tell-tale"
source = ["test"]
certainty = "manual"
[limits]
max_read_registers = 16
max_gap = 0
[[golden]]
name = "none"
request = ""
response = ""
expect = {}
""" + "".join(
    f'[[register]]\nobis = "{obis}"\narea = "{area}"\naddress = {address}\ntype = "u32"\nunit = ""\n'
    for obis, (area, address) in _ADDRESSES.items()
)
_CODES = [Obis.parse(obis) for obis in _ADDRESSES]
_UNITS = (1, 2, 3)
# A second on a real line is a fortieth of one here.
_TIMEOUT_S = 0.025
_SILENCE_S = 0.01
_LATE_REPLY_S = 0.6
_LATE_S = (_TIMEOUT_S * 1.2, _TIMEOUT_S * 4, 0.5)
_PAUSE_S = 0.01


def _tell_tale(unit: int) -> Callable[[int, int], int]:
    # high word: unit and register; low word: which question it answers
    return lambda address, asked: asked & 0xFFFF if address % 2 else unit << 8 | address


@dataclass
class Tally:
    polls: int = 0
    failed: int = 0
    values: int = 0
    wrong: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.polls + other.polls,
            self.failed + other.failed,
            self.values + other.values,
            self.wrong + other.wrong,
        )


def _settings(place: Path, endpoint: dict[str, object], options: dict[str, object]) -> LineSettings:
    (place / "tell-tale.toml").write_text(_MAP)
    return LineSettings(
        name="test",
        meters=[
            MeterSettings(MeterSerial(f"M{unit}"), {"unit": unit, "map": "tell-tale.toml"})
            for unit in _UNITS
        ],
        options={
            "timeout_s": _TIMEOUT_S,
            "silence_s": _SILENCE_S,
            "late_reply_s": _LATE_REPLY_S,
            # Polls follow one another without the minute between them: let silence cost what it costs.
            "silent_share": 1.0,
            **endpoint,
            **options,
        },
        directory=place,
    )


async def _poll(settings: LineSettings, double: LineDouble, polls: int, seed: int) -> Tally:
    """Read random registers of random meters, and compare every value with what it must be."""
    tally = Tally()
    rng = random.Random(seed)
    async with ModbusDriver.open(settings) as line:
        for _ in range(polls):
            await asyncio.sleep(_PAUSE_S)
            unit = rng.choice(_UNITS)
            wanted = rng.sample(_CODES, rng.randint(1, len(_CODES)))
            before = double.meters[unit].asked
            tally.polls += 1
            try:
                readings = await line.meters[MeterSerial(f"M{unit}")].read(wanted)
            except DriverError:
                tally.failed += 1
                continue
            asked = double.meters[unit].asked - before
            assert {reading.obis for reading in readings} <= set(wanted)
            for reading in readings:
                assert isinstance(reading.value, int)
                origin, number = divmod(reading.value, 0x10000)
                right = origin == unit << 8 | _ADDRESSES[str(reading.obis)][1]
                tally.values += 1
                tally.wrong += not (right and 0 < (number - before) % 0x10000 <= asked)
    return tally


def _faulty(seed: int, share: float, faults: Sequence[Fault]) -> LineDouble:
    rng = random.Random(seed)

    def script(_number: int) -> tuple[Fault, float]:
        if rng.random() < share:
            return rng.choice(faults), rng.choice(_LATE_S)
        return Fault.NONE, 0.0

    return LineDouble({unit: DoubleMeter(_tell_tale(unit)) for unit in _UNITS}, script)


_ANY_FAULT = (
    Fault.LATE,
    Fault.LATE,
    Fault.DROP,
    Fault.TRUNCATE,
    Fault.BAD_CRC,
    Fault.NOISE,
    Fault.WRONG_UNIT,
    Fault.EXCEPTION,
)


async def _serial_lines(
    tmp_path: Path, *, lines: int, polls: int, share: float, in_order: bool, **options: object
) -> Tally:
    """Poll several lines at once, each with its own port, meters and faults."""

    async def one(at: int) -> Tally:
        place = tmp_path / str(at)
        place.mkdir()
        double = _faulty(at, share, _ANY_FAULT)
        double.in_order = in_order
        device = str(place / "tty")
        async with on_pty(double, device):
            settings = _settings(place, {"transport": "rtu", "device": device}, options)
            return await _poll(settings, double, polls, seed=at)

    return sum(await asyncio.gather(*(one(at) for at in range(lines))), Tally())


@pytest.mark.slow
@pytest.mark.parametrize("in_order", [True, False], ids=["in order", "overtaking"])
async def test_no_value_is_ever_wrong_on_a_serial_line(tmp_path: Path, in_order: bool) -> None:
    """Late by a little more than the timeout, by many timeouts, by more than a cycle: 0 wrong."""
    tally = await _serial_lines(tmp_path, lines=12, polls=150, share=0.06, in_order=in_order)
    print(tally)  # seen with -s, and when the test fails
    assert tally.wrong == 0
    assert tally.failed < tally.polls / 2, "the line is of no use any more"
    assert tally.values > 3 * tally.polls


@pytest.mark.slow
async def test_the_lines_would_show_a_wrong_value(tmp_path: Path) -> None:
    """With the doubt forgotten at once, late answers do pass for new ones: the test above can fail."""
    tally = await _serial_lines(
        tmp_path,
        lines=8,
        polls=60,
        share=0.3,
        in_order=False,
        late_reply_s=0.005,
        silence_s=0.005,
    )
    print(tally)  # seen with -s, and when the test fails
    assert tally.wrong > 0


@pytest.mark.slow
async def test_no_value_is_ever_wrong_behind_a_device_server(tmp_path: Path) -> None:
    """RTU frames over TCP: the same hazards, and reconnecting on top."""
    double = _faulty(7, 0.06, _ANY_FAULT)
    async with on_port(double) as port:
        endpoint: dict[str, object] = {
            "transport": "rtu-over-tcp",
            "host": "127.0.0.1",
            "port": port.number,
        }
        tally = await _poll(_settings(tmp_path, endpoint, {}), double, 200, seed=7)
    print(tally)  # seen with -s, and when the test fails
    assert tally.wrong == 0
    assert tally.values > tally.polls


@pytest.mark.slow
async def test_no_value_is_ever_wrong_behind_a_gateway(tmp_path: Path) -> None:
    """Modbus TCP: transaction ids tell late answers; the gateway's own timeout is exception 11."""
    double = _faulty(9, 0.05, (Fault.LATE, Fault.DROP, Fault.EXCEPTION, Fault.GATEWAY))
    double.mbap = True
    async with on_port(double) as port:
        endpoint: dict[str, object] = {
            "transport": "tcp",
            "host": "127.0.0.1",
            "port": port.number,
        }
        tally = await _poll(_settings(tmp_path, endpoint, {}), double, 200, seed=9)
    print(tally)  # seen with -s, and when the test fails
    assert tally.wrong == 0
    assert tally.values > tally.polls
