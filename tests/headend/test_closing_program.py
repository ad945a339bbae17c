"""Closing as the programs do it: the pass beside the stream, the commands, backups, and other people's readers."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.headend.decisions import ENERGY, FEEDER, METER, POWER, accepted, readings, register
from tests.headend.new_store import new_store
from tests.headend.test_closing import hourly, spoil
from tests.headend.test_commands import openami, rows

from openami.headend.backups.making import back_up, restore
from openami.headend.closing import AFTER_DAYS, Closing, ClosingSeen
from openami.headend.config import ConfigError, read_config
from openami.headend.metrics import HeadendMetrics
from openami.headend.readiness import CheckState, Facts, checks
from openami.headend.statistics import Statistics
from openami.headend.store import StoreError
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.open import open_store

# Long enough ago for whatever clock this runs by.
APRIL, JUNE = (datetime(2021, month, 1, tzinfo=UTC) for month in (4, 6))
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class At:
    """A clock that stands."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def wall(self) -> datetime:
        return self._now


def closing(store: HeadEndStore, now: datetime) -> Closing:
    return Closing(store, At(now))  # type: ignore[arg-type]  # it asks for the time alone


def filled(url: str) -> list[Any]:
    """Fill a store with two months of two meters; return what the first has told."""

    async def fill() -> list[Any]:
        async with open_store(url) as store:
            for meter in (METER, "M-2"):
                await store.commit([*hourly(meter, APRIL, 60), *hourly(meter, JUNE, 2)])
            return await readings(store)

    return asyncio.run(fill())


def told(url: str) -> list[Any]:
    async def ask() -> list[Any]:
        async with open_store(url) as store:
            return await readings(store)

    return asyncio.run(ask())


@pytest.fixture
def url(tmp_path: Path) -> str:
    return new_store(tmp_path / "store.db")


# --- the pass ------------------------------------------------------------------------------------


async def test_a_pass_closes_what_is_old_enough_and_no_more(store: HeadEndStore) -> None:
    await store.commit([*hourly(METER, APRIL, 60), *hourly(METER, JUNE, 2)])
    ended = datetime(2021, 4, 30, 22, tzinfo=UTC)  # the last bucket of April lies around 20 o'clock
    too_early = closing(store, ended + AFTER_DAYS * DAY - timedelta(seconds=1))
    assert (await too_early.pass_over()).totals.readings == 0
    seen = await closing(store, ended + AFTER_DAYS * DAY).pass_over()
    assert (seen.totals.files, seen.totals.readings, seen.damaged, seen.fault) == (1, 180, (), "")


async def test_a_pass_goes_past_what_is_damaged_and_says_it(store: HeadEndStore) -> None:
    for meter in (METER, "M-2"):
        await store.commit([*hourly(meter, APRIL, 60), *hourly(meter, JUNE, 2)])
    passing = closing(store, JUNE + 60 * DAY)
    await passing.pass_over()
    await store._write(lambda: spoil(METER))  # type: ignore[attr-defined]
    late = register(5.5, POWER)
    await store.commit(
        [accepted(late, ts=APRIL + HOUR / 2, meter=meter) for meter in (METER, "M-2")]
    )
    seen = await passing.pass_over()
    [sentence] = seen.damaged
    assert METER in sentence
    assert (seen.totals.due, seen.totals.readings) == (1, 2 * 180 + 1)
    told = checks(Facts(store_fault="", broker_heard=True, now=JUNE, closing_fault=sentence))
    assert (told[0].name, told[0].state, told[0].detail) == (
        "closing",
        CheckState.DEGRADED,
        sentence,
    )


async def test_a_store_that_fails_is_noted_and_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Failing:
        async def closing_due(self, after: object = None) -> Sequence[object]:
            raise StoreError("the disk is full", remedy="make room")

    monkeypatch.setattr("openami.headend.closing.FIRST_LOOK_S", 0.0)
    monkeypatch.setattr("openami.headend.closing.LOOK_INTERVAL_S", 0.0)
    passing = closing(Failing(), JUNE)  # type: ignore[arg-type]
    task = asyncio.create_task(passing.run())
    while not passing.seen.fault:
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    seen = ClosingSeen(damaged=("one",), fault=passing.seen.fault)
    metrics = HeadendMetrics(Statistics(closing=lambda: seen))
    [text, _] = metrics.rendered(None, "")  # type: ignore[arg-type]
    assert b"openami_headend_closing_failed 1.0" in text
    assert b"openami_headend_closing_damaged 1.0" in text


