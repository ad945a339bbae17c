"""Months of readings in PostgreSQL: made before they are needed, and when they are; several head-ends at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.headend.decisions import ENERGY, NOON, accepted, readings, register
from tests.headend.old_store import OldPostgres, fill, hash_of_readings, schema_until
from tests.postgres import Postgres

from openami.headend.store import Access, StoreError, partitions
from openami.headend.store.identity import place, to_ms
from openami.headend.store.migrations import SCHEMA, migrations
from openami.headend.store.months import FIRST_BUCKET, buckets_of, month_of
from openami.headend.store.open import open_store
from openami.headend.store.retaining import Removed
from openami.headend.store.steps import Steps, do

pytestmark = pytest.mark.postgres
BY_MONTH = next(each.number for each in migrations(SCHEMA / "postgres") if "retention" in each.name)
YEARS = [NOON - timedelta(days=30 * n) for n in range(30)]


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url, server_settings={"search_path": "openami"})
    try:
        yield connection
    finally:
        await connection.close()


async def tables(url: str) -> list[str]:
    async with open_store(url, Access.READ) as store:
        return [each.table for each in await store.partitions()]


async def test_this_month_and_the_next_are_made_ahead_once(postgres_url: str) -> None:
    async with open_store(postgres_url) as store:
        assert await store.make_months(NOON) == ["reading_2026_06", "reading_2026_07"]
        assert await store.make_months(NOON) == []
        assert await store.make_months(NOON + timedelta(days=9)) == ["reading_2026_08"]
        first, *_ = await store.partitions()
        june = buckets_of(month_of(NOON))
        assert (first.first, first.last) == (june[0], june[-1])


async def test_head_ends_that_need_the_same_months_at_once_make_each_once(
    postgres_url: str,
) -> None:
    """Each in an order of its own, with what another one makes ahead meanwhile."""

    async def stream(number: int) -> int:
        async with open_store(postgres_url) as store:
            mine = [accepted(ts=ts, meter=f"M-{number}") for ts in YEARS]
            commits = [store.commit(mine[at : at + 5]) for at in range(0, len(mine), 5)]
            made = store.make_months(NOON + timedelta(days=30 * number))
            tallies = await asyncio.gather(*commits[:: 1 if number % 2 else -1])
            await made
            return sum(tally.stored for tally in tallies)

    assert await asyncio.gather(*map(stream, range(3))) == [len(YEARS)] * 3
    names = await tables(postgres_url)
    assert len(names) == len(set(names))
    assert {f"reading_{ts:%Y_%m}" for ts in YEARS} <= set(names)


async def test_a_month_is_made_beside_a_backup_and_dropped_after_it(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup holds every table as a reader for hours: the stream must not wait behind what would drop one."""
    monkeypatch.setattr(partitions, "PARTITION_LOCK_WAIT_S", 0.2)
    last = buckets_of(month_of(NOON))[-1]
    async with open_store(postgres_url) as store, connected(postgres_url) as backup:
        await store.commit([accepted()])
        await backup.execute("BEGIN; LOCK TABLE reading IN ACCESS SHARE MODE")
        later = accepted(register(2.0), ts=NOON + timedelta(days=300))
        assert (await store.commit([later])).stored == 1
        with pytest.raises(StoreError, match="lock timeout") as refused:
            await store.remove_some(FIRST_BUCKET, last)
        assert not refused.value.permanent
        assert len(await readings(store)) == 2
        await backup.execute("ROLLBACK")
        assert await store.remove_some(FIRST_BUCKET, last) == Removed(1, 0, ("reading_2026_06",))
        assert not await store.remove_some(FIRST_BUCKET, last)
        [latest] = await store.latest("feeder-1", "M-1")
        assert latest.value == 2.0


async def test_a_month_that_goes_while_it_is_written_is_made_again(postgres_url: str) -> None:
    """Nobody but an operator does that; a reading is stored all the same."""
    async with open_store(postgres_url) as store, connected(postgres_url) as operator:
        await store.commit([accepted()])
        await operator.execute("ALTER TABLE reading DETACH PARTITION reading_2026_06")
        assert (await store.commit([accepted()])).stored == 1
        assert await tables(postgres_url) == ["reading_2026_06_2"]
        assert await operator.fetchval("SELECT count(*) FROM reading_2026_06") == 1


