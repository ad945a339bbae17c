"""A transaction as a conversation: what the store wants of its engine, one step after the other.

The algorithms of the store are generators that yield steps and are sent the results, so they are written
once and touch no database: SQLite runs them on its thread, PostgreSQL on the event loop.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from openami.headend.store.plan import Cell
from openami.headend.store.tables import Given, Table

Row = tuple[object, ...]
Result = int | list[Row]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Insert:
    """Insert rows; the answer is how many were written."""

    table: Table
    cells: Sequence[Cell]


@dataclass(frozen=True, slots=True)
class Look:
    """Ask about given rows; the answer is rows."""

    given: Given
    cells: Sequence[Cell]


@dataclass(frozen=True, slots=True)
class Change:
    """Change by given rows; the answer is how many were changed."""

    given: Given
    cells: Sequence[Cell]


@dataclass(frozen=True, slots=True)
class Ask:
    """A query with arguments ``?1``, ``?2`` …; the answer is rows."""

    sql: str
    arguments: Sequence[Cell]


@dataclass(frozen=True, slots=True)
class Do:
    """A statement with arguments; the answer is how many rows it changed."""

    sql: str
    arguments: Sequence[Cell]


Step = Insert | Look | Change | Ask | Do
Steps = Generator[Step, Result, T]


def insert(table: Table, cells: Sequence[Cell]) -> Steps[int]:
    """Insert rows, if there are any; return how many were written."""
    return (yield from _counted(Insert(table, cells))) if cells else 0


def change(given: Given, cells: Sequence[Cell]) -> Steps[int]:
    """Change by given rows, if there are any; return how many were changed."""
    return (yield from _counted(Change(given, cells))) if cells else 0


def do(sql: str, *arguments: Cell) -> Steps[int]:
    """Run a statement; return how many rows it changed."""
    return (yield from _counted(Do(sql, arguments)))


def look(given: Given, cells: Sequence[Cell]) -> Steps[list[Row]]:
    """Ask about given rows, if there are any."""
    return (yield from _rows(Look(given, cells))) if cells else []


def ask(sql: str, *arguments: Cell) -> Steps[list[Row]]:
    """Run a query."""
    return (yield from _rows(Ask(sql, arguments)))


def _counted(step: Step) -> Steps[int]:
    result = yield step
    assert isinstance(result, int)
    return result


def _rows(step: Step) -> Steps[list[Row]]:
    result = yield step
    assert isinstance(result, list)
    return result
