"""SunSpec meters on a line: found out once, held to what they are, and noticed when they are others."""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest
from tests.drivers.line_double import DoubleMeter, Fault, LineDouble, Port, Pty, on_port, on_pty
from tests.drivers.sunspec_bench import (
    BASE,
    END,
    common,
    double,
    meter_203,
    meter_213,
    placed,
)

from openami.gateway.driver import (
    DriverError,
    IdentityMismatch,
    Line,
    LineSettings,
    MeterRefused,
    MeterSettings,
    MeterSilent,
)
from openami.gateway.drivers.modbus import ModbusDriver
from openami.profile import MeterSerial, Obis

_SERIAL = MeterSerial("SS-1")
_FAST = ("32.7.0", "31.7.0", "16.7.0")
_VALUES = {3: 4130, 6: -3, 8: 2305, 15: -1, 18: -951, 22: 0, 46: 0x1C, 47: 0x1D44, 54: 0}
_FLOATS = {4: 2.5, 12: 229.0, 28: 575.0, 68: 7000.0}
_HEADER_AT = BASE + 2 + 68


@dataclass
class Bus:
    """A line with one meter, and what it was asked."""

    double: LineDouble
    port: Port | Pty
    line: Line

    async def read(self, *codes: str) -> Mapping[str, str]:
        readings = await self.line.meters[_SERIAL].read([Obis.parse(code) for code in codes])
        return {str(reading.obis): str(reading.value) for reading in readings}

    async def until_read(self, *codes: str) -> Mapping[str, str]:
        """Read again and again, as a gateway does, until there is an answer; two seconds at the most."""
        for _ in range(40):
            with suppress(DriverError):
                return await self.read(*codes)
            await asyncio.sleep(0.05)
        return await self.read(*codes)

    def place(self, registers: Mapping[int, int]) -> None:
        self.double.meters[1] = double(registers)

    def drop(self, question: int) -> None:
        """Let the answer to this question get lost, and no other."""
        self.double.script = lambda number: (
            Fault.DROP if number == question else Fault.NONE,
            0.0,
        )

    async def questions(self, *codes: str) -> int:
        """Read, and return how many questions that took."""
        before = self.double.questions
        await self.read(*codes)
        return self.double.questions - before


@asynccontextmanager
async def bus(meter: DoubleMeter, **options: object) -> AsyncIterator[Bus]:
    bench = LineDouble({1: meter})
    bench.mbap = True
    async with on_port(bench) as port:
        settings = LineSettings(
            "bus",
            [MeterSettings(_SERIAL, {"unit": 1, "map": "sunspec", **options})],
            {
                "transport": "tcp",
                "host": "127.0.0.1",
                "port": port.number,
                "timeout_s": 0.1,
                "silence_s": 0.01,
                "late_reply_s": 0.2,
                "silent_share": 1.0,
            },
        )
        async with ModbusDriver.open(settings) as line:
            yield Bus(bench, port, line)


def sound(serial: str = "SN-1", base: int = BASE) -> dict[int, int]:
    return placed(common(serial), meter_203(_VALUES), END, base=base)


async def test_the_chain_is_walked_once_and_then_a_poll_is_one_question() -> None:
    async with bus(double(sound())) as on:
        # In step, marker, two headers, the end, the common model, who it is; and the values.
        assert await on.questions(*_FAST) == 8
        assert await on.read(*_FAST) == {"32.7.0": "230.5", "31.7.0": "4.130", "16.7.0": "-0.951"}
        assert await on.questions(*_FAST) == 1
        assert await on.questions("1.8.0") == 1
        assert await on.questions("1.8.0", "1.7.0", "32.7.0", "14.7.0") == 1


@pytest.mark.parametrize("base", [0, 50_000])
async def test_a_meter_is_found_at_the_other_bases(base: int) -> None:
    async with bus(double(sound(base=base))) as on:
        assert await on.read("32.7.0") == {"32.7.0": "230.5"}


