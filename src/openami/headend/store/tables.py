"""The statements of the store as data: what is written where, and what happens to a row already there.

Both engines run the same statements. They differ in how many rows reach the database at once (SQLite:
a list of VALUES; PostgreSQL: arrays, unnested) and in how a value lies in its column.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Type(StrEnum):
    """The type of a column, by PostgreSQL's name."""

    INT = "int4"
    LONG = "int8"
    TEXT = "text"
    BYTES = "bytea"
    VALUE = "value"
    """A reading's value: one column in SQLite, ``number`` and ``text`` in PostgreSQL."""


Columns = tuple[tuple[str, Type], ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows to insert, and what becomes of those that are already there.

    ``in_order``: rows are written in the order they are given. Otherwise in the order of the key, of equal
    ones the first given first: two writers that meet then wait for one another and never cross.
    """

    name: str
    columns: Columns
    key: tuple[str, ...]
    then: str
    in_order: bool = False

    @property
    def width(self) -> int:
        return len(self.columns)


@dataclass(frozen=True, slots=True)
class Given:
    """A statement about rows we hold: they stand as ``given`` in its text.

    ``{value}`` is the stored value's columns: always two, number and text.
    """

    columns: Columns
    sql: str

    @property
    def width(self) -> int:
        return len(self.columns)


_METER: Final = (("feeder_id", Type.TEXT), ("meter_serial", Type.TEXT))
_SERIES: Final = (*_METER, ("obis", Type.TEXT))
_IDENTITY: Final = (("bucket", Type.INT), ("series", Type.INT), ("ms", Type.INT))

UNIT = Table("unit", (("digest", Type.BYTES), ("text", Type.TEXT)), ("digest",), "DO NOTHING")
UNITS_KNOWN = Given(
    UNIT.columns,
    "SELECT given.digest, unit.id FROM given CROSS JOIN unit WHERE unit.digest = given.digest",
)

SERIES = Table(
    "series",
    (*_SERIES, ("unit", Type.INT)),
    ("feeder_id", "meter_serial", "obis"),
    "DO NOTHING",
)
SERIES_KNOWN = Given(
    _SERIES,
    "SELECT given.feeder_id, given.meter_serial, given.obis, s.id, s.unit, "
    "l.bucket, l.ms, l.quality "
    "FROM given CROSS JOIN series s LEFT JOIN latest l ON l.series = s.id "
    "WHERE s.feeder_id = given.feeder_id AND s.meter_serial = given.meter_serial "
    "AND s.obis = given.obis",
)

# The hot one. Six columns, thirty-odd bytes: the received time is told by its distance, in milliseconds.
READING = Table(
    "reading",
    (*_IDENTITY, ("value", Type.VALUE), ("flags", Type.INT), ("lag_ms", Type.LONG)),
    ("bucket", "series", "ms"),
    "DO NOTHING",
)
READINGS_DIFFERING = Given(
    (("row", Type.INT), *_IDENTITY, ("value", Type.VALUE), ("flags", Type.INT)),
    "SELECT given.row, {value}, r.flags FROM given CROSS JOIN reading r "
    "WHERE r.bucket = given.bucket AND r.series = given.series AND r.ms = given.ms "
    "AND (r.flags <> given.flags OR {differs})",
)
QUALITY = Given(
    (*_IDENTITY, ("flags", Type.INT)),
    "UPDATE reading SET flags = given.flags FROM given WHERE reading.bucket = given.bucket "
    "AND reading.series = given.series AND reading.ms = given.ms",
)

# Each register's latest reading stays live, for `latest` points at it; and one that has a conflict, for a person
# compares the two.
MAY_LEAVE: Final = (
    "NOT EXISTS (SELECT 1 FROM latest l WHERE l.series = {0}.series AND l.bucket = {0}.bucket AND l.ms = {0}.ms) "
    "AND NOT EXISTS (SELECT 1 FROM conflict c "
    "WHERE c.bucket = {0}.bucket AND c.series = {0}.series AND c.ms = {0}.ms)"
)
# The one way out of the live table, and what left by it.
READINGS_LEAVING = Given(
    (("bucket", Type.INT), ("series", Type.INT)),
    "DELETE FROM reading WHERE "  # noqa: S608 – this program's own words
    "(bucket, series) IN (SELECT bucket, series FROM given) "
    f"AND {MAY_LEAVE.format('reading')} RETURNING bucket, series, ms, {{returned}}, flags, lag_ms",
)
CLOSED = Table(
    "closed",
    (
        *_METER,
        *(("first_bucket", Type.INT), ("last_bucket", Type.INT), ("readings", Type.INT)),
        *(("closed_at", Type.LONG), ("sha256", Type.TEXT), ("content", Type.BYTES)),
    ),
    ("feeder_id", "meter_serial", "first_bucket"),
    "DO NOTHING",
)
# Made of a file, and of no other: what is there of an older one gives way.
CLOSED_ARRIVALS = Table(
    "closed_arrivals",
    (*_METER, ("first_bucket", Type.INT), ("sha256", Type.TEXT), ("content", Type.BYTES)),
    CLOSED.key,
    "DO UPDATE SET sha256 = excluded.sha256, content = excluded.content",
)
CLOSING_DUE = Table(
    "closing_due",
    (("bucket", Type.INT), *_METER),
    ("bucket", "feeder_id", "meter_serial"),
    "DO NOTHING",
)

CONFLICT = Table(
    "conflict",
    (
        *_IDENTITY,
        ("digest", Type.BYTES),
        ("value", Type.VALUE),
        ("flags", Type.INT),
        ("lag_ms", Type.LONG),
    ),
    ("bucket", "series", "ms", "digest"),
    "DO NOTHING",
)
CONFLICTS_KNOWN = Given(
    _IDENTITY,
    "SELECT c.bucket, c.series, c.ms, c.digest FROM given CROSS JOIN conflict c "
    "WHERE c.bucket = given.bucket AND c.series = given.series AND c.ms = given.ms",
)

_DAY: Final = (("series", Type.INT), ("day", Type.INT))
# An update that changes nothing holds the row: whoever folds the day waits until these readings are there.
ENERGY_DUE = Table("energy_due", _DAY, ("series", "day"), "DO UPDATE SET day = excluded.day")
ENERGY_FOLDED = Given(
    _DAY,
    "DELETE FROM energy_due WHERE (series, day) IN (SELECT series, day FROM given)",
)
ENERGY_READINGS = Given(
    (*_DAY, ("bucket", Type.INT)),
    "SELECT given.series, given.day, r.bucket, r.ms, {value}, r.flags, u.text "
    "FROM given CROSS JOIN reading r CROSS JOIN series s CROSS JOIN unit u "
    "WHERE r.bucket = given.bucket AND r.series = given.series AND s.id = given.series "
    "AND u.id = coalesce(nullif(r.flags >> 4, 0), s.unit)",
)
ENERGY_DAY = Table(
    "energy_day",
    (
        *_DAY,
        *(("readings", Type.INT), ("suspect", Type.INT)),
        *(("first_ms", Type.INT), ("first_wh", Type.LONG)),
        *(("last_ms", Type.INT), ("last_wh", Type.LONG)),
        *(("counted", Type.BYTES), ("marks", Type.BYTES), ("breaks", Type.TEXT)),
    ),
    ("series", "day"),
    "DO UPDATE SET readings = excluded.readings, suspect = excluded.suspect, "
    "first_ms = excluded.first_ms, first_wh = excluded.first_wh, "
    "last_ms = excluded.last_ms, last_wh = excluded.last_wh, "
    "counted = excluded.counted, marks = excluded.marks, breaks = excluded.breaks",
)

_NEWER: Final = "(excluded.bucket, excluded.ms) > (latest.bucket, latest.ms)"
_SAME_BUT_WORSE: Final = (
    "(excluded.bucket, excluded.ms) = (latest.bucket, latest.ms) "
    "AND excluded.quality > latest.quality"
)
LATEST = Table(
    "latest",
    (("series", Type.INT), ("bucket", Type.INT), ("ms", Type.INT), ("quality", Type.INT)),
    ("series",),
    "DO UPDATE SET bucket = excluded.bucket, ms = excluded.ms, quality = excluded.quality "
    f"WHERE {_NEWER} OR ({_SAME_BUT_WORSE})",
)
LATEST_KEPT = Table("latest_kept", READING.columns, ("series",), "DO NOTHING")
LATEST_KEPT_GONE = Given(
    (("series", Type.INT),),
    "DELETE FROM latest_kept WHERE series IN (SELECT series FROM given)",
)


def _earliest(table: str, column: str) -> str:
    mine, new = f"{table}.{column}", f"excluded.{column}"
    return f"{column} = CASE WHEN {new} < {mine} THEN {new} ELSE {mine} END"


def _greatest(table: str, column: str) -> str:
    mine, new = f"{table}.{column}", f"excluded.{column}"
    return f"{column} = CASE WHEN {mine} IS NULL OR {new} > {mine} THEN {new} ELSE {mine} END"


METER = Table(
    "meter",
    (
        *_METER,
        ("gateway_id", Type.TEXT),
        ("first_seen", Type.LONG),
        ("last_seen", Type.LONG),
        ("last_ts", Type.LONG),
        ("good_ts", Type.LONG),
    ),
    # A meter has moved when it was *measured* elsewhere later; a backfill from its old gateway is no move.
    ("feeder_id", "meter_serial"),
    "DO UPDATE SET "
    "gateway_id = CASE WHEN excluded.last_ts > meter.last_ts THEN excluded.gateway_id "
    "ELSE meter.gateway_id END, "
    + ", ".join(
        (
            _earliest("meter", "first_seen"),
            _greatest("meter", "last_seen"),
            _greatest("meter", "last_ts"),
            _greatest("meter", "good_ts"),
        )
    ),
)
GATEWAY = Table(
    "gateway",
    (
        ("feeder_id", Type.TEXT),
        ("gateway_id", Type.TEXT),
        ("first_seen", Type.LONG),
        ("last_seen", Type.LONG),
        ("last_seq", Type.LONG),
    ),
    ("feeder_id", "gateway_id"),
    "DO UPDATE SET "
    + ", ".join(
        (
            _earliest("gateway", "first_seen"),
            _greatest("gateway", "last_seen"),
            _greatest("gateway", "last_seq"),
        )
    ),
)
_GATEWAY: Final = (("feeder_id", Type.TEXT), ("gateway_id", Type.TEXT))
# Asked and written after GATEWAY, whose rows are then this transaction's alone: two writers take turns.
NUMBERING = Table(
    "numbering",
    (*_GATEWAY, ("state", Type.BYTES)),
    ("feeder_id", "gateway_id"),
    "DO UPDATE SET state = excluded.state",
)
NUMBERINGS_KNOWN = Given(
    _GATEWAY,
    "SELECT n.feeder_id, n.gateway_id, n.state FROM given CROSS JOIN numbering n "
    "WHERE n.feeder_id = given.feeder_id AND n.gateway_id = given.gateway_id",
)
EVENT = Table(
    "event",
    (
        *_METER,
        ("event_id", Type.TEXT),
        ("gateway_id", Type.TEXT),
        ("type", Type.TEXT),
        ("state", Type.TEXT),
        ("severity", Type.TEXT),
        ("occurred_at", Type.LONG),
        ("ts", Type.LONG),
        ("received_at", Type.LONG),
        ("payload", Type.BYTES),
    ),
    ("feeder_id", "meter_serial", "event_id"),
    "DO NOTHING",
)
FINDING = Table(
    "finding",
    (
        ("day", Type.TEXT),
        *_SERIES,
        ("code", Type.TEXT),
        ("count", Type.LONG),
        ("detail", Type.TEXT),
        ("last_seen", Type.LONG),
    ),
    ("day", "feeder_id", "meter_serial", "obis", "code"),
    "DO UPDATE SET "
    "count = finding.count + excluded.count, "
    "detail = CASE WHEN excluded.last_seen >= finding.last_seen THEN excluded.detail "
    f"ELSE finding.detail END, {_greatest('finding', 'last_seen')}",
)

REJECTED = Table(
    "rejected",
    (
        ("digest", Type.BYTES),
        ("received_at", Type.LONG),
        ("last_received_at", Type.LONG),
        ("topic", Type.BYTES),
        ("payload", Type.BYTES),
        ("bytes", Type.LONG),
        ("code", Type.TEXT),
        ("requirement", Type.TEXT),
        ("path", Type.TEXT),
        ("detail", Type.TEXT),
        ("partial", Type.INT),
        ("count", Type.LONG),
    ),
    ("digest",),
    "DO UPDATE SET count = rejected.count + excluded.count, "
    + ", ".join((_earliest("rejected", "received_at"), _greatest("rejected", "last_received_at"))),
    in_order=True,  # the newest has the highest number
)
REJECTED_KNOWN = Given(
    (("digest", Type.BYTES),),
    "SELECT rejected.digest FROM given CROSS JOIN rejected WHERE rejected.digest = given.digest",
)
REJECTED_GONE = Given(
    (("id", Type.LONG),), "DELETE FROM rejected WHERE id IN (SELECT id FROM given)"
)
