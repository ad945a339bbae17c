"""The store's pure half: keys, flags, and what two deliveries say of one another."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.headend.decisions import NOON

from openami.headend.store import CONFLICTS_KEPT_PER_READING_MAX
from openami.headend.store.collisions import Told, judge
from openami.headend.store.identity import (
    BUCKET_MS,
    day_of,
    flags_of,
    from_ms,
    in_own_unit,
    ms_at,
    place,
    quality_of,
    rank_of,
    same_value,
    settled,
    storable_text,
    stored_value,
    to_ms,
    value_of,
)
from openami.profile import Quality

moments = st.datetimes(timezones=st.just(UTC))
qualities = st.sampled_from(list(Quality))
values = (
    st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
)


@given(moments)
def test_a_moment_survives_to_the_millisecond(moment: datetime) -> None:
    kept = from_ms(to_ms(moment))
    assert timedelta(0) <= moment - kept < timedelta(milliseconds=1)


@given(moments, st.integers(-14 * 60, 14 * 60))
def test_a_moment_is_the_same_in_every_zone(moment: datetime, minutes: int) -> None:
    try:
        elsewhere = moment.astimezone(timezone(timedelta(minutes=minutes)))
    except OverflowError:  # the calendar ends
        return
    assert to_ms(elsewhere) == to_ms(moment)


@given(st.integers(-(10**14), 10**15))
def test_a_place_is_a_moment(ms: int) -> None:
    bucket, beyond = place(ms)
    assert ms_at(bucket, beyond) == ms
    assert -BUCKET_MS // 2 <= beyond < BUCKET_MS // 2
    assert -(2**23) <= beyond < 2**23, "three bytes"
    assert place(ms) < place(ms + 1), "the key is in the order of time"


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), (0, 0)),
        (datetime(1970, 1, 1, 1, 59, 59, 999_999, tzinfo=UTC), (0, 7_199_999)),
        (datetime(1970, 1, 1, 2, tzinfo=UTC), (1, -7_200_000)),
        (datetime(1969, 12, 31, 22, tzinfo=UTC), (0, -7_200_000)),
        (NOON, (123_759, 0)),
    ],
)
def test_places(moment: datetime, expected: tuple[int, int]) -> None:
    """Part of the schema: a store made by any version is read by every later one."""
    assert place(to_ms(moment)) == expected


def test_the_day_is_utc() -> None:
    assert day_of(to_ms(datetime(2026, 6, 22, 23, 59, 59, 999_999, tzinfo=UTC))) == "2026-06-22"
    assert day_of(to_ms(datetime(2026, 6, 23, tzinfo=UTC))) == "2026-06-23"


@given(values, qualities, st.integers(1, 100_000))
def test_a_value_survives_in_its_type(
    value: bool | int | float | str, quality: Quality, unit_id: int
) -> None:
    flags = flags_of(type(value), quality, unit_id)
    for kept in (flags, in_own_unit(flags, unit_id)):
        stored = stored_value(value)
        if isinstance(stored, str):  # as SQLite has it, and as PostgreSQL does
            told = [value_of(None, stored, kept), value_of(stored, None, kept)]
        else:
            told = [value_of(stored, None, kept), value_of(float(stored), None, kept)]
        assert [(type(each), each) for each in told] == [(type(value), value)] * 2
        assert quality_of(kept) == quality


def test_a_good_float_in_its_usual_unit_takes_no_byte() -> None:
    assert in_own_unit(flags_of(float, Quality.GOOD, 9), 9) == 0
    assert in_own_unit(flags_of(float, Quality.GOOD, 9), 8) == 9 << 4


@given(values, values, st.integers(0, 3), st.integers(0, 3), qualities, qualities)
def test_same_value_is_what_json_says_but_for_the_spelling_of_numbers(
    one: bool | int | float | str,
    other: bool | int | float | str,
    unit: int,
    other_unit: int,
    quality: Quality,
    other_quality: Quality,
) -> None:
    def sort(value: object) -> type:
        return float if type(value) is int else type(value)

    expected = one == other and sort(one) is sort(other) and unit == other_unit
    found = same_value(
        stored_value(one),
        flags_of(type(one), quality, unit),
        stored_value(other),
        flags_of(type(other), other_quality, other_unit),
    )
    assert found is expected


@given(st.lists(qualities, min_size=1, max_size=5), st.randoms())
def test_qualities_settle_in_any_order(told: list[Quality], random: object) -> None:
    def of(order: list[Quality]) -> Quality:
        first, *rest = (flags_of(float, q, 3) for q in order)
        for flags in rest:
            first = settled(first, flags)
        assert first >> 4 == 3
        return quality_of(first)

    shuffled = sorted(told, key=lambda _: random.random())  # type: ignore[attr-defined]
    assert of(told) == of(shuffled) == of(told + told)
    measured = set(told) - {Quality.COMMS_LOST}
    worst = max(measured, key=lambda q: rank_of(flags_of(float, q, 1)), default=Quality.COMMS_LOST)
    assert of(told) == worst


@given(st.text(st.characters()))
def test_any_text_becomes_one_that_every_engine_takes(text: str) -> None:
    kept = storable_text(text)
    assert "\0" not in kept
    kept.encode()
    assert len(kept) == len(text)
    if "\0" not in text and text.isprintable():
        assert kept == text


def test_a_flood_of_opinions_is_kept_to_its_bound() -> None:
    key = (1, 2, 3)
    flags = flags_of(float, Quality.GOOD, 0)
    told = [Told(key, float(n), flags, 0, 0.0, flags) for n in range(1, 101)]
    verdict = judge(told, {})
    assert len(verdict.conflicts) == CONFLICTS_KEPT_PER_READING_MAX
    assert verdict.conflicting == 100
    known = {key: {new.digest for new in verdict.conflicts}}
    again = judge(told, known)
    assert (again.conflicts, again.conflicting) == ([], 100 - CONFLICTS_KEPT_PER_READING_MAX)
