"""A store on several PostgreSQL servers: whatever becomes of them, the primary is found, and waits have an end."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from tests.headend.decisions import NOON, accepted, readings, register
from tests.headend.test_migrate_store import moved
from tests.headend.test_store_postgres import HOUR, failure_of, refusal
from tests.postgres import Postgres, running_postgres
from tests.tools import free_port

from openami.capacity.trial_store import trial_store
from openami.headend.backups.making import back_up, restore
from openami.headend.store import Access, StoreError
from openami.headend.store import postgres as engine
from openami.headend.store.open import open_store
from openami.headend.store.postgres import open_postgres
from openami.headend.store.postgres_servers import primary_of, servers

# In their order, on servers of their own: the last of them end the primary.
pytestmark = [pytest.mark.postgres, pytest.mark.xdist_group("failover")]


# Milliseconds, on a machine that has nothing else to do.
LOOKS_MAX = 500


@pytest.fixture(scope="module")
def primary() -> Iterator[Postgres]:
    """A primary of this module's own, which the last tests stop."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def standby(primary: Postgres) -> Iterator[Postgres]:
    """Its standby, without which the primary commits nothing."""
    with running_postgres(following=primary) as server:
        primary.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{server.name}'")
        primary.sql("SELECT pg_reload_conf()")
        yield server


@pytest.fixture(scope="module")
def url(primary: Postgres, standby: Postgres) -> str:
    """A store's URL that names nobody, the standby and the primary, in this order."""
    one = primary.new_database()
    wait_until_it_follows(standby, primary)
    nobody = f"127.0.0.1:{free_port()}"
    return one.replace("@", f"@{nobody},127.0.0.1:{standby.port},")


def wait_until_it_follows(standby: Postgres, primary: Postgres) -> None:
    """Return when the standby shows what the primary has: a commit waits for its disk, and not for that."""
    written = primary.sql("SELECT pg_current_wal_lsn()").strip()
    for _ in range(LOOKS_MAX):
        if "t" in standby.sql(f"SELECT pg_last_wal_replay_lsn() >= '{written}'"):
            return
        time.sleep(0.02)
    pytest.fail("the standby does not follow")


def one_of(url: str, server: Postgres) -> str:
    """Return the URL that names this server only."""
    [found] = [one for one in servers(url) if f":{server.port}/" in one]
    return found


# --- what a URL names ----------------------------------------------------------------------------


def test_a_url_for_each_server() -> None:
    assert servers("postgresql://me:pw@a:5433,b,[::1]:5434/openami?sslmode=require") == [
        "postgresql://me:pw@a:5433/openami?sslmode=require",
        "postgresql://me:pw@b/openami?sslmode=require",
        "postgresql://me:pw@[::1]:5434/openami?sslmode=require",
    ]
    assert servers("postgresql:///openami") == ["postgresql:///openami"]


@pytest.mark.parametrize(
    "names",
    ["a,,b/d", "a,/d", "[::1,a/d", "a,b/d?target_session_attrs=leader", "/d?host=a,b"],
)
async def test_several_servers_named_wrongly(names: str) -> None:
    assert (await refusal(f"postgresql://{names}")).permanent


# --- finding the primary -------------------------------------------------------------------------


async def test_the_primary_is_found_wherever_it_stands(url: str, primary: Postgres) -> None:
    async with open_store(url) as store:
        await store.commit([accepted()])
    assert await primary_of(url) == one_of(url, primary)
    for asked in (url, f"{url}?target_session_attrs=read-write"):
        async with open_store(asked, Access.READ) as store:
            assert len(await readings(store)) == 1


async def test_a_standby_can_be_asked_for_and_writes_nothing(
    url: str, primary: Postgres, standby: Postgres
) -> None:
    async with open_store(url):
        pass
    await asyncio.to_thread(wait_until_it_follows, standby, primary)
    async with open_store(f"{url}?target_session_attrs=standby", Access.READ) as store:
        await store.totals()
    async with open_store(one_of(url, standby), Access.EDIT) as store:
        error = await failure_of(store.prove_writable())
        assert error is not None
        assert not error.permanent
        assert "primary" in error.remedy


async def test_without_a_primary_each_server_says_why(url: str, primary: Postgres) -> None:
    without = url.rpartition(",")[0] + "/" + url.rpartition("/")[2]
    error = await refusal(without)
    assert not error.permanent
    assert "cannot be reached" in str(error)
    assert "is a standby" in str(error)
    assert "patronictl" in error.remedy


