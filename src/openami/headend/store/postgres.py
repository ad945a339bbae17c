"""The store in PostgreSQL: the same port for operators who have a database server.

Durable: every session asks for ``synchronous_commit = on`` and makes sure that it has it. Writes go through
one connection, in turn; a connection that is lost takes its transaction with it, the caller is told, and the
next transaction connects anew, to whichever server is the primary then. Reads use a few connections of their own.
"""

# Statements are put together from this program's own words; every value is bound.
# ruff: noqa: S608

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import asyncpg

from openami.headend.audit import Entry
from openami.headend.ingest import Decision
from openami.headend.store import (
    REJECTED_KEPT_BYTES_MAX,
    Access,
    LeaseLost,
    StoreError,
    Tally,
    writing,
)
from openami.headend.store.directory import Directory
from openami.headend.store.every_ledger import EveryLedger
from openami.headend.store.identity import place, to_ms
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
from openami.headend.store.months import LAST_MONTH, month_of, month_of_bucket
from openami.headend.store.partitions import (
    drop,
    first_within,
    is_of_no_month,
    make_months,
    partitions,
)
from openami.headend.store.plan import Cell, envelopes_of
from openami.headend.store.postgres_errors import explained, not_replicated, where
from openami.headend.store.postgres_servers import CONNECT_TIMEOUT_S, Connection, connect
from openami.headend.store.postgres_steps import asked, carried_out, statement
from openami.headend.store.retaining import Partition, Removed
from openami.headend.store.retention_ledger import beginning_of, keep_latest
from openami.headend.store.steps import Row, Steps
from openami.headend.store.worker_ledger import held
from openami.headend.worker_life import Fence

# A year's chart takes a second. A minute is a server that is gone without saying so.
STATEMENT_TIMEOUT_S: Final = 60.0
# A statement that writes takes milliseconds. Half a minute is a server that is gone without saying so, and as long
# as Patroni waits before it elects another (ttl), or a lock held by somebody's forgotten session; the messages are
# with the broker meanwhile.
WRITE_TIMEOUT_S: Final = 30.0
# A step of the schema may read the whole table once: a terabyte at 50 MB/s takes six hours.
MIGRATION_TIMEOUT_S: Final = 12 * 3600.0
# To stop a statement and roll back takes milliseconds where the server answers; where it does not, the connection
# is given up, and the server notices by itself.
ROLLBACK_TIMEOUT_S: Final = 5.0
# Next month is needed next, and is there for four weeks before: so long a server that does not let us make tables
# is told of before any commit depends on it.
MONTHS_AHEAD: Final = 1
# A commit makes the months it lacks and is carried out anew; only somebody who drops one meanwhile makes that
# needed again.
COMMIT_TRIES_MAX: Final = 3
# Between two statements we reckon for milliseconds. Who says nothing for so long within a transaction was stopped,
# or is cut off, and would hold everybody else's rows.
SILENT_IN_TRANSACTION_S_MAX: Final = 5.0
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
_WRITES: Final = {
    "idle_in_transaction_session_timeout": f"{SILENT_IN_TRANSACTION_S_MAX:.0f}s",
}
_DURABLE: Final = {"on", "remote_apply"}
# What a connection says whose server is gone.
_GONE: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)

T = TypeVar("T")


@asynccontextmanager
async def open_postgres(
    url: str,
    access: Access,
    *,
    schema: Path = SCHEMA / "postgres",
    rejected_bytes_max: int = REJECTED_KEPT_BYTES_MAX,
    despite: Collection[Mark] = (),
    fence: Fence | None = None,
) -> AsyncIterator["PostgresStore"]:
    """Connect to a database; with access OWN, bring its schema up to date. Raises StoreError.

    ``despite``: marks that are no obstacle; with any other one, nothing but a reader opens it. ``fence``: nothing
    is written, and LeaseLost raised, once that slice is not held so any more.
    """
    store = PostgresStore(url, access, rejected_bytes_max, fence)
    try:
        await store.check(schema, despite=despite)
        yield store
    finally:
        await store.close()


async def _as_it_is(_: Connection) -> None:
    """Leave a reader's session be: a single question changes nothing in it, and undoing that is one more trip."""


