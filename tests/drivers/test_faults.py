"""Dead meters, clashing addresses, refusals and babble on a line of real bytes."""

import asyncio
from pathlib import Path

import pytest
from tests.drivers.line_double import DoubleMeter, LineDouble, on_port, on_pty

from openami.gateway.driver import (
    DriverError,
    IdentityMismatch,
    LineDown,
    LineSettings,
    MeterRefused,
    MeterSettings,
    MeterSilent,
)
from openami.gateway.drivers.modbus import ModbusDriver
from openami.profile import MeterSerial, Obis

_FAST = [Obis.parse(obis) for obis in ("32.7.0", "31.7.0", "1.7.0")]


def _dds238() -> DoubleMeter:
    words = {0x0C: 2305, 0x0D: 413, 0x0E: 951}
    return DoubleMeter(lambda address, _: words.get(address, 0))


def _line(place: Path, *units: int, cycle_s: float = 60.0, **options: object) -> LineSettings:
    return LineSettings(
        "bus",
        [MeterSettings(MeterSerial(f"M{unit}"), {"unit": unit, "map": "dds238"}) for unit in units],
        {"transport": "rtu", "device": str(place / "tty"), **options},
        place,
        cycle_s,
    )


@pytest.mark.slow
async def test_a_dead_meter_costs_a_twentieth_and_its_neighbours_nothing(tmp_path: Path) -> None:
    """Five cycles of 2 s with six meters, one of them dead: a thirtieth of the real times."""
    cycle_s, cycles = 2.0, 5
    double = LineDouble({unit: _dds238() for unit in (1, 2, 3, 4, 5)})
    settings = _line(
        tmp_path, 1, 2, 3, 4, 5, 6, timeout_s=0.1, silence_s=0.02, cycle_s=cycle_s, baudrate=115200
    )
    loop = asyncio.get_running_loop()
    dead_s = 0.0
    async with on_pty(double, str(tmp_path / "tty")), ModbusDriver.open(settings) as line:
        began_at = loop.time()
        for cycle in range(cycles):
            await asyncio.sleep(began_at + cycle * cycle_s - loop.time())
            for unit in (6, 1, 2, 3, 4, 5):
                asked_at = loop.time()
                meter = line.meters[MeterSerial(f"M{unit}")]
                if unit == 6:
                    with pytest.raises(MeterSilent):
                        await meter.read(_FAST)
                    dead_s += loop.time() - asked_at
                else:
                    assert len(await meter.read(_FAST)) == 3
        share = dead_s / (cycles * cycle_s)
        print(f"the dead meter cost {share:.2%} of {cycles} cycles")
        assert 0.0 < share <= 0.05


async def test_an_open_breaker_says_so_at_once_and_closes_with_the_first_answer(
    tmp_path: Path,
) -> None:
    double = LineDouble({1: _dds238()})
    double.meters[1].silent = True
    settings = _line(tmp_path, 1, timeout_s=0.02, silence_s=0.01, cycle_s=2.0, silent_share=0.2)
    loop = asyncio.get_running_loop()
    async with on_pty(double, str(tmp_path / "tty")), ModbusDriver.open(settings) as line:
        meter = line.meters[MeterSerial("M1")]
        with pytest.raises(MeterSilent, match="did not answer within"):
            await meter.read(_FAST)
        questions, asked_at = double.questions, loop.time()
        with pytest.raises(MeterSilent, match="is asked again in"):
            await meter.read(_FAST)
        assert double.questions == questions, "an open breaker asks nothing"
        assert loop.time() - asked_at < 0.01
        double.meters[1].silent = False
        async with asyncio.timeout(5):
            while True:
                try:
                    assert len(await meter.read(_FAST)) == 3
                    break
                except MeterSilent:
                    await asyncio.sleep(0.01)
        for _ in range(5):
            assert len(await meter.read(_FAST)) == 3


_IDENTIFIED = """
id = "identified"
vendor = "test"
model = "identified"
source = ["test"]
certainty = "manual"
[identify]
address = 0x40
type = "u32"
[[register]]
obis = "1.8.0"
address = 0
type = "u32"
unit = "kWh"
[[register]]
obis = "32.7.0"
address = 2
type = "u16"
unit = "V"
[[golden]]
name = "none"
request = ""
response = ""
expect = {}
"""


async def test_two_meters_with_one_address_are_noticed_before_a_value_is_given(
    tmp_path: Path,
) -> None:
    """The meter meant has 4711; the one that answers at its address says 815."""
    (tmp_path / "identified.toml").write_text(_IDENTIFIED)
    words = {0x41: 815, 1: 18425}
    double = LineDouble({1: DoubleMeter(lambda address, _: words.get(address, 0))})
    options: dict[str, object] = {"unit": 1, "map": "identified.toml", "identity": 4711}
    settings = LineSettings(
        "bus",
        [MeterSettings(MeterSerial("M1"), options)],
        {"transport": "rtu", "device": str(tmp_path / "tty"), "silence_s": 0.01},
        tmp_path,
    )
    wanted = [Obis.parse("1.8.0")]
    async with on_pty(double, str(tmp_path / "tty")), ModbusDriver.open(settings) as line:
        meter = line.meters[MeterSerial("M1")]
        for _ in range(3):
            with pytest.raises(IdentityMismatch) as caught:
                await meter.read(wanted)
            assert (caught.value.expected, caught.value.found) == ("4711", "815")
        words[0x41] = 4711
        (reading,) = await meter.read(wanted)
        assert reading.value == 18425


