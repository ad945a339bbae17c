"""A-XDR (IEC 61334-6), as much of it as DLMS messages use: a bounded reader, and lengths. Pure."""

from typing import Final

from openami.gateway.drivers.dlms.errors import UnfitAnswer

_LONG_FORM: Final = 0x80
_LENGTH_BYTES_MAX: Final = 4  # a longer length names more bytes than any message has


class Reader:
    """Takes bytes from the front; what is not there is UnfitAnswer, never an IndexError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """How many bytes are still to be read."""
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        """Return the next bytes. Raises UnfitAnswer when there are not so many."""
        if not 0 <= count <= self.left:
            raise UnfitAnswer("the message ends early")
        self._at += count
        return self._data[self._at - count : self._at]

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self, count: int) -> int:
        """Return an unsigned number of so many bytes, high byte first."""
        return int.from_bytes(self.take(count), "big")

    def length(self) -> int:
        """Return a length: one byte below 128, else the count of its bytes and they."""
        first = self.byte()
        if first < _LONG_FORM:
            return first
        count = first - _LONG_FORM
        if not 0 < count <= _LENGTH_BYTES_MAX:
            raise UnfitAnswer("a length that no message has")
        return self.number(count)

    def octets(self) -> bytes:
        """Return a length's worth of bytes."""
        return self.take(self.length())

    def rest(self) -> bytes:
        return self.take(self.left)

    def end(self) -> None:
        """Raise UnfitAnswer unless everything was read."""
        if self.left:
            raise UnfitAnswer(f"{self.left} bytes too many")


def length_of(count: int) -> bytes:
    """Return a length as it is written."""
    if count < _LONG_FORM:
        return bytes((count,))
    size = (count.bit_length() + 7) // 8
    return bytes((_LONG_FORM | size,)) + count.to_bytes(size, "big")


def octets_of(data: bytes) -> bytes:
    """Return bytes with their length before them."""
    return length_of(len(data)) + data
