"""The wire of drivers that speak in bytes: a serial port or a TCP connection, opened, written to, listened to,
closed.
"""

import asyncio
import os
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

import serial

from openami.gateway.driver import LineDown

CONNECT_S_MAX: Final = 5.0  # a device server on a village's radio link answers a SYN within 3 s
DRAIN_S_MAX: Final = 5.0
"""How long a line may babble before it is called down; the longest frame of DLMS takes 2.5 s at 1200 Bd."""
RECEIVED_BYTES_MAX: Final = 64 * 1024
"""Of what has arrived and is not read yet; a meter that sends more unasked is cut off."""
_WRITE_S: Final = 0.02  # a serial port's buffer is given so long to empty before the next try


class Wire(Protocol):
    """What a line needs of its port; one task uses it at a time."""

    @property
    def connected(self) -> bool: ...

    async def open(self) -> None:
        """Open the port or connect to the endpoint. Raises LineDown."""
        ...

    def close(self) -> None:
        """Close it; what is closed already stays so."""
        ...

    async def send(self, octets: bytes) -> None:
        """Hand the bytes over. Raises LineDown."""
        ...

    async def receive(self) -> bytes:
        """Return what has arrived, waiting for the first byte. Raises LineDown."""
        ...


@runtime_checkable
class SpeedWire(Wire, Protocol):
    """A wire whose speed can be changed while it is open."""

    def set_baudrate(self, baudrate: int) -> None:
        """Go over to another speed now; what is still leaving leaves at it. Raises LineDown."""
        ...


async def silence(
    wire: Wire, silence_s: float, place: str, *, drain_s_max: float = DRAIN_S_MAX
) -> None:
    """Throw away what arrives until nothing has for so long.

    Raises LineDown when the line does not come to rest.
    """
    loop = asyncio.get_running_loop()
    end_at = loop.time() + drain_s_max + silence_s
    while loop.time() < end_at:
        try:
            async with asyncio.timeout(silence_s):
                await wire.receive()
        except TimeoutError:
            return
    wire.close()
    raise LineDown(
        f"{place} does not come to rest: look for a second master, a wrong baudrate or missing "
        "termination"
    )


class TcpWire:
    """A TCP connection."""

    def __init__(self, host: str, port: int, *, place: str) -> None:
        """``place`` names it for its operator."""
        self._host, self._port = host, port
        self._place = place
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def connected(self) -> bool:
        return self._writer is not None and not self._writer.is_closing()

    async def open(self) -> None:
        """See `Wire.open`."""
        self.close()
        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                self._reader, self._writer = await asyncio.open_connection(
                    self._host, self._port, limit=RECEIVED_BYTES_MAX
                )
        except OSError:  # TimeoutError is one
            raise LineDown(
                f"{self._place} cannot be opened: nothing accepts a connection there within "
                f"{CONNECT_S_MAX:.0f} s; check address, cable and power"
            ) from None

    def close(self) -> None:
        """See `Wire.close`."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def send(self, octets: bytes) -> None:
        """See `Wire.send`."""
        if self._writer is None:
            raise LineDown(f"{self._place} is closed")
        try:
            self._writer.write(octets)
            await self._writer.drain()
        except OSError as error:
            raise self._broken(str(error)) from None

    async def receive(self) -> bytes:
        """See `Wire.receive`."""
        if self._reader is None:
            raise LineDown(f"{self._place} is closed")
        try:
            received = await self._reader.read(RECEIVED_BYTES_MAX)
        except OSError as error:
            raise self._broken(str(error)) from None
        if not received:
            raise self._broken("closed by the other side")
        return received

    def _broken(self, why: str) -> LineDown:
        self.close()
        return LineDown(f"{self._place}: {why}")


class SerialBytes:
    """The bytes of a serial port of this machine: they leave at once; what arrives is kept until it is taken."""

    def __init__(self, place: str) -> None:
        """``place`` names it for its operator."""
        self.place = place
        self._port: serial.Serial | None = None
        self._received = bytearray()
        self._arrived = asyncio.Event()

    def _listen(self, port: serial.Serial) -> None:
        """Take a port that has been opened, with a timeout of 0."""
        self._port = port
        self._forget()
        asyncio.get_running_loop().add_reader(port.fileno(), self._readable)

    def _forget(self) -> None:
        self._received.clear()
        self._arrived.clear()

    def close(self) -> None:
        """Close it; what is closed already stays so."""
        if self._port is not None:
            asyncio.get_running_loop().remove_reader(self._port.fileno())
            self._port.close()
            self._port = None
        self._arrived.set()

    async def send(self, octets: bytes) -> None:
        """Hand the bytes over. Raises LineDown."""
        left = octets
        while left:
            if self._port is None:
                raise self._closed()
            try:
                left = left[os.write(self._port.fileno(), left) :]
            except BlockingIOError:
                await asyncio.sleep(_WRITE_S)  # the caller's deadline bounds it
            except OSError:
                self.close()
                raise self._gone() from None

    async def _taken(self) -> bytes:
        """Return what has arrived, waiting for the first byte. Raises LineDown."""
        await self._arrived.wait()
        if not self._received:
            raise self._gone()
        received = bytes(self._received)
        self._received.clear()
        if self._port is not None:
            self._arrived.clear()
        return received

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
        # The oldest bytes go first: who did not read them in time does not want them any more.
        self._received = (self._received + octets)[-RECEIVED_BYTES_MAX:]
        self._arrived.set()

    def _closed(self) -> LineDown:
        return LineDown(f"{self.place} is closed")

    def _gone(self) -> LineDown:
        return LineDown(f"{self.place} is gone: was the adapter unplugged?")


class SerialWire(SerialBytes):
    """A serial port of this machine, 8 data bits."""

    def __init__(
        self, device: str, *, baudrate: int, place: str, parity: str = "N", stopbits: int = 1
    ) -> None:
        """``place`` names it for its operator."""
        super().__init__(place)
        self._device, self._baudrate = device, baudrate
        self._parity, self._stopbits = parity, stopbits

    @property
    def connected(self) -> bool:
        return self._port is not None

    async def open(self) -> None:
        """See `Wire.open`."""
        self.close()
        try:
            port = serial.Serial(
                self._device,
                baudrate=self._baudrate,
                parity=self._parity,
                stopbits=self._stopbits,
                timeout=0,
                write_timeout=0,
                exclusive=True,
            )
        except (OSError, ValueError):  # SerialException is an OSError
            raise LineDown(f"{self.place} cannot be opened: {self._why_not()}") from None
        self._listen(port)

    def set_baudrate(self, baudrate: int) -> None:
        """See `SpeedWire.set_baudrate`."""
        if self._port is None:
            raise self._closed()
        try:
            self._port.baudrate = baudrate
        except (OSError, ValueError):
            self.close()
            raise LineDown(f"{self.place} does not take {baudrate} Bd") from None

    async def receive(self) -> bytes:
        """See `Wire.receive`."""
        return await self._taken()

    def _why_not(self) -> str:
        device = Path(self._device)
        if not device.exists():
            return "there is no such device; is the adapter plugged in?"
        if not os.access(device, os.R_OK | os.W_OK):
            return "permission denied; is the gateway's user in the group of the device (dialout)?"
        return "another program has it open, or it is not a serial port"
