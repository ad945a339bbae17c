"""Closed months: how many bytes a reading takes, how long closing holds the store, how quickly a year is drawn.

    python -m benchmarks.bench_closed [sqlite|postgres] [--meters 500] [--repeats 20]

Two meters with ten registers tell a year, one each quarter hour and one each minute, as a house's meter would:
energies that grow, voltages, power, and words. The year is closed as the head-end closes it; then the first meter's
files are copied to 500 meters, and pages ask for one of them, another each time. Bounds: 3 bytes a reading; a chart
of a year of quarter hours, and completeness of a closed day of all meters, p95 300 ms on two cores.

PostgreSQL: a server of the benchmark's own, or the one that OPENAMI_BENCH_POSTGRES=postgresql://… names.
"""

import argparse
import asyncio
import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from benchmarks.bench_pages import measured
from benchmarks.postgres_server import database, postgres_server
from openami.headend.accounting import day_accounts
from openami.headend.ingest import Accepted, Kind, Message
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.identity import place, to_ms
from openami.headend.store.months import month_of
from openami.headend.store.open import open_store
from openami.headend.store.postgres import PostgresStore
from openami.headend.store.steps import Steps, do, insert
from openami.headend.store.tables import READING
from openami.profile import (
    Envelope,
    FeederId,
    GatewayId,
    MeterSerial,
    Obis,
    Quality,
    RegisterReading,
    Value,
)

FEEDER, GATEWAY = "feeder-bench-01", "gateway-bench"
END = datetime(2026, 7, 1, tzinfo=UTC)
DAY = timedelta(days=1)
UNITS: Final = {
    "1.8.0": "kWh", "2.8.0": "kWh", "96.8.0": "kWh", "1.7.0": "kW", "9.7.0": "kVA", "32.7.0": "V",
    "31.7.0": "A", "13.7.0": "1", "14.7.0": "Hz", "96.11.1": "enum",
}  # fmt: skip
STEPS_S: Final = {"quarters": 900, "minutes": 60}
BYTES_MAX, MAY_TAKE_MS = 3.0, 300
COMPLETENESS = "completeness: a closed day of every meter"
BOUND: Final = ("chart of a year", COMPLETENESS)
ROWS_AT_ONCE: Final = 100_000


def house(step_s: int, seed: int) -> Iterator[list[Value]]:
    """Yield what a house's meter shows every so many seconds, in the order of UNITS: rounded as meters do."""
    dice = random.Random(seed)
    energy, credit, moment = 1234.567, 50.0, 0
    while True:
        hour = moment * step_s / 3600 % 24
        evening = math.exp(-(((hour - 20) / 2.5) ** 2))
        kw = max(0.02, 0.15 + 0.25 * evening + dice.gauss(0, 0.03))
        kw += dice.random() * 0.8 if dice.random() < 0.02 else 0
        energy += kw * step_s / 3600
        credit = max(0.0, credit - kw * step_s / 3600) or 50.0
        volts = round(228 - 6 * evening + dice.gauss(0, 1.2), 1)
        factor = round(min(1.0, 0.9 + dice.gauss(0, 0.03)), 2)
        relay = "connected" if dice.random() > 0.001 else "disconnected"
        yield [
            *(round(energy, 3), 0.0, round(credit, 3), round(kw, 3), round(kw / factor, 3)),
            *(volts, round(kw * 1000 / volts / factor, 2), factor),
            *(round(50 + dice.gauss(0, 0.05), 2), relay),
        ]  # fmt: skip
        moment += 1


