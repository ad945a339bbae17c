"""A meter's clock is noticed when it is wrong, and set where it is allowed; no interval is doubled or lost."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.clock_double import ClockDouble
from tests.gateway.profile_meter import ProfileContractBench, ProfileMeter
from tests.gateway.test_collector import A, B, Pole, pole, told

from openami.gateway.driver import MeterRefused, MeterSilent
from openami.gateway.meter_clocks import (
    CAPTURE_S_MAX,
    SET_FROM_S,
    SETTING_TAKES_S,
    Later,
    Refusal,
    Step,
    capture_period_s,
    clock_step,
    drift_s,
)
from openami.gateway.profile_contract import CLOCK_CHECKS, ClockCheck
from openami.profile import Envelope, EventState

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
LIMITS = {A: 120.0}

# --- whether, and when ---------------------------------------------------------------------------


def step(
    ahead_s: float,
    *,
    seconds: float = 450,
    step_s_max: float = 120,
    capture_s: int = 900,
    set_at: datetime | None = None,
) -> Step | Refusal | Later | None:
    return clock_step(
        ahead_s,
        now=NOON + timedelta(seconds=seconds),
        step_s_max=step_s_max,
        capture_s=capture_s,
        set_at=set_at,
    )


@pytest.mark.parametrize("ahead_s", [0.0, 9.9, -9.9])
def test_what_a_read_may_take_is_not_drift(ahead_s: float) -> None:
    assert step(ahead_s) is None


@pytest.mark.parametrize("ahead_s", [10.0, -10.0, 120.0, -120.0])
def test_a_small_step_is_set(ahead_s: float) -> None:
    assert step(ahead_s) == Step(-ahead_s)


@pytest.mark.parametrize("ahead_s", [120.1, -120.1, -3600.0, 1e9])
def test_a_big_step_is_a_persons(ahead_s: float) -> None:
    refusal = step(ahead_s)
    assert isinstance(refusal, Refusal)
    assert "set it by hand" in refusal.reason
    assert ("ahead" if ahead_s > 0 else "behind") in refusal.reason


def test_at_most_once_a_day() -> None:
    now = NOON + timedelta(seconds=450)
    assert isinstance(step(30, set_at=now - timedelta(hours=23, minutes=59)), Refusal)
    assert step(30, set_at=now - timedelta(hours=24)) == Step(-30)


def test_a_meter_that_captures_more_often_than_the_step_is_long_is_a_persons() -> None:
    assert isinstance(step(45, capture_s=60), Refusal)
    assert step(30, capture_s=60, seconds=15) == Step(-30)
    assert step(30, capture_s=60, seconds=25) == Later()


@pytest.mark.parametrize(
    ("seconds", "found"),
    [(909, Later()), (910, Step(-30)), (1759, Step(-30)), (1760, Later()), (1790, Later())],
)
def test_a_setting_keeps_ten_seconds_from_either_end_of_an_interval(
    seconds: float, found: Step | Later
) -> None:
    assert step(30, seconds=seconds) == found


@given(
    ahead_s=st.floats(-200, 200),
    seconds=st.one_of(
        st.floats(0, 7200),
        st.builds(lambda interval, s: 300 * interval + s, st.integers(1, 20), st.floats(-15, 15)),
    ),
    late_s=st.floats(0, SETTING_TAKES_S - 3),
    error_s=st.floats(-3, 3),
    capture_s=st.sampled_from([60, 300, 600, 900]),
)
def test_a_step_lies_within_one_capture_interval_however_long_the_setting_takes(
    ahead_s: float, seconds: float, late_s: float, error_s: float, capture_s: int
) -> None:
    """Its seconds are whole ones, and a read takes its time: drift is known to some seconds.

    Both clocks, before and after the setting, show the same interval: none is captured twice or left out."""
    found = step(ahead_s, seconds=seconds, step_s_max=600, capture_s=capture_s)
    if not isinstance(found, Step):
        return
    decided = NOON.timestamp() + seconds
    meters = decided + ahead_s + error_s
    shown = [decided, meters, decided + late_s, meters + late_s, decided + error_s]
    assert len({int(each // capture_s) for each in shown}) == 1


@given(ahead_s=st.floats(SET_FROM_S, 120), behind=st.booleans())
def test_there_is_such_a_moment_in_each_interval_of_polls_a_minute_apart(
    ahead_s: float, behind: bool
) -> None:
    drift = -ahead_s if behind else ahead_s
    found = [step(drift, seconds=60 * minute + 5) for minute in range(15)]
    assert Step(-drift) in found


def test_a_capture_period_is_seen_by_what_was_captured() -> None:
    times = [NOON + timedelta(minutes=5 * n) for n in range(4)]
    assert capture_period_s(times) == 300
    assert capture_period_s([*times, *times]) == 300
    assert capture_period_s([NOON]) == capture_period_s([]) == CAPTURE_S_MAX
    assert capture_period_s([NOON, NOON + timedelta(hours=1)]) == CAPTURE_S_MAX


def test_a_time_without_a_zone_or_none_at_all_tells_no_drift() -> None:
    assert drift_s("2026-07-01T12:00:30+00:00", NOON) == 30
    assert drift_s("2026-07-01T17:30:00+05:30", NOON) == 0
    for told_ in ("2026-07-01T12:00:30", "yesterday", 7, None):
        assert drift_s(told_, NOON) is None


# --- in the gateway ------------------------------------------------------------------------------


@pytest.fixture
async def village(tmp_path: Path) -> AsyncIterator[Pole]:
    async with pole(tmp_path, ClockDouble(NOON)) as made:
        made.bench.meters[A] = ProfileMeter(A, made.bench, clock=made.clock)
        made.clock_steps_s_max = LIMITS
        await made.start()
        yield made


def meter_of(village: Pole) -> ProfileMeter:
    meter = village.bench.meter(A)
    assert isinstance(meter, ProfileMeter)
    return meter


def about_the_clock(envelopes: list[Envelope]) -> list[tuple[str, EventState]]:
    return [event for event in told(envelopes) if event[0].startswith("clock")]


@pytest.mark.parametrize("check", CLOCK_CHECKS, ids=lambda check: check.__name__)
async def test_the_double_keeps_the_contract_of_clocks(check: ClockCheck) -> None:
    await check(ProfileContractBench())


async def test_a_slow_clock_is_noticed_and_set_and_told(village: Pole) -> None:
    meter_of(village).ahead_s = -90
    await village.run(5 * 60)
    envelopes = await village.new()
    assert about_the_clock(envelopes) == [
        ("clock_invalid", EventState.RAISED),
        ("clock_adjusted", EventState.INSTANT),
        ("clock_invalid", EventState.CLEARED),
    ]
    assert len(meter_of(village).sets) == 1
    assert meter_of(village).ahead_s == 0
    event = next(e.event for e in envelopes if e.event and e.event.type == "clock_adjusted")
    assert event.detail == "the meter's clock was set by +90 s and is now +0 s off"
    assert not village.collector.records[A].clock_doubted


async def test_a_clock_that_runs_away_is_set_once_a_day_and_told_once(village: Pole) -> None:
    meter_of(village).ahead_s = 30
    await village.run(5 * 60)
    meter_of(village).ahead_s = 45
    await village.new()
    await village.start()  # and a restart does not forget it
    await village.run(65 * 60)
    assert len(meter_of(village).sets) == 1
    assert about_the_clock(await village.new()) == [("clock_not_set", EventState.INSTANT)]


async def test_a_big_jump_is_refused_and_told(village: Pole) -> None:
    meter_of(village).ahead_s = -3600
    await village.run(5 * 60)
    envelopes = await village.new()
    assert meter_of(village).sets == []
    assert about_the_clock(envelopes) == [
        ("clock_invalid", EventState.RAISED),
        ("clock_not_set", EventState.INSTANT),
    ]
    event = next(e.event for e in envelopes if e.event and e.event.type == "clock_not_set")
    assert event.detail is not None
    assert event.detail.startswith("the meter's clock is 3600 s behind: at most 120 s are set")


async def test_without_leave_a_clock_is_noticed_and_left_alone(village: Pole) -> None:
    village.clock_steps_s_max = {}
    await village.start()
    meter_of(village).ahead_s = -90
    await village.run(5 * 60)
    assert meter_of(village).sets == []
    assert about_the_clock(await village.new()) == [("clock_invalid", EventState.RAISED)]


async def test_a_gateway_whose_own_clock_is_not_trusted_sets_none(tmp_path: Path) -> None:
    clock = ClockDouble(NOON, synchronised=False)
    async with pole(tmp_path, clock) as village:
        meter = village.bench.meters[A] = ProfileMeter(A, village.bench, clock=clock, ahead_s=-90)
        village.clock_steps_s_max = LIMITS
        await village.start()
        await village.run(20 * 60)
        assert meter.sets == []


async def test_outages_are_read_before_the_clock_is_set(village: Pole) -> None:
    """The load profile's times are those of the clock as it ran."""
    await village.run(5 * 60)
    meter_of(village).ahead_s = -40
    meter_of(village).profile_fault = MeterSilent("noise")
    village.clock.advance(70 * 60)
    await village.start()
    await village.run(3 * 60)
    assert meter_of(village).sets == []
    meter_of(village).profile_fault = None
    await village.run(10 * 60)
    assert len(meter_of(village).sets) == 1
    assert village.metric("reread_intervals_total", outcome="held") == 13


async def test_a_meter_that_refuses_is_told_to_a_person(village: Pole) -> None:
    meter_of(village).set_fault = MeterRefused("read-write-denied")
    meter_of(village).ahead_s = 30
    await village.run(5 * 60)
    (event,) = [e.event for e in await village.new() if e.event and e.event.type == "clock_not_set"]
    assert event.detail == "the meter refuses to have its clock set: read-write-denied"


async def test_a_setting_of_unknown_outcome_is_not_repeated(village: Pole) -> None:
    meter_of(village).set_fault = MeterSilent("no answer")
    meter_of(village).ahead_s = 30
    await village.run(65 * 60)
    assert len(meter_of(village).sets) == 1


async def test_a_meter_that_cannot_be_set_costs_nothing(village: Pole) -> None:
    village.clock_steps_s_max = {B: 120.0}
    await village.start()
    await village.run(5 * 60)
    assert len(village.bench.meter(B).asked) == 6
