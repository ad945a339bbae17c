"""Golden frames: what a meter has just answered, as the lines of its map that keep it true. Pure.

Neighbouring registers become one read, cut where the map has a hole or the meter's limit is. The bytes are the
meter's own; the frame around them is made here.
"""

from collections.abc import Iterator, Mapping, Sequence

from openami.gateway.driver_kit.probing import Probed
from openami.gateway.drivers.modbus.frames import crc16
from openami.gateway.drivers.modbus.plan import Block
from openami.gateway.drivers.modbus.readings import decode_exchange
from openami.gateway.drivers.modbus.register_map import Field, RegisterMap


def golden_text(
    register_map: RegisterMap, probed: Sequence[Probed], *, unit: int, name: str
) -> str:
    """Return ``[[golden]]`` tables for what was read without a transformer ratio."""
    raw = {
        register_map.registers[one.info.obis].field: one.raw
        for one in probed
        if one.raw and not register_map.registers[one.info.obis].multiply
    }
    return "\n".join(_table(register_map, run, raw, unit, name) for run in _runs(register_map, raw))


def _runs(register_map: RegisterMap, raw: Mapping[Field, bytes]) -> Iterator[list[Field]]:
    run: list[Field] = []
    for field in sorted(raw):
        follows = (
            run
            and field.area is run[0].area
            and field.address == run[-1].end
            and field.end - run[0].address <= register_map.limits.max_read_registers
        )
        if run and not follows:
            yield run
            run = []
        run.append(field)
    if run:
        yield run


def _table(
    register_map: RegisterMap, run: list[Field], raw: Mapping[Field, bytes], unit: int, name: str
) -> str:
    block = Block(run[0].area, run[0].address, run[-1].end - run[0].address)
    request = bytes((block.area.function,)) + _two(block.address) + _two(block.count)
    data = b"".join(raw[field] for field in run)
    response = bytes((block.area.function, len(data))) + data
    values = {str(r.obis): str(r.value) for r in decode_exchange(register_map, request, response)}
    codes = [str(code) for code, r in register_map.registers.items() if block.covers(r.field)]
    expect = [f'"{code}" = "{values.get(code, "")}"' for code in codes]
    return "\n".join(
        (
            "[[golden]]",
            f'name = "{name}, from 0x{block.address:04X}"',
            f'request = "{_frame(unit, request)}"',
            f'response = "{_frame(unit, response)}"',
            "[golden.expect]",
            *expect,
            "",
        )
    )


def _frame(unit: int, pdu: bytes) -> str:
    body = bytes((unit,)) + pdu
    return (body + crc16(body)).hex(" ")


def _two(number: int) -> bytes:
    return number.to_bytes(2, "big")