@pytest.mark.parametrize("base", [0, 50_000])
async def test_a_meter_that_is_silent_about_what_it_does_not_have_is_found(base: int) -> None:
    meter = double(sound(base=base))
    meter.silent_about_missing = True
    async with bus(meter) as on:
        assert await on.until_read("32.7.0") == {"32.7.0": "230.5"}


async def test_where_the_chain_begins_can_be_configured() -> None:
    async with bus(double(sound(base=1234)), bases=[1234]) as on:
        assert await on.read("32.7.0") == {"32.7.0": "230.5"}
        assert await on.questions("32.7.0") == 1


async def test_which_model_is_read_can_be_configured() -> None:
    both = placed(common("SN-1"), meter_213(_FLOATS), meter_203(_VALUES), END)
    async with bus(double(both), model=203) as on:
        assert await on.read("32.7.0") == {"32.7.0": "230.5"}
    async with bus(double(both)) as on:
        assert await on.read("32.7.0") == {"32.7.0": "229.00"}
    async with bus(double(both), model=201) as on:
        with pytest.raises(MeterRefused, match="models 1, 213, 203, and none is 201"):
            await on.read("32.7.0")


async def test_what_is_no_sunspec_meter_is_said_so() -> None:
    async with bus(double(dict.fromkeys(range(200), 7))) as on:
        with pytest.raises(MeterRefused, match="no SunSpec marker at 40000, 50000, 0"):
            await on.read("32.7.0")


async def test_codes_that_no_sunspec_meter_has_cost_no_question() -> None:
    async with bus(double(sound())) as on:
        assert await on.questions("19.10.0", "96.3.10") == 0


# --- a meter that is another ---------------------------------------------------------------------


async def test_a_meter_of_another_model_is_noticed_by_the_next_read() -> None:
    """The old layout gives no value any more; the read after finds the new one."""
    async with bus(double(sound(""))) as on:
        await on.read(*_FAST)
        on.place(placed(common(""), meter_213(_FLOATS), END))
        with pytest.raises(MeterRefused, match="no longer has its models where they were"):
            await on.read(*_FAST)
        assert await on.read(*_FAST) == {
            "32.7.0": "229.00",
            "31.7.0": "2.500",
            "16.7.0": "0.5750",
        }


@pytest.mark.parametrize("base", [0, 50_000])
async def test_a_chain_that_is_somewhere_else_is_noticed(base: int) -> None:
    async with bus(double(sound(""))) as on:
        await on.read(*_FAST)
        on.place(sound("", base=base))
        with pytest.raises(MeterRefused, match="no longer has its models where they were"):
            await on.read(*_FAST)
        assert await on.read("32.7.0") == {"32.7.0": "230.5"}
        assert await on.questions("32.7.0") == 1


async def test_a_model_put_before_the_meters_is_noticed() -> None:
    """A firmware that tells one model more moves the meter's: what stands there now is not taken for it."""
    async with bus(double(sound())) as on:
        await on.read(*_FAST)
        on.place(placed(common("SN-1"), (12, 4, 1, 2, 3, 4), meter_203(_VALUES), END))
        with pytest.raises(MeterRefused, match="no longer has its models"):
            await on.read(*_FAST)
        assert await on.read("1.8.0") == {"1.8.0": "1842.500"}


@pytest.mark.parametrize("options", [{"identity": "SN-1"}, {}], ids=["configured", "told"])
async def test_a_meter_that_keeps_its_serial_and_not_its_place_is_found_again(
    options: dict[str, object],
) -> None:
    """After a lost answer it is asked who it is, where it was told before, and nothing is there any more."""
    async with bus(double(sound()), **options) as on:
        await on.read("32.7.0")
        on.place(sound(base=0))
        on.drop(on.double.questions)
        with pytest.raises(DriverError):
            await on.read("32.7.0")
        assert await on.until_read("32.7.0") == {"32.7.0": "230.5"}


