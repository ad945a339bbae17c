"""The PostgreSQL store: durable, back by itself after a loss, and plain about what is wrong."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Awaitable, Sequence
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from tests.headend.decisions import (
    ENERGY,
    FEEDER,
    GATEWAY,
    METER,
    NOON,
    accepted,
    readings,
    register,
)
from tests.headend.test_store_sqlite import killed_writer
from tests.postgres import Postgres
from tests.tools import free_port

from openami.headend.ingest import Accepted
from openami.headend.store import Access, Store, StoreError, Tally
from openami.headend.store.arrivals import ARRIVALS_OF_BILLING, put_together
from openami.headend.store.closing import _LEAVING
from openami.headend.store.energy_ledger import _CHART, _LIVE_OF
from openami.headend.store.migrations import SCHEMA, migrations
from openami.headend.store.open import open_store
from openami.headend.store.postgres import READERS_MAX, open_postgres
from openami.headend.store.postgres_errors import where
from openami.headend.store.postgres_steps import statement
from openami.headend.store.queries import PAGE, PAGE_BUCKETS_MAX, PAGE_ROWS_MAX, SLOTS

pytestmark = pytest.mark.postgres

HOUR = timedelta(hours=1)


def parts(url: str) -> tuple[int, str]:
    """Return the server's port and the database's name."""
    split = urlsplit(url)
    assert split.port is not None
    return split.port, split.path[1:]


async def refusal(url: str, access: Access = Access.OWN) -> StoreError:
    """Return the error a store is refused with; it gives away no password."""
    with pytest.raises(StoreError) as failed:
        async with open_store(url, access):
            pass
    assert failed.value.remedy
    assert "secret" not in str(failed.value) + failed.value.remedy
    return failed.value


# --- durability ----------------------------------------------------------------------------------


async def test_a_commit_is_synced_whatever_the_server_thinks(
    postgres: Postgres, postgres_url: str
) -> None:
    postgres.sql(f"ALTER DATABASE {parts(postgres_url)[1]} SET synchronous_commit = off")
    async with open_postgres(postgres_url, Access.OWN) as store:
        connection = await store._connected()
        assert await connection.fetchval("SHOW synchronous_commit") == "on"


@pytest.mark.slow
async def test_what_was_committed_outlives_kill_9_of_the_head_end(postgres_url: str) -> None:
    committed = killed_writer(postgres_url, commits=20)
    async with open_store(postgres_url) as store:
        # The server may be finishing the last transaction of a client that is gone.
        found = await readings(store)
    commits, rest = divmod(len(found), 250)
    assert rest == 0
    assert commits in (committed + 1, committed + 2)
    assert [r.value for r in found[::250]] == list(range(commits))


@pytest.mark.slow
async def test_a_server_that_stops_and_comes_back(empty_database: str, postgres: Postgres) -> None:
    """Whatever was acknowledged is there; whatever was not is committed by the same store later."""
    acknowledged = 0
    failures = 0
    restarting: asyncio.Future[None] | None = None
    async with open_store(empty_database) as store:
        async with asyncio.timeout(60):
            while acknowledged < 200:
                batch = [accepted(register(acknowledged), ts=NOON + acknowledged * HOUR)]
                if acknowledged == 50 and restarting is None:
                    restarting = asyncio.get_running_loop().run_in_executor(None, restart, postgres)
                error = await failure_of(store.commit(batch))
                if error is None:
                    acknowledged += 1
                    continue
                assert not error.permanent, error
                assert error.remedy
                failures += 1
                await asyncio.sleep(0.02)
        assert restarting is not None
        await restarting
        assert failures
        assert [r.value for r in await readings(store)] == list(range(200))
        assert (await store.totals()).messages >= 200


async def failure_of(work: Awaitable[object]) -> StoreError | None:
    try:
        await work
    except StoreError as error:
        return error
    return None


def restart(postgres: Postgres) -> None:
    postgres.kill()
    postgres.start()


async def test_a_connection_lost_within_a_transaction(
    empty_database: str, postgres: Postgres
) -> None:
    batch = [accepted(register(n), ts=NOON + n * HOUR) for n in range(1_000)]
    ends = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        f"WHERE datname = '{parts(empty_database)[1]}' AND pid <> pg_backend_pid()"
    )
    async with open_postgres(empty_database, Access.OWN) as store:
        blocker = await asyncpg.connect(empty_database)
        # Holds the commit after its readings are in, and before it ends.
        await blocker.execute("BEGIN; LOCK TABLE openami.tally")
        committing = asyncio.create_task(store.commit(batch))
        await asyncio.sleep(0.3)
        assert not committing.done()
        await asyncio.get_running_loop().run_in_executor(None, postgres.sql, ends)
        with pytest.raises(StoreError) as failed:
            await committing
        assert not failed.value.permanent
        await blocker.close()
        await until_readable(store)
        assert await readings(store) == []
        assert (await store.commit(batch)).stored == 1_000


async def until_readable(store: Store) -> None:
    """The readers' connections were ended, too, and each may say so once."""
    for _ in range(READERS_MAX + 1):
        error = await failure_of(readings(store))
        if error is None:
            return
        assert not error.permanent
    raise AssertionError("the readers do not come back")


