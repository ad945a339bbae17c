"""Late, lost, cut, bent, repeated and noisy answers: values are missing, never wrong.

In virtual time, so that a day of polls takes seconds. Every value tells its meter, its register and the number of
the question it answers, so that a value from another meter, another register or an earlier question is seen.
"""

import asyncio
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import pytest
from tests.drivers.dead_meter import CYCLE_S, Shares, assert_it_costs_no_more, shares_of_time
from tests.drivers.dlms_bench import address, meter_options
from tests.drivers.dlms_double import DlmsBus, DlmsDouble, Fault, Read, number, scaler

from openami.gateway.driver import (
    DriverError,
    LineDown,
    LineSettings,
    MeterSettings,
)
from openami.gateway.drivers.dlms.line import DlmsLine
from openami.gateway.drivers.dlms.options import line_plan
from openami.profile import MeterSerial, Obis
from openami.simulator.virtual_time import VirtualTimeLoop

_CODES: Final = [Obis.parse(code) for code in ("1.8.0", "2.8.0", "32.7.0", "31.7.0", "1.7.0")]
_UNITS: Final = (1, 2, 3)
_TIMEOUT_S: Final = 1.0
# Within the time an answer has, beyond it, and beyond the drain that follows.
_LATE_S: Final = (0.9, 1.2, 1.5, 2.5, 7.0)
_POLLS: Final = int(os.environ.get("OPENAMI_DLMS_POLLS", "1000"))  # 25,000 make 100,000 in all
_FAULT_SHARE: Final = 0.03
_UNIT_CODES: Final = {"1.8.0": 30, "2.8.0": 30, "32.7.0": 35, "31.7.0": 33, "1.7.0": 27}


@dataclass
class Tally:
    polls: int = 0
    failed: int = 0
    values: int = 0
    wrong: int = 0


class BusWire:
    """A wire with the bus at its other end, without a port between."""

    def __init__(self, bus: DlmsBus) -> None:
        self._bus = bus
        self._arrived: asyncio.Queue[bytes] = asyncio.Queue(1000)
        self._send: Callable[[bytes], None] | None = None

    @property
    def connected(self) -> bool:
        return self._send is not None

    async def open(self) -> None:
        arrived = self._arrived = asyncio.Queue(1000)
        # A serial line has one other end for ever; what is late on a closed TCP connection is lost.
        self._send = self._at_the_line if self._bus.hdlc else lambda data: arrived.put_nowait(data)

    def _at_the_line(self, data: bytes) -> None:
        self._arrived.put_nowait(data)

    def close(self) -> None:
        self._send = None

    async def send(self, octets: bytes) -> None:
        if self._send is None:
            raise LineDown("closed")
        self._bus.received(octets, self._send)

    async def receive(self) -> bytes:
        return await self._arrived.get()


def _tell_tale(unit: int) -> DlmsDouble:
    objects: dict[tuple[int, bytes, int], Read] = {}
    for register, code in enumerate(_CODES):
        name = bytes((1, 0, *(group or 0 for group in code.groups[2:])))
        objects[3, name, 2] = partial(_told, unit << 28 | register << 24)
        # In thousandths of kWh and kW, so that every register is published as it was told.
        unit_code = _UNIT_CODES[str(code)]
        scale = scaler(3 if unit_code in (27, 30) else 0, unit_code)
        objects[3, name, 3] = partial(_always, scale)
    # A value in blocks, in one frame, and in two.
    return DlmsDouble(objects, block_bytes=3 if unit == 1 else 100)


def _told(high: int, asked: int) -> bytes:
    return number(high | asked)


def _always(octets: bytes, _: int) -> bytes:
    return octets


async def _poll(transport: str, seed: int) -> Tally:
    chance = random.Random(seed)
    faults = [fault for fault in Fault if fault is not Fault.NONE]
    if transport == "tcp":
        faults.remove(Fault.FLIP)  # TCP's checksum is the only one there

    def script(_: int) -> tuple[Fault, float]:
        if chance.random() >= _FAULT_SHARE:
            return Fault.NONE, 0.0
        return chance.choice(faults), chance.choice(_LATE_S)

    bus = DlmsBus(
        {address(unit, transport): _tell_tale(unit) for unit in _UNITS},
        hdlc=transport != "tcp",
        script=script,
        turnaround_s=0.02,
        information_bytes=14,
    )
    meters = [
        MeterSettings(MeterSerial(f"M{unit}"), meter_options(unit, transport)) for unit in _UNITS
    ]
    options = {"transport": transport, "timeout_s": _TIMEOUT_S, "silent_share": 0.9}
    options |= {"host": "x"} if transport == "tcp" else {"device": "x", "baudrate": 115200}
    line = DlmsLine(line_plan(LineSettings("line", meters, options, cycle_s=60.0)), BusWire(bus))
    tally = Tally()
    for at in range(_POLLS):
        unit = _UNITS[at % len(_UNITS)]
        before = bus.meters[address(unit, transport)].asked
        tally.polls += 1
        try:
            readings = await line.read(MeterSerial(f"M{unit}"), _CODES)
        except DriverError:
            tally.failed += 1
        else:
            for reading in readings:
                assert not isinstance(reading.value, bool | str)
                told = int(reading.value)
                tally.values += 1
                right = told >> 24 == unit << 4 | _CODES.index(reading.obis)
                tally.wrong += not (right and told & 0xFFFFFF > before)
        await asyncio.sleep(chance.random())
    await line.close()
    await bus.rest()
    return tally


async def _share_of_a_dead_meter(transport: str) -> Shares:
    bus = DlmsBus(
        {address(unit, transport): _tell_tale(unit) for unit in (2, 3)},
        hdlc=transport != "tcp",
        turnaround_s=0.02,
    )
    bus.meters[address(2, transport)].silent = True
    meters = [
        MeterSettings(MeterSerial(f"M{unit}"), meter_options(unit, transport)) for unit in (2, 3)
    ]
    options: dict[str, object] = {"transport": transport}
    options |= {"host": "x"} if transport == "tcp" else {"device": "x"}
    settings = LineSettings("line", meters, options, cycle_s=CYCLE_S)
    line = DlmsLine(line_plan(settings), BusWire(bus))
    shares = await shares_of_time(line.read, "M2", "M3", _CODES)
    await bus.rest()
    return shares


@pytest.mark.parametrize("transport", ["tcp", "hdlc"])
def test_a_dead_meter_costs_its_neighbours_no_more_than_its_share(transport: str) -> None:
    assert_it_costs_no_more(_share_of_a_dead_meter(transport))


@pytest.mark.parametrize("transport", ["tcp", "hdlc"])
@pytest.mark.parametrize("seed", [1, 2])
def test_no_value_is_wrong_on_a_bad_line(transport: str, seed: int) -> None:
    loop = VirtualTimeLoop()
    try:
        tally = loop.run_until_complete(_poll(transport, seed))
    finally:
        loop.close()
    print(f"{transport} seed {seed}: {tally}")
    assert tally.wrong == 0
    # Faulty enough to be a test, and good enough to be a line.
    assert 0 < tally.failed < 0.5 * tally.polls
    assert tally.values > 0.5 * tally.polls * len(_CODES)
