"""Exact values → registers: the gateway's decoding of a register map, the other way round. Pure.

A meter of a map's type puts its quantities where the gateway's driver looks for them. What the map
cannot hold exactly is rounded as a meter rounds: to the nearest unit of the scale, or to a float32.
"""

import struct
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction

from openami.gateway.drivers.modbus.register_map import (
    Area,
    Field,
    NumberType,
    Part,
    Register,
    RegisterMap,
    WordOrder,
)
from openami.profile import Obis
from openami.simulator.display import Quantity

_WORD_BITS = 16


class CannotShow(ValueError):
    """A quantity does not fit its register, or the meter lacks one its map has."""


def words_of(
    register_map: RegisterMap, shown: Mapping[Obis, Quantity]
) -> dict[Field, Sequence[int]]:
    """Return the words of all the map's fields. Raises CannotShow."""
    return {
        field: _words(
            field, [r for r in register_map.registers.values() if r.field == field], shown
        )
        for field in register_map.fields
    }


def _words(
    field: Field, registers: Sequence[Register], shown: Mapping[Obis, Quantity]
) -> Sequence[int]:
    """Return one field's words; several registers are parts of one signed value."""
    try:
        values = {register.part: shown[register.info.obis] for register in registers}
    except KeyError as missing:
        raise CannotShow(f"nothing to show for {missing.args[0]}") from None
    if field.type is NumberType.ASCII:
        return _text(field, str(values[Part.WHOLE]))
    register = registers[0]
    if register.values:
        return _code(register, str(values[Part.WHOLE]))
    number = _whole({part: _number(value) for part, value in values.items()})
    if register.info.rollover is not None:
        number %= Fraction(register.info.rollover)
    return _spell(field, number / Fraction(register.scale), register.info.obis)


def _code(register: Register, meaning: str) -> Sequence[int]:
    codes = {known: code for code, known in register.values.items()}
    if meaning not in codes:
        raise CannotShow(f"{register.info.obis}: {meaning!r} is none of {', '.join(codes)}")
    return _split(codes[meaning], register.field.count, register.field.word_order)


def _whole(parts: Mapping[Part, Fraction]) -> Fraction:
    if Part.WHOLE in parts:
        return parts[Part.WHOLE]
    return parts[Part.POSITIVE] - parts.get(Part.NEGATIVE, Fraction(0))


def _number(value: Quantity) -> Fraction:
    assert isinstance(value, Decimal)
    return Fraction(value)


def _spell(field: Field, number: Fraction, obis: Obis) -> Sequence[int]:
    if field.type is NumberType.FLOAT32:
        bits = int.from_bytes(struct.pack(">f", float(number)), "big")
    else:
        width = field.count * _WORD_BITS
        units = round(number)
        low, high = (-(1 << width - 1), 1 << width - 1) if field.type.signed else (0, 1 << width)
        if not low <= units < high:
            raise CannotShow(f"{obis}: {units} does not fit {field.type} at {field.address}")
        bits = units % (1 << width)
    return _split(bits, field.count, field.word_order)


def _split(bits: int, count: int, order: WordOrder) -> Sequence[int]:
    words = [bits >> _WORD_BITS * place & 0xFFFF for place in reversed(range(count))]
    return words if order is WordOrder.BIG else words[::-1]


def _text(field: Field, text: str) -> Sequence[int]:
    raw = text.encode("ascii").ljust(2 * field.count, b"\0")
    if len(raw) > 2 * field.count:
        raise CannotShow(f"{text!r} does not fit {field.count} registers at {field.address}")
    return [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]


def identity_words(field: Field, number: int) -> Sequence[int]:
    """Return the words of the field in which a meter tells its maker's number."""
    if field.type is NumberType.ASCII:
        return _text(field, str(number))
    return _spell(field, Fraction(number), Obis.parse("96.1.0"))


def by_address(
    words: Mapping[Field, Sequence[int]], *, gap: int
) -> Mapping[Area, Mapping[int, int]]:
    """Return the registers of each area by address, with zeros in the gaps a reader may read along."""
    bank: dict[Area, dict[int, int]] = {area: {} for area in Area}
    for field in sorted(words):
        registers = bank[field.area]
        last = max(registers, default=field.address - 1)
        if field.address - last - 1 <= gap:
            registers.update(dict.fromkeys(range(last + 1, field.address), 0))
        registers.update(enumerate(words[field], start=field.address))
    return bank
