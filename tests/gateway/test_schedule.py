"""When which registers are due."""

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.gateway.driver import PollGroup
from openami.gateway.schedule import Polled, Schedule, due, next_due

SCHEDULE = Schedule(fast_s=60, billing_s=900, daily_at=time(0, 10))
START = datetime(2026, 6, 22, 14, 29, 30, tzinfo=UTC)
FAST, BILLING, DAILY = PollGroup.FAST, PollGroup.BILLING, PollGroup.DAILY


class Walk:
    """Time that passes for a schedule: wall and boot-time together, or the wall alone."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now
        self.boottime = 1000.0
        self.polled: Mapping[PollGroup, Polled] = {}
        self.missed: Mapping[PollGroup, int] = {}

    def after(self, seconds: float) -> set[PollGroup]:
        self.now += timedelta(seconds=seconds)
        self.boottime += seconds
        return self.look()

    def look(self) -> set[PollGroup]:
        found = due(SCHEDULE, self.polled, now=self.now, boottime=self.boottime)
        self.polled, self.missed = found.polled, found.missed
        return set(found.groups)


def test_a_gateway_that_starts_reads_everything_once_and_then_by_the_clock() -> None:
    walk = Walk()
    assert walk.look() == {FAST, BILLING, DAILY}
    assert walk.after(29.999) == set()
    assert walk.after(0.001) == {FAST, BILLING}  # 14:30:00
    assert walk.after(59.9) == set()
    assert walk.after(0.1) == {FAST}
    assert walk.missed == {}


def test_the_next_instant_is_told() -> None:
    walk = Walk()
    assert next_due(SCHEDULE, walk.polled) is None
    walk.look()
    assert next_due(SCHEDULE, walk.polled) == datetime(2026, 6, 22, 14, 30, tzinfo=UTC)


def test_the_day_begins_when_the_configuration_says() -> None:
    walk = Walk(datetime(2026, 6, 23, 0, 9, 59, tzinfo=UTC))
    walk.look()
    assert DAILY in walk.after(1)
    assert DAILY not in walk.after(60)


def test_missed_instants_are_skipped_and_counted() -> None:
    walk = Walk()
    walk.look()
    assert walk.after(3 * 60) == {FAST, BILLING}  # 14:30, 14:31 passed; 14:32 is polled late
    assert walk.missed == {FAST: 2}
    assert walk.look() == set()


def test_a_clock_set_forward_misses_nothing() -> None:
    walk = Walk(datetime(1970, 1, 1, tzinfo=UTC))
    walk.look()
    walk.now = START
    assert walk.after(1) == {FAST, BILLING, DAILY}
    assert walk.missed == {}


def test_a_clock_set_back_goes_on_with_the_next_instant_of_the_new_time() -> None:
    walk = Walk()
    walk.look()
    walk.now -= timedelta(days=30)
    assert walk.look() == set()
    assert walk.after(30) == {FAST, BILLING}


@pytest.mark.parametrize("group", list(PollGroup))
def test_every_interval_divides_the_day(group: PollGroup) -> None:
    assert 86_400 % SCHEDULE.interval_s(group) == 0


@given(st.floats(-1e9, 4e9), st.sampled_from(PollGroup))
def test_a_moment_lies_in_its_slot(since_epoch_s: float, group: PollGroup) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=since_epoch_s)
    slot = SCHEDULE.slot(group, moment)
    assert SCHEDULE.slot_start(group, slot) <= moment < SCHEDULE.slot_start(group, slot + 1)


@given(st.lists(st.floats(0.1, 400), min_size=1, max_size=60))
def test_each_instant_is_polled_once_or_counted_as_missed(steps: list[float]) -> None:
    walk = Walk()
    first = SCHEDULE.slot(FAST, walk.now)
    walk.look()
    polled = missed = 0
    for step in steps:
        polled += FAST in walk.after(step)
        missed += walk.missed.get(FAST, 0)
    assert polled + missed == SCHEDULE.slot(FAST, walk.now) - first
