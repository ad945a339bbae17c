"""What a person can ask of the store: one text for both engines, and rows made into the port's types."""

# Statements are put together from this program's own words; every value is bound.
# ruff: noqa: S608

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, cast

from openami.headend.store import (
    ROWS_MAX,
    Conflict,
    FeederRow,
    GatewayRow,
    MeterRow,
    Reading,
    Reject,
    RejectStatus,
    StoredEvent,
    StoredFinding,
    Tally,
)
from openami.headend.store.closed_content import split
from openami.headend.store.closed_reading import closed_readings, closed_spans
from openami.headend.store.engine import Engine
from openami.headend.store.identity import (
    BUCKET_MS,
    from_ms,
    ms_at,
    place,
    quality_of,
    to_ms,
    value_of,
)
from openami.headend.store.writing import TALLY_COLUMNS
from openami.profile import Obis

if TYPE_CHECKING:
    from openami.headend.store.closed_file import ClosedReading

# One page of readings: a megabyte of objects, and a few milliseconds of the database.
PAGE_ROWS_MAX: Final = 4_000
# A month of four-hour buckets at a time, however few readings are in them: what has to be sorted stays small.
PAGE_BUCKETS_MAX: Final = 31 * 6
# The first page is a week: how full a bucket is of what is asked for is known after it.
FIRST_BUCKETS: Final = 42

# Later than every bucket there can be (year 9999), and within four bytes.
_LAST_BUCKET: Final = 2**31 - 1
_FIRST_BUCKET: Final = -(2**31)
# Before every distance from a bucket's middle.
_FIRST_MS: Final = -BUCKET_MS

_UNIT: Final = "coalesce(nullif(r.flags >> 4, 0), s.unit)"
_OTHER_UNIT: Final = "coalesce(nullif(c.flags >> 4, 0), s.unit)"
_READING: Final = "r.bucket, r.ms, {value}, r.flags, r.lag_ms, u.text"