async def test_so_is_one_that_came_back_with_a_new_connection() -> None:
    async with bus(double(sound())) as on:
        await on.read("32.7.0")
        assert isinstance(on.port, Port)
        await on.port.close()
        on.place(sound(base=0))
        await on.port.listen()
        with pytest.raises(MeterRefused, match="refuses holding registers 40052 to 40067"):
            await on.read("32.7.0")
        assert await on.read("32.7.0") == {"32.7.0": "230.5"}


async def test_a_meter_that_is_silent_where_it_was_is_looked_for_elsewhere() -> None:
    async with bus(double(sound())) as on:
        await on.read("32.7.0")
        on.place(sound(base=0))
        on.double.meters[1].silent_about_missing = True
        assert await on.until_read("32.7.0") == {"32.7.0": "230.5"}


async def test_a_busy_meter_is_not_taken_for_another() -> None:
    async with bus(double(sound())) as on:
        await on.read(*_FAST)
        on.double.script = lambda _: (Fault.EXCEPTION, 0.0)
        with pytest.raises(MeterRefused, match="exception 6"):
            await on.read(*_FAST)
        on.double.script = lambda _: (Fault.NONE, 0.0)
        assert await on.questions(*_FAST) == 1


async def test_the_configured_serial_is_asked_for_before_any_value() -> None:
    async with bus(double(sound()), identity="SN-2") as on:
        with pytest.raises(IdentityMismatch, match="'SN-1', configured is 'SN-2'"):
            await on.read(*_FAST)


async def test_a_meter_without_a_serial_is_not_the_one_that_is_configured() -> None:
    async with bus(double(sound("")), identity="SN-2") as on:
        with pytest.raises(IdentityMismatch):
            await on.read(*_FAST)
    short = placed(common("SN-1", length=40), meter_203(_VALUES), END)
    async with bus(double(short), identity="SN-1") as on:
        with pytest.raises(MeterRefused, match="40 registers, too short for a serial number"):
            await on.read(*_FAST)


async def test_a_meter_is_held_to_the_serial_it_first_told() -> None:
    """Nobody configured one: a swap behind a silence is no less a swap."""
    async with bus(double(sound("SN-1"))) as on:
        await on.read(*_FAST)
        on.double.meters[1].silent = True
        with pytest.raises(MeterSilent):
            await on.read(*_FAST)
        on.place(sound("SN-7"))
        await asyncio.sleep(0.2)  # until no late answer is to be feared
        with pytest.raises(IdentityMismatch) as refused:
            await on.read(*_FAST)
        assert (refused.value.expected, refused.value.found) == ("SN-1", "SN-7")


# --- late answers --------------------------------------------------------------------------------


async def test_the_walk_keeps_off_the_shape_that_went_unanswered() -> None:
    """Its answer may still come, and would look like any other header's."""
    registers, asked = sound(), dict[int, list[int]]()

    def word(address: int, question: int) -> int:
        asked.setdefault(question, []).append(address)
        return registers[address]

    async with bus(DoubleMeter(word)) as on:
        on.drop(2)  # in step, marker, and the first header
        assert await on.read("32.7.0") == {"32.7.0": "230.5"}
    lengths = [len(addresses) for addresses in asked.values()]
    assert lengths[:3] == [2, 2, 2]
    assert 2 not in lengths[3:]
    assert len(lengths) == 3 + 8


async def test_a_refusal_that_may_be_a_late_one_ends_no_chain() -> None:
    """A chain that just ends is known by an exception, which has no shape: it is not believed while one is due."""
    async with bus(double(placed(common("SN-1"), meter_203(_VALUES)))) as on:
        on.drop(2)
        with pytest.raises(MeterRefused, match="late answers could be mistaken"):
            await on.read("32.7.0")
        assert await on.until_read("32.7.0") == {"32.7.0": "230.5"}


# --- values --------------------------------------------------------------------------------------


