"""Registers → exact values. Pure.

Nothing is computed in floating point. A float32 is widened exactly, multiplied as a fraction, and
rounded once, half to even, to the map's decimals: 49.98 that the meter could only send as
49.97999954223633 comes out as 49.98, and a counter of seven digits keeps all of them.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Final

from openami.gateway.drivers.modbus.register_map import (
    Field,
    NumberType,
    Part,
    Ratio,
    Register,
    WordOrder,
)

Value = int | Decimal | str

_WORD_BITS = 16
# SunSpec's scale factors (sunssf) go from -10 to 10.
EXPONENT_MAX: Final = 10
NO_SCALE_FACTOR: Final = 0x8000  # not implemented


def value_of(
    register: Register, words: Sequence[int], ratios: Mapping[Ratio, Decimal]
) -> Value | None:
    """Return the register's value from its field's words, or None where the meter says it has none.

    ``ratios`` holds the meter's transformer ratios; a ratio the register needs and that is missing is
    a KeyError, because the options are checked before any meter is read.
    """
    field = register.field
    assert len(words) == field.count
    if field.type is NumberType.ASCII:
        return text_of(words)
    exponent = 0
    if register.scale_factor_last:
        told = exponent_of(words[-1])
        if told is None:
            return None
        exponent, words = told, words[: field.type.words]
    bits = bits_of(words, field.word_order)
    if bits in register.sentinels:
        return None
    if register.values:
        # A code the map does not know is passed on as it is: the register list says what it may be, so
        # normalising leaves it out and says so, which a silent None would not.
        return register.values.get(bits, str(bits))
    number = number_of(bits, field.type)
    if number is None:
        return None
    number *= Fraction(register.scale) * Fraction(10) ** exponent
    for ratio in register.multiply:
        number *= Fraction(ratios[ratio])
    if register.four_quadrant:
        number = _plain_power_factor(number)
    return _rounded(_part(number, register.part), max(0, register.decimals - exponent))


def identity_of(field: Field, words: Sequence[int]) -> str:
    """Return the serial number a meter tells, as text."""
    if field.type is NumberType.ASCII:
        return text_of(words)
    return str(number_of(bits_of(words, field.word_order), field.type))


def bits_of(words: Sequence[int], order: WordOrder) -> int:
    """Return the words as one unsigned number."""
    bits = 0
    for word in words if order is WordOrder.BIG else reversed(words):
        bits = bits << _WORD_BITS | word
    return bits


def number_of(bits: int, kind: NumberType) -> Fraction | None:
    """Return the exact number some bits spell; None for a float32 that is no number."""
    if kind is NumberType.FLOAT32:
        number: float = struct.unpack(">f", bits.to_bytes(4, "big"))[0]
        return Fraction(number) if math.isfinite(number) else None
    width = kind.words * _WORD_BITS
    negative = kind.signed and bits >> (width - 1)
    return Fraction(bits - (1 << width) if negative else bits)


def exponent_of(word: int) -> int | None:
    """Return the power of ten a scale factor's word tells; None for "not implemented" and for what can be none."""
    exponent = word - (1 << _WORD_BITS) if word >> (_WORD_BITS - 1) else word
    return exponent if abs(exponent) <= EXPONENT_MAX else None


def text_of(words: Sequence[int]) -> str:
    """Return the ASCII characters of the words, two in each, without padding or unprintables."""
    raw = b"".join(word.to_bytes(2, "big") for word in words)
    return "".join(chr(byte) for byte in raw if 0x20 <= byte < 0x7F).strip()


def _part(number: Fraction, part: Part) -> Fraction:
    match part:
        case Part.WHOLE:
            return number
        case Part.POSITIVE:
            return max(number, Fraction(0))
        case Part.NEGATIVE:
            return max(-number, Fraction(0))


def _plain_power_factor(number: Fraction) -> Fraction:
    """Fold the four-quadrant form, where a leading load is told as 2 − PF, to −1 … 1."""
    if number > 1:
        return 2 - number
    if number < -1:
        return -2 - number
    return number


def _rounded(number: Fraction, decimals: int) -> int | Decimal:
    units: int = round(number * 10**decimals)  # a Fraction rounds half to even, exactly
    if decimals == 0:
        return units
    digits = tuple(int(digit) for digit in str(abs(units)))
    return Decimal((int(units < 0), digits, -decimals))
