"""DLMS Data: the values that attributes hold (IEC 62056-6-2, clause 4.1). Pure.

Read, a value becomes Python's own: None, bool, int, Decimal, str, bytes, a BitString, or a tuple of these.
What is written is built by one function per type. A value is read within bounds of depth and of number, so
that a meter, or noise that passes for one, cannot make the reader work without end.

A float is read as the shortest decimal that is that float: 49.98 and not 49.979999; NaN and the infinities,
which meters send for "none", as None.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from typing import Final, TypeAlias

from openami.gateway.drivers.dlms.axdr import Reader, length_of, octets_of
from openami.gateway.drivers.dlms.errors import UnfitAnswer

DEPTH_MAX: Final = 8  # the deepest of the classes we read, a profile's restricting object, has 4
ELEMENTS_MAX: Final = 65_536  # a profile of a month of quarter hours with 16 columns has 46,080


@dataclass(frozen=True, slots=True)
class BitString:
    """Bits as they come, the first at the left."""

    bits: str


Value: TypeAlias = bool | int | Decimal | str | bytes | BitString | tuple["Value", ...] | None

_NULL, _ARRAY, _STRUCTURE, _BOOLEAN, _BIT_STRING = 0, 1, 2, 3, 4
_OCTET_STRING, _VISIBLE_STRING, _UTF8_STRING, _BCD = 9, 10, 12, 13
_COMPACT_ARRAY, _FLOAT32, _FLOAT64 = 19, 23, 24
# Tag → bytes, signed.
_INTEGERS: Final[Mapping[int, tuple[int, bool]]] = {
    5: (4, True),
    6: (4, False),
    15: (1, True),
    16: (2, True),
    17: (1, False),
    18: (2, False),
    20: (8, True),
    21: (8, False),
    22: (1, False),  # enum
}
# Tag → bytes: date-time, date, time.
_DATES: Final[Mapping[int, int]] = {25: 12, 26: 5, 27: 4}


def read_data(reader: Reader) -> Value:
    """Take one value from the reader. Raises UnfitAnswer."""
    return _Values(reader).value(DEPTH_MAX)


class _Values:
    """Reads values and counts them."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._left = ELEMENTS_MAX

    def value(self, depth: int) -> Value:
        return self._of_type(self._reader.byte(), depth)

    def _of_type(self, tag: int, depth: int) -> Value:
        self._count()
        if tag in (_ARRAY, _STRUCTURE):
            _check_depth(depth)
            return tuple(self.value(depth - 1) for _ in range(self._reader.length()))
        if tag == _COMPACT_ARRAY:
            _check_depth(depth)
            return self._compact_array(depth - 1)
        return self._simple(tag)

    def _simple(self, tag: int) -> Value:
        reader = self._reader
        if tag in _INTEGERS:
            size, signed = _INTEGERS[tag]
            return int.from_bytes(reader.take(size), "big", signed=signed)
        if tag in _DATES:
            return reader.take(_DATES[tag])
        match tag:
            case 0:
                return None
            case 3:
                return reader.byte() != 0
            case 4:
                return _bits(reader)
            case 9:
                return reader.octets()
            case 10 | 12:
                return _text(reader.octets())
            case 13:
                return _bcd(reader.byte())
            case 23:
                return _decimal(reader.take(4), ">f", 9)
            case 24:
                return _decimal(reader.take(8), ">d", 17)
        raise UnfitAnswer(f"data of type {tag} is not understood")

    def _compact_array(self, depth: int) -> Value:
        """Read an array that tells its elements' type once."""
        description = _description(self._reader, depth)
        contents = Reader(self._reader.octets())
        values = _Values(contents)
        values._left = self._left
        rows: list[Value] = []
        while contents.left:
            before = contents.left
            rows.append(values.described(description))
            if contents.left == before:
                raise UnfitAnswer("a compact array of elements without bytes")
        self._left = values._left
        return tuple(rows)

    def described(self, description: "_Description") -> Value:
        """Read a value whose type is known beforehand."""
        if isinstance(description, int):
            self._count()
            return self._simple(description)
        self._count()
        return tuple(self.described(part) for part in description)

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise UnfitAnswer(f"more than {ELEMENTS_MAX} values in one answer")


_Description: TypeAlias = int | tuple["_Description", ...]


def _description(reader: Reader, depth: int) -> _Description:
    tag = reader.byte()
    if tag not in (_ARRAY, _STRUCTURE):
        return tag
    _check_depth(depth)
    count = reader.number(2) if tag == _ARRAY else reader.length()
    if tag == _ARRAY:
        if count > ELEMENTS_MAX:
            raise UnfitAnswer(f"more than {ELEMENTS_MAX} values in one answer")
        return (_description(reader, depth - 1),) * count
    return tuple(_description(reader, depth - 1) for _ in range(count))


def _check_depth(depth: int) -> None:
    if depth == 0:
        raise UnfitAnswer(f"values that nest more than {DEPTH_MAX} deep")


def _bits(reader: Reader) -> BitString:
    count = reader.length()
    octets = reader.take((count + 7) // 8)
    return BitString("".join(f"{octet:08b}" for octet in octets)[:count])


def _text(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        # Meters write their maker's 8-bit letters; a text is shown to people, and any byte is one here.
        return octets.decode("latin-1")


def _bcd(octet: int) -> int:
    high, low = octet >> 4, octet & 0x0F
    if high > 9 or low > 9:
        raise UnfitAnswer(f"{octet:#04x} is no BCD number")
    return 10 * high + low


def _decimal(octets: bytes, form: str, digits_max: int) -> Decimal | None:
    (value,) = struct.unpack(form, octets)
    if not isfinite(value):
        return None
    for digits in range(1, digits_max):
        text = f"{value:.{digits}g}"
        if _is(text, form, octets):
            return Decimal(text)
    return Decimal(f"{value:.{digits_max}g}")


def _is(text: str, form: str, octets: bytes) -> bool:
    try:
        return struct.pack(form, float(text)) == octets
    except OverflowError:  # rounded up beyond the largest float
        return False


# --- what is written -----------------------------------------------------------------------------


def null() -> bytes:
    return bytes((_NULL,))


def boolean(value: bool) -> bytes:
    return bytes((_BOOLEAN, value))


def octet_string(value: bytes) -> bytes:
    return bytes((_OCTET_STRING,)) + octets_of(value)


def visible_string(value: str) -> bytes:
    return bytes((_VISIBLE_STRING,)) + octets_of(value.encode("ascii"))


def array(*items: bytes) -> bytes:
    """Return an array of values that are written already."""
    return bytes((_ARRAY,)) + length_of(len(items)) + b"".join(items)


def structure(*items: bytes) -> bytes:
    """Return a structure of values that are written already."""
    return bytes((_STRUCTURE,)) + length_of(len(items)) + b"".join(items)


def _integer(tag: int) -> Callable[[int], bytes]:
    size, signed = _INTEGERS[tag]

    def write(value: int) -> bytes:
        return bytes((tag,)) + value.to_bytes(size, "big", signed=signed)

    return write


int8: Final = _integer(15)
int16: Final = _integer(16)
int32: Final = _integer(5)
int64: Final = _integer(20)
uint8: Final = _integer(17)
uint16: Final = _integer(18)
uint32: Final = _integer(6)
uint64: Final = _integer(21)
enum: Final = _integer(22)
