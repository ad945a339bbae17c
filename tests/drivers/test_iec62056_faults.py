"""Late, lost, cut, bent, repeated and noisy answers: values are missing, never wrong.

In virtual time, so that a day of polls takes seconds. Every value tells its meter, its register and the number
of the read-out it is from, with a remainder that no other number has, so that a value from another meter,
another register or an earlier read-out is seen, and so is a single digit that was changed.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import pytest
from tests.drivers.dead_meter import Shares, assert_it_costs_no_more, shares_of_time
from tests.drivers.iec62056_double import Fault, ReadOutBus, ReadOutDouble

from openami.gateway.driver import (
    DriverError,
    LineDown,
    LineSettings,
    MeterSettings,
)
from openami.gateway.drivers.iec62056.line import ReadOutLine
from openami.gateway.drivers.iec62056.options import line_plan
from openami.profile import MeterSerial, Obis
from openami.simulator.virtual_time import VirtualTimeLoop

_CODES: Final = ("1.8.0", "2.8.0", "1.7.0", "32.7.0", "31.7.0")
_UNITS: Final = {"1.8.0": "kWh", "2.8.0": "kWh", "1.7.0": "kW", "32.7.0": "V", "31.7.0": "A"}
_WANTED: Final = [Obis.parse(code) for code in _CODES]
# Within the time an answer has, beyond it, and beyond the drains that follow.
_LATE_S: Final = ((0, 2), (2, 5), (5, 12))
_PAUSE_S: Final = (
    0.02,
    0.3,
    3.0,
)  # between two polls, so that late answers meet every moment of the next
_POLLS: Final = int(os.environ.get("OPENAMI_IEC62056_POLLS", "400"))
_FAULT_SHARE: Final = 0.06


@dataclass
class Tally:
    polls: int = 0
    values: int = 0
    wrong: int = 0
    failed: Counter[str] = field(default_factory=Counter)


class BusWire:
    """A wire with the bus at its other end, without a port between."""

    def __init__(self, bus: ReadOutBus, *, serial: bool) -> None:
        self._bus = bus
        self._serial = serial
        self._arrived: asyncio.Queue[bytes] = asyncio.Queue(1000)
        self._send: Callable[[bytes], None] | None = None

    @property
    def connected(self) -> bool:
        return self._send is not None

    async def open(self) -> None:
        arrived = self._arrived = asyncio.Queue(1000)
        # A serial line has one other end for ever; what is late on a closed TCP connection is lost.
        self._send = self._at_the_line if self._serial else lambda data: arrived.put_nowait(data)

    def _at_the_line(self, data: bytes) -> None:
        self._arrived.put_nowait(data)

    def close(self) -> None:
        self._send = None

    def set_baudrate(self, baudrate: int) -> None:
        assert self._serial
        self._bus.speed = baudrate

    async def send(self, octets: bytes) -> None:
        if self._send is None:
            raise LineDown("closed")
        self._bus.received(octets, self._send)

    async def receive(self) -> bytes:
        octets = await self._arrived.get()
        while not self._arrived.empty():
            octets += self._arrived.get_nowait()
        return octets


def _remainder(number: int) -> int:
    return number * 7919 % 997


def _lines(unit: int, read_out: int) -> Sequence[str]:
    registers = [
        f"{code}({_told(unit, at, read_out)}*{_UNITS[code]})" for at, code in enumerate(_CODES)
    ]
    past = [f"{code}*01({_told(9, 9, 1)}*{_UNITS[code]})" for code in _CODES]
    return [f"C.1.0(KS-00{unit})", *registers, *past]


def _told(unit: int, register: int, read_out: int) -> str:
    number = unit * 10**7 + register * 10**6 + read_out
    return f"{number:08}.{_remainder(number):03}"


def _a_line(units: Sequence[int], bus: ReadOutBus, options: dict[str, object]) -> ReadOutLine:
    meters = [
        MeterSettings(
            MeterSerial(f"M{unit}"),
            {"map": "generic-three-phase", "address": unit, "identity": f"KS-00{unit}"},
        )
        for unit in units
    ]
    serial = options["transport"] == "serial"
    options |= {"device": "x"} if serial else {"host": "x", "port": 1}
    plan = line_plan(LineSettings("line", meters, options, cycle_s=60.0))
    if serial:
        bus.speed = plan.manner.baudrate
    return ReadOutLine(plan, BusWire(bus, serial=serial))


async def _poll(units: Sequence[int], options: dict[str, object], seed: int) -> Tally:
    chance = random.Random(seed)
    faults = [fault for fault in Fault if fault is not Fault.NONE]

    def script() -> tuple[Fault, float]:
        if chance.random() >= _FAULT_SHARE:
            return Fault.NONE, 0.0
        return chance.choice(faults), chance.uniform(*chance.choice(_LATE_S))

    bus = ReadOutBus(
        {str(unit): ReadOutDouble(partial(_lines, unit), impatient=unit == 2) for unit in units},
        baudrate=300 if options["transport"] == "serial" else 9600,
        script=script,
        chance=chance,
    )
    line = _a_line(units, bus, {"silent_share": 0.9, **options})
    tally = Tally()
    for at in range(_POLLS):
        unit = units[at % len(units)]
        before = bus.meters[str(unit)].read_outs
        tally.polls += 1
        try:
            readings = await line.read(MeterSerial(f"M{unit}"), _WANTED)
        except DriverError as error:
            tally.failed[type(error).__name__] += 1
        else:
            for reading in readings:
                tally.values += 1
                tally.wrong += not _right(unit, str(reading.obis), str(reading.value), before)
        await asyncio.sleep(chance.random() * chance.choice(_PAUSE_S))
    line.close()
    await bus.rest()
    return tally


def _right(unit: int, code: str, value: str, before: int) -> bool:
    number, _, remainder = value.partition(".")
    told = int(number)
    return (
        told // 10**6 == unit * 10 + _CODES.index(code)
        and told % 10**6 > before
        and int(remainder) == _remainder(told)
    )


_LINES: Final[Mapping[str, tuple[Sequence[int], Mapping[str, object]]]] = {
    "one meter, 300 to 19200 Bd": ([2], {"transport": "serial"}),
    "three meters, 300 to 19200 Bd": ([1, 2, 3], {"transport": "serial"}),
    "three meters, one speed": ([1, 2, 3], {"transport": "serial", "baudrate_max": 300}),
    "device server": ([1, 2, 3], {"transport": "tcp"}),
}


@pytest.mark.parametrize("name", _LINES)
def test_no_value_is_wrong_on_a_bad_line(name: str) -> None:
    units, options = _LINES[name]
    loop = VirtualTimeLoop()
    try:
        tally = loop.run_until_complete(_poll(units, dict(options), seed=len(name)))
    finally:
        loop.close()
    print(f"{name}: {tally}")
    assert tally.wrong == 0
    # Faulty enough to be a test, and good enough to be a line.
    assert 0 < tally.failed.total() < 0.5 * tally.polls
    assert tally.values > 0.5 * tally.polls * len(_CODES)
    # Nobody was exchanged: no electrician is sent.
    assert "IdentityMismatch" not in tally.failed


async def _share_of_a_dead_meter(transport: str) -> Shares:
    bus = ReadOutBus(
        {str(unit): ReadOutDouble(partial(_lines, unit)) for unit in (1, 2)},
        baudrate=300 if transport == "serial" else 9600,
    )
    bus.meters["1"].silent = True
    line = _a_line((1, 2), bus, {"transport": transport})
    shares = await shares_of_time(line.read, "M1", "M2", _WANTED)
    await bus.rest()
    return shares


@pytest.mark.parametrize("transport", ["serial", "tcp"])
def test_a_dead_meter_costs_its_neighbours_no_more_than_its_share(transport: str) -> None:
    assert_it_costs_no_more(_share_of_a_dead_meter(transport))
