"""A bad link in user space: what passes is delayed, narrowed and now and then held up.

TCP hides lost packets from both ends and shows them as waiting, so that is what this does: a piece that was "lost"
comes when it would have been sent again, and everything behind it waits for it. TLS goes through untouched.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

# What one piece carries, about a packet of a 2G link.
_PIECE_BYTES = 1_000
# How much may be under way in one direction: beyond it the sender waits, as with a full modem.
_PIECES_UNDER_WAY_MAX = 16


@dataclass
class Quality:
    """How the link is at the moment; a test may change it while it is open."""

    delay_s: float = 0.0
    """One way."""
    jitter_s: float = 0.0
    bytes_per_s: float = 0.0
    """0: no bound."""
    loss: float = 0.0
    """The share of pieces that have to be sent again."""
    retransmission_s: float = 1.5
    """After how long they are: a TCP timeout at such a delay."""


@dataclass
class BadLink:
    """The link to one port, and who came through it."""

    quality: Quality = field(default_factory=Quality)
    up: bool = True
    connections: int = 0
    """How many were made so far."""
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    def cut(self) -> None:
        """Let nobody through any more, and throw out who is."""
        self.up = False
        for task in self._open:
            task.cancel()

    def mend(self) -> None:
        """Let everybody through again."""
        self.up = True

    @asynccontextmanager
    async def to(self, port: int) -> AsyncIterator[int]:
        """Yield the port at this end of the link to a port of this machine."""

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if not self.up:
                writer.transport.abort()
                return
            self.connections += 1
            task = asyncio.create_task(self._carry(reader, writer, port), name="bad link")
            self._open.add(task)
            task.add_done_callback(self._open.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            ours = list(self._open)
            self.cut()
            await asyncio.gather(*ours, return_exceptions=True)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int
    ) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._one_way(reader, far_writer))
                ways.create_task(self._one_way(far_reader, writer))
        except* ConnectionError:
            pass
        finally:
            for each in (writer, far_writer):
                each.transport.abort()

    async def _one_way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one direction; its end ends the other direction too, by raising."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_PIECES_UNDER_WAY_MAX)

        async def deliver() -> None:
            while True:
                due_s, piece = await under_way.get()
                await asyncio.sleep(max(0.0, due_s - loop.time()))
                writer.write(piece)
                await writer.drain()
                under_way.task_done()

        delivering = asyncio.create_task(deliver())
        try:
            while piece := await reader.read(_PIECE_BYTES):
                quality = self.quality
                if quality.bytes_per_s:
                    await asyncio.sleep(len(piece) / quality.bytes_per_s)
                waits_s = quality.delay_s + self.chance.uniform(0.0, quality.jitter_s)
                if self.chance.random() < quality.loss:
                    waits_s += quality.retransmission_s
                await under_way.put((loop.time() + waits_s, piece))
            await under_way.join()
        finally:
            delivering.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await delivering
        raise ConnectionResetError("the other end has closed")