def cells(ids: Sequence[int], step_s: int, days: int) -> Iterator[list[Any]]:
    """Yield rows of the live table, some at a time: received as a link brings them, now and then with a doubt."""
    dice = random.Random(step_s)
    portion: list[Any] = []
    moments = days * 86_400 // step_s
    for number, values in zip(range(moments), house(step_s, 1), strict=False):
        # A pole that is read each minute begins its rounds when the last one has ended, not on the second.
        late_ms = dice.randrange(400) if step_s < 900 else 0
        bucket, ms = place(to_ms(END - days * DAY) + number * step_s * 1000 + late_ms)
        lag_ms = 300 + int(dice.expovariate(1 / 1500))
        suspect = int(dice.random() < 0.005)
        for id_, value in zip(ids, values, strict=True):
            portion += (
                bucket,
                id_,
                ms,
                value,
                suspect | (12 if isinstance(value, str) else 0),
                lag_ms,
            )
        if len(portion) >= ROWS_AT_ONCE * READING.width:
            yield portion
            portion = []
    yield portion


async def fill(store: HeadEndStore, serial: str, step_s: int, days: int) -> int:
    """Let a meter be heard once, and write its days into the live table; return how many readings they are."""
    quality = Quality.GOOD
    registers = tuple(
        RegisterReading(Obis.parse(obis), "connected" if unit == "enum" else 1.0, unit, quality)
        for obis, unit in UNITS.items()
    )
    envelope = Envelope(
        ts=END + 40 * DAY,
        feeder_id=FeederId(FEEDER),
        gateway_id=GatewayId(GATEWAY),
        meter_serial=MeterSerial(serial),
        registers=registers,
    )
    topic = f"openami/v1/{FEEDER}/{GATEWAY}/meter/{serial}/telemetry"
    await store.commit([Accepted(Kind.TELEMETRY, envelope, Message(topic, b"{}", END + 40 * DAY))])
    rows = await store._rows("SELECT obis, id FROM series WHERE meter_serial = ?1", serial)  # type: ignore[attr-defined]
    numbers = dict(rows)
    if isinstance(store, PostgresStore):
        # `commit` makes the months it lacks, and what follows goes past it.
        await store._made(range(month_of(END - days * DAY), month_of(END) + 1))
    count = 0
    for portion in cells([numbers[obis] for obis in UNITS], step_s, days):
        count += await store._write(lambda: insert(READING, portion))  # type: ignore[attr-defined]  # noqa: B023
    return count


Took = list[tuple[float, float]]
"""How long each file took, and how much of a processor, in milliseconds."""


async def close(store: HeadEndStore) -> dict[str, Took]:
    """Close everything; return by meter how long each file has held the store."""
    took: dict[str, Took] = {serial: [] for serial in STEPS_S}
    while await store.make_due(END + DAY) or await store.closing_due():
        for due in await store.closing_due():
            began, began_cpu = time.perf_counter(), time.process_time()
            if await store.close_month(due, END + 60 * DAY):
                took_s, used_s = time.perf_counter() - began, time.process_time() - began_cpu
                took[due.meter_serial].append((took_s * 1000, used_s * 1000))
    return took


def copied(serial: str, meters: int) -> Steps[None]:
    """Give a meter's series and files to others of the village."""
    for number in range(meters):
        for sql in (
            "INSERT INTO meter SELECT feeder_id, ?2, gateway_id, first_seen, last_seen, last_ts, good_ts "
            "FROM meter WHERE meter_serial = ?1",
            "INSERT INTO series (feeder_id, meter_serial, obis, unit) SELECT feeder_id, ?2, obis, unit "
            "FROM series WHERE meter_serial = ?1",
            "INSERT INTO latest SELECT s.id, l.bucket, l.ms, l.quality FROM latest l "
            "JOIN series o ON o.id = l.series JOIN series s ON s.obis = o.obis "
            "WHERE o.meter_serial = ?1 AND s.meter_serial = ?2",
            "INSERT INTO closed SELECT feeder_id, ?2, first_bucket, last_bucket, readings, closed_at, "
            "sha256, content FROM closed WHERE meter_serial = ?1",
            "INSERT INTO closed_arrivals SELECT feeder_id, ?2, first_bucket, sha256, content "
            "FROM closed_arrivals WHERE meter_serial = ?1",
        ):
            yield from do(sql, serial, f"BM{number:05d}")


