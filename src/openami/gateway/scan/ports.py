"""Ports: a serial port or a TCP endpoint that can be set, written to and listened to."""

import asyncio
import os
import termios
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

import serial

from openami.gateway.driver import LineDown
from openami.gateway.scan.findings import PortSetting

CONNECT_S_MAX: Final = 5.0  # a device server on a village's radio link answers a SYN within 3 s
RECEIVED_BYTES_MAX: Final = 64 * 1024
"""Of what has arrived and nobody has read; the oldest goes first."""
_WRITE_S: Final = 0.005  # a serial port's buffer is given so long to empty before the next try

_PARITIES: Final[Mapping[str, str]] = {
    "N": serial.PARITY_NONE,
    "E": serial.PARITY_EVEN,
    "O": serial.PARITY_ODD,
}


class SettingRefused(Exception):
    """The adapter does not take a setting; the message says which."""


class Port(Protocol):
    """What a scan and the doctor need of a line; one task uses it at a time."""

    @property
    def place(self) -> str:
        """Name it as its operator does: the device, or host and port."""
        ...

    async def prepare(self, setting: PortSetting | None, *, fresh: bool = False) -> None:
        """Have it open and set, and forget what has arrived; ``fresh`` connects an endpoint anew.

        Raises LineDown, SettingRefused.
        """
        ...

    async def send(self, octets: bytes) -> None:
        """Send, and return when the bytes are on their way. Raises LineDown."""
        ...

    async def receive(self, wait_s: float) -> bytes:
        """Return what has arrived, waiting for the first byte; nothing when none came. Raises LineDown."""
        ...

    def close(self) -> None:
        """Close it; what is closed already stays so."""
        ...


class SerialPort:
    """A serial port of this machine.

    Seven bits with parity are set as eight bits without: the same ten bits on the line, the eighth made in
    software, because not every adapter knows seven.
    """

    def __init__(self, device: str) -> None:
        self.place = device
        self._port: serial.Serial | None = None
        self._received = bytearray()
        self._arrived = asyncio.Event()
        self._setting: PortSetting | None = None

    async def prepare(self, setting: PortSetting | None, *, fresh: bool = False) -> None:
        """See `Port.prepare`."""
        assert setting is not None
        if setting != self._setting or self._port is None:
            self._set(setting)
        self._received.clear()
        self._arrived.clear()

    def _set(self, setting: PortSetting) -> None:
        self.close()
        parity = "N" if setting.databits == 7 else setting.parity
        try:
            self._port = serial.Serial(
                self.place,
                baudrate=setting.baudrate,
                parity=_PARITIES[parity],
                stopbits=setting.stopbits,
                timeout=0,
                write_timeout=0,
                exclusive=True,
            )
        except (
            OSError,
            ValueError,
        ) as error:  # SerialException is an OSError; termios.error is neither
            raise LineDown(f"{self.place} cannot be opened: {self._why_not(error)}") from None
        except termios.error:
            raise SettingRefused(f"{self.place} does not take {setting}") from None
        self._setting = setting
        asyncio.get_running_loop().add_reader(self._port.fileno(), self._readable)

    async def send(self, octets: bytes) -> None:
        """See `Port.send`."""
        left = octets
        while left:
            if self._port is None:
                raise self._gone()
            try:
                left = left[os.write(self._port.fileno(), left) :]
            except BlockingIOError:
                await asyncio.sleep(_WRITE_S)  # the caller's deadline bounds it
            except OSError:
                self.close()
                raise self._gone() from None

    async def receive(self, wait_s: float) -> bytes:
        """See `Port.receive`."""
        try:
            async with asyncio.timeout(wait_s):
                await self._arrived.wait()
        except TimeoutError:
            return b""
        received = bytes(self._received)
        self._received.clear()
        if self._port is None:
            if received:
                return received
            raise self._gone()
        self._arrived.clear()
        return received

    def close(self) -> None:
        """See `Port.close`."""
        if self._port is not None:
            asyncio.get_running_loop().remove_reader(self._port.fileno())
            self._port.close()
            self._port = None
        self._arrived.set()

    def _readable(self) -> None:
        assert self._port is not None
        try:
            octets = os.read(self._port.fileno(), RECEIVED_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            octets = b""
        if not octets:
            self.close()
            return
        self._received = (self._received + octets)[-RECEIVED_BYTES_MAX:]
        self._arrived.set()

    def _gone(self) -> LineDown:
        return LineDown(f"{self.place} is gone: was the adapter unplugged?")

    def _why_not(self, error: Exception) -> str:
        device = Path(self.place)
        if not device.exists():
            return "there is no such device; is the adapter plugged in? (`ls /dev/tty*`)"
        if not os.access(device, os.R_OK | os.W_OK):
            return "permission denied; are you in the group of the device (dialout)?"
        return f"another program has it open (stop the gateway first), or it is no serial port ({error})"


class NetworkPort:
    """A TCP endpoint: a meter, a gateway of Modbus, or a serial device server."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self.place = f"{host}:{port}"
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def prepare(self, setting: PortSetting | None, *, fresh: bool = False) -> None:
        """See `Port.prepare`; the setting is the device server's own affair."""
        if fresh or self._writer is None or self._writer.is_closing():
            await self._connect()
        assert self._reader is not None
        while self._reader and await self.receive(0.0):
            pass

    async def _connect(self) -> None:
        self.close()
        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                self._reader, self._writer = await asyncio.open_connection(
                    self._host, self._port, limit=RECEIVED_BYTES_MAX
                )
        except OSError as error:  # TimeoutError is one
            raise LineDown(
                f"nothing accepts a connection at {self.place} within {CONNECT_S_MAX:.0f} s "
                f"({error.strerror or 'no answer'}); check address, cable and power"
            ) from None

    async def send(self, octets: bytes) -> None:
        """See `Port.send`."""
        if self._writer is None:
            await self._connect()
        assert self._writer is not None
        try:
            self._writer.write(octets)
            await self._writer.drain()
        except OSError:
            self.close()

    async def receive(self, wait_s: float) -> bytes:
        """See `Port.receive`; a connection the other side closed is an answer that did not come."""
        if self._reader is None:
            return b""
        try:
            async with asyncio.timeout(wait_s):
                received = await self._reader.read(RECEIVED_BYTES_MAX)
        except TimeoutError:
            return b""
        except OSError:
            received = b""
        if not received:
            self.close()
        return received

    def close(self) -> None:
        """See `Port.close`."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None
