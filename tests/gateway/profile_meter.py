"""A scripted meter with a load profile and a clock of its own, fed by the test's clock."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from tests.gateway.clock_double import ClockDouble
from tests.gateway.scripted_driver import IMPORT, INFOS, ContractBench, ScriptedMeter

from openami.gateway.driver import PollGroup, RawReading, RegisterInfo
from openami.gateway.profile_contract import Captured
from openami.profile import MeterSerial, Obis

CLOCK = Obis.parse("0-0:1.0.0")
_WATTS = 1200


def energy(at: datetime) -> Decimal:
    """What the counter stands at, in kWh: it grows with the time and nothing else."""
    return (Decimal(int(at.timestamp())) * _WATTS / 3_600_000).quantize(Decimal("0.01"))


@dataclass
class ProfileMeter(ScriptedMeter):
    """It captures its counter every ``period_s`` of its own clock, and holds the last ``rows_max``."""

    clock: ClockDouble = field(default_factory=ClockDouble)
    period_s: int = 300
    rows_max: int = 10_000
    ahead_s: float = 0.0
    """How far its clock is ahead of the true one."""
    profile_fault: Exception | None = None
    profile_hangs: bool = False
    tries: int = 0
    spans: list[tuple[datetime, datetime]] = field(default_factory=list)
    sets: list[datetime] = field(default_factory=list)
    set_fault: Exception | None = None

    def __post_init__(self) -> None:
        self.registers = (*INFOS, RegisterInfo(CLOCK, "ISO 8601", PollGroup.DAILY))

    @property
    def its_time(self) -> datetime:
        return self.clock.now() + timedelta(seconds=self.ahead_s)

    async def read(self, wanted: Sequence[Obis]) -> Sequence[RawReading]:
        self.values[IMPORT] = energy(self.clock.now())
        self.values[CLOCK] = self.its_time.replace(microsecond=0).isoformat()
        return await super().read(wanted)

    async def read_profile(self, first: datetime, last: datetime) -> Sequence[RawReading]:
        self.tries += 1
        if self.profile_hangs:
            await asyncio.Event().wait()
        for fault in (self.fault, self.profile_fault):
            if fault is not None:
                raise fault
        self.spans.append((first, last))
        newest = int(self.its_time.timestamp()) // self.period_s
        oldest = max(newest - self.rows_max + 1, -(-int(first.timestamp()) // self.period_s))
        times = (
            datetime.fromtimestamp(number * self.period_s, first.tzinfo)
            for number in range(oldest, newest + 1)
        )
        return [
            RawReading(IMPORT, energy(at - timedelta(seconds=self.ahead_s)), "kWh", at)
            for at in times
            if first <= at <= last
        ]

    async def set_clock(self, now: datetime) -> None:
        self.sets.append(now)
        for fault in (self.fault, self.set_fault):
            if fault is not None:
                raise fault
        self.ahead_s = (now - self.clock.now()).total_seconds()


class ProfileContractBench(ContractBench):
    """The scripted bench with such meters, whose time stands still."""

    def __init__(self) -> None:
        super().__init__()
        self._meters = {
            meter.serial: ProfileMeter(meter.serial, self._bench, period_s=300, rows_max=9)
            for meter in self.settings.meters
        }
        for serial, meter in self._meters.items():
            self._bench.meters[serial] = meter
            meter.values[IMPORT] = energy(meter.clock.now())
            meter.values[CLOCK] = meter.its_time.isoformat()

    def captured(self, serial: MeterSerial) -> Sequence[Captured]:
        newest = self._meters[serial].its_time
        times = (newest - timedelta(minutes=5 * n) for n in reversed(range(9)))
        return [Captured(at, IMPORT, energy(at)) for at in times]

    def clock(self, serial: MeterSerial) -> datetime:
        return self._meters[serial].its_time
