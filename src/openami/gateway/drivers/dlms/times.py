"""Times as meters tell them: COSEM date-time to UTC and back (IEC 62056-6-2, clause 4.1.6.1). Pure.

Twelve bytes: year, month, day, day of week, hour, minute, second, hundredths, deviation, status. The standard
says UTC = local time + deviation in minutes, so UTC+2 is −120. Some makers write it the other way round, and
some do not write it at all: both are options of the meter.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Final

from openami.gateway.drivers.dlms.data import Value
from openami.gateway.drivers.dlms.errors import WrongType

DATE_TIME_BYTES: Final = 12  # of the octet string, as above
_UNSPECIFIED: Final = 0xFF
_DEVIATION_UNSPECIFIED: Final = -0x8000
DEVIATION_MINUTES_MAX: Final = 14 * 60  # the earth's, from UTC−12 to UTC+14; more is noise
_INVALID, _DOUBTFUL, _SUMMER = 0x01, 0x02, 0x80


class DeviationSign(StrEnum):
    """What a meter's deviation is added to."""

    STANDARD = "standard"
    """UTC = local + deviation: UTC+2 is −120."""
    INVERTED = "inverted"
    """local = UTC + deviation: UTC+2 is +120, as some companion standards have it."""


@dataclass(frozen=True, slots=True)
class Zone:
    """How a meter's times are to be understood."""

    sign: DeviationSign = DeviationSign.STANDARD
    utc_offset_minutes: int | None = None
    """Local time minus UTC, of a meter that tells no deviation."""


@dataclass(frozen=True, slots=True)
class MeterTime:
    """A time a meter told. Without a time zone where neither it nor its options tell one."""

    at: datetime
    believed: bool
    """Whether it may be: the meter holds it for neither invalid nor doubtful, and its hour is one hour only."""


def read_time(value: Value, zone: Zone) -> MeterTime | None:
    """Return the time; None where the meter leaves it open. Raises WrongType."""
    if value is None:
        return None
    if not isinstance(value, bytes) or len(value) != DATE_TIME_BYTES:
        raise WrongType("a date-time has 12 bytes")
    year = int.from_bytes(value[0:2], "big")
    month, day, _, hour, minute, second, hundredths = value[2:9]
    deviation = int.from_bytes(value[9:11], "big", signed=True)
    status = value[11]
    if year == 0xFFFF or _UNSPECIFIED in (month, day, hour, minute):
        return None
    second, hundredths = (0 if part == _UNSPECIFIED else part for part in (second, hundredths))
    try:
        local = datetime(year, month, day, hour, minute, second, hundredths * 10_000)  # noqa: DTZ001
        at = _in_utc(local, deviation, zone)
    except (ValueError, OverflowError):
        raise WrongType(f"{value.hex()} is no date-time") from None
    # Summer time without its deviation: our option knows one offset, and an hour of autumn comes twice.
    doubts = _INVALID | _DOUBTFUL | (_SUMMER if deviation == _DEVIATION_UNSPECIFIED else 0)
    return MeterTime(at, status == _UNSPECIFIED or not status & doubts)


def told_offset_minutes(value: Value, zone: Zone) -> int | None:
    """Return local time minus UTC by a time a meter told; None where it tells no deviation."""
    if not isinstance(value, bytes) or len(value) != DATE_TIME_BYTES:
        return None
    deviation = int.from_bytes(value[9:11], "big", signed=True)
    if abs(deviation) > DEVIATION_MINUTES_MAX:
        return None
    return -deviation if zone.sign is DeviationSign.STANDARD else deviation


def _in_utc(local: datetime, deviation: int, zone: Zone) -> datetime:
    if deviation == _DEVIATION_UNSPECIFIED:
        if zone.utc_offset_minutes is None:
            return local
        offset = zone.utc_offset_minutes
    else:
        if abs(deviation) > DEVIATION_MINUTES_MAX:
            raise ValueError("a deviation that no place on earth has")
        offset = -deviation if zone.sign is DeviationSign.STANDARD else deviation
    return (local - timedelta(minutes=offset)).replace(tzinfo=UTC)


def write_time(at: datetime, zone: Zone, offset_minutes: int) -> bytes:
    """Return a moment as the meter is to have it: in the local time ``offset_minutes`` ahead of UTC."""
    local = at.astimezone(timezone(timedelta(minutes=offset_minutes)))
    deviation = -offset_minutes if zone.sign is DeviationSign.STANDARD else offset_minutes
    if zone.utc_offset_minutes is not None:
        deviation = _DEVIATION_UNSPECIFIED  # a meter that tells none is told none
    return (
        local.year.to_bytes(2, "big")
        + bytes(
            (
                local.month,
                local.day,
                local.isoweekday(),
                local.hour,
                local.minute,
                local.second,
                local.microsecond // 10_000,
            )
        )
        + deviation.to_bytes(2, "big", signed=True)
        + b"\x00"
    )