async def test_what_a_lost_transaction_taught_is_forgotten(
    empty_database: str, postgres: Postgres
) -> None:
    """Numbers of series from a transaction that was rolled back would point at nothing."""
    async with open_postgres(empty_database, Access.OWN) as store:
        await store._connected()
        blocker = await asyncpg.connect(empty_database)
        await blocker.execute("BEGIN; LOCK TABLE openami.tally")
        committing = asyncio.create_task(store.commit([accepted(meter="M-new")]))
        await asyncio.sleep(0.2)
        committing.cancel()
        await asyncio.gather(committing, return_exceptions=True)
        await blocker.execute("ROLLBACK")
        await blocker.close()
        assert (await store.commit([accepted(meter="M-new")])).stored == 1
        assert len(await store.latest(FEEDER, "M-new")) == 1


# --- what a server may refuse --------------------------------------------------------------------


async def test_nobody_listens() -> None:
    error = await refusal(f"postgresql://postgres:secret@127.0.0.1:{free_port()}/openami")
    assert not error.permanent
    assert "cannot be reached" in str(error)
    assert "whether the server runs" in error.remedy


async def test_a_name_that_is_no_host() -> None:
    error = await refusal("postgresql://postgres:secret@no-such-host.invalid/openami")
    assert not error.permanent
    assert "no-such-host.invalid" in str(error)


async def test_something_else_listens() -> None:
    """A server that speaks another protocol is no reason for a traceback."""

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, family=socket.AF_INET)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error = await refusal(
            f"postgresql://postgres:secret@127.0.0.1:{port}/openami?sslmode=disable"
        )
    assert str(error)


async def test_a_database_that_is_not_there(postgres: Postgres) -> None:
    error = await refusal(f"postgresql://postgres@127.0.0.1:{postgres.port}/nowhere")
    assert error.permanent
    assert "nowhere" in str(error)
    assert "createdb" in error.remedy


async def test_a_user_that_is_not_there(postgres: Postgres) -> None:
    error = await refusal(f"postgresql://nobody:secret@127.0.0.1:{postgres.port}/postgres")
    assert error.permanent
    assert "pg_hba.conf" in error.remedy


async def test_a_user_without_rights(postgres: Postgres, postgres_url: str) -> None:
    port, database = parts(postgres_url)
    role = f"guest_{database}"
    postgres.sql(f"CREATE ROLE {role} LOGIN")
    try:
        error = await refusal(f"postgresql://{role}@127.0.0.1:{port}/{database}")
    finally:
        postgres.sql(f"DROP ROLE {role}")
    assert error.permanent
    assert "GRANT" in error.remedy


