"""The wire: one pymodbus client, asked one question at a time.

pymodbus brings ports, sockets and message types. Its own reconnecting and retrying are off, because both
happen behind the line's back: after a fault it is the line that decides when the wire may be trusted.
What arrives is sifted by `frames` before pymodbus sees it, through the trace hook it offers for that.
"""

import asyncio
import os
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Final

from pymodbus import FramerType
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU

from openami.gateway.driver import LineDown
from openami.gateway.drivers.modbus.frames import (
    WRITE_ONE,
    Question,
    echo_of,
    mbap_answer,
    rtu_answer,
)
from openami.gateway.drivers.modbus.options import LinePlan, Transport
from openami.gateway.drivers.modbus.plan import Block
from openami.gateway.drivers.modbus.register_map import Area

CONNECT_S_MAX: Final = 5.0  # a device server on a village's radio link answers a SYN within 3 s
DRAIN_S_MAX: Final = 5.0
"""How long a line may babble before it is called down; the longest answer takes 2.4 s at 1200 Bd."""
_NEVER = 2**31  # of pymodbus's own count of unanswered questions, after which it would disconnect
# Of pymodbus's own timeout: ours is always shorter, and knows the line's speed.
_BEYOND_OURS_S = 3600.0


class Unanswered(Exception):
    """No answer in time; ``received`` bytes came that are none."""

    def __init__(self, received: int) -> None:
        super().__init__(f"{received} bytes")
        self.received = received


class Refusal(Exception):
    """The meter answered with a Modbus exception."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code


class Wire:
    """A serial port or an endpoint: opened, asked, listened to, closed."""

    def __init__(self, line: LinePlan) -> None:
        self._line = line
        self._client: AsyncModbusTcpClient | AsyncModbusSerialClient | None = None
        self._question: Question | None = None
        self._transaction = 0
        self._received = 0
        self._last_byte_at = 0.0

    @property
    def connected(self) -> bool:
        return self._client is not None and self._client.connected

    async def open(self) -> None:
        """Open the port or connect to the endpoint. Raises LineDown."""
        self.close()
        client = self._make_client()
        client.set_max_no_responses(_NEVER)
        self._client = client
        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                opened = await client.connect()
        except TimeoutError:
            opened = False
        if not opened:
            self.close()
            raise LineDown(f"{self._line.place} cannot be opened: {self._why_not()}")
        await asyncio.sleep(0)  # the serial transport attaches itself in the loop's next round

    def close(self) -> None:
        """Close it; what is closed already stays so."""
        if self._client is not None:
            self._client.close()
            self._client = None

    async def ask(self, unit: int, block: Block, timeout_s: float) -> tuple[int, ...]:
        """Return the block's registers.

        Raises Unanswered, Refusal, or LineDown when the connection broke. The caller holds
        the line's turn.
        """
        client = self._open_client()
        read = (
            client.read_input_registers
            if block.area is Area.INPUT
            else client.read_holding_registers
        )
        question = Question(unit, block.area.function, block.count)
        answer = await self._exchange(
            question, read(block.address, count=block.count, device_id=unit), timeout_s
        )
        if answer.isError():
            raise Refusal(answer.exception_code)
        # The sieve let only this shape through.
        assert answer.function_code == block.area.function
        assert len(answer.registers) == block.count
        return tuple(answer.registers)

    async def order(
        self, unit: int, address: int, word: int, *, function: int, timeout_s: float
    ) -> None:
        """Write one holding register, once. Raises as `ask` does; after Unanswered it may be written."""
        client = self._open_client()
        writing = (
            client.write_register(address, word, device_id=unit)
            if function == WRITE_ONE
            else client.write_registers(address, [word], device_id=unit)
        )
        question = Question(unit, function, 1, echo=echo_of(function, address, word))
        answer = await self._exchange(question, writing, timeout_s)
        if answer.isError():
            raise Refusal(answer.exception_code)

    def _open_client(self) -> AsyncModbusTcpClient | AsyncModbusSerialClient:
        if self._client is None:
            raise LineDown(f"{self._line.place} is closed")
        return self._client

    async def _exchange(
        self, question: Question, asking: Awaitable[ModbusPDU], timeout_s: float
    ) -> ModbusPDU:
        self._question = question
        self._received = 0
        try:
            async with asyncio.timeout(timeout_s):
                return await asking
        except TimeoutError:
            self._check_connected()
            raise Unanswered(self._received) from None
        except ModbusException as error:
            self._check_connected()
            raise LineDown(f"{self._line.place}: {error}") from None
        finally:
            self._question = None

    async def silence(self, silence_s: float) -> None:
        """Wait until nothing was received for so long, counted from now.

        Raises LineDown when the line does not come to rest.
        """
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        while (wait_s := max(began_at, self._last_byte_at) + silence_s - loop.time()) > 0:
            if loop.time() - began_at > DRAIN_S_MAX + silence_s:
                self.close()
                raise LineDown(
                    f"{self._line.place} does not come to rest: look for a second master, a wrong "
                    "baudrate or missing termination"
                )
            await asyncio.sleep(wait_s)

    def _check_connected(self) -> None:
        if not self.connected:
            self.close()
            raise LineDown(f"{self._line.place} was closed by the other side")

    def _make_client(self) -> AsyncModbusTcpClient | AsyncModbusSerialClient:
        options, serial = self._line.options, self._line.serial
        if options.transport is Transport.RTU:
            assert options.device is not None
            return AsyncModbusSerialClient(
                options.device,
                baudrate=serial.baudrate,
                parity=serial.parity,
                stopbits=serial.stopbits,
                reconnect_delay=0,
                retries=0,
                timeout=_BEYOND_OURS_S,
                trace_packet=self._sift,
            )
        assert options.host is not None
        rtu = options.transport is Transport.RTU_OVER_TCP
        return AsyncModbusTcpClient(
            options.host,
            port=options.port,
            framer=FramerType.RTU if rtu else FramerType.SOCKET,
            reconnect_delay=0,
            retries=0,
            timeout=_BEYOND_OURS_S,
            trace_packet=self._sift,
        )

    def _sift(self, sending: bool, data: bytes) -> bytes:
        if sending:
            self._transaction = int.from_bytes(data[:2], "big")
            return data
        self._last_byte_at = asyncio.get_running_loop().time()
        self._received = len(data)
        if self._question is None:
            return b""  # late, or nobody's
        if self._line.options.transport is not Transport.TCP:
            return rtu_answer(data, self._question)
        return mbap_answer(data, replace(self._question, transaction=self._transaction))

    def _why_not(self) -> str:
        options = self._line.options
        if options.transport is not Transport.RTU:
            return (
                f"nothing accepts a connection at {options.host}:{options.port} within "
                f"{CONNECT_S_MAX:.0f} s; check address, cable and power"
            )
        device = Path(options.device or "")
        if not device.exists():
            return "there is no such device; is the adapter plugged in?"
        if not os.access(device, os.R_OK | os.W_OK):
            return "permission denied; is the gateway's user in the group of the device (dialout)?"
        return "another program has it open, or it is not a serial port"
