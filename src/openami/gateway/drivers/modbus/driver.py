"""ModbusDriver: the entry point's object."""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import ClassVar

from openami.gateway.driver import (
    Inspected,
    Line,
    LineSettings,
    Meter,
    RawReading,
    RegisterInfo,
    RelayPosition,
)
from openami.gateway.drivers.modbus.line import ModbusLine
from openami.gateway.drivers.modbus.options import LinePlan, MeterPlan, line_plan
from openami.profile import MeterSerial, Obis


@dataclass(frozen=True, slots=True)
class ModbusMeter:
    """One meter on a Modbus line."""

    serial: MeterSerial
    registers: tuple[RegisterInfo, ...]
    _line: ModbusLine

    async def read(self, wanted: Sequence[Obis]) -> Sequence[RawReading]:
        """See `openami.gateway.driver.Meter.read`."""
        return await self._line.read(self.serial, wanted)

    async def inspect(self, wanted: Sequence[Obis]) -> Sequence[Inspected]:
        """See `openami.gateway.driver.Inspection.inspect`."""
        return await self._line.inspect(self.serial, wanted)


@dataclass(frozen=True, slots=True)
class SwitchedModbusMeter(ModbusMeter):
    """A meter whose map says where its relay is: it can be asked and moved too."""

    async def relay_position(self) -> RelayPosition:
        """See `openami.gateway.driver.RelayControl.relay_position`."""
        return await self._line.relay_position(self.serial)

    async def set_relay(self, position: RelayPosition) -> None:
        """See `openami.gateway.driver.RelayControl.set_relay`."""
        await self._line.set_relay(self.serial, position)


def _meter(plan: MeterPlan, line: ModbusLine) -> ModbusMeter:
    kind = ModbusMeter if plan.map.relay is None else SwitchedModbusMeter
    return kind(plan.serial, plan.registers, line)


@dataclass(frozen=True, slots=True)
class _OpenLine:
    meters: Mapping[MeterSerial, Meter]


class ModbusDriver:
    """Modbus TCP, RTU and RTU-over-TCP; meter types are register maps."""

    name: ClassVar[str] = "modbus"

    @classmethod
    def open(cls, settings: LineSettings) -> AbstractAsyncContextManager[Line]:
        """Check the options at once (OptionsError). The port is opened at the first read."""
        return _opened(line_plan(settings))


@asynccontextmanager
async def _opened(plan: LinePlan) -> AsyncIterator[Line]:
    # Every fault reaches the caller as a DriverError; pymodbus would log it a second time, as its own.
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    line = ModbusLine(plan)
    try:
        yield _OpenLine({meter.serial: _meter(meter, line) for meter in plan.meters})
    finally:
        line.close()