async def test_a_database_that_may_only_be_read(postgres: Postgres, postgres_url: str) -> None:
    async with open_store(postgres_url) as store:
        await store.commit([accepted()])
    database = parts(postgres_url)[1]
    postgres.sql(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    async with open_store(postgres_url) as store:  # up to date: nothing to write so far
        with pytest.raises(StoreError, match="read-only") as failed:
            await store.commit([accepted(register(2), ts=NOON + HOUR)])
        assert not failed.value.permanent  # a standby may become the primary
        assert "primary" in failed.value.remedy
        assert len(await readings(store)) == 1


async def test_a_server_that_forgets_is_refused(postgres: Postgres, postgres_url: str) -> None:
    postgres.sql("ALTER SYSTEM SET fsync = off")
    try:
        await until_setting(postgres, "fsync", "off")
        error = await refusal(postgres_url)
        assert error.permanent
        assert "fsync = off" in str(error)
    finally:
        postgres.sql("ALTER SYSTEM RESET fsync")
        await until_setting(postgres, "fsync", "on")


async def until_setting(postgres: Postgres, name: str, value: str) -> None:
    postgres.sql("SELECT pg_reload_conf()")
    async with asyncio.timeout(10):
        while postgres.sql(f"SHOW {name}") != value:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "url", ["postgresql://host:port/db", "postgresql://h/d?sslmode=perhaps", "postgres://h:1:2/d"]
)
async def test_a_url_that_is_wrong(url: str) -> None:
    assert (await refusal(url)).permanent


def test_a_name_without_its_password() -> None:
    assert where("postgresql://me:secret@db.example:5433/openami?x=1") == (
        "PostgreSQL at db.example:5433/openami"
    )
    assert where("postgresql:///openami") == "PostgreSQL at the local socket/openami"


def test_without_the_package_the_remedy_is_named(tmp_path: Path) -> None:
    """In a Python that has no asyncpg; and the SQLite store does without."""
    (tmp_path / "asyncpg.py").write_text("raise ModuleNotFoundError(name='asyncpg')")
    code = """
import asyncio, sys
from openami.headend.store import StoreError
from openami.headend.store.open import open_store
async def main():
    async with open_store(f"sqlite:///{sys.argv[1]}/store.db"):
        pass
    try:
        async with open_store("postgresql://h/d"):
            pass
    except StoreError as error:
        print(error, error.permanent, error.remedy)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2] / 'src'}"},
    )
    assert done.stdout.strip().endswith("True pip install 'openami[postgres]'")


# --- two writers ---------------------------------------------------------------------------------


async def test_two_head_ends_on_one_database_store_everything_once(empty_database: str) -> None:
    """Not refused here: a server is made for several clients, and the key settles who was first."""
    batches = [
        [accepted(register(n), ts=NOON + n * HOUR, meter=f"M-{n % 7}") for n in range(k, k + 100)]
        for k in range(0, 1_000, 50)
    ]
    async with open_store(empty_database) as one, open_store(empty_database) as two:

        async def stream(store: Store, order: Sequence[Sequence[Accepted]]) -> Tally:
            tally = Tally()
            for batch in order:
                tally += await store.commit(batch)
            return tally

        tallies = await asyncio.gather(
            stream(one, batches), stream(two, [b[::-1] for b in reversed(batches)])
        )
        total = tallies[0] + tallies[1]
        assert (total.stored, total.conflicts) == (1_050, 0)
        assert total.duplicates == 2 * 2_000 - 1_050
        assert await one.totals() == await two.totals() == total


# --- plans and sizes -----------------------------------------------------------------------------


async def test_no_question_scans_the_readings(postgres_url: str) -> None:
    async with open_store(postgres_url) as store:
        for month in range(3):  # of a size at which no planner would read all of one
            await store.commit(
                [
                    accepted(ts=NOON + timedelta(days=30 * month) + n * HOUR, meter=f"M-{m}")
                    for m in range(100)
                    for n in range(180)
                ]
            )
    connection = await asyncpg.connect(postgres_url)
    try:
        await connection.execute("SET search_path = openami; ANALYZE")
        first = int(NOON.timestamp()) // (4 * 3600)

        async def plan(sql: str, *arguments: object) -> str:
            rows = await connection.fetch(f"EXPLAIN {statement(sql)}", *arguments)
            return "\n".join(row[0] for row in rows)

        slots = await plan(SLOTS, first, first + 40, PAGE_BUCKETS_MAX)
        page = await plan(
            PAGE,
            *(first, first + 40, f"{first},{first + 1}", FEEDER, "M-3", str(ENERGY), str(ENERGY)),
            *(first, 0, "", first + 40, 0, PAGE_ROWS_MAX),
        )
        arrivals = await plan(
            put_together(ARRIVALS_OF_BILLING, 7, None),
            *(FEEDER, GATEWAY, first, 0, first + 6, 0),
            *range(first, first + 7),
        )
        for found in (slots, page, arrivals):
            assert "Seq Scan on reading" not in found, found
        assert "using reading_2026_06_pkey" in page
        assert "reading_2026_07" not in slots + page + arrivals, "a month that is not asked of"
        assert "(bucket = slot.bucket)" in page, page

        # Asked for the sixth time, it is planned for any span, not for this one.
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        chart = (first, first + 540, FEEDER, "M-3", str(ENERGY), 0, 2**40, 3_600_000, 0)
        live = (FEEDER, "M-3", str(ENERGY), first, first + 540)
        leaving = (FEEDER, "M-3", first, first + 540, 10_000)
        for sql, arguments in ((_CHART, chart), (_LIVE_OF, live), (_LEAVING, leaving)):
            found = await planned_once(connection, statement(sql), arguments)
            assert "(bucket = slot.bucket)" in found, found
            assert "Join Filter: (r.bucket = slot.bucket)" not in found, found
    finally:
        await connection.close()


async def planned_once(
    connection: asyncpg.Connection, sql: str, arguments: Sequence[object]
) -> str:
    """Return the plan of a prepared statement."""
    asked = await connection.prepare(sql)
    literals = ", ".join(f"'{each}'" if isinstance(each, str) else str(each) for each in arguments)
    rows = await connection.fetch(f"EXPLAIN EXECUTE {asked.get_name()}({literals})")
    return "\n".join(row[0] for row in rows)


async def test_the_view_for_people(empty_database: str) -> None:
    async with open_store(empty_database) as store:
        await store.commit([accepted(register(12.5))])
    connection = await asyncpg.connect(empty_database)
    try:
        [row] = await connection.fetch("SELECT * FROM openami.readings")
    finally:
        await connection.close()
    assert tuple(row) == (
        *(FEEDER, METER, "1.8.0", NOON, 12.5, None, "kWh", "good"),
        NOON + timedelta(seconds=2),
    )


# --- migrations ----------------------------------------------------------------------------------

KNOWN = len(migrations(SCHEMA / "postgres"))


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The schema of a later program."""
    folder = tmp_path / "schema"
    folder.mkdir()
    for file in (SCHEMA / "postgres").glob("*.sql"):
        (folder / file.name).write_text(file.read_text())
    (folder / f"{KNOWN + 1:04}_poles.sql").write_text(
        "ALTER TABLE meter ADD COLUMN pole text; UPDATE tally SET events = 7;"
    )
    return folder


