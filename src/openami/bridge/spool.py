"""The spool: what has been translated and not yet been acknowledged by the operator's broker.

Durable when `append` returns, one SQLite file with ``synchronous=FULL`` (decision 0011). It is small on
purpose: no numbers, nothing kept after the PUBACK, for the firmware sends everything once and keeps nothing
itself (decision 0049). When it is full, the oldest readings go first, then the oldest events, and how many
went is counted in the file.
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from openami.sqlite_transaction import transaction

T = TypeVar("T")

# A person may look into the file with another program; ours waits for it this long.
BUSY_TIMEOUT_MS: Final = 5_000
# Deleted at once where room is needed: 70 kB, so that a full spool does not work for each message anew.
DROPPED_AT_ONCE: Final = 100

_SCHEMA_VERSION: Final = 1
_APPLICATION_ID: Final = 0x4F414252  # "OABR"
_SCHEMA: Final = f"""
CREATE TABLE message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    is_event INTEGER NOT NULL,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    not_before REAL NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX message_by_kind ON message (is_event, id);
CREATE TABLE dropped (is_event INTEGER PRIMARY KEY, messages INTEGER NOT NULL) STRICT;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_SCHEMA_VERSION};
"""


class SpoolError(Exception):
    """The spool cannot be opened, read or written; ``remedy`` says what a person can do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Draft:
    """A message to be published north."""

    is_event: bool
    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """A message that waits, with its number in the file."""

    id: int
    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Figures:
    """How much waits, and how much never will have been sent."""

    messages: int
    bytes: int
    refused: int
    dropped: int


class Spool:
    """The open file, on a thread of its own."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        executor: ThreadPoolExecutor,
        bytes_max: int,
    ) -> None:
        self.appended = asyncio.Event()
        """Set when something is new."""
        self._path = path
        self._connection = connection
        self._executor = executor
        self._bytes_max = bytes_max

    async def append(self, drafts: Sequence[Draft]) -> int:
        """Store them, and return how many others had to go for them. Raises SpoolError."""
        if not drafts:
            return 0
        dropped = await self._run(lambda connection: _append(connection, drafts, self._bytes_max))
        self.appended.set()
        return dropped

    async def due(self, now: datetime, at_most: int) -> list[Entry]:
        """Return what is to be sent, oldest first. Raises SpoolError."""
        return await self._run(lambda connection: _due(connection, now.timestamp(), at_most))

    async def forget(self, ids: Collection[int]) -> None:
        """Delete what the broker has acknowledged. Raises SpoolError."""
        await self._run(
            lambda connection: _each(connection, "DELETE FROM message WHERE id = ?", [], ids)
        )

    async def set_aside(self, ids: Collection[int], until: datetime) -> None:
        """Offer what the broker refused again later (decision 0027). Raises SpoolError."""
        statement = "UPDATE message SET not_before = ? WHERE id = ?"
        await self._run(lambda connection: _each(connection, statement, [until.timestamp()], ids))

    async def figures(self, now: datetime) -> Figures:
        """Return how it stands. Raises SpoolError."""
        return await self._run(lambda connection: _figures(connection, now.timestamp()))

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, work, self._connection)
        except sqlite3.Error as error:
            raise _explained(error, self._path) from error


@asynccontextmanager
async def open_spool(path: Path, *, bytes_max: int) -> AsyncIterator[Spool]:
    """Open the file, make it if it is not there. Raises SpoolError."""
    loop = asyncio.get_running_loop()
    # Shutting down waits for the thread: whatever was begun ends before the file is closed.
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="openami-spool") as executor:
        connection = await loop.run_in_executor(executor, _open, path)
        try:
            yield Spool(path, connection, executor, bytes_max)
        finally:
            await loop.run_in_executor(executor, connection.close)


def _open(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Readings are people's private data: the file is its owner's alone.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise SpoolError(
            f"{path}: {error.strerror}", "name a data_dir the bridge's user may write to"
        ) from None
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if not tables:
            connection.executescript(_SCHEMA)
        elif (application, version) != (_APPLICATION_ID, _SCHEMA_VERSION):
            raise SpoolError(
                f"{path} is not a bridge's file, or a later version's", "name another data_dir"
            )
    except sqlite3.Error as error:
        connection.close()
        raise _explained(error, path) from error
    except SpoolError:
        connection.close()
        raise
    return connection


def _explained(error: sqlite3.Error, path: Path) -> SpoolError:
    remedy = "make room on the disk" if "full" in str(error) else "look at the disk and its rights"
    return SpoolError(f"{path}: {error}", remedy)


def _append(connection: sqlite3.Connection, drafts: Sequence[Draft], bytes_max: int) -> int:
    with transaction(connection):
        connection.executemany(
            "INSERT INTO message (is_event, topic, payload) VALUES (?, ?, ?)",
            [(draft.is_event, draft.topic, draft.payload) for draft in drafts],
        )
        return _make_room(connection, bytes_max)


def _make_room(connection: sqlite3.Connection, bytes_max: int) -> int:
    """Delete the oldest readings, then the oldest events, until the rest fits."""
    dropped = 0
    while _bytes_used(connection) > bytes_max:
        rows = connection.execute(
            "DELETE FROM message WHERE id IN "
            "(SELECT id FROM message ORDER BY is_event, id LIMIT ?) RETURNING is_event",
            (DROPPED_AT_ONCE,),
        ).fetchall()
        if not rows:
            break
        connection.executemany(
            "INSERT INTO dropped VALUES (?, 1) "
            "ON CONFLICT (is_event) DO UPDATE SET messages = messages + 1",
            rows,
        )
        dropped += len(rows)
    return dropped


def _bytes_used(connection: sqlite3.Connection) -> int:
    """Return the bytes of the pages in use: what the rows take, without reading them."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int(size * (pages - free))


def _due(connection: sqlite3.Connection, now_s: float, at_most: int) -> list[Entry]:
    rows = connection.execute(
        "SELECT id, topic, payload FROM message WHERE not_before <= ? ORDER BY id LIMIT ?",
        (now_s, at_most),
    )
    return [Entry(*row) for row in rows]


def _each(
    connection: sqlite3.Connection, statement: str, values: Sequence[object], ids: Collection[int]
) -> None:
    with transaction(connection):
        connection.executemany(statement, [(*values, id_) for id_ in ids])


def _figures(connection: sqlite3.Connection, now_s: float) -> Figures:
    messages, refused = connection.execute(
        "SELECT count(*), coalesce(sum(not_before > ?), 0) FROM message", (now_s,)
    ).fetchone()
    (dropped,) = connection.execute("SELECT coalesce(sum(messages), 0) FROM dropped").fetchone()
    return Figures(messages, _bytes_used(connection), refused, dropped)
