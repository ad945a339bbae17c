"""The gateway's SQLite file: one owner, one thread, durable when a transaction returns.

What a power cut may not take is written here: the outbox, and whatever else the gateway must remember.
All parts share one file and one connection, and the connection lives on one thread that is ours, so the
event loop never waits for a disk and no two writers meet.

``synchronous=FULL`` is the whole point (decision 0011): in WAL mode NORMAL does not sync at a commit, and
a power cut takes rows that were already acknowledged. No kill -9 shows it, because the page cache
survives a process; only the setting itself can be checked, and it is, on every opening.
"""

import asyncio
import os
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager
from importlib import resources
from pathlib import Path
from typing import Final, TypeVar

from openami.private_files import sync_directory

# A person may look into the file with another program; ours waits for it this long.
BUSY_TIMEOUT_MS: Final = 5_000
# 2 MiB of pages: the hot ones are a handful, and the gateway's memory is bounded.
CACHE_KIB: Final = 2_048
# The write-ahead log is copied into the file after so many pages (4 MiB): the hot pages of a hundred
# poll cycles are then written once, which is what flash wear asks for.
WAL_PAGES: Final = 1_000

_APPLICATION_ID: Final = 0x4F414757  # "OAGW", set by the first schema file
_SYNCHRONOUS_FULL: Final = 2
_PRIMARY_CODE_MASK: Final = 0xFF
_schema_name = re.compile(r"(\d{4})_\w+\.sql").fullmatch

T = TypeVar("T")


class DatabaseError(Exception):
    """The gateway's database cannot be opened, read or written; what was asked has not happened.

    ``remedy`` says in one sentence what a person can do. ``permanent``: waiting will not help.
    """

    def __init__(self, message: str, *, remedy: str, permanent: bool) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.permanent = permanent


class Database:
    """The open file. Work is a function of the connection, run on the thread that owns it."""

    def __init__(
        self, path: Path, connection: sqlite3.Connection, executor: ThreadPoolExecutor
    ) -> None:
        self.path = path
        self._connection = connection
        self._executor = executor

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run work on the owned thread; it opens its own `transaction`. Raises DatabaseError.

        Cancelled while it runs, the work still ends: a commit is whole or not at all, and the caller
        does not learn which.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, work, self._connection)
        except sqlite3.Error as error:
            raise explained(error, self.path) from error


@asynccontextmanager
async def open_database(path: Path) -> AsyncIterator[Database]:
    """Open the file, make it if it is not there, bring its schema up to date.

    Raises DatabaseError: no such folder, not writable, not ours, corrupt, made by a newer program.
    """
    loop = asyncio.get_running_loop()
    # Shutting down waits for the thread: whatever was begun ends before the file is closed.
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="openami-database") as executor:
        connection = await loop.run_in_executor(executor, _open, path)
        try:
            yield Database(path, connection, executor)
        finally:
            # What a cancelled caller began is finished first; only then the file is closed.
            await loop.run_in_executor(executor, connection.close)


def _open(path: Path) -> sqlite3.Connection:
    try:
        # Readings are people's private data: the file is its owner's alone.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise _cannot_open(error, path) from None
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        _configure(connection, path)
        _migrate(connection, path)
        sync_directory(path.parent)
    except sqlite3.Error as error:
        connection.close()
        raise explained(error, path) from error
    except DatabaseError:
        connection.close()
        raise
    return connection


def _configure(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise DatabaseError(
            f"{path}: the file system there does not carry a write-ahead log",
            remedy="put the file on a local disk, not on a network share",
            permanent=True,
        )
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    connection.execute("PRAGMA temp_store = MEMORY")  # sorting needs no room on a full disk
    (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    assert synchronous == _SYNCHRONOUS_FULL


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Apply the schema files the database does not have yet, each with its number in one commit."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if (tables or version) and application != _APPLICATION_ID:
        raise DatabaseError(
            f"{path} is the database of another program",
            remedy="name another file in the configuration",
            permanent=True,
        )
    scripts = schema_files()
    newest = max(scripts)
    if version > newest:
        raise DatabaseError(
            f"{path} has schema {version}, this program knows schemas up to {newest}",
            remedy="a newer openami has written it: install that version, or name another file",
            permanent=True,
        )
    for number in range(version + 1, newest + 1):
        with closing(connection.cursor()) as cursor:
            try:
                cursor.executescript(
                    f"BEGIN IMMEDIATE; {scripts[number]}; PRAGMA user_version = {number}; COMMIT;"
                )
            except sqlite3.Error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise


def schema_files() -> dict[int, str]:
    """Return the schema's scripts by number: 1, 2, … without a gap."""
    scripts: dict[int, str] = {}
    for file in resources.files("openami.gateway").joinpath("schema").iterdir():
        if name := _schema_name(file.name):
            assert int(name[1]) not in scripts, f"two schema files have the number {name[1]}"
            scripts[int(name[1])] = file.read_text("utf-8")
    assert sorted(scripts) == list(range(1, len(scripts) + 1))
    return scripts


def _cannot_open(error: OSError, path: Path) -> DatabaseError:
    return DatabaseError(
        f"{path} cannot be opened for writing: {error.strerror}",
        remedy="make its folder, and give it to the user the gateway runs as",
        permanent=True,
    )


# What SQLite's primary result codes mean to a person: sentence, remedy, permanent.
_EXPLANATIONS: Final = {
    sqlite3.SQLITE_FULL: (
        "the disk is full",
        "free some space: the gateway goes on by itself, and what it has stored is safe",
        False,
    ),
    sqlite3.SQLITE_IOERR: (
        "the disk failed",
        "look for disk errors in the kernel's log (dmesg); a worn memory card must be replaced",
        False,
    ),
    sqlite3.SQLITE_BUSY: (
        "another program holds the database",
        "close the other program; two gateways must not share one file",
        False,
    ),
    sqlite3.SQLITE_READONLY: (
        "the database may only be read",
        "mount the disk writable and give the file to the user the gateway runs as",
        True,
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "the database cannot be opened",
        "look at the rights of its folder: files beside it must be writable too",
        True,
    ),
    sqlite3.SQLITE_CORRUPT: (
        "the database is damaged",
        "stop the gateway, keep the file for `sqlite3 FILE .recover`, and start with another",
        True,
    ),
    sqlite3.SQLITE_NOTADB: (
        "the file is not a SQLite database",
        "name another file in the configuration",
        True,
    ),
}


@contextmanager
def read_only(file: Path) -> Iterator[sqlite3.Connection]:
    """Open a gateway's file to look into it, as of one moment, while the gateway runs or after it has stopped.

    Raises DatabaseError, also for what goes wrong within.
    """
    try:
        uri = f"{file.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            yield connection
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            raise DatabaseError(
                f"{file} is not a gateway's outbox",
                remedy="is data_dir the right one?",
                permanent=True,
            ) from None
        raise explained(error, file) from error
    except sqlite3.Error as error:
        raise explained(error, file) from error


def explained(error: sqlite3.Error, path: Path) -> Exception:
    """Return a DatabaseError for what the world did, and the error itself for what is our bug."""
    code = getattr(error, "sqlite_errorcode", None)
    known = None if code is None else _EXPLANATIONS.get(code & _PRIMARY_CODE_MASK)
    if known is None:
        return error
    sentence, remedy, permanent = known
    return DatabaseError(f"{path}: {sentence} ({error})", remedy=remedy, permanent=permanent)
