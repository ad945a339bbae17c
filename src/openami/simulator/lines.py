"""The village's meters on their lines: who answers where, with which register map."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from openami.clock import Clock
from openami.gateway.driver import RelayPosition
from openami.gateway.drivers.modbus.map_files import load_map
from openami.profile import MeterSerial
from openami.simulator.config_files import LinePlace, MeterPlace
from openami.simulator.modbus_meter import ModbusMeter
from openami.simulator.modbus_server import ModbusLine, RegisterBank, units
from openami.simulator.plan import PREPAID_MODEL, VillagePlan, epoch_ms
from openami.simulator.sunspec_meter import SIMULATED as SIMULATED_SUNSPEC
from openami.simulator.sunspec_meter import SunSpecMeter
from openami.simulator.village import Measured, Village

SUNSPEC = "sunspec"

# Simulated meters say a number a maker would have given them; none of theirs begins so.
_MAKER_NUMBER_FIRST = 99_000_000


@dataclass(frozen=True, slots=True)
class VillageLine:
    """One line: its meters as they answer, and as the gateway is told of them."""

    name: str
    modbus: ModbusLine
    meters: tuple[MeterPlace, ...]

    def place(self, port: int) -> LinePlace:
        return LinePlace(self.name, port, self.meters)


def map_name(model: str) -> str:
    """Return a model's register map as a configuration names it: shipped, found, or the simulator's own file."""
    if model in SIMULATED_SUNSPEC:
        return SUNSPEC
    if model != PREPAID_MODEL:
        return model
    return str(Path(__file__).with_name("maps") / f"{model}.toml")


def village_lines(village: Village, clock: Clock) -> tuple[VillageLine, ...]:
    """Return the village's lines: the feeder's meter alone, the customers' by branch."""
    grouped = list(_grouped(village.plan))
    return tuple(_line(name, meters, village, clock) for name, meters in grouped)


def _grouped(plan: VillagePlan) -> Iterator[tuple[str, Sequence[tuple[MeterSerial, str, int]]]]:
    """Yield each line's name and its meters: serial, model, maker's number."""
    yield "transformer", [(plan.head_serial, plan.head_model, _MAKER_NUMBER_FIRST)]
    for branch in range(plan.feeder.branches):
        yield (
            f"branch-{branch + 1}",
            [
                (customer.serial, customer.model, _MAKER_NUMBER_FIRST + number)
                for number, customer in enumerate(plan.customers, start=1)
                if customer.branch == branch
            ],
        )


def _line(
    name: str,
    meters: Sequence[tuple[MeterSerial, str, int]],
    village: Village,
    clock: Clock,
) -> VillageLine:
    banks: dict[int, RegisterBank] = {}
    places: list[MeterPlace] = []
    for unit, (serial, model, maker_number) in zip(units(len(meters)), meters, strict=True):
        measure = partial(_measure, village, clock, serial)
        tells = True
        if model in SIMULATED_SUNSPEC:
            banks[unit] = SunSpecMeter(SIMULATED_SUNSPEC[model], measure, maker_number=maker_number)
        else:
            register_map = load_map(map_name(model))
            banks[unit] = ModbusMeter(
                register_map,
                measure,
                maker_number=maker_number,
                order_relay=partial(_order_relay, village, clock, serial),
            )
            tells = register_map.identify is not None
        places.append(MeterPlace(serial, map_name(model), unit, maker_number if tells else None))
    return VillageLine(name, ModbusLine(banks), tuple(places))


def _measure(village: Village, clock: Clock, serial: MeterSerial) -> Measured:
    _live_on(village, clock)
    return village.measured(serial)


def _order_relay(
    village: Village, clock: Clock, serial: MeterSerial, position: RelayPosition
) -> None:
    _live_on(village, clock)
    village.order_relay(serial, position)


def _live_on(village: Village, clock: Clock) -> None:
    # The machine's clock may be set back; the village's only goes on.
    village.advance(max(epoch_ms(clock.now()), village.now_ms))
