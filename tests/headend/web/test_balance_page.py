"""The balance page: a range with its coverage, hours by days, and no word against anybody without ground."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.headend.messages import register
from tests.headend.test_balance import BEGIN, HOUR, balanced, place
from tests.headend.web.pages import FEEDER, House, house, told

from openami.headend.assets import FeederAssets, Meter, MeterRole
from openami.headend.balance import HourBalance
from openami.headend.store.assets import AssetsChange, AssetsKnown
from openami.headend.web.console.balance_view import SHADES, days_of, shade_of, strip_of

KOLKATA = ZoneInfo("Asia/Kolkata")


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as opened:
        yield opened


async def has_head(home: House) -> None:
    """Describe a head meter and two customers."""

    def decide(known: AssetsKnown) -> AssetsChange:
        before: FeederAssets = known.feeders[FEEDER]
        roles = {"HEAD": MeterRole.HEAD, "A": MeterRole.CUSTOMER, "B": MeterRole.CUSTOMER}
        meters = tuple(
            Meter(feeder_id=FEEDER, serial=serial, role=role, customer_id=serial)
            for serial, role in roles.items()
        )
        return AssetsChange([replace(before, meters=meters)])

    await home.store.change_assets([FEEDER], decide, home.now())


async def test_a_feeder_without_a_head_meter_is_not_judged(home: House) -> None:
    asha = await home.signed_in()
    page = told(await asha.get("/balance"))
    assert "nothing can be called missing" in page
    assert f'href="/assets/{FEEDER}"' in page
    ben = await home.signed_in("ben", feeders=frozenset({"elsewhere"}))
    assert FEEDER not in told(await ben.get("/balance"))
    assert (await ben.get(f"/balance?feeder={FEEDER}")).status_code == 404


async def test_what_is_missing_is_a_range_and_nobody_is_accused_on_a_few_hours(home: House) -> None:
    await has_head(home)
    kwh = {"HEAD": 0.0, "A": 0.0, "B": 0.0}
    begin = home.now()
    for quarter in range(25):
        home.place.clock.at = begin + quarter * timedelta(minutes=15)
        kwh = {"HEAD": kwh["HEAD"] + 1.0, "A": kwh["A"] + 0.4, "B": kwh["B"] + 0.4}
        for serial, value in kwh.items():
            if serial != "B" or quarter < 13:
                await home.measure(serial, registers=[register(value=round(value, 1))])
    home.place.clock.turn(minutes=10)
    asha = await home.signed_in()
    page = told(await asha.get("/balance?days=1"))
    assert "accuses somebody without need" in page
    assert "Nobody is named" in page
    assert "go and look" not in page
    assert "Meters that did not report" in page
    assert 'class="strip"' in page
    assert "style=" not in page, "the policy of the pages allows none"
    table = told(await asha.get("/balance?days=1&table=1"))
    assert 'class="strip"' not in table
    assert "≥" in table, "what a silent meter leaves is a lower bound"
    assert (await asha.get("/balance?days=never")).status_code == 200


@given(st.none() | st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_cell_is_darker_the_more_is_missing(supplied: int | None, sold: int) -> None:
    shade = shade_of(HourBalance(BEGIN, supplied, sold, 0))
    more = shade_of(HourBalance(BEGIN, supplied, sold // 2, 0))
    if supplied is None:
        assert shade is None
    else:
        assert shade is not None
        assert more is not None
        assert 0 <= shade <= more <= len(SHADES)


def test_a_strip_is_by_the_feeders_own_clock_and_days_add_up() -> None:
    found = balanced(place("a", 400), place("b", 550))
    strip = strip_of(found, KOLKATA)
    assert len(strip.cells) == len(found.hours)
    assert len({(cell.x, cell.y) for cell in strip.cells}) == len(strip.cells)
    first = strip.cells[0].begin
    assert strip.days[0][0] == first.astimezone(KOLKATA).date()
    days = days_of(found, KOLKATA)
    assert sum(day.supplied_wh for day in days) == found.supplied_wh
    assert sum(day.sold_wh for day in days) == found.sold.low
    assert [day.day for day in days] == sorted((day.day for day in days), reverse=True)


def test_days_of_which_nothing_is_known_are_left_out() -> None:
    found = balanced(place("a", 400))
    unknown = tuple(
        HourBalance(datetime(2026, 5, 1, tzinfo=UTC) + n * HOUR, None, 0, 1) for n in range(48)
    )
    strip = strip_of(replace(found, hours=unknown + found.hours), UTC)
    assert len(strip.cells) == len(found.hours)
