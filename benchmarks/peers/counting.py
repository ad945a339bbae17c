"""What has arrived in a contestant's store: asked cheaply on the way, exactly at the end."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing

from benchmarks.peers.contestants import REGISTERS, Kept
from openami.headend.store.open import path_of

Ask = Callable[[str], Awaitable[int]]

TABLES: Mapping[str, str] = {
    "postgres": """
CREATE TABLE raw (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload bytea NOT NULL);
CREATE TABLE fields (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                     ts text, feeder text, gateway text, meter text, seq bigint);
""",
    "sqlite": "CREATE TABLE raw (id integer PRIMARY KEY, payload blob NOT NULL);",
}
# The highest number is a look into an index, and a head-end keeps a tally; a count walks through the table, so
# only the last looks are counts. A head-end's readings come by threes, and what came twice is there once.
SOON: Mapping[Kept, str] = {
    Kept.RAW: "SELECT coalesce(max(id), 0) FROM raw",
    Kept.FIELDS: "SELECT coalesce(max(id), 0) FROM fields",
    Kept.READINGS: f"SELECT stored / {REGISTERS} FROM tally",
}
ROWS: Mapping[Kept, str] = {
    Kept.RAW: "SELECT count(*) FROM raw",
    Kept.FIELDS: "SELECT count(*) FROM fields",
    Kept.READINGS: f"SELECT count(*) / {REGISTERS} FROM reading",
}
DISTINCT: Mapping[Kept, str] = {
    Kept.RAW: "SELECT count(DISTINCT payload) FROM raw",
    Kept.FIELDS: "SELECT count(DISTINCT seq) FROM fields",
    Kept.READINGS: ROWS[Kept.READINGS],
}


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[Ask]:
    """Yield what answers a question to a store with a number; 0 while its tables are not there yet."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(path_of(url), isolation_level=None)) as file:

            async def ask_sqlite(sql: str) -> int:
                try:
                    return int(file.execute(sql).fetchone()[0])
                except sqlite3.OperationalError:
                    return 0

            yield ask_sqlite
        return
    import asyncpg

    connection = await asyncpg.connect(url, server_settings={"search_path": "openami, public"})

    async def ask_postgres(sql: str) -> int:
        try:
            return int(await connection.fetchval(sql))
        except asyncpg.UndefinedTableError:
            return 0

    try:
        yield ask_postgres
    finally:
        await connection.close()


async def prepare(url: str, engine: str) -> None:
    """Make the peers' tables."""
    if engine == "sqlite":
        with closing(sqlite3.connect(path_of(url))) as file:
            file.executescript(TABLES[engine])
        return
    import asyncpg

    connection = await asyncpg.connect(url)
    await connection.execute(TABLES[engine])
    await connection.close()
