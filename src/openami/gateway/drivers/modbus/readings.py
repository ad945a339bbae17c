"""Words → readings: the way from answered blocks to what a driver returns. Pure, and without a wire."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from openami.gateway.driver import Inspected, RawReading
from openami.gateway.drivers.modbus.decode import value_of
from openami.gateway.drivers.modbus.frames import block_of, words_of
from openami.gateway.drivers.modbus.register_map import Field, Ratio, Register, RegisterMap

Words = Mapping[Field, Sequence[int]]


def readings_of(
    registers: Sequence[Register], words: Words, ratios: Mapping[Ratio, Decimal]
) -> tuple[RawReading, ...]:
    """Return the readings of the registers whose words are there; a sentinel gives none."""
    readings = []
    for register in registers:
        if register.field in words:
            value = value_of(register, words[register.field], ratios)
            if value is not None:
                readings.append(RawReading(register.info.obis, value, register.info.unit))
    return tuple(readings)


def inspected_of(
    registers: Sequence[Register], words: Words, ratios: Mapping[Ratio, Decimal]
) -> tuple[Inspected, ...]:
    """Return the registers whose words are there, each with its place, its bytes and its reading."""
    found = {reading.obis: reading for reading in readings_of(registers, words, ratios)}
    return tuple(
        Inspected(
            register.info.obis,
            _place(register.field),
            b"".join(word.to_bytes(2, "big") for word in words[register.field]),
            found.get(register.info.obis),
        )
        for register in registers
        if register.field in words
    )


def _place(field: Field) -> str:
    return f"{field.area.value} 0x{field.address:04X}" + f" x{field.count}" * (field.count > 1)


def decode_exchange(
    register_map: RegisterMap,
    request: bytes,
    response: bytes,
    ratios: Mapping[Ratio, Decimal] | None = None,
) -> tuple[RawReading, ...]:
    """Return what an answer means: request and response as PDUs, without unit, CRC or MBAP header.

    Every register of the map that lies whole in the block is given. Raises FrameError.
    """
    block = block_of(request)
    words = words_of(response, block)
    registers = [r for r in register_map.registers.values() if block.covers(r.field)]
    cut = {register.field: block.cut(register.field, words) for register in registers}
    return readings_of(registers, cut, ratios or {})
