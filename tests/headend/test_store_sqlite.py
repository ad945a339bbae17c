"""The SQLite store: durable, alone in owning its file, and plain about what is wrong with it."""

# A test may hold up its own event loop.
# ruff: noqa: ASYNC221, ASYNC240

import asyncio
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from tests.headend.decisions import ENERGY, FEEDER, METER, NOON, POWER, accepted, readings, register

from openami.headend.store import Access, StoreError, Tally
from openami.headend.store.arrivals import ARRIVALS_OF_BILLING, SILENCES, put_together
from openami.headend.store.directory import SERIES_REMEMBERED_MAX
from openami.headend.store.migrations import SCHEMA, migrations
from openami.headend.store.open import open_store
from openami.headend.store.queries import PAGE, SLOTS
from openami.headend.store.sqlite import SqliteStore, _with_values, open_sqlite
from openami.profile import Obis

HOUR = timedelta(hours=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    async with open_sqlite(str(path), Access.OWN) as opened:
        yield opened


async def refusal(url: str, access: Access = Access.OWN) -> StoreError:
    """Return the error a store is refused with."""
    with pytest.raises(StoreError) as failed:
        async with open_store(url, access):
            pass
    assert failed.value.remedy
    return failed.value


# --- durability ----------------------------------------------------------------------------------


@pytest.mark.parametrize("access", [Access.OWN, Access.EDIT])
async def test_a_commit_is_synced(access: Access, path: Path) -> None:
    """NORMAL loses acknowledged rows in a power cut, and only the setting itself can show it."""
    async with open_sqlite(str(path), Access.OWN):
        pass
    async with open_sqlite(str(path), access) as store:
        settings = await store.run(
            lambda c: [
                c.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("synchronous", "journal_mode")
            ]
        )
    assert settings == [2, "wal"]


WRITER = """
import asyncio, sys
from tests.headend.decisions import NOON, accepted, register
from datetime import timedelta
from functools import partial
from openami.headend.store.open import open_store

async def main():
    async with open_store(sys.argv[1]) as store:
        for n in range(100_000):
            moments = [NOON + timedelta(milliseconds=250 * n + k) for k in range(250)]
            await store.commit([accepted(register(n), ts=ts, seq=n) for ts in moments])
            print(n, flush=True)

asyncio.run(main())
"""


def killed_writer(url: str, commits: int) -> int:
    """Run a writer, kill it with -9 in the middle of a commit; return the last one it was told of."""
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, url],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'src'}"},
    ) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) >= commits:
                break
        writer.kill()  # it has gone on meanwhile: this is somewhere within a commit
        return max(
            [commits, *map(int, re.findall(r"^(\d+)\n", writer.stdout.read(), re.MULTILINE))]
        )


@pytest.mark.slow
async def test_what_was_committed_outlives_kill_9(path: Path) -> None:
    url = f"sqlite:///{path}"
    committed = killed_writer(url, commits=20)
    async with open_store(url) as store:  # the lock went with the process
        found = await readings(store)
        totals = await store.totals()
    commits, rest = divmod(len(found), 250)
    assert rest == 0, "a commit is whole or not at all"
    assert commits in (committed + 1, committed + 2)  # the last may have ended unannounced
    assert [r.value for r in found[::250]] == list(range(commits))
    assert totals == Tally(messages=len(found), stored=len(found))


async def test_a_cancelled_commit_is_whole_or_not_at_all(store: SqliteStore) -> None:
    batch = [accepted(register(n), ts=NOON + n * HOUR) for n in range(2_000)]
    for _ in range(5):
        committing = asyncio.create_task(store.commit(batch))
        await asyncio.sleep(0.002)
        committing.cancel()
        await asyncio.gather(committing, return_exceptions=True)
        assert len(await readings(store)) in (0, len(batch))
    assert (await store.commit(batch)).duplicates in (0, len(batch))


# --- who may open it -----------------------------------------------------------------------------


async def test_a_second_head_end_is_refused(store: SqliteStore, path: Path) -> None:
    error = await refusal(f"sqlite:///{path}")
    assert error.permanent
    assert f"another head-end (process {os.getpid()})" in str(error)
    assert (await store.commit([accepted()])).stored == 1


async def test_a_second_process_is_refused_and_comes_in_afterwards(path: Path) -> None:
    code = f"""
import asyncio
from openami.headend.store.open import open_store
async def main():
    async with open_store("sqlite:///{path}"):
        print("open")
asyncio.run(main())
"""
    async with open_store(f"sqlite:///{path}"):
        refused = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert b"another head-end" in refused.stderr
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


