"""A village's months closed for real: how long that takes, bytes a reading, and that no answer changes.

    python -m benchmarks.bench_closing [sqlite|postgres] [--months 3] [--directory DIR]

500 meters tell energy, power and voltage each quarter hour, stored by the head-end's own ``commit`` and folded as
it folds. Everything that answers about readings is asked and hashed: charts of two registers of every meter, energy
by day, completeness of each day, every reading of each fifth meter, an export. Then the months are closed, file
after file without the pauses the head-end makes, and everything is asked again. Ends with 1 if an answer differs.
Three registers share a message's time and receipt, at random to the millisecond: of ten, a reading takes a third
(`bench_closed`).

PostgreSQL: a server of the benchmark's own, or the one that OPENAMI_BENCH_POSTGRES=postgresql://… names.
"""

import argparse
import asyncio
import hashlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.growth_village import INTERVAL, METERS, GrowingVillage, serial
from benchmarks.postgres_server import database, postgres_server
from benchmarks.publisher import FEEDER, GATEWAY
from openami.headend.accounting import day_accounts
from openami.headend.exports.parquet import write_readings
from openami.headend.periods import Step
from openami.headend.store import MeterRow, Reading
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.energy import ACTIVE_IMPORT
from openami.headend.store.open import open_store
from openami.headend.store.postgres import PostgresStore
from openami.profile import Obis

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
# Energy, power and voltage: one message of each meter and round.
TOLD = (0, 3, 4)
POWER = Obis.parse("1.7.0")
# As a head-end commits under load.
BATCH = 1_000
# Reading by reading, all of them would take longer than to store them.
EACH = 5
# Of the export, which is slower than all other questions together.
EXPORTED_METERS = 20


def month_after(moment: datetime) -> datetime:
    """Return the first of the month after a first of a month."""
    return (moment + 31 * DAY).replace(day=1)


async def fill(store: HeadEndStore, until: datetime) -> int:
    """Store the village's stream up to a moment and some hours beyond, and fold it; return how many readings."""
    village = GrowingVillage(BEGIN, TOLD)
    stored = 0
    for batch in village.batches(BATCH):
        stored += (await store.commit(batch)).stored
        if village.next_ts > until + 16 * INTERVAL:
            break
    while await store.fold_energy():
        pass
    if isinstance(store, PostgresStore):
        # As autovacuum does within minutes of a month's readings.
        connection = await store._connected()
        await connection.execute("VACUUM ANALYZE", timeout=3600)
    return stored


async def answers(store: HeadEndStore, until: datetime, folder: Path) -> dict[str, str]:
    """Ask everything; return the hash of each kind of answer."""
    found = {name: hashlib.sha256() for name in ("readings", "charts", "energy", "completeness")}
    for number in range(METERS):
        if number % EACH == 0:
            async for reading in store.readings(FEEDER, serial(number)):
                found["readings"].update(repr(reading).encode())
        for obis in (ACTIVE_IMPORT, POWER):
            points = await store.chart(FEEDER, serial(number), obis, BEGIN, until, 6 * 3600)
            # A mean is a sum in another order.
            told = [replace(point, mean=round(point.mean, 9)) for point in points]
            found["charts"].update(repr(told).encode())
    for series in await store.energy(FEEDER, BEGIN, min(until, BEGIN + 60 * DAY), Step.DAY):
        found["energy"].update(repr(series).encode())
    days = [(BEGIN + n * DAY).date() for n in range((until - BEGIN).days)]
    async for account in day_accounts(store, FEEDER, days, now=until + 60 * DAY):
        found["completeness"].update(repr(account).encode())
    path = folder / "readings.parquet"
    await write_readings(exported(store, until), path)
    return {name: each.hexdigest() for name, each in found.items()} | {
        "export": hashlib.sha256(path.read_bytes()).hexdigest()
    }


async def exported(store: HeadEndStore, until: datetime) -> AsyncIterator[tuple[MeterRow, Reading]]:
    """Yield what an export writes of some meters."""
    for row in (await store.meters())[:EXPORTED_METERS]:
        async for reading in store.readings(FEEDER, row.meter_serial, since=BEGIN, until=until):
            yield row, reading


