"""A store moved to the other engine: every row of every table, proved; interrupted, refused, alive afterwards."""

import asyncio
import json
import multiprocessing
import os
import random
import signal
import sqlite3
import struct
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.headend.conftest import ENGINES
from tests.headend.decisions import NOON, POWER, RELAY, accepted, readings, register, rejected, told
from tests.headend.new_store import new_store
from tests.headend.old_store import OldSqlite, schema_until
from tests.headend.program import openami, wait_for
from tests.headend.test_backup import LATER, MINUTE, TAKEN, live_on
from tests.headend.test_command_store import Decide, a_command
from tests.postgres import Postgres
from tests.tools import require_tool

from openami.headend.audit import first_break
from openami.headend.backups.making import settled
from openami.headend.moving import postgres_side
from openami.headend.moving.moved import Moved, move
from openami.headend.moving.rows import Column, Content, Kind, Layout, MoveError, as_told
from openami.headend.moving.side import NOT_MOVED
from openami.headend.store import Access, StoreError
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.open import open_store

pytestmark = pytest.mark.postgres


@pytest.fixture(params=ENGINES)
def ways(request: pytest.FixtureRequest, tmp_path: Path, postgres_url: str) -> tuple[str, str]:
    """A source nobody has used, and an empty target of the other engine."""
    if request.param == "sqlite":
        return new_store(tmp_path / "store.db"), postgres_url

    async def made() -> None:
        async with open_store(postgres_url):
            pass

    asyncio.run(made())
    return postgres_url, f"sqlite:///{tmp_path}/target.db"


def moved(source: str, target: str, say: Callable[[str], None] = lambda _: None) -> Moved:
    return asyncio.run(move(source, target, who="anita", now=LATER, tell=say))


def opened(url: str, access: Access = Access.OWN) -> None:
    """Open a store and close it."""

    async def run() -> None:
        async with open_store(url, access):
            pass

    asyncio.run(run())


# --- everything moves ----------------------------------------------------------------------------

_NAMES = (
    "SELECT table_name || ' ' || column_name || ' ' || is_nullable || ' ' || data_type "
    "FROM information_schema.columns JOIN pg_tables ON tablename = table_name AND schemaname = 'openami' "
    "WHERE table_schema = 'openami' ORDER BY 1"
)
_ONE_ROW = {"tally", "audit_end", "alarm_look"}
_BITS = {"smallint": 16, "integer": 32, "bigint": 64}
_VALUES: list[tuple[float | str, int]] = [  # with their flags: float, whole, true and false, text
    *((-0.0, 0), (0.1, 1), (5.0, 0), (float("inf"), 0), (5e-324, 2)),
    *((5, 4), (-(2**53), 4), (0, 4), (1, 8), (0, 8)),
    *(("007", 12), ("", 12), ("சென்னை 🔌", 12)),
]


def written_by_schema(postgres: Postgres, url: str) -> dict[str, dict[str, tuple[bool, str]]]:
    """Return the columns of every table, as PostgreSQL has them."""
    tables: dict[str, dict[str, tuple[bool, str]]] = {}
    for line in postgres.sql(_NAMES, database=url.rsplit("/", 1)[1]).splitlines():
        table, column, nullable, kind = line.split(" ", 3)
        tables.setdefault(table, {})[column] = (nullable == "YES", kind)
    return {table: columns for table, columns in tables.items() if table not in NOT_MOVED}


def cell(chance: random.Random, row: int, kind: str) -> object:
    """Return a cell; the first two rows hold the ends of what the type can."""
    if kind in _BITS:
        end = 1 << _BITS[kind] - 1
        return [-end, end - 1][row] if row < 2 else chance.randrange(-end, end)
    if kind == "double precision":
        (number,) = struct.unpack("<d", struct.pack("<q", chance.randrange(2**62)))
        return [1e-300, -1.7976931348623157e308][row] if row < 2 else number
    if kind == "bytea":
        return [b"", bytes(range(256))][row] if row < 2 else chance.randbytes(40)
    assert kind == "text", f"a type that nobody has thought of: {kind}"
    odd = ["", "\u0001\n'\"\\ \ufeff\U0010ffff é e\u0301"]
    return f"{odd[row] if row < 2 else ''}{chance.randrange(10**12)}"


