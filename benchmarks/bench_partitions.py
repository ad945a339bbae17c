"""Readings by month in PostgreSQL: what partitions cost the stream, and what they save when a month goes.

    python -m benchmarks.bench_partitions [--months 24] [--interval 7200] [--repeats 5]

Two stores with the same readings, twelve registers of 500 meters: one where all of them lie in one partition, as
an older program left them and this one attached them, and one by month. In each: commits of what comes next,
30 days of one register, a meter's latest values; then the oldest month removed, which is rows in the one and a
table in the other. One JSON line a case. Every two hours for two years are 53 million readings and 5 GB, twice.

Name a server whose databases may be made and dropped, OPENAMI_BENCH_POSTGRES=postgresql://….
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.bench_ingest import postgres_url
from benchmarks.bench_store import CODES, FEEDER, METERS, REGISTERS, Village, committed, say, serial
from openami.headend.store import Access
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.identity import BUCKET_MS, to_ms
from openami.headend.store.migrations import SCHEMA, migrations
from openami.headend.store.months import FIRST_BUCKET, buckets_of, midnight_of, month_of
from openami.headend.store.postgres import open_postgres

END = datetime(2026, 6, 1, tzinfo=UTC)
BATCH = 500
ENVELOPES = 10_000
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
        for batch in Village(interval_s, END).batches(METERS, METERS * REGISTERS // 3):
            series = [(d.envelope, r) for d in batch for r in d.envelope.registers]  # type: ignore[union-attr]
            await connection.executemany(
                "INSERT INTO series (feeder_id, meter_serial, obis, unit) VALUES ($1, $2, $3, 1) "
                "ON CONFLICT DO NOTHING",
                [(e.feeder_id, e.meter_serial, str(r.obis)) for e, r in series],
            )
        await connection.execute(
            "INSERT INTO unit (digest, text) VALUES ($1, 'kWh') ON CONFLICT DO NOTHING",
            _digest_of_kwh(),
        )
        for month in range(first, first + months):
            if schema == SCHEMA / "postgres":
                await store.make_months(midnight_of(month))
            begin, end = (to_ms(midnight_of(each)) for each in (month, month + 1))
            await connection.execute(_FILL, begin, end, interval_s * 1000, BUCKET_MS)
        await connection.execute("VACUUM ANALYZE")


def _digest_of_kwh() -> bytes:
    from openami.headend.store.plan import unit_digest

    return unit_digest("kWh")


async def timed(work: Callable[[], Awaitable[Any]]) -> float:
    began = time.perf_counter()
    await work()
    return (time.perf_counter() - began) * 1000


async def stream_and_pages(store: HeadEndStore, case: dict[str, Any], repeats: int) -> None:
    village = Village(900, END)
    batches = [village.batches(BATCH, ENVELOPES) for _ in range(repeats)]
    say({"case": "commit", **case}, [await committed(store, each) for each in batches])

    async def month_of_one(meter: int) -> None:
        since = END - timedelta(days=45)
        until = since + timedelta(days=30)
        meters = store.readings(FEEDER, serial(meter), obis=CODES[0], since=since, until=until)
        assert [reading async for reading in meters]

    def one(meter: int) -> Callable[[], Awaitable[Any]]:
        return lambda: month_of_one(meter)

    took = [{"ms": await timed(one(meter * 7 % METERS))} for meter in range(4 * repeats)]
    say({"case": "30 days of one register", **case}, took)
    latest = [
        {"ms": await timed(lambda meter=meter: store.latest(FEEDER, serial(meter)))}  # type: ignore[misc]
        for meter in range(4 * repeats)
    ]
    say({"case": "latest of one meter", **case}, latest)


async def removed(url: str, store: HeadEndStore, month: int, case: dict[str, Any]) -> None:
    """Remove everything up to a month; tell how long that took, with the vacuum that rows leave to do."""
    last = buckets_of(month)[-1]
    before = await store.readings_in(FIRST_BUCKET, last)
    longest, began = 0.0, time.perf_counter()
    while True:
        step_began = time.perf_counter()
        if not await store.remove_some(FIRST_BUCKET, last):
            break
        longest = max(longest, time.perf_counter() - step_began)
    took = time.perf_counter() - began
    async with connected(url) as connection:
        vacuum = await timed(lambda: connection.execute("VACUUM reading"))
    print(
        json.dumps(
            {
                "case": "oldest month removed",
                **case,
                "readings": before,
                "s": round(took, 2),
                "longest_step_s": round(longest, 3),
                "vacuum_s": round(vacuum / 1000, 2),
            }
        ),
        flush=True,
    )


async def measure(arguments: argparse.Namespace, urls: Sequence[str], schema: Path) -> None:
    """Fill both, upgrade the old one, and ask and remove in each."""
    newest = SCHEMA / "postgres"
    months, interval_s = arguments.months, arguments.interval
    first = month_of(END) - months
    for url, way in zip(urls, (schema, newest), strict=True):
        await filled(url, way, months, interval_s)
        began = time.perf_counter()
        async with open_postgres(url, Access.OWN) as store:
            opened = time.perf_counter() - began
            parts = len(await store.partitions())
            case = {
                "partitions": parts,
                "readings": await store.readings_in(FIRST_BUCKET, 2**31 - 1),
            }
            if way is schema:
                print(json.dumps({"case": "brought up to date", **case, "s": round(opened, 2)}))
            await store.make_months(END)
            await stream_and_pages(store, case, arguments.repeats)
            await removed(url, store, first, case)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--months", type=int, default=24)
    parser.add_argument("--interval", type=int, default=7200, help="seconds between readings")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    server = os.environ["OPENAMI_BENCH_POSTGRES"]
    urls = [postgres_url(server) for _ in range(2)]
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(arguments, urls, schema_before(Path(folder))))


if __name__ == "__main__":
    main()
