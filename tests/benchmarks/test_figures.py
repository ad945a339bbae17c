"""A figure is reproduced within its stated spread and the machine's noise, and not one step beyond."""

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
from benchmarks.__main__ import BenchmarkFailed, is_judged, lines_of, row
from benchmarks.bounds import Bound
from benchmarks.figures import Compared, Figure, figure, read_figure
from benchmarks.machine import Ticks, shares, ticks
from benchmarks.pace import pace
from benchmarks.picks import Pick, spread
from benchmarks.plan import Benchmark
from benchmarks.results import Results, Stated, read_results, results_text
from benchmarks.tables import rendered, verdict

RATE = Figure(
    name="ingest.sqlite.rate", words="stored", value=26_000, unit="envelopes/s",
    low=25_500, high=26_500, repeats=3,
)  # fmt: skip
XEON: Mapping[str, str | int] = {"cpu": "Xeon", "cores": 2}
EPYC: Mapping[str, str | int] = {"cpu": "EPYC", "cores": 2}
STATED = Results({"A": XEON}, {RATE.name: Stated(RATE, "A", "quiet")})


@pytest.mark.parametrize(
    ("unit", "value", "reproduces"),
    [
        ("envelopes/s", 22_900, True),
        ("envelopes/s", 22_899, False),
        ("envelopes/s", 29_100, True),
        ("envelopes/s", 29_101, False),
        ("B", 24_980, True),
        ("B", 24_979, False),
        ("count", 25_500, True),
        ("count", 25_499, False),
        ("messages", 1, None),
    ],
)
def test_a_tenth_beyond_the_spread_is_noise_for_a_rate_and_nothing_is_for_a_count(
    unit: str, value: float, reproduces: bool | None
) -> None:
    stated = replace(RATE, unit=unit)
    assert Compared(replace(stated, value=value), stated).reproduces is reproduces


@pytest.mark.parametrize(
    ("unit", "value", "reproduces"),
    [
        ("envelopes/s", 10_150, True),
        ("envelopes/s", 10_149, False),
        ("envelopes/s", 26_000, True),
        ("µs", 55_600, True),
        ("µs", 55_601, False),
        ("µs", 22_899, False),
        ("%", 59_500, True),
        ("%", 59_501, False),
        ("B", 24_979, False),
    ],
)
def test_at_half_the_pace_a_rate_may_be_half_a_time_twice_and_a_size_what_it_was(
    unit: str, value: float, reproduces: bool
) -> None:
    before = Results(
        {"A": XEON}, {RATE.name: Stated(replace(RATE, unit=unit), "A", "quiet", pace=80)}
    )
    now = replace(RATE, unit=unit, value=value)
    assert before.compared(now, 40).reproduces is reproduces
    assert before.compared(now, 40).quicker == 0.5


def test_the_pace_is_stated_with_the_figures_and_is_not_asked_of_older_ones() -> None:
    after = STATED.with_measured([RATE], XEON, "quiet", 80)
    assert read_results(results_text(after)).stated[RATE.name].pace == 80
    assert STATED.compared(RATE, 40).quicker == 1


def test_the_pace_of_this_machine_is_more_than_nothing() -> None:
    assert pace(0.1) > 0


def test_what_is_not_stated_is_not_compared() -> None:
    assert Compared(RATE, None).reproduces is None
    assert Compared(RATE, None).times is None


def test_a_bound_is_kept_at_its_edge_and_missed_beyond() -> None:
    least, most = Bound("≥", 25_000), Bound("≤", 35)
    assert (least.is_met_by(25_000), least.is_met_by(24_999)) == (True, False)
    assert (most.is_met_by(35), most.is_met_by(35.1)) == (True, False)
    assert most.missed_by(42) == pytest.approx(0.2)


def test_a_figure_is_one_json_object_with_its_bound() -> None:
    told = json.loads(figure("ingest.sqlite.rate", "stored", "envelopes/s", [3, 1, 2]).line())
    assert told == {
        "name": "ingest.sqlite.rate", "value": 2, "unit": "envelopes/s", "low": 1, "high": 3,
        "repeats": 3, "bound": "≥ 25000", "met": False, "words": "stored",
    }  # fmt: skip
    assert read_figure(told).high == 3


def test_a_missed_bound_is_in_the_table_with_its_reason() -> None:
    missed = Stated(replace(RATE, value=20_000, low=20_000), "A", "quiet", "one core")
    assert verdict(missed) == "≥ 25,000: missed by 20 %; one core"
    text = "<!-- figures: ingest -->\nold\n<!-- end -->\n"
    table = rendered(text, Results({"A": XEON}, {RATE.name: missed}))
    row = "| stored | **20,000** [20,000–26,500] envelopes/s | ≥ 25,000: missed by 20 %; one core | A, quiet |"
    assert row in table
    assert "old" not in table


