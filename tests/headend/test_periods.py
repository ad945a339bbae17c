"""Periods in a feeder's time zone: they add up, days have 23 and 25 hours, and what is not known is not zero."""

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.headend.consumption import (
    DAY_MS,
    QUARTER_MS,
    BreakKind,
    DayFold,
    Known,
    Sample,
    fold_day,
)
from openami.headend.periods import Grid, Step, boundaries, course, register_at
from openami.headend.store.identity import from_ms, to_ms

KOLKATA, NAIROBI = ZoneInfo("Asia/Kolkata"), ZoneInfo("Africa/Nairobi")
CAIRO, LORD_HOWE, KATHMANDU = (
    ZoneInfo("Africa/Cairo"),
    ZoneInfo("Australia/Lord_Howe"),
    ZoneInfo("Asia/Kathmandu"),
)
ZONES = [UTC, KOLKATA, NAIROBI, CAIRO, LORD_HOWE, KATHMANDU]
BEGIN = datetime(2026, 6, 22, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def sampled(
    begin: datetime, hours: int, wh_by_quarter: int = 100, *, start: int = 5000
) -> list[Sample]:
    ms = to_ms(begin)
    return [Sample(ms + n * QUARTER_MS, start + n * wh_by_quarter) for n in range(hours * 4 + 1)]


def folded(samples: list[Sample]) -> list[DayFold]:
    days: dict[int, list[Sample]] = {}
    for sample in samples:
        days.setdefault(sample.ms // DAY_MS, []).append(sample)
    return [fold_day(day, each) for day, each in sorted(days.items())]


def energies(
    samples: list[Sample], since: datetime, until: datetime, step: Step, zone: object = UTC
) -> list[int | None]:
    edges = boundaries(since, until, step, zone)  # type: ignore[arg-type]
    return list(course(Grid([to_ms(edge) for edge in edges]), folded(samples)).wh)


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-04-24", 23), ("2026-10-29", 25), ("2026-06-01", 24)]
)
def test_a_day_has_as_many_hours_as_its_clocks_give_it(day: str, hours: int) -> None:
    """In Cairo the clocks go forward at midnight itself: that day begins at one o'clock."""
    begin = datetime.fromisoformat(day).replace(tzinfo=CAIRO)
    edges = boundaries(begin, begin + timedelta(minutes=1), Step.DAY, CAIRO)
    inside = boundaries(edges[0], edges[1], Step.HOUR, CAIRO)
    assert len(edges) == 2
    assert len(inside) - 1 == hours
    assert edges[1] - edges[0] == hours * HOUR


def test_an_hour_begins_on_the_local_hour() -> None:
    edges = boundaries(BEGIN, BEGIN + HOUR, Step.HOUR, KATHMANDU)
    assert [edge.astimezone(KATHMANDU).minute for edge in edges] == [0, 0, 0]
    assert edges[0] == BEGIN - timedelta(minutes=45)


def test_where_clocks_go_by_half_an_hour_one_hour_is_short_or_long() -> None:
    begin = datetime(2026, 10, 3, 12, tzinfo=UTC)
    edges = boundaries(begin, begin + DAY, Step.HOUR, LORD_HOWE)
    lengths = {b - a for a, b in itertools.pairwise(edges)}
    assert lengths == {HOUR, HOUR / 2}
    assert all(edge.astimezone(LORD_HOWE).minute == 0 for edge in edges[:4])


def test_months_end_where_the_year_does() -> None:
    edges = boundaries(
        datetime(2026, 11, 5, tzinfo=UTC), datetime(2027, 1, 2, tzinfo=UTC), Step.MONTH, UTC
    )
    assert [f"{edge:%Y-%m-%d}" for edge in edges] == [
        "2026-11-01", "2026-12-01", "2027-01-01", "2027-02-01",
    ]  # fmt: skip


@given(st.sampled_from(ZONES), st.integers(0, 500), st.integers(1, 60), st.data())
@settings(max_examples=60)
def test_splitting_a_period_never_changes_its_sum(
    zone: object, first_day: int, days: int, data: st.DataObject
) -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC) + first_day * DAY
    steps = data.draw(
        st.lists(st.tuples(st.integers(1, 6 * 3600), st.integers(0, 3000)), min_size=1, max_size=80)
    )
    ms, wh, samples = to_ms(begin), 0, []
    for seconds, rise in steps:
        ms, wh = ms + seconds * 1000, wh + rise
        samples.append(Sample(ms, wh))
    sums = []
    for step in (Step.QUARTER, Step.HOUR, Step.DAY, Step.MONTH):
        told = energies(samples, begin - DAY, from_ms(ms) + DAY, step, zone)
        sums.append(sum(each or 0 for each in told))
    assert set(sums) == {samples[-1].wh - samples[0].wh}


