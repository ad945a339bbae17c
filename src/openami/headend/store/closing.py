"""What closing a month does, and what a late reading does to a closed one; the engine carries the steps out."""

# Statements are put together from this program's own words; every value is bound.

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from openami.headend.store import StoreError
from openami.headend.store.closed import (
    DUE_AT_ONCE_MAX,
    READINGS_PER_FILE_MAX,
    ClosedDamaged,
    Due,
    Span,
    ended_before,
    month_around,
    span_to_write,
)
from openami.headend.store.closed_content import OF_METER, SPANS, opened, parquet_files
from openami.headend.store.identity import UNIT_SHIFT, ms_at, stored_as_told, to_ms
from openami.headend.store.plan import Cell, Key
from openami.headend.store.steps import Row, Steps, ask, do, insert, look
from openami.headend.store.tables import CLOSED, CLOSING_DUE, READING, READINGS_LEAVING

if TYPE_CHECKING:
    from openami.headend.store.closed_file import ClosedReading

# Taken out of the live table by one statement: a day, some thousand readings of a meter.
_BUCKETS_AT_ONCE: Final = 6

_SERIES: Final = (
    "SELECT s.id, s.obis, u.text FROM series s JOIN unit u ON u.id = s.unit "
    "WHERE s.feeder_id = ?1 AND s.meter_serial = ?2 ORDER BY s.id"
)
_FIRST_OPEN: Final = (
    "SELECT min(bucket) FROM reading WHERE bucket > coalesce((SELECT through FROM closing), ?1)"
)
# Before every bucket there can be.
BEFORE_ALL: Final = -(2**31)


class Named(NamedTuple):
    """A register of a meter: its code, and the unit it was first told in."""

    obis: str
    unit: str


def make_due(before: datetime) -> Steps[int]:
    """Make due every meter's part of the first month that has readings and ended before a moment."""
    [(bucket,)] = cast(Any, (yield from ask(_FIRST_OPEN, BEFORE_ALL)))
    if bucket is None or bucket > ended_before(before):
        return 0
    first, last = month_around(bucket)
    # From now on what comes of this month is late: judged against files, and due.
    yield from do("UPDATE closing SET through = ?1", last)
    return (
        yield from do(
            "INSERT INTO closing_due (bucket, feeder_id, meter_serial) "
            "SELECT CAST(?1 AS integer), feeder_id, meter_serial FROM meter WHERE true "
            "ON CONFLICT DO NOTHING",
            first,
        )
    )


def close_month(due: Due, now: datetime) -> Steps[int]:
    """Close one file of what is due; return how many readings left the live table."""
    yield from do("UPDATE closing SET through = through")  # late readings wait for this transaction
    meter = (due.feeder_id, due.meter_serial)
    month = month_around(due.bucket)
    spans = [(row[0], row[1]) for row in cast(Any, (yield from ask(SPANS, *meter, *month)))]
    span, is_there = span_to_write(due.bucket, spans)
    series = {row[0]: Named(row[1], row[2]) for row in cast(Any, (yield from ask(_SERIES, *meter)))}
    live, last = yield from _taken(series, span)
    if live:
        rows: dict[tuple[str, int, int], ClosedReading] = {}
        if is_there:
            [file] = yield from ask(OF_METER, *meter, span[0], span[0])
            rows = {(row.obis, row.bucket, row.ms): row for row in opened(file)}
        for row in (yield from _named(live, series)):
            rows[row.obis, row.bucket, row.ms] = row
        written = (span[0], span[1] if is_there else last)
        yield from _write(meter, written, list(rows.values()), now)
    yield from do(
        "DELETE FROM closing_due WHERE feeder_id = ?1 AND meter_serial = ?2 AND bucket >= ?3 AND bucket <= ?4",
        *(*meter, due.bucket, last),
    )
    if last < month[1]:
        yield from insert(CLOSING_DUE, [last + 1, *meter])
    return len(live)


def _write(
    meter: tuple[str, str], span: Span, rows: Sequence["ClosedReading"], now: datetime
) -> Steps[None]:
    """Write a file in place of the one of this time, if there is one; read back before anything is committed."""
    files = parquet_files()
    yield from do(
        "DELETE FROM closed WHERE feeder_id = ?1 AND meter_serial = ?2 AND first_bucket = ?3",
        *(*meter, span[0]),
    )
    for (first, last), part in _parts(span, rows):
        content = files.written(*meter, part)
        if files.read(content) != part:
            raise StoreError(
                f"{' '.join(meter)}: what was to be closed is not what can be read again",
                remedy="nothing was changed, and it stays open: tell whoever maintains this program",
            )
        digest = sha256(content).hexdigest()
        yield from insert(CLOSED, [*meter, first, last, len(part), to_ms(now), digest, content])


