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
from openami.gateway.wire import CONNECT_S_MAX, RECEIVED_BYTES_MAX, SerialBytes

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


class SerialPort(SerialBytes):
    """A serial port of this machine.

    Seven bits with parity are set as eight bits without: the same ten bits on the line, the eighth made in
    software, because not every adapter knows seven.
    """

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self._setting: PortSetting | None = None

    async def prepare(self, setting: PortSetting | None, *, fresh: bool = False) -> None:
        """See `Port.prepare`."""
        assert setting is not None
        if setting != self._setting or self._port is None:
            self._set(setting)
        self._forget()

    def _set(self, setting: PortSetting) -> None:
        self.close()
        parity = "N" if setting.databits == 7 else setting.parity
        try:
            port = serial.Serial(
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
        ) as error:  # SerialException is an OSError, termios.error neither
            raise LineDown(f"{self.place} cannot be opened: {self._why_not(error)}") from None
        except termios.error:
            raise SettingRefused(f"{self.place} does not take {setting}") from None
        self._setting = setting
        self._listen(port)

    async def receive(self, wait_s: float) -> bytes:
        """See `Port.receive`."""
        try:
            async with asyncio.timeout(wait_s):
                return await self._taken()
        except TimeoutError:
            return b""

    def _closed(self) -> LineDown:
        return self._gone()

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