@pytest.mark.parametrize("access", [Access.EDIT, Access.READ])
async def test_a_store_that_is_not_there(access: Access, path: Path) -> None:
    error = await refusal(f"sqlite:///{path}", access)
    assert error.permanent
    assert "there is no store at" in str(error)
    assert "is the head-end running with this --store" in error.remedy
    assert not path.exists()


@pytest.mark.parametrize("name", ["missing-folder/store.db", "file/store.db"])
async def test_a_folder_that_takes_no_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    error = await refusal(f"sqlite:///{tmp_path / name}")
    assert error.permanent
    assert "cannot be opened for writing" in str(error)


async def test_a_folder_nobody_may_write() -> None:
    error = await refusal("sqlite:////proc/store.db")  # not even root
    assert error.permanent
    assert "cannot be opened for writing" in str(error)


@pytest.mark.parametrize("url", ["sqlite:///", "sqlite:///:memory:", "sqlite:///folder/"])
async def test_a_url_that_names_no_file(url: str) -> None:
    assert (await refusal(url)).permanent


@pytest.mark.parametrize("url", ["mysql://host/db", "store.db", "", "SQLITE:///x"])
async def test_a_url_of_no_known_kind(url: str) -> None:
    error = await refusal(url)
    assert error.permanent
    assert "sqlite:///" in error.remedy


async def test_a_relative_path_is_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_store("sqlite:///a b%20?#.db"):
        pass
    assert (tmp_path / "a b%20?#.db").exists()


async def test_readings_are_not_for_everybody(store: SqliteStore, path: Path) -> None:
    assert path.stat().st_mode & 0o777 & ~0o640 == 0


@pytest.mark.parametrize("access", list(Access))
async def test_the_database_of_another_program(access: Access, path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE outbox (id INTEGER)")
    error = await refusal(f"sqlite:///{path}", access)
    assert error.permanent
    assert "is not a head-end's store" in str(error)
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT name FROM sqlite_schema").fetchall() == [("outbox",)]


@pytest.mark.parametrize("access", list(Access))
async def test_a_file_that_is_no_database(access: Access, path: Path) -> None:
    path.write_bytes(b"readings,of,june\n" * 300)
    error = await refusal(f"sqlite:///{path}", access)
    assert error.permanent
    assert "not a SQLite database" in str(error)


async def test_a_damaged_database(path: Path) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        await store.commit([accepted(ts=NOON + n * HOUR) for n in range(2_000)])
    pages = path.read_bytes()
    path.write_bytes(pages[: 4096 * 4] + b"\xa5" * (len(pages) - 4096 * 4))
    with pytest.raises(StoreError, match="damaged") as failed:
        async with open_store(f"sqlite:///{path}") as store:
            await readings(store)
    assert failed.value.permanent
    assert "backup" in failed.value.remedy


# --- what happens to it while it is open ---------------------------------------------------------


async def test_a_full_disk_commits_nothing_and_is_recovered_from(store: SqliteStore) -> None:
    await store.commit([accepted()])

    def limit(connection: sqlite3.Connection, more_pages: int) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + more_pages}")

    batch = [accepted(register(n), ts=NOON + n * HOUR, meter=f"N-{n}") for n in range(500)]
    failures = 0
    for room in range(1, 200, 2):  # the disk fills at the names, at the readings, at the meters …
        await store.run(partial(limit, more_pages=room))
        try:
            tally = await store.commit(batch)
        except StoreError as error:
            failure = error
        else:
            break
        assert "disk is full" in str(failure)
        assert not failure.permanent
        assert len(await store.meters()) == 1
        assert (await store.totals()).messages == 1
        failures += 1
    else:
        pytest.fail("there was never room enough")
    assert failures > 5
    # What it remembered of the lost transactions is gone: every reading has its series.
    assert tally.stored == 500
    for n in (0, 250, 499):
        assert [r.value for r in await readings(store, meter=f"N-{n}")] == [n]


async def test_a_database_locked_by_another_program(
    path: Path,
) -> None:
    async with open_sqlite(str(path), Access.OWN) as store:
        await store.run(lambda c: c.execute("PRAGMA busy_timeout = 50"))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="another program holds") as failed:
                await store.commit([accepted()])
            assert not failed.value.permanent
            other.execute("ROLLBACK")
        assert (await store.commit([accepted()])).stored == 1


