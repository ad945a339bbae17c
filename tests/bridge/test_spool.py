"""What is in the spool is on the disk; when it is full the oldest readings go first, and are counted."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from openami.bridge.spool import Draft, SpoolError, open_spool

NOW = datetime(2026, 6, 22, 14, 30, tzinfo=UTC)
MEGABYTE = 1024 * 1024


def drafts(count: int, *, is_event: bool = False, size: int = 10) -> list[Draft]:
    return [Draft(is_event, f"t/{n}", bytes([n % 256]) * size) for n in range(count)]


async def test_it_is_there_after_a_restart_and_in_order(tmp_path: Path) -> None:
    file = tmp_path / "data" / "bridge.db"
    async with open_spool(file, bytes_max=MEGABYTE) as spool:
        await spool.append(drafts(5))
        assert spool.appended.is_set()
        first, *_ = await spool.due(NOW, 2)
        await spool.forget([first.id])
    async with open_spool(file, bytes_max=MEGABYTE) as spool:
        assert [entry.topic for entry in await spool.due(NOW, 10)] == ["t/1", "t/2", "t/3", "t/4"]
        assert len(await spool.due(NOW, 2)) == 2
    assert file.stat().st_mode & 0o077 == 0


async def test_a_commit_is_on_the_disk_when_it_returns(tmp_path: Path) -> None:
    """In WAL mode FULL alone syncs at a commit; no kill shows it, so the setting is looked at."""
    async with open_spool(tmp_path / "bridge.db", bytes_max=MEGABYTE) as spool:
        read = await spool._run(lambda c: c.execute("PRAGMA synchronous").fetchone()[0])
        assert read == 2
        await spool.append(drafts(1))
        with closing(sqlite3.connect(tmp_path / "bridge.db")) as other:
            assert other.execute("SELECT count(*) FROM message").fetchone() == (1,)


async def test_a_full_spool_loses_the_oldest_readings_and_counts_them(tmp_path: Path) -> None:
    async with open_spool(tmp_path / "bridge.db", bytes_max=MEGABYTE) as spool:
        await spool.append(drafts(10, is_event=True, size=1000))
        dropped = 0
        for _ in range(4):
            dropped += await spool.append(drafts(500, size=1000))
        figures = await spool.figures(NOW)
        assert dropped == figures.dropped > 0
        assert figures.messages == 2010 - dropped
        assert figures.bytes <= MEGABYTE
        waiting = await spool.due(NOW, 5000)
        assert [entry.id for entry in waiting][:10] == list(range(1, 11)), "events stay"
        assert waiting[10].id > 100, "the oldest readings have gone"
    async with open_spool(tmp_path / "bridge.db", bytes_max=MEGABYTE) as spool:
        assert (await spool.figures(NOW)).dropped == dropped


async def test_events_go_only_when_nothing_else_is_left(tmp_path: Path) -> None:
    async with open_spool(tmp_path / "bridge.db", bytes_max=MEGABYTE) as spool:
        await spool.append(drafts(100, size=1000))
        await spool.append(drafts(2000, is_event=True, size=1000))
        assert all(len(e.payload) == 1000 for e in await spool.due(NOW, 3000))
        figures = await spool.figures(NOW)
        assert figures.dropped > 100
        assert figures.bytes <= MEGABYTE


async def test_what_was_refused_is_offered_again_later(tmp_path: Path) -> None:
    async with open_spool(tmp_path / "bridge.db", bytes_max=MEGABYTE) as spool:
        await spool.append(drafts(2))
        first, second = await spool.due(NOW, 10)
        await spool.set_aside([first.id], NOW + timedelta(hours=1))
        assert await spool.due(NOW, 10) == [second]
        assert (await spool.figures(NOW)).refused == 1
        assert await spool.due(NOW + timedelta(hours=1), 10) == [first, second]


async def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "bridge.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE mine (a)")
    with pytest.raises(SpoolError, match="not a bridge's file"):
        async with open_spool(other, bytes_max=MEGABYTE):
            pass
    (tmp_path / "text.db").write_text("no database " * 100)
    with pytest.raises(SpoolError):
        async with open_spool(tmp_path / "text.db", bytes_max=MEGABYTE):
            pass


async def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError) as raised:
        async with open_spool(tmp_path / "file" / "bridge.db", bytes_max=MEGABYTE):
            pass
    assert raised.value.remedy


async def test_a_full_disk_is_said_and_harms_nothing_that_is_there(tmp_path: Path) -> None:
    async with open_spool(tmp_path / "bridge.db", bytes_max=MEGABYTE) as spool:
        await spool.append(drafts(3))
        pages = await spool._run(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
        await spool._run(lambda c: c.execute(f"PRAGMA max_page_count = {pages}").fetchone())
        with pytest.raises(SpoolError) as raised:
            await spool.append(drafts(100, size=1000))
        assert raised.value.remedy == "make room on the disk"
        assert len(await spool.due(NOW, 1000)) == 3
        await spool._run(lambda c: c.execute("PRAGMA max_page_count = 100000").fetchone())
        await spool.append(drafts(100, size=1000))
        assert len(await spool.due(NOW, 1000)) == 103
