"""`results.json`: the figures that are stated, with the machine they are of; the tables are made of them (pure)."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.figures import Compared, Figure, read_figure

FILE = Path(__file__).with_name("results.json")
# What depends on the code alone and not on how fast a machine is.
SAME_EVERYWHERE = frozenset({"B", "count", "share", "ratio"})


@dataclass(frozen=True, slots=True)
class Stated:
    """A figure as the table has it: when and how it was measured, and why it misses its bound where it does."""

    figure: Figure
    measured: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that is stated, by name."""

    machine: Mapping[str, str | int]
    stated: Mapping[str, Stated]

    def compared(self, now: Figure) -> Compared:
        """Return a figure beside the stated one."""
        found = self.stated.get(now.name)
        return Compared(now, found and found.figure)

    def is_of(self, machine: Mapping[str, str | int]) -> bool:
        """Whether it was measured on such a machine."""
        return all(self.machine.get(name) == machine.get(name) for name in ("cpu", "cores"))

    def with_measured(
        self, those: Iterable[Figure], machine: Mapping[str, str | int], measured: str
    ) -> "Results":
        """Return what is stated when these are. A reason is kept as long as its bound is missed."""
        stated = dict(self.stated)
        for each in those:
            before = stated.get(each.name)
            why = before.why if before is not None and each.met is False else ""
            stated[each.name] = Stated(each, measured, why)
        return replace(self, machine=machine, stated=stated)


def read_results(text: str) -> Results:
    """Read the file's content. Raises KeyError or ValueError when it is none."""
    document: Mapping[str, Any] = json.loads(text)
    rows: Sequence[Mapping[str, Any]] = document["figures"]
    return Results(
        document["machine"],
        {
            row["name"]: Stated(read_figure(row), row["measured"], row.get("why", ""))
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
            "low": told.low, "high": told.high, "repeats": told.repeats, "measured": each.measured,
        }  # fmt: skip
        if each.why:
            row["why"] = each.why
        lines.append("  " + json.dumps(row, ensure_ascii=False))
    machine = json.dumps(results.machine, ensure_ascii=False)
    return f'{{"machine": {machine},\n"figures": [\n' + ",\n".join(lines) + "\n]}\n"
