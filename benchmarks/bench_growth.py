"""What a store's size does to it: ingest, bytes and queries at empty, and with millions of readings in it.

    python -m benchmarks.bench_growth (sqlite|postgres) [--readings 20000000 [100000000]] [--directory DIR]

The readings are a village's (`benchmarks.growth_village`), stored by the head-end's own ``commit`` in batches of
1,000 messages of three registers, in the order of time; their days are folded as the head-end folds them. At each
size an empty store and the grown one take turns: batches committed, and then the same messages through broker and
head-end. So a ratio is of minutes that lie side by side, whatever the machine does in the hour between.

One figure a line on stdout, progress on stderr. Loading takes about 3 minutes for 20 million readings in SQLite
and 6 in PostgreSQL on a quiet two-core machine, folding a tenth of that. What was made is removed, also after
Ctrl-C or SIGTERM; without room for it nothing is begun.
"""

import argparse
import asyncio
import itertools
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from pathlib import Path

from benchmarks.bench_ingest import run_once
from benchmarks.figures import Figure, figure, rounded, say
from benchmarks.growth_village import (
    METERS,
    READINGS_A_ROUND,
    REGISTERS_AT_ONCE,
    GrowingVillage,
    begin_of,
    serial,
)
from benchmarks.postgres_server import database, postgres_server
from benchmarks.processes import tidy_up_when_told_to_end
from benchmarks.publisher import FEEDER, START
from openami.headend.ingest import Accepted
from openami.headend.periods import Step
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.energy import ACTIVE_IMPORT, FOLDS_AT_ONCE_MAX
from openami.headend.store.open import open_store, path_of

BATCH = 1_000  # as a head-end commits under load (`openami.headend.uplink`)
BATCHES_TIMED = 40
QUERIES = 100
MONTH = timedelta(days=30)
TOLD_EVERY_S = 10.0
# Measured: 31 and 97 bytes in the table of readings; what is kept beside it, write-ahead logs and two more small
# stores are the rest.
ROOM_BYTES = {"sqlite": 48, "postgres": 150}
ROOM_BYTES_LEAST = 2_000_000_000
SIZES = {20_000_000: "20M", 100_000_000: "100M"}

Query = Callable[[], Awaitable[object]]


def name_of(readings: int) -> str:
    """Return what a figure calls a size."""
    return SIZES.get(readings, f"{readings / 1e6:g}M")


class Progress:
    """Says on stderr how far something is, now and then."""

    def __init__(self, what: str, of: int | None = None) -> None:
        self._what, self._of = what, of
        self._began = self._said = time.monotonic()

    def at(self, done: int) -> None:
        """Say it when it was not said for a while."""
        now = time.monotonic()
        if now - self._said < TOLD_EVERY_S or not done:
            return
        self._said = now
        if self._of is None:
            note(f"{self._what}: {done:,}")
        else:
            left_s = (now - self._began) * (self._of - done) / done
            note(f"{self._what}: {done / self._of:.0%}, {left_s / 60:.1f} minutes to go")


def note(words: str) -> None:
    """Say something to whoever waits."""
    print(words, file=sys.stderr, flush=True)


async def load(url: str, stream: Iterator[list[Accepted]], wanted: int) -> None:
    """Commit the stream until so many readings are there."""
    progress = Progress(f"loading {wanted:,} readings", wanted)
    async with open_store(url) as store:
        for done in range(0, wanted, BATCH * REGISTERS_AT_ONCE):
            await store.commit(next(stream))
            progress.at(done)


async def fold(url: str) -> None:
    """Fold every day that is due."""
    async with open_store(url) as store:
        progress, folded = Progress("days folded"), 0
        while count := await store.fold_energy(FOLDS_AT_ONCE_MAX):
            folded += count
            progress.at(folded)


