"""The console's pages and the queries behind them, on a year of a large village: how long, and by which way.

    python -m benchmarks.bench_pages [sqlite|postgres] [--meters 500] [--days 37] [--repeats 20] [--plans]

500 meters × 365 days × 15 minutes are 17.5 million readings; the default is a tenth of that, 37 days. The store is
filled by bulk, its days are folded as the head-end folds them, and every query is asked again and again, of another
meter or day each time. p95 is to be below 300 ms on two cores. ``--plans`` prints how the engine goes about it.

PostgreSQL: a server of the benchmark's own, or the one that OPENAMI_BENCH_POSTGRES=postgresql://… names.
"""

import argparse
import asyncio
import json
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx

from benchmarks.console_visitor import paths, visiting
from benchmarks.postgres_server import database, postgres_server
from benchmarks.processes import tidy_up_when_told_to_end
from openami.headend.accounting import day_accounts
from openami.headend.balancing import feeder_balance
from openami.headend.ingest import Accepted, Kind, Message
from openami.headend.periods import Step
from openami.headend.store import energy_ledger
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.energy import ACTIVE_IMPORT, FOLDS_AT_ONCE_MAX
from openami.headend.store.identity import place, to_ms
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

FEEDER, ZONE = "feeder-bench-01", ZoneInfo("Asia/Kolkata")
END = datetime(2026, 6, 22, 9, tzinfo=UTC)
QUARTER, DAY = timedelta(minutes=15), timedelta(days=1)
MAY_TAKE_MS = 300
COLUMNS = ("bucket", "series", "ms", "value", "flags", "lag_ms")


def serial(number: int) -> str:
    """Return the numbered meter; the first is the feeder's head."""
    return f"BM{number:05d}"


def rows(meters: int, days: int, ids: dict[str, int]) -> Iterator[tuple[Any, ...]]:
    """Yield readings in the order they would come: every meter, then the next quarter hour."""
    dice = random.Random(1)
    registers = [1000.0 * number for number in range(meters)]
    moments = days * 96
    begin = END - moments * QUARTER
    for n in range(1, moments + 1):
        bucket, ms = place(to_ms(begin + n * QUARTER))
        for number in range(meters):
            registers[number] = round(registers[number] + dice.random() * 0.06, 3)
            yield (bucket, ids[serial(number)], ms, registers[number], 0, 2000)


async def known(store: HeadEndStore, meters: int) -> None:
    """Let every meter be heard once, at the end, with what the overview shows."""
    registers = (
        RegisterReading(ACTIVE_IMPORT, 1.0, "kWh", Quality.GOOD),
        RegisterReading(Obis.parse("96.8.0"), 3.2, "kWh", Quality.GOOD),
        RegisterReading(Obis.parse("1.7.0"), 0.2, "kW", Quality.GOOD),
        RegisterReading(Obis.parse("96.11.1"), "connected", "enum", Quality.GOOD),
    )
    batch = []
    for number in range(meters):
        # A minute before the first quarter hour, so that no reading of the year is there already.
        early = RegisterReading(ACTIVE_IMPORT, 1000.0 * number, "kWh", Quality.GOOD)
        envelope = Envelope(
            ts=END + timedelta(seconds=1),
            feeder_id=FeederId(FEEDER),
            gateway_id=GatewayId("gateway-bench"),
            meter_serial=MeterSerial(serial(number)),
            registers=(early, *registers[1:]),
        )
        topic = f"openami/v1/{FEEDER}/gateway-bench/meter/{serial(number)}/telemetry"
        batch.append(Accepted(Kind.TELEMETRY, envelope, Message(topic, b"{}", END + DAY)))
    await store.commit(batch)


