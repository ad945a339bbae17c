"""Old stores come up to date with everything they held: step by step, in one go, and killed within any step.

`make upgrade` does it with a village's year, some millions of readings.
"""

import asyncio
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from tests.headend.old_store import (
    DAYS,
    FEEDER,
    KEPT,
    NEWEST,
    STEP_KWH,
    STEPS_A_DAY,
    YEAR_BEGAN,
    OldPostgres,
    OldSqlite,
    OldStore,
    fill,
    hash_of_readings,
    keep,
    kept_until,
    schema_until,
)
from tests.headend.program import openami_process

from openami.headend.backups.making import back_up, restore
from openami.headend.periods import Step
from openami.headend.store import Access, StoreError
from openami.headend.store.migrations import SCHEMA, migrations
from openami.headend.store.open import open_store

METERS = int(os.environ.get("OPENAMI_UPGRADE_METERS", "32"))  # 105,120 readings
FEW = 4
# The head-end's own processor time for each reading; measured at 1 µs.
UPGRADE_US_PER_READING = 20
pytestmark = pytest.mark.slow
ENGINES = [pytest.param("sqlite"), pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture(params=ENGINES)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> OldStore:
    """A place for an old store, once for each engine."""
    if request.param == "postgres":
        return OldPostgres(request.getfixturevalue("postgres_url"))
    return OldSqlite(tmp_path / "headend.db")


async def made(store: OldStore, number: int, tmp_path: Path, *, meters: int, days: int) -> None:
    """Make the store as a program of that schema had it."""
    await store.upgrade(schema_until(store.engine, number, tmp_path / f"{store.engine}-{number}"))
    await fill(store, meters=meters, days=days)
    for n in range(2, number + 1):
        await keep(store, n)


async def check_what_it_tells(url: str, *, meters: int, days: int) -> None:
    """Ask the program of today about what the program of then wrote."""
    async with open_store(url) as store:
        assert len(await store.meters(feeder_id=FEEDER)) == meters
        latest = {str(each.obis): each.value for each in await store.latest(FEEDER, "M-0001")}
        assert latest == {
            "1.8.0": 1001.0 + (days * STEPS_A_DAY - 1) * STEP_KWH,
            "96.11.1": "connected",
        }
        day = YEAR_BEGAN + timedelta(days=days // 2)
        [told] = await store.energy(
            FEEDER, day, day + timedelta(days=1), Step.DAY, meter_serial="M-0001"
        )
        assert told.wh == (int(1000 * STEPS_A_DAY * STEP_KWH),)


async def test_a_year_comes_up_to_date_in_one_go_and_can_be_restored(
    old: OldStore, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    await made(old, 1, tmp_path, meters=METERS, days=DAYS)
    before = await hash_of_readings(old)
    backup = tmp_path / "backup.tar"
    await asyncio.to_thread(back_up, old.url, backup, now=YEAR_BEGAN + timedelta(days=DAYS))
    began = time.process_time()
    await old.upgrade(SCHEMA / old.engine)
    readings = METERS * DAYS * (STEPS_A_DAY + 1)
    assert (time.process_time() - began) * 1e6 <= readings * UPGRADE_US_PER_READING + 1e6
    assert await hash_of_readings(old) == before
    await check_what_it_tells(old.url, meters=METERS, days=DAYS)

    again: OldStore
    if old.engine == "sqlite":
        again = OldSqlite(tmp_path / "restored.db")
    else:
        again = OldPostgres(request.getfixturevalue("postgres").new_database())
    manifest, _ = await asyncio.to_thread(
        restore, backup, again.url, who="anita", now=YEAR_BEGAN + timedelta(days=DAYS + 1)
    )
    assert (manifest.db_schema, manifest.tables["reading"].rows) == (1, readings)
    assert await hash_of_readings(again) == before
    await check_what_it_tells(again.url, meters=METERS, days=DAYS)


async def test_step_by_step_nothing_is_lost(old: OldStore, tmp_path: Path) -> None:
    await made(old, 1, tmp_path, meters=FEW, days=DAYS)
    before = await hash_of_readings(old)
    for number in range(2, NEWEST + 1):
        held = await kept_until(old, number - 1)
        await old.upgrade(schema_until(old.engine, number, tmp_path / f"step-{number}"))
        assert await hash_of_readings(old) == before, number
        assert await kept_until(old, number - 1) == held, number
        await keep(old, number)
    await check_what_it_tells(old.url, meters=FEW, days=DAYS)
    async with open_store(old.url) as store:
        assert [(t.label, t.relays, t.accounts) for t in await store.tokens()] == [
            ("billing", False, False)
        ]
        command = await store.command("cmd-1")
        assert command is not None
        assert command.state.name == "CONFIRMED"


async def test_from_every_earlier_schema_in_one_go(tmp_path: Path, old: OldStore) -> None:
    """On PostgreSQL, where making a schema is dear, from every third: each single step is tested above."""
    for number in range(1, NEWEST, 1 if old.engine == "sqlite" else 3):
        store: OldStore = old
        if isinstance(old, OldSqlite):
            store = OldSqlite(tmp_path / f"from-{number}.db")
        elif number > 1:
            await old.rows("DROP SCHEMA openami CASCADE")
        await made(store, number, tmp_path, meters=2, days=3)
        before, held = await hash_of_readings(store), await kept_until(store, number)
        await store.upgrade(SCHEMA / store.engine)
        assert await hash_of_readings(store) == before, number
        assert await kept_until(store, number) == held, number
        assert len(held) == sum(len(rows) for n, rows in KEPT.items() if n <= number)


# --- killed --------------------------------------------------------------------------------------


async def test_killed_within_any_step_it_goes_on_where_it_was(tmp_path: Path) -> None:
    """Every step is one transaction with its note: a death leaves the one before it, whole."""
    store = OldSqlite(tmp_path / "headend.db")
    await made(store, 1, tmp_path, meters=2, days=30)
    before = await hash_of_readings(store)
    folder = tmp_path / "killed"
    folder.mkdir()
    command = [sys.executable, "-m", "tests.headend.killed_upgrades", str(store.path), str(folder)]
    run = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=True, timeout=60
    )
    ends = dict(line.split() for line in run.stdout.splitlines())
    first = {"0001-first.db", "0001-last.db"}  # done long ago: there is nothing to die in
    assert {ends.pop(name) for name in first} == {"0"}
    assert len(ends) == 2 * (NEWEST - 1)
    assert set(ends.values()) == {"-9"}
    for name in ends:
        died = OldSqlite(folder / name)
        assert await died.rows("SELECT max(number) FROM migration") == [(int(name[:4]) - 1,)]
        assert await hash_of_readings(died) == before
        await died.upgrade(SCHEMA / "sqlite")
        assert await died.rows("SELECT max(number) FROM migration") == [(NEWEST,)]
        assert await hash_of_readings(died) == before


@pytest.mark.postgres
async def test_a_server_that_ends_the_session_within_any_step_has_done_none(
    postgres_url: str, tmp_path: Path
) -> None:
    """On PostgreSQL all steps are one transaction."""
    store = OldPostgres(postgres_url)
    await made(store, 1, tmp_path, meters=2, days=30)
    before = await hash_of_readings(store)
    for step in migrations(SCHEMA / "postgres")[1:]:
        schema = schema_until("postgres", NEWEST, tmp_path / f"cut-{step.number}")
        (schema / step.name).write_text(
            step.script + "\nSELECT pg_terminate_backend(pg_backend_pid());"
        )
        with pytest.raises(StoreError):
            await store.upgrade(schema)
        assert await store.rows("SELECT max(number) FROM migration") == [(1,)]
    await store.upgrade(SCHEMA / "postgres")
    assert await hash_of_readings(store) == before


# --- back again ----------------------------------------------------------------------------------


async def test_an_older_program_refuses_a_newer_store(tmp_path: Path) -> None:
    store = OldSqlite(tmp_path / "headend.db")
    newer = schema_until("sqlite", NEWEST, tmp_path / "newer")
    (newer / f"{NEWEST + 1:04}_tomorrow.sql").write_text(
        "CREATE TABLE tomorrow (x INTEGER) STRICT;"
    )
    await store.upgrade(newer)
    for access in Access:
        with pytest.raises(StoreError, match=f"knows up to {NEWEST}") as refused:
            async with open_store(store.url, access):
                pass
        assert "install that version" in refused.value.remedy
    command = [sys.executable, "-m", "openami", "headend", "run", "--store", store.url]
    run = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False, timeout=30
    )
    assert run.returncode == 2
    assert f"has schema {NEWEST + 1}" in run.stderr
    assert "Traceback" not in run.stderr
    assert openami_process("meter", "list", "--store", store.url, code=2) == ""
