"""How PostgreSQL carries out the store's steps: rows travel as arrays, one round trip for each statement."""

# Statements are put together from this program's own words; every value is bound.
# ruff: noqa: S608

import re
from collections.abc import Sequence
from functools import cache
from typing import Final, TypeVar, cast

from openami.headend.store.plan import Cell
from openami.headend.store.postgres_servers import Connection
from openami.headend.store.steps import Ask, Change, Do, Insert, Look, Result, Row, Step, Steps
from openami.headend.store.tables import Columns, Given, Table, Type

T = TypeVar("T")


async def carried_out(connection: Connection, steps: Steps[T]) -> T:
    """Carry out steps in the transaction that is open."""
    try:
        step = next(steps)
        while True:
            step = steps.send(await _done(connection, step))
    except StopIteration as end:
        done: T = end.value
        return done


async def _done(connection: Connection, step: Step) -> Result:
    match step:
        case Insert(table, cells):
            return _count(await connection.execute(_insert(table), *_arrays(table.columns, cells)))
        case Change(given, cells):
            return _count(await connection.execute(_given(given), *_arrays(given.columns, cells)))
        case Look(given, cells):
            return cast(
                list[Row], await connection.fetch(_given(given), *_arrays(given.columns, cells))
            )
        case Ask(sql, arguments):
            return await asked(connection, sql, arguments)
        case Do(sql, arguments):
            return _count(await connection.execute(statement(sql), *arguments))


async def asked(connection: Connection, sql: str, arguments: Sequence[Cell]) -> list[Row]:
    """Run a query."""
    return cast(list[Row], await connection.fetch(statement(sql), *arguments))


def _count(status: str) -> int:
    """Return the number of rows from a statement's status: ``INSERT 0 1500``; ``DROP TABLE`` has none."""
    count = status.rpartition(" ")[2]
    return int(count) if count.isdecimal() else 0


def _arrays(columns: Columns, cells: Sequence[Cell]) -> list[Sequence[Cell]]:
    """Turn rows into columns; a value into a number or a text."""
    width = len(columns)
    arrays: list[Sequence[Cell]] = []
    for at, (_, kind) in enumerate(columns):
        column = cells[at::width]
        if kind is Type.VALUE:
            arrays.append([None if isinstance(cell, str) else cell for cell in column])
            arrays.append([cell if isinstance(cell, str) else None for cell in column])
        else:
            arrays.append(column)
    return arrays


# COPY into a temporary table and an insert from there was measured as fast as arrays at these sizes, and is
# three round trips instead of one.
@cache
def _insert(table: Table) -> str:
    names, key = _names(table.columns), ", ".join(table.key)
    order = "at" if table.in_order else f"{key}, at"
    return (
        f"INSERT INTO {table.name} ({names}) SELECT {names} "
        f"FROM unnest({_arguments(table.columns)}) WITH ORDINALITY AS given ({names}, at) "
        f"ORDER BY {order} ON CONFLICT ({key}) {table.then}"
    )


@cache
def _given(given: Given) -> str:
    return (
        f"WITH given ({_names(given.columns)}) AS "
        f"(SELECT * FROM unnest({_arguments(given.columns)})) {statement(given.sql)}"
    )


def _split(columns: Columns) -> list[tuple[str, str]]:
    """Return the columns as this engine has them, by name and type."""
    return [
        column
        for name, kind in columns
        for column in (
            [("number", "float8"), ("text", "text")] if kind is Type.VALUE else [(name, str(kind))]
        )
    ]


def _names(columns: Columns) -> str:
    return ", ".join(name for name, _ in _split(columns))


def _arguments(columns: Columns) -> str:
    return ", ".join(f"${n}::{kind}[]" for n, (_, kind) in enumerate(_split(columns), 1))


_READING_AT_SLOT: Final = re.compile(r"\{reading (\?\d+) (\?\d+)\}")
# A statement that is asked often is planned once, for any span. To look each slot's readings up is then reckoned
# dearer than to read the whole span and compare every reading with every slot: a year's chart took five seconds for
# a tenth of one. OFFSET 0 leaves the planner no such choice; the span is for the months it need not think of.
_FOUND_BY_SLOT: Final = (
    r"LATERAL (SELECT * FROM reading WHERE bucket = slot.bucket AND series = s.id "
    r"AND bucket >= \1 AND bucket <= \2 OFFSET 0) r"
)


@cache
def statement(sql: str) -> str:
    """Fill in how this engine counts arguments, holds a value, as number or text, takes a list, and looks up."""
    return (
        _READING_AT_SLOT.sub(_FOUND_BY_SLOT, sql)
        .replace("?", "$")
        .replace("{value}", "r.number, r.text")
        .replace("{other}", "c.number, c.text")
        .replace("{returned}", "number, text")
        .replace(
            "{differs}",
            "r.number IS DISTINCT FROM given.number OR r.text IS DISTINCT FROM given.text",
        )
        .replace("{number}", "r.number")
        .replace("{slots}", "unnest(('{' || $3 || '}')::int[]) AS slot (bucket)")
    )
