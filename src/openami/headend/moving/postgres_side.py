"""A PostgreSQL store as source or target of a move: one transaction from the first row to the last."""

# Statements are put together from the database's own words; every value is bound.
# ruff: noqa: S608

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import asyncpg

from openami.headend.moving.rows import (
    Column,
    Kind,
    Layout,
    MoveError,
    Row,
    as_told,
    refuse_for_postgres,
)
from openami.headend.moving.side import BATCH_ROWS, NOT_MOVED, not_begun
from openami.headend.store import Access, StoreError
from openami.headend.store.marks import CREATE, Mark, refuse_marked
from openami.headend.store.migrations import SCHEMA, migrations, refuse_pending
from openami.headend.store.months import month_of_bucket
from openami.headend.store.open import open_store
from openami.headend.store.partitions import make_months
from openami.headend.store.postgres import (
    SCHEMA_LOCK,
    SCHEMA_NAME,
    SESSION,
    applied,
    marks,
)
from openami.headend.store.postgres_errors import explained, where
from openami.headend.store.postgres_servers import connect
from openami.headend.store.postgres_steps import carried_out
from openami.headend.store.steps import Steps
from openami.headend.store.tables import READING

# A commit takes milliseconds: who holds a table for longer is at work with the store.
LOCK_WAIT_S: Final = 10
# A session that was closed just now is still listed for some milliseconds; a head-end stays.
_LOOKS_MAX: Final = 20
_LOOK_S: Final = 0.1
# The server's own bounds are for statements of milliseconds; a table of a hundred million rows takes an hour.
_SETTINGS: Final = SESSION | {
    "application_name": "openami-move",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "lock_timeout": f"{LOCK_WAIT_S}s",
}
_KINDS: Final = {
    "smallint": Kind.WHOLE,
    "integer": Kind.WHOLE,
    "bigint": Kind.WHOLE,
    "double precision": Kind.REAL,
    "text": Kind.TEXT,
    "bytea": Kind.BYTES,
}
_BITS: Final = {"smallint": 16, "integer": 32, "bigint": 64}
_COLUMNS: Final = (
    "SELECT c.relname, a.attname, format_type(a.atttypid, NULL), a.attidentity <> '', "
    "coalesce(a.attnum = ANY (i.indkey), false) "
    "FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
    "LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary "
    "WHERE c.relnamespace = to_regnamespace($1) AND c.relkind IN ('r', 'p') AND NOT c.relispartition "
    'ORDER BY c.relname COLLATE "C", a.attnum'
)
# Readers do no harm, but whether a session only reads, the server does not tell.
_AT_WORK: Final = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name = $1"
)


def place(url: str) -> str:
    """Return how a store is called in another one's mark."""
    return where(url)


@asynccontextmanager
async def held_source(url: str) -> AsyncIterator["PostgresSide"]:
    """Hold a store so that nobody writes it: no head-end is connected, and every table is locked for writers.

    Raises StoreError; nothing in it is changed but by `PostgresSide.mark_moved`.
    """
    async with _connected(url) as connection:
        with explained(url):
            await _refuse_unready(connection, url)
            tables = dict.fromkeys(table for table, *_ in await _columns(connection))
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            # The transaction sees what is there at its first query, so it has the locks before.
            await connection.execute(f"LOCK TABLE {', '.join(tables)} IN SHARE MODE")
            found = await marks(connection)
            refuse_marked(found, where=where(url), despite=(Mark.MOVED,))
        yield PostgresSide(connection, url, moved=found.get(Mark.MOVED))


