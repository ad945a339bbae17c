"""The plan of a village: who lives where, with which meter. One seed, same village."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from openami.profile import MeterSerial
from openami.simulator.feeder import PHASES, Feeder
from openami.simulator.load import LoadClass, load_shapes

UJ_PER_KWH = 3_600_000 * 1_000_000
_UJ_PER_WH = UJ_PER_KWH // 1000

# Modbus gives 247 addresses to a line; a village of more meters than a feeder serves is another study.
METERS_MAX = 500
# The feeder's own meter and one customer: below that nothing can add up.
METERS_MIN = 2

# A branch of the feeder is a row of poles, and one line of meters: the 32 unit loads of RS-485, less the
# bridge. A feeder of one endless row would have no voltage left at its end.
CUSTOMERS_PER_BRANCH_MAX = 31
_CUSTOMERS_PER_POLE = 3
_MILL_POLES_MAX = 3  # motors are connected near the transformer, where the voltage holds
_PREPAID_SHARE = 0.3
_BYPASS_SHARE = 0.05
_UTC_OFFSET_MINUTES = 330  # North Paravur, the place of the profile's example

# In every ten customers of a village; a mix of an off-grid village, not of a survey.
_CLASSES: Sequence[tuple[LoadClass, int]] = (
    (LoadClass.LIGHTING, 35),
    (LoadClass.TELEVISION, 32),
    (LoadClass.FRIDGE, 15),
    (LoadClass.SHOP, 10),
    (LoadClass.MILL, 4),
    (LoadClass.CLINIC, 4),
)

_HEAD_MODEL = "sdm630"
PREPAID_MODEL = "openami-sim-prepaid"
_CUSTOMER_MODELS = ("sdm120", "sdm120", "sdm120", "dds238")


@dataclass(frozen=True, slots=True)
class TopUp:
    """Credit bought and entered at the meter. A customer's top-ups stand in the order of time."""

    at_ms: int
    energy_uj: int


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer, the place on the feeder, and the meter.

    ``bypass_permille`` is theft: that share of the load passes the meter by, whatever its relay does.
    ``credit_uj`` is the credit at the start; None for a customer who pays afterwards.
    """

    serial: MeterSerial
    model: str
    load_class: LoadClass
    variant: int
    branch: int
    pole: int
    phase: int
    scale_permille: int = 1000
    shift_minutes: int = 0
    counter_uj: int = 0
    bypass_permille: int = 0
    credit_uj: int | None = None
    topups: tuple[TopUp, ...] = ()

    @property
    def prepaid(self) -> bool:
        return self.credit_uj is not None


@dataclass(frozen=True, slots=True)
class VillagePlan:
    """All that decides what happens in a village, and nothing that changes."""

    seed: int
    start_ms: int
    """Milliseconds since 1970, UTC: when the counters below held."""
    feeder: Feeder
    customers: tuple[Customer, ...]
    head_serial: MeterSerial
    head_model: str
    head_counter_uj: int
    utc_offset_minutes: int = _UTC_OFFSET_MINUTES

    @property
    def meters(self) -> int:
        """Customers' meters and the feeder's own."""
        return len(self.customers) + 1


def plan_village(
    *,
    meters: int,
    seed: int,
    start: datetime,
    utc_offset_minutes: int = _UTC_OFFSET_MINUTES,
) -> VillagePlan:
    """Return the village of this seed: ``meters`` in all, one of them the feeder's own.

    Raises ValueError when there are too few or too many.
    """
    if not METERS_MIN <= meters <= METERS_MAX:
        raise ValueError(f"a village has {METERS_MIN} to {METERS_MAX} meters, not {meters}")
    dice = random.Random(seed)
    feeder = _feeder(meters - 1)
    customers = tuple(_customer(dice, number, feeder) for number in range(1, meters))
    return VillagePlan(
        seed=seed,
        start_ms=epoch_ms(start),
        feeder=feeder,
        customers=customers,
        head_serial=MeterSerial("FH-0001"),
        head_model=_HEAD_MODEL,
        # The transformer has been there longer than any of them.
        head_counter_uj=sum(c.counter_uj for c in customers) + dice.randrange(10**6) * _UJ_PER_WH,
        utc_offset_minutes=utc_offset_minutes,
    )


def _feeder(customers: int) -> Feeder:
    branches = -(-customers // CUSTOMERS_PER_BRANCH_MAX)
    longest = min(customers, CUSTOMERS_PER_BRANCH_MAX)
    return Feeder(poles=-(-longest // _CUSTOMERS_PER_POLE), branches=branches)


def _customer(dice: random.Random, number: int, feeder: Feeder) -> Customer:
    # The first of a village is always prepaid, so that the smallest one has a credit to run down.
    prepaid = number == 1 or dice.random() < _PREPAID_SHARE
    classes, weights = zip(*_CLASSES, strict=True)
    load_class = dice.choices(classes, weights)[0]
    poles = min(feeder.poles, _MILL_POLES_MAX) if load_class is LoadClass.MILL else feeder.poles
    return Customer(
        serial=MeterSerial(f"VM-{number:04d}"),
        model=PREPAID_MODEL if prepaid else dice.choice(_CUSTOMER_MODELS),
        load_class=load_class,
        variant=dice.randrange(len(load_shapes(load_class))),
        branch=(number - 1) // CUSTOMERS_PER_BRANCH_MAX,
        pole=dice.randint(1, poles),
        phase=dice.randrange(PHASES),
        scale_permille=dice.randint(850, 1150),
        shift_minutes=dice.randint(-20, 20),
        counter_uj=dice.randrange(50_000, 3_000_000) * _UJ_PER_WH,
        bypass_permille=dice.randint(300, 900) if dice.random() < _BYPASS_SHARE else 0,
        credit_uj=dice.randrange(500, 20_000) * _UJ_PER_WH if prepaid else None,
    )


def epoch_ms(moment: datetime) -> int:
    """Return a moment as whole milliseconds since 1970, UTC, exactly."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