async def test_without_the_right_to_make_one_nothing_is_refused(
    postgres: Postgres, postgres_url: str
) -> None:
    """What cannot be stored now stays with the broker: it is not the readings' fault."""
    async with open_store(postgres_url):
        pass
    role = f"poor_{postgres_url.rsplit('/', 1)[1]}"
    database = postgres_url.rsplit("/", 1)[1]
    postgres.sql(
        f"CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA openami TO {role}; "
        f"GRANT ALL ON ALL TABLES IN SCHEMA openami TO {role}",
        database=database,
    )
    try:
        poor = postgres_url.replace("postgres@", f"{role}@")
        async with open_store(poor, Access.EDIT) as store:
            with pytest.raises(StoreError, match="no room could be made") as refused:
                await store.commit([accepted()])
        assert not refused.value.permanent
        assert "GRANT" in refused.value.remedy
    finally:
        postgres.sql(f"DROP OWNED BY {role}; DROP ROLE {role}", database=database)


async def test_a_row_that_breaks_a_rule_of_ours_is_no_missing_month(postgres_url: str) -> None:
    def broken() -> Steps[int]:
        bucket, ms = place(to_ms(NOON))
        sql = "INSERT INTO reading (bucket, series, ms, flags, lag_ms) VALUES (?1, 1, ?2, 0, 0)"
        return (yield from do(sql, bucket, ms))

    async with open_store(postgres_url) as store:
        await store.make_months(NOON)
        with pytest.raises(asyncpg.CheckViolationError) as refused:
            await store._write(broken)  # type: ignore[attr-defined]
        assert not partitions.is_of_no_month(refused.value)


async def test_what_was_there_before_stays_where_it_lies_and_goes_by_rows(
    postgres_url: str, tmp_path: Path
) -> None:
    """A year that an earlier program left in one table: attached as it is, with its own index."""
    old = OldPostgres(postgres_url)
    await old.upgrade(schema_until("postgres", BY_MONTH - 1, tmp_path / "before"))
    await fill(old, meters=2, days=100)  # from 2025-06-01 until the 8th of September
    told = await hash_of_readings(old)
    files = "SELECT pg_relation_filenode('{}'), pg_relation_filenode('{}_pkey')"
    before = await old.rows(files.format("reading", "reading"))
    await old.upgrade(SCHEMA / "postgres")
    assert await old.rows(files.format("reading_before", "reading_before")) == before
    assert await hash_of_readings(old) == told

    async with connected(postgres_url) as connection:
        for name in ("unit", "series"):  # whose numbers the year was given by hand
            await connection.execute(f"ALTER TABLE {name} ALTER id RESTART WITH 100")
    async with open_store(postgres_url) as store:
        [table] = await store.partitions()
        september = month_of(datetime(2025, 9, 1, tzinfo=UTC))
        assert (table.table, table.last) == ("reading_before", buckets_of(september)[-1])
        at = datetime(2024, 3, 1, tzinfo=UTC)  # older than all of it: it lies there, too
        assert (await store.commit([accepted(ts=at), accepted(ts=NOON)])).stored == 2
        assert await tables(postgres_url) == ["reading_before", "reading_2026_06"]

        months = buckets_of(september - 3)[0], buckets_of(september - 1)[-1]
        held = await store.readings_in(*months)
        gone = Removed()
        while step := await store.remove_some(*months):
            gone += step
        assert gone == Removed(held)
        assert len(await readings(store)) == 2

        latest = [each.value for each in await store.latest("feeder-old", "M-0001")]
        whole = FIRST_BUCKET, buckets_of(september)[-1]
        assert (await store.remove_some(*whole)).tables == ("reading_before",)
        assert [each.value for each in await store.latest("feeder-old", "M-0001")] == latest
        assert [each.obis for each in await readings(store)] == [ENERGY]


async def test_an_empty_table_leaves_no_partition(postgres_url: str) -> None:
    async with open_store(postgres_url) as store:
        assert await store.partitions() == []
