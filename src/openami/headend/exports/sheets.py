"""Rows as CSV or JSON Lines, one at a time."""

import csv
import io
import json
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Final, TextIO

from openami.headend.exports.neutral import Cell, TableRow

# A hundred kilobytes of text.
PORTION_LINES_MAX: Final = 500
# What a spreadsheet takes for a formula. A word from a meter or a name must not become one.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


async def csv_lines(rows: AsyncIterable[TableRow], columns: Sequence[str]) -> AsyncIterator[str]:
    """Yield rows under a line of headings. A text that begins like a formula gets a ``'``."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    yield _taken(out)
    async for row in rows:
        writer.writerow([_csv_cell(row[column]) for column in columns])
        yield _taken(out)


async def json_lines(rows: AsyncIterable[TableRow]) -> AsyncIterator[str]:
    """Yield one object a line."""
    async for row in rows:
        yield json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"


async def in_portions(lines: AsyncIterable[str]) -> AsyncIterator[str]:
    """Yield lines some at a time: each portion on its own way through a server costs more than its bytes."""
    portion: list[str] = []
    async for line in lines:
        portion.append(line)
        if len(portion) == PORTION_LINES_MAX:
            yield "".join(portion)
            portion = []
    yield "".join(portion)


async def write_lines(lines: AsyncIterable[str], out: TextIO) -> None:
    """Write lines."""
    async for line in lines:
        out.write(line)


def _taken(out: io.StringIO) -> str:
    said = out.getvalue()
    out.seek(0)
    out.truncate()
    return said


def _csv_cell(value: Cell) -> Cell:
    match value:
        case bool():
            return "true" if value else "false"
        case str() if value.startswith(_FORMULA):
            return f"'{value}"
        case _:
            return value
