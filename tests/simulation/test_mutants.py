"""The simulated village can fail: without the line that keeps a promise, its witness says which one is broken."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import msgspec
import pytest
from tests.simulation.test_seeds import days_lived
from tools.altered_module import SOURCES
from tools.promise_mutants import DAY, MUTANTS, Mutant, survivors

from openami.simulator.world.scenario import DICE, Scenario, read_scenario

PROMISES: Final = {1, 2, 3, 4, 5, 6}


def source_of(mutant: Mutant) -> str:
    return (SOURCES / "openami" / mutant.file).read_text("utf-8")


def test_every_promise_has_a_line_that_keeps_it() -> None:
    assert {mutant.promise for mutant in MUTANTS} == PROMISES
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.name)
def test_the_line_is_there_exactly_once(mutant: Mutant) -> None:
    source = source_of(mutant)
    assert mutant.applied(source) != source


def test_a_line_that_is_gone_or_stands_twice_is_said() -> None:
    mutant, source = MUTANTS[0], source_of(MUTANTS[0])
    with pytest.raises(ValueError, match="0 times"):
        replace(mutant, original="no such line").applied(source)
    with pytest.raises(ValueError, match="2 times"):
        mutant.applied(source + mutant.original)


def one_of_each_promise() -> Sequence[Mutant]:
    """Return the mutants whose villages cost the least; `make promise-mutants` lives in all of them."""
    cheapest_last = sorted(MUTANTS, key=lambda each: (each.story != "", each.seed), reverse=True)
    return list({mutant.promise: mutant for mutant in cheapest_last}.values())


def test_a_day_of_thrown_faults_is_the_one_that_seeds_are_lived_in() -> None:
    day = read_scenario(DAY, where="the mutant's story")
    assert msgspec.structs.replace(day, title="") == Scenario(title="")
    assert day.days == 1


@pytest.mark.timeout(300)
def test_a_mutant_of_each_promise_is_convicted_by_its_seed_and_nobody_honest_is() -> None:
    chosen = one_of_each_promise()
    assert {mutant.promise for mutant in chosen} == PROMISES
    # Of most days the honest twin is lived in `test_seeds`.
    honest = {("", seed) for name, seed, days in days_lived() if (name, days) == (DICE, 1)}
    assert survivors(chosen, known_honest=honest) == []
