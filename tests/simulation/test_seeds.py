"""The promises, attacked by thrown faults: every seed that ever failed, the first ones, and each story once."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from openami.simulator.world.campaign import Outcome, outcome_of
from openami.simulator.world.scenario import DICE, Scenario, load_scenario, scenario_names

FIRST_SEEDS = range(1, 6)
FIRST_DAYS = [(DICE, seed, 1.0) for seed in FIRST_SEEDS]
# A story's first day or two has its faults; `make simulate` tells it to the end.
STORY_DAYS = 1.5


# What `make simulate` sets: the long ones cost minutes.
ALL = os.environ.get("OPENAMI_ALL_SEEDS") == "1"


def failed() -> Iterator[tuple[str, int, float]]:
    for line in Path(__file__).with_name("seeds.txt").read_text().splitlines():
        words = line.partition("#")[0].split()
        if words and (ALL or "long" not in words):
            failed_once = words[0], int(words[1]), float(words[2])
            if failed_once not in FIRST_DAYS:
                yield failed_once


def days_lived() -> list[tuple[str, int, float]]:
    """Return every seed that is lived here: its scenario, its number, for how many days."""
    return [*FIRST_DAYS, *failed(), *((name, 1, STORY_DAYS) for name in scenario_names())]


def lived(name: str, seed: int, days: float) -> Outcome:
    scenario = Scenario(title="thrown") if name == DICE else load_scenario(name)
    return outcome_of(scenario, seed, days)


@pytest.mark.parametrize(("name", "seed", "days"), list(failed()))
def test_a_seed_that_failed_once_keeps_every_promise(name: str, seed: int, days: float) -> None:
    assert lived(name, seed, days).breach == ""


@pytest.mark.parametrize("seed", FIRST_SEEDS)
def test_a_day_of_thrown_faults_breaks_no_promise(seed: int) -> None:
    outcome = lived(DICE, seed, 1)
    assert outcome.breach == ""
    assert outcome.happened, "a day without a fault proves nothing"
    ledger = outcome.ledger
    assert ledger["expected"] > 100
    told = ("stored", "thinned", "gone_with_card", "beyond_kept", "lost")
    assert ledger["expected"] == sum(ledger[name] for name in told)
    assert ledger["lost"] == 0


@pytest.mark.parametrize("name", scenario_names())
def test_each_story_breaks_no_promise(name: str) -> None:
    outcome = lived(name, 1, STORY_DAYS)
    assert outcome.breach == ""
    assert outcome.ledger["stored"] > 0


def test_one_seed_is_one_history_and_another_seed_another() -> None:
    history = lived(DICE, 3, 0.5)
    assert lived(DICE, 3, 0.5) == history
    assert lived(DICE, 4, 0.5).ledger != history.ledger
