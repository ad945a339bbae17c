"""The months of ``reading`` in PostgreSQL: a table for each, made before it is needed and dropped in one piece.

A month is made beside the table and attached, which lets readers and writers be: ``CREATE … PARTITION OF`` would
wait for a backup that takes hours, and everybody behind it. All of it is done in turn, whichever process does it
(decision 0074).
"""

# Statements are put together from this program's own words and numbers.
# ruff: noqa: S608

import re
from collections.abc import Collection, Iterable
from typing import Any, Final, NamedTuple

import asyncpg

from openami.headend.store.months import FIRST_BUCKET, LAST_BUCKET, buckets_of, month_name
from openami.headend.store.retaining import Partition

# Any number, the same in every head-end: one of them changes the list of months, the others wait.
PARTITION_LOCK: Final = 0x4F41504D
# Dropping waits for whoever reads the table, and everybody else behind it: a page takes less, a backup takes hours
# and is not waited for.
PARTITION_LOCK_WAIT_S: Final = 3

_BOUNDS: Final = (
    "SELECT c.oid, c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i "
    "JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'reading'::regclass"
)
_SIZES: Final = (
    "SELECT oid, reltuples::bigint, pg_total_relation_size(oid) FROM pg_class "
    "WHERE oid = ANY ($1::oid[])"
)
_bounds = re.compile(r"FOR VALUES FROM \('?([-\w]+)'?\) TO \('?([-\w]+)'?\)").fullmatch


class Bounds(NamedTuple):
    """Where a partition begins, and where it ends: the bucket after its last."""

    first: int
    end: int
    table: str
    oid: int


async def partitions(connection: Any) -> list[Partition]:
    """Return the partitions there are, in order of time, with their sizes."""
    known = await _known(connection)
    sizes = {
        oid: (rows, size)
        for oid, rows, size in await connection.fetch(_SIZES, [each.oid for each in known])
    }
    return [
        Partition(each.table, each.first, each.end - 1, *sizes[each.oid])
        for each in known
        if each.oid in sizes  # dropped between the two questions
    ]


async def make_months(connection: Any, months: Collection[int]) -> list[str]:
    """Make the months that no partition covers, in the transaction that is open; return the names of the tables."""
    await _in_turn(connection)
    known = await _known(connection)
    made = []
    for month in sorted(months):
        buckets = buckets_of(month)
        if any(each.first <= buckets.start and buckets.stop <= each.end for each in known):
            continue
        table = await _free_name(connection, month)
        await connection.execute(f"CREATE TABLE {table} (LIKE reading INCLUDING CONSTRAINTS)")
        await connection.execute(
            f"ALTER TABLE reading ATTACH PARTITION {table} "
            f"FOR VALUES FROM ({buckets.start}) TO ({_end(buckets)})"
        )
        made.append(table)
    return made


async def first_within(connection: Any, first: int, last: int) -> Bounds | None:
    """Return the earliest partition that lies wholly within buckets; from now on the transaction is in turn."""
    await _in_turn(connection)
    for each in await _known(connection):
        if each.end - 1 <= last and first <= await _begin(connection, each):
            return each
    return None


async def drop(connection: Any, partition: Bounds) -> int:
    """Drop a partition, in the transaction that is open; return how many readings it had, or about so many."""
    sql = "SELECT reltuples::bigint FROM pg_class WHERE oid = $1"
    readings = int(await connection.fetchval(sql, partition.oid))
    if readings < 0:  # small or new: the server looks at everything else within minutes
        sql = f"SELECT count(*) FROM {_quoted(partition.table)}"
        readings = int(await connection.fetchval(sql))
    await connection.execute(f"DROP TABLE {_quoted(partition.table)}")
    return readings


def is_of_no_month(error: asyncpg.CheckViolationError) -> bool:
    """Whether a row was refused because no partition takes it: no constraint of ours is named then."""
    return error.table_name == "reading" and error.constraint_name is None


async def _begin(connection: Any, each: Bounds) -> int:
    """Return where a partition begins; one without an edge, from before there were months, where its rows do."""
    if each.first > FIRST_BUCKET:
        return each.first
    found = await connection.fetchval(f"SELECT min(bucket) FROM {_quoted(each.table)}")
    return each.end if found is None else int(found)


async def _in_turn(connection: Any) -> None:
    await connection.execute(f"SET LOCAL lock_timeout = '{PARTITION_LOCK_WAIT_S}s'")
    await connection.execute("SELECT pg_advisory_xact_lock($1)", PARTITION_LOCK)


async def _known(connection: Any) -> list[Bounds]:
    return sorted(_read(await connection.fetch(_BOUNDS)))


def _read(rows: Iterable[tuple[int, str, str]]) -> Iterable[Bounds]:
    for oid, table, text in rows:
        if found := _bounds(text):  # a default partition, which somebody has made, covers nothing
            yield Bounds(_edge(found[1]), _edge(found[2]), table, oid)


def _end(buckets: range) -> str:
    return str(buckets.stop) if buckets.stop <= LAST_BUCKET else "MAXVALUE"


def _edge(text: str) -> int:
    return {"MINVALUE": FIRST_BUCKET, "MAXVALUE": LAST_BUCKET + 1}.get(text) or int(text)


async def _free_name(connection: Any, month: int) -> str:
    """Return a name for a month's table: another one where somebody has detached that month and keeps its table."""
    name = plain = f"reading_{month_name(month).replace('-', '_')}"
    number = 1
    while await connection.fetchval("SELECT to_regclass($1)", name) is not None:
        number += 1
        name = f"{plain}_{number}"
    return name


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
