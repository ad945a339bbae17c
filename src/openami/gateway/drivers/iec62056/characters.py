"""Characters on the line: seven bits with even parity, and the check character of a block. Pure.

IEC 62056-21 (clause 5) has 7E1: start, seven data bits, even parity, stop. That is as many bits as 8N1 has, so
a port set to 8N1 carries the same signal, with the parity as the eighth bit. It is made and checked here,
because neither a pty nor every converter can be set to 7E1.
"""

from enum import StrEnum
from functools import reduce
from operator import xor
from typing import Final

STX, ETX, ACK, NAK = 0x02, 0x03, 0x06, 0x15
SPOILT: Final = 0x80
"""Stands for a character of wrong parity; no character of seven bits is one."""


class Parity(StrEnum):
    """What the eighth bit is."""

    EVEN = "E"
    """The parity, as the standard has it."""
    NONE = "N"
    """Always 0: a converter set to 7E1 takes the parity away, and some meters on RS-485 never have it."""


_SEVEN_BITS = 0x7F
_TO_SEND: Final = {
    Parity.EVEN: bytes(code & _SEVEN_BITS | (code.bit_count() & 1) << 7 for code in range(128)) * 2,
    Parity.NONE: bytes(range(256)),
}
_AS_READ: Final = {
    Parity.EVEN: bytes(
        SPOILT if code.bit_count() & 1 else code & _SEVEN_BITS for code in range(256)
    ),
    Parity.NONE: bytes(code if code <= _SEVEN_BITS else SPOILT for code in range(256)),
}


def to_send(characters: bytes, parity: Parity) -> bytes:
    """Return the bytes that carry these characters."""
    assert max(characters, default=0) <= _SEVEN_BITS
    return characters.translate(_TO_SEND[parity])


def as_read(octets: bytes, parity: Parity) -> bytes:
    """Return the characters these bytes carry; SPOILT for each whose parity is wrong."""
    return octets.translate(_AS_READ[parity])


def check_character(characters: bytes) -> int:
    """Return the check character of what stands behind STX, the ETX included (ISO 1155)."""
    return reduce(xor, characters, 0)
