"""The simulated disk: a power cut on it takes what nobody was promised, and shows who promised too much."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from random import Random

import pytest
from tests.gateway.clock_double import START, ClockDouble
from tests.gateway.outbox_samples import telemetry
from tests.headend.decisions import NOON, accepted, readings, register

from openami.gateway.outbox import Draft, Outbox, OutboxError, OutboxLimits, open_outbox
from openami.headend.store import Access, StoreError
from openami.headend.store.sqlite import open_sqlite
from openami.simulator.disk import Disk
from openami.simulator.power_cut import SECTOR_BYTES, CutReport

# More seeds find more; one is what every check has time for. From the second on the power fails twice.
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
                random = Random(f"{seed}/{n}")
                cuts.reports.append(disk.power_cut(random))
                if seed:
                    disk.cut_after_writes = random.randint(1, 12)
                    with suppress(OutboxError, StoreError, sqlite3.Error):
                        await live(disk.directory, told)
                    cuts.reports.append(disk.power_cut(random))
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
    assert cuts.cuts > 200
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


# --- what a cut does, and what it leaves alone ---------------------------------------------------


def test_what_was_open_is_dead_and_writes_nothing(disk: Disk) -> None:
    with closing(connect(disk.directory)) as before:
        before.execute("INSERT INTO entry VALUES (1, NULL)")
        disk.power_cut(Random(1))
        files = {file: file.read_bytes() for file in disk.directory.iterdir()}
        for statement in ("SELECT count(*) FROM entry", "INSERT INTO entry VALUES (2, NULL)"):
            with pytest.raises(sqlite3.OperationalError) as dead:
                before.execute(statement)
            assert dead.value.sqlite_errorcode & 0xFF == sqlite3.SQLITE_IOERR
    assert {file: file.read_bytes() for file in disk.directory.iterdir()} == files
    with closing(connect(disk.directory)) as after:
        assert after.execute("SELECT seq FROM entry").fetchall() == [(1,)]
        after.execute("INSERT INTO entry VALUES (2, NULL)")


@pytest.mark.parametrize("end", ["power_cut", "process_killed"])
def test_a_lock_dies_with_its_holder(disk: Disk, end: str) -> None:
    with closing(connect(disk.directory)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        if end == "power_cut":
            disk.power_cut(Random(1))
        else:
            disk.process_killed()
        with closing(connect(disk.directory)) as other:
            other.execute("BEGIN IMMEDIATE")


def test_what_survived_a_kill_may_still_be_lost_to_a_cut(disk: Disk) -> None:
    """A process that dies has not synced anything."""
    connect(disk.directory, "NORMAL").execute("INSERT INTO entry VALUES (1, NULL)")
    disk.process_killed()
    assert disk.unsynced
    with closing(connect(disk.directory)) as connection:
        assert connection.execute("SELECT count(*) FROM entry").fetchone() == (1,)


def test_unsynced_tells_whether_all_that_was_said_is_durable(disk: Disk) -> None:
    with closing(connect(disk.directory)) as connection:
        connection.execute("INSERT INTO entry VALUES (1, NULL)")
        assert disk.unsynced == 0
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("INSERT INTO entry VALUES (2, NULL)")
        assert disk.unsynced > 0
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("INSERT INTO entry VALUES (3, NULL)")
        assert disk.unsynced == 0


def overwritten(seed: int) -> tuple[CutReport, bytes]:
    """Cut the power while a file full of a is written full of b, and synced by nobody."""
    with Disk() as disk:
        with closing(sqlite3.connect(disk.directory / "a.db", isolation_level=None)) as connection:
            connection.execute("CREATE TABLE entry (body BLOB)")
            connection.execute("INSERT INTO entry VALUES (?)", (b"a" * 200_000,))
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("UPDATE entry SET body = ?", (b"b" * 200_000,))
            report = disk.power_cut(Random(seed))
        return report, (disk.directory / "a.db").read_bytes()


def test_a_write_is_torn_between_sectors_never_within_one() -> None:
    report, found = overwritten(4)
    assert report.torn > 3
    assert report.lost > 3
    assert report.kept > 3
    sectors = [found[at : at + SECTOR_BYTES] for at in range(0, len(found), SECTOR_BYTES)]
    assert not [s for s in sectors if b"aaaa" in s and b"bbbb" in s]
    pages = [found[at : at + 4096] for at in range(0, len(found), 4096)]
    assert [p for p in pages if b"aaaa" in p and b"bbbb" in p]


def test_the_same_random_cuts_the_same_way() -> None:
    assert overwritten(4) == overwritten(4)
    assert overwritten(4) != overwritten(5)


def test_a_name_nobody_synced_may_be_lost() -> None:
    """SQLite syncs the folder of a new database only with the first sync of its journal."""
    found = set()
    for seed in range(20):
        with Disk() as disk:
            with closing(sqlite3.connect(disk.directory / "new.db")) as connection:
                connection.execute("PRAGMA synchronous = OFF")
                connection.execute("CREATE TABLE entry (n)")
                lost = disk.power_cut(Random(seed)).names_lost
            found.add((lost > 0, (disk.directory / "new.db").exists()))
    assert {exists for _, exists in found} == {True, False}
    assert (False, False) not in found


# --- a disk that is full, fails, is slow ---------------------------------------------------------


async def test_on_a_full_disk_the_reserve_is_spent_and_then_the_outbox_says_so(disk: Disk) -> None:
    path = disk.directory / "gateway.db"
    drafts = [telemetry(START, meter) for meter in range(500)]
    async with open_outbox(path, OutboxLimits(), ClockDouble()) as outbox:
        await outbox.append(drafts)
        assert path.with_name("gateway.db-reserve").exists()
        disk.bytes_free = 0
        refusal = await refused(outbox, drafts)
        assert "disk is full" in refusal
        assert not path.with_name("gateway.db-reserve").exists()
        disk.bytes_free = None
        await outbox.append(drafts)


async def refused(outbox: Outbox, drafts: Sequence[Draft]) -> str:
    """Append until the outbox refuses; return what it says. The reserve is good for some."""
    for appended in range(100):
        try:
            await outbox.append(drafts)
        except OutboxError as error:
            assert appended > 5
            return str(error)
    raise AssertionError("the disk never filled")


def test_full_is_full_to_the_byte(disk: Disk) -> None:
    with closing(connect(disk.directory)) as connection:
        log = disk.directory / "log.db-wal"
        before = log.stat().st_size
        connection.execute("INSERT INTO entry VALUES (1, NULL)")
        frames = log.stat().st_size - before
        disk.bytes_free = frames
        connection.execute("INSERT INTO entry VALUES (2, NULL)")
        assert disk.bytes_free == 0
        disk.bytes_free = frames - 1
        with pytest.raises(sqlite3.OperationalError) as full:
            connection.execute("INSERT INTO entry VALUES (3, NULL)")
        assert full.value.sqlite_errorcode == sqlite3.SQLITE_FULL
        disk.bytes_free = None
        connection.execute("INSERT INTO entry VALUES (3, NULL)")


async def test_a_failing_disk_can_be_read_and_is_named(disk: Disk) -> None:
    async with open_outbox(disk.directory / "g.db", OutboxLimits(), ClockDouble()) as outbox:
        await outbox.append([telemetry(START)])
        disk.failing = True
        with pytest.raises(OutboxError, match="disk failed"):
            await outbox.append([telemetry(START)])
        assert len(await outbox.pending(10)) == 1
        disk.failing = False
        await outbox.append([telemetry(START)])


def test_a_slow_disk_costs_a_sync_each_and_waits_for_nobody(disk: Disk) -> None:
    with closing(connect(disk.directory)) as connection:
        disk.sync_delay_s = 30.0
        connection.execute("INSERT INTO entry VALUES (1, NULL)")
        assert disk.take_cost_s() == 30.0
        assert disk.take_cost_s() == 0.0


# --- what it costs -------------------------------------------------------------------------------


def test_a_disk_that_records_nothing_intercepts_nothing() -> None:
    with Disk(record=False) as disk, closing(connect(disk.directory)) as connection:
        connection.execute("INSERT INTO entry VALUES (1, NULL)")
        assert disk.writes == 0
    assert not disk.directory.exists()


def test_an_error_in_the_disk_itself_is_not_swallowed() -> None:
    """It cannot pass through SQLite, which sees a failing disk; it comes out at the end."""

    class Broken(Disk):
        def opened(self, path: str, how: object) -> int:
            raise ZeroDivisionError

    with (
        pytest.raises(ZeroDivisionError),
        Broken() as disk,
        pytest.raises(sqlite3.OperationalError),
    ):
        connect(disk.directory)


LEFT_OPEN = """
import builtins, sqlite3
from openami.simulator.disk import Disk
disk = Disk().__enter__()
print(disk.directory)
builtins.kept = sqlite3.connect(disk.directory / "log.db", isolation_level=None)
builtins.kept.execute("PRAGMA journal_mode = WAL")
builtins.kept.execute("CREATE TABLE entry (seq INTEGER)")
"""


def test_a_connection_left_open_does_not_call_into_an_interpreter_that_is_gone() -> None:
    ended = subprocess.run([sys.executable, "-c", LEFT_OPEN], capture_output=True, text=True)
    shutil.rmtree(ended.stdout.strip())
    assert (ended.returncode, ended.stderr) == (0, "")
