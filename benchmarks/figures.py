"""A figure: what a benchmark says, in one form for all of them, and what is asked of it (pure)."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.bounds import BOUNDS, Bound

# Beside what repeats showed, so much more or less is the machine's own noise, as a share of the figure: shared
# hardware gives a time or a rate within a tenth on another day, what a process holds within a tenth, and a file's
# size nearly to the byte. What is counted is the same each time (decision 0078).
NOISE: Mapping[str, float] = {
    "B": 0.02,
    "MB": 0.10,
    "%": 0.25,
    "count": 0.0,
    "share": 0.0,
    "ratio": 0.10,
}
# How many messages are under way when a program is killed is chance: told, and not compared.
CHANCE = "messages"
_NOISE_OF_TIME = 0.10
# "%" is of a core's time.
_TIMES = ("s", "ms", "µs", "%")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A median with its least and greatest; ``words`` are what a table says it is."""

    name: str
    words: str
    value: float
    unit: str
    low: float
    high: float
    repeats: int

    @property
    def bound(self) -> Bound | None:
        """What is asked of it."""
        return BOUNDS.get(self.name)

    @property
    def met(self) -> bool | None:
        """Whether it is as asked; None where nothing is."""
        return None if self.bound is None else self.bound.is_met_by(self.value)

    def line(self) -> str:
        """Return it as one JSON object."""
        row = {
            "name": self.name, "value": self.value, "unit": self.unit, "low": self.low,
            "high": self.high, "repeats": self.repeats,
            "bound": None if self.bound is None else str(self.bound),
            "met": self.met, "words": self.words,
        }  # fmt: skip
        return json.dumps(row, ensure_ascii=False)


def figure(name: str, words: str, unit: str, samples: Sequence[float]) -> Figure:
    """Return the figure that samples give."""
    return Figure(
        name=name,
        words=words,
        value=rounded(statistics.median(samples)),
        unit=unit,
        low=rounded(min(samples)),
        high=rounded(max(samples)),
        repeats=len(samples),
    )


def read_figure(row: Mapping[str, Any]) -> Figure:
    """Return the figure a row of any of our files is. Raises KeyError."""
    names = ("name", "words", "value", "unit", "low", "high", "repeats")
    return Figure(**{name: row[name] for name in names})


def say(told: Figure) -> None:
    """Print a figure's line."""
    print(told.line(), flush=True)


def rounded(value: float) -> float:
    """Return a number with as many digits as a measurement has."""
    return float(f"{value:.4g}")


@dataclass(frozen=True, slots=True)
class Compared:
    """A figure beside the one that is in the table."""

    now: Figure
    stated: Figure | None
    quicker: float = 1.0
    """The machine's pace now as a share of its pace when the other was stated (`benchmarks.pace`)."""

    @property
    def reproduces(self) -> bool | None:
        """Whether it is within the stated spread; None where none is stated, or it is left to chance.

        Where the machine has another pace, the spread reaches from what was stated to what that would be at this
        one: a figure that waits for a line or a disk stays where it was, one that waits for the processor does not.
        """
        if self.stated is None or self.stated.unit == CHANCE:
            return None
        ends = [self.stated.low, self.stated.high]
        if self.stated.unit.endswith("/s"):
            ends += [end * self.quicker for end in ends]
        elif self.stated.unit in _TIMES:
            ends += [end / self.quicker for end in ends]
        noise = NOISE.get(self.stated.unit, _NOISE_OF_TIME) * abs(self.stated.value)
        return min(ends) - noise <= self.now.value <= max(ends) + noise

    @property
    def times(self) -> float | None:
        """How many times the stated value it is; None where that says nothing."""
        if self.stated is None or not self.stated.value:
            return None
        return self.now.value / self.stated.value
