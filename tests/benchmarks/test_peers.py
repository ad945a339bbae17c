"""The peers' benchmark counts what is in a store: with a real broker, and our own parts as the peer."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.peers.contestants import CONTESTANTS
from benchmarks.peers.counting import DISTINCT, ROWS, asking, prepare

from benchmarks import bench_peers

RAW = next(each for each in CONTESTANTS if each.name == "raw_sqlite")
pytestmark = pytest.mark.broker


def test_after_a_kill_nothing_is_lost_and_what_came_twice_is_counted() -> None:
    assert bench_peers.kill_once(RAW, None, 1_500, still_s=0.5)["lost"] == 0


async def test_a_message_that_is_not_there_or_there_twice_is_seen(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'raw.db'}"
    await prepare(url, "sqlite")
    with closing(sqlite3.connect(tmp_path / "raw.db", isolation_level=None)) as file:
        file.executemany("INSERT INTO raw (payload) VALUES (?)", [(b"a",), (b"b",), (b"b",)])
    async with asking(url) as ask:
        assert (await ask(ROWS[RAW.kept]), await ask(DISTINCT[RAW.kept])) == (3, 2)
        with pytest.raises(AssertionError, match="raw_sqlite stored 2 of 3"):
            await bench_peers._check(RAW, ask, 3)


def test_a_peer_that_is_not_there_is_named_and_not_passed_over() -> None:
    absent = replace(RAW, needs=Path("/nowhere"))
    assert bench_peers.missing(absent, None) == "not installed: python -m benchmarks.peers.install"
    postgres = next(each for each in CONTESTANTS if each.name == "raw_postgres")
    assert bench_peers.missing(postgres, None) == "PostgreSQL is not installed"
    assert bench_peers.missing(RAW, None) is None


def test_a_peer_that_cannot_start_says_why() -> None:
    wrong = replace(RAW, command=lambda _: ("sh", "-c", "echo no such broker >&2; exit 3"))
    with pytest.raises(RuntimeError, match="raw_sqlite did not subscribe: no such broker"):
        bench_peers.run_once(wrong, None, 10)