async def test_an_old_store_is_brought_up_to_date_with_all_it_holds(
    postgres_url: str, newer: Path
) -> None:
    async with open_store(postgres_url) as old:
        await old.commit([accepted()])
    for _ in range(2):
        async with open_postgres(postgres_url, Access.OWN, schema=newer) as store:
            assert len(await readings(store)) == 1
            assert (await store.totals()).events == 7
    for access in Access:
        error = await refusal(postgres_url, access)
        assert error.permanent
        assert f"has schema {KNOWN + 1}, and this program knows up to {KNOWN}" in str(error)


async def test_only_the_head_end_migrates(postgres_url: str, newer: Path) -> None:
    for access in (Access.EDIT, Access.READ):
        error = await refusal(postgres_url, access)
        assert "has schema 0" in str(error)
    async with open_store(postgres_url):
        pass
    with pytest.raises(StoreError, match=f"needs {KNOWN + 1}"):
        async with open_postgres(postgres_url, Access.EDIT, schema=newer):
            pass


async def test_two_head_ends_that_start_together_make_one_schema(postgres_url: str) -> None:
    async def start(number: int) -> Tally:
        async with open_store(postgres_url) as store:
            return await store.commit([accepted(ts=NOON + number * HOUR)])

    tallies = await asyncio.gather(*(start(n) for n in range(4)))
    assert [t.stored for t in tallies] == [1] * 4


async def test_a_migration_that_fails_leaves_the_old_schema_whole(
    postgres_url: str, newer: Path
) -> None:
    (newer / f"{KNOWN + 2:04}_broken.sql").write_text(
        "CREATE TABLE half (x int); CREATE TABLE meter (x int);"
    )
    for _ in range(2):
        with pytest.raises(asyncpg.DuplicateTableError):
            async with open_postgres(postgres_url, Access.OWN, schema=newer):
                pass
    async with open_store(postgres_url) as store:  # nothing of it: all steps are one transaction
        assert await store.totals() == Tally()