def test_a_reason_stays_while_the_bound_is_missed_and_goes_when_it_is_kept() -> None:
    missed = replace(RATE, value=20_000, low=20_000)
    before = Results({"A": XEON}, {RATE.name: Stated(missed, "A", "quiet", "one core")})
    assert before.with_measured([missed], XEON, "again").stated[RATE.name].why == "one core"
    assert before.with_measured([RATE], XEON, "again").stated[RATE.name].why == ""


def test_a_figure_of_another_machine_has_its_own_letter() -> None:
    after = STATED.with_measured([replace(RATE, name="decode.audit")], EPYC, "quiet")
    assert after.machines == {"A": XEON, "B": EPYC}
    assert after.is_of("decode.audit", EPYC)
    assert after.is_of(RATE.name, XEON)
    assert not after.is_of(RATE.name, EPYC)
    newer = {**XEON, "python": "3.13"}
    assert STATED.with_measured([RATE], newer, "quiet").machines == {"A": newer}


def test_figures_are_found_in_lines_of_any_shape() -> None:
    line = {
        "case": "a", "repeats": 5, "rate": {"median": 2.0, "min": 1.0, "max": 3.0},
        "cycles": [11.0, 12.0, 11.5], "percent": 0.4, "percent_spread": [0.3, 0.5],
    }  # fmt: skip
    assert spread("x", "", "s", "rate", case="b").of(line) is None
    found = spread("x", "", "s", "rate", case="a").of(line)
    assert found is not None
    assert (found.low, found.value, found.high, found.repeats) == (1, 2, 3, 5)
    of_list = Pick("x", "", "s", {}, "cycles").of(line)
    assert of_list is not None
    assert (of_list.low, of_list.value, of_list.high, of_list.repeats) == (11, 11.5, 12, 3)
    of_places = Pick("x", "", "%", {}, "percent", "percent_spread.0", "percent_spread.1").of(line)
    assert of_places is not None
    assert (of_places.low, of_places.value, of_places.high) == (0.3, 0.4, 0.5)
    with pytest.raises(KeyError):
        Pick("x", "", "s", {}, "misspelt").of(line)


def test_turns_of_a_benchmark_are_one_figure() -> None:
    benchmark = Benchmark(
        name="line",
        module="bench_line",
        minutes=1,
        turns=3,
        picks=(Pick("x", "", "s", {}, "took"),),
    )
    (together,) = benchmark.figures([[{"took": 3}], [{"took": 1}], [{"took": 2}]])
    assert (together.low, together.value, together.high, together.repeats) == (1, 2, 3, 3)


def test_a_machine_at_work_is_seen_and_one_at_rest_is_not() -> None:
    before = ticks("cpu  100 0 100 1000 0 0 0 0 0 0")
    assert before == Ticks(1200, 1000, 0)
    resting = shares(before, ticks("cpu  105 0 103 1192 0 0 0 0 0 0"))
    assert resting.doubts == []
    working = shares(before, ticks("cpu  140 0 100 1150 0 0 0 10 0 0"))
    assert (round(working.used, 3), round(working.stolen, 3)) == (0.2, 0.05)
    assert working.doubts == [
        "other programs use 20% of the cores",
        "the host takes 5% of the cores",
    ]


def test_a_figure_that_is_not_reproduced_is_said_where_it_is_judged() -> None:
    slower = replace(RATE, value=20_000, low=20_000)
    assert row(STATED.compared(slower), judged=True, busy=False).endswith(
        "bound ≥ 25000 MISSED  stated 26,000 [25,500–26,500]  0.77 times at 1.00 of the pace  NOT REPRODUCED"
    )
    assert row(STATED.compared(slower), judged=False, busy=True).endswith(
        "0.77 times at 1.00 of the pace  busy machine"
    )


def test_on_another_machine_only_what_does_not_depend_on_it_is_judged() -> None:
    assert is_judged(RATE, STATED, XEON)
    assert not is_judged(RATE, STATED, EPYC)
    assert is_judged(replace(RATE, unit="B"), STATED, EPYC)


def test_a_benchmark_that_breaks_off_is_a_failure_and_not_a_short_one() -> None:
    with pytest.raises(BenchmarkFailed, match="bench_sip ended with exit code 1"):
        list(lines_of("bench_sip", ("no number",), sound=(0,)))
