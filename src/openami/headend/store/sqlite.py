"""The store in one SQLite file: the default, and enough for thousands of meters.

Durable: WAL with ``synchronous=FULL`` syncs at every commit; NORMAL would lose acknowledged readings in a
power cut, and no kill -9 shows it. All work runs on one thread that is ours, so the event loop never waits
for a disk.

Beside a running head-end others may read, and short commands may write: WAL lets readers be, and a writer
waits its turn. What must not be is a second head-end, which would take the same messages of the same
session: an advisory lock on a file beside the database tells. It goes with the process, however that ends.
"""

# Statements are put together from this program's own words; every value is bound.
# ruff: noqa: S608

import asyncio
import fcntl
import os
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

from openami.headend.audit import Entry
from openami.headend.ingest import Decision
from openami.headend.store import REJECTED_KEPT_BYTES_MAX, Access, StoreError, Tally, writing
from openami.headend.store.directory import Directory
from openami.headend.store.every_ledger import EveryLedger
from openami.headend.store.marks import Found, Mark, refuse_marked
from openami.headend.store.migrations import (
    APPLIED,
    NOTE,
    NOTE_TABLE,
    SCHEMA,
    migrations,
    pending,
    refuse_pending,
)
from openami.headend.store.plan import Cell
from openami.headend.store.sqlite_errors import cannot_write, explained
from openami.headend.store.steps import Ask, Change, Do, Insert, Look, Result, Row, Step, Steps
from openami.headend.store.tables import Columns, Given, Table

# A command beside the head-end waits for a commit of a thousand messages, and the head-end for a command:
# milliseconds. Ten seconds of a locked file is somebody's open editor.
BUSY_TIMEOUT_S: Final = 10.0
# Rows in one statement. Python's interpreter lock is let go at every statement and must be won back; one
# row at a time under a busy event loop was measured ten times slower than some hundreds.
STATEMENT_ROWS_MAX: Final = 512
# Each of a dozen tables in ten sizes, 1, 2, 4 … 512 rows.
STATEMENTS_CACHED_MAX: Final = 256
# Pages in the log before they are carried into the file, 16 MiB: at SQLite's thousand every commit of a busy
# stream would, with two more syncs of the disk, and carry the pages of the hours being written each time anew.
WAL_PAGES_BEFORE_CHECKPOINT: Final = 4_000
# Left on disk after a burst; a reader who took his time may have let it grow.
WAL_BYTES_MAX: Final = 64 * 1024 * 1024
# Pages in memory: the four hours that are being written stay at hand.
CACHE_KIB: Final = 32 * 1024

# Readings are people's private data: the head-end's user writes them, its group may read.
FILE_MODE: Final = 0o640
APPLICATION_ID: Final = 0x4F414845  # "OAHE", set by the first migration
_SYNCHRONOUS_FULL: Final = 2
_MODE: Final = {Access.OWN: "rwc", Access.EDIT: "rw", Access.READ: "ro"}

T = TypeVar("T")


@asynccontextmanager
async def open_sqlite(
    path: str,
    access: Access,
    *,
    schema: Path = SCHEMA / "sqlite",
    rejected_bytes_max: int = REJECTED_KEPT_BYTES_MAX,
    despite: Collection[Mark] = (),
) -> AsyncIterator["SqliteStore"]:
    """Open a database file; with access OWN, make it, lock it and bring its schema up to date.

    ``despite``: marks that are no obstacle; with any other one, nothing but a reader opens it. Raises StoreError.
    """
    loop = asyncio.get_running_loop()
    with locked(path, access), ThreadPoolExecutor(1, "openami-store") as thread:
        connection = await loop.run_in_executor(thread, _open, path, access, schema, despite)
        try:
            yield SqliteStore(connection, thread, path, access, rejected_bytes_max)
        finally:
            # What a cancelled caller began is finished first; only then the file is closed.
            await loop.run_in_executor(thread, connection.close)


