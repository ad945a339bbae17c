"""The gateway's file: durable by its settings, one step of the schema at a time, clear when it cannot."""

import os
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from tests.gateway.clock_double import START, ClockDouble
from tests.gateway.outbox_samples import rows, telemetry

from openami.gateway.database import (
    Database,
    DatabaseError,
    open_database,
    schema_files,
)
from openami.gateway.outbox import OutboxError, OutboxLimits, open_outbox
from openami.sqlite_transaction import transaction


def pragma(connection: sqlite3.Connection, name: str) -> object:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return value


async def ask(database: Database, name: str) -> object:
    return await database.run(lambda connection: pragma(connection, name))


async def test_the_connection_that_writes_syncs_at_every_commit(tmp_path: Path) -> None:
    """NORMAL would pass every kill -9 test and lose acknowledged rows in a power cut (decision 0011)."""
    async with open_database(tmp_path / "gateway.db") as database:
        assert await ask(database, "synchronous") == 2
        assert await ask(database, "journal_mode") == "wal"
        assert await ask(database, "busy_timeout") == 5_000


async def test_an_append_is_one_commit(tmp_path: Path) -> None:
    """The log's commit frames are counted: a frame that ends a transaction names the file's size."""
    path = tmp_path / "gateway.db"
    async with open_outbox(path, OutboxLimits(), ClockDouble()) as outbox:
        await outbox.append([telemetry(START)])
        before = commits(path)
        await outbox.append([telemetry(START, meter) for meter in range(20)])
        assert commits(path) == before + 1
        await outbox.mark_sent(range(1, 22), START)
        assert commits(path) == before + 2
        await outbox.pending(10)
        await outbox.state()
        assert commits(path) == before + 2


def commits(path: Path) -> int:
    """Count commit frames in the write-ahead log (file format, section 4.1)."""
    log = path.with_name(path.name + "-wal").read_bytes()
    page = int.from_bytes(log[8:12], "big")
    salt = log[16:24]
    frames = range(32, len(log) - 24 - page + 1, 24 + page)
    return sum(log[at + 8 : at + 16] == salt and log[at + 4 : at + 8] != bytes(4) for at in frames)


async def test_what_append_returned_for_is_in_the_log_not_in_memory(tmp_path: Path) -> None:
    """A copy of the files, taken without the program's help, holds every committed entry."""
    path = tmp_path / "gateway.db"
    async with open_outbox(path, OutboxLimits(), ClockDouble()) as outbox:
        await outbox.append([telemetry(START, meter) for meter in range(20)])
        copies = tmp_path / "copies"
        copies.mkdir()
        for name in ("gateway.db", "gateway.db-wal"):
            shutil.copy(tmp_path / name, copies / name)
    async with open_outbox(copies / "gateway.db", OutboxLimits(), ClockDouble()) as outbox:
        assert len(await outbox.pending(100)) == 20


async def test_a_log_torn_at_any_frame_leaves_whole_batches(tmp_path: Path) -> None:
    """What a power cut leaves of unsynced writes: a prefix, and perhaps a torn frame at its end."""
    path = tmp_path / "gateway.db"
    async with open_outbox(path, OutboxLimits(), ClockDouble()) as outbox:
        with closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        for _ in range(3):
            await outbox.append([telemetry(START, meter) for meter in range(5)])
        base = path.read_bytes()
        log = path.with_name(path.name + "-wal").read_bytes()
    sizes = []
    for cut in range(0, len(log) + 1, 4096 + 24):
        for torn in (0, 100):
            (tmp_path / "cut.db").write_bytes(base)
            (tmp_path / "cut.db-wal").write_bytes(log[: cut + 32 + torn])
            (tmp_path / "cut.db-shm").unlink(missing_ok=True)
            async with open_outbox(tmp_path / "cut.db", OutboxLimits(), ClockDouble()) as outbox:
                sizes.append(len(await outbox.pending(100)))
                assert outbox.last_seq == sizes[-1]
    assert sizes == sorted(sizes)
    assert set(sizes) == {0, 5, 10, 15}


async def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        with transaction(connection):
            connection.execute("INSERT INTO outbox_topic (topic) VALUES ('t')")
            raise LookupError

    async with open_database(tmp_path / "gateway.db") as database:
        with pytest.raises(LookupError):
            await database.run(fail)
        assert not await database.run(lambda c: c.in_transaction)
        assert rows(database.path, "SELECT count(*) FROM outbox_topic") == [(0,)]


async def test_the_database_has_a_thread_of_its_own(tmp_path: Path) -> None:
    async with open_database(tmp_path / "gateway.db") as database:
        first = await database.run(lambda _: threading.current_thread())
        second = await database.run(lambda _: threading.current_thread())
    assert first is second
    assert first is not threading.main_thread()
    assert not first.is_alive()


async def test_a_mistake_of_ours_is_not_dressed_up_as_the_worlds(tmp_path: Path) -> None:
    async with open_database(tmp_path / "gateway.db") as database:
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            await database.run(lambda c: c.execute("SELECT * FROM nowhere"))


# --- the schema


async def test_every_schema_file_is_applied_once(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    for _ in range(2):
        async with open_database(path) as database:
            assert await ask(database, "user_version") == max(schema_files())


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    async with open_database(path):
        pass
    newer = max(schema_files()) + 1
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {newer}")
    with pytest.raises(DatabaseError, match=f"schema {newer}, .* up to {newer - 1}") as refused:
        await _open(path)
    assert refused.value.permanent
    assert "newer openami" in refused.value.remedy


async def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    with pytest.raises(DatabaseError, match="another program"):
        await _open(path)
    assert rows(path, "SELECT name FROM sqlite_schema") == [("theirs",)]


async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("remember the meters\n" * 100)
    with pytest.raises(DatabaseError, match="not a SQLite database") as refused:
        await _open(path)
    assert refused.value.permanent
    assert path.read_text().startswith("remember")


async def test_a_damaged_file_is_named_with_its_remedy(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    async with open_outbox(path, OutboxLimits(), ClockDouble()) as outbox:
        await outbox.append([telemetry(START, meter) for meter in range(200)])
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(OutboxError, match="damaged") as damaged:
        await _append_one(path)
    assert damaged.value.permanent
    assert ".recover" in damaged.value.remedy


async def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutboxError, match="cannot be opened for writing") as missing:
        await _append_one(tmp_path / "nowhere" / "gateway.db")
    assert "make its folder" in missing.value.remedy
    with pytest.raises(DatabaseError, match="directory"):
        await _open(tmp_path)


async def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    async with open_outbox(path, OutboxLimits(), ClockDouble()) as outbox:
        await outbox.append([telemetry(START)])
        assert open_to_others(tmp_path) == []


def open_to_others(directory: Path) -> list[str]:
    return [file.name for file in directory.iterdir() if file.stat().st_mode & 0o077]


async def _open(path: Path) -> None:
    async with open_database(path):
        pass


async def _append_one(path: Path) -> None:
    async with open_outbox(path, OutboxLimits(), ClockDouble()) as outbox:
        await outbox.append([telemetry(START)])