def fill(path: Path, tables: dict[str, dict[str, tuple[bool, str]]]) -> None:
    """Write rows with all that the columns can hold into every table of a SQLite store."""
    chance = random.Random(8)
    with closing(sqlite3.connect(path)) as store, store:
        for table, columns in tables.items():
            valued = {"number", "text"} <= columns.keys() and "flags" in columns
            names = [name for name in columns if not (valued and name in {"number", "text"})]
            store.execute(f"DELETE FROM {table}")
            for row in range(1 if table in _ONE_ROW else len(_VALUES)):
                cells = {
                    name: None
                    if columns[name][0] and chance.random() < 0.3
                    else cell(chance, row if table not in _ONE_ROW else 9, columns[name][1])
                    for name in names
                }
                if valued:
                    cells["value"], cells["flags"] = _VALUES[row]
                if table == "audit_end":
                    cells["number"] = 41
                places = ", ".join("?" * len(cells))
                store.execute(
                    f"INSERT INTO {table} ({', '.join(cells)}) VALUES ({places})", [*cells.values()]
                )


def rows_of_sqlite(path: Path) -> dict[str, list[str]]:
    """Return every table's rows as text that tells types and bits apart."""
    with closing(sqlite3.connect(path)) as store:
        names = [
            name
            for (name,) in store.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
            if name not in NOT_MOVED
        ]
        return {name: sorted(map(repr, store.execute(f"SELECT * FROM {name}"))) for name in names}


