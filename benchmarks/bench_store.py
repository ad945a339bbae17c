"""The head-end's store: durable envelopes a second, by size of batch and of what is there already.

500 meters with twelve registers, told three at a time every 15 minutes, each batch one commit. With --rows
the store is first filled with so many readings, laid down in the order of time as a stream would have.
Prints one JSON line a case: median, minimum and maximum of the repeats.

    python -m benchmarks.bench_store [--store URL] [--rows 20000000] [--interval 900] [--repeats 5]

``cpu_us`` is this process's processor time for each envelope: it holds still under a busy neighbour.
"""

import argparse
import asyncio
import json
import random
import resource
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from openami.headend.ingest import Accepted, Decision, Kind, Message
from openami.headend.store import Store
from openami.headend.store.identity import BUCKET_MS, to_ms
from openami.headend.store.months import month_of
from openami.headend.store.open import open_store
from openami.profile import (
    Envelope,
    FeederId,
    GatewayId,
    MeterSerial,
    Obis,
    Quality,
    RegisterReading,
)

METERS = 500
REGISTERS = 12
TOLD_AT_ONCE = 3
BATCHES = (1, 10, 100, 500, 1000)
# Messages of one measurement, at least; small batches are slow enough to need fewer.
ENVELOPES = {1: 500, 10: 4_000, 100: 20_000, 500: 30_000, 1000: 30_000}
FEEDER = FeederId("feeder-north-paravur-01")
START = datetime(2026, 6, 22, tzinfo=UTC)
CODES = [
    Obis.parse(code)
    for code in (
        *("1.8.0", "2.8.0", "1.7.0", "32.7.0", "31.7.0", "14.7.0", "13.7.0", "96.7.21", "96.8.0"),
        *("3.8.0", "9.8.0", "91.7.0"),
    )
]


def serial(meter: int) -> MeterSerial:
    """Return a meter's name."""
    return MeterSerial(f"DS1000-{88000 + meter}")