class PostgresStore(EveryLedger):
    """A database on a server. See the port for what its methods promise."""

    def __init__(
        self, url: str, access: Access, rejected_bytes_max: int, fence: Fence | None = None
    ) -> None:
        self._url = url
        self._access = access
        self._fence = fence
        self._session = SESSION | (_READ_ONLY if access is Access.READ else _WRITES)
        self._rejected_bytes_max = rejected_bytes_max
        self._directory = Directory(folds=access is Access.OWN)
        self._turn = asyncio.Lock()
        self._writer: Connection | None = None
        self._readers: Connection | None = None
        self._warning = ""
        """The last one of the server's, where it came after the last statement of a transaction."""

    async def commit(self, batch: Sequence[Decision]) -> Tally:
        return await self._stored(
            batch,
            lambda: writing.commit(
                batch, self._directory, rejected_bytes_max=self._rejected_bytes_max
            ),
        )

    async def replay(
        self, reject_id: int, decision: Decision, entry: Callable[[Tally], Entry], now: datetime
    ) -> Tally:
        return await self._stored(
            [decision], lambda: writing.replay(reject_id, decision, self._directory, entry, now)
        )

    async def drop(self, reject_id: int, entry: Entry, now: datetime) -> bool:
        return await self._write(lambda: writing.drop(reject_id, entry, now))

    async def prune(self, now: datetime) -> int:
        return await self._write(
            lambda: writing.prune(now, rejected_bytes_max=self._rejected_bytes_max)
        )

    async def make_months(self, now: datetime) -> Sequence[str]:
        this = month_of(now.astimezone(UTC))
        return await self._made(range(this, min(this + MONTHS_AHEAD, LAST_MONTH) + 1))

    async def partitions(self) -> Sequence[Partition]:
        async with self._turn:
            with explained(self._url):
                return await partitions(await self._connected())

    async def remove_some(self, first: int, last: int) -> Removed:
        dropped = await self._transact(partial(_drop_one, first=first, last=last))
        return dropped or await super().remove_some(first, last)

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
                except _GONE:
                    open_one.terminate()

    async def _rows(self, sql: str, *arguments: Cell) -> list[Row]:
        with explained(self._url):
            if self._readers is None:
                # The pool connects when asked, so there is nothing to wait for between these lines.
                self._readers = asyncpg.create_pool(
                    self._url,
                    connect=partial(connect, reads=self._access is Access.READ),
                    min_size=0,
                    max_size=READERS_MAX,
                    reset=_as_it_is,
                    command_timeout=STATEMENT_TIMEOUT_S,
                    server_settings=self._session,
                )
            readers = await self._readers
            connection = await readers.acquire(timeout=STATEMENT_TIMEOUT_S)
            try:
                return await asked(connection, sql, arguments)
            finally:
                await readers.release(connection, timeout=ROLLBACK_TIMEOUT_S)

    async def _stored(self, batch: Sequence[Decision], steps: Callable[[], Steps[T]]) -> T:
        """Carry out steps that store readings; where a month has no partition yet, make it and begin anew."""
        for _ in range(COMMIT_TRIES_MAX):
            try:
                return await self._write(steps)
            except asyncpg.CheckViolationError as error:
                if not is_of_no_month(error):
                    raise
            moments = (to_ms(envelope.ts) for envelope in envelopes_of(batch))
            await self._made({month_of_bucket(place(ms)[0]) for ms in moments})
        raise StoreError(
            f"{where(self._url)}: months of readings go as fast as they are made",
            remedy="somebody drops or detaches partitions of openami.reading: let them end",
        )

    async def _made(self, months: Collection[int]) -> Sequence[str]:
        """Make the months that are not there. Raises StoreError, and never one that blames the readings."""
        try:
            return await self._transact(partial(make_months, months=months))
        except LeaseLost:
            raise
        except StoreError as error:
            raise StoreError(
                f"no room could be made for a month's readings: {error}", remedy=error.remedy
            ) from error

    async def _write(self, steps: Callable[[], Steps[T]]) -> T:
        return await self._transact(lambda connection: carried_out(connection, steps()))

    async def _transact(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Carry out work in one durable transaction, after what was asked for before."""
        committed = False
        async with self._turn:
            try:
                with explained(self._url):
                    connection = await self._connected()
                    done = await self._committed(connection, work)
                committed = True
            finally:
                if not committed:
                    self._directory.clear()
                    await self._taken_back()
        return done

    async def _committed(
        self, connection: Connection, work: Callable[[Connection], Awaitable[T]]
    ) -> T:
        try:
            await connection.execute("BEGIN")
            if self._fence is not None:
                await carried_out(connection, held(self._fence))
            done = await work(connection)
        except asyncpg.ReadOnlySQLTransactionError:
            connection.terminate()  # a primary no more: the next transaction looks for the new one
            raise
        self._warning = ""
        ended = await connection.execute("COMMIT")
        assert ended == "COMMIT", ended
        if self._warning:
            # The server says "committed" all the same when somebody has ended its wait for the standby.
            raise not_replicated(self._url, self._warning)
        return done

    async def _taken_back(self) -> None:
        """Roll back what is open; a server that does not answer to that is left, and rolls back by itself."""
        writer, settled = self._writer, False
        if writer is None or writer.is_closed():
            return
        try:
            async with asyncio.timeout(ROLLBACK_TIMEOUT_S):
                await writer.execute("ROLLBACK")
            settled = True
        except _GONE:
            pass  # what failed before is what the caller is told
        finally:
            if not settled:
                writer.terminate()

    async def _connected(self) -> Connection:
        if self._writer is None or self._writer.is_closed():
            self._directory.clear()  # the database may have been restored from a backup meanwhile
            if self._readers is not None:
                # Theirs may be the server that is frozen, or primary no more.
                await self._readers.expire_connections()
            self._writer = await connect(
                self._url,
                reads=self._access is Access.READ,
                command_timeout=WRITE_TIMEOUT_S,
                server_settings=self._session,
            )
            self._writer.add_log_listener(self._heed)
            durable = await self._writer.fetchval("SHOW synchronous_commit")
            assert durable in _DURABLE, durable
        return self._writer

    def _heed(self, _: Connection, message: Any) -> None:
        if message.severity_en == "WARNING":
            self._warning = str(message)


async def _drop_one(connection: Connection, first: int, last: int) -> Removed:
    """Drop the earliest month that lies wholly within buckets; nothing where there is none."""
    found = await first_within(connection, first, last)
    if found is None:
        return Removed()
    await carried_out(connection, keep_latest(found.first, beginning_of(found.end)))
    return Removed(readings=await drop(connection, found), tables=(found.table,))


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
            await connection.execute(step.script, timeout=MIGRATION_TIMEOUT_S)
            await connection.execute(statement(NOTE), step.number, step.name)


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