# --- the commands --------------------------------------------------------------------------------


def test_the_commands_close_list_prove_and_write_out(url: str, tmp_path: Path) -> None:
    before = filled(url)
    assert rows(url, "headend", "close", "--dry-run") == [
        {"month": "2021-04"},
        {"month": "2021-06"},
    ]
    assert rows(url, "headend", "closed") == []
    [done] = rows(url, "headend", "close")
    assert (done["files"], done["due"], done["damaged"]) == (4, 0, [])
    files = rows(url, "headend", "closed", "--verify", "--files", str(tmp_path / "out"))
    assert [(each["meterSerial"], each["month"]) for each in files] == [
        (meter, month) for meter in (METER, "M-2") for month in ("2021-04", "2021-06")
    ]
    assert told(url) == before
    written = sorted((tmp_path / "out").rglob("*.parquet"))
    assert len(written) == 4
    assert openami(url, "headend", "closed", "--meter", "M-2").stdout.count("M-2") == 2
    # Somebody else's readers, as processes of their own: the sum is that of what was told.
    april = [each for each in before if each.obis == ENERGY and each.ts < JUNE]
    table = pq.read_table(written[0])
    assert table.num_rows == 60 * 3
    asked = (
        'import duckdb, json; print(json.dumps(duckdb.sql("SELECT meter_serial, count(*), '
        "round(sum(digits / pow(10, decimals)), 6), min(ts)::VARCHAR FROM "
        f"'{tmp_path}/out/*/*/2021-04*.parquet' WHERE obis = '1.8.0' "
        'GROUP BY ALL ORDER BY ALL").fetchall()))'
    )
    done_by_duckdb = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True, timeout=60
    )
    [first, second] = json.loads(done_by_duckdb.stdout)
    assert first[:3] == [METER, 60, round(sum(float(each.value) for each in april), 6)]
    assert first[3].startswith("2021-04-01")
    assert second[:2] == ["M-2", 60]


def test_a_damaged_file_ends_the_command_and_is_named(url: str, tmp_path: Path) -> None:
    filled(url)
    openami(url, "headend", "close")

    async def damage() -> None:
        async with open_store(url) as store:
            await store._write(lambda: spoil(METER))  # type: ignore[attr-defined]

    asyncio.run(damage())
    done = openami(url, "headend", "closed", "--files", str(tmp_path / "out"), code=1)
    assert f"{FEEDER} {METER} from 2021-04-01 on are damaged" in done.stderr
    assert len(list((tmp_path / "out").rglob("*.parquet"))) == 3


def test_a_backup_has_what_is_closed(url: str, tmp_path: Path) -> None:
    before = filled(url)
    openami(url, "headend", "close")
    again = f"sqlite:///{tmp_path / 'again.db'}"
    manifest = back_up(url, tmp_path / "backup.tar", now=JUNE)
    assert manifest.tables["closed"].rows == 4
    restore(tmp_path / "backup.tar", again, who="asha", now=JUNE)
    assert told(again) == before


# --- the configuration ---------------------------------------------------------------------------


def after_days(folder: Path, text: str) -> int | None:
    path = folder / "headend.toml"
    path.write_text(text)
    return read_config(path).close_after_days()


def test_months_are_closed_unless_somebody_says_never(tmp_path: Path) -> None:
    assert after_days(tmp_path, "") is None
    assert after_days(tmp_path, "[closing]\n") == AFTER_DAYS
    assert after_days(tmp_path, "[closing]\nafter_days = 31\n") == 31
    assert after_days(tmp_path, "[closing]\nafter_days = 0\n") is None
    with pytest.raises(ConfigError, match="at least 31, or 0 for never"):
        after_days(tmp_path, "[closing]\nafter_days = 30\n")


def test_without_pyarrow_what_was_asked_for_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openami.headend.config.can_close", lambda: False)
    assert after_days(tmp_path, "") is None
    with pytest.raises(ConfigError, match="pip install"):
        after_days(tmp_path, "[closing]\nafter_days = 45\n")


def test_a_machine_without_pyarrow_says_what_it_cannot_read(url: str) -> None:
    """In a process that cannot import it, as on a machine where it is not installed."""
    filled(url)
    openami(url, "headend", "close")
    without = (
        "import sys; sys.modules['pyarrow'] = None; from openami.cli import main; "
        f"main(['meter', 'readings', '{METER}', '--store', '{url}'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", without], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "openami[parquet]" in done.stderr