async def rows_of_postgres(url: str, tables: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return the same of a PostgreSQL store, in the order of SQLite's columns."""
    connection = await asyncpg.connect(url, server_settings={"search_path": "openami"})
    found = {
        table: sorted(
            [
                repr(tuple(row))
                for row in await connection.fetch(f"SELECT {', '.join(names)} FROM {table}")
            ]
        )
        for table, names in tables.items()
    }
    await connection.close()
    return found


def test_every_cell_of_every_table_there_and_back(
    postgres: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    first, last = tmp_path / "first.db", tmp_path / "last.db"
    opened(postgres_url)
    tables = written_by_schema(postgres, postgres_url)
    postgres.sql("DROP SCHEMA openami CASCADE", database=postgres_url.rsplit("/", 1)[1])
    new_store(first)
    fill(first, tables)
    before = rows_of_sqlite(first)
    assert before.keys() == tables.keys()
    assert all(before.values())

    there = moved(f"sqlite:///{first}", postgres_url)
    assert {name: content.rows for name, content in there.tables.items()} == {
        name: len(rows) for name, rows in before.items()
    }
    with closing(sqlite3.connect(first)) as store:
        columns = {
            name: [column[1] for column in store.execute(f"PRAGMA table_info({name})")]
            for name in tables
        }
    plain = {name: names for name, names in columns.items() if "value" not in names}
    held = asyncio.run(rows_of_postgres(postgres_url, plain))
    told_of_it = {"audit", "audit_end"}
    for name in plain.keys() - told_of_it:
        assert held[name] == before[name], name
    assert [row for row in held["audit"] if "'store moved'" not in row] == before["audit"]
    values = {name: ["number", "text", "flags"] for name in ("reading", "conflict", "latest_kept")}
    assert values.keys() == columns.keys() - plain.keys()
    for rows in asyncio.run(rows_of_postgres(postgres_url, values)).values():
        assert rows == sorted(
            repr((None, value, flags) if isinstance(value, str) else (float(value), None, flags))
            for value, flags in _VALUES
        )

    moved(postgres_url, f"sqlite:///{last}")
    after = rows_of_sqlite(last)
    for name in before.keys() - told_of_it:
        assert after[name] == before[name], name
    assert [row for row in after["audit"] if "'store moved'" not in row] == before["audit"]
    assert len(after["audit"]) == len(before["audit"]) + 2


# --- the head-end goes on there ------------------------------------------------------------------


async def seen(store: HeadEndStore) -> list[object]:
    """Return what people see of a store."""
    return [
        told(await readings(store)),
        await store.rejects(),
        await store.commands(),
        await store.sessions(),
        await store.tokens(),
        await store.sign_ins("anita"),
        await store.bulk("bulk-1"),
    ]


async def a_day(url: str) -> list[object]:
    """Let a head-end work, and return what people see."""
    async with open_store(url) as store:
        await live_on(store)
        day = [
            accepted(register(n), register(n, RELAY, unit=str(n)), ts=NOON + n * MINUTE)
            for n in range(40)
        ]
        await store.commit([*day, accepted(register(7.5)), rejected(b"1"), rejected(b"2")])
        return await seen(store)


def test_the_head_end_goes_on_there_and_not_here(ways: tuple[str, str]) -> None:
    source, target = ways
    was = asyncio.run(a_day(source))

    async def go_on() -> None:
        async with open_store(target) as store:
            assert await seen(store) == was
            links = await store.audit_links()
            assert links[-1].entry.what == "store moved"
            again = await store.commit([accepted(register(3), ts=NOON + 3 * MINUTE)])
            assert (again.stored, again.duplicates) == (0, 1)
            news = accepted(register(1, POWER), register(7, unit="MWh"), meter="M-new")
            assert (await store.commit([news, rejected(b"3")])).stored == 2
            assert [each.payload for each in await store.rejects()] == [b"3", b"2", b"1"]
            await store.request_command(a_command("next", meter_serial="m-5"), LATER)
            await store.change_command("waits", Decide(seq=8, session_id="sip-1"), LATER)
            open_now = {command.id for command in await store.commands(only_open=True)}
            assert open_now == {"waits", "out", "again", "next"}
            assert first_break(await store.audit_links()) is None

    moved(source, target)
    asyncio.run(go_on())
    for access in (Access.OWN, Access.EDIT):
        with pytest.raises(StoreError, match="was moved to") as refused:
            opened(source, access)
        assert "--taken-at" in refused.value.remedy
    opened(source, Access.READ)
    with pytest.raises(MoveError, match="is not that move"):
        moved(source, target)
    with pytest.raises(MoveError, match=r"was moved to .* already"):
        moved(source, f"{target}-2")
    # Whoever comes back to it comes back to the past, and nothing that was open acts again.
    assert settled(source, taken_at=TAKEN, who="anita", now=LATER).commands == 2
    opened(source)


# --- killed --------------------------------------------------------------------------------------


def killed(source: str, target: str, at: str) -> int | None:
    """Move in a process of its own that dies as soon as it says something; return how it ended."""

    def say(sentence: str) -> None:
        if at in sentence:
            os.kill(os.getpid(), signal.SIGKILL)

    child = multiprocessing.get_context("fork").Process(target=moved, args=(source, target, say))
    child.start()
    child.join(30)
    return child.exitcode


def test_killed_at_any_moment_at_most_one_of_them_acts(ways: tuple[str, str]) -> None:
    source, target = ways

    asyncio.run(a_day(source))
    for place in ("audit: ", "unit: ", "comparing"):
        assert killed(source, target, place) == -signal.SIGKILL
        with pytest.raises(StoreError, match="not finished") as refused:
            opened(target)
        assert "once more" in refused.value.remedy
        opened(source)
    assert killed(source, target, "is marked as moved") == -signal.SIGKILL
    with pytest.raises(StoreError, match="not finished"):
        opened(target)
    with pytest.raises(StoreError, match="was moved to"):
        opened(source)
    assert moved(source, target).tables["reading"].rows == 80
    opened(target)


# --- what is refused -----------------------------------------------------------------------------


def test_beside_a_working_head_end_it_is_refused(
    ways: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_side, "_LOOKS_MAX", 3)
    source, target = ways

    async def beside() -> None:
        async with open_store(source):
            with pytest.raises(
                StoreError, match=r"another head-end|somebody works with"
            ) as refused:
                await move(source, target, who="anita", now=LATER, tell=lambda _: None)
            assert refused.value.permanent

    asyncio.run(beside())
    assert not Path(target.removeprefix("sqlite:///")).exists()
    opened(source)


def test_a_head_end_that_comes_while_it_moves_is_noticed(
    postgres: Postgres, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands before locked tables, and would go on in the old store as soon as they are free."""
    monkeypatch.setattr(postgres_side, "_LOOKS_MAX", 3)
    opened(postgres_url)
    target = f"sqlite:///{tmp_path}/target.db"
    name = postgres_url.rsplit("/", 1)[1]
    others = f"FROM pg_stat_activity WHERE datname = '{name}' AND application_name = 'openami'"

    def say(sentence: str) -> None:
        if sentence == "comparing":
            command = [str(require_tool("psql")), f"{postgres_url}?application_name=openami"]
            coming.append(subprocess.Popen(command, stdin=subprocess.PIPE))
            wait_for(lambda: postgres.sql(f"SELECT count(*) {others}") == "1")

    coming: list[subprocess.Popen[bytes]] = []
    with pytest.raises(StoreError, match="somebody works with"):
        moved(postgres_url, target, say)
    coming[0].communicate()
    opened(postgres_url)
    with pytest.raises(StoreError, match="not finished"):
        opened(target)
    moved(postgres_url, target)


def test_a_store_is_never_overwritten(ways: tuple[str, str]) -> None:
    source, target = ways
    opened(target)
    with pytest.raises(MoveError, match="never overwritten"):
        moved(source, target)
    with pytest.raises((MoveError, StoreError), match=r"never overwritten|another head-end"):
        moved(source, source)
    opened(source)
    opened(target)


def test_an_old_store_is_brought_up_to_date_first(tmp_path: Path, postgres_url: str) -> None:
    old = OldSqlite(tmp_path / "old.db")
    asyncio.run(old.upgrade(schema_until("sqlite", 7, tmp_path / "schema")))
    with pytest.raises(StoreError, match="has schema 7") as refused:
        moved(old.url, postgres_url)
    assert "start the head-end of this version once" in refused.value.remedy
    with pytest.raises(StoreError, match="holds no head-end's store"):
        moved(postgres_url, f"sqlite:///{tmp_path}/target.db")


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        (
            "INSERT INTO unit VALUES (7, x'01', 'k' || char(0) || 'Wh')",
            "id = 7: text holds U\\+0000",
        ),
        ("INSERT INTO latest VALUES (1, 2147483648, 0, 0)", "bucket is 2147483648: more than 32"),
        ("INSERT INTO reading VALUES (1, 2, 3, 9007199254740993, 4, 0)", "would round"),
        ("INSERT INTO unit VALUES (7, x'01', CAST(x'ff' AS TEXT))", "no UTF-8"),
    ],
)
def test_what_postgresql_cannot_hold_is_named(
    tmp_path: Path, postgres_url: str, sql: str, said: str
) -> None:
    source = new_store(tmp_path / "store.db")
    with closing(sqlite3.connect(tmp_path / "store.db")) as store, store:
        store.execute(sql)
    with pytest.raises(MoveError, match=said):
        moved(source, postgres_url)
    opened(source)  # which goes on as it was


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE reading_1970 PARTITION OF reading FOR VALUES FROM (0) TO (9); "
        "INSERT INTO reading VALUES ('NaN', 0, 1, 2, 3, 0, NULL)",
        "INSERT INTO asset_pole VALUES ('f', 'p', '', 1, NULL, 'NaN', NULL, '')",
    ],
)
def test_what_sqlite_cannot_hold_is_named(
    tmp_path: Path, postgres: Postgres, postgres_url: str, sql: str
) -> None:
    opened(postgres_url)
    postgres.sql(f"SET search_path = openami; {sql}", database=postgres_url.rsplit("/", 1)[1])
    with pytest.raises(MoveError, match="is NaN"):
        moved(postgres_url, f"sqlite:///{tmp_path}/target.db")
    opened(postgres_url)


def test_a_row_that_did_not_come_as_it_was_is_noticed(
    tmp_path: Path, postgres: Postgres, postgres_url: str
) -> None:
    """Here the target's own trigger changes it; a bug of ours or a broken disk would be the same."""
    source = new_store(tmp_path / "store.db")
    with closing(sqlite3.connect(tmp_path / "store.db")) as store, store:
        store.execute("INSERT INTO latest VALUES (1, 2, 3, 0)")
    assert killed(source, postgres_url, "comparing") == -signal.SIGKILL
    postgres.sql(
        "SET search_path = openami; CREATE FUNCTION worse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN NEW.quality := 1; RETURN NEW; END $$; "
        "CREATE TRIGGER worse BEFORE INSERT ON latest FOR EACH ROW EXECUTE FUNCTION worse()",
        database=postgres_url.rsplit("/", 1)[1],
    )
    with pytest.raises(MoveError, match="latest differ"):
        moved(source, postgres_url)
    opened(source)
    with pytest.raises(StoreError, match="not finished"):
        opened(postgres_url)


async def test_two_moves_into_one_database(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(postgres_side._SETTINGS, "lock_timeout", "50ms")
    source = new_store(tmp_path / "store.db")
    async with postgres_side.begun_target(postgres_url, begun_at="now", only_again=False):
        with pytest.raises(MoveError, match=r"another move .* is at work"):
            await move(source, postgres_url, who="anita", now=LATER, tell=lambda _: None)
    await move(source, postgres_url, who="anita", now=LATER, tell=lambda _: None)


# --- the hash ------------------------------------------------------------------------------------

LAYOUT = Layout.of(
    "reading",
    [
        Column("flags", Kind.WHOLE),
        Column("series", Kind.WHOLE, in_key=True),
        Column("value", Kind.VALUE),
    ],
)
cells = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(), st.binary(), st.booleans()
)
tables = st.lists(st.tuples(cells, cells), max_size=5)


def content(rows: list[tuple[object, ...]]) -> Content:
    found = Content()
    found.add(rows)
    return found


@given(rows=tables, chance=st.randoms(use_true_random=False), cut=st.integers(0, 8))
def test_the_order_and_the_batches_say_nothing(
    rows: list[tuple[object, ...]], chance: random.Random, cut: int
) -> None:
    shuffled = [*rows]
    chance.shuffle(shuffled)
    found = content(shuffled[:cut])
    found.add(shuffled[cut:])
    assert found == content(rows)


@given(one=tables, other=tables)
def test_other_rows_have_another_digest(
    one: list[tuple[object, ...]], other: list[tuple[object, ...]]
) -> None:
    def bits(rows: list[tuple[object, ...]]) -> list[str]:
        return sorted(map(repr, rows))  # tells 1 from 1.0 and True, and 0.0 from -0.0

    assert (content(one) == content(other)) is (bits(one) == bits(other))


@given(
    value=st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False), st.text(max_size=3)),
    kind=st.integers(0, 3),
    rest=st.integers(0, 3),
)
def test_a_value_is_told_alike_from_either_column(value: float | str, kind: int, rest: int) -> None:
    flags = kind << 2 | rest
    held = value if isinstance(value, str) else float(value)
    assert repr(as_told(LAYOUT, [(flags, 1, value)])) == repr(as_told(LAYOUT, [(flags, 1, held)]))


# --- on the command line -------------------------------------------------------------------------


def test_on_the_command_line(tmp_path: Path, postgres_url: str) -> None:
    source = new_store(tmp_path / "store.db")
    row = json.loads(openami("headend", "migrate-store", source, postgres_url, "--json"))
    assert (row["from"], row["tables"]["tally"]["rows"]) == (f"{tmp_path}/store.db", 1)
    assert row["rows"] == sum(table["rows"] for table in row["tables"].values())
    assert len(row["tables"]["tally"]["digest"]) == 32
    assert openami("headend", "migrate-store", source, postgres_url, code=1) == ""
    assert openami("headend", "migrate-store", "mysql://somewhere", postgres_url, code=2) == ""