class Village:
    """The stream: every meter tells three of its registers, then the next three, then time goes on."""

    def __init__(self, interval_s: int, start: datetime) -> None:
        self._interval = timedelta(seconds=interval_s)
        self._chance = random.Random(interval_s)
        self._messages = self._stream(start)

    def batches(self, size: int, envelopes: int) -> list[list[Decision]]:
        """Return the next batches, made before the clock runs."""
        return [[next(self._messages) for _ in range(size)] for _ in range(envelopes // size)]

    def _stream(self, ts: datetime) -> Iterator[Accepted]:
        while True:
            for first in range(0, REGISTERS, TOLD_AT_ONCE):
                for meter in self._chance.sample(range(METERS), METERS):
                    yield self._message(meter, ts, CODES[first : first + TOLD_AT_ONCE])
            ts += self._interval

    def _message(self, meter: int, ts: datetime, codes: Sequence[Obis]) -> Accepted:
        moment = ts + timedelta(milliseconds=self._chance.randrange(30_000))
        envelope = Envelope(
            ts=moment,
            feeder_id=FEEDER,
            gateway_id=GatewayId(f"pole-ems-{meter // 20:04}"),
            meter_serial=serial(meter),
            registers=tuple(
                RegisterReading(
                    code, round(self._chance.uniform(0, 10_000), 2), "kWh", Quality.GOOD
                )
                for code in codes
            ),
            seq=int(ts.timestamp()),
        )
        received = moment + timedelta(milliseconds=self._chance.randrange(100, 5_000))
        return Accepted(Kind.TELEMETRY, envelope, Message("", b"", received))


async def committed(store: Store, batches: Sequence[Sequence[Decision]]) -> dict[str, float]:
    """Commit batches one after the other; return what one envelope of them costs."""
    envelopes = sum(map(len, batches))
    cpu, began = time.process_time(), time.perf_counter()
    for batch in batches:
        await store.commit(batch)
    return {
        "envelopes_per_s": envelopes / (time.perf_counter() - began),
        "cpu_us": (time.process_time() - cpu) / envelopes * 1e6,
    }


def say(case: dict[str, Any], samples: Sequence[dict[str, float]]) -> None:
    """Print a case with the spread of its samples."""
    for name in samples[0]:
        values = [sample[name] for sample in samples]
        case[name] = {
            "median": round(statistics.median(values), 2),
            "min": round(min(values), 2),
            "max": round(max(values), 2),
        }
    case["rss_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(json.dumps(case), flush=True)


async def measure(url: str, arguments: argparse.Namespace) -> None:
    """Fill, write, write again, read; print a line for each."""
    engine = url.partition(":")[0]
    async with open_store(url) as store:
        village = Village(arguments.interval, START)
        # Makes the series, so that filling knows their numbers.
        for batch in village.batches(METERS, METERS * REGISTERS // TOLD_AT_ONCE):
            await store.commit(batch)
    start = START + timedelta(seconds=arguments.interval)
    if arguments.rows:
        start = await asyncio.to_thread(fill, url, arguments.rows, arguments.interval, start)
    common = {"engine": engine, "rows": arguments.rows, "interval_s": arguments.interval}
    async with open_store(url) as store:
        village = Village(arguments.interval, start)
        for size in arguments.batches:
            samples, batches = [], []
            for _ in range(arguments.repeats):
                batches = village.batches(size, ENVELOPES[size])
                samples.append(await committed(store, batches))
            say({"case": "commit", **common, "batch": size}, samples)
            if size == 500:
                again = [await committed(store, batches) for _ in range(arguments.repeats)]
                say({"case": "commit again", **common, "batch": size}, again)
        await measure_reads(store, common)
    stored = await size_of(url)
    print(json.dumps({"case": "size", **common, **stored}), flush=True)


async def measure_reads(store: Store, common: dict[str, Any]) -> None:
    """Read a month of one register, and a meter's latest values, of meters in turn."""
    month = timedelta(days=30)
    samples, latest = [], []
    for number in range(20):
        meter = serial(number * 7 % METERS)
        began = time.perf_counter()
        wanted = {"since": START, "until": START + month}
        rows = [r async for r in store.readings(FEEDER, meter, obis=CODES[0], **wanted)]
        samples.append({"ms": (time.perf_counter() - began) * 1000, "readings": len(rows)})
        began = time.perf_counter()
        await store.latest(FEEDER, meter)
        latest.append({"ms": (time.perf_counter() - began) * 1000})
    say({"case": "30 days of one register", **common}, samples)
    say({"case": "latest of one meter", **common}, latest)


# --- filling and measuring the engine beneath ----------------------------------------------------


def fill(url: str, rows: int, interval_s: int, start: datetime) -> datetime:
    """Lay down readings in the order of time; return when they end."""
    intervals = rows // (METERS * REGISTERS)
    edges = range(0, intervals, max(1, 86_400 // interval_s))
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as db:
            db.execute("PRAGMA cache_size = -262144")
            for first in edges:
                last = min(first + edges.step, intervals) - 1
                db.execute(_FILL_SQLITE, (first, last, to_ms(start), interval_s * 1000, BUCKET_MS))
    else:
        asyncio.run(_fill_postgres(url, intervals, edges, interval_s, start))
    return start + timedelta(seconds=interval_s * intervals)


_FILL_SQLITE = """
WITH RECURSIVE moment (n) AS (SELECT ?1 UNION ALL SELECT n + 1 FROM moment WHERE n < ?2)
INSERT INTO reading
SELECT (?3 + n * ?4 + ?5 / 2) / ?5, series.id,
       (?3 + n * ?4 + ?5 / 2) % ?5 - ?5 / 2 + series.id % 1000,
       round(abs(random() % 1000000) / 100.0, 2), 0, 100 + abs(random() % 4900)
FROM moment CROSS JOIN series
"""
_FILL_POSTGRES = """
INSERT INTO reading (bucket, series, ms, number, flags, lag_ms)
SELECT ($3::int8 + n * $4::int8 + $5::int8 / 2) / $5::int8, s.id,
       ($3::int8 + n * $4::int8 + $5::int8 / 2) % $5::int8 - $5::int8 / 2 + s.id % 1000,
       round((random() * 10000)::numeric, 2), 0, 100 + (random() * 4900)::int
FROM generate_series($1::int8, $2::int8) n CROSS JOIN series s ORDER BY n, s.id
"""


async def _fill_postgres(
    url: str, intervals: int, edges: range, interval_s: int, start: datetime
) -> None:
    import asyncpg

    from openami.headend.store.partitions import make_months

    connection = await asyncpg.connect(url, server_settings={"search_path": "openami"})
    end = start + timedelta(seconds=interval_s * intervals)
    async with connection.transaction():
        await make_months(connection, range(month_of(start), month_of(end) + 1))
    for first in edges:
        last = min(first + edges.step, intervals) - 1
        await connection.execute(
            _FILL_POSTGRES, first, last, to_ms(start), interval_s * 1000, BUCKET_MS
        )
    await connection.execute("VACUUM ANALYZE reading")
    await connection.close()


async def size_of(url: str) -> dict[str, Any]:
    """Return what the readings take on disk, index included."""
    if url.startswith("sqlite"):
        path = url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path)) as db:
            (size,) = db.execute("SELECT sum(pgsize) FROM dbstat WHERE name = 'reading'").fetchone()
            (count,) = db.execute("SELECT count(*) FROM reading").fetchone()
    else:
        import asyncpg

        connection = await asyncpg.connect(url)
        size = await connection.fetchval(
            "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('openami.reading')"
        )
        count = await connection.fetchval("SELECT count(*) FROM openami.reading")
        await connection.close()
    return {"readings": count, "bytes_per_reading": round(size / count, 1)}


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", help="a fresh store; a SQLite file in a new folder by default")
    parser.add_argument("--rows", type=int, default=0, help="readings there beforehand")
    parser.add_argument(
        "--interval", type=int, default=900, help="seconds between a meter's rounds"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, choices=BATCHES)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        url = arguments.store or f"sqlite:///{Path(folder) / 'store.db'}"
        asyncio.run(measure(url, arguments))


if __name__ == "__main__":
    main()