def _taken(series: Mapping[int, Named], span: Span) -> Steps[tuple[list[Row], int]]:
    """Take readings out of the live table until a file is full; return them, and up to which bucket they go."""
    live: list[Row] = []
    last = span[0] - 1
    while last < span[1] and len(live) < READINGS_PER_FILE_MAX:
        buckets = range(last + 1, min(last + _BUCKETS_AT_ONCE, span[1]) + 1)
        live += yield from look(
            READINGS_LEAVING,
            [cell for bucket in buckets for id_ in series for cell in (bucket, id_)],
        )
        last = buckets[-1]
    return live, last


def _named(live: Sequence[Row], series: Mapping[int, Named]) -> Steps[list["ClosedReading"]]:
    """Return live rows with their registers and units by name."""
    others = sorted({cast(int, row[5]) >> UNIT_SHIFT for row in live} - {0})
    units: dict[int, str] = {}
    for unit in others:
        [(units[unit],)] = cast(Any, (yield from ask("SELECT text FROM unit WHERE id = ?1", unit)))
    make = parquet_files().ClosedReading
    return [
        make(
            series[number].obis,
            *(bucket, ms),
            stored_as_told(value if text is None else text, flags),
            *(flags, lag_ms),
            units.get(flags >> UNIT_SHIFT, series[number].unit),
        )
        for bucket, number, ms, value, text, flags, lag_ms in cast(Any, live)
    ]


def _parts(
    span: Span, rows: Iterable["ClosedReading"]
) -> Iterator[tuple[Span, list["ClosedReading"]]]:
    """Cut what has become twice a file into files, between buckets; together they cover the whole span."""
    ordered = sorted(rows, key=lambda row: (row.bucket, row.obis, row.ms))
    if len(ordered) <= 2 * READINGS_PER_FILE_MAX:
        yield span, sorted(ordered)
        return
    part: list[ClosedReading] = []
    begin = span[0]
    for bucket, of_bucket in groupby(ordered, lambda row: row.bucket):
        if len(part) >= READINGS_PER_FILE_MAX:
            yield (begin, bucket - 1), sorted(part)
            part, begin = [], bucket
        part += of_bucket
    yield (begin, span[1]), sorted(part)


def due_after(after: Due | None) -> tuple[str, tuple[Cell, ...]]:
    """Return the question for what is due behind ``after``."""
    key = (
        (BEFORE_ALL, "", "")
        if after is None
        else (after.bucket, after.feeder_id, after.meter_serial)
    )
    return (
        "SELECT bucket, feeder_id, meter_serial FROM closing_due "
        "WHERE (bucket, feeder_id, meter_serial) > (?1, ?2, ?3) "
        "ORDER BY bucket, feeder_id, meter_serial LIMIT ?4",
        (*key, DUE_AT_ONCE_MAX),
    )


# --- late readings -------------------------------------------------------------------------------


def bring_back(readings: Sequence[Cell]) -> Steps[None]:
    """Put back what is closed of the readings a batch tells, so that they are judged as any other; make months due.

    Into a file that is damaged nobody can look: what comes for it is stored as if it were new, for a batch must not
    wait for a person. Closing finds the damage, and says so.
    """
    [(through,)] = cast(Any, (yield from ask("SELECT through FROM closing")))
    if through is None:
        return
    width = READING.width
    pending = {
        cast(Key, tuple(readings[at : at + 3]))
        for at in range(0, len(readings), width)
        if cast(int, readings[at]) <= through
    }
    if not pending:
        return
    yield from do(
        "UPDATE closing SET through = through"
    )  # a month that is being closed first becomes so
    while pending:
        bucket, series, _ = next(iter(pending))
        [meter] = yield from ask("SELECT feeder_id, meter_serial FROM series WHERE id = ?1", series)
        ids = {row[1]: row[0] for row in cast(Any, (yield from ask(_SERIES, *_texts(meter))))}
        month = month_around(bucket)
        here = {key for key in pending if key[1] in ids.values() and month[0] <= key[0] <= month[1]}
        pending -= here
        yield from insert(CLOSING_DUE, [month[0], *_texts(meter)])
        buckets = [key[0] for key in here]
        moments = {ms_at(key[0], key[2]) for key in here}
        back: list[Cell] = []
        for content in (yield from ask(OF_METER, *_texts(meter), min(buckets), max(buckets))):
            with suppress(ClosedDamaged):
                for row in opened(content, at=moments):
                    if (key := (row.bucket, ids[row.obis], row.ms)) in here:
                        back += (*key, row.value, row.flags, row.lag_ms)
        yield from insert(READING, back)


def _texts(row: Row) -> tuple[str, str]:
    feeder_id, meter_serial = row
    return cast(str, feeder_id), cast(str, meter_serial)