async def test_a_swapped_meter_is_noticed_after_its_silence(tmp_path: Path) -> None:
    (tmp_path / "identified.toml").write_text(_IDENTIFIED)
    words = {0x41: 4711, 1: 18425}
    double = LineDouble({1: DoubleMeter(lambda address, _: words.get(address, 0))})
    options: dict[str, object] = {"unit": 1, "map": "identified.toml", "identity": "4711"}
    settings = LineSettings(
        "bus",
        [MeterSettings(MeterSerial("M1"), options)],
        {
            "transport": "rtu",
            "device": str(tmp_path / "tty"),
            "silence_s": 0.01,
            "timeout_s": 0.02,
            "late_reply_s": 0.05,
            "retries": 0,
            "silent_share": 1.0,
        },
        tmp_path,
    )
    wanted = [Obis.parse("1.8.0")]
    async with on_pty(double, str(tmp_path / "tty")), ModbusDriver.open(settings) as line:
        meter = line.meters[MeterSerial("M1")]
        await meter.read(wanted)
        double.meters[1].silent = True
        with pytest.raises(MeterSilent):
            await meter.read(wanted)
        double.meters[1].silent = False
        words[0x41] = 4712
        await asyncio.sleep(0.1)
        with pytest.raises(IdentityMismatch):
            await meter.read(wanted)


async def test_a_refused_block_costs_only_its_own_registers(tmp_path: Path) -> None:
    """A meter that answers exception 2 for its counters still tells its voltage."""
    double = LineDouble({1: _dds238()})
    double.meters[1].end = 0x0F
    settings = _line(tmp_path, 1, silence_s=0.01)
    async with on_pty(double, str(tmp_path / "tty")), ModbusDriver.open(settings) as line:
        meter = line.meters[MeterSerial("M1")]
        readings = await meter.read([*_FAST, Obis.parse("14.7.0")])
        assert {str(reading.obis) for reading in readings} == {"32.7.0", "31.7.0", "1.7.0"}
        with pytest.raises(MeterRefused, match=r"refuses holding registers 17 to 17 .* 'dds238'"):
            await meter.read([Obis.parse("14.7.0")])


async def test_a_line_that_does_not_come_to_rest_is_down(tmp_path: Path) -> None:
    double = LineDouble({})
    settings = _line(tmp_path, 1, silence_s=0.3, timeout_s=0.02)
    async with on_pty(double, str(tmp_path / "tty")) as pty, ModbusDriver.open(settings) as line:

        async def babble() -> None:
            while True:
                pty.write(b"\xff")
                await asyncio.sleep(0.05)

        task = asyncio.create_task(babble(), name="babble")
        try:
            with pytest.raises(LineDown, match="does not come to rest"):
                await line.meters[MeterSerial("M1")].read(_FAST)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("device", "message"),
    [("gone", "there is no such device"), ("file", "another program has it open")],
)
async def test_a_port_that_cannot_be_opened_says_why(
    tmp_path: Path, device: str, message: str
) -> None:
    (tmp_path / "file").write_text("")
    settings = LineSettings(
        "bus",
        [MeterSettings(MeterSerial("M1"), {"unit": 1, "map": "dds238"})],
        {"transport": "rtu", "device": str(tmp_path / device)},
        tmp_path,
    )
    async with ModbusDriver.open(settings) as line:
        meter = line.meters[MeterSerial("M1")]
        with pytest.raises(LineDown, match=message):
            await meter.read(_FAST)
        with pytest.raises(LineDown, match="tried again in"):
            await meter.read(_FAST)


async def test_a_tcp_connection_whose_far_end_is_mute_is_made_anew(tmp_path: Path) -> None:
    double = LineDouble({1: _dds238()})
    double.mbap = True
    double.meters[1].silent = True
    connections = 0
    async with on_port(double) as port:
        settings = LineSettings(
            "net",
            [MeterSettings(MeterSerial("M1"), {"unit": 1, "map": "dds238"})],
            {
                "transport": "tcp",
                "host": "127.0.0.1",
                "port": port.number,
                "timeout_s": 0.02,
                "silence_s": 0.005,
                "retries": 0,
                "late_reply_s": 0.05,
                "silent_share": 1.0,
            },
            tmp_path,
        )
        async with ModbusDriver.open(settings) as line:
            for _ in range(8):
                with pytest.raises(DriverError):
                    await line.meters[MeterSerial("M1")].read(_FAST)
                await asyncio.sleep(0.06)
            connections = port.connections
            double.meters[1].silent = False
            await asyncio.sleep(0.2)
            assert len(await line.meters[MeterSerial("M1")].read(_FAST)) == 3
    assert connections >= 2


async def test_a_connection_the_meter_closes_as_idle_costs_no_reading(tmp_path: Path) -> None:
    double = LineDouble({1: _dds238()})
    double.mbap = True
    async with on_port(double) as port:
        settings = LineSettings(
            "net",
            [MeterSettings(MeterSerial("M1"), {"unit": 1, "map": "dds238"})],
            {
                "transport": "tcp",
                "host": "127.0.0.1",
                "port": port.number,
                "timeout_s": 0.1,
                "silence_s": 0.005,
            },
            tmp_path,
        )
        async with ModbusDriver.open(settings) as line:
            meter = line.meters[MeterSerial("M1")]
            for _ in range(3):
                port.hang_up_on_next = True
                assert len(await meter.read(_FAST)) == 3
        assert port.connections == 4
