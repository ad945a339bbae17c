"""A Modbus line at byte level: meters that answer by script, late, wrong or not at all.

The double knows the protocol from its specification, not from the driver: frames are taken apart and put
together here with its own CRC. It can stand behind a pty (RTU), a TCP port with MBAP frames, or a TCP port
with RTU frames.
"""

import asyncio
import os
import struct
import tty
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol


def crc(data: bytes) -> bytes:
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ 0xA001 if value & 1 else value >> 1
    return struct.pack("<H", value)


class Fault(Enum):
    NONE = auto()
    DROP = auto()
    LATE = auto()
    TRUNCATE = auto()
    BAD_CRC = auto()
    NOISE = auto()
    WRONG_UNIT = auto()
    EXCEPTION = auto()
    GATEWAY = auto()


@dataclass
class DoubleMeter:
    """One meter: its registers, given out by a function of (address, number of the question)."""

    word: Callable[[int, int], int]
    """A KeyError says that there is no such register: exception 2, or silence."""
    end: int = 0x10000
    """Registers from here on are refused with exception 2."""
    asked: int = 0
    silent: bool = False
    silent_about_missing: bool = False
    written: dict[int, int] = field(default_factory=dict)
    """What was written, by address; it is read back from there."""
    orders: int = 0
    takes: int = 16
    """The function by which it lets itself be written; another is refused with exception 1."""
    mute_orders: bool = False
    """It does what it is ordered and does not say so."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass
class LineDouble:
    """The bus behind a port. ``script`` says what happens to each answer: a fault and its lateness."""

    meters: dict[int, DoubleMeter]
    script: Callable[[int], tuple[Fault, float]] = lambda _: (Fault.NONE, 0.0)
    turnaround_s: float = 0.0
    in_order: bool = True
    """A meter answers its questions one after the other; off, later answers may overtake a late one."""
    questions: int = 0
    overlaps: int = 0
    mbap: bool = False
    _busy: int = 0
    _inbox: bytearray = field(default_factory=bytearray)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _send: Callable[[bytes], None] = lambda _: None

    def received(self, data: bytes, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._inbox += data
        while frame := self._next_frame():
            task = asyncio.create_task(self._answer(frame), name="meter")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _next_frame(self) -> bytes:
        """Take the next question out of the inbox: 8 bytes in RTU, 12 with MBAP; a write has 3 more."""
        function_at = 7 if self.mbap else 1
        size = 12 if self.mbap else 8
        if len(self._inbox) < size:
            return b""
        size += 3 * (self._inbox[function_at] == 16)
        if len(self._inbox) < size:
            return b""
        frame = bytes(self._inbox[:size])
        del self._inbox[:size]
        assert self.mbap or crc(frame[:-2]) == frame[-2:], frame.hex(" ")
        return frame

    async def _answer(self, frame: bytes) -> None:
        transaction = frame[:2]
        unit, function, address, count = struct.unpack(
            ">BBHH", frame[6:12] if self.mbap else frame[:6]
        )
        number = self.questions
        self.questions += 1
        meter = self.meters.get(unit)
        if meter is None or meter.silent:
            return
        if function in (6, 16):
            await self._obey(meter, unit, transaction, frame, self.script(number))
            return
        meter.asked += 1
        fault, late_s = self.script(number)
        try:
            words = [
                meter.written[place] if place in meter.written else meter.word(place, meter.asked)
                for place in range(address, address + count)
            ]
            pdu = bytes([function, 2 * count]) + struct.pack(f">{count}H", *words)
        except KeyError:
            if meter.silent_about_missing:
                return
            pdu = bytes([function | 0x80, 2])
        if address + count > meter.end:
            pdu = bytes([function | 0x80, 2])
        self.overlaps += self._busy
        self._busy += 1
        try:
            await self._deliver(unit, pdu, transaction, fault, late_s)
        finally:
            self._busy -= 1

    async def _obey(
        self,
        meter: DoubleMeter,
        unit: int,
        transaction: bytes,
        frame: bytes,
        script: tuple[Fault, float],
    ) -> None:
        """Write one register, and repeat the question's first five bytes as the answer."""
        request = frame[7:] if self.mbap else frame[1:-2]
        pdu = request[:5]
        if request[0] == meter.takes:
            meter.orders += 1
            address, word = (
                struct.unpack(">H", request[1:3])[0],
                struct.unpack(">H", request[-2:])[0],
            )
            meter.written[address] = word
        else:
            pdu = bytes([request[0] | 0x80, 1])
        self.overlaps += self._busy
        self._busy += 1
        try:
            if not meter.mute_orders:
                await self._deliver(unit, pdu, transaction, *script)
        finally:
            self._busy -= 1

    async def _deliver(
        self, unit: int, pdu: bytes, transaction: bytes, fault: Fault, late_s: float
    ) -> None:
        if fault is Fault.DROP:
            return
        if fault is Fault.EXCEPTION:
            pdu = bytes([pdu[0] | 0x80, 6])
        if fault is Fault.GATEWAY:
            pdu = bytes([pdu[0] | 0x80, 0x0B])
        told = unit % 247 + 1 if fault is Fault.WRONG_UNIT else unit
        wait_s = self.turnaround_s + (late_s if fault is Fault.LATE else 0.0)
        if self.in_order:
            async with self.meters[unit].turn:
                await asyncio.sleep(wait_s)
                self._send(self._framed(told, pdu, transaction, fault))
        else:
            await asyncio.sleep(wait_s)
            self._send(self._framed(told, pdu, transaction, fault))

    def _framed(self, unit: int, pdu: bytes, transaction: bytes, fault: Fault) -> bytes:
        body = bytes([unit]) + pdu
        if self.mbap:
            return transaction + struct.pack(">HH", 0, len(body)) + body
        frame = body + crc(body)
        match fault:
            case Fault.TRUNCATE:
                return frame[: len(frame) // 2]
            case Fault.BAD_CRC:
                return frame[:-1] + bytes([frame[-1] ^ 0x55])
            case Fault.NOISE:
                return b"\x00\xff\x01\x03\x41" + frame
            case _:
                return frame

    async def rest(self) -> None:
        """Cancel the answers that are still to come."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Bus(Protocol):
    """What can stand behind a port."""

    def received(self, data: bytes, send: Callable[[bytes], None]) -> None: ...

    async def rest(self) -> None: ...


class Pty:
    """A serial port with the double at its other end; cut and mended under one file name."""

    def __init__(self, line: Bus, path: str) -> None:
        self.line = line
        self.path = path
        self._master = -1
        self._slave = -1

    def plug(self) -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        with suppress(FileNotFoundError):
            os.unlink(self.path)  # noqa: PTH108  # beside symlink, which has the same form
        os.symlink(os.ttyname(self._slave), self.path)  # noqa: PTH211
        asyncio.get_running_loop().add_reader(self._master, self._readable)

    def unplug(self) -> None:
        if self._master < 0:
            return
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = -1
        os.unlink(self.path)  # noqa: PTH108

    def _readable(self) -> None:
        try:
            data = os.read(self._master, 4096)
        except OSError:
            return
        self.line.received(data, self.write)

    def write(self, data: bytes) -> None:
        if self._master >= 0:
            os.write(self._master, data)


class Port:
    """A TCP endpoint with the double behind it; cut and mended under one port number."""

    def __init__(self, line: Bus) -> None:
        self.line = line
        self.number = 0
        self.connections = 0
        self.hang_up_on_next = False
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def listen(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.number, reuse_address=True
        )
        self.number = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        while self._writers:
            await asyncio.sleep(0)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections += 1

        def send(data: bytes) -> None:
            if not writer.is_closing():
                writer.write(data)

        try:
            while data := await reader.read(4096):
                if self.hang_up_on_next:
                    self.hang_up_on_next = False
                    break
                self.line.received(data, send)
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


class Cable:
    """What a bench hangs on, for the driver contract to cut and mend."""

    def __init__(self, end: Pty | Port) -> None:
        self._end = end

    async def cut(self) -> None:
        if isinstance(self._end, Pty):
            self._end.unplug()
        else:
            await self._end.close()

    async def mend(self) -> None:
        if isinstance(self._end, Pty):
            self._end.plug()
        else:
            await self._end.listen()


@asynccontextmanager
async def on_pty(line: Bus, path: str) -> AsyncIterator[Pty]:
    pty = Pty(line, path)
    pty.plug()
    try:
        yield pty
    finally:
        await line.rest()
        pty.unplug()


@asynccontextmanager
async def on_port(line: Bus) -> AsyncIterator[Port]:
    port = Port(line)
    await port.listen()
    try:
        yield port
    finally:
        await line.rest()
        await port.close()
