"""The store in PostgreSQL: the same port for operators who have a database server.

Durable: every session asks for ``synchronous_commit = on`` and makes sure that it has it. Writes go through
one connection, in turn; a connection that is lost takes its transaction with it, the caller is told, and the
next transaction connects anew. Reads use a few connections of their own.
"""

# Statements are put together from this program's own words; every value is bound.
# ruff: noqa: S608

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import asyncpg

from openami.headend.audit import Entry
from openami.headend.ingest import Decision
from openami.headend.store import REJECTED_KEPT_BYTES_MAX, Access, StoreError, Tally, writing
from openami.headend.store.account_ledger import AccountLedger
from openami.headend.store.alarm_ledger import AlarmLedger
from openami.headend.store.arrivals import ArrivalQueries
from openami.headend.store.asset_ledger import AssetLedger
from openami.headend.store.bulk_ledger import BulkLedger
from openami.headend.store.closed_ledger import ClosedLedger
from openami.headend.store.count_queries import CountQueries
from openami.headend.store.directory import Directory
from openami.headend.store.energy_ledger import EnergyLedger
from openami.headend.store.gap_ledger import GapLedger
from openami.headend.store.ledger import Ledger
from openami.headend.store.marks import Found, Mark, refuse_marked
from openami.headend.store.migrations import (
    APPLIED,
    NOTE,
    NOTE_TABLE,
    SCHEMA,
    Migration,
    migrations,
    pending,
    refuse_pending,
)
from openami.headend.store.page_queries import Pages
from openami.headend.store.plan import Cell
from openami.headend.store.postgres_errors import explained, where, wrong_url
from openami.headend.store.queries import Queries
from openami.headend.store.settle_ledger import RestoreLedger
from openami.headend.store.steps import Ask, Change, Do, Insert, Look, Result, Row, Step, Steps
from openami.headend.store.tables import Columns, Given, Table, Type
from openami.headend.store.traffic import TrafficQueries
from openami.headend.store.waiting import WaitingQueries

# A server on another continent answers in one; a firewall that swallows packets never does.
CONNECT_TIMEOUT_S: Final = 10.0
# A commit takes milliseconds. A minute is a server that is gone without saying so, or a lock held by
# somebody's forgotten session; the messages are with the broker meanwhile.
STATEMENT_TIMEOUT_S: Final = 60.0
# Readers beside the writer: a page each, so a few serve many.
READERS_MAX: Final = 4
# Any number, the same in every head-end: one of them makes the schema, the others wait.
SCHEMA_LOCK: Final = 0x4F414845

# A schema of our own: `meter` and `unit` are words that other programs in the database use, too.
SCHEMA_NAME: Final = "openami"
# `jit` would compile for longer than our statements run.
SESSION: Final = {
    "application_name": "openami",
    "synchronous_commit": "on",
    "jit": "off",
    "search_path": SCHEMA_NAME,
}
_READ_ONLY: Final = {"default_transaction_read_only": "on"}
_DURABLE: Final = {"on", "remote_apply"}

T = TypeVar("T")
# asyncpg's own types of connection are generic in ways that say nothing here.
Connection = Any


@asynccontextmanager
async def open_postgres(
    url: str,
    access: Access,
    *,
    schema: Path = SCHEMA / "postgres",
    rejected_bytes_max: int = REJECTED_KEPT_BYTES_MAX,
    despite: Collection[Mark] = (),
) -> AsyncIterator["PostgresStore"]:
    """Connect to a database; with access OWN, bring its schema up to date. Raises StoreError.

    ``despite``: marks that are no obstacle; with any other one, nothing but a reader opens it.
    """
    store = PostgresStore(url, access, rejected_bytes_max)
    try:
        await store.check(schema, despite=despite)
        yield store
    finally:
        await store.close()


