"""A simulated line behind a TCP port: clients come and go, and none outlives the line."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress

Converse = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]
"""Answers one client until it leaves. What it lets out of a client that left in the middle is nobody's fault."""


@asynccontextmanager
async def serving_tcp(converse: Converse, *, host: str, port: int) -> AsyncIterator[int]:
    """Serve while the context lasts; yield the port (``port=0`` takes a free one)."""
    connections: set[asyncio.Task[None]] = set()

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                await converse(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(conversation(reader, writer), name="simulated line's client")
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(accept, host, port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