# From one bucket that exists to the next: empty weeks cost nothing, and no row is read twice.
SLOTS: Final = (
    "WITH RECURSIVE slot (bucket, number) AS ("
    "SELECT (SELECT min(bucket) FROM reading WHERE bucket >= ?1 AND bucket <= ?2), 1 "
    "UNION ALL SELECT (SELECT min(bucket) FROM reading "
    "WHERE bucket > slot.bucket AND bucket >= ?1 AND bucket <= ?2), slot.number + 1 "
    "FROM slot WHERE slot.bucket < ?2 AND slot.number < ?3) "
    "SELECT bucket FROM slot WHERE bucket <= ?2"
)
# ``{reading ?1 ?2}`` is the reading ``r`` at a slot of a series ``s``, which each engine writes as it looks it up
# fastest. The span of the slots is named in it for PostgreSQL: of the months beyond nothing need be planned.
PAGE: Final = (
    f"SELECT {_READING}, s.obis FROM {{slots}} CROSS JOIN series s "
    "CROSS JOIN {reading ?1 ?2} CROSS JOIN unit u "
    "WHERE s.feeder_id = ?4 AND s.meter_serial = ?5 AND s.obis >= ?6 AND s.obis <= ?7 "
    f"AND r.bucket = slot.bucket AND r.series = s.id AND u.id = {_UNIT} "
    "AND (r.bucket, r.ms, s.obis) > (?8, ?9, ?10) AND (r.bucket, r.ms) < (?11, ?12) "
    "ORDER BY r.bucket, r.ms, s.obis LIMIT ?13"
)
# Of each register the reading that `latest` speaks of; where it was removed, as it was kept aside.
_LATEST: Final = (
    f"SELECT {_READING}, s.obis, l.quality FROM series s "
    "JOIN latest l ON l.series = s.id "
    "JOIN reading r ON r.bucket = l.bucket AND r.series = l.series AND r.ms = l.ms "
    f"JOIN unit u ON u.id = {_UNIT} "
    "WHERE s.feeder_id = ?1 AND s.meter_serial = ?2 "
    f"UNION ALL SELECT {_READING}, s.obis, l.quality FROM series s "
    "JOIN latest l ON l.series = s.id "
    "JOIN latest_kept r ON r.series = l.series AND r.bucket = l.bucket AND r.ms = l.ms "
    f"JOIN unit u ON u.id = {_UNIT} "
    "WHERE s.feeder_id = ?1 AND s.meter_serial = ?2 ORDER BY 8 LIMIT ?3"
)
_CONFLICTS: Final = (
    f"SELECT {_READING}, s.obis, {{other}}, c.flags, c.lag_ms, cu.text FROM series s "
    "JOIN conflict c ON c.series = s.id "
    "JOIN reading r ON r.bucket = c.bucket AND r.series = c.series AND r.ms = c.ms "
    f"JOIN unit u ON u.id = {_UNIT} JOIN unit cu ON cu.id = {_OTHER_UNIT} "
    "WHERE s.feeder_id = ?1 AND s.meter_serial = ?2 "
    "ORDER BY r.bucket DESC, r.ms DESC, s.obis, c.digest LIMIT ?3"
)
_FEEDERS: Final = (
    "SELECT g.feeder_id, count(*), "
    "(SELECT count(*) FROM meter m WHERE m.feeder_id = g.feeder_id), "
    "min(g.first_seen), max(g.last_seen) "
    "FROM gateway g GROUP BY g.feeder_id ORDER BY g.feeder_id LIMIT ?1"
)
_GATEWAYS: Final = (
    "SELECT feeder_id, gateway_id, first_seen, last_seen, last_seq, EXISTS (SELECT 1 FROM alarm a "
    "WHERE a.feeder_id = gateway.feeder_id AND a.gateway_id = gateway.gateway_id "
    "AND a.kind = 'telemetry_withheld' AND a.cleared_at IS NULL) FROM gateway "
    "WHERE {where} ORDER BY feeder_id, gateway_id LIMIT ?1"
)
_METERS: Final = (
    "SELECT m.feeder_id, m.meter_serial, m.gateway_id, m.first_seen, m.last_seen, m.last_ts, "
    "(SELECT max(l.quality) FROM series s JOIN latest l ON l.series = s.id "
    "WHERE s.feeder_id = m.feeder_id AND s.meter_serial = m.meter_serial), m.good_ts "
    "FROM meter m WHERE {where} ORDER BY m.feeder_id, m.meter_serial LIMIT ?1"
)
EVENT_COLUMNS: Final = (
    "feeder_id, meter_serial, gateway_id, event_id, type, state, severity, "
    "occurred_at, ts, received_at, payload"
)
_EVENTS: Final = (
    f"SELECT {EVENT_COLUMNS} FROM event WHERE {{where}} ORDER BY ts DESC, id DESC LIMIT ?1"
)
_FINDINGS: Final = (
    "SELECT day, feeder_id, meter_serial, obis, code, count, detail, last_seen FROM finding "
    "WHERE {where} ORDER BY last_seen DESC, day DESC, feeder_id, meter_serial, obis, code LIMIT ?1"
)
_REJECT: Final = (
    "SELECT id, received_at, topic, payload, code, requirement, path, detail, partial, status, "
    "count FROM rejected WHERE {where} ORDER BY id DESC LIMIT ?1"
)


