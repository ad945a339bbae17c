"""Wire: an asyncio connection in the shape of the socket paho reads and writes.

asyncio owns the socket: TLS, back-pressure, buffering. paho is handed bytes from memory instead of asking
the kernel for one byte, then one more, then the rest, of every packet; and what it sends in one turn of
the loop leaves in one piece. That is worth a third of the time a message costs.
"""

import asyncio
import ssl
from collections.abc import Callable

# What is read, and so decoded, in one turn of the loop: 150 messages of usual size, about 3 ms.
READ_BYTES_MAX = 64 * 1024


class Wire(asyncio.BufferedProtocol):
    """Bytes in for paho, bytes out from paho; ``on_bytes`` and ``on_lost`` tell the owner."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_bytes: Callable[[], None],
        on_lost: Callable[[Exception | None], None],
    ) -> None:
        self._loop = loop
        self._on_bytes = on_bytes
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._landing = memoryview(bytearray(READ_BYTES_MAX))
        self._unread = b""
        self._position = 0
        self._unsent = bytearray()
        self._flush_is_due = False
        self.lost: asyncio.Future[None] = loop.create_future()
        self.discarding = False
        self.last_received_s = self.last_sent_s = loop.time()

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._landing

    def buffer_updated(self, nbytes: int) -> None:
        self.last_received_s = self._loop.time()
        if self.discarding:
            return
        rest = self._unread[self._position :]
        self._unread = rest + bytes(self._landing[:nbytes])
        self._position = 0
        self._on_bytes()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.lost.done():
            self.lost.set_result(None)
        self._on_lost(exc)

    # --- what paho calls (its SocketLike)

    def recv(self, buffer_size: int) -> bytes:
        chunk = self._unread[self._position : self._position + buffer_size]
        if not chunk:
            raise BlockingIOError
        self._position += len(chunk)
        return chunk

    def send(self, buffer: bytes | bytearray) -> int:
        if not self.is_open:
            raise ConnectionResetError("the connection has ended")
        self._unsent += buffer
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self.flush)
        return len(buffer)

    def close(self) -> None:
        """Only flush: paho closes as soon as it has sent DISCONNECT, the owner when it has left."""
        self.flush()

    def fileno(self) -> int:
        return -1  # nobody may poll what asyncio polls already

    def setblocking(self, flag: bool) -> None:
        """Accept paho's wish; asyncio's sockets never block."""

    # --- what the owner calls

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS beneath, while the connection is open; None without."""
        if self._transport is None:
            return None
        tls: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object")
        return tls

    @property
    def is_open(self) -> bool:
        """Whether bytes can still be sent."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def has_unread(self) -> bool:
        """Whether bytes are waiting to be read."""
        return self._position < len(self._unread)

    @property
    def unread(self) -> memoryview:
        """The bytes that are waiting to be read; `skip` those that were, or let paho receive them."""
        return memoryview(self._unread)[self._position :]

    def skip(self, nbytes: int) -> None:
        """Let go of what was read without paho."""
        self._position += nbytes

    def flush(self) -> None:
        """Hand everything paho has sent to the kernel."""
        self._flush_is_due = False
        if self._unsent and self._transport is not None and not self._transport.is_closing():
            self.last_sent_s = self._loop.time()
            self._transport.write(bytes(self._unsent))
        self._unsent.clear()

    def pause(self) -> None:
        """Stop reading: the kernel's window fills, and the broker has to wait."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def end_writing(self) -> None:
        """Flush, and tell the other side that nothing more will come (not possible over TLS)."""
        self.flush()
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()

    def shut(self) -> None:
        """Close when what is unsent has left."""
        self.flush()
        if self._transport is not None:
            self._transport.close()

    async def abort(self) -> None:
        """Close at once; what is unsent is dropped. Return when the socket is closed."""
        if self._transport is not None:
            self._transport.abort()
            await self.lost