async def _filled(url: str) -> None:
    async with open_store(url) as store:
        await store.commit([accepted()])


def test_backup_restore_and_move_take_several_servers(
    url: str, primary: Postgres, tmp_path: Path
) -> None:
    """What a snapshot, a dump and a lock are made on is one server, from beginning to end."""
    asyncio.run(_filled(url))
    backup = tmp_path / "backup.tar"
    manifest = back_up(url, backup, now=NOON)
    assert manifest.tables["reading"].rows >= 1
    another = url.replace("db001", primary.new_database().rpartition("/")[2])
    restore(backup, another, who="anita", now=NOON)
    there = moved(another, f"sqlite:///{tmp_path}/moved.db")
    assert there.tables["reading"].rows == 1


async def test_a_trial_beside_several_servers(url: str, tmp_path: Path) -> None:
    async with trial_store(url, tmp_path) as trial, open_store(trial.url) as store:
        await store.prove_writable()
        assert await trial.size() > 0


# --- what a commit is worth ----------------------------------------------------------------------


async def test_a_commit_that_nobody_replicated_is_none(
    url: str, primary: Postgres, standby: Postgres
) -> None:
    """When somebody cancels a COMMIT that waits for its standby, the server says "committed" all the same."""
    cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    async with open_store(url) as store:
        await store.commit([accepted()])  # its month is there
        await asyncio.to_thread(standby.freeze)
        try:
            committing = asyncio.create_task(store.commit([accepted(register(2), ts=NOON + HOUR)]))
            async with asyncio.timeout(10):
                while "t" not in await asyncio.to_thread(primary.sql, cancel):
                    await asyncio.sleep(0.02)
            error = await failure_of(committing)
        finally:
            await asyncio.to_thread(standby.thaw)
        assert error is not None
        assert not error.permanent
        assert "without its standby" in str(error)
        tally = await store.commit([accepted(register(2), ts=NOON + HOUR)])
        assert (tally.stored, tally.duplicates) == (0, 1), "it comes again, and is stored once"


# --- when a primary goes -------------------------------------------------------------------------


async def test_a_primary_that_became_read_only_is_left(url: str, primary: Postgres) -> None:
    """The connection would hold for ever, and every commit on it fail."""
    async with open_store(url) as store:
        await store.prove_writable()
        primary.sql("ALTER SYSTEM SET default_transaction_read_only = on")
        try:
            async with asyncio.timeout(10):
                primary.sql("SELECT pg_reload_conf()")
                while (error := await failure_of(store.prove_writable())) is None:
                    await asyncio.sleep(0.02)
            assert not error.permanent
            error = await failure_of(store.prove_writable())
            assert error is not None
            assert "no primary" in str(error)
        finally:
            primary.sql("ALTER SYSTEM RESET default_transaction_read_only")
            primary.sql("SELECT pg_reload_conf()")
        async with asyncio.timeout(10):
            while await failure_of(store.prove_writable()) is not None:
                await asyncio.sleep(0.02)


async def test_a_frozen_primary_is_left_and_the_promoted_standby_found(
    url: str, primary: Postgres, standby: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that was acknowledged is missing there, and no wait lasts longer than its bound."""
    monkeypatch.setattr(engine, "WRITE_TIMEOUT_S", 1.0)
    monkeypatch.setattr(engine, "ROLLBACK_TIMEOUT_S", 0.5)
    async with open_postgres(url, Access.OWN) as store:
        before = len(await readings(store))

        async def commit(number: int) -> StoreError | None:
            return await failure_of(
                store.commit([accepted(register(number), ts=NOON + number * HOUR)])
            )

        for number in range(10, 30):
            assert await commit(number) is None
        await asyncio.to_thread(primary.freeze)
        begun = time.perf_counter()
        error = await commit(30)
        assert time.perf_counter() - begun < 3
        assert error is not None
        assert "does not answer" in str(error)
        await asyncio.to_thread(standby.promote)
        begun = time.perf_counter()
        assert await commit(30) is None
        assert len(await readings(store)) == before + 21, "the readers came along"
        assert time.perf_counter() - begun < 3
        await asyncio.to_thread(primary.thaw)
        assert await failure_of(store.prove_writable()) is None
    old = await asyncpg.connect(one_of(url, primary))
    with pytest.raises(TimeoutError):  # awake again, it finds no standby that would confirm
        await old.execute("UPDATE openami.tally SET messages = messages", timeout=0.5)
    old.terminate()