@pytest.mark.parametrize("restored", [False, True])
async def test_a_file_that_is_taken_away_gets_no_acknowledgement(
    restored: bool, store: SqliteStore, path: Path
) -> None:
    """SQLite itself would go on, into a file without a name."""
    await store.commit([accepted()])
    if restored:
        copy = path.with_name("backup.db")
        copy.write_bytes(path.read_bytes())
        copy.rename(path)
    else:
        path.unlink()
    with pytest.raises(StoreError, match="was deleted, moved or replaced") as failed:
        await store.commit([accepted(register(2), ts=NOON + HOUR)])
    assert failed.value.permanent
    assert "start it again" in failed.value.remedy


async def test_the_commands_that_read_need_not_write(path: Path) -> None:
    """A reader changes nothing in the file, nor its schema."""
    async with open_store(f"sqlite:///{path}") as store:
        await store.commit([accepted()])
    before = path.read_bytes()
    async with open_store(f"sqlite:///{path}", Access.READ) as reader:
        assert len(await readings(reader)) == 1
        with pytest.raises(StoreError, match="may only be read") as failed:
            await reader.commit([accepted(register(2))])
        assert failed.value.permanent
    assert path.read_bytes() == before


async def test_two_edits_at_once_are_no_second_head_end(store: SqliteStore, path: Path) -> None:
    url = f"sqlite:///{path}"
    async with open_store(url, Access.EDIT) as one, open_store(url, Access.EDIT) as two:
        tallies = await asyncio.gather(
            one.commit([accepted(register(1))]),
            two.commit([accepted(register(1))]),
            store.commit([accepted(register(1))]),
        )
    assert sum(t.stored for t in tallies) == 1
    assert sum(t.duplicates for t in tallies) == 2


# --- memory and plans ----------------------------------------------------------------------------


async def test_what_it_remembers_is_bounded(store: SqliteStore) -> None:
    codes = [
        Obis.parse(f"1-0:{c}.{d}.{e}") for c in range(1, 250) for d in range(20) for e in range(2)
    ]
    for n in range(8):
        await store.commit(
            [
                accepted(*(register(1, code) for code in codes[at : at + 100]), meter=f"M-{n}")
                for at in range(0, len(codes), 100)
            ]
        )
    directory = store._directory
    assert 8 * len(codes) > SERIES_REMEMBERED_MAX
    directory.keep_bounds()
    assert sum(map(len, directory.meters.values())) <= SERIES_REMEMBERED_MAX
    assert (await store.commit([accepted(register(1, codes[0]), meter="M-0")])).duplicates == 1


async def test_no_question_scans_the_readings(store: SqliteStore) -> None:
    """Every access to `reading` and `series` is a search by key; the recursion's own table is small."""

    def plan(connection: sqlite3.Connection, sql: str, count: int) -> list[str]:
        rows = connection.execute(f"EXPLAIN QUERY PLAN {_with_values(sql)}", [0] * count)
        return [row[3] for row in rows]

    slots = await store.run(lambda c: plan(c, SLOTS, 3))
    page = await store.run(lambda c: plan(c, PAGE, 13))
    assert [line for line in slots if "reading" in line] == [
        "SEARCH reading USING PRIMARY KEY (bucket>? AND bucket<?)"
    ] * 2
    assert "SEARCH r USING PRIMARY KEY (bucket=? AND series=?)" in page
    assert not [line for line in page + slots if re.match("SCAN (?!slot|json_each|CONSTANT)", line)]
    assert any("SEARCH s USING INDEX" in line and "obis>? AND obis<?" in line for line in page)
    for meters in (None, 3):
        sql = put_together(ARRIVALS_OF_BILLING, 7, meters)
        arrivals = await store.run(lambda c, sql=sql, n=meters: plan(c, sql, 13 + (n or 0)))  # type: ignore[misc]
        assert "SEARCH r USING PRIMARY KEY (bucket=? AND series=?)" in arrivals, arrivals
        assert not [line for line in arrivals if re.match("SCAN (?!those)", line)], arrivals
    silences = await store.run(lambda c: plan(c, SILENCES, 4))
    assert len([line for line in silences if "INDEX event_of_silence" in line]) == 2, silences