def fill_sqlite(path: Path, meters: int, days: int) -> None:
    """Write the readings into the file, and mark their days as due."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    ids = dict(
        connection.execute("SELECT meter_serial, id FROM series WHERE obis = '1.8.0'").fetchall()
    )
    connection.execute("BEGIN")
    connection.execute(
        "DELETE FROM reading WHERE series IN (SELECT id FROM series WHERE obis = '1.8.0')"
    )
    connection.executemany(
        f"INSERT INTO reading ({', '.join(COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?)",
        rows(meters, days, ids),
    )
    _finish(lambda sql: connection.execute(sql), days)
    connection.execute("COMMIT")
    connection.execute("ANALYZE")
    connection.close()


async def fill_postgres(url: str, meters: int, days: int) -> None:
    """The same, by COPY."""
    import asyncpg

    from openami.headend.store.partitions import make_months

    connection = await asyncpg.connect(url, server_settings={"search_path": "openami"})
    ids = {
        row["meter_serial"]: row["id"]
        for row in await connection.fetch(
            "SELECT meter_serial, id FROM series WHERE obis = '1.8.0'"
        )
    }
    await connection.execute(
        "DELETE FROM reading WHERE series IN (SELECT id FROM series WHERE obis = '1.8.0')"
    )
    async with connection.transaction():
        first, last = month_of(END - days * DAY), month_of(END)
        await make_months(connection, range(first, last + 1))
    columns = [name if name != "value" else "number" for name in COLUMNS]
    await connection.copy_records_to_table(
        "reading", records=rows(meters, days, ids), columns=columns
    )
    statements: list[str] = []
    _finish(statements.append, days)
    for sql in statements:
        await connection.execute(sql)
    await connection.execute("ANALYZE")
    await connection.close()


def _finish(run: Callable[[str], object], days: int) -> None:
    """Let the last reading be the latest, and every day due."""
    bucket, ms = place(to_ms(END))
    first, last = to_ms(END - days * DAY) // 86_400_000, to_ms(END) // 86_400_000
    run(
        f"UPDATE latest SET bucket = {bucket}, ms = {ms} "
        "WHERE series IN (SELECT id FROM series WHERE obis = '1.8.0')"
    )
    run("DELETE FROM energy_due")
    run(
        f"INSERT INTO energy_due (series, day) WITH RECURSIVE d (day) AS (SELECT {first} UNION ALL "
        f"SELECT day + 1 FROM d WHERE day < {last}) SELECT s.id, d.day FROM series s CROSS JOIN d "
        "WHERE s.obis = '1.8.0'"
    )


Query = Callable[[], Awaitable[object]]


def queries(store: HeadEndStore, meters: int, days: int) -> dict[str, Query]:
    """Return what the pages ask, each of a meter and a day that the dice choose."""
    dice = random.Random(2)
    midnight = END.astimezone(ZONE).replace(hour=0, minute=0).astimezone(UTC)
    month = min(30, days - 1)

    def meter() -> str:
        return serial(dice.randrange(meters))

    async def one_page() -> int:
        begin = END - dice.randrange(1, days) * DAY
        found = 0
        async for _ in store.readings(FEEDER, meter(), since=begin, until=begin + DAY):
            found += 1
        return found

    async def completeness() -> int:
        day = (END - dice.randrange(1, days) * DAY).date()
        accounts = day_accounts(store, FEEDER, [day], now=END, gateway_id="gateway-bench")
        return len([each async for each in accounts])

    def feeder_energy(since: datetime, until: datetime, step: Step) -> Awaitable[object]:
        return store.energy(FEEDER, since, until, step, zone=ZONE)

    def meter_energy(back: int, step: Step) -> Awaitable[object]:
        return store.energy(FEEDER, END - back * DAY, END, step, zone=ZONE, meter_serial=meter())

    return {
        "overview: every meter today": lambda: store.today(FEEDER, midnight),
        "overview: today by quarter hour": lambda: feeder_energy(midnight, END, Step.QUARTER),
        "balance: a month and its history by hour": lambda: feeder_energy(
            END - min(60, days - 1) * DAY, END, Step.HOUR
        ),
        "balance: a month by day": lambda: feeder_energy(END - month * DAY, END, Step.DAY),
        "meter: latest": lambda: store.latest(FEEDER, meter()),
        "meter: a month by day": lambda: meter_energy(month, Step.DAY),
        "meter: all days": lambda: meter_energy(min(days - 1, 365), Step.DAY),
        "meter: chart of a week": lambda: store.chart(
            FEEDER, meter(), ACTIVE_IMPORT, END - 7 * DAY, END, 900
        ),
        "meter: chart of all": lambda: store.chart(
            FEEDER, meter(), ACTIVE_IMPORT, END - days * DAY, END, 6 * 3600
        ),
        "meter: a day's readings": one_page,
        "completeness: a day of every meter": completeness,
    }


def pages(visitor: httpx.AsyncClient, meters: int) -> dict[str, Query]:
    """Return whole pages, of a meter that the dice choose; the answer is how many bytes a page has."""
    dice = random.Random(3)

    def asked(name: str) -> Query:
        async def ask() -> int:
            page = await visitor.get(paths(FEEDER, serial(dice.randrange(meters)))[name])
            assert page.status_code == 200, f"{page.url}: {page.status_code}"
            return len(page.content)

        return ask

    return {name: asked(name) for name in paths(FEEDER, "")}


async def measured(query: Query, repeats: int) -> dict[str, object]:
    """Ask again and again; return how long it took, and how much of a processor (of this process) it needed."""
    answer = await query()  # the first one finds nothing in memory
    took, used = [], []
    for _ in range(repeats):
        began, began_cpu = time.perf_counter(), time.process_time()
        answer = await query()
        took.append((time.perf_counter() - began) * 1000)
        used.append((time.process_time() - began_cpu) * 1000)
    took.sort()
    p95 = took[min(len(took) - 1, int(len(took) * 0.95))]
    return {
        "repeats": repeats, "answer": len(answer) if isinstance(answer, list | dict) else answer,
        "p50_ms": round(statistics.median(took), 1), "p95_ms": round(p95, 1),
        "cpu_ms": round(statistics.median(used), 1), "within": p95 <= MAY_TAKE_MS,
    }  # fmt: skip


async def run(engine: str, server: str, arguments: argparse.Namespace) -> None:
    """Fill a store and measure it."""
    meters, days = arguments.meters, arguments.days
    with tempfile.TemporaryDirectory(dir=arguments.directory) as folder:
        path = Path(folder) / "pages.db"
        url = server or f"sqlite:///{path}"
        about = {"benchmark": "pages", "engine": engine, "meters": meters, "days": days}
        async with open_store(url) as store:
            await known(store, meters)
        began = time.perf_counter()
        if engine == "postgres":
            await fill_postgres(url, meters, days)
        else:
            fill_sqlite(path, meters, days)
        filled_s = time.perf_counter() - began
        async with open_store(url) as store:
            began, folded = time.process_time(), 0
            while count := await store.fold_energy(FOLDS_AT_ONCE_MAX):
                folded += count
            folding_s = time.process_time() - began
            size = path.stat().st_size if path.exists() else 0
            print(
                json.dumps({
                    **about, "case": "fill and fold", "readings": meters * days * 96,
                    "fill_s": round(filled_s, 1), "folded_days": folded,
                    "fold_cpu_us_per_day": round(folding_s / max(1, folded) * 1e6), "bytes": size,
                }), flush=True,
            )  # fmt: skip
            for name, query in queries(store, meters, days).items():
                told = await measured(query, arguments.repeats)
                print(json.dumps({**about, "case": name, **told}), flush=True)
            async with visiting(store, END) as visitor:
                for name, page in pages(visitor, meters).items():
                    told = await measured(page, arguments.repeats)
                    print(json.dumps({**about, "case": f"page: {name}", **told}), flush=True)
            began, began_cpu = time.perf_counter(), time.process_time()
            since = END - min(30, days - 1) * DAY
            balance = await feeder_balance(store, FEEDER, since, END, now=END)
            row = {
                "case": "balance, reckoned anew",
                "ms": round((time.perf_counter() - began) * 1000),
                "cpu_ms": round((time.process_time() - began_cpu) * 1000),
            }
            print(json.dumps({**about, **row, "meters_balanced": balance.meters}), flush=True)
            if arguments.plans:
                await plans(store, engine)


async def plans(store: HeadEndStore, engine: str) -> None:
    """Print how the engine goes about the statements."""
    day = to_ms(END) // 86_400_000
    explain = "EXPLAIN (ANALYZE, BUFFERS) " if engine == "postgres" else "EXPLAIN QUERY PLAN "
    ms = to_ms(END)
    asked: tuple[tuple[str, tuple[Any, ...]], ...] = (
        (energy_ledger.DAYS, (FEEDER, "1.8.0", "", day - 30, day)),
        (energy_ledger._DUE, (FEEDER, "1.8.0", "")),
        (energy_ledger._DUE_READINGS, (FEEDER, "1.8.0", "", day, day)),
        (energy_ledger._LATEST.replace("{registers}", "?2"), (FEEDER, "1.8.0")),
        (
            energy_ledger._CHART,
            (ms // 14_400_000 - 42, ms // 14_400_000, FEEDER, serial(1), "1.8.0",
             ms - 7 * 86_400_000, ms, 900_000, 2_100_000),
        ),
    )  # fmt: skip
    for sql, values in asked:
        print(f"-- {sql}")
        for line in await store._rows(explain + sql, *values):  # type: ignore[attr-defined]
            print("   ", *line)


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="measure the queries behind the pages")
    parser.add_argument("engine", nargs="?", default="sqlite", choices=["sqlite", "postgres"])
    parser.add_argument("--meters", type=int, default=500)
    parser.add_argument("--days", type=int, default=37)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--directory", help="where to put the SQLite file")
    parser.add_argument("--plans", action="store_true")
    arguments = parser.parse_args()
    tidy_up_when_told_to_end()
    with ExitStack() as stack:
        url = ""
        if arguments.engine == "postgres":
            server = stack.enter_context(postgres_server())
            assert server is not None, "PostgreSQL is not installed"
            url = stack.enter_context(database(server))
        asyncio.run(run(arguments.engine, url, arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
