"""Meters behind a pty that mind its speed: the master sees what the program at the other end has set."""

import asyncio
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.drivers.line_double import Pty
from tests.gateway.scan_line import Meter

from openami.gateway.scan.findings import PortSetting

_BAUDRATES = {
    getattr(termios, f"B{rate}"): rate
    for rate in (300, 1200, 2400, 4800, 9600, 19200, 38400, 115200)
}

_CHUNK_BYTES = 6  # what a USB adapter hands over at once, at these speeds


@dataclass
class PacedBus:
    """Meters that hear what is said at their own speed and answer at the speed of the line."""

    meters: list[Meter]
    baudrate: Callable[[], int] = lambda: 9600
    heard: list[tuple[int, bytes]] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def received(self, data: bytes, send: Callable[[bytes], None]) -> None:
        rate = self.baudrate()
        self.heard.append((rate, data))
        seven = rate == 300
        setting = PortSetting(300, "E", 1, 7) if seven else PortSetting(rate)
        for meter in self.meters:
            for delay_s, told in meter.hear(data, setting):
                task = asyncio.create_task(
                    self._say(delay_s, told, send, setting.character_s), name="meter"
                )
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _say(
        self, delay_s: float, told: bytes, send: Callable[[bytes], None], character_s: float
    ) -> None:
        await asyncio.sleep(delay_s)
        for at in range(0, len(told), _CHUNK_BYTES):
            part = told[at : at + _CHUNK_BYTES]
            await asyncio.sleep(len(part) * character_s)
            send(part)

    async def rest(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _SpeedyPty(Pty):
    def baudrate(self) -> int:
        return _BAUDRATES[termios.tcgetattr(self._master)[5]]


@asynccontextmanager
async def paced_pty(path: str, *meters: Meter) -> AsyncIterator[PacedBus]:
    """Have a serial port at this path with meters behind it."""
    bus = PacedBus(list(meters))
    pty = _SpeedyPty(bus, path)
    pty.plug()
    bus.baudrate = pty.baudrate
    try:
        yield bus
    finally:
        await bus.rest()
        pty.unplug()
