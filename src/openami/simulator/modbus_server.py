"""A line of meters as a Modbus TCP server: several units behind one endpoint, as behind a bridge.

Our own few lines instead of pymodbus's server, for what a bridge does and that server cannot: stay silent
for a dead unit, keep the transaction id of a late answer, refuse a hole in a sparse map without a list
of 65,536 registers for each meter. The tests read it with pymodbus's client, so two hands wrote the
two ends of the wire.

Frames follow the Modbus Application Protocol 1.1b3 and its TCP implementation guide 1.0b: 3 and 4 read
holding and input registers, 6 and 16 write one holding register where the meter takes it by that function;
any other function is refused with exception 1.
"""

import asyncio
import struct
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import IntEnum
from functools import partial
from typing import Protocol

from openami.simulator.bus import Bus
from openami.simulator.tcp_server import serving_tcp

UNIT_MAX = 247  # the serial line's last address (Modbus over serial line 1.02, 2.2)
_READ_REGISTERS_MAX = 125  # of one answer (application protocol 6.3)
_FRAME_BYTES_MAX = 254  # unit and PDU in one frame (implementation guide 3.1.3)
_HEADER = struct.Struct(">HHH")


class Area(IntEnum):
    """Where a register stands; the value is the function code that reads it."""

    HOLDING = 3
    INPUT = 4


class Write(IntEnum):
    """How a register is written; the value is the function code."""

    ONE = 6
    SEVERAL = 16


class WriteRefused(Exception):
    """The meter takes no such write."""


class _Refusal(IntEnum):
    """Exception codes (application protocol 7)."""

    FUNCTION = 1
    ADDRESS = 2
    VALUE = 3


class RegisterBank(Protocol):
    """A meter as Modbus sees it."""

    def registers(self, area: Area) -> Mapping[int, int]:
        """Return the registers as they stand now: 16 bits by address; what is missing does not exist."""
        ...

    def write(self, how: Write, address: int, word: int) -> None:
        """Take a write of one holding register. Raises WriteRefused."""
        ...


def answer(request: bytes, bank: RegisterBank) -> bytes:
    """Return the answer PDU to a request PDU (function code and data)."""
    function = request[0]
    if function in list(Write):
        return _write(Write(function), request, bank)
    try:
        area = Area(function)
    except ValueError:
        return _refuse(function, _Refusal.FUNCTION)
    if len(request) != 5:
        return _refuse(function, _Refusal.VALUE)
    address, count = struct.unpack(">HH", request[1:])
    if not 1 <= count <= _READ_REGISTERS_MAX:
        return _refuse(function, _Refusal.VALUE)
    registers = bank.registers(area)
    wanted = range(address, address + count)
    if not all(place in registers for place in wanted):
        return _refuse(function, _Refusal.ADDRESS)
    values = (registers[place] for place in wanted)
    return struct.pack(f">BB{count}H", function, 2 * count, *values)


def _write(how: Write, request: bytes, bank: RegisterBank) -> bytes:
    """Write one register; the answer repeats the request's first five bytes (6.6 and 6.12)."""
    if how is Write.SEVERAL:
        if len(request) != 8 or request[3:6] != b"\0\x01\x02":
            return _refuse(how, _Refusal.VALUE)
    elif len(request) != 5:
        return _refuse(how, _Refusal.VALUE)
    address, word = struct.unpack(">H", request[1:3])[0], struct.unpack(">H", request[-2:])[0]
    try:
        bank.write(how, address, word)
    except WriteRefused:
        return _refuse(how, _Refusal.FUNCTION)
    return request[:5]


def _refuse(function: int, code: _Refusal) -> bytes:
    return bytes((function | 0x80, code))


class ModbusLine(Bus[RegisterBank]):
    """The units of one line."""

    def __init__(self, banks: Mapping[int, RegisterBank]) -> None:
        assert all(1 <= unit <= UNIT_MAX for unit in banks)
        super().__init__(banks)

    async def ask(self, unit: int, request: bytes) -> bytes | None:
        """Return the answer of whoever hears this address; None when nobody does."""
        return await self.answered(lambda address: address == unit, partial(answer, request))


def serving(
    line: ModbusLine, *, host: str = "127.0.0.1", port: int = 0
) -> AbstractAsyncContextManager[int]:
    """Serve a line while the context lasts; it yields the port (``port=0`` takes a free one)."""
    return serving_tcp(partial(_converse, line), host=host, port=port)


async def _converse(
    line: ModbusLine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer one client until it leaves, or sends what is no Modbus frame."""
    while (frame := await _frame(reader)) is not None:
        transaction, unit, request = frame
        reply = await line.ask(unit, request)
        if reply is not None:
            writer.write(_HEADER.pack(transaction, 0, len(reply) + 1) + bytes([unit]) + reply)
            await writer.drain()


async def _frame(reader: asyncio.StreamReader) -> tuple[int, int, bytes] | None:
    """Return transaction id, unit and PDU of the next frame; None for what is no frame."""
    transaction, protocol, length = _HEADER.unpack(await reader.readexactly(_HEADER.size))
    if protocol != 0 or not 2 <= length <= _FRAME_BYTES_MAX:
        return None
    body = await reader.readexactly(length)
    return transaction, body[0], body[1:]


def units(count: int) -> Sequence[int]:
    """Return addresses for this many meters on one line."""
    assert count <= UNIT_MAX
    return range(1, count + 1)
