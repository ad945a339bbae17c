"""A peer that sends exactly the bytes a test writes: for what no decent broker does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from openami.mqtt.settings import BrokerSettings, Protocol

CONNACK_311 = bytes([0x20, 2, 0, 0])
CONNACK_5 = bytes([0x20, 3, 0, 0, 0])
PINGREQ = bytes([0xC0, 0])
PINGRESP = bytes([0xD0, 0])
DISCONNECT = 0xE0


def connack_5(reason: int = 0, properties: bytes = b"") -> bytes:
    return bytes([0x20, 3 + len(properties), 0, reason, len(properties)]) + properties


def publish_311(topic: bytes, payload: bytes, packet_id: int) -> bytes:
    body = len(topic).to_bytes(2, "big") + topic + packet_id.to_bytes(2, "big") + payload
    return bytes([0x32]) + _length(len(body)) + body


def publish_5(
    topic: bytes, payload: bytes, packet_id: int, *, first: int = 0x32, properties: bytes = b""
) -> bytes:
    """A PUBLISH of MQTT 5; ``first`` is its first byte, which says QoS and retain. At QoS 0 it has no packet id."""
    number = packet_id.to_bytes(2, "big") if first & 0x06 else b""
    head = len(topic).to_bytes(2, "big") + topic + number
    body = head + _length(len(properties)) + properties + payload
    return bytes([first]) + _length(len(body)) + body


def suback_311(packet_id: bytes) -> bytes:
    return bytes([0x90, 3]) + packet_id + b"\x01"


def _length(number: int) -> bytes:
    out = bytearray()
    while True:
        number, digit = divmod(number, 128)
        out.append(digit | (0x80 if number else 0))
        if not number:
            return bytes(out)


class Peer:
    """The broker's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def packet(self) -> tuple[int, bytes]:
        """Return the next packet's first byte and body."""
        first = (await self._reader.readexactly(1))[0]
        length = shift = 0
        while True:
            digit = (await self._reader.readexactly(1))[0]
            length |= (digit & 0x7F) << shift
            shift += 7
            if not digit & 0x80:
                return first, await self._reader.readexactly(length)

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def until_closed(self) -> None:
        """Wait until the client has gone, whatever it still says."""
        with contextlib.suppress(ConnectionError):
            while await self._reader.read(65_536):
                pass


@contextlib.asynccontextmanager
async def scripted_broker(
    script: Callable[[Peer], Awaitable[None]], protocol: Protocol = "3.1.1"
) -> AsyncIterator[BrokerSettings]:
    """Serve every connection by a script; yield the settings that lead there."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await script(Peer(reader, writer))
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield BrokerSettings(
            url=f"mqtt://127.0.0.1:{port}",
            client_id="hes",
            protocol=protocol,
            connect_timeout_s=2,
        )
    finally:
        server.close()
        await server.wait_closed()