class SqliteStore(EveryLedger):
    """The open file. See the port for what its methods promise."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        thread: ThreadPoolExecutor,
        path: str,
        access: Access,
        rejected_bytes_max: int,
    ) -> None:
        self._connection = connection
        self._thread = thread
        self._path = path
        self._rejected_bytes_max = rejected_bytes_max
        self._directory = Directory(folds=access is Access.OWN)
        self._file = _identity(path)

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

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run work on the thread that owns the connection. Raises StoreError."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._worked, work)

    def _worked(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with explained(self._path):
            return work(self._connection)

    async def _rows(self, sql: str, *arguments: Cell) -> list[Row]:
        return await self.run(lambda connection: _ask(connection, sql, arguments))

    async def _write(self, steps: Callable[[], Steps[T]]) -> T:
        return await self.run(lambda connection: self._transact(connection, steps()))

    def _transact(self, connection: sqlite3.Connection, steps: Steps[T]) -> T:
        """Carry out steps in one durable transaction."""
        committed = False
        try:
            self._refuse_to_write_nowhere()
            with _transaction(connection):
                done = carried_out(connection, steps)
            committed = True
        finally:
            if not committed:
                self._directory.clear()
        return done

    def _refuse_to_write_nowhere(self) -> None:
        """Raise StoreError if the name no longer leads to the open file.

        SQLite goes on with a file that was deleted or moved away, and what it commits is gone with it.
        """
        if _identity(self._path) != self._file:
            raise StoreError(
                f"{self._path} was deleted, moved or replaced while it was open",
                remedy="stop the head-end before a backup is restored; start it again now",
                permanent=True,
            )


def _identity(path: str) -> tuple[int, int] | None:
    """Return which file a name leads to, if any."""
    try:
        found = os.stat(path)  # noqa: PTH116 – a microsecond, once for each commit
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One transaction: committed and synced at the end, or nothing of it happened."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:  # a full disk makes SQLite roll back by itself
            connection.execute("ROLLBACK")


# --- steps ---------------------------------------------------------------------------------------


def carried_out(connection: sqlite3.Connection, steps: Steps[T]) -> T:
    """Carry out steps in the transaction that is open."""
    try:
        step = next(steps)
        while True:
            step = steps.send(_done(connection, step))
    except StopIteration as end:
        done: T = end.value
        return done


def _done(connection: sqlite3.Connection, step: Step) -> Result:
    match step:
        case Insert(table, cells):
            portions = _portions(cells, table.width)
            return sum(
                connection.execute(_insert(table, rows), part).rowcount for rows, part in portions
            )
        case Change(given, cells):
            # The driver counts no rows of a statement that begins with WITH.
            before = connection.total_changes
            for rows, part in _portions(cells, given.width):
                connection.execute(_given(given, rows), part)
            return connection.total_changes - before
        case Look(given, cells):
            portions = _portions(cells, given.width)
            return [
                row
                for rows, part in portions
                for row in connection.execute(_given(given, rows), part)
            ]
        case Ask(sql, arguments):
            return _ask(connection, sql, arguments)
        case Do(sql, arguments):
            return connection.execute(sql, arguments).rowcount


def _ask(connection: sqlite3.Connection, sql: str, arguments: Sequence[Cell]) -> list[Row]:
    return connection.execute(_with_values(sql), arguments).fetchall()


def _portions(cells: Sequence[Cell], width: int) -> Iterator[tuple[int, Sequence[Cell]]]:
    """Cut rows into powers of two, so that ten statements of each kind serve every number."""
    at, left = 0, len(cells) // width
    while left:
        rows = min(STATEMENT_ROWS_MAX, 1 << (left.bit_length() - 1))
        yield rows, cells[at : at + rows * width]
        at += rows * width
        left -= rows


@cache
def _insert(table: Table, rows: int) -> str:
    return (
        f"INSERT INTO {table.name} ({_names(table.columns)}) "
        f"VALUES {_places(table.width, rows)} ON CONFLICT ({', '.join(table.key)}) {table.then}"
    )


@cache
def _given(given: Given, rows: int) -> str:
    return (
        f"WITH given ({_names(given.columns)}) AS (VALUES {_places(given.width, rows)}) "
        + _with_values(given.sql)
    )


def _names(columns: Columns) -> str:
    return ", ".join(name for name, _ in columns)


def _places(width: int, rows: int) -> str:
    return ",".join(["(" + ",".join("?" * width) + ")"] * rows)


# It takes joins in the order they are written in.
_READING_AT_SLOT: Final = re.compile(r"\{reading \?\d+ \?\d+\}")


def _with_values(sql: str) -> str:
    """Fill in how this engine holds a value, one column, which may be text, and takes a list: as JSON."""
    return (
        _READING_AT_SLOT.sub("reading r", sql)
        .replace("{value}", "r.value, NULL")
        .replace("{other}", "c.value, NULL")
        .replace("{returned}", "value, NULL")
        .replace("{differs}", "r.value <> given.value")
        .replace("{number}", "r.value")
        .replace("{slots}", "(SELECT value AS bucket FROM json_each('[' || ?3 || ']')) AS slot")
    )


# --- opening -------------------------------------------------------------------------------------


@contextmanager
def locked(path: str, access: Access) -> Iterator[None]:
    """Hold the head-end's lock; others need none. Raises StoreError while a head-end holds it."""
    if access is not Access.OWN:
        yield
        return
    try:
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        raise cannot_write(error, path) from None
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"another head-end (process {file.read(20).strip() or 'unknown'}) has {path} open",
                remedy="stop it first, or give this one a store of its own; "
                "`openami reject` and `openami meter` work beside a running head-end",
                permanent=True,
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        _make_file(path)
        yield


