"""SunSpec meters by hand: images of their registers, and two of them on a line, as the driver contract wants them.

Offsets are those of SunSpec's published tables, written out here: what the product reads from the model files is
held against them.
"""

import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

from tests.drivers.line_double import DoubleMeter, LineDouble
from tests.drivers.modbus_bench import ModbusBench, on_a_line

from openami.gateway.driver import MeterSettings
from openami.gateway.driver_contract import Value
from openami.profile import MeterSerial, Obis

SUNS = (0x5375, 0x6E53)
END = (0xFFFF, 0)
BASE = 40_000
_SERIALS = {MeterSerial("SS1000-1"): 1, MeterSerial("SS1000-2"): 2}
_NONE = 0x8000


def text(value: str, words: int) -> tuple[int, ...]:
    return struct.unpack(f">{words}H", value.encode().ljust(2 * words, b"\0"))


def common(serial: str, length: int = 66) -> tuple[int, ...]:
    """Model 1: Mn at 2, Md at 18, Opt at 34, Vr at 42, SN at 50, DA at 66, a pad at 67."""
    body = (
        *(*text("Maker", 16), *text("Model", 16), *text("", 8), *text("1.0", 8)),
        *(*text(serial, 16), 1, 0),
    )
    return (1, length, *body[:length])


def meter_203(values: Mapping[int, int], length: int = 105) -> tuple[int, ...]:
    """Model 203 with these words at these offsets from its id; all else is not implemented."""
    words = [_NONE] * 38 + [0] * 16 + [_NONE] + [0] * 16 + [_NONE] + [0] * 32 + [_NONE, 0, 0]
    words[:2] = 203, length
    for offset, word in values.items():
        words[offset] = word & 0xFFFF
    return tuple((words + [0] * length)[: length + 2])


def meter_213(values: Mapping[int, float], length: int = 124) -> tuple[int, ...]:
    """Model 213 with these floats at these offsets; all else is NaN."""
    words = [213, length] + [0x7FC0, 0] * 61 + [0, 0]
    for offset, value in values.items():
        words[offset : offset + 2] = struct.unpack(">2H", struct.pack(">f", value))
    return tuple((words + [0] * length)[: length + 2])


def placed(*parts: tuple[int, ...], base: int = BASE) -> dict[int, int]:
    """Return registers by address: the marker at the base, and behind it what is given."""
    words = [word for part in (SUNS, *parts) for word in part]
    return dict(enumerate(words, start=base))


def double(registers: Mapping[int, int]) -> DoubleMeter:
    return DoubleMeter(lambda address, _: registers[address])


def _meter(name: str) -> DoubleMeter:
    unit = int(name[-1])
    values = {
        3: 4130 + unit,
        6: -3,
        8: 2300 + unit,
        15: -1,
        18: -unit,
        22: 1,
        46: 2,
        47: unit,
        54: -2,
    }
    return double(placed(common(name), meter_203(values), END))


class SunSpecBench(ModbusBench):
    def values(self, serial: MeterSerial) -> Mapping[Obis, Value]:
        unit = _SERIALS[serial]
        held: dict[str, Value] = {
            "31.7.0": Decimal(4130 + unit) / 1000,
            "32.7.0": Decimal(2300 + unit) / 10,
            "1.7.0": Decimal("0.00"),
            "2.7.0": Decimal(unit) / 100,
            "16.7.0": Decimal(-unit) / 100,
            "1.8.0": Decimal(0x20000 + unit) / 100_000,
            "96.5.0": 0,
        }
        return {Obis.parse(code): value for code, value in held.items()}

    def _place(self, serial: MeterSerial, meter: DoubleMeter) -> None:
        self._double.meters[_SERIALS[serial]] = meter

    async def silence(self, serial: MeterSerial) -> None:
        self._double.meters[_SERIALS[serial]].silent = True

    async def restore(self, serial: MeterSerial) -> None:
        self._place(serial, _meter(f"SN-00{_SERIALS[serial]}"))

    async def exchange(self, serial: MeterSerial) -> bool:
        self._place(serial, _meter("SN-999"))
        return True


@asynccontextmanager
async def sunspec_bench(transport: str, place: Path) -> AsyncIterator[SunSpecBench]:
    bus = LineDouble({unit: _meter(f"SN-00{unit}") for unit in _SERIALS.values()})
    meters = [
        MeterSettings(serial, {"unit": unit, "map": "sunspec", "identity": f"SN-00{unit}"})
        for serial, unit in _SERIALS.items()
    ]
    async with on_a_line(transport, place, bus, meters) as (settings, end):
        yield SunSpecBench(settings, bus, end)
