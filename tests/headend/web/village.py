"""A village for the pages: 20 poles, 40 or 200 houses, a head meter, and a day of readings with its troubles."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import exp

from tests.headend.decisions import accepted, register

from openami.headend.assets import Customer, Feeder, FeederAssets, Meter, MeterRole, Pole
from openami.headend.audit import Entry
from openami.headend.ingest import Accepted, Kind
from openami.headend.store.assets import AssetsChange
from openami.headend.store.commands import HeadEndStore
from openami.profile import Event, Obis, Quality
from openami.profile.event import EventSource, EventState, Severity

FEEDER, GATEWAY = "feeder-north-paravur-01", "pole-ems-0042"
ENERGY, CREDIT, RELAY = (Obis.parse(code) for code in ("1.8.0", "96.8.0", "96.11.1"))
POLES = 20
FEW, MANY = 2, 10
"""Houses on a pole: what a page says takes few, what it weighs takes many."""
MIDNIGHT = datetime(2026, 6, 21, 18, 30, tzinfo=UTC)  # in Kerala
NOW = datetime(2026, 6, 22, 9, 15, 40, tzinfo=UTC)  # 14:45 there
QUARTER = timedelta(minutes=15)
_NAMES = (
    "Indira",
    "Elias",
    "Kavya",
    "Nisha",
    "Thomas",
    "Omana",
    "Anitha",
    "Biju",
    "Sunil",
    "Rekha",
)


@dataclass
class House:
    """A simulated customer."""

    serial: str
    number: int
    kwh: float
    credit: float
    off: bool = False
    suspect: bool = False
    last: datetime = NOW


def houses(per_pole: int = FEW) -> list[House]:
    """Return the customers, always the same."""
    chance = random.Random(42)
    found = [
        House(f"DS1000-{88400 + n}", n, chance.uniform(200, 4000), chance.uniform(3, 30))
        for n in range(1, POLES * per_pole + 1)
    ]
    for n in chance.sample(found, 11):
        n.credit = chance.uniform(0.1, 1.9)
    for number, n in enumerate(chance.sample(found, 5)):
        n.off = True
        n.credit = 0.0 if number == 0 else n.credit
    for n in chance.sample(found, 4):
        n.suspect = True
    for number, n in enumerate(chance.sample(found, 12)):
        n.last = NOW - timedelta(hours=(1, 3, 6, 14)[number % 4], minutes=number)
    return found


def assets(per_pole: int = FEW) -> FeederAssets:
    """Return what stands there: two branches, positions along a lane."""
    poles = tuple(
        Pole(
            feeder_id=FEEDER,
            id=f"p{n}",
            name=str(n),
            number=n,
            parent=None if n == 1 else "p6" if n == 17 else f"p{n - 1}",
            longitude=76.21 + 0.0005 * (n if n < 17 else 6 + (n - 16) * 0.2),
            latitude=10.14 + 0.0002 * (n % 3) + (0 if n < 17 else 0.0005 * (n - 16)),
        )
        for n in range(1, POLES + 1)
    )
    customers = tuple(
        Customer(
            feeder_id=FEEDER,
            id=f"c{n.number}",
            name=f"{_NAMES[n.number % 10]} {'ABCDEFGHIJKLMNOPQRSTUVWXY'[n.number % 25]}.",
        )
        for n in houses(per_pole)
    )
    meters = tuple(
        Meter(
            feeder_id=FEEDER,
            serial=n.serial,
            pole_id=f"p{(n.number - 1) // per_pole + 1}",
            phase="ABC"[n.number % 3],
            customer_id=f"c{n.number}",
            protected=n.number == 7,
        )
        for n in houses(per_pole)
    )
    head = Meter(feeder_id=FEEDER, serial="HEAD-1", role=MeterRole.HEAD, pole_id="p1")
    return FeederAssets(
        feeder=Feeder(id=FEEDER, name="North Paravur 01", time_zone="Asia/Kolkata"),
        poles=poles,
        meters=(head, *meters),
        customers=customers,
    )


def demand_kw(at: datetime) -> float:
    """Return what a house draws on average: a morning's and a noon's hump."""
    hour = ((at - MIDNIGHT) / timedelta(hours=1)) % 24
    return 0.22 + 0.32 * exp(-((hour - 7) ** 2) / 2) + 0.2 * exp(-((hour - 13) ** 2) / 6)


def day(per_pole: int = FEW) -> Iterator[Accepted]:
    """Yield a day's messages."""
    chance = random.Random(7)
    village = houses(per_pole)
    head, at = 91_000.0, MIDNIGHT - QUARTER
    while at <= NOW:
        used = 0.0
        for house in village:
            drawn = 0 if house.off else demand_kw(at) / 4 * chance.uniform(0.5, 1.5)
            house.kwh += drawn
            used += drawn
            if at <= house.last:
                yield reading(house, at, chance.uniform(1, 40))
        head += used * 1.055
        yield accepted(
            register(round(head, 2), ENERGY),
            ts=at,
            feeder=FEEDER,
            gateway=GATEWAY,
            meter="HEAD-1",
        )
        at += QUARTER


def reading(house: House, at: datetime, lag_s: float = 2) -> Accepted:
    """Return what a house's meter tells."""
    quality = Quality.SUSPECT if house.suspect and at > NOW - 4 * QUARTER else Quality.GOOD
    return accepted(
        register(round(house.kwh, 2), ENERGY, quality=quality),
        register(round(house.credit, 1), CREDIT),
        register("disconnected" if house.off else "connected", RELAY, unit="enum"),
        ts=at,
        feeder=FEEDER,
        gateway=GATEWAY,
        meter=house.serial,
        received_at=at + timedelta(seconds=lag_s),
    )


def cover_opened(serial: str) -> Accepted:
    """Return an event."""
    happened = NOW - timedelta(minutes=103)
    return accepted(
        register(1, Obis.parse("96.20.0"), unit="count"),
        ts=happened,
        kind=Kind.EVENT,
        feeder=FEEDER,
        gateway=GATEWAY,
        meter=serial,
        event=Event(
            event_id="e-1",
            type="tamper.cover_open",
            state=EventState.RAISED,
            severity=Severity.MAJOR,
            occurred_at="2026-06-22T07:32:00Z",
            source=EventSource.METER,
        ),
    )


async def fill(store: HeadEndStore, per_pole: int = FEW) -> None:
    """Put the village and its day into a store."""
    await store.change_assets(
        [FEEDER],
        lambda _: AssetsChange(
            after=[assets(per_pole)], entries=[Entry(who="asha", what="assets imported")]
        ),
        NOW,
    )
    batch: list[Accepted] = []
    for message in day(per_pole):
        batch.append(message)
        if len(batch) == 500:
            await store.commit(batch)
            batch.clear()
    await store.commit(batch)
