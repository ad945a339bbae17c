"""From when on readings are kept: two witnesses, and neither alone removes anything."""

from datetime import UTC, datetime

import pytest

from openami.headend.horizon import KEEP_MONTHS_MIN, first_kept
from openami.headend.store.months import (
    FIRST_BUCKET,
    LAST_BUCKET,
    buckets_of,
    midnight_of,
    month_name,
    month_of,
    month_of_bucket,
)

NOW = datetime(2026, 11, 27, 18, tzinfo=UTC)
NOVEMBER = month_of(NOW)
TWO_YEARS = list(range(NOVEMBER, NOVEMBER - 24, -1))


def test_so_many_whole_months_stay_before_the_open_one() -> None:
    first = first_kept(13, now=NOW, months=TWO_YEARS)
    assert first is not None
    assert month_name(first) == "2025-10"


@pytest.mark.parametrize(("year", "first"), [(1970, None), (2020, None), (2025, NOVEMBER - 25)])
def test_a_clock_of_the_past_removes_less_or_nothing(year: int, first: int | None) -> None:
    assert first_kept(13, now=NOW.replace(year=year), months=TWO_YEARS) == first


@pytest.mark.parametrize("year", [2027, 2099, 9999])
def test_nor_does_a_clock_of_the_future(year: int) -> None:
    assert first_kept(13, now=NOW.replace(year=year), months=TWO_YEARS) == NOVEMBER - 13


def test_readings_of_a_wild_clock_cost_a_month_at_most() -> None:
    """Head-end and gateways may have followed the same wrong source of time for an hour."""
    wild = [month_of(datetime(2099, 1, 1, tzinfo=UTC)), *TWO_YEARS]
    assert first_kept(13, now=datetime(2099, 1, 1, tzinfo=UTC), months=wild) == NOVEMBER - 12
    assert first_kept(13, now=NOW, months=wild) == NOVEMBER - 13


@pytest.mark.parametrize("months", [[], TWO_YEARS[:1], TWO_YEARS[:13]])
def test_as_many_months_as_are_kept_are_never_too_many(months: list[int]) -> None:
    assert first_kept(13, now=NOW.replace(year=2099), months=months) is None


def test_after_a_year_of_silence_the_months_that_spoke_stay() -> None:
    months = [NOVEMBER, *range(NOVEMBER - 12, NOVEMBER - 24, -1)]
    assert first_kept(3, now=NOW, months=months) == NOVEMBER - 14


def test_less_than_the_least_is_refused() -> None:
    with pytest.raises(ValueError, match="3 months at least"):
        first_kept(KEEP_MONTHS_MIN - 1, now=NOW, months=TWO_YEARS)


def test_months_follow_one_another_without_a_gap_and_have_names() -> None:
    for month in range(month_of(datetime(2023, 12, 1)), month_of(datetime(2025, 3, 1))):  # noqa: DTZ001
        buckets = buckets_of(month)
        assert buckets.stop == buckets_of(month + 1).start
        assert {month_of_bucket(buckets[0]), month_of_bucket(buckets[-1])} == {month}
        assert month_of(midnight_of(month)) == month


def test_what_lies_beyond_the_calendar_has_a_month() -> None:
    assert buckets_of(month_of_bucket(FIRST_BUCKET)).start == FIRST_BUCKET
    assert buckets_of(month_of_bucket(LAST_BUCKET)).stop == LAST_BUCKET + 1