class Queries(Engine):
    """The reading half of a store, on top of one question: rows for a query."""

    async def totals(self) -> Tally:
        rows = await self._rows(f"SELECT {', '.join(TALLY_COLUMNS)} FROM tally")
        return Tally(*cast(Any, rows[0]))

    async def feeders(self) -> Sequence[FeederRow]:
        return [
            FeederRow(feeder_id, gateways, meters, from_ms(first), from_ms(last))
            for feeder_id, gateways, meters, first, last in cast(
                Any, await self._rows(_FEEDERS, ROWS_MAX)
            )
        ]

    async def gateways(self, feeder_id: str | None = None) -> Sequence[GatewayRow]:
        rows = await self._where(_GATEWAYS, ROWS_MAX, feeder_id=feeder_id)
        return [
            GatewayRow(feeder, gateway, from_ms(first), from_ms(last), seq, bool(withholds))
            for feeder, gateway, first, last, seq, withholds in rows
        ]

    async def meters(
        self, *, feeder_id: str | None = None, meter_serial: str | None = None
    ) -> Sequence[MeterRow]:
        rows = await self._where(_METERS, ROWS_MAX, feeder_id=feeder_id, meter_serial=meter_serial)
        return [
            MeterRow(
                feeder,
                meter,
                gateway,
                from_ms(first),
                from_ms(last),
                from_ms(last_ts),
                quality_of(quality),
                None if good is None else from_ms(good),
            )
            for feeder, meter, gateway, first, last, last_ts, quality, good in rows
        ]

    async def latest(self, feeder_id: str, meter_serial: str) -> Sequence[Reading]:
        rows = await self._rows(_LATEST, feeder_id, meter_serial, ROWS_MAX)
        return [
            reading_of(feeder_id, meter_serial, told, quality) for *told, quality in cast(Any, rows)
        ]

    async def readings(
        self,
        feeder_id: str,
        meter_serial: str,
        *,
        obis: Obis | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncIterator[Reading]:
        # A page ends where a row was left out, its last bucket or a file ends; the next begins behind it, and takes
        # as many buckets as this one's readings say will fill it.
        after = (_FIRST_BUCKET, _FIRST_MS, "") if since is None else (*place(to_ms(since)), "")
        end = (_LAST_BUCKET, _FIRST_MS) if until is None else place(to_ms(until))
        of = ("", "\x7f") if obis is None else (str(obis), str(obis))
        meter = (feeder_id, meter_serial)
        fills = FIRST_BUCKETS
        while after[0] <= end[0]:
            reach, in_file = await self._reach(*meter, after[0], end[0])
            at_once = PAGE_BUCKETS_MAX if in_file else fills  # beside a file there is little
            slots: list[Any] = [row[0] for row in await self._rows(SLOTS, after[0], reach, at_once)]
            last: int = slots[-1] if slots else reach
            rows: list[Any] = slots and await self._rows(
                PAGE,
                *(after[0], last, ",".join(map(str, slots)), *meter, *of),
                *(*after, *end, PAGE_ROWS_MAX),
            )
            if len(rows) == PAGE_ROWS_MAX:
                following = (rows[-1][0], rows[-1][1], rows[-1][-1])
            else:
                following = ((last if len(slots) == at_once else reach) + 1, _FIRST_MS, "")
            closed = await self._closed(meter, obis, after, min(following, (*end, "")))
            for row in _merged(rows, closed) if closed else rows:
                yield reading_of(feeder_id, meter_serial, row)
            if not slots and reach == end[0]:
                return
            if rows:
                fills = PAGE_ROWS_MAX * len({row[0] for row in rows}) // len(rows)
                fills = max(1, min(fills, PAGE_BUCKETS_MAX))
            after = following

    async def _reach(
        self, feeder_id: str, meter_serial: str, first: int, last: int
    ) -> tuple[int, bool]:
        """Return up to which bucket a page may go, and whether it is within a file: else it ends before one."""
        for begin, end in await closed_spans(self._rows, feeder_id, meter_serial, first, last):
            return (min(end, last), True) if begin <= first else (begin - 1, False)
        return last, False

    async def _closed(
        self,
        meter: tuple[str, str],
        obis: Obis | None,
        after: tuple[int, int, str],
        until: tuple[int, int, str],
    ) -> Sequence["ClosedReading"]:
        """Return closed readings behind one key and not behind another."""
        if until[0] < after[0]:
            return []
        found = await closed_readings(
            *(self._rows, *meter, after[0], until[0]),
            obis=None if obis is None else str(obis),
            since_ms=ms_at(after[0], after[1]),
            until_ms=ms_at(until[0], max(until[1], -BUCKET_MS // 2)) + 1,
        )
        return [each for each in found if after < (each.bucket, each.ms, each.obis) <= until]

    async def conflicts(self, feeder_id: str, meter_serial: str) -> Sequence[Conflict]:
        rows = await self._rows(_CONFLICTS, feeder_id, meter_serial, ROWS_MAX)
        return [
            Conflict(
                reading_of(feeder_id, meter_serial, row[:8]),
                reading_of(feeder_id, meter_serial, (*row[:2], *row[8:], row[7])),
            )
            for row in cast(Any, rows)
        ]

    async def events(
        self,
        *,
        feeder_id: str | None = None,
        meter_serial: str | None = None,
        event_id: str | None = None,
        at_most: int = 100,
    ) -> Sequence[StoredEvent]:
        rows = await self._where(
            _EVENTS, at_most, feeder_id=feeder_id, meter_serial=meter_serial, event_id=event_id
        )
        return [event_of(row) for row in rows]

    async def findings(
        self, *, feeder_id: str | None = None, meter_serial: str | None = None, at_most: int = 100
    ) -> Sequence[StoredFinding]:
        rows = await self._where(_FINDINGS, at_most, feeder_id=feeder_id, meter_serial=meter_serial)
        return [
            StoredFinding(day, feeder, meter, obis, code, count, detail, from_ms(last_seen))
            for day, feeder, meter, obis, code, count, detail, last_seen in rows
        ]

    async def rejects(
        self, *, status: RejectStatus | None = None, at_most: int = 100
    ) -> Sequence[Reject]:
        wanted = None if status is None else str(status)
        return [_reject(row) for row in await self._where(_REJECT, at_most, status=wanted)]

    async def reject(self, reject_id: int) -> Reject | None:
        rows = await self._where(_REJECT, 1, id=reject_id)
        return _reject(rows[0]) if rows else None

    async def _where(
        self, sql: str, at_most: int, **wanted: str | int | None
    ) -> list[tuple[Any, ...]]:
        """Ask for rows whose columns are as wanted; None means whatever."""
        given = {column: value for column, value in wanted.items() if value is not None}
        where = " AND ".join(f"{column} = ?{number}" for number, column in enumerate(given, 2))
        rows = await self._rows(
            sql.replace("{where}", where or "1 = 1"), min(at_most, ROWS_MAX), *given.values()
        )
        return cast(list[tuple[Any, ...]], rows)


def reading_of(
    feeder_id: str, meter_serial: str, told: Sequence[Any], quality: int | None = None
) -> Reading:
    """Return the reading that a row of ``bucket, ms, value, flags, lag_ms, unit, obis`` tells."""
    bucket, ms, number, text, flags, lag_ms, unit, obis = told
    ts = ms_at(bucket, ms)
    return Reading(
        feeder_id,
        meter_serial,
        Obis.parse(obis),
        from_ms(ts),
        value_of(number, text, flags),
        unit,
        quality_of(flags if quality is None else quality),
        from_ms(ts + lag_ms),
    )


def _merged(live: Sequence[Any], closed: Sequence["ClosedReading"]) -> Sequence[Sequence[Any]]:
    """Return the rows of a page in order, each reading once; what is live stands."""
    rows = {(row[0], row[1], row[-1]): row for row in live}
    for each in closed:
        key = (each.bucket, each.ms, each.obis)
        told = (*split(each.value), each.flags, each.lag_ms, each.unit)
        rows.setdefault(key, (*key[:2], *told, each.obis))
    return [rows[key] for key in sorted(rows)]


def event_of(row: Sequence[Any]) -> StoredEvent:
    """Return the event a row of EVENT_COLUMNS holds."""
    feeder, meter, gateway, event_id, kind, state, severity, occurred_at, ts, received_at, raw = row
    return StoredEvent(
        feeder,
        meter,
        gateway,
        event_id,
        kind,
        state,
        severity,
        from_ms(occurred_at),
        from_ms(ts),
        from_ms(received_at),
        bytes(raw),
    )


def _reject(row: tuple[Any, ...]) -> Reject:
    reject_id, received_at, topic, payload, code, requirement, path, detail, *state = row
    partial, status, count = state
    return Reject(
        reject_id,
        from_ms(received_at),
        bytes(topic).decode("utf-8", "surrogatepass"),
        bytes(payload),
        code,
        requirement,
        path,
        detail,
        bool(partial),
        RejectStatus(status),
        count,
    )
