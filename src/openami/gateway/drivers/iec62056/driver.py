"""Iec62056Driver: the entry point's object."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import ClassVar

from openami.gateway.driver import Line, LineSettings, Meter, RawReading, RegisterInfo
from openami.gateway.drivers.iec62056.line import ReadOutLine
from openami.gateway.drivers.iec62056.options import LinePlan, line_plan
from openami.gateway.drivers.iec62056.wire import wire_of
from openami.profile import MeterSerial, Obis


@dataclass(frozen=True, slots=True)
class ReadOutMeter:
    """One meter on a line of IEC 62056-21."""

    serial: MeterSerial
    registers: tuple[RegisterInfo, ...]
    _line: ReadOutLine

    async def read(self, wanted: Sequence[Obis]) -> Sequence[RawReading]:
        """See `openami.gateway.driver.Meter.read`."""
        return await self._line.read(self.serial, wanted)


@dataclass(frozen=True, slots=True)
class _OpenLine:
    meters: Mapping[MeterSerial, Meter]


class Iec62056Driver:
    """IEC 62056-21 read-outs over serial lines and serial device servers; meter types are meter maps."""

    name: ClassVar[str] = "iec62056-21"

    @classmethod
    def open(cls, settings: LineSettings) -> AbstractAsyncContextManager[Line]:
        """Check the options at once (OptionsError). The port is opened at the first read."""
        return _opened(line_plan(settings))


@asynccontextmanager
async def _opened(plan: LinePlan) -> AsyncIterator[Line]:
    line = ReadOutLine(plan, wire_of(plan))
    try:
        yield _OpenLine(
            {
                meter.serial: ReadOutMeter(
                    meter.serial,
                    tuple(register.info for register in meter.map.registers.values()),
                    line,
                )
                for meter in plan.meters
            }
        )
    finally:
        line.close()