@asynccontextmanager
async def begun_target(
    url: str, *, begun_at: str, only_again: bool
) -> AsyncIterator["PostgresSide"]:
    """Make an empty store that is marked as unfinished, or take one that was begun before.

    ``only_again``: take none that was not. Raises MoveError and StoreError.
    """
    async with _connected(url) as connection:
        with explained(url):
            await _begin(connection, url, begun_at, only_again=only_again)
        async with open_store(url, Access.OWN, despite=(Mark.UNFINISHED,)):
            pass
        with explained(url):
            await connection.execute("BEGIN")
            try:
                await connection.execute(f"LOCK TABLE {Mark.UNFINISHED} IN EXCLUSIVE MODE")
            except (asyncpg.LockNotAvailableError, asyncpg.UndefinedTableError):
                raise MoveError(
                    f"another move into {where(url)} is at work", remedy="wait for its end"
                ) from None
        yield PostgresSide(connection, url, moved=None)


async def _begin(connection: Any, url: str, begun_at: str, *, only_again: bool) -> None:
    """Make the mark before everything else: what is left of an interrupted move is no head-end's store."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", SCHEMA_LOCK)
        if Mark.UNFINISHED in await marks(connection):
            return
        if only_again:
            raise not_begun(where(url))
        if await connection.fetch(_COLUMNS, SCHEMA_NAME):
            raise MoveError(
                f"{where(url)} holds a store already, and a store is never overwritten",
                remedy="name an empty database (createdb NAME), or rename the schema: "
                f"ALTER SCHEMA {SCHEMA_NAME} RENAME TO …",
            )
        if await connection.fetchval("SELECT to_regnamespace($1)", SCHEMA_NAME) is None:
            await connection.execute(f"CREATE SCHEMA {SCHEMA_NAME}")
        await connection.execute(CREATE[Mark.UNFINISHED])
        await connection.execute(f"INSERT INTO {Mark.UNFINISHED} VALUES ($1)", begun_at)


async def _refuse_unready(connection: Any, url: str) -> None:
    schema = await applied(connection)
    if not schema:
        raise StoreError(
            f"{where(url)} holds no head-end's store",
            remedy="name the head-end's own --store",
            permanent=True,
        )
    refuse_pending(migrations(SCHEMA / "postgres"), schema, where=where(url))
    await _refuse_others(connection, url)


async def _refuse_others(connection: Any, url: str) -> None:
    """Raise StoreError while a head-end is connected; one that is just going is waited for."""
    for _ in range(_LOOKS_MAX):
        # Within a transaction the server would go on telling what it told first.
        await connection.execute("SELECT pg_stat_clear_snapshot()")
        if not await connection.fetchval(_AT_WORK, SESSION["application_name"]):
            return
        await asyncio.sleep(_LOOK_S)
    raise StoreError(
        f"somebody works with {where(url)}: a head-end, or a command",
        remedy="stop the head-end and end commands that use this store",
        permanent=True,
    )


async def _columns(connection: Any) -> list[tuple[str, str, str, bool, bool]]:
    found = await connection.fetch(_COLUMNS, SCHEMA_NAME)
    return [tuple(row) for row in found if row[0] not in NOT_MOVED]


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Any]:
    connection = await connect(url, server_settings=_SETTINGS)
    try:
        yield connection
    finally:
        connection.terminate()  # and what was not committed did not happen


class PostgresSide:
    """The open transaction; what is not committed at its end did not happen. See the port for what it promises."""

    def __init__(self, connection: Any, url: str, *, moved: Any) -> None:
        self.place = where(url)
        self.moved_to = None if moved is None else str(moved[0])
        self._connection = connection
        self._url = url
        self._bits: dict[str, dict[str, int]] = {}
        self._months: set[int] = set()
        """Those that are made."""

    async def layouts(self) -> list[Layout]:
        with explained(self._url):
            found = await _columns(self._connection)
        tables: dict[str, list[Column]] = {}
        for table, name, kind, _, in_key in found:
            tables.setdefault(table, []).append(Column(name, _KINDS[kind], in_key=in_key))
            if kind in _BITS:
                self._bits.setdefault(table, {})[name] = _BITS[kind]
        return [Layout.of(table, _joined(columns)) for table, columns in tables.items()]

    async def batches(self, layout: Layout) -> AsyncIterator[Sequence[Row]]:
        select = f"SELECT {', '.join(map(_read, layout.columns))} FROM {layout.table}"
        value = layout.place(Kind.VALUE)
        with explained(self._url):
            cursor = await self._connection.cursor(select)
            while found := await cursor.fetch(BATCH_ROWS):
                rows = [tuple(row) for row in found]
                if value is not None:
                    rows = [_one_value(row, value) for row in rows]
                yield as_told(layout, rows)

    async def clear(self, layout: Layout) -> None:
        with explained(self._url):
            await self._connection.execute(f"DELETE FROM {layout.table}")

    async def put(self, layout: Layout, rows: Sequence[Row]) -> None:
        value = layout.place(Kind.VALUE)
        names = [name for column in layout.columns for name in _written(column)]
        bits = self._bits.get(layout.table, {})
        records = rows
        if value is not None:
            if any(_is_rounded(row[value]) for row in rows):
                refuse_for_postgres(layout, rows, bits)
            records = [_two_values(row, value) for row in rows]
        if layout.table == READING.name:
            await self._make_months(layout, rows)
        try:
            with explained(self._url):
                await self._connection.copy_records_to_table(
                    layout.table, records=records, columns=names
                )
        except (StoreError, OverflowError):
            refuse_for_postgres(layout, rows, bits)
            raise

    async def _make_months(self, layout: Layout, rows: Sequence[Row]) -> None:
        """Make the partitions that readings need; there are none in a store that was just made."""
        at = layout.names.index("bucket")
        months = {month_of_bucket(cast(int, row[at])) for row in rows} - self._months
        if months:
            with explained(self._url):
                await make_months(self._connection, months)
            self._months |= months

    async def count_on(self) -> None:
        with explained(self._url):
            for table, name, _, counts, _ in await _columns(self._connection):
                if counts:
                    await self._connection.execute(
                        f"SELECT setval(pg_get_serial_sequence('{table}', '{name}'), max({name})) "
                        f"FROM {table} HAVING max({name}) IS NOT NULL"
                    )

    async def carry_out(self, steps: Callable[[], Steps[None]]) -> None:
        with explained(self._url):
            await carried_out(self._connection, steps())

    async def mark_moved(self, place: str, moved_at: str) -> None:
        with explained(self._url):
            await _refuse_others(self._connection, self._url)
            await self._connection.execute(CREATE[Mark.MOVED])
            await self._connection.execute(
                f"INSERT INTO {Mark.MOVED} VALUES ($1, $2)", place, moved_at
            )
            await self._connection.execute("COMMIT")

    async def commit(self) -> None:
        with explained(self._url):
            await self._connection.execute("COMMIT")


# --- a value is two columns here -----------------------------------------------------------------


def _joined(columns: Sequence[Column]) -> list[Column]:
    """Return a table's columns with ``number`` and ``text`` as the one value they are."""
    kinds = {column.name: column.kind for column in columns}
    if kinds.get("number") is not Kind.REAL or "text" not in kinds:
        return list(columns)
    rest = [column for column in columns if column.name not in {"number", "text"}]
    return [*rest, Column("value", Kind.VALUE)]


def _written(column: Column) -> tuple[str, ...]:
    return ("number", "text") if column.kind is Kind.VALUE else (column.name,)


def _read(column: Column) -> str:
    return ", ".join(_written(column))


def _one_value(row: Row, at: int) -> Row:
    number, text = row[at : at + 2]
    return (*row[:at], number if text is None else text, *row[at + 2 :])


def _is_rounded(value: object) -> bool:
    return isinstance(value, int) and float(value) != value


def _two_values(row: Row, at: int) -> Row:
    value = row[at]
    both = (None, value) if isinstance(value, str) else (value, None)
    return (*row[:at], *both, *row[at + 1 :])
