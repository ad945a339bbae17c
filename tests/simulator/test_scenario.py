"""The demo's story: what happens when, whatever its length; and that it can be seen."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.gateway.driver import RelayPosition
from openami.simulator.plan import epoch_ms, plan_village
from openami.simulator.scenario import (
    DEMO_S_MIN,
    STORY_S_MAX,
    Turn,
    story,
    story_length_s,
    village_tonight,
    with_credit_ending,
)
from openami.simulator.village import Village

NOON = datetime(2026, 6, 22, 12, 0, tzinfo=UTC)


@given(st.floats(DEMO_S_MIN, 86_400))
def test_every_turn_comes_once_in_order_and_before_the_end(duration_s: float) -> None:
    length_s = story_length_s(duration_s)
    scenes = story(length_s)
    assert {scene.turn for scene in scenes} == set(Turn)
    assert [scene.at_s for scene in scenes] == sorted(scene.at_s for scene in scenes)
    assert scenes[0].at_s > 0
    assert scenes[-1].at_s < length_s <= duration_s


@pytest.mark.parametrize(
    ("duration_s", "length_s"),
    [(None, STORY_S_MAX), (STORY_S_MAX + 1, STORY_S_MAX), (STORY_S_MAX, STORY_S_MAX), (8.0, 8.0)],
)
def test_a_long_demo_tells_the_story_again(duration_s: float | None, length_s: float) -> None:
    assert story_length_s(duration_s) == length_s


def test_what_breaks_is_mended_again() -> None:
    at = {scene.turn: scene.at_s for scene in story(60.0)}
    assert at[Turn.METER_DIES] < at[Turn.METER_REVIVES]
    assert at[Turn.HEADEND_DIES] < at[Turn.HEADEND_RETURNS]


@settings(max_examples=30, deadline=None)
@given(st.timedeltas(timedelta(0), timedelta(days=1000)))
def test_it_is_evening_in_the_village(later: timedelta) -> None:
    plan = village_tonight(meters=4, seed=1, now=NOON + later)
    local = plan.start_ms // 60_000 + plan.utc_offset_minutes
    assert local % (24 * 60) == 19 * 60


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_credit_ends_during_the_story_and_is_bought_again(seed: int) -> None:
    plan = village_tonight(meters=20, seed=seed, now=NOON)
    plan = with_credit_ending(plan, 60.0, begins_ms=epoch_ms(NOON))
    chosen = [customer for customer in plan.customers if customer.topups]
    assert len(chosen) == 1
    village = Village(plan)
    seen: list[RelayPosition] = []
    for second in range(60):
        village.advance(epoch_ms(NOON) + 1000 * second)
        measured = village.measured(chosen[0].serial)
        if not seen or seen[-1] is not measured.relay:
            seen.append(measured.relay)
    assert seen == [
        RelayPosition.CONNECTED,
        RelayPosition.DISCONNECTED,
        RelayPosition.CONNECTED,
    ]


def test_where_all_sleep_the_village_stays_as_it_is() -> None:
    """At noon the lamps of the one prepaid household are off: nothing runs out."""
    plan = plan_village(meters=2, seed=9, start=NOON, utc_offset_minutes=0)
    trial = Village(plan)
    trial.advance(epoch_ms(NOON) + 60_000)
    prepaid = plan.customers[0]
    assert trial.measured(prepaid.serial).import_uj == prepaid.counter_uj
    assert with_credit_ending(plan, 60.0, begins_ms=epoch_ms(NOON)) == plan
