"""Months of measured time, by the bucket of a reading: what is made ahead and removed in one piece. Pure.

A month is a number, twelve times the year and the month from 0, so that the next one is one more. Its buckets are
those from its first midnight by UTC on; a bucket is the hours around its moment (`identity`), so a month begins two
hours before that midnight.
"""

from datetime import UTC, date, datetime
from typing import Final

from openami.headend.store.identity import BUCKET_HOURS

BUCKETS_A_DAY: Final = 24 // BUCKET_HOURS

_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_FIRST_DAY: Final = date.min.toordinal() - _EPOCH_DAY
_LAST_DAY: Final = date.max.toordinal() - _EPOCH_DAY
# What lies beyond the calendar belongs to its first and its last month, as far as four bytes reach.
FIRST_MONTH: Final = date.min.year * 12
LAST_MONTH: Final = date.max.year * 12 + 11
FIRST_BUCKET: Final = -(2**31)
LAST_BUCKET: Final = 2**31 - 1


def month_of(moment: date) -> int:
    """Return the month of a day, or of a moment in UTC."""
    return moment.year * 12 + moment.month - 1


def month_of_bucket(bucket: int) -> int:
    """Return the month a bucket belongs to."""
    day = max(_FIRST_DAY, min(bucket // BUCKETS_A_DAY, _LAST_DAY))
    return month_of(date.fromordinal(day + _EPOCH_DAY))


def buckets_of(month: int) -> range:
    """Return the buckets of a month."""
    return range(_first_bucket(month), _first_bucket(month + 1))


def midnight_of(month: int) -> datetime:
    """Return when a month begins, in UTC."""
    return datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)


def month_name(month: int) -> str:
    """Name a month: ``2026-11``."""
    return f"{month // 12:04}-{month % 12 + 1:02}"


def _first_bucket(month: int) -> int:
    if month <= FIRST_MONTH:
        return FIRST_BUCKET
    if month > LAST_MONTH:
        return LAST_BUCKET + 1
    return BUCKETS_A_DAY * (date(month // 12, month % 12 + 1, 1).toordinal() - _EPOCH_DAY)
