"""The simulated meter keeps the driver's contract, and counts what its house draws."""

import asyncio
from collections.abc import Mapping, Sequence
from decimal import Decimal

import pytest

from openami.gateway.driver import (
    Driver,
    LineSettings,
    MeterSettings,
    OptionsError,
    RawReading,
    RelayPosition,
)
from openami.gateway.driver_contract import CHECKS, RELAY_CHECKS, Check, RelayCheck, Value
from openami.profile import MeterSerial, Obis
from openami.simulator import driver as simulated
from openami.simulator.driver import IMPORT, POWER, REGISTERS, MeterBench, SimulatedMeter, driver_of

START_MS = 1_782_864_000_000  # midnight UTC
HOUR_MS = 3_600_000


class CountedMeter(SimulatedMeter):
    """Notes when it is asked while another one is being asked."""

    __slots__ = ("line",)
    line: list[int]

    async def read(self, wanted: Sequence[Obis]) -> Sequence[RawReading]:
        self.line[0] += 1
        self.line[1] += self.line[0] > 1
        try:
            await asyncio.sleep(0)
            return await super().read(wanted)
        finally:
            self.line[0] -= 1


class SimulatedBench:
    """Two simulated meters whose time stands still, for the contract's checks."""

    def __init__(self) -> None:
        serials = [MeterSerial("SIM-1"), MeterSerial("SIM-2")]
        self._line = [0, 0]
        meters = [
            CountedMeter(serial, lambda: START_MS, 400_000 + number, number * 10**9)
            for number, serial in enumerate(serials, 7)
        ]
        for meter in meters:
            meter.line = self._line
        self.bench = MeterBench({meter.serial: meter for meter in meters})
        self.driver: type[Driver] = driver_of(self.bench)
        self.settings = LineSettings("line-1", [MeterSettings(serial) for serial in serials])
        self.deadline_s = simulated.ANSWER_TIMEOUT_S * 3
        self.pause_s = 0.0

    def overlaps(self) -> int:
        return self._line[1]

    def values(self, serial: MeterSerial) -> Mapping[Obis, Value]:
        meter = self.bench.meters[serial]
        return {info.obis: meter.register(info.obis) for info in REGISTERS}

    async def silence(self, serial: MeterSerial) -> None:
        self.bench.meters[serial].silent = True

    async def restore(self, serial: MeterSerial) -> None:
        meter = self.bench.meters[serial]
        meter.silent, meter.answers_as = False, None

    async def exchange(self, serial: MeterSerial) -> bool:
        self.bench.meters[serial].answers_as = MeterSerial("SOMEBODY")
        return True

    async def cut(self) -> None:
        self.bench.down.add("line-1")

    async def mend(self) -> None:
        self.bench.down.clear()

    def relay(self, serial: MeterSerial) -> RelayPosition:
        return self.bench.meters[serial].position

    def orders(self, serial: MeterSerial) -> int:
        return len(self.bench.meters[serial].movements)

    async def mute_orders(self, serial: MeterSerial) -> None:
        self.bench.meters[serial].answer_lost = True


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_the_simulated_driver_keeps_the_contract(check: Check) -> None:
    await check(SimulatedBench())


@pytest.mark.parametrize("check", RELAY_CHECKS, ids=lambda check: check.__name__)
async def test_the_simulated_driver_keeps_the_contract_of_relays(check: RelayCheck) -> None:
    await check(SimulatedBench())


def test_options_are_refused_by_name() -> None:
    driver = SimulatedBench().driver
    meter = MeterSettings(MeterSerial("SIM-1"), {"unit": 1})
    with pytest.raises(OptionsError) as raised:
        driver.open(LineSettings("line-1", [meter]))
    assert raised.value.path == ("meter", 0, "unit")
    with pytest.raises(OptionsError) as raised:
        driver.open(LineSettings("line-1", [], {"port": 1}))
    assert raised.value.path == ("port",)


class Hours:
    def __init__(self) -> None:
        self.now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms


def test_energy_is_power_times_time_whoever_reads_it_when() -> None:
    def read(*moments_ms: int) -> Decimal:
        time = Hours()
        meter = SimulatedMeter(MeterSerial("M"), time, load_mw=1_234_567)
        for time.now_ms in (*moments_ms, START_MS + 24 * HOUR_MS):
            meter.register(IMPORT)
        return meter.register(IMPORT)

    once = read()
    assert once == read(*range(START_MS, START_MS + 24 * HOUR_MS, 77_777))
    assert once == Decimal("34.56"), "twenty hours of the load, four of twice the load"


def test_a_house_that_is_cut_off_draws_nothing() -> None:
    time = Hours()
    meter = SimulatedMeter(MeterSerial("M"), time, load_mw=1_000_000_000)
    assert meter.register(POWER) == Decimal(1000)
    meter.position = RelayPosition.DISCONNECTED
    time.now_ms += HOUR_MS
    assert meter.register(POWER) == meter.register(IMPORT) == 0


def test_six_digits_roll_over() -> None:
    time = Hours()
    meter = SimulatedMeter(MeterSerial("M"), time, load_mw=1_000_000, counter_mwh=999_999_990_000)
    assert meter.register(IMPORT) == Decimal("999999.99")
    time.now_ms += HOUR_MS
    assert meter.register(IMPORT) == Decimal("0.99")
