"""A DLMS meter that captures its counter by a clock of its own: class 8, and class 7 with its rows."""

import struct
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from tests.drivers.dlms_bench import UNITS, DlmsBench, address, dlms_bench
from tests.drivers.dlms_double import DlmsDouble, named, number, scaler, text

from openami.gateway.driver_contract import Value
from openami.gateway.profile_contract import Captured
from openami.profile import MeterSerial, Obis

ENERGY = named("1.0.1.8.0.255")
_VOLTAGE, _SERIAL = named("1.0.32.7.0.255"), named("0.0.96.1.0.255")
_CLOCK, _PROFILE = named("0.0.1.0.0.255"), named("1.0.99.1.0.255")
_WATTS = 1200
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def energy_wh(at: datetime) -> int:
    """What the counter stands at: it grows with the time and nothing else."""
    return int((at - datetime(2026, 1, 1, tzinfo=UTC)).total_seconds()) * _WATTS // 3600


def date_time(at: datetime, offset_minutes: int) -> bytes:
    """Twelve bytes by IEC 62056-6-2: local time, and what has to be added to it for UTC."""
    local = at + timedelta(minutes=offset_minutes)
    return struct.pack(
        ">HBBBBBBBhB",
        *(local.year, local.month, local.day, local.isoweekday()),
        *(local.hour, local.minute, local.second, 0, -offset_minutes, 0),
    )


def octets(value: bytes) -> bytes:
    return bytes((9, len(value))) + value


def profile_meter(
    now: Callable[[], datetime],
    *,
    serial: str,
    period_s: int,
    rows: int,
    offset_minutes: int = 330,
) -> DlmsDouble:
    """A meter whose load profile holds its last rows; it gives them all, whatever range is asked for."""

    def buffer(_: int) -> bytes:
        newest = int((now() - _EPOCH).total_seconds()) // period_s
        told = bytes((1, rows))
        for number_ in range(newest - rows + 1, newest + 1):
            at = _EPOCH + timedelta(seconds=number_ * period_s)
            told += b"\x02\x02" + octets(date_time(at, offset_minutes)) + number(energy_wh(at))
        return told

    def column(class_id: int, name: bytes) -> bytes:
        return b"\x02\x04\x12" + struct.pack(">H", class_id) + octets(name) + b"\x0f\x02\x12\0\0"

    return DlmsDouble(
        {
            (1, _SERIAL, 2): lambda _: text(serial),
            (3, ENERGY, 2): lambda _: number(energy_wh(now())),
            (3, ENERGY, 3): lambda _: scaler(0, 30),
            (3, _VOLTAGE, 2): lambda _: number(2301),
            (3, _VOLTAGE, 3): lambda _: scaler(-1, 35),
            (8, _CLOCK, 2): lambda _: octets(date_time(now(), offset_minutes)),
            (7, _PROFILE, 2): buffer,
            (7, _PROFILE, 3): lambda _: b"\x01\x02" + column(8, _CLOCK) + column(3, ENERGY),
            (7, _PROFILE, 4): lambda _: number(period_s),
        }
    )


NOW = datetime(2026, 6, 1, 12, 7, 30, tzinfo=UTC)
_PERIOD_S, _ROWS = 900, 9
_IMPORT = Obis.parse("1.8.0")


class DlmsProfileBench(DlmsBench):
    """The bench with meters whose time stands still, and whose load profile goes back two hours."""

    def put(self, unit: int, name: str) -> None:
        meter = profile_meter(lambda: NOW, serial=name, period_s=_PERIOD_S, rows=_ROWS)
        self.bus.meters[address(unit, self._transport)] = meter

    def values(self, serial: MeterSerial) -> Mapping[Obis, Value]:
        return {_IMPORT: Decimal(energy_wh(NOW)) / 1000}

    def captured(self, serial: MeterSerial) -> Sequence[Captured]:
        newest = int(NOW.timestamp()) // _PERIOD_S
        times = (
            datetime.fromtimestamp(number_ * _PERIOD_S, UTC)
            for number_ in range(newest - _ROWS + 1, newest + 1)
        )
        return [Captured(at, _IMPORT, Decimal(energy_wh(at)) / 1000) for at in times]

    def clock(self, serial: MeterSerial) -> datetime:
        told = self.meter(serial).objects[8, _CLOCK, 2](0)[2:]
        year, month, day, _, hour, minute, second, _, deviation, _ = struct.unpack(
            ">HBBBBBBBhB", told
        )
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC) + timedelta(
            minutes=deviation
        )

    async def restore(self, serial: MeterSerial) -> None:
        self.put(UNITS[serial], f"KS-00{UNITS[serial]}")

    async def exchange(self, serial: MeterSerial) -> bool:
        self.put(UNITS[serial], "KS-999")
        return True


@asynccontextmanager
async def dlms_profile_bench(transport: str, place: Path) -> AsyncIterator[DlmsProfileBench]:
    async with dlms_bench(transport, place, DlmsProfileBench) as bench:
        assert isinstance(bench, DlmsProfileBench)
        for unit in UNITS.values():
            bench.put(unit, f"KS-00{unit}")
        yield bench
