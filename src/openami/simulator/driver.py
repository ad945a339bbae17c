"""The simulated meter as a driver: found by name like any other, answering without a wire.

The village on virtual time polls a hundred of them for every minute of a year, so a meter here is a few sums. What
happens on a real line (late frames, noise, a second meter at the address) is the Modbus driver's affair and is
attacked there; here a driver's outcomes are what counts: an answer, silence, a clash, a line that is down.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import ClassVar, Final

from openami.gateway.driver import (
    Driver,
    IdentityMismatch,
    Line,
    LineDown,
    LineSettings,
    Meter,
    MeterSettings,
    MeterSilent,
    OptionsError,
    PollGroup,
    RawReading,
    RegisterInfo,
    RelayControl,
    RelayPosition,
)
from openami.profile import MeterSerial, Obis

IMPORT: Final = Obis.parse("1.8.0")
POWER: Final = Obis.parse("1.7.0")
VOLTAGE: Final = Obis.parse("32.7.0")
# A meter of six digits: 999,999.99 kWh and then zero.
ROLLOVER_KWH: Final = 1_000_000
_MWH_PER_KWH: Final = 1_000_000  # milliwatt-hours
_MS_PER_H: Final = 3_600_000
# How long the driver waits for an answer that does not come, and a dead meter costs its line (decision 0019).
ANSWER_TIMEOUT_S: Final = 1.0
_UNITS: Final = {IMPORT: "kWh", POWER: "kW", VOLTAGE: "V"}

REGISTERS: Final = (
    RegisterInfo(VOLTAGE, "V", PollGroup.FAST, decimals=1, minimum=0, maximum=500),
    RegisterInfo(POWER, "kW", PollGroup.FAST, decimals=3),
    RegisterInfo(
        IMPORT, "kWh", PollGroup.BILLING, decimals=2, monotonic=True, rollover=ROLLOVER_KWH
    ),
)


@dataclass(frozen=True, slots=True)
class Movement:
    """A contactor that was ordered to a position, and when, in milliseconds of true time."""

    at_ms: int
    position: RelayPosition


@dataclass(slots=True)
class SimulatedMeter:
    """A meter of the village: counts what its house draws while its contactor is closed.

    Sums are whole milliwatt-hours and milliseconds, so the register at a moment does not depend on who read it
    when. ``now_ms`` is the true time; a meter has no clock of its own.
    """

    serial: MeterSerial
    now_ms: Callable[[], int]
    load_mw: int
    """What the house draws; doubled in the evening."""
    counter_mwh: int = 0
    position: RelayPosition = RelayPosition.CONNECTED
    answers_as: MeterSerial | None = None
    """Another serial number: the meter was swapped, or two share the address."""
    delay_s: float = 0.0
    """How late it answers; beyond `ANSWER_TIMEOUT_S` it is silent, and its late answer is nobody's."""
    silent: bool = False
    stuck: bool = False
    """The contactor does not move, whatever it is ordered."""
    answer_lost: bool = False
    """The contactor moves, and nobody is told."""
    ordered: Callable[[], None] | None = None
    """Told of each order, once the contactor has it."""
    movements: list[Movement] = field(default_factory=list)
    told: dict[Decimal, tuple[int, int]] = field(default_factory=dict)
    """Each state of the counter it told, with the first and the last millisecond it did."""
    _counted_ms: int = 0
    _rest: int = 0

    def __post_init__(self) -> None:
        self._counted_ms = self.now_ms()

    def register(self, obis: Obis) -> Decimal:
        """Return a register as it stands now."""
        self._count()
        if obis == IMPORT:
            centi = self.counter_mwh * 100 // _MWH_PER_KWH % (ROLLOVER_KWH * 100)
            return Decimal(centi).scaleb(-2)
        if obis == POWER:
            return Decimal(self._draws_mw()).scaleb(-6)
        return Decimal(2300 + (self._counted_ms // 60_000) % 23).scaleb(-1)

    async def read(self, wanted: Sequence[Obis]) -> Sequence[RawReading]:
        """Answer, late or never."""
        await self._answer()
        values = {obis: self.register(obis) for obis in wanted if obis in _UNITS}
        if (counter := values.get(IMPORT)) is not None:
            first_ms, _ = self.told.get(counter, (self._counted_ms, 0))
            self.told[counter] = first_ms, self._counted_ms
        return [RawReading(obis, value, _UNITS[obis]) for obis, value in values.items()]

    async def relay_position(self) -> RelayPosition:
        """Tell where the contactor stands."""
        await self._answer()
        return self.position

    async def set_relay(self, position: RelayPosition) -> None:
        """Take an order."""
        await self._answer()
        self._count()
        self.movements.append(Movement(self._counted_ms, position))
        if not self.stuck:
            self.position = position
        if self.ordered is not None:
            self.ordered()
        if self.answer_lost:
            await asyncio.sleep(ANSWER_TIMEOUT_S)
            raise MeterSilent(f"{self.serial} did not answer the order")

    @property
    def registers(self) -> Sequence[RegisterInfo]:
        return REGISTERS

    async def _answer(self) -> None:
        if self.silent or self.delay_s > ANSWER_TIMEOUT_S:
            await asyncio.sleep(ANSWER_TIMEOUT_S)
            raise MeterSilent(f"{self.serial} does not answer within {ANSWER_TIMEOUT_S:g} s")
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.answers_as is not None:
            raise IdentityMismatch(expected=self.serial, found=self.answers_as)

    def _draws_mw(self) -> int:
        if self.position is not RelayPosition.CONNECTED:
            return 0
        evening = self._counted_ms // _MS_PER_H % 24 in range(13, 17)  # 18:30 to 22:30 in India
        return self.load_mw * 2 if evening else self.load_mw

    def _count(self) -> None:
        """Count on to now, hour by hour, because the load changes on the hour."""
        now_ms = self.now_ms()
        while self._counted_ms < now_ms:
            until_ms = min(now_ms, (self._counted_ms // _MS_PER_H + 1) * _MS_PER_H)
            energy = self._draws_mw() * (until_ms - self._counted_ms) + self._rest
            self.counter_mwh += energy // _MS_PER_H
            self._rest = energy % _MS_PER_H
            self._counted_ms = until_ms


@dataclass(slots=True)
class MeterBench:
    """The meters that hang on a gateway's lines, by serial number; ``down`` names the lines that are."""

    meters: dict[MeterSerial, SimulatedMeter] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _BenchMeter:
    """One meter on an open line."""

    meter: SimulatedMeter
    line: str
    bench: MeterBench
    turn: asyncio.Lock

    @property
    def serial(self) -> MeterSerial:
        return self.meter.serial

    @property
    def registers(self) -> Sequence[RegisterInfo]:
        return self.meter.registers

    async def read(self, wanted: Sequence[Obis]) -> Sequence[RawReading]:
        async with self.turn:
            self._check_line()
            return await self.meter.read(wanted)

    async def relay_position(self) -> RelayPosition:
        async with self.turn:
            self._check_line()
            return await self.meter.relay_position()

    async def set_relay(self, position: RelayPosition) -> None:
        async with self.turn:
            self._check_line()
            await self.meter.set_relay(position)

    def _check_line(self) -> None:
        if self.line in self.bench.down:
            raise LineDown(f"line {self.line} is cut")


@dataclass(frozen=True, slots=True)
class _BenchLine:
    meters: Mapping[MeterSerial, Meter]


def driver_of(bench: MeterBench) -> type[Driver]:
    """Return the driver that opens lines to this bench: what an entry point would give."""

    class SimulatedDriver:
        """Opens lines of simulated meters; a line takes no options, nor does a meter."""

        name: ClassVar[str] = "simulated"

        @classmethod
        def open(cls, settings: LineSettings) -> AbstractAsyncContextManager[Line]:
            for key in settings.options:
                raise OptionsError("a simulated line takes no option", path=(key,))
            for number, meter in enumerate(settings.meters):
                _check_options(meter, number)
            return _open(settings, bench)

    return SimulatedDriver


def _check_options(meter: MeterSettings, number: int) -> None:
    for key in meter.options:
        raise OptionsError("a simulated meter takes no option", path=("meter", number, key))


@asynccontextmanager
async def _open(settings: LineSettings, bench: MeterBench) -> AsyncIterator[Line]:
    if settings.name in bench.down:
        raise LineDown(f"line {settings.name} is cut")
    turn = asyncio.Lock()
    yield _BenchLine(
        {
            each.serial: _BenchMeter(bench.meters[each.serial], settings.name, bench, turn)
            for each in settings.meters
        }
    )


def _obeys_the_ports(meter: _BenchMeter) -> tuple[Meter, RelayControl]:
    return meter, meter
