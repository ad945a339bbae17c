"""Stores as earlier versions left them: the schema as far as it went then, and what its head-end had written.

Nothing of it is kept as a file: a year is generated, the same each time. The tables that hold readings have been
the same since the first schema; what later ones added is put in when their time comes, as a row or two each.
"""

import hashlib
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

import asyncpg

from openami.headend.store import Access
from openami.headend.store.identity import place, to_ms
from openami.headend.store.migrations import SCHEMA, migrations
from openami.headend.store.months import month_of_bucket
from openami.headend.store.partitions import make_months
from openami.headend.store.postgres import open_postgres
from openami.headend.store.sqlite import open_sqlite

FEEDER: Final = "feeder-old"
YEAR_BEGAN: Final = datetime(2025, 6, 1, tzinfo=UTC)
DAYS: Final = 365
STEP_MS: Final = 3 * 3_600_000
STEPS_A_DAY: Final = 8
STEP_KWH: Final = 0.25
NEWEST: Final = len(migrations(SCHEMA / "sqlite"))
# Flags of a reading: 0 is a good float in the series' own unit, 1 the same suspect, 12 a good text.
_GOOD, _SUSPECT, _TEXT = 0, 1, 12

# What each later schema keeps beyond readings: a row of every table that a person would miss.
KEPT: Final[Mapping[int, Sequence[tuple[str, Mapping[str, object]]]]] = {
    2: [
        ("keyring", {"feeder_id": FEEDER, "gateway_id": "*", "version": 3, "document": b"{}",
                     "added_at": 7, "added_by": "anita"}),
        ("session_nonce", {"session_id": "sip-1", "nonce": "n-1"}),
        ("signing", {"digest": "d-1", "command_id": "cmd-1", "session_id": "sip-1",
                     "meter_serial": "M-0000", "seq": 41, "signed_at": 7, "action": "relay.disconnect"}),
        ("command", {"id": "cmd-1", "feeder_id": FEEDER, "gateway_id": "pole-1",
                     "meter_serial": "M-0000", "action": "relay.disconnect", "args": "{}",
                     "requested_by": "anita", "reason": "unpaid", "requested_at": 7, "not_after": 9,
                     "state": "CONFIRMED", "signings": 1, "missing": "[]", "ended_at": 8}),
    ],
    3: [("gap", {"feeder_id": FEEDER, "gateway_id": "pole-1", "epoch": 1, "first": 5, "last": 6,
                 "missing": 2, "state": "open", "reason": "in_transit", "noticed_at": 7,
                 "changed_at": 7, "asks": 0, "answers": 0})],
    4: [
        ("account", {"name": "anita", "role": "engineer", "totp_step": 0, "recovery": "[]",
                     "created_at": 7, "created_by": "head-end"}),
        ("api_token", {"id": "tok-1", "digest": "d", "label": "billing", "role": "viewer",
                       "created_at": 7, "created_by": "anita", "expires_at": 9, "relays": 0}),
    ],
    5: [("asset_pole", {"feeder_id": FEEDER, "id": "p-1", "name": "by the temple", "number": 1,
                        "phases": "L1"})],
    7: [("alarm", {"id": "a-1", "feeder_id": FEEDER, "gateway_id": "pole-1", "meter_serial": "",
                   "kind": "gateway_silent", "origin": "state", "severity": "major", "detail": "",
                   "raised_at": 7, "last_at": 7, "times": 1})],
    10: [("bandwidth_budget", {"feeder_id": FEEDER, "gateway_id": "pole-1", "month_bytes": 9})],
    11: [("bulk_meter", {"bulk_id": "b-1", "position": 1, "meter_serial": "M-0001",
                         "gateway_id": "pole-1", "refused_as": "PROTECTED"})],
    15: [
        ("closed", {"feeder_id": FEEDER, "meter_serial": "M-9999", "first_bucket": 100,
                    "last_bucket": 285, "readings": 9, "closed_at": 7, "sha256": "s",
                    "content": b"PAR1"}),
        ("closing_due", {"bucket": 100, "feeder_id": FEEDER, "meter_serial": "M-9999"}),
    ],
    16: [("closed_arrivals", {"feeder_id": FEEDER, "meter_serial": "M-9999", "first_bucket": 100,
                              "sha256": "s", "content": b"x"})],
}  # fmt: skip


