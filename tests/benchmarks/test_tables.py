"""RESULTS.md is what results.json says, and nothing that is stated is left out or unexplained."""

from pathlib import Path

import pytest
from benchmarks.bounds import BOUNDS
from benchmarks.results import FILE, read_results, results_text

from benchmarks import plan, tables

RESULTS = read_results(FILE.read_text())
BENCHMARKS = Path(plan.__file__).parent
# bench_store is for whoever works on the store: what is stated of it is bench_growth's, on a village's readings.
# The others break things for the better part of an hour, or count bytes that tests hold: RESULTS.md tells in words
# what they saw.
NOT_IN_THE_PLAN = {
    "bench_closed",
    "bench_closing",
    "bench_cluster",
    "bench_failover",
    "bench_link",
    "bench_partitions",
    "bench_store",
    "bench_workers",
}


def test_the_tables_are_made_of_the_stated_figures() -> None:
    text = tables.DOCUMENT.read_text()
    assert tables.rendered(text, RESULTS) == text, "run: python -m benchmarks.tables"
    assert tables.without_a_table(text, RESULTS) == []


def test_a_figure_changed_by_hand_is_seen() -> None:
    text = tables.DOCUMENT.read_text()
    stated = tables.number(RESULTS.stated["decode.example"].figure.value)
    changed = text.replace(f"**{stated}**", "**1**")
    assert changed != text
    assert tables.rendered(changed, RESULTS) == text


def test_the_file_is_written_as_it_was_read() -> None:
    assert results_text(RESULTS) == FILE.read_text()


def test_a_missed_bound_says_why_and_no_other_does() -> None:
    wrong = [
        name
        for name, each in RESULTS.stated.items()
        if (each.figure.met is False) != bool(each.why)
    ]
    assert wrong == []


def test_a_figure_is_within_its_own_spread() -> None:
    figures = [each.figure for each in RESULTS.stated.values()]
    assert [each.name for each in figures if not each.low <= each.value <= each.high] == []


def test_every_stated_figure_and_every_bound_is_of_a_figure_that_is_measured() -> None:
    names = {*RESULTS.stated, *BOUNDS}
    assert {name for name in names if not any(each.says(name) for each in plan.PLAN)} == set()


def test_no_benchmark_is_left_out_of_the_plan() -> None:
    there = {path.stem for path in BENCHMARKS.glob("bench_*.py")}
    assert there - {each.module for each in plan.PLAN} == NOT_IN_THE_PLAN


def test_what_is_named_is_chosen_with_its_parts() -> None:
    names = [each.name for each in plan.chosen(["ingest"], quick=False, postgres=True)]
    assert names == ["ingest.sqlite", "ingest.postgres"]
    assert [each.name for each in plan.chosen(["ingest"], quick=False, postgres=False)] == [
        "ingest.sqlite"
    ]
    with pytest.raises(ValueError, match="ingress is no benchmark; there are decode, sip"):
        plan.chosen(["ingress"], quick=False, postgres=True)