def test_what_is_not_known_is_not_zero() -> None:
    samples = sampled(BEGIN + 6 * HOUR, hours=3)
    told = course(
        Grid([to_ms(BEGIN + n * HOUR) for n in (4, 5, 6, 7, 8, 9, 10, 11)]), folded(samples)
    )
    assert told.wh == (None, None, 400, 400, 400, None, None)
    assert told.known[:2] == (Known.NOTHING, Known.NOTHING)
    assert set(told.known[2:5]) == {Known.MEASURED}


def test_a_period_that_is_not_over_is_a_lower_bound() -> None:
    samples = sampled(BEGIN, hours=10)
    told = course(Grid([to_ms(BEGIN), to_ms(BEGIN + DAY)]), folded(samples))
    assert (told.wh, told.known) == ((4000,), (Known.AT_LEAST,))


def test_a_gap_over_midnight_is_shared_out_and_adds_up() -> None:
    samples = sampled(BEGIN, hours=22)
    after = Sample(to_ms(BEGIN + DAY + 2 * HOUR), samples[-1].wh + 4000)
    told = course(
        Grid([to_ms(BEGIN + n * DAY) for n in (0, 1, 2)]),
        folded([*samples, after, Sample(to_ms(BEGIN + 2 * DAY), after.wh + 1)]),
    )
    assert told.wh == (8800 + 2000, 2000 + 1)
    assert told.known == (Known.SPREAD, Known.SPREAD)


def test_a_gap_within_a_period_hides_nothing_of_its_sum() -> None:
    samples = [each for n, each in enumerate(sampled(BEGIN, hours=24)) if not 20 < n < 60]
    told = course(Grid([to_ms(BEGIN), to_ms(BEGIN + DAY)]), folded(samples))
    assert (told.wh, told.known) == ((9600,), (Known.MEASURED,))


def test_days_without_a_reading_are_bridged() -> None:
    samples = [*sampled(BEGIN, hours=1), Sample(to_ms(BEGIN + 5 * DAY), 5400 + 119 * 100)]
    told = energies(samples, BEGIN, BEGIN + 5 * DAY, Step.DAY)
    assert told == [400 + 2300, 2400, 2400, 2400, 2400]


def test_a_reset_between_two_days_is_named() -> None:
    samples = [Sample(to_ms(BEGIN + 23 * HOUR), 900_000), Sample(to_ms(BEGIN + 25 * HOUR), 300)]
    told = course(Grid([to_ms(BEGIN + n * DAY) for n in (0, 1, 2)]), folded(samples))
    assert [each.kind for each in told.breaks] == [BreakKind.RESET]
    assert told.total_wh == 300
    assert set(told.known) == {Known.AT_LEAST}


@pytest.mark.parametrize(
    ("hours", "wh", "known"),
    [
        (2.0, 5800, Known.MEASURED),
        (2.125, 5850, Known.MEASURED),
        (26.5, 5000 + 10_600, Known.MEASURED),
        (50.0, 5000 + 19_200, Known.AT_LEAST),
    ],
)
def test_a_register_at_a_moment(hours: float, wh: int, known: Known) -> None:
    assert register_at(to_ms(BEGIN + hours * HOUR), folded(sampled(BEGIN, hours=48))) == (wh, known)


def test_before_the_first_reading_there_is_no_register() -> None:
    assert register_at(to_ms(BEGIN) - 1, folded(sampled(BEGIN, hours=1))) is None