def schema_until(engine: str, number: int, folder: Path) -> Path:
    """Return a folder with the first files of an engine's schema: the schema of an earlier program."""
    folder.mkdir(exist_ok=True)
    for step in migrations(SCHEMA / engine)[:number]:
        (folder / step.name).write_text(step.script)
    return folder


def series(meters: int) -> Iterator[tuple[int, str, str, int]]:
    """Yield number, serial, code and unit of each register: energy, and the relay."""
    for n in range(meters):
        yield 2 * n + 1, f"M-{n:04}", "1.8.0", 1
        yield 2 * n + 2, f"M-{n:04}", "96.11.1", 2


def year(meters: int, days: int = DAYS) -> Iterator[tuple[int, int, int, object, int, int]]:
    """Yield readings: bucket, series, ms, value, flags, lag; in the order a head-end writes them."""
    began = to_ms(YEAR_BEGAN)
    for at in range(days * STEPS_A_DAY):
        moment = began + at * STEP_MS
        bucket, ms = place(moment)
        for n in range(meters):
            flags = _SUSPECT if (at + n) % 997 == 0 else _GOOD
            yield bucket, 2 * n + 1, ms, 1000.0 + n + at * STEP_KWH, flags, 1500 + n
            if at % STEPS_A_DAY == 0:
                yield bucket, 2 * n + 2, ms, "connected", _TEXT, 1500 + n


def ends(meters: int, days: int) -> tuple[int, int]:
    """Return the first and the last measured time."""
    began = to_ms(YEAR_BEGAN)
    return began, began + (days * STEPS_A_DAY - 1) * STEP_MS


class OldStore(Protocol):
    """A store of an earlier schema, as SQL sees it."""

    engine: str
    url: str

    async def upgrade(self, schema: Path) -> None:
        """Open it as the head-end with that schema does, and close it."""
        ...

    async def put(self, table: str, rows: Sequence[Mapping[str, object]]) -> None: ...

    async def put_readings(self, meters: int, days: int) -> None: ...

    async def rows(self, sql: str) -> list[tuple[object, ...]]: ...


class OldSqlite:
    """In a file."""

    engine = "sqlite"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"

    async def upgrade(self, schema: Path) -> None:
        async with open_sqlite(str(self.path), Access.OWN, schema=schema):
            pass

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path)
        connection.execute("PRAGMA synchronous = OFF")  # what is made up need not be durable
        return connection

    async def put(self, table: str, rows: Sequence[Mapping[str, object]]) -> None:
        places = ", ".join("?" * len(rows[0]))
        sql = f"INSERT INTO {table} ({', '.join(rows[0])}) VALUES ({places})"
        with closing(self._connected()) as store, store:
            store.executemany(sql, [tuple(row.values()) for row in rows])

    async def put_readings(self, meters: int, days: int) -> None:
        with closing(self._connected()) as store, store:
            store.executemany("INSERT INTO reading VALUES (?, ?, ?, ?, ?, ?)", year(meters, days))

    async def rows(self, sql: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.path)) as store:
            return store.execute(sql).fetchall()