async def test_a_value_is_never_scaled_by_another_readings_factor() -> None:
    """A meter that changes its range with every question: 230.5 V and 4.13 A in one digit more or less."""
    registers = sound()

    def ranging(address: int, asked: int) -> int:
        fine = asked % 2
        told = {
            _HEADER_AT + 3: 4130 if fine else 413,
            _HEADER_AT + 6: 0xFFFD if fine else 0xFFFE,
            _HEADER_AT + 8: 23050 if fine else 2305,
            _HEADER_AT + 15: 0xFFFE if fine else 0xFFFF,
            _HEADER_AT + 46: 0x1C if fine else 2,
            _HEADER_AT + 47: 0x1D44 if fine else 0xCFBA,
            _HEADER_AT + 54: 0 if fine else 1,
        }
        return told.get(address, registers[address])

    async with bus(DoubleMeter(ranging)) as on:
        seen: set[tuple[str, ...]] = set()
        for codes in (("31.7.0", "32.7.0", "1.8.0"), ("1.8.0",), ("31.7.0",), ("32.7.0", "1.8.0")):
            for _ in range(6):
                told = await on.read(*codes)
                seen.add(tuple(told.values()))
                for code, value in told.items():
                    right = {"31.7.0": "4.13", "32.7.0": "230.5", "1.8.0": "1842.5"}[code]
                    assert Decimal(value) == Decimal(right), (code, value)
        assert ("4.130",) in seen
        assert ("4.13",) in seen


async def test_an_impossible_scale_factor_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    registers = sound()
    registers[_HEADER_AT + 15] = 37
    with caplog.at_level(logging.WARNING, logger="openami"):
        async with bus(double(registers)) as on:
            for _ in range(3):
                assert await on.read("32.7.0", "31.7.0") == {"31.7.0": "4.130"}
    told = [r.reason for r in caplog.records if "scale factor" in r.message]  # type: ignore[attr-defined]
    assert told == ["meter SS-1 (unit 1): 0x0025 for 32.7.0"]


@pytest.mark.slow
async def test_no_fault_of_the_line_becomes_a_value(tmp_path: Path) -> None:
    """Late, lost, cut, noisy and foreign answers while meters are found out, read, and swapped for one another.

    A value tells whose it is: the two meters of a place differ in model and in every digit.
    """
    rng = random.Random(7)
    faults = (Fault.LATE, Fault.DROP, Fault.TRUNCATE, Fault.BAD_CRC, Fault.NOISE, Fault.EXCEPTION)

    def script(_: int) -> tuple[Fault, float]:
        return (rng.choice(faults), rng.choice((0.03, 0.1))) if rng.random() < 0.08 else _SOUND

    kinds = {
        "integers": (
            placed(common(""), meter_203(_VALUES), END),
            {"32.7.0": "230.5", "31.7.0": "4.130", "16.7.0": "-0.951", "1.8.0": "1842.500"},
        ),
        "floats": (
            placed(common(""), (12, 4, 1, 2, 3, 4), meter_213(_FLOATS), END),
            {"32.7.0": "229.00", "31.7.0": "2.500", "16.7.0": "0.5750", "1.8.0": "7.000"},
        ),
    }
    bench = LineDouble({1: double(kinds["integers"][0])}, script)
    device = str(tmp_path / "tty")
    settings = LineSettings(
        "bus",
        [MeterSettings(_SERIAL, {"unit": 1, "map": "sunspec"})],
        {
            "transport": "rtu",
            "device": device,
            "timeout_s": 0.02,
            "silence_s": 0.01,
            "late_reply_s": 0.3,
            "silent_share": 1.0,
            "baudrate": 115200,
        },
    )
    values: Counter[str] = Counter()
    async with on_pty(bench, device) as pty, ModbusDriver.open(settings) as line:
        on = Bus(bench, pty, line)
        for poll in range(160):
            kind = "floats" if poll // 20 % 2 else "integers"
            registers, right = kinds[kind]
            if poll % 20 == 0:
                on.place(registers)
            await asyncio.sleep(0.005)
            try:
                told = await on.read(*rng.sample(list(right), rng.randint(1, 4)))
            except DriverError:
                continue
            assert told.items() <= right.items(), poll
            values[kind] += len(told)
    # How many depends on the machine's haste; that there are some of each says that they were found out.
    assert min(values[kind] for kind in kinds) > 5


_SOUND = (Fault.NONE, 0.0)
