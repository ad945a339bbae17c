"""An outbox of a year comes up to date from every earlier schema, and killed within any step, with all it held."""

import asyncio
import hashlib
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from tests.gateway.clock_double import START, ClockDouble

from openami.gateway.database import open_database, schema_files
from openami.gateway.outbox import OutboxLimits, open_outbox

NEWEST: Final = max(schema_files())
DAYS: Final = 365
A_DAY: Final = 24
LIMITS: Final = OutboxLimits()


def made(path: Path, number: int, *, days: int = DAYS) -> None:
    """Write the file that a gateway of that schema had after so long without a network."""
    scripts = schema_files()
    with closing(sqlite3.connect(path, isolation_level=None)) as store:
        store.execute("PRAGMA journal_mode = WAL")
        store.execute("PRAGMA synchronous = OFF")  # what is made up need not be durable
        for n in range(1, number + 1):
            store.executescript(f"BEGIN; {scripts[n]}; PRAGMA user_version = {n}; COMMIT;")
        store.execute("BEGIN")
        store.execute("INSERT INTO outbox_topic VALUES (1, 'openami/v1/f/g/meter/M-1/telemetry')")
        began = int((START - timedelta(days=days)).timestamp() * 1000)
        entries = [
            (
                n,
                "pending",
                "telemetry",
                "billing",
                1,
                began + n * 3_600_000,
                began + n * 3_600_000,
                450,
            )
            for n in range(1, days * A_DAY + 1)
        ]
        store.executemany("INSERT INTO outbox_entry VALUES (?, ?, ?, ?, ?, ?, ?, ?)", entries)
        store.executemany(
            "INSERT INTO outbox_payload VALUES (?, ?)",
            [(e[0], b'{"n":%d}' % e[0]) for e in entries],
        )
        store.execute("UPDATE outbox_progress SET last_seq = ?", (days * A_DAY,))
        if number >= 2:
            store.execute("INSERT INTO meter_memory VALUES ('M-1', '{\"kwh\": 7}')")
        if number >= 3:
            store.execute(
                "INSERT INTO command_done (identity, session_id, seq, meter, action, digest, "
                "not_after_s, state) VALUES ('s/M-1/9', 's', 9, 'M-1', 'relay.disconnect', 'd', 1, 'done')"
            )
            store.execute("INSERT INTO command_high_water VALUES ('s', 'M-1', 9)")
        store.execute("COMMIT")


def held(path: Path) -> str:
    """Return one hash of everything that waits, and of what may not be done twice."""
    digest = hashlib.sha256()
    with closing(sqlite3.connect(path)) as store:
        for table in ("outbox_topic", "outbox_entry", "outbox_payload", "outbox_total"):
            digest.update(repr(store.execute(f"SELECT * FROM {table}").fetchall()).encode())
        for table in ("meter_memory", "command_done", "command_high_water"):
            if store.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (table,)).fetchone():
                rows = store.execute(f"SELECT * FROM {table}").fetchall()
                digest.update(repr(rows).encode() if rows else b"")
    return digest.hexdigest()


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as store:
        [number] = store.execute("PRAGMA user_version").fetchone()
        return int(number)


@pytest.mark.parametrize("number", range(1, NEWEST + 1))
async def test_a_year_without_a_network_comes_up_to_date(number: int, tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    made(path, number)
    before = held(path)
    async with open_database(path):
        pass
    assert (version(path), held(path)) == (NEWEST, before)
    async with open_outbox(path, LIMITS, ClockDouble()) as outbox:
        state = await outbox.state()
        assert state.pending == DAYS * A_DAY
        [newest] = await outbox.pending(1)
        assert (newest.seq, newest.payload) == (DAYS * A_DAY, b'{"n":%d}' % (DAYS * A_DAY))


_DIES = """
import asyncio, os, signal, sqlite3, sys
from pathlib import Path
from openami.gateway import database
connect, files = sqlite3.connect, database.schema_files
def deadly(*where, **how):
    connection = connect(*where, **how)
    connection.create_function("die", 0, lambda: os.kill(os.getpid(), signal.SIGKILL))
    return connection
sqlite3.connect = deadly
async def upgrade(path):
    async with database.open_database(path):
        pass
for path in map(Path, sys.argv[1:]):
    number = int(path.stem)
    scripts = files()
    scripts[number] += "; SELECT die();"
    database.schema_files = lambda: scripts
    if (child := os.fork()) == 0:
        asyncio.run(upgrade(path))
        os._exit(0)
    print(path.stem, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


async def test_killed_within_any_step_it_goes_on_where_it_was(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.db" for number in range(2, NEWEST + 1)]
    for path in paths:
        made(path, 1, days=30)
    before = held(paths[0])
    command = [sys.executable, "-c", _DIES, *map(str, paths)]
    run = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=True, timeout=60
    )
    assert [line.split()[1] for line in run.stdout.splitlines()] == ["-9"] * len(paths)
    for path in paths:
        assert version(path) == int(path.stem) - 1
        async with open_database(path):
            pass
        assert (version(path), held(path)) == (NEWEST, before)