async def close(store: HeadEndStore, now: datetime) -> list[float]:
    """Close everything that is over; return how many seconds each file took."""
    took = []
    while await store.make_due(now) or await store.closing_due():
        for due in await store.closing_due():
            began = time.perf_counter()
            await store.close_month(due, now)
            took.append(time.perf_counter() - began)
    return took


async def asked_ms(store: HeadEndStore, until: datetime) -> dict[str, float]:
    """Ask what pages ask of closed months, again and again; return p95 in milliseconds."""
    took: dict[str, list[float]] = {"chart": [], "completeness": []}
    for n in range(20):
        began = time.perf_counter()
        await store.chart(FEEDER, serial(n * 7), POWER, BEGIN, until, 6 * 3600)
        took["chart"].append((time.perf_counter() - began) * 1000)
        began = time.perf_counter()
        day = (BEGIN + (3 + n) * DAY).date()
        accounts = day_accounts(store, FEEDER, [day], now=until + 60 * DAY, gateway_id=GATEWAY)
        assert len([each async for each in accounts]) == METERS
        took["completeness"].append((time.perf_counter() - began) * 1000)
    return {name: round(sorted(each)[18]) for name, each in took.items()}


def tell(engine: str, case: str, **figures: object) -> None:
    """Print a line, as all benchmarks do."""
    print(
        json.dumps({"benchmark": "closing", "engine": engine, "case": case, **figures}), flush=True
    )


async def run(url: str, engine: str, months: int, folder: Path) -> bool:
    """Fill, ask, close, ask; return whether all answers are the same."""
    until = BEGIN
    for _ in range(months):
        until = month_after(until)
    async with open_store(url) as store:
        began = time.perf_counter()
        readings = await fill(store, until)
        tell(engine, "filled", readings=readings, s=round(time.perf_counter() - began))
        began = time.perf_counter()
        tell(engine, "p95 live, ms", **await asked_ms(store, until))
        before = await answers(store, until, folder)
        tell(engine, "asked before", s=round(time.perf_counter() - began))
        began, began_cpu = time.perf_counter(), time.process_time()
        took = await close(store, until + DAY)
        totals = await store.closed_totals()
        sql = "SELECT coalesce(sum(length(content)), 0) FROM closed_arrivals"
        [(beside,)] = await store._rows(sql)  # type: ignore[attr-defined]
        per_reading = (totals.bytes + int(beside)) / totals.readings
        tell(
            engine, "closed", readings=totals.readings, files=totals.files,
            s=round(time.perf_counter() - began), cpu_s=round(time.process_time() - began_cpu),
            file_p50_ms=round(statistics.median(took) * 1000), file_most_ms=round(max(took) * 1000),
            bytes_per_reading=round(per_reading, 2),
            beside_per_reading=round(int(beside) / totals.readings, 3),
        )  # fmt: skip
        tell(engine, "p95 closed, ms", **await asked_ms(store, until))
        began = time.perf_counter()
        after = await answers(store, until, folder)
        same = {name: after[name] == each for name, each in before.items()}
        tell(engine, "asked after", s=round(time.perf_counter() - began), same=same)
    return all(same.values())


def main() -> int:
    """Run the benchmark; return 1 if an answer has changed."""
    parser = argparse.ArgumentParser(description="close a village's months")
    parser.add_argument("engine", nargs="?", default="sqlite", choices=["sqlite", "postgres"])
    parser.add_argument("--months", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="where to put the store")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
        folder = Path(name)
        if arguments.engine == "sqlite":
            url = f"sqlite:///{folder / 'closing.db'}"
            return int(not asyncio.run(run(url, "sqlite", arguments.months, folder)))
        with postgres_server(arguments.directory) as server:
            if server is None:
                sys.exit("PostgreSQL is not installed: apt install postgresql")
            with database(server) as url:
                return int(not asyncio.run(run(url, "postgres", arguments.months, folder)))


if __name__ == "__main__":
    sys.exit(main())
