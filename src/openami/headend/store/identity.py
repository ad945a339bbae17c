"""What a reading is to the store: its key, its value in one column, its flags in one number. Pure.

The key begins with a *bucket* of measured time (decision 0012). A key that begins with the series lets
every insert touch a page of its own, which at 20 million rows costs eight times the speed and four hundred
times the writes; a key that begins with the bare time makes a month of one register slow to read.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from openami.profile import Quality, Value

# Long enough that a month of one register is 180 seeks, short enough that what a village sends now stays
# in few pages: 16 rows a series at 15 minutes. Part of the schema: never changed, only migrated.
BUCKET_HOURS: Final = 4
BUCKET_MS: Final = BUCKET_HOURS * 3_600_000

# A bucket is the hours around its moment, so that its milliseconds need three bytes with their sign.
_HALF_BUCKET_MS: Final = BUCKET_MS // 2
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS_OF_A_DAY: Final = 86_400_000
_MILLISECOND: Final = timedelta(milliseconds=1)

# flags: bits 0 and 1 the quality, bits 2 and 3 the JSON type, from bit 4 the number of the unit, 0 when it is
# the series' own: a good float in its usual unit is 0, which takes no byte. The view `readings` reads them.
QUALITY_MASK: Final = 0b11
_KIND_SHIFT: Final = 2
KIND_MASK: Final = 0b1100
UNIT_SHIFT: Final = 4

# Worst last: the latest reading shows the worst that was told of its moment.
_QUALITIES: Final = (Quality.GOOD, Quality.SUSPECT, Quality.COMMS_LOST)
_GOOD, _SUSPECT, _COMMS_LOST = range(3)
COMMS_LOST_RANK: Final = _COMMS_LOST
SUSPECT_RANK: Final = _SUSPECT
_RANK_OF: Final = {quality: rank for rank, quality in enumerate(_QUALITIES)}

Number = int | float
_FLOAT, _INT, _BOOL, _TEXT = range(4)
# Numbers as they lie in the flags are less than this.
FIRST_KIND_OF_NO_NUMBER: Final = _BOOL << _KIND_SHIFT
_KIND_OF: Final[dict[type, int]] = {float: _FLOAT, int: _INT, bool: _BOOL, str: _TEXT}

_OF_KIND: Final[tuple[Callable[[Number], Value], ...]] = (float, int, bool)

Stored = Number | str
"""A value as it lies in its column; the flags tell ``true`` from 1 and 1 from 1.0."""


def to_ms(moment: datetime) -> int:
    """Return milliseconds since 1970, in UTC; finer digits are cut off, in exact arithmetic."""
    since = moment - _EPOCH
    return since.days * _MS_OF_A_DAY + since.seconds * 1000 + since.microseconds // 1000


def from_ms(ms: int) -> datetime:
    """Return the moment, in UTC."""
    return _EPOCH + ms * _MILLISECOND


def place(ms: int) -> tuple[int, int]:
    """Return where in the key a moment is: its bucket, and its distance from the bucket's middle.

    A pure function of the measured time, so a reading never moves.
    """
    bucket, beyond = divmod(ms + _HALF_BUCKET_MS, BUCKET_MS)
    return bucket, beyond - _HALF_BUCKET_MS


def ms_at(bucket: int, ms: int) -> int:
    """Return the moment at a place of the key."""
    return bucket * BUCKET_MS + ms


def day_of(ms: int) -> str:
    """Return the UTC day of a moment: ``2026-06-22``."""
    return from_ms(ms).date().isoformat()


def flags_of(kind: type, quality: Quality, unit_id: int) -> int:
    """Pack what is known of a value beside the value itself."""
    return _RANK_OF[quality] | _KIND_OF[kind] << _KIND_SHIFT | unit_id << UNIT_SHIFT


def in_own_unit(flags: int, unit_id: int) -> int:
    """Return the flags of a reading of a series that usually has this unit."""
    return flags - (unit_id << UNIT_SHIFT) if flags >> UNIT_SHIFT == unit_id else flags


def rank_of(flags: int) -> int:
    """Return how bad the quality is; 0 is good."""
    return flags & QUALITY_MASK


def quality_of(flags: int) -> Quality:
    """Return the quality."""
    return _QUALITIES[flags & QUALITY_MASK]


def is_number(flags: int) -> bool:
    """Return whether the value is a number: neither truth nor text."""
    return (flags & KIND_MASK) < FIRST_KIND_OF_NO_NUMBER


def stored_value(value: Value) -> Stored:
    """Return a value as its column holds it."""
    if isinstance(value, str):
        return storable_text(value)
    return int(value) if isinstance(value, bool) else value


def value_of(number: Stored | None, text: str | None, flags: int) -> Value:
    """Return the value that was told, in its JSON type. SQLite gives both kinds as ``number``."""
    stored = number if text is None else text
    kind = (flags & KIND_MASK) >> _KIND_SHIFT
    if kind == _TEXT:
        assert isinstance(stored, str)
        return stored
    assert isinstance(stored, int | float)
    return _OF_KIND[kind](stored)


def stored_as_told(stored: Stored, flags: int) -> Stored:
    """Return a value from a column that holds only one type of number, as a column of any type holds it.

    What does not fit its flags exactly stays as it is.
    """
    if isinstance(stored, str):
        return stored
    if (flags & KIND_MASK) >> _KIND_SHIFT == _FLOAT:
        return float(stored) if float(stored) == stored else stored
    return int(stored) if isinstance(stored, int) or stored.is_integer() else stored


def same_value(one: Stored, its_flags: int, other: Stored, other_flags: int) -> bool:
    """Return whether two deliveries tell the same: equal numbers are, whatever they are written as.

    ``true`` is not 1, and 5 Wh are not 5 kWh.
    """
    return one == other and sort_of(its_flags) == sort_of(other_flags)


def sort_of(flags: int) -> int:
    """Return unit and kind of a value, in which an int and a float are one kind: a number."""
    kind = (flags & KIND_MASK) >> _KIND_SHIFT
    return flags >> UNIT_SHIFT << _KIND_SHIFT | (_FLOAT if kind == _INT else kind)


def settled(flags: int, told: int) -> int:
    """Return the stored reading's flags after the same value was told with another quality.

    Independent of the order (see the package): ``comms_lost`` only repeats and gives way to what was
    said of the measurement; of ``good`` and ``suspect``, ``suspect`` stays.
    """
    ranks = {rank_of(flags), rank_of(told)} - {_COMMS_LOST}
    rank = max(ranks, default=_COMMS_LOST)
    return flags & ~QUALITY_MASK | rank


def storable_text(text: str) -> str:
    """Return a text every engine takes: PostgreSQL refuses U+0000, UTF-8 refuses half a surrogate pair."""
    if text.isascii():
        return text.replace("\0", "\N{SYMBOL FOR NULL}")
    return text.replace("\0", "\N{SYMBOL FOR NULL}").encode("utf-8", "replace").decode()
