"""How long a full serial line takes: sixty two-block meters at 9600 Bd, each answering after 30 ms.

The driver is ours, the port a pty, the line's speed kept by this program: what is written arrives when its bits
would have, an answer comes in the sixteen bytes a serial chip hands over at once. The meters are SDM230s, whose
fast and billing registers are two reads.

    python -m benchmarks.bench_line [METERS] [CYCLES]

Target: at most 15 s for a cycle. The first is longer by a question each, which proves that meter and line are in
step.
"""

import asyncio
import json
import os
import resource
import sys
import tempfile
import time
import tty
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pymodbus.framer.rtu import FramerRTU

from openami.gateway.driver import Line, LineSettings, MeterSettings, PollGroup
from openami.gateway.drivers.modbus import ModbusDriver
from openami.profile import MeterSerial
from openami.simulator.modbus_server import Area, Write, WriteRefused, answer

BAUDRATE = 9600
BITS_PER_CHARACTER = 10  # start, 8 data, stop
TURNAROUND_S = 0.030
CYCLE_S_MAX = 15.0
METERS = 60
_MAP = "sdm230"
_READ_BYTES = 8
_CHIP_BYTES = 16


class _Bank:
    """An SDM230 that stands still: every register is there, and 0 is a possible value of each."""

    def registers(self, area: Area) -> Mapping[int, int]:
        return _REGISTERS

    def write(self, how: Write, address: int, word: int) -> None:
        raise WriteRefused


_REGISTERS = dict.fromkeys(range(0x160), 0)


def airtime_s(octets: int) -> float:
    """Return how long so many bytes are on the line."""
    return octets * BITS_PER_CHARACTER / BAUDRATE


@dataclass
class PacedLine:
    """The meters behind a pty's master end. Not ``paced``, they answer at once, and the line's time is reckoned."""

    master: int
    paced: bool = True
    exchanges: int = 0
    busy_s: float = 0.0
    """What the line was occupied for, questions, turnarounds and answers together."""
    _inbox: bytearray = field(default_factory=bytearray)
    _bank: _Bank = field(default_factory=_Bank)

    def readable(self) -> None:
        """Take what the driver has written; answer each whole question."""
        self._inbox += os.read(self.master, 4096)
        while len(self._inbox) >= _READ_BYTES:
            frame = bytes(self._inbox[:_READ_BYTES])
            del self._inbox[:_READ_BYTES]
            self._answer(frame)

    def _answer(self, frame: bytes) -> None:
        body = frame[:1] + answer(frame[1:-2], self._bank)
        told = body + FramerRTU.compute_CRC(body).to_bytes(2, "big")
        begins_s = airtime_s(len(frame)) + TURNAROUND_S
        self.exchanges += 1
        self.busy_s += begins_s + airtime_s(len(told))
        if not self.paced:
            os.write(self.master, told)
            return
        loop = asyncio.get_running_loop()
        begins_at = loop.time() + begins_s
        for at in range(0, len(told), _CHIP_BYTES):
            part = told[at : at + _CHIP_BYTES]
            loop.call_at(begins_at + airtime_s(at + len(part)), os.write, self.master, part)


@asynccontextmanager
async def full_line(
    meters: int, place: Path, *, paced: bool = True
) -> AsyncIterator[tuple[Line, PacedLine]]:
    """Open a line of so many meters; yield it as the gateway has it, and the line's other end."""
    master, slave = os.openpty()
    tty.setraw(slave)
    line = PacedLine(master, paced)
    loop = asyncio.get_running_loop()
    loop.add_reader(master, line.readable)
    settings = LineSettings(
        "full",
        [
            MeterSettings(MeterSerial(f"M-{unit:03}"), {"unit": unit, "map": _MAP})
            for unit in range(1, meters + 1)
        ],
        {"transport": "rtu", "device": os.ttyname(slave)},
        place,
    )
    try:
        async with ModbusDriver.open(settings) as opened:
            yield opened, line
    finally:
        loop.remove_reader(master)
        os.close(slave)
        os.close(master)


async def cycle(line: Line) -> int:
    """Read the fast and the billing registers of every meter; return how many values came."""
    values = 0
    for meter in line.meters.values():
        wanted = [info.obis for info in meter.registers if info.group is not PollGroup.DAILY]
        values += len(await meter.read(wanted))
    return values


async def main(meters: int, cycles: int) -> None:
    """Read the line some times and print what it took."""
    with tempfile.TemporaryDirectory() as place:
        async with full_line(meters, Path(place)) as (line, paced):
            took_s, cpu_s, exchanges = [], [], []
            for _ in range(cycles):
                began, used, asked = time.perf_counter(), _cpu_s(), paced.exchanges
                assert await cycle(line)
                took_s.append(round(time.perf_counter() - began, 2))
                cpu_s.append(round(_cpu_s() - used, 2))
                exchanges.append(paced.exchanges - asked)
    print(
        json.dumps(
            {
                "meters": meters,
                "baudrate": BAUDRATE,
                "first_cycle_s": took_s[0],
                "cycles_s": took_s[1:],
                "exchanges": exchanges,
                "cpu_s": cpu_s,  # of the driver and the meters' side together
            }
        )
    )
    if max(took_s[1:]) > CYCLE_S_MAX:
        sys.exit(f"a cycle took longer than {CYCLE_S_MAX:g} s")


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    asyncio.run(
        main(
            int(sys.argv[1]) if len(sys.argv) > 1 else METERS,
            int(sys.argv[2]) if len(sys.argv) > 2 else 3,
        )
    )
