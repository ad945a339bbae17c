"""The simulated disk: SQLite behaves on it as on a real one, and what a power cut takes is what nobody was promised."""

import os
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from random import Random
from threading import Thread

import pytest
from tests.gateway.clock_double import START, ClockDouble
from tests.gateway.outbox_samples import telemetry
from tests.headend.decisions import NOON, accepted, readings, register

from openami.gateway.outbox import OutboxError, OutboxLimits, open_outbox
from openami.headend.store import Access, StoreError
from openami.headend.store.sqlite import open_sqlite
from openami.simulator.disk import SECTOR_BYTES, CutReport, Disk

# More seeds find more; one is what every check has time for.
SEEDS = int(os.environ.get("OPENAMI_DISK_SEEDS", "1"))
MINUTE = timedelta(minutes=1)


@pytest.fixture
def disk() -> Iterator[Disk]:
    with Disk() as disk:
        yield disk


def connect(directory: Path, synchronous: str = "FULL") -> sqlite3.Connection:
    """Open a small log as the product opens its own, but for the syncing."""
    with ExitStack() as opening:
        connection = sqlite3.connect(directory / "log.db", isolation_level=None)
        opening.callback(connection.close)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA wal_autocheckpoint = 12")
        connection.execute("CREATE TABLE IF NOT EXISTS entry (seq INTEGER PRIMARY KEY, body BLOB)")
        opening.pop_all()
    return connection


# --- a power cut at every write ------------------------------------------------------------------


@dataclass
class Cuts:
    """What was found after each of many cuts."""

    cuts: int = 0
    lost: int = 0
    """Cuts that took something that had been acknowledged."""
    corrupt: list[str] = field(default_factory=list)
    """Why a cut left nothing the product can open, or a file that is not sound."""
    reports: list[CutReport] = field(default_factory=list)


Told = list[int]
Live = Callable[[Path, Told], Awaitable[None]]
Find = Callable[[Path], Awaitable[set[int]]]


async def cut_at_every_write(live: Live, find: Find, *, seed: int = 0, kill: bool = False) -> Cuts:
    """Run a life again and again, each time one write longer, until it ends by itself."""
    cuts = Cuts()
    for n in count(1):
        with Disk() as disk:
            told: Told = []
            disk.cut_after_writes = n
            with suppress(OutboxError, StoreError, sqlite3.Error):
                await live(disk.directory, told)
            if not disk.dead:
                return cuts
            cuts.cuts += 1
            if kill:
                disk.process_killed()
            else:
                cuts.reports.append(disk.power_cut(Random(f"{seed}/{n}")))
            try:
                found = await find(disk.directory)
            except (OutboxError, StoreError, sqlite3.Error) as error:
                cuts.corrupt.append(str(error))
            else:
                cuts.lost += not found.issuperset(told)
    raise AssertionError


def sound(path: Path) -> None:
    """Check the file as a whole, if it has come into being."""
    if path.exists():
        with closing(sqlite3.connect(path)) as connection:
            found = connection.execute("PRAGMA integrity_check").fetchall()
        if found != [("ok",)]:
            raise sqlite3.DatabaseError(f"{found[:3]}")


async def gateway_lives(directory: Path, told: Told) -> None:
    """Two lives of a gateway: what it stored, and what the broker has of it."""
    for _ in range(2):
        async with open_outbox(
            directory / "gateway.db", OutboxLimits(), ClockDouble(), boot_id="boot"
        ) as outbox:
            assert outbox.last_seq >= max(told, default=0)
            for n in range(4):
                drafts = [telemetry(START + n * MINUTE, meter) for meter in range(3)]
                told += (await outbox.append(drafts)).seqs
                if n % 2:
                    await outbox.mark_sent(told[-5:-2], START)


async def gateway_finds(directory: Path) -> set[int]:
    path = directory / "gateway.db"
    sound(path)
    async with open_outbox(path, OutboxLimits(), ClockDouble(), boot_id="boot") as outbox:
        before = outbox.last_seq
        (seq,) = (await outbox.append([telemetry(START + 9 * MINUTE)])).seqs
        assert seq == before + 1
    with closing(sqlite3.connect(path)) as connection:
        found = {seq for (seq,) in connection.execute("SELECT seq FROM outbox_entry")}
    assert max(found) == seq
    return found - {seq}


async def headend_lives(directory: Path, told: Told) -> None:
    for life in range(2):
        async with open_sqlite(str(directory / "store.db"), Access.OWN) as store:
            for n in range(life * 4, life * 4 + 4):
                await store.commit([accepted(register(n), ts=NOON + n * MINUTE, seq=n)])
                told.append(n)


async def headend_finds(directory: Path) -> set[int]:
    path = directory / "store.db"
    sound(path)
    async with open_sqlite(str(path), Access.OWN) as store:
        return {int(str(reading.value)) for reading in await readings(store)}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize(
    ("live", "find"),
    [
        pytest.param(gateway_lives, gateway_finds, id="gateway"),
        pytest.param(headend_lives, headend_finds, id="headend"),
    ],
)
async def test_a_power_cut_at_any_write_takes_nothing_acknowledged(
    live: Live, find: Find, seed: int
) -> None:
    cuts = await cut_at_every_write(live, find, seed=seed)
    print(cuts.cuts, sum(r.writes for r in cuts.reports), sum(r.torn for r in cuts.reports))
    assert cuts.cuts > 50
    assert (cuts.lost, cuts.corrupt) == (0, [])
    assert sum(report.lost for report in cuts.reports) > cuts.cuts
    assert sum(report.torn for report in cuts.reports) > cuts.cuts / 4


def log_lives(synchronous: str) -> Live:
    async def live(directory: Path, told: Told) -> None:
        with closing(connect(directory, synchronous)) as connection:
            for seq in range(1, 31):
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("INSERT INTO entry VALUES (?, zeroblob(1000))", (seq,))
                connection.execute("COMMIT")
                told.append(seq)

    return live


async def log_finds(directory: Path) -> set[int]:
    sound(directory / "log.db")
    with closing(connect(directory)) as connection:
        return {seq for (seq,) in connection.execute("SELECT seq FROM entry")}


async def test_the_cut_convicts_what_does_not_sync() -> None:
    """The instrument shows what decision 0011 says: NORMAL loses rows, OFF the file, FULL nothing."""
    full = await cut_at_every_write(log_lives("FULL"), log_finds)
    normal = await cut_at_every_write(log_lives("NORMAL"), log_finds)
    off = await cut_at_every_write(log_lives("OFF"), log_finds)
    print(full.cuts, normal.cuts, normal.lost, normal.corrupt, off.cuts, off.lost, off.corrupt)
    assert (full.lost, full.corrupt) == (0, [])
    assert normal.lost > normal.cuts * 0.4
    assert normal.corrupt == []
    assert off.corrupt


async def test_a_kill_convicts_nothing() -> None:
    """The page cache survives a process: kill -9 cannot tell NORMAL, nor even OFF, from FULL."""
    for synchronous in ("OFF", "NORMAL", "FULL"):
        killed = await cut_at_every_write(log_lives(synchronous), log_finds, kill=True)
        assert killed.cuts > 100
        assert (killed.lost, killed.corrupt) == (0, []), synchronous