class OldPostgres:
    """On a server."""

    engine = "postgres"

    def __init__(self, url: str) -> None:
        self.url = url

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        settings = {"search_path": "openami", "synchronous_commit": "off"}
        connection = await asyncpg.connect(self.url, server_settings=settings)
        try:
            yield connection
        finally:
            await connection.close()

    async def upgrade(self, schema: Path) -> None:
        async with open_postgres(self.url, Access.OWN, schema=schema):
            pass

    async def put(self, table: str, rows: Sequence[Mapping[str, object]]) -> None:
        places = ", ".join(f"${n}" for n in range(1, len(rows[0]) + 1))
        always = "OVERRIDING SYSTEM VALUE " if table in {"unit", "series"} else ""
        sql = f"INSERT INTO {table} ({', '.join(rows[0])}) {always}VALUES ({places})"
        async with self._connected() as connection:
            await connection.executemany(sql, [tuple(row.values()) for row in rows])

    async def put_readings(self, meters: int, days: int) -> None:
        rows = [
            (
                bucket,
                of,
                ms,
                *((None, value) if isinstance(value, str) else (value, None)),
                flags,
                lag,
            )
            for bucket, of, ms, value, flags, lag in year(meters, days)
        ]
        names = ("bucket", "series", "ms", "number", "text", "flags", "lag_ms")
        async with self._connected() as connection:
            kind = await connection.fetchval(
                "SELECT relkind FROM pg_class WHERE oid = 'reading'::regclass"
            )
            if kind == b"p":  # by month, from the schema on that has them
                async with connection.transaction():
                    await make_months(connection, {month_of_bucket(row[0]) for row in rows})
            await connection.copy_records_to_table("reading", records=rows, columns=names)

    async def rows(self, sql: str) -> list[tuple[object, ...]]:
        async with self._connected() as connection:
            return [tuple(row) for row in await connection.fetch(sql)]


async def fill(store: OldStore, *, meters: int, days: int = DAYS) -> None:
    """Write what a head-end of the first schema had after so many days."""
    digests = [hashlib.blake2b(text, digest_size=16).digest() for text in (b"kWh", b"enum")]
    await store.put(
        "unit",
        [{"id": 1, "digest": digests[0], "text": "kWh"}, {"id": 2, "digest": digests[1], "text": "enum"}],
    )  # fmt: skip
    first, last = ends(meters, days)
    registers = list(series(meters))
    await store.put(
        "series",
        [
            {"id": id_, "feeder_id": FEEDER, "meter_serial": serial, "obis": obis, "unit": unit}
            for id_, serial, obis, unit in registers
        ],
    )
    last_of = {1: place(last), 2: place(last - (STEPS_A_DAY - 1) * STEP_MS)}
    await store.put(
        "latest",
        [
            {"series": id_, "bucket": last_of[unit][0], "ms": last_of[unit][1], "quality": 0}
            for id_, _, _, unit in registers
        ],
    )
    seen = {"first_seen": first, "last_seen": last}
    await store.put(
        "meter",
        [
            {"feeder_id": FEEDER, "meter_serial": f"M-{n:04}", "gateway_id": "pole-1", **seen,
             "last_ts": last, "good_ts": last}
            for n in range(meters)
        ],
    )  # fmt: skip
    await store.put(
        "gateway", [{"feeder_id": FEEDER, "gateway_id": "pole-1", **seen, "last_seq": days}]
    )
    await store.put_readings(meters, days)


async def keep(store: OldStore, number: int) -> None:
    """Write what a head-end of this schema keeps beyond the schemas before it."""
    for table, row in KEPT.get(number, ()):
        await store.put(table, [row])


async def kept_until(store: OldStore, number: int) -> list[tuple[object, ...]]:
    """Return what is there of everything that the schemas up to this one keep."""
    return [
        row
        for schema in range(1, number + 1)
        for table, members in KEPT.get(schema, ())
        for row in await store.rows(f"SELECT {', '.join(members)} FROM {table}")
    ]


async def hash_of_readings(store: OldStore) -> str:
    """Return one hash of every reading, as the view for people tells it."""
    rows = await store.rows("SELECT * FROM readings ORDER BY feeder_id, meter_serial, obis, ts")
    assert rows
    return hashlib.sha256(repr(rows).encode()).hexdigest()
