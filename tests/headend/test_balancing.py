"""A balance from the store: assets say which meter is which, a swap is bridged, an undescribed meter counts."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from tests.headend.decisions import FEEDER, GATEWAY, accepted, register

from openami.headend.assets import Customer, Feeder, FeederAssets, Meter, MeterRole, Pole
from openami.headend.balance import Balance, Range, ReasonKind
from openami.headend.balancing import BALANCE_KEPT_S, Balancing, feeder_balance
from openami.headend.ingest import Accepted
from openami.headend.store.assets import AssetsChange
from openami.headend.store.commands import HeadEndStore
from openami.profile import Obis

BEGIN = datetime(2026, 6, 20, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NOW = BEGIN + 2 * DAY + timedelta(minutes=20)


def hourly(
    serial: str, kwh: float, hours: range, *, start: float = 100.0, more: Sequence[object] = ()
) -> list[Accepted]:
    """Half-hourly registers, as billing meters tell them, of so many kWh an hour."""
    return [
        accepted(
            register(round(start + n * kwh / 2, 3)),
            *more,  # type: ignore[arg-type]
            ts=BEGIN + n * HOUR / 2,
            meter=serial,
        )
        for n in range(hours.start * 2, hours.stop * 2 - 1)
    ]


async def described(store: HeadEndStore, *meters: Meter) -> None:
    assets = FeederAssets(
        feeder=Feeder(id=FEEDER, name="North"),
        poles=(Pole(feeder_id=FEEDER, id="p1", name="1"),),
        meters=meters,
        customers=(
            Customer(feeder_id=FEEDER, id="c1", name="Asha"),
            Customer(feeder_id=FEEDER, id="c2", name="Bala"),
        ),
    )
    await store.change_assets([FEEDER], lambda _: AssetsChange(after=[assets]), NOW)


def meter(serial: str, customer: str | None = None, **more: object) -> Meter:
    role = MeterRole.HEAD if customer is None else MeterRole.CUSTOMER
    return Meter(feeder_id=FEEDER, serial=serial, role=role, customer_id=customer, **more)  # type: ignore[arg-type]


async def balanced(store: HeadEndStore) -> Balance:
    return await feeder_balance(store, FEEDER, BEGIN, NOW, now=NOW)


async def test_supplied_minus_sold(store: HeadEndStore) -> None:
    await described(store, meter("H"), meter("A", "c1"))
    await store.commit(
        hourly("H", 1.0, range(49)) + hourly("A", 0.6, range(49)) + hourly("X", 0.3, range(49))
    )
    found = await balanced(store)
    assert (found.begin, found.end) == (BEGIN, BEGIN + 2 * DAY)
    assert (found.supplied_wh, found.sold) == (48_000, Range(43_200, 43_200))
    assert (found.meters, found.heard, found.head_hours) == (2, 2, 48)
    assert found.refusal == "too_short"


async def test_a_swap_is_bridged_by_its_registers(store: HeadEndStore) -> None:
    """The old meter is read until 09:00 and closed at 10:00; the new one begins at 11:00 with 5 kWh."""
    swap = BEGIN + 10 * HOUR
    await described(
        store,
        meter("H"),
        meter("A", "c1", valid_to=swap, closing_kwh=100.0 + 10 * 0.8),
        meter("B", "c1", valid_from=swap, opening_kwh=5.0),
    )
    await store.commit(
        hourly("H", 1.0, range(49))
        + hourly("A", 0.8, range(10))
        + hourly("B", 0.8, range(11, 49), start=5.0 - 8.0)
    )
    found = await balanced(store)
    assert found.sold == Range(48 * 800, 48 * 800)
    assert (found.meters, found.heard) == (1, 1)
    assert found.estimated[0].spread_wh > 0


async def test_a_gateway_that_speaks_of_itself_is_no_customers_meter(store: HeadEndStore) -> None:
    await described(store, meter("H"), meter("A", "c1"))
    await store.commit(
        hourly("H", 1.0, range(49)) + hourly("A", 0.6, range(49)) + hourly(GATEWAY, 0.3, range(49))
    )
    found = await balanced(store)
    assert (found.sold, found.meters) == (Range(28_800, 28_800), 1)


async def test_a_silent_meter_opens_the_range(store: HeadEndStore) -> None:
    await described(store, meter("H"), meter("A", "c1"), meter("B", "c2"))
    await store.commit(
        hourly("H", 1.0, range(49)) + hourly("A", 0.4, range(49)) + hourly("B", 0.5, range(40))
    )
    found = await balanced(store)
    [quiet] = found.unheard
    assert (quiet.serial, quiet.name) == ("B", "Bala")
    assert found.unaccounted == Range(4800, 4800 + 9 * 500)
    assert found.reasons[0].kind is ReasonKind.NOT_REPORTED


async def test_a_neutral_that_carries_more_is_worth_a_look(store: HeadEndStore) -> None:
    await described(store, meter("H"), meter("A", "c1"))
    currents = (
        register(0.4, Obis.parse("31.7.0"), unit="A"),
        register(3.1, Obis.parse("91.7.0"), unit="A"),
    )
    await store.commit(hourly("H", 1.0, range(49)) + hourly("A", 0.1, range(49), more=currents))
    found = await balanced(store)
    [look] = [each for each in found.reasons if each.kind is ReasonKind.STUCK]
    assert look.serials == ("A",)
    assert not look.accuses


async def test_no_time_and_too_much_of_it_are_refused(store: HeadEndStore) -> None:
    with pytest.raises(ValueError, match="no hour"):
        await feeder_balance(store, FEEDER, NOW, NOW, now=NOW)
    with pytest.raises(ValueError, match="at most 62 days"):
        await feeder_balance(store, FEEDER, NOW - 63 * DAY, NOW, now=NOW)


async def test_a_balance_is_kept_for_minutes(store: HeadEndStore) -> None:
    await described(store, meter("H"), meter("A", "c1"))
    await store.commit(hourly("H", 1.0, range(49)))
    balancing = Balancing(store)
    first = await balancing.balance(FEEDER, BEGIN, BEGIN + DAY, now=NOW)
    await store.commit(hourly("A", 0.6, range(49)))
    assert await balancing.balance(FEEDER, BEGIN, BEGIN + DAY, now=NOW) is first
    until_now = [
        await balancing.balance(FEEDER, BEGIN, NOW + n * MINUTE, now=NOW + n * MINUTE)
        for n in (0, 1)
    ]
    assert until_now[0] is until_now[1]
    later = NOW + timedelta(seconds=BALANCE_KEPT_S)
    assert (await balancing.balance(FEEDER, BEGIN, BEGIN + DAY, now=later)).sold.low == 14_400
