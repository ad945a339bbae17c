"""Times as meters write them, to UTC. Pure.

IEC 62056-21 leaves the form to the maker. What is understood are year, month and day in this order and hour,
minute and second, with or without signs between them, and the two ways in which makers tell summer time: a
digit before (0 standard time, 1 summer time, 2 UTC: VDEW's and with it most makers'), or a letter behind (W, S:
DSMR's).
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from openami.gateway.drivers.iec62056.errors import WrongValue

UTC_OFFSET_MINUTES_MIN, UTC_OFFSET_MINUTES_MAX = -12 * 60, 14 * 60  # the earth's
_CENTURY: Final = 2000
_SUMMER_MINUTES: Final = 60  # everywhere but on Lord Howe Island

_SEASON = r"(?P<season>[012])?"
_YEAR_MONTH_DAY = r"(?P<year>(?:20)?\d\d)(?P<sign>[-/.]?)(?P<month>\d\d)(?P=sign)(?P<day>\d\d)"
_CLOCK = r"(?P<hour>\d\d)(?P<colon>:?)(?P<minute>\d\d)(?P=colon)(?P<second>\d\d)"
_date = re.compile(_SEASON + _YEAR_MONTH_DAY, re.ASCII).fullmatch
_clock = re.compile(_SEASON + _CLOCK, re.ASCII).fullmatch
_both = re.compile(
    _SEASON + _YEAR_MONTH_DAY + r"[ ,T]?" + _CLOCK + r"(?P<letter>[SW])?", re.ASCII
).fullmatch


@dataclass(frozen=True, slots=True)
class Zone:
    """How a meter's times are to be understood."""

    utc_offset_minutes: int | None = None
    """Its standard time minus UTC; without it a time is told as the meter has it, in no zone."""


def read_time(date_and_clock: str, zone: Zone) -> datetime:
    """Return the time of one data set: ``260622143000``, ``2026-06-22 14:30:00``. Raises WrongValue."""
    found = _both(date_and_clock.strip())
    if found is None:
        raise WrongValue(f"{date_and_clock!r} is no date and time that is understood")
    told = found.groupdict()
    return _time(told, told, told["letter"] or told["season"], zone)


def read_time_of_two(date: str, clock: str, zone: Zone) -> datetime:
    """Return the time of two data sets, 0.9.2 and 0.9.1. Raises WrongValue."""
    day, hour = _date(date.strip()), _clock(clock.strip())
    if day is None or hour is None:
        raise WrongValue(f"{date!r} and {clock!r} are no date and time that are understood")
    return _time(day.groupdict(), hour.groupdict(), hour["season"] or day["season"], zone)


_Told = dict[str, str | None]


def _time(date: _Told, clock: _Told, season: str | None, zone: Zone) -> datetime:
    year, month, day = (int(date[part] or 0) for part in ("year", "month", "day"))
    hour, minute, second = (int(clock[part] or 0) for part in ("hour", "minute", "second"))
    try:
        local = datetime(  # noqa: DTZ001
            year if year >= _CENTURY else year + _CENTURY, month, day, hour, minute, second
        )
        return _in_utc(local, season, zone)
    except (ValueError, OverflowError):
        raise WrongValue("the meter's clock tells a time that does not exist") from None


def _in_utc(local: datetime, season: str | None, zone: Zone) -> datetime:
    if season == "2":
        return local.replace(tzinfo=UTC)
    if zone.utc_offset_minutes is None:
        return local
    summer = _SUMMER_MINUTES if season in ("1", "S") else 0
    return (local - timedelta(minutes=zone.utc_offset_minutes + summer)).replace(tzinfo=UTC)
