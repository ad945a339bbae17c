"""A driver whose meters answer what the test says: the driver port's second implementation."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import ClassVar

from openami.gateway.driver import (
    Driver,
    DriverError,
    IdentityMismatch,
    LineDown,
    LineSettings,
    LoggedEvent,
    Meter,
    MeterSettings,
    MeterSilent,
    OptionsError,
    PollGroup,
    RawReading,
    RegisterInfo,
)
from openami.profile import MeterSerial, Obis

Value = int | Decimal | str | bool

IMPORT = Obis.parse("1.8.0")
VOLTAGE = Obis.parse("32.7.0")
POWER = Obis.parse("1.7.0")

INFOS = (
    RegisterInfo(VOLTAGE, "V", PollGroup.FAST, decimals=1, minimum=0, maximum=500),
    RegisterInfo(POWER, "kW", PollGroup.FAST, decimals=3),
    RegisterInfo(IMPORT, "kWh", PollGroup.BILLING, decimals=2, monotonic=True),
)


@dataclass
class ScriptedMeter:
    """One meter; ``fault`` is raised instead of an answer, ``asked`` is what it was asked."""

    serial: MeterSerial
    line: "Bench"
    registers: Sequence[RegisterInfo] = INFOS
    values: dict[Obis, Value] = field(
        default_factory=lambda: {
            VOLTAGE: Decimal("230.1"),
            POWER: Decimal("0.25"),
            IMPORT: Decimal("1842.5"),
        }
    )
    fault: Exception | None = None
    hangs: bool = False
    asked: list[tuple[Obis, ...]] = field(default_factory=list)

    async def read(self, wanted: Sequence[Obis]) -> Sequence[RawReading]:
        self.asked.append(tuple(wanted))
        async with self.line.turn:
            await asyncio.sleep(3600 if self.hangs else 0)
            if self.line.broken is not None:
                raise self.line.broken
            if self.fault is not None:
                raise self.fault
            units = {info.obis: info.unit for info in self.registers}
            return [
                RawReading(obis, self.values[obis], units[obis])
                for obis in dict.fromkeys(wanted)
                if obis in self.values
            ]

    def fall_silent(self) -> None:
        self.fault = MeterSilent(f"{self.serial} does not answer within 1 s")

    def be_exchanged(self) -> None:
        self.fault = IdentityMismatch(expected=self.serial, found="SOMEBODY-ELSE")

    def recover(self) -> None:
        self.fault = None


@dataclass
class LoggingMeter(ScriptedMeter):
    """One that keeps an event log; ``log_fault`` and ``log_hangs`` are the log's alone."""

    log: list[LoggedEvent] = field(default_factory=list)
    log_fault: Exception | None = None
    log_hangs: bool = False
    spans: list[tuple[datetime, datetime]] = field(default_factory=list)

    async def read_events(self, first: datetime, last: datetime) -> Sequence[LoggedEvent]:
        self.spans.append((first, last))
        async with self.line.turn:
            await asyncio.sleep(3600 if self.log_hangs else 0)
            if self.log_fault is not None:
                raise self.log_fault
            return [entry for entry in self.log if first <= entry.at <= last]


@dataclass
class ScriptedLine:
    meters: Mapping[MeterSerial, Meter]


@dataclass
class Bench:
    """The meters of one test, by serial; ``broken`` is what every read and every opening ends in."""

    meters: dict[str, ScriptedMeter] = field(default_factory=dict)
    broken: DriverError | None = None
    opened: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def meter(self, serial: str) -> ScriptedMeter:
        return self.meters.setdefault(serial, ScriptedMeter(MeterSerial(serial), self))

    def logging_meter(self, serial: str) -> LoggingMeter:
        meter = LoggingMeter(MeterSerial(serial), self)
        self.meters[serial] = meter
        return meter

    def go_down(self) -> None:
        self.broken = LineDown("/dev/ttyUSB0 is not there")

    def driver(self) -> type[Driver]:
        """Return a driver that opens lines to these meters."""
        bench = self

        class ScriptedDriver:
            name: ClassVar[str] = "scripted"

            @classmethod
            def open(cls, settings: LineSettings) -> AbstractAsyncContextManager[ScriptedLine]:
                _check(settings)
                return bench._open(settings)

        return ScriptedDriver

    @asynccontextmanager
    async def _open(self, settings: LineSettings) -> AsyncIterator[ScriptedLine]:
        if self.broken is not None:
            raise self.broken
        self.opened += 1
        yield ScriptedLine({m.serial: self.meter(m.serial) for m in settings.meters})


def _check(settings: LineSettings) -> None:
    for key in settings.options:
        if key not in ("device", "baud"):
            raise OptionsError("unknown key", path=(key,), known=("device", "baud"))
    units: dict[object, int] = {}
    for index, meter in enumerate(settings.meters):
        for key in meter.options:
            if key != "unit":
                raise OptionsError("unknown key", path=("meter", index, key), known=("unit", "map"))
        unit = meter.options.get("unit")
        if unit in units and unit is not None:
            raise OptionsError(
                f"unit {unit} is that of {settings.meters[units[unit]].serial} too",
                path=("meter", index, "unit"),
            )
        units[unit] = index


class ContractBench:
    """The scripted driver as the driver contract wants to meet it."""

    deadline_s = 1.0
    pause_s = 0.001

    def __init__(self) -> None:
        self._bench = Bench()
        self.driver = self._bench.driver()
        self.settings = LineSettings(
            "bus", [MeterSettings(MeterSerial("one")), MeterSettings(MeterSerial("two"))]
        )

    def values(self, serial: MeterSerial) -> Mapping[Obis, Value]:
        return self._bench.meter(serial).values

    def overlaps(self) -> int:
        return 0  # the lock of the line is the line

    async def silence(self, serial: MeterSerial) -> None:
        self._bench.meter(serial).fall_silent()

    async def restore(self, serial: MeterSerial) -> None:
        self._bench.meter(serial).recover()

    async def exchange(self, serial: MeterSerial) -> bool:
        self._bench.meter(serial).be_exchanged()
        return True

    async def cut(self) -> None:
        self._bench.go_down()

    async def mend(self) -> None:
        self._bench.broken = None
