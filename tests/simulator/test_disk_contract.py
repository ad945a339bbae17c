"""SQLite on the simulated disk behaves as on a real one: the same tests pass on both."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest

from openami.simulator.disk import Disk


@pytest.fixture(params=["simulated", "not recorded", "real"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if request.param == "real":
        yield tmp_path
        return
    with Disk(record=request.param == "simulated") as disk:
        yield disk.directory


def connect(directory: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(directory / "some.db", isolation_level=None, timeout=0)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE IF NOT EXISTS entry (n INTEGER PRIMARY KEY, body BLOB)")
    return connection


def count(connection: sqlite3.Connection) -> int:
    (n,) = connection.execute("SELECT count(*) FROM entry").fetchone()
    return int(n)


@pytest.mark.parametrize("mode", ["delete", "truncate", "persist", "memory", "wal", "off"])
def test_each_journal_mode(directory: Path, mode: str) -> None:
    with closing(sqlite3.connect(directory / "some.db", isolation_level=None)) as connection:
        assert connection.execute(f"PRAGMA journal_mode = {mode}").fetchone() == (mode,)
        connection.execute("CREATE TABLE entry (n INTEGER PRIMARY KEY, body BLOB)")
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO entry (body) VALUES (?)", [(bytes([n % 256]) * 3_000,) for n in range(300)]
        )
        connection.execute("COMMIT")
        connection.execute("DELETE FROM entry WHERE n % 2")
        connection.execute("VACUUM")
    with closing(sqlite3.connect(directory / "some.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = connection.execute("SELECT body FROM entry ORDER BY n").fetchall()
    assert found == [(bytes([n % 256]) * 3_000,) for n in range(1, 300, 2)]


def test_what_is_rolled_back_never_was(directory: Path) -> None:
    with closing(connect(directory)) as connection:
        connection.execute("BEGIN")
        connection.execute("INSERT INTO entry VALUES (1, zeroblob(100000))")
        connection.execute("ROLLBACK")
        assert count(connection) == 0


def test_two_connections_share_a_file_and_one_writes_at_a_time(directory: Path) -> None:
    with closing(connect(directory)) as one, closing(connect(directory)) as other:
        one.execute("BEGIN IMMEDIATE")
        one.execute("INSERT INTO entry VALUES (1, NULL)")
        assert count(other) == 0
        with pytest.raises(sqlite3.OperationalError) as locked:
            other.execute("BEGIN IMMEDIATE")
        assert locked.value.sqlite_errorcode == sqlite3.SQLITE_BUSY
        one.execute("COMMIT")
        assert count(other) == 1


def test_the_last_to_close_leaves_one_file(directory: Path) -> None:
    with closing(connect(directory)) as connection:
        connection.execute("INSERT INTO entry VALUES (1, NULL)")
        assert {f.name for f in directory.iterdir()} == {"some.db", "some.db-shm", "some.db-wal"}
    assert [f.name for f in directory.iterdir()] == ["some.db"]


def test_a_reader_writes_nothing(directory: Path) -> None:
    with closing(connect(directory)) as connection:
        connection.execute("INSERT INTO entry VALUES (1, NULL)")
        uri = f"file:{directory / 'some.db'}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as reader:
            assert count(reader) == 1
            with pytest.raises(sqlite3.OperationalError) as refused:
                reader.execute("INSERT INTO entry VALUES (2, NULL)")
    assert refused.value.sqlite_errorcode == sqlite3.SQLITE_READONLY


def test_what_is_not_there_cannot_be_opened(directory: Path) -> None:
    uri = f"file:{directory / 'none.db'}?mode=rw"
    with pytest.raises(sqlite3.OperationalError) as missing:
        sqlite3.connect(uri, uri=True)
    assert missing.value.sqlite_errorcode == sqlite3.SQLITE_CANTOPEN
    assert list(directory.iterdir()) == []


def test_threads_write_to_files_of_their_own(directory: Path) -> None:
    def write(name: str) -> None:
        with closing(sqlite3.connect(directory / name, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE entry (n INTEGER PRIMARY KEY)")
            for n in range(300):
                connection.execute("INSERT INTO entry VALUES (?)", (n,))

    threads = [Thread(target=write, args=(f"{n}.db",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(4):
        with closing(sqlite3.connect(directory / f"{n}.db")) as connection:
            assert count(connection) == 300


def test_a_file_elsewhere_and_none_at_all_are_as_ever(directory: Path, tmp_path: Path) -> None:
    for place in (tmp_path / "elsewhere.db", ":memory:", ""):
        with closing(sqlite3.connect(place)) as connection:
            connection.execute("CREATE TABLE entry (n INTEGER PRIMARY KEY)")
            assert count(connection) == 0