async def committed_per_s(url: str, batches: Sequence[list[Accepted]]) -> float:
    """Return how many messages a second a store commits."""
    async with open_store(url) as store:
        await store.commit(batches[0])  # makes the series, and opens every file
        began = time.perf_counter()
        for batch in batches[1:]:
            await store.commit(batch)
        return sum(map(len, batches[1:])) / (time.perf_counter() - began)


def bytes_of(url: str) -> tuple[int, int, int]:
    """Return readings, the bytes of their table with its indexes, and the bytes of the whole store."""
    if url.startswith("sqlite"):
        path = Path(path_of(url))
        with closing(sqlite3.connect(path)) as file:
            file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            (count,) = file.execute("SELECT count(*) FROM reading").fetchone()
            # Page by page: what dbstat adds up itself has 32 bits.
            (table,) = file.execute(
                "SELECT sum(pgsize) FROM dbstat WHERE name = 'reading'"
            ).fetchone()
        return count, table, path.stat().st_size
    return asyncio.run(_bytes_of_postgres(url))


async def _bytes_of_postgres(url: str) -> tuple[int, int, int]:
    import asyncpg

    connection = await asyncpg.connect(url)
    await connection.execute("VACUUM (ANALYZE) openami.reading")
    count = await connection.fetchval("SELECT count(*) FROM openami.reading")
    table = await connection.fetchval(
        "SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_partition_tree('openami.reading')"
    )
    whole = await connection.fetchval("SELECT pg_database_size(current_database())")
    await connection.close()
    return count, table, whole


def queries(store: HeadEndStore) -> dict[str, tuple[str, int, Query]]:
    """Return by name: what is asked, how often, and the question, of a meter that the dice choose."""
    dice = random.Random(3)

    async def month_of_register() -> int:
        found = 0
        meter = serial(dice.randrange(METERS))
        async for _ in store.readings(
            FEEDER, meter, obis=ACTIVE_IMPORT, since=START - MONTH, until=START
        ):
            found += 1
        return found

    return {
        "latest": (
            "latest of one meter, its twelve registers",
            QUERIES,
            lambda: store.latest(FEEDER, serial(dice.randrange(METERS))),
        ),
        "month_of_register": ("30 days of one register", QUERIES, month_of_register),
        "month_of_village": (
            "daily consumption of 500 meters for a month",
            QUERIES // 5,
            lambda: store.energy(FEEDER, START - MONTH, START, Step.DAY),
        ),
    }


async def ask(url: str, prefix: str, at: str) -> None:
    """Ask every question again and again; say median and 95th percentile, which is the figure a bound is for."""
    async with open_store(url) as store:
        for name, (words, repeats, query) in queries(store).items():
            took: list[float] = []
            for _ in range(repeats):
                began = time.perf_counter()
                answer = await query()
                took.append((time.perf_counter() - began) * 1000)
                assert answer, f"{words}: nothing was found"
            took.sort()
            p95 = took[int(len(took) * 0.95)]
            say(_between(f"{prefix}.{name}", f"{words}, {at}: p95, from the median", p95, took))


