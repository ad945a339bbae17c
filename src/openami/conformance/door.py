"""The door: what a gateway connects to. It ends TLS, looks at each packet, and passes it on to the broker.

A broker tells a subscriber the topic and the payload, and nothing else the profile speaks of: neither the QoS
and the retain flag as they were sent, nor that a message came a second time, nor who sent it, nor over what.
The door sees all of it, and it can do what no broker does when asked: cut the link, keep it down, hold back
an acknowledgement (decision 0046).

Each connection has two tasks and buffers of its own: one that sends nonsense is closed, one that reads nothing
waits for itself. An unencrypted client is listened to until it has said who it is, so that it can be told why
it is sent away.
"""

import asyncio
import contextlib
import itertools
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from openami.clock import Clock
from openami.conformance.mqtt_packets import (
    ConnAck,
    Connect,
    Disconnect,
    Framed,
    PacketError,
    PacketReader,
    PubAck,
    Publish,
    Subscribe,
    refusal,
)
from openami.conformance.observation import (
    Acknowledged,
    Connected,
    Disconnected,
    Observation,
    Published,
    Subscribed,
)

# A gateway, its next connection before the last is known to be dead, a head-end, and somebody who tries.
CONNECTIONS_MAX: Final = 64
# TLS over GPRS takes three round trips of two seconds; CONNECT follows at once.
HELLO_S_MAX: Final = 20.0
# The broker is on this machine.
BROKER_ANSWER_S_MAX: Final = 5.0
# The last words of a connection; a client that has gone takes none.
CLOSE_S_MAX: Final = 2.0
# What is read, and so looked at, in one turn: a hundred messages; then it is another connection's turn.
READ_BYTES_MAX: Final = 64 * 1024
# Connections that wait to be taken up.
BACKLOG_MAX: Final = 64
# Too many open files: some are closed by then.
_ACCEPT_AGAIN_S = 0.1
# TLS begins with a handshake record (RFC 8446, 5.1), MQTT with CONNECT.
_TLS_FIRST = 0x16
_CONNECT_FIRST = 0x10

Admit = Callable[[Connect, str | None], str | None]
"""CONNECT and the certificate's name in; None lets the client in, a sentence says why not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What a door stands in: the broker behind it, who may come in, who is told what is seen and said."""

    broker: tuple[str, int]
    tls: ssl.SSLContext
    admit: Admit
    see: Callable[[Observation], None]
    tell: Callable[[str], None]
    clock: Clock
    hello_s_max: float = HELLO_S_MAX


@dataclass(slots=True)
class _Link:
    """One connection that was let in."""

    number: int
    client: asyncio.StreamWriter
    orderly: bool = False
    by_kit: bool = False