async def pages(store: HeadEndStore, meters: int, repeats: int) -> dict[str, dict[str, object]]:
    """Ask for closed months as pages do."""
    dice = random.Random(2)
    power, energy = Obis.parse("1.7.0"), Obis.parse("1.8.0")

    def one() -> str:
        return f"BM{dice.randrange(meters):05d}"

    async def count(begin: datetime, long: timedelta, obis: Obis | None) -> int:
        found = 0
        async for _ in store.readings(FEEDER, one(), obis=obis, since=begin, until=begin + long):
            found += 1
        return found

    async def completeness() -> int:
        day = (END - dice.randrange(10, 300) * DAY).date()
        accounts = day_accounts(store, FEEDER, [day], now=END + 60 * DAY, gateway_id=GATEWAY)
        return len([each async for each in accounts])

    year = END - 365 * DAY
    return {
        "chart of a year": await measured(
            lambda: store.chart(FEEDER, one(), power, year, END, 6 * 3600), repeats
        ),
        "a day's readings": await measured(
            lambda: count(END - dice.randrange(10, 300) * DAY, DAY, None), repeats
        ),
        "a month of one register": await measured(
            lambda: count(END - dice.randrange(40, 300) * DAY, 30 * DAY, energy), repeats
        ),
        COMPLETENESS: await measured(completeness, repeats),
        "chart of a year, told each minute": await measured(
            lambda: store.chart(FEEDER, "minutes", power, year, END, 6 * 3600), min(repeats, 3)
        ),
    }


async def run(url: str, arguments: argparse.Namespace) -> bool:
    """Fill, close, ask; return whether the bounds hold."""
    about = {"benchmark": "closed", "engine": arguments.engine}
    within = True
    async with open_store(url) as store:
        counts = {
            serial: await fill(store, serial, step_s, arguments.days)
            for serial, step_s in STEPS_S.items()
        }
        for serial, took in (await close(store)).items():
            files = await store.closed_files(meter_serial=serial)
            closed, size = sum(f.readings for f in files), sum(f.bytes for f in files)
            per_reading = size / closed
            within &= closed == counts[serial] and per_reading <= BYTES_MAX
            print(
                json.dumps({
                    **about, "case": f"close a year, {STEPS_S[serial]} s", "readings": closed, "files": len(files),
                    "bytes_per_reading": round(per_reading, 2), "bytes_per_file": size // len(files),
                    "p50_ms": round(statistics.median(ms for ms, _ in took)), "most_ms": round(max(took)[0]),
                    "cpu_us_per_reading": round(sum(cpu for _, cpu in took) / closed * 1000, 1),
                }), flush=True,
            )  # fmt: skip
        await store._write(lambda: copied("quarters", arguments.meters))  # type: ignore[attr-defined]
        if isinstance(store, PostgresStore):
            # As autovacuum does within a minute.
            await (await store._connected()).execute("ANALYZE")
        for case, told in (await pages(store, arguments.meters, arguments.repeats)).items():
            print(
                json.dumps({**about, "case": case, "meters": arguments.meters, **told}), flush=True
            )
            within &= case not in BOUND or bool(told["within"])
    return within


def main() -> int:
    """Run the benchmark; return 1 if a bound is broken."""
    parser = argparse.ArgumentParser(description="measure closed months")
    parser.add_argument("engine", nargs="?", default="sqlite", choices=["sqlite", "postgres"])
    parser.add_argument("--meters", type=int, default=500)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--directory", help="where to put the SQLite file")
    arguments = parser.parse_args()
    if arguments.engine == "sqlite":
        with tempfile.TemporaryDirectory(dir=arguments.directory) as folder:
            url = f"sqlite:///{Path(folder) / 'closed.db'}"
            return int(not asyncio.run(run(url, arguments)))
    with postgres_server(arguments.directory) as server:
        if server is None:
            sys.exit("PostgreSQL is not installed: apt install postgresql")
        with database(server) as url:
            return int(not asyncio.run(run(url, arguments)))


if __name__ == "__main__":
    sys.exit(main())
