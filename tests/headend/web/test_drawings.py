"""Drawings and charts: what is where, for any village."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.headend.web import village

from openami.headend.assets import FeederAssets, Pole
from openami.headend.consumption import Known
from openami.headend.states import MeterState
from openami.headend.web.console.charts import Frame, bars, line, nice_step, room_for, spans, steps
from openami.headend.web.console.houses import House, Show
from openami.headend.web.console.line_diagram import WIDTH, line_diagram
from openami.headend.web.console.speech import language_of, speech, zone_of
from openami.headend.web.console.village_map import village_map

ASSETS = village.assets()
MIDNIGHT = datetime(2026, 6, 22, tzinfo=ZoneInfo("Asia/Kolkata"))


def house(number: int, pole: str | None, state: MeterState = MeterState.REPORTING) -> House:
    return House(
        feeder_id=village.FEEDER, serial=f"M-{number}", state=state, pole_id=pole, gateway_id="gw"
    )


STATES = st.sampled_from(list(MeterState))


@given(st.lists(st.tuples(st.integers(0, 22), STATES), max_size=120))
def test_every_house_is_drawn_once_and_within_the_drawing(
    told: list[tuple[int, MeterState]],
) -> None:
    """Poles 21 and 22 do not exist: those houses hang on no pole, and stand behind their gateway."""
    known = {pole.id for pole in ASSETS.poles}
    houses = [
        house(n, f"p{pole}" if f"p{pole}" in known else None, state)
        for n, (pole, state) in enumerate(told)
    ]
    drawn = line_diagram(ASSETS, houses)
    places = [(mark.x, mark.y) for mark in drawn.marks] + drawn.sound
    assert len(places) == len(houses) == len(set(places))
    assert all(0 <= x <= WIDTH and 0 <= y <= drawn.height for x, y in places)
    assert len(drawn.poles) == len(ASSETS.poles)
    assert len(drawn.sound) == sum(each.mark == "reporting" for each in houses)


def test_a_branch_begins_a_row_and_says_where_it_leaves() -> None:
    drawn = line_diagram(ASSETS, [])
    assert [head.name for head in drawn.heads] == ["TX", "6 →"]
    by_name = {pole.name: pole for pole in drawn.poles}
    assert by_name["11"].x > by_name["16"].x, "the second row runs back"
    assert by_name["17"].y > by_name["16"].y


def test_poles_nobody_has_joined_hang_in_their_order() -> None:
    poles = tuple(Pole(feeder_id="f", id=f"x{n}", name=f"{n}", number=n) for n in (3, 1, 2))
    drawn = line_diagram(FeederAssets(feeder=ASSETS.feeder, poles=poles), [])
    assert [pole.name for pole in drawn.poles] == ["1", "2", "3"]


def test_a_map_is_true_to_scale_and_north_is_up() -> None:
    plan = village_map(ASSETS, [house(1, "p1"), house(2, "p16"), house(3, None)])
    assert plan is not None
    poles = {pole.name: pole for pole in plan.drawing.poles}
    assert poles["20"].y < poles["17"].y, "20 is further north"
    assert poles["16"].x > poles["1"].x
    metres = 0.0075 * 111_320 * 0.984  # from pole 1 to pole 16, at ten degrees north
    drawn = poles["16"].x - poles["1"].x
    assert plan.bar / plan.bar_metres == pytest.approx(drawn / metres, rel=0.02)
    assert plan.unplaced == 1
    assert village_map(FeederAssets(feeder=ASSETS.feeder), []) is None


@given(st.floats(0.001, 1e9))
def test_an_axis_has_a_handful_of_round_lines(top: float) -> None:
    step = nice_step(top)
    assert 2 <= top / step <= 6 + 1e-9
    assert room_for([top]) >= top


def test_a_line_breaks_where_nothing_is_known() -> None:
    frame = Frame(MIDNIGHT, MIDNIGHT + timedelta(hours=4), 10)
    at = [MIDNIGHT + timedelta(hours=n) for n in range(5)]
    path = line(frame, at, [1, 2, None, 3, 4])
    assert path.count("M") == 2
    assert path.count("l") == 2


def test_an_area_of_steps_returns_to_its_base() -> None:
    frame = Frame(MIDNIGHT, MIDNIGHT + timedelta(hours=3), 10)
    at = [MIDNIGHT + timedelta(hours=n) for n in range(4)]
    path = steps(frame, at, [0, 5, 5], 10)
    assert path.endswith(f"V{frame.base}Z")
    assert path.count("H") == 2


def test_bars_are_apart_by_how_well_they_are_known() -> None:
    frame = Frame(MIDNIGHT, MIDNIGHT + timedelta(hours=4), 1)
    at = [MIDNIGHT + timedelta(hours=n) for n in range(5)]
    drawn = bars(frame, at, [500, 500, 500, None], [Known(n) for n in range(4)])
    assert [path.count("M") for path in (drawn.measured, drawn.estimated, drawn.at_least)] == [
        1
    ] * 3


def test_a_strip_joins_what_is_alike() -> None:
    frame = Frame(MIDNIGHT, MIDNIGHT + timedelta(hours=4), 1)
    at = [MIDNIGHT + timedelta(hours=n) for n in range(5)]
    found = list(spans(["good", "good", "nothing", "good"], at, frame))
    assert [word for word, _, _ in found] == ["good", "nothing", "good"]
    assert found[0][2] == pytest.approx(2 * found[1][2], abs=0.2)


def test_the_time_axis_stands_on_the_feeders_hours_also_when_the_clock_is_put_back() -> None:
    """The day of 25 hours in Berlin: its ticks are local hours, and midnight is named."""
    zone = ZoneInfo("Europe/Berlin")
    since = datetime(2026, 10, 25, tzinfo=zone)
    frame = Frame(since, datetime(2026, 10, 26, tzinfo=zone), 1)
    ticks = frame.times(since)
    assert ticks[0].midnight
    assert all(tick.moment.minute == 0 for tick in ticks)


def test_the_most_urgent_word_is_the_mark() -> None:
    silent_and_off = House(
        feeder_id="f", serial="s", state=MeterState.METER_SILENT, relay="disconnected", credit_kwh=0
    )
    assert silent_and_off.mark == "meter_silent"
    assert all(silent_and_off.shown(show) for show in (Show.OFF, Show.SILENT, Show.LOW_CREDIT))


@pytest.mark.parametrize(
    ("chosen", "accept", "spoken"),
    [
        (None, "", "en"),
        (None, "en-IN,en;q=0.8", "en-IN"),
        (None, "zz, en-XX;q=0.3", "en"),
        (None, "en-IN;q=0, en-GB;q=nonsense", "en"),
        ("en_GB", "en-US", "en-GB"),
        (None, "en-" + "x" * 10_000, "en"),
    ],
)
def test_a_language_is_one_there_is(chosen: str | None, accept: str, spoken: str) -> None:
    assert language_of(chosen, accept) == spoken


def test_numbers_and_times_are_the_languages_own() -> None:
    at = datetime(2026, 6, 22, 9, 15, tzinfo=UTC)
    english = speech("en")
    assert english.moment(at, "Asia/Kolkata") == "22 Jun 2026, 14:45"
    assert english.number(1234567.891, 1) == "1,234,567.9"
    assert speech("en-IN").number(1234567.891, 1) == "12,34,567.9"
    assert english.ago(at - timedelta(minutes=4), at) == "4 min ago"
    assert english.direction == "ltr"
    assert zone_of("No/Such") is UTC
