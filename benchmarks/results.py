"""`results.json`: the figures that are stated, each with its machine; the tables are made of them (pure)."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import Compared, Figure, read_figure

Machine = Mapping[str, str | int]

FILE = Path(__file__).with_name("results.json")
# What depends on the code alone and not on how fast a machine is.
SAME_EVERYWHERE = frozenset({"B", "count", "share", "ratio"})


@dataclass(frozen=True, slots=True)
class Stated:
    """A figure as the table has it: when and how it was measured, and why it misses its bound where it does."""

    figure: Figure
    machine: str
    measured: str
    why: str = ""
    pace: float | None = None
    """The machine's in those minutes (`benchmarks.pace`); None where it is not known."""


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that is stated, by name."""

    machines: Mapping[str, Machine]
    """By the letter that figures name them by."""
    stated: Mapping[str, Stated]

    def compared(self, now: Figure, pace: float | None = None) -> Compared:
        """Return a figure, measured at that pace, beside the stated one."""
        found = self.stated.get(now.name)
        if found is None:
            return Compared(now, None)
        quicker = 1.0 if pace is None or found.pace is None else pace / found.pace
        return Compared(now, found.figure, quicker)

    def is_of(self, name: str, machine: Machine) -> bool:
        """Whether a figure was measured on such a machine."""
        found = self.stated.get(name)
        return found is not None and _are_alike(self.machines[found.machine], machine)

    def with_measured(
        self,
        those: Iterable[Figure],
        machine: Machine,
        measured: str,
        pace: float | None = None,
    ) -> "Results":
        """Return what is stated when these are. A reason is kept as long as its bound is missed."""
        alike = (name for name, each in self.machines.items() if _are_alike(each, machine))
        letter = next(alike, chr(ord("A") + len(self.machines)))
        stated = dict(self.stated)
        for each in those:
            before = stated.get(each.name)
            why = before.why if before is not None and each.met is False else ""
            stated[each.name] = Stated(each, letter, measured, why, pace)
        return Results({**self.machines, letter: machine}, stated)


def _are_alike(one: Machine, other: Machine) -> bool:
    return all(one.get(name) == other.get(name) for name in ("cpu", "cores"))


def read_results(text: str) -> Results:
    """Read the file's content. Raises KeyError or ValueError when it is none."""
    document: Mapping[str, Any] = json.loads(text)
    rows: Sequence[Mapping[str, Any]] = document["figures"]
    return Results(
        document["machines"],
        {
            row["name"]: Stated(
                read_figure(row),
                row["machine"],
                row["measured"],
                row.get("why", ""),
                row.get("pace"),
            )
            for row in rows
        },
    )


def results_text(results: Results) -> str:
    """Return the file's content: a figure a line, so that a change is seen."""
    lines = []
    for each in results.stated.values():
        told = each.figure
        row: dict[str, object] = {
            "name": told.name, "words": told.words, "value": told.value, "unit": told.unit,
            "low": told.low, "high": told.high, "repeats": told.repeats, "machine": each.machine,
            "measured": each.measured,
        }  # fmt: skip
        if each.why:
            row["why"] = each.why
        if each.pace is not None:
            row["pace"] = each.pace
        lines.append("  " + json.dumps(row, ensure_ascii=False))
    machines = json.dumps(results.machines, ensure_ascii=False)
    return f'{{"machines": {machines},\n"figures": [\n' + ",\n".join(lines) + "\n]}\n"