class Door:
    """Listens, and carries each connection; what it does on its own account is in the three verbs below."""

    def __init__(self, around: Around) -> None:
        self._around = around
        self._numbers = itertools.count(1)
        self._links: dict[int, _Link] = {}  # bound: CONNECTIONS_MAX
        self._connections: set[asyncio.Task[None]] = set()  # bound: CONNECTIONS_MAX
        self.is_down = False
        """Whether the network is "down": every link was cut, and a new one is cut before its first byte."""
        self.withholding = False
        """Whether PUBACKs are kept back: the message has arrived, and its sender cannot know."""

    @contextlib.asynccontextmanager
    async def listening(self, sockets: Sequence[socket.socket]) -> AsyncIterator[None]:
        """Take connections on sockets that listen; all of them end with the context."""
        async with asyncio.TaskGroup() as group:
            takers = [
                group.create_task(self._take(listener, group), name="door") for listener in sockets
            ]
            try:
                yield
            finally:
                self.cut()
                for task in (*takers, *self._connections):
                    task.cancel()

    # --- what the kit does to a link

    def cut(self) -> int:
        """End every link as a dead network does, without a goodbye; return how many there were."""
        links = list(self._links.values())
        for link in links:
            link.by_kit = True
            link.client.transport.abort()
        return len(links)

    def take_down(self) -> None:
        """Cut every link and let nobody in until ``put_up``."""
        self.is_down = True
        self.cut()

    def put_up(self) -> None:
        """Let clients in again."""
        self.is_down = False

    # --- carrying

    async def _take(self, listener: socket.socket, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError:
                # Too many open files, or gone before it was taken up: the next may fare better.
                await asyncio.sleep(_ACCEPT_AGAIN_S)
                continue
            if self.is_down or len(self._connections) >= CONNECTIONS_MAX:
                client.close()
                continue
            client.setblocking(False)
            carrying = group.create_task(self._received(client), name="door connection")
            self._connections.add(carrying)
            carrying.add_done_callback(self._connections.discard)

    async def _received(self, client: socket.socket) -> None:
        try:
            await self._welcomed(client)
        except PacketError as error:
            self._around.tell(f"a client was closed, because it does not speak MQTT: {error}")
        except ssl.SSLError as error:
            self._around.tell(_tls_trouble(error))
        except (OSError, EOFError):
            pass  # a visitor who says nothing, or leaves in the middle: another one comes

    async def _welcomed(self, client: socket.socket) -> None:
        """Hear who it is; carry it, or tell it why not."""
        async with asyncio.timeout(self._around.hello_s_max):
            reader, writer = await self._entered(client)
            packets = PacketReader()
            with contextlib.ExitStack() as unless_heard:  # at the timeout, too, nobody else would
                unless_heard.callback(writer.transport.abort)
                connect, hello = await _hello(reader, packets)
                unless_heard.pop_all()
        encrypted = writer.get_extra_info("ssl_object") is not None
        certified_as = _common_name(writer)
        if encrypted and (why := self._around.admit(connect, certified_as)) is not None:
            self._around.tell(why)
            await _refused(writer, connect.level)
            return
        number = next(self._numbers)
        self._see_connected(number, connect, writer)
        if not encrypted:
            self._around.tell(
                f"{connect.client_id or 'a client'} came without TLS, which the profile asks for: "
                "use mqtts:// and the kit's CA certificate (OA-TLS-001)"
            )
            await _refused(writer, connect.level)
            self._see(Disconnected(self._now(), number, orderly=False, by_kit=True))
            return
        await self._carried(_Link(number, writer), reader, packets, hello)

    async def _entered(
        self, client: socket.socket
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return the streams of a client, by TLS if that is how it begins. Raises PacketError, EOFError."""
        with contextlib.ExitStack() as unless_known:  # there is no transport yet that would
            unless_known.callback(client.close)
            first = await _first_byte(client)
            if first not in (_TLS_FIRST, _CONNECT_FIRST):
                raise PacketError(f"the first byte is {first:#04x}: neither TLS nor MQTT")
            unless_known.pop_all()
        if first != _TLS_FIRST:
            return await _streams(client, None)
        try:
            return await _streams(client, self._around.tls)
        except ConnectionError:
            self._around.tell(
                "a client broke a TLS handshake off without saying why: most often it does not trust "
                "the kit's CA certificate, or calls the kit by another name"
            )
            raise

    async def _carried(
        self,
        link: _Link,
        reader: asyncio.StreamReader,
        packets: PacketReader,
        hello: bytes,
    ) -> None:
        self._links[link.number] = link
        broker: asyncio.StreamWriter | None = None
        try:
            answers, broker = await self._to_broker()
            broker.write(hello)
            up = asyncio.create_task(self._up(link, packets, reader, broker), name="up")
            down = asyncio.create_task(self._down(link, packets.level, answers), name="down")
            try:
                await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (up, down):
                    task.cancel()
                outcomes = await asyncio.gather(up, down, return_exceptions=True)
            _raise_unexpected(outcomes)
        finally:
            del self._links[link.number]
            self._see(Disconnected(self._now(), link.number, link.orderly, link.by_kit))
            if broker is not None:
                # What was sent before the end is delivered: closing writes out what is buffered.
                await _closed(broker)
            if link.by_kit:
                link.client.transport.abort()
            else:
                await _closed(link.client)

    async def _to_broker(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with asyncio.timeout(BROKER_ANSWER_S_MAX):
                return await asyncio.open_connection(*self._around.broker)
        except OSError:
            self._around.tell("the kit's own broker does not answer: start the kit again")
            raise

    async def _up(
        self,
        link: _Link,
        packets: PacketReader,
        reader: asyncio.StreamReader,
        broker: asyncio.StreamWriter,
    ) -> None:
        data = b""  # what came with CONNECT is there already
        while True:
            for framed in packets.read(data):
                self._sent_up(link, framed)
                broker.write(framed.raw)
            await broker.drain()
            if not (data := await reader.read(READ_BYTES_MAX)):
                return

    def _sent_up(self, link: _Link, framed: Framed) -> None:
        match framed.packet:
            case Publish() as publish:
                self._see(
                    Published(
                        at=self._now(),
                        topic=publish.topic,
                        payload=publish.payload,
                        qos=publish.qos,
                        retain=publish.retain,
                        dup=publish.dup,
                        connection=link.number,
                        packet_id=publish.packet_id,
                        wire_bytes=len(framed.raw),
                    )
                )
            case Subscribe() as subscribe:
                self._see(Subscribed(self._now(), link.number, subscribe.filters))
            case Disconnect():
                link.orderly = True
            case _:
                pass

    async def _down(self, link: _Link, level: int | None, answers: asyncio.StreamReader) -> None:
        packets = PacketReader(level)
        while data := await answers.read(READ_BYTES_MAX):
            for framed in packets.read(data):
                if self._passes_down(link, framed):
                    link.client.write(framed.raw)
            await link.client.drain()

    def _passes_down(self, link: _Link, framed: Framed) -> bool:
        match framed.packet:
            case PubAck(packet_id):
                withheld = self.withholding
                self._see(Acknowledged(self._now(), link.number, packet_id, withheld))
                return not withheld
            case ConnAck(code=code) if code:
                self._around.tell(f"the broker refused the client with code {code:#04x}")
        return True

    # --- telling

    def _see_connected(self, number: int, connect: Connect, writer: asyncio.StreamWriter) -> None:
        tls = writer.get_extra_info("ssl_object")
        self._see(
            Connected(
                at=self._now(),
                connection=number,
                client_id=connect.client_id,
                protocol=connect.protocol,
                clean=connect.clean,
                keep_alive_s=connect.keep_alive_s,
                will_topic=connect.will_topic,
                tls=None if tls is None else tls.version(),
                certified_as=_common_name(writer),
            )
        )

    def _see(self, observation: Observation) -> None:
        self._around.see(observation)

    def _now(self) -> datetime:
        return self._around.clock.now()


async def _first_byte(client: socket.socket) -> int:
    """Look at the first byte without taking it: TLS has to find it there. Raises EOFError."""
    loop = asyncio.get_running_loop()
    arrived = loop.create_future()
    loop.add_reader(client.fileno(), _wake, arrived)
    try:
        await arrived
    finally:
        loop.remove_reader(client.fileno())
    first = client.recv(1, socket.MSG_PEEK)
    if not first:
        raise EOFError
    return first[0]


def _wake(arrived: "asyncio.Future[None]") -> None:
    if not arrived.done():
        arrived.set_result(None)


async def _streams(
    client: socket.socket, tls: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=READ_BYTES_MAX)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.connect_accepted_socket(
        lambda: protocol,
        client,
        ssl=tls,
        ssl_handshake_timeout=HELLO_S_MAX if tls else None,
        ssl_shutdown_timeout=CLOSE_S_MAX if tls else None,
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def _hello(reader: asyncio.StreamReader, packets: PacketReader) -> tuple[Connect, bytes]:
    """Return CONNECT and its bytes; what came with it waits in ``packets``. Raises PacketError, EOFError."""
    while data := await reader.read(READ_BYTES_MAX):
        for framed in packets.read(data):
            assert isinstance(framed.packet, Connect)  # the reader takes no other first packet
            return framed.packet, framed.raw
    raise EOFError


async def _refused(writer: asyncio.StreamWriter, level: int) -> None:
    writer.write(refusal(level))
    await _closed(writer)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        async with asyncio.timeout(CLOSE_S_MAX):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()


def _common_name(writer: asyncio.StreamWriter) -> str | None:
    certificate = writer.get_extra_info("peercert")
    if not certificate:
        return None
    names = [
        value for part in certificate["subject"] for name, value in part if name == "commonName"
    ]
    return names[0] if names else ""


def _raise_unexpected(outcomes: Sequence[BaseException | None]) -> None:
    """Raise what ended a direction and was neither the network's doing nor our own."""
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(
            outcome, OSError | EOFError | asyncio.CancelledError
        ):
            raise outcome


def _tls_trouble(error: ssl.SSLError) -> str:
    reason = (error.reason or str(error)).lower().replace("_", " ")
    if "unknown ca" in reason or "bad certificate" in reason or "certificate unknown" in reason:
        remedy = "it does not trust the kit's CA certificate, or calls the kit by another name"
    elif "version" in reason or "unsupported protocol" in reason:
        remedy = "it has to speak TLS 1.2 or 1.3"
    elif "verify failed" in reason:
        remedy = "its certificate is not signed by the kit's CA: use the one in the kit's directory"
    else:
        remedy = "look at the TLS settings of the client"
    return f"a TLS handshake failed ({reason}): {remedy}"
