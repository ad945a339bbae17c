"""A SQLite store as source or target of a move: one transaction from the first row to the last."""

# Statements are put together from the database's own words; every value is bound.
# ruff: noqa: S608

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from openami.headend.backups.making import refuse_root
from openami.headend.backups.sqlite_copy import refuse_live
from openami.headend.moving.rows import (
    Column,
    Kind,
    Layout,
    MoveError,
    Row,
    as_told,
    refuse_for_sqlite,
)
from openami.headend.moving.side import BATCH_ROWS, NOT_MOVED, not_begun
from openami.headend.store import Access
from openami.headend.store.marks import CREATE, Mark, refuse_marked
from openami.headend.store.open import open_store, path_of
from openami.headend.store.sqlite import (
    APPLICATION_ID,
    BUSY_TIMEOUT_S,
    FILE_MODE,
    carried_out,
    locked,
    marks,
)
from openami.headend.store.sqlite_errors import cannot_write, explained
from openami.headend.store.steps import Steps

# Readings come in the order of their key, so few pages are written at a time.
_CACHE_KIB: Final = 64 * 1024
_KINDS: Final = {
    "INTEGER": Kind.WHOLE,
    "REAL": Kind.REAL,
    "TEXT": Kind.TEXT,
    "BLOB": Kind.BYTES,
    "ANY": Kind.VALUE,
}
_TABLES: Final = (
    "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
)


def place(url: str) -> str:
    """Return how a store is called in another one's mark."""
    return str(Path(path_of(url)).absolute())


@asynccontextmanager
async def held_source(url: str) -> AsyncIterator["SqliteSide"]:
    """Hold a store so that nobody writes it: no head-end runs on it, and commands wait.

    Raises StoreError; nothing in it is changed but by `SqliteSide.mark_moved`.
    """
    path = path_of(url)
    async with open_store(url, Access.READ):
        pass  # it is there, a head-end's, and of this program's schema
    with locked(path, Access.OWN), explained(path), closing(_connected(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("PRAGMA query_only = ON")
        found = marks(connection)
        refuse_marked(found, where=path, despite=(Mark.MOVED,))
        yield SqliteSide(connection, path, moved=found.get(Mark.MOVED))


@asynccontextmanager
async def begun_target(url: str, *, begun_at: str, only_again: bool) -> AsyncIterator["SqliteSide"]:
    """Make an empty store that is marked as unfinished, or take one that was begun before.

    ``only_again``: take none that was not. Raises MoveError, BackupError and StoreError.
    """
    path = path_of(url)
    with explained(path):
        _begin(path, begun_at, only_again=only_again)
        async with open_store(url, Access.OWN, despite=(Mark.UNFINISHED,)):
            pass
        with locked(path, Access.OWN), closing(_connected(path)) as connection:
            # Pages that a transaction adds need no undoing, so the journal stays small; the write-ahead log would
            # take the whole store once more.
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            connection.execute("BEGIN EXCLUSIVE")
            _refuse_unless_begun(connection, path)
            yield SqliteSide(connection, path, moved=None)


def _begin(path: str, begun_at: str, *, only_again: bool) -> None:
    """Make the file with its mark first: what a power cut leaves of it is no head-end's store."""
    file = Path(path).absolute()
    try:
        if not file.exists():
            if only_again:
                raise not_begun(path)
            refuse_root(file.parent)
            refuse_live(file)  # another one's log beside it would become its own
            file.touch(FILE_MODE)
    except OSError as error:
        raise cannot_write(error, path) from None
    with closing(_connected(path)) as connection:
        if not only_again and not file.stat().st_size:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(CREATE[Mark.UNFINISHED])
            connection.execute(f"INSERT INTO {Mark.UNFINISHED} VALUES (?)", (begun_at,))
            connection.execute("COMMIT")
        if only_again and Mark.UNFINISHED not in marks(connection):
            raise not_begun(path)
        _refuse_unless_begun(connection, path)


def _refuse_unless_begun(connection: sqlite3.Connection, path: str) -> None:
    if Mark.UNFINISHED not in marks(connection):
        raise MoveError(
            f"{path} is there: a store is never overwritten",
            remedy="name a file that is not there, or move that one away",
        )


def _connected(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(path)}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None
    )
    connection.execute("PRAGMA synchronous = FULL")
    return connection


class SqliteSide:
    """The open file; what is not committed at its end did not happen. See the port for what it promises."""

    def __init__(self, connection: sqlite3.Connection, path: str, *, moved: Row | None) -> None:
        self.place = str(Path(path).absolute())
        self.moved_to = None if moved is None else moved[0]
        self._connection = connection
        self._path = path

    async def layouts(self) -> list[Layout]:
        with explained(self._path):
            names = [name for (name,) in self._connection.execute(_TABLES) if name not in NOT_MOVED]
            return [self._layout(name) for name in names]

    def _layout(self, table: str) -> Layout:
        told = self._connection.execute(f'PRAGMA table_info("{table}")')
        return Layout.of(
            table, [Column(name, _KINDS[kind], in_key=key > 0) for _, name, kind, _, _, key in told]
        )

    async def batches(self, layout: Layout) -> AsyncIterator[Sequence[Row]]:
        with explained(self._path):
            try:
                cursor = self._connection.execute(
                    f"SELECT {', '.join(layout.names)} FROM {layout.table}"
                )
                while rows := cursor.fetchmany(BATCH_ROWS):
                    yield as_told(layout, rows)
            except sqlite3.OperationalError as error:
                if "decode" not in str(error):
                    raise
                raise MoveError(
                    f"table {layout.table}: a text in it is no UTF-8 ({error})",
                    remedy="no head-end writes that: mend the row in the source",
                ) from None

    async def clear(self, layout: Layout) -> None:
        with explained(self._path):
            self._connection.execute(f"DELETE FROM {layout.table}")

    async def put(self, layout: Layout, rows: Sequence[Row]) -> None:
        if layout.place(Kind.REAL) is not None:
            refuse_for_sqlite(
                layout, rows
            )  # in a column that may be empty it would be lost in silence
        places = ", ".join("?" * len(layout.columns))
        with explained(self._path):
            try:
                self._connection.executemany(
                    f"INSERT INTO {layout.table} ({', '.join(layout.names)}) VALUES ({places})",
                    rows,
                )
            except sqlite3.IntegrityError:
                refuse_for_sqlite(layout, rows)
                raise

    async def count_on(self) -> None:
        """Nothing: the next number is one more than the highest row's."""

    async def carry_out(self, steps: Callable[[], Steps[None]]) -> None:
        with explained(self._path):
            carried_out(self._connection, steps())

    async def mark_moved(self, place: str, moved_at: str) -> None:
        with explained(self._path):
            self._connection.execute("PRAGMA query_only = OFF")
            self._connection.execute(CREATE[Mark.MOVED])
            self._connection.execute(f"INSERT INTO {Mark.MOVED} VALUES (?, ?)", (place, moved_at))
            self._connection.execute("COMMIT")

    async def commit(self) -> None:
        with explained(self._path):
            self._connection.execute("COMMIT")
