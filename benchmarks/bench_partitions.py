"""Readings by month in PostgreSQL: what partitions cost the stream, and what they save when a month goes.

    python -m benchmarks.bench_partitions [--months 24] [--interval 7200] [--repeats 5]

Two stores with the same readings, twelve registers of 500 meters: one where all of them lie in one partition, as
an older program left them and this one attached them, and one by month. In each: commits of what comes next,
30 days of one register, a meter's latest values; then the oldest month removed, which is rows in the one and a
table in the other. One JSON line a case. Every two hours for two years are 53 million readings and 5 GB, twice.

On a server of its own, or on one whose databases may be made and dropped: OPENAMI_BENCH_POSTGRES=postgresql://….
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.bench_store import CODES, FEEDER, METERS, Village, committed, say, serial
from benchmarks.postgres_server import database, postgres_server
from openami.headend.store import Access
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.identity import BUCKET_MS, to_ms
from openami.headend.store.migrations import SCHEMA, migrations
from openami.headend.store.months import (
    FIRST_BUCKET,
    LAST_BUCKET,
    buckets_of,
    midnight_of,
    month_of,
)
from openami.headend.store.plan import unit_digest
from openami.headend.store.postgres import PostgresStore, open_postgres

END = datetime(2026, 6, 1, tzinfo=UTC)
BATCH = 500
ENVELOPES = 10_000
PAGES = 5
REMOVALS = 3
_FILL = """
INSERT INTO reading (bucket, series, ms, number, flags, lag_ms)
SELECT (ms + $4::int8 / 2) / $4, s.id, (ms + $4 / 2) % $4 - $4 / 2 + s.id % 1000, (ms / 1000) % 9999, 0, 1500
FROM generate_series($1::int8, $2::int8 - 1, $3::int8) ms CROSS JOIN series s ORDER BY ms, s.id
"""


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    import asyncpg

    connection = await asyncpg.connect(url, server_settings={"search_path": "openami"})
    try:
        yield connection
    finally:
        await connection.close()


def schema_before(folder: Path) -> Path:
    """Return the schema of a program that had no months."""
    for step in migrations(SCHEMA / "postgres"):
        if "retention" in step.name:
            return folder
        (folder / step.name).write_text(step.script)
    raise AssertionError("there is no such step")


async def filled(url: str, schema: Path, months: int, interval_s: int) -> None:
    """Make a store of some schema and lay down its readings, month by month."""
    first = month_of(END) - months
    async with open_postgres(url, Access.OWN, schema=schema) as store, connected(url) as connection:
        await connection.executemany(
            "INSERT INTO series (feeder_id, meter_serial, obis, unit) VALUES ($1, $2, $3, 1)",
            [(FEEDER, serial(meter), str(code)) for meter in range(METERS) for code in CODES],
        )
        await connection.execute(
            "INSERT INTO unit (digest, text) VALUES ($1, 'kWh')", unit_digest("kWh")
        )
        for month in range(first, first + months):
            if schema == SCHEMA / "postgres":
                await store.make_months(midnight_of(month))
            begin, end = (to_ms(midnight_of(each)) for each in (month, month + 1))
            await connection.execute(_FILL, begin, end, interval_s * 1000, BUCKET_MS)
        await connection.execute("VACUUM ANALYZE")


async def timed(work: Callable[[], Awaitable[Any]]) -> float:
    began = time.perf_counter()
    await work()
    return (time.perf_counter() - began) * 1000


async def asked(store: HeadEndStore, meter: int) -> dict[str, dict[str, float]]:
    """Return what 30 days of one register and a meter's latest values take."""
    since = END - timedelta(days=45)
    until = since + timedelta(days=30)

    async def month() -> None:
        told = store.readings(FEEDER, serial(meter), obis=CODES[0], since=since, until=until)
        assert [reading async for reading in told]

    return {
        "30 days of one register": {"ms": await timed(month)},
        "latest of one meter": {"ms": await timed(lambda: store.latest(FEEDER, serial(meter)))},
    }


async def removed(url: str, store: HeadEndStore, month: int) -> dict[str, float]:
    """Remove everything up to a month; return how long that took, with the vacuum that rows leave to do."""
    last = buckets_of(month)[-1]
    readings = await store.readings_in(FIRST_BUCKET, last)
    longest, began = 0.0, time.perf_counter()
    while True:
        step_began = time.perf_counter()
        if not await store.remove_some(FIRST_BUCKET, last):
            break
        longest = max(longest, time.perf_counter() - step_began)
    took = time.perf_counter() - began
    async with connected(url) as connection:
        vacuum_ms = await timed(lambda: connection.execute("VACUUM reading"))
    return {
        "readings": readings,
        "s": took,
        "longest_step_s": longest,
        "vacuum_s": vacuum_ms / 1000,
    }


async def measure(arguments: argparse.Namespace, urls: Sequence[str], schema: Path) -> None:
    """Fill both, bring the old one up to date, then ask and remove in turn: a neighbour disturbs both."""
    first = month_of(END) - arguments.months
    async with AsyncExitStack() as opened:
        stores: list[tuple[str, PostgresStore, dict[str, Any]]] = []
        for url, way in zip(urls, (schema, SCHEMA / "postgres"), strict=True):
            await filled(url, way, arguments.months, arguments.interval)
            began = time.perf_counter()
            store = await opened.enter_async_context(open_postgres(url, Access.OWN))
            took = {"s": time.perf_counter() - began}
            parts = len(await store.partitions())
            readings = await store.readings_in(FIRST_BUCKET, LAST_BUCKET)
            case = {"partitions": parts, "readings": readings}
            if way is schema:
                say({"case": "brought up to date", **case}, [took])
            await store.make_months(END)
            stores.append((url, store, case))
        samples: dict[tuple[int, str], list[dict[str, float]]] = defaultdict(list)
        villages = [Village(900, END) for _ in stores]
        for repeat in range(arguments.repeats):
            for at, (_, store, _) in enumerate(stores):
                batches = villages[at].batches(BATCH, ENVELOPES)
                samples[at, "commit"].append(await committed(store, batches))
                for page in range(PAGES):
                    meter = (repeat * PAGES + page) * 7 % METERS
                    for name, took in (await asked(store, meter)).items():
                        samples[at, name].append(took)
        for repeat in range(REMOVALS):
            for at, (url, store, _) in enumerate(stores):
                gone = await removed(url, store, first + repeat)
                samples[at, "oldest month removed"].append(gone)
        for (at, name), taken in sorted(samples.items()):
            say({"case": name, **stores[at][2]}, taken)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--months", type=int, default=24)
    parser.add_argument("--interval", type=int, default=7200, help="seconds between readings")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with postgres_server() as server, tempfile.TemporaryDirectory() as folder:
        if server is None:
            sys.exit("PostgreSQL is not installed: apt install postgresql")
        with database(server) as one, database(server) as other:
            asyncio.run(measure(arguments, [one, other], schema_before(Path(folder))))


if __name__ == "__main__":
    main()
