"""A box in this process: it counts what it is told to, can fall silent, and be cut off."""

import asyncio
from dataclasses import dataclass

from openami_pulse_counter.protocol import Answer, NoAnswer, read_question

_THINKS_S = 0.002


@dataclass
class Channel:
    """One input and what is written on its meter."""

    label: str
    pulses: int
    silent: bool = False


class Box:
    """A TCP server on this machine, under one port number however often it is cut and mended."""

    def __init__(self, channels: dict[int, Channel]) -> None:
        self.channels = channels
        self.port = 0
        self.overlaps = 0
        """Questions that came while another was being answered."""
        self._busy = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._deserted = asyncio.Event()

    async def listen(self) -> None:
        """Take connections."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Drop every connection and take none."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        if self._writers:
            await self._deserted.wait()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self._deserted.clear()
        try:
            while line := await reader.readline():
                self.overlaps += self._busy
                self._busy += 1
                try:
                    await asyncio.sleep(_THINKS_S)
                    writer.write(self._answer(line))
                finally:
                    self._busy -= 1
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()
            if not self._writers:
                self._deserted.set()

    def _answer(self, line: bytes) -> bytes:
        try:
            number, at = read_question(line)
        except NoAnswer:
            return b""
        channel = self.channels.get(at)
        if channel is None or channel.silent:
            return b""
        return Answer(number, at, channel.label, channel.pulses).encode()
