"""A village of several makes: which meter speaks what, and which of them has what to it. Pure.

The houses and their loads are those of any village of the seed; what hangs on their walls is another matter. The
first customers have Modbus meters, then come SunSpec, DLMS on a network, DLMS on a serial line, and IEC 62056-21; a
larger village has more Modbus meters after them.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from itertools import chain
from typing import Final

from openami.profile import MeterSerial
from openami.simulator.plan import PREPAID_MODEL, Customer, VillagePlan

DLMS: Final = "dlms"
IEC: Final = "iec62056-21"


class LineName(StrEnum):
    """The lines of a mixed village. A name is also what the summary calls the meters on it."""

    TRANSFORMER = "transformer"
    MODBUS = "modbus"
    SUNSPEC = "sunspec"
    DLMS_TCP = "dlms-tcp"
    DLMS_SERIAL = "dlms-serial"
    IEC = "iec62056-21"


_MODELS: Final[Mapping[LineName, Sequence[str]]] = {
    LineName.MODBUS: (PREPAID_MODEL, "sdm120", "dds238", "sdm120", "dds238"),
    LineName.SUNSPEC: ("sunspec-201", "sunspec-211", "sunspec-201"),
    LineName.DLMS_TCP: (DLMS,) * 4,
    LineName.DLMS_SERIAL: (DLMS,) * 5,
    LineName.IEC: (IEC,) * 2,
}
_SPECIAL: Final = sum(len(models) for models in _MODELS.values())
# All of them, and the feeder's own.
MIXED_METERS_MIN: Final = _SPECIAL + 1
# More are polled more slowly, and a line that is cut for seconds would miss nothing.
MIXED_METERS_MAX: Final = 50

# Real meters keep a quarter hour. A demo is over in one: its meters keep each second poll, so that a gap of seconds
# is a gap, and has something to be closed with.
CAPTURE_PERIOD: Final = timedelta(seconds=4)
# A clock may be set only where it lies well within one capture, which of seconds it never does.
SLOW_CLOCKS_PERIOD: Final = timedelta(minutes=15)
# Beyond what is believed of a meter's clock, within what may be set from afar.
CLOCK_ERROR: Final = timedelta(seconds=-90)


@dataclass(frozen=True, slots=True)
class Roles:
    """Who has what happen to them."""

    dead: MeterSerial
    """Never answers, from the start."""
    readdressed: MeterSerial
    """Was given its neighbour's address by whoever put it up."""
    neighbour: MeterSerial
    slow_clock: MeterSerial
    button: MeterSerial
    """A DLMS relay that a reconnection from afar only arms."""
    relay: MeterSerial
    """A Modbus relay."""
    opened: MeterSerial
    """Somebody takes its cover off."""
    cut: tuple[MeterSerial, ...]
    """On the line that is cut for a while, and known to answer before and after."""


@dataclass(frozen=True, slots=True)
class MixedVillage:
    """A plan, its meters by lines, and who has what happen to them."""

    plan: VillagePlan
    lines: Mapping[LineName, tuple[MeterSerial, ...]]
    roles: Roles

    def line_of(self, serial: MeterSerial) -> LineName:
        """Return the line a meter is on."""
        return next(name for name, serials in self.lines.items() if serial in serials)


def mixed_village(plan: VillagePlan) -> MixedVillage:
    """Hang other meters on the walls of a village. Raises ValueError when it is too small or too large."""
    if not MIXED_METERS_MIN <= plan.meters <= MIXED_METERS_MAX:
        raise ValueError(
            f"a mixed village has {MIXED_METERS_MIN} to {MIXED_METERS_MAX} meters, not {plan.meters}"
        )
    models = list(chain.from_iterable(_MODELS.values()))
    customers = tuple(
        _with_meter(customer, models[at] if at < _SPECIAL else customer.model)
        for at, customer in enumerate(plan.customers)
    )
    lines: dict[LineName, tuple[MeterSerial, ...]] = {LineName.TRANSFORMER: (plan.head_serial,)}
    serials = [customer.serial for customer in customers]
    begin = 0
    for name, of_line in _MODELS.items():
        lines[name] = tuple(serials[begin : begin + len(of_line)])
        begin += len(of_line)
    lines[LineName.MODBUS] += tuple(serials[begin:])
    return MixedVillage(dataclasses.replace(plan, customers=customers), lines, _roles(lines))


def _with_meter(customer: Customer, model: str) -> Customer:
    """Only one of the models keeps an account of credit; whoever has another pays afterwards."""
    prepaid = model == PREPAID_MODEL
    credit_uj = customer.credit_uj if prepaid else None
    return dataclasses.replace(customer, model=model, credit_uj=credit_uj, topups=())


def _roles(lines: Mapping[LineName, tuple[MeterSerial, ...]]) -> Roles:
    relay, dead, *_ = lines[LineName.MODBUS]
    button, slow_clock, *_ = lines[LineName.DLMS_TCP]
    opened, neighbour, readdressed, *rest = lines[LineName.DLMS_SERIAL]
    return Roles(
        dead=dead,
        readdressed=readdressed,
        neighbour=neighbour,
        slow_clock=slow_clock,
        button=button,
        relay=relay,
        opened=opened,
        cut=(opened, *rest),
    )
