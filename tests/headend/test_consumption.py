"""Consumption: registers that count, roll over, begin anew, go wild and come in any order."""

from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.headend.consumption import (
    DAY_MS,
    GAP_MS,
    QUARTER_MS,
    BreakKind,
    DayFold,
    Known,
    Limits,
    Sample,
    counts_energy,
    fold_day,
    join,
    to_wh,
)
from openami.profile import Obis

HOUR = int(timedelta(hours=1).total_seconds() * 1000)
DAY = 20_000


def at(hour: float, kwh: float, *, suspect: bool = False) -> Sample:
    return Sample(DAY * DAY_MS + round(hour * HOUR), round(kwh * 1000), suspect)


def total(fold: DayFold) -> int:
    return sum(fold.quarters)


# --- registers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "wh"),
    [
        (1842.5, "kWh", 1_842_500),
        (1842.512, "kWh", 1_842_512),
        (7, "Wh", 7),
        (3, "kvarh", 3000),
        (0.1 + 0.2, "kWh", 300),
        (True, "kWh", None),
        ("12", "kWh", None),
        (12.0, "V", None),
    ],
)
def test_a_register_is_taken_to_whole_watt_hours(value: object, unit: str, wh: int | None) -> None:
    assert to_wh(value, unit) == wh


@pytest.mark.parametrize(
    ("obis", "counts"),
    [
        *(("1.8.0", True), ("2.8.0", True), ("1.8.2", True), ("9.8.0", True)),
        *(("96.8.0", False), ("1.7.0", False), ("32.7.0", False), ("1-0:1.8.0*101", False)),
    ],
)
def test_which_registers_count_energy(obis: str, counts: bool) -> None:
    assert counts_energy(Obis.parse(obis)) is counts


# --- two readings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "kwh", "kind"),
    [
        (100.0, 101.5, 1.5, None),
        (100.0, 100.0, 0.0, None),
        (99_999.8, 0.3, 0.5, BreakKind.ROLLOVER),
        (9_999.0, 1.0, 2.0, BreakKind.ROLLOVER),
        (1842.5, 0.4, 0.4, BreakKind.RESET),
        (1842.5, 0.0, 0.0, BreakKind.RESET),
        (1842.5, 1800.0, 0.0, BreakKind.WENT_BACK),
        (9_800.0, 5.0, 5.0, BreakKind.RESET),
        (100.0, 90_000.0, 0.0, BreakKind.JUMP),
    ],
)
def test_a_lower_register_has_a_name_and_no_negative(
    before: float, after: float, kwh: float, kind: BreakKind | None
) -> None:
    assert join(at(1, before), at(1.25, after)) == (round(kwh * 1000), kind)


def test_a_known_width_is_where_it_rolls_over() -> None:
    limits = Limits(width_wh=65_536_000)
    assert join(at(1, 65_535.0), at(2, 1.0), limits) == (2000, BreakKind.ROLLOVER)
    assert join(at(1, 65_535.0), at(2, 1.0)).kind is BreakKind.RESET


# --- a day ---------------------------------------------------------------------------------------


def test_aligned_quarters_are_measured() -> None:
    fold = fold_day(DAY, [at(q / 4, 100 + q / 10) for q in range(96)])
    assert list(fold.quarters) == [100] * 95 + [0]
    assert (fold.marks, fold.breaks, fold.readings) == (b"", (), 96)


def test_a_gap_is_spread_and_marked() -> None:
    fold = fold_day(DAY, [at(1, 10), at(3, 12)])
    assert list(fold.quarters[4:12]) == [250] * 8
    assert set(fold.marks[4:12]) == {Known.SPREAD}
    assert not any(fold.marks[:4] + fold.marks[12:])


def test_a_reset_counts_what_is_known_and_says_at_least() -> None:
    fold = fold_day(DAY, [at(1, 500), at(1.25, 501), at(1.5, 0.2), at(1.75, 0.5)])
    assert total(fold) == 1000 + 200 + 300
    assert [each.kind for each in fold.breaks] == [BreakKind.RESET]
    assert fold.marks[5] == Known.AT_LEAST
    assert fold.marks[6] == Known.MEASURED


@pytest.mark.parametrize("wild", [5.0, 90_000.0, 0.0])
@pytest.mark.parametrize("count", [1, 3])
def test_wild_readings_are_left_out_and_named(wild: float, count: int) -> None:
    sound = [at(q / 4, 100 + q / 10) for q in range(12)]
    odd = [at(1 + n / 4, wild) for n in range(count)]
    fold = fold_day(DAY, [each for each in sound if each.ms not in {o.ms for o in odd}] + odd)
    assert total(fold) == 1100
    assert [each.kind for each in fold.breaks] == [BreakKind.WILD] * count


