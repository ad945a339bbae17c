"""Meters that speak DLMS on one line: behind a TCP port, or on a serial line; and what is wrong with each."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

from openami.simulator.bus import Bus
from openami.simulator.dlms.frames import Framing, Hdlc, Question, Station, Wrapper
from openami.simulator.dlms.server import LogicalDevice
from openami.simulator.serial_port import Send, SerialPort, plugged_in
from openami.simulator.tcp_server import serving_tcp

_READ_BYTES_MAX: Final = 4096  # more than any question
_QUESTIONS_WAITING_MAX: Final = 16  # a client waits for one answer; more is noise


def wport(server: int) -> Station:
    """Return a logical device's station behind the wrapper."""
    return server.to_bytes(2, "big")


def hdlc_station(server: int, physical: int) -> Station:
    """Return a station on a serial line, in the shortest form that holds both its addresses."""
    if server < 0x80 and physical < 0x80:
        return bytes((server << 1, physical << 1 | 1))
    upper, lower = (bytes((each >> 7 << 1, (each & 0x7F) << 1)) for each in (server, physical))
    return upper + lower[:1] + bytes((lower[1] | 1,))


class DlmsLine(Bus[LogicalDevice]):
    """The meters of one line by their stations."""

    def __init__(
        self, devices: Mapping[int, LogicalDevice], station: Callable[[int], Station]
    ) -> None:
        """``station`` says how an address of ours, a small number, stands on the wire."""
        super().__init__(devices)
        self._station = station

    async def ask(self, framing: Framing, question: Question) -> bytes | None:
        """Return the answer of whoever hears this station; None when nobody does."""
        return await self.answered(
            lambda address: self._station(address) == question.station,
            partial(framing.answer, question),
        )


def on_tcp(
    line: DlmsLine, *, host: str = "127.0.0.1", port: int = 0
) -> AbstractAsyncContextManager[int]:
    """Serve a line by the wrapper while the context lasts; it yields the port."""
    return serving_tcp(partial(_converse, line), host=host, port=port)


async def _converse(
    line: DlmsLine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    framing = Wrapper()
    while octets := await reader.read(_READ_BYTES_MAX):
        for question in framing.questions(octets):
            answer = await line.ask(framing, question)
            if answer is not None:
                writer.write(answer)
        await writer.drain()


@asynccontextmanager
async def on_serial_line(line: DlmsLine, path: Path) -> AsyncIterator[SerialPort]:
    """Serve a line by HDLC on a serial port of this name while the context lasts."""
    framing = Hdlc()
    asked: asyncio.Queue[tuple[Question, Send]] = asyncio.Queue(_QUESTIONS_WAITING_MAX)

    def received(octets: bytes, send: Send) -> None:
        with suppress(asyncio.QueueFull):
            for question in framing.questions(octets):
                asked.put_nowait((question, send))

    async def answering() -> None:
        while True:
            question, send = await asked.get()
            answer = await line.ask(framing, question)
            if answer is not None:
                send(answer)

    with plugged_in(path, received) as port:
        task = asyncio.create_task(answering(), name="dlms serial line")
        try:
            yield port
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
