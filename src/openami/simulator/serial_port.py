"""A serial port with simulated meters at its other end: a pseudo-terminal under a file name of our choice.

It can be unplugged and plugged in again under the same name, as an adapter is. A pseudo-terminal carries
eight data bits without parity at any speed, so what it cannot show is a wrong baud rate.
"""

import asyncio
import os
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_READ_BYTES_MAX: Final = 4096  # more than any question

Send = Callable[[bytes], None]
Received = Callable[[bytes, Send], None]
"""What is done with the bytes that came; ``send`` answers."""


class SerialPort:
    """One port. It needs a running event loop to be plugged in."""

    def __init__(self, path: Path, received: Received) -> None:
        self.path = path
        self._received = received
        self._master = self._slave = -1

    def plug(self) -> None:
        """Let the port appear."""
        assert self._master < 0
        self._master, self._slave = os.openpty()
        # Kept open by us too: while nobody has the port open, it must not hang up.
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path.symlink_to(os.ttyname(self._slave))
        asyncio.get_running_loop().add_reader(self._master, self._readable)

    def unplug(self) -> None:
        """Let it vanish, under whoever has it open."""
        if self._master < 0:
            return
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = -1
        self.path.unlink()

    def _readable(self) -> None:
        with suppress(OSError):  # it went between the poll and the read
            self._received(os.read(self._master, _READ_BYTES_MAX), self._send)

    def _send(self, octets: bytes) -> None:
        # A line nobody reads is full at some time; what does not fit is lost, as on a wire.
        with suppress(OSError):
            if self._master >= 0:
                os.write(self._master, octets)


@contextmanager
def plugged_in(path: Path, received: Received) -> Iterator[SerialPort]:
    """Have a port while the context lasts."""
    port = SerialPort(path, received)
    port.plug()
    try:
        yield port
    finally:
        port.unplug()
