"""A line of meters answers pymodbus's client, and fails as a real line fails."""

import asyncio
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusIOException

from openami.simulator.faults import Readdressed, Silent, Slow
from openami.simulator.modbus_server import (
    Area,
    ModbusLine,
    Write,
    WriteRefused,
    answer,
    serving,
    units,
)

# How long a test waits for an answer that must not come.
SILENCE_S = 0.25


class Bank:
    """Registers that stand still: the address plus the unit's own number."""

    def __init__(self, offset: int) -> None:
        self._input = {place: place + offset for place in [*range(130), 500]}
        self._holding = {0xFC00: 0xBEEF}

    def registers(self, area: Area) -> Mapping[int, int]:
        return self._input if area is Area.INPUT else self._holding

    def write(self, how: Write, address: int, word: int) -> None:
        if address not in self._holding:
            raise WriteRefused
        self._holding[address] = word


@asynccontextmanager
async def a_line() -> AsyncIterator[tuple[ModbusLine, AsyncModbusTcpClient]]:
    line = ModbusLine({unit: Bank(1000 * unit) for unit in units(3)})
    async with serving(line) as port:
        client = AsyncModbusTcpClient("127.0.0.1", port=port, timeout=SILENCE_S, retries=0)
        assert await client.connect()
        try:
            yield line, client
        finally:
            client.close()


async def first_register(client: AsyncModbusTcpClient, unit: int) -> int:
    answered = await client.read_input_registers(0, count=1, device_id=unit)
    assert not answered.isError()
    return int(answered.registers[0])


async def test_units_answer_side_by_side() -> None:
    async with a_line() as (_, client):
        assert [await first_register(client, unit) for unit in units(3)] == [1000, 2000, 3000]
        holding = await client.read_holding_registers(0xFC00, count=1, device_id=2)
        assert holding.registers == [0xBEEF]


async def test_a_block_of_125_is_the_largest() -> None:
    async with a_line() as (_, client):
        block = await client.read_input_registers(3, count=125, device_id=1)
        assert block.registers == list(range(1003, 1128))


@pytest.mark.parametrize(
    ("request_pdu", "code"),
    [
        pytest.param(struct.pack(">BHH", 4, 0, 126), 3, id="126 registers"),
        pytest.param(struct.pack(">BHH", 4, 0, 0), 3, id="no register"),
        pytest.param(struct.pack(">BHH", 4, 129, 2), 2, id="into a hole"),
        pytest.param(struct.pack(">BHH", 4, 65535, 2), 2, id="past the last address"),
        pytest.param(struct.pack(">BHH", 3, 0, 1), 2, id="in the other area"),
        pytest.param(struct.pack(">BHH", 6, 0, 1), 1, id="a write the meter does not take"),
        pytest.param(struct.pack(">BHHBH", 16, 0, 1, 2, 1), 1, id="the same by function 16"),
        pytest.param(struct.pack(">BHHBHH", 16, 0xFC00, 2, 4, 1, 1), 3, id="two registers at once"),
        pytest.param(
            struct.pack(">BHHBH", 16, 0xFC00, 1, 4, 1), 3, id="a byte count that is wrong"
        ),
        pytest.param(struct.pack(">BH", 6, 0xFC00), 3, id="a write cut short"),
        pytest.param(b"\x2b\x0e\x01\x00", 1, id="identification"),
        pytest.param(b"\x04\x00", 3, id="cut short"),
        pytest.param(b"\x04\x00\x00\x00\x01\x00", 3, id="too long"),
    ],
)
def test_what_cannot_be_answered_is_refused(request_pdu: bytes, code: int) -> None:
    assert answer(request_pdu, Bank(0)) == bytes([request_pdu[0] | 0x80, code])


async def test_a_register_is_written_by_both_functions() -> None:
    async with a_line() as (_, client):
        assert not (await client.write_register(0xFC00, 7, device_id=1)).isError()
        assert (await client.read_holding_registers(0xFC00, count=1, device_id=1)).registers == [7]
        assert not (await client.write_registers(0xFC00, [9], device_id=1)).isError()
        assert (await client.read_holding_registers(0xFC00, count=1, device_id=1)).registers == [9]


@given(st.binary(min_size=1, max_size=253))
def test_every_request_has_an_answer(request_pdu: bytes) -> None:
    reply = answer(request_pdu, Bank(0))
    assert reply[0] & 0x7F == request_pdu[0] & 0x7F
    assert 2 <= len(reply) <= 252


async def test_a_dead_meter_is_silent_and_its_neighbours_are_not() -> None:
    async with a_line() as (line, client):
        line.set_fault(2, Silent())
        with pytest.raises(ModbusIOException):
            await first_register(client, 2)
        assert await first_register(client, 3) == 3000
        line.set_fault(2, None)
        assert await first_register(client, 2) == 2000


async def test_an_address_nobody_has_is_silent() -> None:
    async with a_line() as (_, client):
        with pytest.raises(ModbusIOException):
            await first_register(client, 4)


async def test_a_readdressed_meter_answers_elsewhere() -> None:
    async with a_line() as (line, client):
        line.set_fault(2, Readdressed(9))
        assert await first_register(client, 9) == 2000
        with pytest.raises(ModbusIOException):
            await first_register(client, 2)


async def test_a_readdressed_meter_is_heard_for_another() -> None:
    async with a_line() as (line, client):
        line.set_fault(2, Readdressed(3))
        assert await first_register(client, 3) == 2000


async def test_a_late_answer_keeps_its_transaction() -> None:
    """The client has given up; what comes late must not be taken for the next answer."""
    async with a_line() as (line, client):
        line.set_fault(1, Slow(1.2 * SILENCE_S))
        with pytest.raises(ModbusIOException):
            await first_register(client, 1)
        line.set_fault(1, None)
        assert await first_register(client, 3) == 3000


async def test_a_slow_meter_holds_the_line() -> None:
    async with a_line() as (line, _):
        line.set_fault(1, Slow(0.1))
        clock = asyncio.get_running_loop().time
        asked_at = clock()
        slow = asyncio.create_task(line.ask(1, struct.pack(">BHH", 4, 0, 1)))
        await asyncio.sleep(0)
        await line.ask(2, struct.pack(">BHH", 4, 0, 1))
        assert clock() - asked_at >= 0.1
        assert await slow is not None


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="another protocol"),
        pytest.param(struct.pack(">HHHB", 1, 0, 1, 1), id="a frame without a function"),
        pytest.param(struct.pack(">HHHB", 1, 0, 255, 1), id="a frame too long"),
    ],
)
async def test_what_is_no_frame_ends_the_connection(sent: bytes) -> None:
    line = ModbusLine({1: Bank(0)})
    async with serving(line) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_the_port_is_free_afterwards() -> None:
    async with serving(ModbusLine({1: Bank(0)})) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    async with serving(ModbusLine({1: Bank(0)}), port=port):
        pass
