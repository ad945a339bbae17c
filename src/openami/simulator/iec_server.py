"""A line of mode C meters behind a serial port (a pty), or behind a serial device server (TCP).

A pty carries every speed at once, but remembers which one its other end has ordered: what is sent at another
than the meter is at is as good as noise.
"""

import asyncio
import os
import termios
import tty
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Protocol

from openami.simulator.iec_line import BAUDRATES, Conversation, IecLine, Said
from openami.simulator.tcp_server import serving_tcp

_READ_BYTES = 4096  # more than a reader sends before it waits for an answer
_SPEEDS = {getattr(termios, f"B{baudrate}"): baudrate for baudrate in BAUDRATES}


class _Speaker:
    """Says on a port what a conversation has to say, each thing in its time."""

    def __init__(self, line: IecLine) -> None:
        self._conversation = Conversation(line)
        self._to_say: set[asyncio.TimerHandle] = set()

    def hear(self, octets: bytes, baudrate: int, port: "_Port") -> None:
        loop = asyncio.get_running_loop()
        for said in self._conversation.heard(octets, baudrate, loop.time()):
            self._to_say = {handle for handle in self._to_say if handle.when() > loop.time()}
            self._to_say.add(loop.call_later(said.after_s, partial(port.say, said)))

    def fall_silent(self) -> None:
        for handle in self._to_say:
            handle.cancel()


class _Port(Protocol):
    def say(self, said: Said) -> None: ...


@asynccontextmanager
async def serving_pty(line: IecLine, path: Path) -> AsyncIterator[None]:
    """Serve a line behind a serial port at ``path``, a link to a pty, while the context lasts."""
    pty = _Pty(line, path)
    try:
        yield
    finally:
        pty.close()


class _Pty:
    def __init__(self, line: IecLine, path: Path) -> None:
        self._speaker = _Speaker(line)
        self._path = path
        self._near, self._far = os.openpty()
        tty.setraw(self._far)
        os.set_blocking(self._near, False)
        path.unlink(missing_ok=True)
        path.symlink_to(os.ttyname(self._far))
        asyncio.get_running_loop().add_reader(self._near, self._readable)

    def close(self) -> None:
        self._speaker.fall_silent()
        asyncio.get_running_loop().remove_reader(self._near)
        self._path.unlink(missing_ok=True)
        os.close(self._far)
        os.close(self._near)

    def _readable(self) -> None:
        with suppress(OSError):  # nobody has the other end open
            self._speaker.hear(os.read(self._near, _READ_BYTES), self._speed(), self)

    def say(self, said: Said) -> None:
        octets = said.octets if self._speed() == said.baudrate else _noise(said.octets)
        with suppress(BlockingIOError):  # nobody reads: a real line does not wait either
            os.write(self._near, octets)

    def _speed(self) -> int:
        return _SPEEDS.get(termios.tcgetattr(self._near)[5], 0) or BAUDRATES[0]


def _noise(octets: bytes) -> bytes:
    """Return what is heard of bytes sent at another speed."""
    return bytes(octet ^ 0x5B for octet in octets[::3])


def serving(
    line: IecLine, *, host: str = "127.0.0.1", port: int = 0
) -> AbstractAsyncContextManager[int]:
    """Serve a line behind a device server of one speed; it yields the port (``port=0`` takes a free one)."""
    return serving_tcp(partial(_converse, line), host=host, port=port)


class _Connection:
    def __init__(self, line: IecLine, writer: asyncio.StreamWriter) -> None:
        self._line = line
        self._writer = writer

    def say(self, said: Said) -> None:
        if not self._writer.is_closing():
            self._writer.write(
                said.octets if said.baudrate == self._line.baudrate else _noise(said.octets)
            )


async def _converse(
    line: IecLine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    speaker, connection = _Speaker(line), _Connection(line, writer)
    try:
        while octets := await reader.read(_READ_BYTES):
            speaker.hear(octets, line.baudrate, connection)
    finally:
        speaker.fall_silent()
