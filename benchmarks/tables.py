"""The tables of RESULTS.md, made of `results.json`.

    python -m benchmarks.tables

Between ``<!-- figures: decode -->`` and ``<!-- end -->`` stands a table of every figure whose name begins so, and
nothing is written there by hand. A test holds the two together.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks.results import FILE, Results, Stated, read_results

DOCUMENT = Path(__file__).with_name("RESULTS.md")
_BLOCK = re.compile(r"(<!-- figures: ([\w. ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
MACHINES = "machines"
NOT_YET = "\nNot stated yet.\n\n"
_MACHINE_WORDS = {
    "memory_gb": "GB of memory",
    "file_system": "file system",
    "linux": "Linux",
    "openami": "revision measured",
}


def rendered(text: str, results: Results) -> str:
    """Return the document with its tables made anew (pure)."""

    def block(found: re.Match[str]) -> str:
        begin, names, end = found.groups()
        if names == MACHINES:
            return f"{begin}{_machines(results)}{end}"
        rows = [s for s in results.stated.values() if _belongs(s.figure.name, names.split())]
        return f"{begin}{_table(rows) if rows else NOT_YET}{end}"

    return _BLOCK.sub(block, text)


def without_a_table(text: str, results: Results) -> list[str]:
    """Return the figures that no table shows (pure)."""
    shown = [name for _, names, _ in _BLOCK.findall(text) for name in names.split()]
    return [name for name in results.stated if not _belongs(name, shown)]


def number(value: float) -> str:
    """Return a figure's number as a table has it (pure)."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def verdict(stated: Stated) -> str:
    """Return a figure's bound, and by how much and why it is missed (pure)."""
    bound = stated.figure.bound
    if bound is None:
        return ""
    told = f"{bound.side} {number(bound.limit)}"
    missed = bound.missed_by(stated.figure.value)
    return f"{told}: missed by {missed * 100:.0f} %; {stated.why}" if missed else told


def _belongs(name: str, prefixes: Iterable[str]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in prefixes)


def _table(rows: list[Stated]) -> str:
    lines = ["", "| figure | | bound | measured |", "|---|---|---|---|"]
    for each in rows:
        told = each.figure
        value = f"**{number(told.value)}**" if told.bound else number(told.value)
        spread = "" if told.low == told.high else f" [{number(told.low)}–{number(told.high)}]"
        unit = f" {told.unit}" if told.unit not in ("", "count", "share", "ratio") else ""
        pace = "" if each.pace is None else f", pace {each.pace:g}"
        how = f"{each.machine}, {each.measured}{pace}"
        lines.append(f"| {told.words} | {value}{spread}{unit} | {verdict(each)} | {how} |")
    return "\n".join(lines) + "\n\n"


def _machines(results: Results) -> str:
    lines = [""]
    for letter, machine in results.machines.items():
        told = (f"{_MACHINE_WORDS.get(name, name)} {value}" for name, value in machine.items())
        lines.append(f"- **{letter}**: {'; '.join(told)}.")
    return "\n".join(lines) + "\n\n"


def main() -> int:
    """Make the tables anew."""
    DOCUMENT.write_text(rendered(DOCUMENT.read_text(), read_results(FILE.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