def _between(name: str, words: str, p95: float, took: Sequence[float]) -> Figure:
    """Return a 95th percentile with the median below and the longest above it."""
    return Figure(
        name=name, words=words, unit="ms", value=rounded(p95),
        low=rounded(took[len(took) // 2]), high=rounded(took[-1]), repeats=len(took),
    )  # fmt: skip


class Grown:
    """A store that grows, beside empty ones of the same engine."""

    def __init__(self, engine: str, server: str | None, folder: Path, readings: int) -> None:
        self._engine, self._server, self._folder = engine, server, folder
        self._published = 0
        self.stream = GrowingVillage(begin_of(readings)).batches(BATCH)

    @contextmanager
    def store(self) -> Iterator[str]:
        """Yield the URL of an empty store, removed afterwards."""
        if self._engine == "postgres":
            assert self._server is not None, "PostgreSQL is not installed"
            with database(self._server) as url:
                yield url
        else:
            with tempfile.TemporaryDirectory(dir=self._folder) as scratch:
                yield f"sqlite:///{Path(scratch) / 'store.db'}"

    def measure_ingest(self, url: str, size: str, repeats: int, messages: int) -> None:
        """Let an empty store and the grown one take turns; say both, and their ratio."""
        commits: list[tuple[float, float]] = []
        ingests: list[tuple[float, float]] = []
        for turn in range(repeats):
            batches = list(itertools.islice(self.stream, BATCHES_TIMED + 1))
            with self.store() as empty:
                without = asyncio.run(committed_per_s(empty, batches))
            commits.append((without, asyncio.run(committed_per_s(url, batches))))
            first, self._published = self._published, self._published + messages
            with self.store() as empty:
                without = run_once(empty, messages, "5", first)["envelopes_per_s"]
            ingests.append((without, run_once(url, messages, "5", first)["envelopes_per_s"]))
            note(f"turn {turn + 1} of {repeats} at {size}: {commits[-1]}, {ingests[-1]}")
        prefix = f"growth.{self._engine}.{size}"
        for name, words, pairs in (
            ("commit", "batches of 1,000 messages committed", commits),
            ("ingest", "through broker and head-end", ingests),
        ):
            empties, grown = zip(*pairs, strict=True)
            say(
                figure(f"{prefix}.{name}_empty", f"{words}, an empty store", "envelopes/s", empties)
            )
            say(figure(f"{prefix}.{name}", f"{words}, {size} readings", "envelopes/s", grown))
            ratios = [with_them / without for without, with_them in pairs]
            say(figure(f"{prefix}.{name}_ratio", f"{words}, {size} to empty", "ratio", ratios))

    def measure_bytes(self, url: str, size: str) -> None:
        """Say what a reading takes on disk."""
        count, table, whole = bytes_of(url)
        at = f"at {size} readings"
        prefix = f"growth.{self._engine}.{size}"
        say(figure(f"{prefix}.bytes", f"a reading with its index, {at}", "B", [table / count]))
        words = f"the whole store by reading, {at}"
        say(figure(f"{prefix}.bytes_whole", words, "B", [whole / count]))


def run(engine: str, server: str | None, arguments: argparse.Namespace, folder: Path) -> None:
    """Grow a store to each size, and measure it. Each its own: its readings end where the publisher begins."""
    for wanted in sorted(arguments.readings):
        grown = Grown(engine, server, folder, wanted)
        size = name_of(wanted)
        with grown.store() as url:
            began = time.monotonic()
            asyncio.run(load(url, grown.stream, wanted))
            asyncio.run(fold(url))
            note(f"{wanted:,} readings loaded and folded in {time.monotonic() - began:.0f} s")
            grown.measure_bytes(url, size)
            asyncio.run(ask(url, f"growth.{engine}.{size}", f"at {size} readings"))
            grown.measure_ingest(url, size, arguments.repeats, arguments.messages)


def main() -> int:
    """Measure one engine."""
    parser = argparse.ArgumentParser(description="what a store's size does to it")
    parser.add_argument("engine", choices=["sqlite", "postgres"])
    parser.add_argument("--readings", type=int, nargs="+", default=[20_000_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--messages", type=int, default=100_000, help="published in each turn")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"))
    arguments = parser.parse_args()
    least = 2 * READINGS_A_ROUND
    if min(arguments.readings) < least:
        parser.error(f"--readings: at least {least}, two rounds of the village")
    wanted = ROOM_BYTES_LEAST + max(arguments.readings) * ROOM_BYTES[arguments.engine]
    free = shutil.disk_usage(arguments.directory).free
    if free < wanted:
        parser.error(
            f"{arguments.directory} has {free / 1e9:.1f} GB free and {wanted / 1e9:.1f} are needed: "
            "name another place with --directory, or fewer --readings"
        )
    tidy_up_when_told_to_end()
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="openami-growth-", dir=arguments.directory)
            )
        )
        server = None
        if arguments.engine == "postgres":
            server = stack.enter_context(postgres_server(arguments.directory))
        run(arguments.engine, server, arguments, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
