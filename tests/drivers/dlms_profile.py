"""A DLMS meter that captures its counter by a clock of its own: class 8, and class 7 with its rows."""

import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from tests.drivers.dlms_double import DlmsDouble, named, number, scaler, text

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