def test_a_rise_that_stays_is_not_counted() -> None:
    fold = fold_day(DAY, [at(q / 4, (100 if q < 6 else 90_000) + q) for q in range(12)])
    assert [each.kind for each in fold.breaks] == [BreakKind.JUMP]
    assert total(fold) == 10_000


def test_a_suspect_reading_says_when_but_never_how_much() -> None:
    sound = [at(1, 10), at(5, 18)]
    fits, wild = at(2, 17, suspect=True), at(3, 99, suspect=True)
    fold = fold_day(DAY, [*sound, fits, wild])
    assert total(fold) == 8000
    assert sum(fold.quarters[4:8]) == 7000
    assert (fold.readings, fold.suspect) == (4, 2)


def test_only_suspect_readings_tell_nothing() -> None:
    fold = fold_day(DAY, [at(1, 10, suspect=True), at(2, 12, suspect=True)])
    assert (fold.first, fold.last, total(fold), fold.suspect) == (None, None, 0, 2)


# --- what always holds ---------------------------------------------------------------------------

RISING = st.lists(
    st.tuples(st.integers(0, DAY_MS - 1), st.integers(0, 400)),
    min_size=1,
    max_size=60,
    unique_by=lambda each: each[0],
)


def rising(steps: list[tuple[int, int]]) -> list[Sample]:
    wh, samples = 1000, []
    for ms, rise in sorted(steps):
        wh += rise
        samples.append(Sample(DAY * DAY_MS + ms, wh))
    return samples


ANYTHING = st.lists(
    st.builds(
        Sample,
        st.integers(DAY * DAY_MS, (DAY + 1) * DAY_MS - 1),
        st.integers(0, 10**8),
        st.booleans(),
    ),
    max_size=40,
    unique_by=lambda each: each.ms,
)


@given(RISING)
def test_quarters_add_up_to_the_difference_of_registers(steps: list[tuple[int, int]]) -> None:
    samples = rising(steps)
    fold = fold_day(DAY, samples)
    assert total(fold) == samples[-1].wh - samples[0].wh
    assert not fold.breaks


@given(ANYTHING)
def test_whatever_comes_nothing_is_negative_and_every_fall_has_a_name(
    samples: list[Sample],
) -> None:
    fold = fold_day(DAY, samples)
    assert all(wh >= 0 for wh in fold.quarters)
    good = sorted(each for each in samples if not each.suspect)
    falls = sum(b.wh < a.wh for a, b in pairwise(good))
    assert bool(fold.breaks) >= bool(falls)
    if fold.first is not None and fold.last is not None:
        counted = sum(each.counted_wh for each in fold.breaks)
        assert total(fold) >= counted


@given(ANYTHING, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(samples: list[Sample], dice: object) -> None:
    shuffled = list(samples)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    assert fold_day(DAY, shuffled) == fold_day(DAY, samples)


@given(RISING, RISING, st.integers(0, 200_000))
@settings(max_examples=60)
def test_sum_of_hours_is_end_minus_start_plus_what_a_reset_hid(
    before: list[tuple[int, int]], after: list[tuple[int, int]], drop: int
) -> None:
    """A reset in the middle: the sum is both runs and what the register stood at after it."""
    first = [each._replace(ms=DAY * DAY_MS + (each.ms % DAY_MS) // 2) for each in rising(before)]
    first = [*{each.ms: each for each in first}.values()]
    start = first[-1].wh + drop + 200_000
    first = [each._replace(wh=each.wh + start) for each in first]
    middle = DAY * DAY_MS + DAY_MS // 2
    second = [
        each._replace(ms=middle + (each.ms % DAY_MS) // 2, wh=each.wh - 1000)
        for each in rising(after)
    ]
    second = [*{each.ms: each for each in second}.values()]
    fold = fold_day(DAY, [*first, *second])
    [reset] = fold.breaks
    assert reset.kind is BreakKind.RESET
    runs = first[-1].wh - first[0].wh + second[-1].wh - second[0].wh
    assert total(fold) == runs + reset.counted_wh == runs + second[0].wh


def test_a_gap_is_longer_than_two_billing_intervals() -> None:
    assert 2 * QUARTER_MS < GAP_MS < 3 * QUARTER_MS
