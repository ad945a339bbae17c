"""DLMS Data and A-XDR, as far as a meter speaks them (IEC 62056-6-2, clause 4.1). Pure.

One function writes each type; a reader takes apart what a client may send. What is cut short or of another type is
Malformed, which a meter answers with a refusal.
"""

import struct
from datetime import UTC, datetime, timedelta
from typing import Final

_LONG_FORM: Final = 0x80
_ARRAY, _STRUCTURE, _OCTET_STRING, _INTEGER, _UNSIGNED = 1, 2, 9, 15, 17
_DATE_TIME: Final = struct.Struct(">HBBBBBBBhB")


class Malformed(ValueError):
    """What came is no message, or no value of the type that was due."""


def lengthened(octets: bytes) -> bytes:
    """Return octets with their length before them."""
    return length(len(octets)) + octets


def length(count: int) -> bytes:
    if count < _LONG_FORM:
        return bytes((count,))
    size = -(-count.bit_length() // 8)
    return bytes((_LONG_FORM + size,)) + count.to_bytes(size, "big")


# --- written -------------------------------------------------------------------------------------


def null() -> bytes:
    return b"\x00"


def array(*items: bytes) -> bytes:
    return bytes((_ARRAY,)) + length(len(items)) + b"".join(items)


def structure(*items: bytes) -> bytes:
    return bytes((_STRUCTURE,)) + length(len(items)) + b"".join(items)


def boolean(value: bool) -> bytes:
    return bytes((3, value))


def octet_string(value: bytes) -> bytes:
    return bytes((_OCTET_STRING,)) + lengthened(value)


def integer(value: int) -> bytes:
    return struct.pack(">Bb", _INTEGER, value)


def long_(value: int) -> bytes:
    return struct.pack(">Bh", 16, value)


def unsigned(value: int) -> bytes:
    return bytes((_UNSIGNED, value))


def long_unsigned(value: int) -> bytes:
    return struct.pack(">BH", 18, value)


def double_long_unsigned(value: int) -> bytes:
    return struct.pack(">BI", 6, value)


def enumerated(value: int) -> bytes:
    return bytes((22, value))


def date_time(at: datetime, utc_offset_minutes: int, *, status: int = 0) -> bytes:
    """Return a moment in a meter's local time: twelve octets, UTC = local time + deviation (clause 4.1.6.1)."""
    local = at.astimezone(UTC) + timedelta(minutes=utc_offset_minutes)
    return _DATE_TIME.pack(
        local.year,
        local.month,
        local.day,
        local.isoweekday(),
        local.hour,
        local.minute,
        local.second,
        local.microsecond // 10_000,
        -utc_offset_minutes,
        status,
    )


# --- read ----------------------------------------------------------------------------------------


class Octets:
    """Takes octets from the front. Raises Malformed for what is not there."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def __len__(self) -> int:
        return len(self._octets)

    def take(self, count: int) -> bytes:
        if count > len(self._octets):
            raise Malformed("it ends early")
        taken, self._octets = self._octets[:count], self._octets[count:]
        return taken

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def length(self) -> int:
        first = self.number(1)
        return first if first < _LONG_FORM else self.number(first - _LONG_FORM)

    def lengthened(self) -> bytes:
        return self.take(self.length())

    def rest(self) -> bytes:
        return self.take(len(self._octets))

    def octet_string(self) -> bytes:
        self._due(_OCTET_STRING)
        return self.lengthened()

    def integer(self) -> int:
        self._due(_INTEGER)
        return int.from_bytes(self.take(1), "big", signed=True)

    def unsigned(self, octets: int) -> int:
        """Read an unsigned number of so many octets, whatever its tag says of its size."""
        self._due({1: _UNSIGNED, 2: 18, 4: 6}[octets])
        return self.number(octets)

    def structure(self, count: int) -> None:
        """Read the head of a structure of so many elements."""
        self._due(_STRUCTURE)
        if self.length() != count:
            raise Malformed("a structure of another size")

    def _due(self, tag: int) -> None:
        if self.number(1) != tag:
            raise Malformed(f"a value of another type than {tag}")


def moment(octets: bytes, utc_offset_minutes: int) -> datetime:
    """Return a date-time in UTC; where it tells no deviation it is in the meter's local time.

    Raises Malformed.
    """
    try:
        year, month, day, _, hour, minute, second, hundredths, deviation, _ = _DATE_TIME.unpack(
            octets
        )
        local = datetime(
            year,
            month,
            day,
            hour,
            minute,
            0 if second == _ANY else second,
            0 if hundredths == _ANY else hundredths * 10_000,
            tzinfo=UTC,
        )
    except (struct.error, ValueError):
        raise Malformed("no date and time") from None
    offset = utc_offset_minutes if deviation == _UNSPECIFIED else -deviation
    return local - timedelta(minutes=offset)


_ANY: Final = 0xFF
_UNSPECIFIED: Final = -0x8000
