"""Whether a clock is to be believed, and what time a reading gets when it was not."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.clock_double import START, ClockDouble

from openami.clock import Clock, SystemClock
from openami.gateway.timekeeping import (
    AHEAD_OF_FLOOR_MAX,
    JUMP_TOLERANCE_S,
    WRITTEN,
    Facts,
    Knowledge,
    Reason,
    corrected,
    dated,
    judge,
    machine_keeps_time,
    read_boot_id,
)

SECOND = timedelta(seconds=1)
FLOOR = START - timedelta(days=30)


def facts(wall: datetime = START, boottime_s: float = 500.0, *, sync: bool = False) -> Facts:
    return Facts(wall, boottime_s, sync)


def reason(now: Facts, known: Knowledge | None = None, *, keeps_time: bool = False) -> Reason:
    return judge(now, known or Knowledge(FLOOR), keeps_time=keeps_time)[0].reason


# --- the clock's contract: what the double and the machine's own have in common


@pytest.mark.parametrize("make", [SystemClock, ClockDouble])
def test_every_clock_tells_utc_and_a_boot_time_that_never_goes_back(
    make: Callable[[], Clock],
) -> None:
    clock = make()
    before, booted = clock.now(), clock.boottime()
    assert before.utcoffset() == timedelta()
    assert booted > 0
    assert clock.boottime() >= booted
    assert clock.synchronised() in (True, False)


def test_the_double_lets_both_times_pass_alike() -> None:
    clock = ClockDouble()
    clock.advance(90)
    assert clock.now() == START + timedelta(seconds=90)
    assert clock.boottime() == 1_090.0


# --- the verdict


def test_a_synchronised_clock_is_believed() -> None:
    assert reason(facts(sync=True)) is Reason.SYNCHRONISED


def test_a_synchronised_clock_from_before_the_program_was_written_is_not() -> None:
    assert reason(facts(WRITTEN - SECOND, sync=True)) is Reason.BEHIND
    assert reason(facts(WRITTEN, sync=True)) is Reason.SYNCHRONISED


def test_an_unsynchronised_clock_is_not_believed_where_nothing_keeps_the_time() -> None:
    assert reason(facts()) is Reason.NOT_SYNCHRONISED


def test_a_machine_that_keeps_time_is_believed_from_the_floor_to_years_ahead() -> None:
    latest = FLOOR + AHEAD_OF_FLOOR_MAX
    earliest = FLOOR - timedelta(seconds=JUMP_TOLERANCE_S)
    assert reason(facts(earliest), keeps_time=True) is Reason.MACHINE
    assert reason(facts(earliest - SECOND), keeps_time=True) is Reason.BEHIND
    assert reason(facts(latest), keeps_time=True) is Reason.MACHINE
    assert reason(facts(latest + SECOND), keeps_time=True) is Reason.AHEAD


def test_a_clock_once_synchronised_is_believed_for_the_weeks_without_network() -> None:
    _, known = judge(facts(sync=True), Knowledge(FLOOR), keeps_time=False)
    for day in range(1, 31):
        drifted = START + timedelta(days=day, seconds=day * 4)  # 46 ppm, a common crystal
        verdict, known = judge(facts(drifted, 500.0 + day * 86_400), known, keeps_time=False)
        assert verdict.reason is Reason.CARRIED
        assert known.floor == drifted


@pytest.mark.parametrize("sign", [1, -1])
def test_a_jump_without_a_time_source_ends_the_belief(sign: int) -> None:
    _, known = judge(facts(sync=True), Knowledge(FLOOR), keeps_time=False)
    within = START + timedelta(seconds=60 + sign * JUMP_TOLERANCE_S)
    assert judge(facts(within, 560.0), known, keeps_time=False)[0].reason is Reason.CARRIED
    beyond = within + sign * timedelta(milliseconds=1)
    verdict, after = judge(facts(beyond, 560.0), known, keeps_time=False)
    assert not verdict.trusted
    assert after.stepped_at_s == 560.0
    # … and it does not come back by standing still.
    verdict, after = judge(facts(beyond + SECOND, 561.0), after, keeps_time=False)
    assert not verdict.trusted
    assert after.stepped_at_s == 560.0


def test_only_a_time_source_raises_the_floor() -> None:
    later = facts(START + timedelta(days=400))
    verdict, known = judge(later, Knowledge(FLOOR), keeps_time=True)
    assert verdict.reason is Reason.MACHINE
    assert known.floor == FLOOR


def test_a_time_source_lowers_a_floor_that_another_has_set_too_high() -> None:
    lied = Knowledge(START + timedelta(days=3650))
    verdict, known = judge(facts(sync=True), lied, keeps_time=False)
    assert verdict.reason is Reason.SYNCHRONISED
    assert known.floor == START


@given(
    wall_s=st.floats(0, 130 * 365.25 * 86_400),
    floor_days=st.integers(0, 3650),
)
def test_nothing_before_the_floor_is_ever_believed_without_a_source(
    wall_s: float, floor_days: int
) -> None:
    wall = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=wall_s)
    floor = WRITTEN + timedelta(days=floor_days)
    verdict, known = judge(facts(wall), Knowledge(floor), keeps_time=True)
    if wall < floor - timedelta(seconds=JUMP_TOLERANCE_S):
        assert not verdict.trusted
    assert known.floor == floor


# --- the times of readings


def test_a_second_of_this_boot_has_its_true_time_by_a_believed_clock() -> None:
    assert corrected(50.0, facts(START, 360.0, sync=True)) == START - timedelta(seconds=310)


def test_the_best_bound_is_the_floor_and_the_time_since_boot() -> None:
    assert Knowledge(FLOOR).lower_bound(90.0) == FLOOR + timedelta(seconds=90)


def test_a_floor_that_was_raised_in_this_boot_is_not_counted_from_the_boot() -> None:
    _, known = judge(facts(START, 36_000.0, sync=True), Knowledge(FLOOR), keeps_time=False)
    assert known.lower_bound(36_090.0) == START + timedelta(seconds=90)
    assert known.lower_bound(35_000.0) == START, "before the floor there is no better bound"
    _, carried = judge(facts(START + 60 * SECOND, 36_060.0), known, keeps_time=False)
    assert carried.lower_bound(36_090.0) == START + timedelta(seconds=90)


def test_a_reading_dated_before_the_clock_was_set_is_dated_anew() -> None:
    now = facts(START, 70.0, sync=True)
    true = START - timedelta(seconds=6)
    assert dated(datetime(1970, 1, 1, tzinfo=UTC), 64.0, now) == true
    tolerated = true + timedelta(seconds=JUMP_TOLERANCE_S)
    assert dated(tolerated, 64.0, now) == tolerated
    assert dated(tolerated + timedelta(milliseconds=1), 64.0, now) == true


def test_the_machine_can_be_asked() -> None:
    assert len(read_boot_id()) == 36
    assert machine_keeps_time() in (True, False)
