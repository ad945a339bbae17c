"""DlmsDriver: the entry point's object."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from openami.gateway.driver import (
    Line,
    LineSettings,
    LoggedEvent,
    Meter,
    RawReading,
    RegisterInfo,
    RelayPosition,
)
from openami.gateway.drivers.dlms.line import DlmsLine
from openami.gateway.drivers.dlms.options import LinePlan, MeterPlan, line_plan
from openami.gateway.drivers.dlms.wire import wire_of
from openami.profile import MeterSerial, Obis


@dataclass(frozen=True, slots=True)
class DlmsMeter:
    """One meter on a DLMS line."""

    serial: MeterSerial
    registers: tuple[RegisterInfo, ...]
    _line: DlmsLine

    async def read(self, wanted: Sequence[Obis]) -> Sequence[RawReading]:
        """See `openami.gateway.driver.Meter.read`."""
        return await self._line.read(self.serial, wanted)

    async def read_profile(self, first: datetime, last: datetime) -> Sequence[RawReading]:
        """Return what the meter's load profile holds from ``first`` to ``last``, each value with its own time.

        Raises DriverError.
        """
        return await self._line.read_profile(self.serial, first, last)

    async def set_clock(self, now: datetime) -> None:
        """Set the meter's clock. Raises DriverError."""
        await self._line.set_clock(self.serial, now)


@dataclass(frozen=True, slots=True)
class SwitchedDlmsMeter(DlmsMeter):
    """A meter whose map names its disconnect control: it can be asked and moved too."""

    async def relay_position(self) -> RelayPosition:
        """See `openami.gateway.driver.RelayControl.relay_position`."""
        return await self._line.relay_position(self.serial)

    async def set_relay(self, position: RelayPosition) -> None:
        """See `openami.gateway.driver.RelayControl.set_relay`."""
        await self._line.set_relay(self.serial, position)


@dataclass(frozen=True, slots=True)
class LoggingDlmsMeter(DlmsMeter):
    """A meter whose map names its event logs."""

    async def read_events(self, first: datetime, last: datetime) -> Sequence[LoggedEvent]:
        """See `openami.gateway.driver.EventLog.read_events`."""
        return await self._line.read_events(self.serial, first, last)


@dataclass(frozen=True, slots=True)
class SwitchedLoggingDlmsMeter(SwitchedDlmsMeter):
    """A meter whose map names both."""

    async def read_events(self, first: datetime, last: datetime) -> Sequence[LoggedEvent]:
        """See `openami.gateway.driver.EventLog.read_events`."""
        return await self._line.read_events(self.serial, first, last)


_KINDS: Final[Mapping[tuple[bool, bool], type[DlmsMeter]]] = {
    (False, False): DlmsMeter,
    (True, False): SwitchedDlmsMeter,
    (False, True): LoggingDlmsMeter,
    (True, True): SwitchedLoggingDlmsMeter,
}
"""By what the map names: a relay, event logs."""


def _meter(plan: MeterPlan, line: DlmsLine) -> DlmsMeter:
    kind = _KINDS[plan.map.relay is not None, bool(plan.map.event_logs)]
    infos = tuple(register.info for register in plan.map.registers.values())
    return kind(plan.serial, infos, line)


@dataclass(frozen=True, slots=True)
class _OpenLine:
    meters: Mapping[MeterSerial, Meter]


class DlmsDriver:
    """DLMS/COSEM over TCP and over HDLC lines; meter types are meter maps."""

    name: ClassVar[str] = "dlms"

    @classmethod
    def open(cls, settings: LineSettings) -> AbstractAsyncContextManager[Line]:
        """Check the options at once (OptionsError). The port is opened at the first read."""
        return _opened(line_plan(settings))


@asynccontextmanager
async def _opened(plan: LinePlan) -> AsyncIterator[Line]:
    line = DlmsLine(plan, wire_of(plan))
    try:
        yield _OpenLine({meter.serial: _meter(meter, line) for meter in plan.meters})
    finally:
        await line.close()