class PostgresStore(
    Queries,
    Ledger,
    GapLedger,
    AlarmLedger,
    WaitingQueries,
    AssetLedger,
    AccountLedger,
    EnergyLedger,
    CountQueries,
    Pages,
    TrafficQueries,
    ArrivalQueries,
    BulkLedger,
    ClosedLedger,
    RestoreLedger,
):
    """A database on a server. See the port for what its methods promise."""

    def __init__(self, url: str, access: Access, rejected_bytes_max: int) -> None:
        self._url = url
        self._access = access
        self._session = SESSION | (_READ_ONLY if access is Access.READ else {})
        self._rejected_bytes_max = rejected_bytes_max
        self._directory = Directory(folds=access is Access.OWN)
        self._turn = asyncio.Lock()
        self._writer: Connection | None = None
        self._readers: Connection | None = None

    async def commit(self, batch: Sequence[Decision]) -> Tally:
        return await self._write(
            lambda: writing.commit(
                batch, self._directory, rejected_bytes_max=self._rejected_bytes_max
            )
        )

    async def replay(
        self, reject_id: int, decision: Decision, entry: Callable[[Tally], Entry], now: datetime
    ) -> Tally:
        return await self._write(
            lambda: writing.replay(reject_id, decision, self._directory, entry, now)
        )

    async def drop(self, reject_id: int, entry: Entry, now: datetime) -> bool:
        return await self._write(lambda: writing.drop(reject_id, entry, now))

    async def prune(self, now: datetime) -> int:
        return await self._write(
            lambda: writing.prune(now, rejected_bytes_max=self._rejected_bytes_max)
        )

    async def check(self, schema: Path, *, despite: Collection[Mark] = ()) -> None:
        """Make sure the database is ours to use, and its schema this program's. Raises StoreError."""
        async with self._turn:
            with explained(self._url):
                connection = await self._connected()
                if self._access is not Access.READ:
                    await _refuse_what_forgets(connection, self._url)
                    found = await marks(connection)
                    refuse_marked(found, where=where(self._url), despite=despite)
                steps = migrations(schema)
                if self._access is Access.OWN:
                    await _migrate(connection, steps, where(self._url))
                else:
                    refuse_pending(steps, await applied(connection), where=where(self._url))

    async def close(self) -> None:
        """Give the connections back; a server that is gone is no obstacle."""
        for open_one in (self._writer, self._readers):
            if open_one is not None:
                try:
                    async with asyncio.timeout(CONNECT_TIMEOUT_S):
                        await open_one.close()
                except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    open_one.terminate()

    async def _rows(self, sql: str, *arguments: Cell) -> list[Row]:
        with explained(self._url):
            if self._readers is None:
                # The pool connects when asked, so there is nothing to wait for between these lines.
                self._readers = asyncpg.create_pool(
                    self._url,
                    min_size=0,
                    max_size=READERS_MAX,
                    timeout=CONNECT_TIMEOUT_S,
                    command_timeout=STATEMENT_TIMEOUT_S,
                    server_settings=self._session,
                )
            readers = await self._readers
            async with readers.acquire(timeout=STATEMENT_TIMEOUT_S) as connection:
                return await _ask(connection, sql, arguments)

    async def _write(self, steps: Callable[[], Steps[T]]) -> T:
        """Carry out steps in one durable transaction, after those that were asked for before."""
        committed = False
        async with self._turn:
            try:
                with explained(self._url):
                    connection = await self._connected()
                    async with connection.transaction():
                        done = await carried_out(connection, steps())
                committed = True
            finally:
                if not committed:
                    self._directory.clear()
        return done

    async def _connected(self) -> Connection:
        if self._writer is None or self._writer.is_closed():
            self._directory.clear()  # the database may have been restored from a backup meanwhile
            try:
                self._writer = await asyncpg.connect(
                    self._url,
                    timeout=CONNECT_TIMEOUT_S,
                    command_timeout=STATEMENT_TIMEOUT_S,
                    server_settings=self._session,
                )
            except ValueError as error:  # so says the driver of a URL it cannot read
                raise wrong_url(error) from error
            durable = await self._writer.fetchval("SHOW synchronous_commit")
            assert durable in _DURABLE, durable
        return self._writer


# --- steps ---------------------------------------------------------------------------------------


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
            return await _ask(connection, sql, arguments)
        case Do(sql, arguments):
            return _count(await connection.execute(_statement(sql), *arguments))


async def _ask(connection: Connection, sql: str, arguments: Sequence[Cell]) -> list[Row]:
    return cast(list[Row], await connection.fetch(_statement(sql), *arguments))


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
        f"(SELECT * FROM unnest({_arguments(given.columns)})) {_statement(given.sql)}"
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


@cache
def _statement(sql: str) -> str:
    """Fill in how this engine counts arguments and holds a value: as a number or a text."""
    return (
        sql.replace("?", "$")
        .replace("{value}", "r.number, r.text")
        .replace("{other}", "c.number, c.text")
        .replace("{returned}", "number, text")
        .replace(
            "{differs}",
            "r.number IS DISTINCT FROM given.number OR r.text IS DISTINCT FROM given.text",
        )
        .replace("{number}", "r.number")
    )


# --- opening -------------------------------------------------------------------------------------


async def _refuse_what_forgets(connection: Connection, url: str) -> None:
    if await connection.fetchval("SHOW fsync") != "on":
        raise StoreError(
            f"{where(url)} runs with fsync = off: a power cut would take what was acknowledged",
            remedy="set fsync = on in postgresql.conf and reload the server",
            permanent=True,
        )


async def _migrate(connection: Connection, steps: list[Migration], place: str) -> None:
    async with connection.transaction():
        # Two programs that start together: the second finds the work done.
        await connection.execute("SELECT pg_advisory_xact_lock($1)", SCHEMA_LOCK)
        # Asked first: IF NOT EXISTS wants the right to make schemas even where there is nothing to make.
        if await connection.fetchval("SELECT to_regnamespace($1)", SCHEMA_NAME) is None:
            await connection.execute(f"CREATE SCHEMA {SCHEMA_NAME}")
        for step in pending(steps, await applied(connection), where=place):
            if step.number == 1:
                await connection.execute(NOTE_TABLE)
            await connection.execute(step.script)
            await connection.execute(_statement(NOTE), step.number, step.name)


async def marks(connection: Connection) -> Found:
    """Return the marks of a store."""
    return {
        mark: await connection.fetchrow(f"SELECT * FROM {mark}")
        for mark in Mark
        if await connection.fetchval("SELECT to_regclass($1)", mark) is not None
    }


async def applied(connection: Connection) -> int:
    """Return the number of the store's schema, 0 where there is none."""
    if await connection.fetchval("SELECT to_regclass('migration')") is None:
        return 0
    return int(await connection.fetchval(APPLIED))
