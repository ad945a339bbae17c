"""The village's meters on their lines: who answers where, with which register map."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from openami.clock import Clock
from openami.gateway.driver import RelayPosition
from openami.gateway.drivers.modbus.map_files import load_map
from openami.profile import MeterSerial
from openami.simulator.config_files import LinePlace, MeterPlace, modbus_place
from openami.simulator.faults import Fault
from openami.simulator.modbus_meter import ModbusMeter
from openami.simulator.modbus_server import ModbusLine, RegisterBank, serving, units
from openami.simulator.plan import PREPAID_MODEL, VillagePlan, epoch_ms
from openami.simulator.sunspec_meter import SIMULATED as SIMULATED_SUNSPEC
from openami.simulator.sunspec_meter import SunSpecMeter
from openami.simulator.village import Measured, Village

SUNSPEC = "sunspec"

# Simulated meters say a number a maker would have given them; none of theirs begins so.
_MAKER_NUMBER_FIRST = 99_000_000


class VillageLine(Protocol):
    """One line of meters, whatever they speak."""

    @property
    def serials(self) -> Sequence[MeterSerial]: ...

    def set_fault(self, serial: MeterSerial, fault: Fault | None) -> None:
        """Let a meter fail from now on, or be well again (None)."""
        ...

    def serving(self) -> AbstractAsyncContextManager[LinePlace]:
        """Let the meters answer while the context lasts; give what the gateway has to be told of them."""
        ...


@dataclass(frozen=True, slots=True)
class ModbusVillageLine:
    """A line of Modbus meters behind a TCP port."""

    name: str
    modbus: ModbusLine
    meters: tuple[MeterPlace, ...]

    @property
    def serials(self) -> Sequence[MeterSerial]:
        return [meter.serial for meter in self.meters]

    def set_fault(self, serial: MeterSerial, fault: Fault | None) -> None:
        """See `VillageLine.set_fault`."""
        unit = units(len(self.meters))[self.serials.index(serial)]
        self.modbus.set_fault(unit, fault)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[LinePlace]:
        """See `VillageLine.serving`."""
        async with serving(self.modbus) as port:
            yield modbus_place(self.name, port, self.meters)


def map_name(model: str) -> str:
    """Return a model's register map as a configuration names it: shipped, found, or the simulator's own file."""
    if model in SIMULATED_SUNSPEC:
        return SUNSPEC
    if model != PREPAID_MODEL:
        return model
    return str(Path(__file__).with_name("maps") / f"{model}.toml")


def village_lines(village: Village, clock: Clock) -> tuple[ModbusVillageLine, ...]:
    """Return the village's lines: the feeder's meter alone, the customers' by branch."""
    grouped = list(_grouped(village.plan))
    return tuple(modbus_line(name, meters, village, clock) for name, meters in grouped)


@dataclass(frozen=True, slots=True)
class Installed:
    """One meter of the village: which, of what kind, and the number its maker gave it."""

    serial: MeterSerial
    model: str
    maker_number: int


def installed(plan: VillagePlan) -> Sequence[Installed]:
    """Return the customers' meters, in their order."""
    return [
        Installed(customer.serial, customer.model, _MAKER_NUMBER_FIRST + number)
        for number, customer in enumerate(plan.customers, start=1)
    ]


def head_meter(plan: VillagePlan) -> Installed:
    """Return the feeder's own."""
    return Installed(plan.head_serial, plan.head_model, _MAKER_NUMBER_FIRST)


def _grouped(plan: VillagePlan) -> Iterator[tuple[str, Sequence[Installed]]]:
    yield "transformer", [head_meter(plan)]
    for branch in range(plan.feeder.branches):
        yield (
            f"branch-{branch + 1}",
            [
                meter
                for meter, customer in zip(installed(plan), plan.customers, strict=True)
                if customer.branch == branch
            ],
        )


def modbus_line(
    name: str, meters: Sequence[Installed], village: Village, clock: Clock
) -> ModbusVillageLine:
    """Return a line of meters that speak Modbus, each by its model's map or by SunSpec."""
    banks: dict[int, RegisterBank] = {}
    places: list[MeterPlace] = []
    for unit, meter in zip(units(len(meters)), meters, strict=True):
        model, maker_number = meter.model, meter.maker_number
        measure = partial(measured_now, village, clock, meter.serial)
        tells = True
        if model in SIMULATED_SUNSPEC:
            banks[unit] = SunSpecMeter(SIMULATED_SUNSPEC[model], measure, maker_number=maker_number)
        else:
            register_map = load_map(map_name(model))
            banks[unit] = ModbusMeter(
                register_map,
                measure,
                maker_number=maker_number,
                order_relay=partial(order_now, village, clock, meter.serial),
            )
            tells = register_map.identify is not None
        options: dict[str, str | int | float | bool] = {"unit": unit, "map": map_name(model)}
        if tells:
            options["identity"] = maker_number
        places.append(MeterPlace(meter.serial, options))
    return ModbusVillageLine(name, ModbusLine(banks), tuple(places))


def measured_now(village: Village, clock: Clock, serial: MeterSerial) -> Measured:
    """Let the village live on until now, and measure."""
    live_on(village, clock)
    return village.measured(serial)


def order_now(village: Village, clock: Clock, serial: MeterSerial, position: RelayPosition) -> None:
    """Let the village live on until now, and move a relay."""
    live_on(village, clock)
    village.order_relay(serial, position)


def live_on(village: Village, clock: Clock) -> None:
    """Let the village live on until now."""
    # The machine's clock may be set back; the village's only goes on.
    village.advance(max(epoch_ms(clock.now()), village.now_ms))