async def test_a_month_of_one_register_costs_no_more_beside_many(store: SqliteStore) -> None:
    """Counted in steps of SQLite's own machine, which no neighbour on the processor disturbs."""
    steps = 0

    def counted() -> int:
        nonlocal steps
        steps += 1
        return 0

    async def cost() -> int:
        nonlocal steps
        await store.run(lambda c: c.set_progress_handler(counted, 100))
        steps = 0
        wanted = {"since": NOON, "until": NOON + timedelta(days=30)}
        found = [r async for r in store.readings(FEEDER, METER, obis=ENERGY, **wanted)]
        assert len(found) == 30 * 24
        await store.run(lambda c: c.set_progress_handler(None, 0))
        return steps

    month = [NOON + n * HOUR for n in range(30 * 24)]
    await store.commit([accepted(register(1), ts=ts) for ts in month])
    alone = await cost()
    for n in range(20):
        await store.commit(
            [accepted(register(1), register(2, POWER), ts=ts, meter=f"N-{n}") for ts in month]
        )
    assert await cost() < 1.2 * alone


async def test_the_view_for_people(store: SqliteStore, path: Path) -> None:
    ts = NOON + timedelta(milliseconds=7)
    await store.commit([accepted(register("on", unit="enum"), ts=ts, received_at=NOON + HOUR)])
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM readings").fetchall() == [
            (
                *(FEEDER, METER, "1.8.0", "2026-06-22T12:00:00.007Z", "on", "enum", "good"),
                "2026-06-22T13:00:00.000Z",
            )
        ]


# --- migrations ----------------------------------------------------------------------------------

KNOWN = len(migrations(SCHEMA / "sqlite"))

NEXT_STEP = """
-- A column; and a trigger, whose body has semicolons of its own.
ALTER TABLE meter ADD COLUMN pole TEXT;
CREATE TRIGGER meter_pole AFTER UPDATE OF pole ON meter BEGIN
    UPDATE tally SET events = events + 1;
    UPDATE tally SET events = events - 1;
END;
"""


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The schema of a later program."""
    folder = tmp_path / "schema"
    folder.mkdir()
    for file in (SCHEMA / "sqlite").glob("*.sql"):
        (folder / file.name).write_text(file.read_text())
    (folder / f"{KNOWN + 1:04}_poles.sql").write_text(NEXT_STEP)
    return folder


async def test_an_old_store_is_brought_up_to_date_with_all_it_holds(
    path: Path, newer: Path
) -> None:
    async with open_sqlite(str(path), Access.OWN) as old:
        await old.commit([accepted()])
    for _ in range(2):  # the second time there is nothing to do
        async with open_sqlite(str(path), Access.OWN, schema=newer) as store:
            assert len(await readings(store)) == 1
            await store.run(lambda c: c.execute("UPDATE meter SET pole = '7'"))
            noted = await store.run(
                lambda c: c.execute("SELECT number, name FROM migration").fetchall()
            )
            assert noted == [(int(file.name[:4]), file.name) for file in sorted(newer.iterdir())]
            assert noted[-1] == (KNOWN + 1, f"{KNOWN + 1:04}_poles.sql")


async def test_a_newer_store_is_left_alone(path: Path, newer: Path) -> None:
    async with open_sqlite(str(path), Access.OWN, schema=newer):
        pass
    for access in Access:
        error = await refusal(f"sqlite:///{path}", access)
        assert error.permanent
        assert f"has schema {KNOWN + 1}, and this program knows up to {KNOWN}" in str(error)


@pytest.mark.parametrize("access", [Access.EDIT, Access.READ])
async def test_only_the_head_end_migrates(access: Access, path: Path, newer: Path) -> None:
    async with open_sqlite(str(path), Access.OWN):
        pass
    with pytest.raises(StoreError, match=f"needs {KNOWN + 1}") as failed:
        async with open_sqlite(str(path), access, schema=newer):
            pass
    assert failed.value.permanent
    assert "start the head-end" in failed.value.remedy


async def test_a_migration_that_fails_leaves_the_old_schema_whole(path: Path, newer: Path) -> None:
    (newer / f"{KNOWN + 2:04}_broken.sql").write_text(
        "CREATE TABLE half (x); CREATE TABLE meter (x);"
    )
    async with open_sqlite(str(path), Access.OWN):
        pass
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError, match="already exists"):
            async with open_sqlite(str(path), Access.OWN, schema=newer):
                pass
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT max(number) FROM migration").fetchone() == (KNOWN + 1,)
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE name = 'half'")
        assert tables.fetchall() == []
