"""Which meter counted where and when, and what may be done to assets."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from openami.headend.assets import (
    SINCE_EVER,
    Counted,
    Customer,
    Feeder,
    FeederAssets,
    Meter,
    MeterRole,
    Place,
    Pole,
    Tariff,
    meters_of,
)
from openami.headend.assets.changes import AssetsRefused, Swap, described, protected, swapped

NOW = datetime(2026, 6, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)
HOUSE = Place(MeterRole.CUSTOMER, "c-1")
METER = Meter(feeder_id="f", serial="VM-1", pole_id="p-1", phase="A", customer_id="c-1")
VILLAGE = FeederAssets(
    feeder=Feeder(id="f", name="North Paravur", time_zone="Asia/Kolkata", tariff_id="home"),
    poles=(Pole(feeder_id="f", id="p-1", name="Pole 1", number=1, longitude=76.2, latitude=10.1),),
    meters=(Meter(feeder_id="f", serial="FH-1", role=MeterRole.HEAD), METER),
    customers=(Customer(feeder_id="f", id="c-1", name="Anitha B."),),
    tariffs=(Tariff(id="home", price_per_kwh=Decimal("12.50"), currency="INR"),),
)
SWAP = Swap(old="VM-1", new="VM-9", at=NOW - DAY, closing_kwh=1842.5, opening_kwh=3.2)


def test_a_swap_closes_one_register_and_opens_another() -> None:
    after = swapped(VILLAGE, SWAP, now=NOW)
    assert after.meters_of(HOUSE, NOW - 2 * DAY, NOW) == (
        Counted("VM-1", NOW - 2 * DAY, NOW - DAY, None, 1842.5),
        Counted("VM-9", NOW - DAY, NOW, 3.2, None),
    )
    assert after.meter("VM-1", NOW) is None
    new = after.meter("VM-9", NOW)
    assert new is not None
    assert (new.pole_id, new.phase, new.customer_id) == ("p-1", "A", "c-1")


def test_what_lies_outside_the_time_asked_for_tells_no_register() -> None:
    after = swapped(VILLAGE, SWAP, now=NOW)
    assert after.meters_of(HOUSE, NOW - DAY, NOW) == (Counted("VM-9", NOW - DAY, NOW, 3.2, None),)
    assert after.meters_of(HOUSE, NOW - 3 * DAY, NOW - 2 * DAY) == (
        Counted("VM-1", NOW - 3 * DAY, NOW - 2 * DAY, None, None),
    )
    # The very moment of the swap is the new meter's; up to it, the old one's closing register tells.
    assert after.meters_of(HOUSE, NOW - 2 * DAY, NOW - DAY) == (
        Counted("VM-1", NOW - 2 * DAY, NOW - DAY, None, 1842.5),
    )
    assert after.meters_of(HOUSE, NOW, NOW) == ()


def test_two_meters_of_one_customer_both_count() -> None:
    meters = (METER, replace(METER, serial="VM-2", valid_from=NOW))
    assert [c.serial for c in meters_of(meters, HOUSE, NOW - DAY, NOW + DAY)] == ["VM-1", "VM-2"]


def test_places_are_told_apart_by_what_is_measured() -> None:
    assert VILLAGE.places() == (Place(MeterRole.HEAD), HOUSE)
    assert VILLAGE.head_meters(NOW) == ("FH-1",)
    assert [c.serial for c in VILLAGE.meters_of(Place(MeterRole.HEAD), NOW - DAY, NOW)] == ["FH-1"]


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"old": "VM-7"}, "no meter VM-7"),
        ({"new": "FH-1"}, "hangs on this feeder already"),
        ({"new": "VM-1"}, "hangs on this feeder already"),
        ({"new": "a/b"}, "is no serial"),
        ({"at": NOW + DAY}, "in the future"),
        ({"at": SINCE_EVER}, "has not hung there that long"),
        ({"closing_kwh": -1.0}, "cannot be"),
        ({"opening_kwh": float("nan")}, "cannot be"),
    ],
)
def test_a_swap_that_cannot_be_is_refused(changed: dict[str, object], why: str) -> None:
    with pytest.raises(AssetsRefused, match=why):
        swapped(VILLAGE, replace(SWAP, **changed), now=NOW)  # type: ignore[arg-type]


def test_a_swap_of_yesterday_cannot_be_swapped_again_in_its_past() -> None:
    after = swapped(VILLAGE, SWAP, now=NOW)
    again = Swap(old="VM-1", new="VM-8", at=NOW - 2 * DAY, closing_kwh=1800, opening_kwh=0)
    with pytest.raises(AssetsRefused, match="taken down"):
        swapped(after, again, now=NOW)
    back = Swap(old="VM-9", new="VM-8", at=NOW, closing_kwh=1.0, opening_kwh=0)
    with pytest.raises(AssetsRefused, match="is below the"):
        swapped(after, back, now=NOW)


def test_protection_ends_only_with_a_reason() -> None:
    safe = protected(VILLAGE, "VM-1", now=NOW, on=True, why="")
    assert [m.serial for m in safe.meters if m.protected] == ["VM-1"]
    with pytest.raises(AssetsRefused, match="nobody said why"):
        protected(safe, "VM-1", now=NOW, on=False, why="  ")
    assert protected(safe, "VM-1", now=NOW, on=False, why="clinic moved") == VILLAGE
    with pytest.raises(AssetsRefused, match="no meter X"):
        protected(VILLAGE, "X", now=NOW, on=True, why="")


def test_a_protected_meter_stays_protected_through_a_swap() -> None:
    safe = protected(VILLAGE, "VM-1", now=NOW, on=True, why="")
    found = swapped(safe, SWAP, now=NOW).meter("VM-9", NOW)
    assert found is not None
    assert found.protected


@pytest.mark.parametrize(
    "changed",
    [
        {"time_zone": "Mars/Olympus"},
        {"time_zone": "../etc/passwd"},
        {"time_zone": ""},
        {"billing_day": 0},
        {"billing_day": 29},
        {"name": " "},
    ],
)
def test_settings_that_cannot_be_are_refused(changed: dict[str, object]) -> None:
    with pytest.raises(AssetsRefused) as refused:
        described(VILLAGE, replace(VILLAGE.feeder, **changed))  # type: ignore[arg-type]
    assert refused.value.remedy


def test_the_price_in_force_is_the_latest_that_has_begun() -> None:
    dearer = replace(VILLAGE.tariffs[0], price_per_kwh=Decimal(15), valid_from=NOW)
    both = replace(VILLAGE, tariffs=(*VILLAGE.tariffs, dearer))
    assert [both.tariff_at(at) for at in (NOW - DAY, NOW)] == [VILLAGE.tariffs[0], dearer]
    assert replace(both, tariffs=(dearer,)).tariff_at(NOW - DAY) is None