def _make_file(path: str) -> None:
    """Make the file with its rights, if it is not there."""
    # Never opened and closed when it is: that would drop the locks SQLite holds on it in this process.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))


def _open(path: str, access: Access, schema: Path, despite: Collection[Mark]) -> sqlite3.Connection:
    if access is not Access.OWN and not Path(path).exists():
        raise StoreError(
            f"there is no store at {path}",
            remedy="is the head-end running with this --store, and in this directory?",
            permanent=True,
        )
    with explained(path), ExitStack() as opening:
        connection = sqlite3.connect(
            f"file:{quote(path)}?mode={_MODE[access]}",
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            cached_statements=STATEMENTS_CACHED_MAX,
        )
        opening.callback(connection.close)
        _refuse_foreign(connection, path, made_here=access is Access.OWN)
        if access is not Access.READ:
            refuse_marked(marks(connection), where=path, despite=despite)
            _make_durable(connection, path)
        _migrate(connection, path, access, schema)
        opening.pop_all()
    return connection


def _make_durable(connection: sqlite3.Connection, path: str) -> None:
    connection.execute("PRAGMA synchronous = FULL")
    (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    assert synchronous == _SYNCHRONOUS_FULL
    connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES_BEFORE_CHECKPOINT}")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    connection.execute("PRAGMA temp_store = MEMORY")  # sorting needs no room on a full disk
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreError(
            f"{path}: the file system there does not carry a write-ahead log",
            remedy="put the store on a local disk, not on a network share",
            permanent=True,
        )


def _refuse_foreign(connection: sqlite3.Connection, path: str, *, made_here: bool) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (things,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    is_new = made_here and not things
    if application != APPLICATION_ID and not is_new:
        raise StoreError(
            f"{path} is not a head-end's store",
            remedy="name another file: this one belongs to another program, or is empty",
            permanent=True,
        )


def _migrate(connection: sqlite3.Connection, path: str, access: Access, schema: Path) -> None:
    steps = migrations(schema)
    if access is not Access.OWN:
        refuse_pending(steps, _applied(connection), where=path)
        return
    for step in pending(steps, _applied(connection), where=path):
        with _transaction(connection):
            if step.number == 1:
                connection.execute(NOTE_TABLE)
            for statement in _statements(step.script):
                connection.execute(statement)
            connection.execute(NOTE, (step.number, step.name))


def _applied(connection: sqlite3.Connection) -> int:
    if not _has_table(connection, "migration"):
        return 0
    (number,) = connection.execute(APPLIED).fetchone()
    return int(number)


def marks(connection: sqlite3.Connection) -> Found:
    """Return the marks of a store."""
    return {
        mark: connection.execute(f"SELECT * FROM {mark}").fetchone()
        for mark in Mark
        if _has_table(connection, mark)
    }


def _has_table(connection: sqlite3.Connection, name: str) -> bool:
    (count,) = connection.execute(
        "SELECT count(*) FROM sqlite_schema WHERE name = ?", (name,)
    ).fetchone()
    return bool(count)


def _statements(script: str) -> Iterator[str]:
    """Cut a script into statements: the driver's executescript would commit before the first."""
    statement = ""
    *pieces, rest = script.split(";")
    assert not rest.strip(), f"a statement without an end: {rest[:80]!r}"
    for piece in pieces:
        statement += f"{piece};"
        if sqlite3.complete_statement(statement):  # and not within a text, a comment or a trigger
            yield statement
            statement = ""
    assert not statement, f"a statement without an end: {statement[:80]!r}"
