"""The simulated village as its operator would describe it: poles with positions, customers with names, a tariff.

Made of the plan and its seed alone, so a village has the same streets every evening. Names are made up.
"""

import math
import random
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Final

from openami.headend.assets import (
    Customer,
    Feeder,
    FeederAssets,
    Meter,
    MeterRole,
    Pole,
    Tariff,
)
from openami.headend.audit import Entry
from openami.headend.store import Access
from openami.headend.store.assets import AssetsChange
from openami.headend.store.open import open_store
from openami.profile import FeederId
from openami.simulator.load import LoadClass
from openami.simulator.plan import Customer as PlannedCustomer
from openami.simulator.plan import VillagePlan

# North Paravur, the place of the profile's example.
_TRANSFORMER: Final = (76.2211, 10.1421)
# Between two poles of a low-voltage line (simulator/feeder.py), in degrees of latitude.
_SPAN_DEGREES: Final = 50 / 111_320
# A line bends with its street.
_BEND_RADIANS: Final = 0.25
_TARIFF: Final = Tariff(id="demo-tariff", price_per_kwh=Decimal("14.50"), currency="INR")
_PHASES: Final = "ABC"
_MINUTES_PER_HOUR: Final = 60
_MINUTES_PER_DAY: Final = 1440
_EASTERNMOST_HOURS: Final = 14

_GIVEN: Final = (
    *("Anitha", "Biju", "Celine", "Deepa", "Eldho", "Fathima", "Gopi", "Hari", "Indira", "Jose"),
    *("Kamala", "Latha", "Mani", "Nisha", "Omana", "Priya", "Rajan", "Sunil", "Thomas", "Usha"),
    *("Vinod", "Yamuna", "Zeenath", "Asha", "Babu", "Chandran"),
)
_INITIALS: Final = "ABCDEGJKMNPRSTV"
_NAMED_FOR: Final = {
    LoadClass.SHOP: "shop",
    LoadClass.MILL: "mill",
    LoadClass.CLINIC: "clinic",
}


def village_assets(plan: VillagePlan, feeder_id: FeederId) -> FeederAssets:
    """Return what stands in a village. Its clinics are protected."""
    dice = random.Random(plan.seed)
    numbered = list(enumerate(plan.customers, 1))
    names = [_name(dice, planned) for _, planned in numbered]
    return FeederAssets(
        feeder=Feeder(
            id=feeder_id,
            name="Demo village",
            time_zone=_zone(plan.utc_offset_minutes),
            tariff_id=_TARIFF.id,
        ),
        poles=tuple(_poles(plan, feeder_id, dice)),
        meters=(
            Meter(
                feeder_id=feeder_id,
                serial=plan.head_serial,
                role=MeterRole.HEAD,
                pole_id="tx",
                phase=_PHASES,
            ),
            *(_meter(number, planned, feeder_id) for number, planned in numbered),
        ),
        customers=tuple(
            Customer(feeder_id=feeder_id, id=_customer_id(number), name=name)
            for (number, _), name in zip(numbered, names, strict=True)
        ),
        tariffs=(_TARIFF,),
    )


async def tell_assets(
    store_url: str, plan: VillagePlan, feeder_id: FeederId, *, now: datetime
) -> None:
    """Enter a village's assets into the head-end's store, as an import would. Raises StoreError."""
    assets = village_assets(plan, feeder_id)
    entry = Entry(who="demo", what="assets imported", why=f"simulated village {plan.seed}")
    async with open_store(store_url, Access.EDIT) as store:
        await store.change_assets(
            [feeder_id], lambda _: AssetsChange((assets,), assets.tariffs, (entry,)), now
        )


def _poles(plan: VillagePlan, feeder_id: FeederId, dice: random.Random) -> Iterator[Pole]:
    longitude, latitude = _TRANSFORMER
    yield Pole(
        feeder_id=feeder_id,
        id="tx",
        name="Transformer",
        longitude=longitude,
        latitude=latitude,
        phases=_PHASES,
    )
    feeder = plan.feeder
    for branch in range(feeder.branches):
        heading = 2 * math.pi * branch / feeder.branches
        longitude, latitude = _TRANSFORMER
        before = "tx"
        for number in range(1, feeder.poles + 1):
            heading += dice.uniform(-_BEND_RADIANS, _BEND_RADIANS)
            longitude += _SPAN_DEGREES * math.sin(heading) / math.cos(math.radians(latitude))
            latitude += _SPAN_DEGREES * math.cos(heading)
            pole_id = _pole_id(branch, number)
            yield Pole(
                feeder_id=feeder_id,
                id=pole_id,
                name=f"Branch {branch + 1}, pole {number}",
                number=branch * feeder.poles + number,
                parent=before,
                longitude=round(longitude, 6),
                latitude=round(latitude, 6),
                phases=_PHASES,
            )
            before = pole_id


def _meter(number: int, planned: PlannedCustomer, feeder_id: FeederId) -> Meter:
    return Meter(
        feeder_id=feeder_id,
        serial=planned.serial,
        pole_id=_pole_id(planned.branch, planned.pole),
        phase=_PHASES[planned.phase],
        customer_id=_customer_id(number),
        protected=planned.load_class is LoadClass.CLINIC,
    )


def _name(dice: random.Random, planned: PlannedCustomer) -> str:
    name = f"{dice.choice(_GIVEN)} {dice.choice(_INITIALS)}."
    business = _NAMED_FOR.get(planned.load_class)
    return name if business is None else f"{name} ({business})"


def _pole_id(branch: int, number: int) -> str:
    return f"b{branch + 1}-p{number:02d}"


def _customer_id(number: int) -> str:
    return f"c-{number:04d}"


def _zone(utc_offset_minutes: int) -> str:
    """Return a zone in which it is about as late as in the village; POSIX writes east with a minus."""
    hours = round(utc_offset_minutes / _MINUTES_PER_HOUR)
    if hours > _EASTERNMOST_HOURS:
        hours -= _MINUTES_PER_DAY // _MINUTES_PER_HOUR
    return "UTC" if hours == 0 else f"Etc/GMT{-hours:+d}"
