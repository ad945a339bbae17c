"""What closing a month does, and what a late reading does to a closed one; the engine carries the steps out."""

# Statements are put together from this program's own words; every value is bound.
# ruff: noqa: S608

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from openami.headend.store import StoreError
from openami.headend.store.closed import (
    DUE_AT_ONCE_MAX,
    READINGS_PER_FILE_MAX,
    ClosedDamaged,
    ClosedFile,
    Due,
    Span,
    ended_before,
    month_around,
    span_to_write,
)
from openami.headend.store.closed_arrivals import packed
from openami.headend.store.closed_content import OF_METER, SPANS, opened, parquet_files
from openami.headend.store.identity import UNIT_SHIFT, ms_at, stored_as_told, to_ms
from openami.headend.store.plan import Cell, Key
from openami.headend.store.steps import Row, Steps, ask, do, insert, look
from openami.headend.store.tables import (
    CLOSED,
    CLOSED_ARRIVALS,
    CLOSING_DUE,
    MAY_LEAVE,
    READING,
    READINGS_LEAVING,
)

if TYPE_CHECKING:
    from openami.headend.store.closed_file import ClosedReading

_SERIES: Final = (
    "SELECT s.id, s.obis, u.text FROM series s JOIN unit u ON u.id = s.unit "
    "WHERE s.feeder_id = ?1 AND s.meter_serial = ?2 ORDER BY s.id"
)
_LEAVING: Final = (
    "WITH RECURSIVE slot (bucket) AS ("
    "SELECT (SELECT min(bucket) FROM reading WHERE bucket >= ?3 AND bucket <= ?4) "
    "UNION ALL SELECT (SELECT min(bucket) FROM reading "
    "WHERE bucket > slot.bucket AND bucket >= ?3 AND bucket <= ?4) "
    "FROM slot WHERE slot.bucket < ?4) "
    "SELECT r.bucket, r.series, r.ms, {value}, r.flags, r.lag_ms "
    "FROM slot CROSS JOIN series s CROSS JOIN {reading ?3 ?4} WHERE s.feeder_id = ?1 AND s.meter_serial = ?2 "
    "AND r.bucket = slot.bucket AND r.series = s.id "
    f"AND {MAY_LEAVE.format('r')} "
    "ORDER BY r.bucket LIMIT ?5"
)
_FIRST_OPEN: Final = (
    "SELECT min(bucket) FROM reading WHERE bucket > coalesce((SELECT through FROM closing), ?1)"
)
# No bucket is cut in two, however much somebody has put into it.
_WHOLE_BUCKET: Final = 2**31 - 1
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


class Changed(StoreError):
    """What was looked at to be closed is not there any more: something came late, or it was closed elsewhere."""


@dataclass(frozen=True, slots=True)
class Found:
    """What there is to close, as it was when nobody was kept from writing."""

    due: Due
    span: Span
    """What is looked at: to its end, or to where a file is full."""
    live: Sequence[Row]
    """The readings to be closed: bucket, series, ms, value, flags, lag_ms."""
    named: Sequence["ClosedReading"]
    """The same, by name."""
    file: Row | None
    """The file that they belong into, where there is one; it has the whole span."""


@dataclass(frozen=True, slots=True)
class File:
    """A file that is to be put in the store."""

    span: Span
    readings: int
    content: bytes
    arrivals: bytes
    """What completeness asks of it (`closed_arrivals`)."""


def find(due: Due) -> Steps[Found]:
    """Look at what is due, up to a full file; outside a transaction."""
    meter = (due.feeder_id, due.meter_serial)
    month = month_around(due.bucket)
    spans = [(row[0], row[1]) for row in cast(Any, (yield from ask(SPANS, *meter, *month)))]
    (first, last), is_there = span_to_write(due.bucket, spans)
    live = yield from ask(_LEAVING, *meter, first, last, READINGS_PER_FILE_MAX + 1)
    if len(live) > READINGS_PER_FILE_MAX:
        full = cast(
            int, live[-1][0]
        )  # there may be more of this bucket: the next file begins with it
        if live[0][0] != full:
            live, last = [row for row in live if row[0] != full], full - 1
        else:
            live, last = (yield from ask(_LEAVING, *meter, full, full, _WHOLE_BUCKET)), full
    named = (yield from _named(meter, live)) if live else []
    files = (yield from ask(OF_METER, *meter, first, first)) if is_there else []
    return Found(
        due, (first, last), [tuple(row) for row in live], named, files[0] if files else None
    )


def files_of(found: Found) -> Sequence[File]:
    """Return the files to be written, each of them read back and compared. Raises ClosedDamaged, StoreError.

    Two, where what came late makes too much of one. Where both tell a reading, the live one stands.
    """
    if not found.live:
        return []
    old = [] if found.file is None else opened(found.file)
    rows = {(row.obis, row.bucket, row.ms): row for row in (*old, *found.named)}
    span = found.span if found.file is None else cast(Span, tuple(found.file[2:4]))
    meter = (found.due.feeder_id, found.due.meter_serial)
    files = []
    for each, part in _parts(span, rows.values()):
        content = parquet_files().written(*meter, part)
        if parquet_files().read(content) != part:
            raise StoreError(
                f"{' '.join(meter)}: what was to be closed is not what can be read again",
                remedy="nothing was changed, and it stays open: tell whoever maintains this program",
            )
        files.append(File(each, len(part), content, packed(part)))
    return files


def close_month(found: Found, files: Sequence[File], now: datetime) -> Steps[int]:
    """Put files in the store and take out what is in them; return how many readings left the live table.

    Raises Changed when what leaves is not what was found: then nothing is changed.
    """
    yield from _in_turn()
    due, (first, last) = found.due, found.span
    meter = (due.feeder_id, due.meter_serial)
    ids = [row[0] for row in (yield from ask(_SERIES, *meter))]
    keys = [cell for bucket in range(first, last + 1) for id_ in ids for cell in (bucket, id_)]
    left = yield from look(READINGS_LEAVING, cast(list[Cell], keys))
    if sorted(map(tuple, left), key=_key) != sorted(found.live, key=_key):
        raise Changed(f"what is there of {' '.join(meter)} changes just now", remedy="close again")
    if files and found.file is not None:
        gone = yield from do(
            "DELETE FROM closed WHERE feeder_id = ?1 AND meter_serial = ?2 AND first_bucket = ?3 "
            "AND sha256 = ?4",
            *(*meter, cast(int, found.file[2]), cast(str, found.file[4])),
        )
        if not gone:
            raise Changed(f"{' '.join(meter)} is closed elsewhere just now", remedy="close again")
    for file in files:
        digest = sha256(file.content).hexdigest()
        about = (*file.span, file.readings, to_ms(now), digest)
        if not (yield from insert(CLOSED, [*meter, *about, file.content])):
            raise Changed(f"{' '.join(meter)} is closed elsewhere just now", remedy="close again")
        yield from insert(CLOSED_ARRIVALS, [*meter, file.span[0], digest, file.arrivals])
    yield from do(
        "DELETE FROM closing_due WHERE feeder_id = ?1 AND meter_serial = ?2 AND bucket >= ?3 AND bucket <= ?4",
        *(*meter, due.bucket, last),
    )
    if last < month_around(due.bucket)[1]:
        yield from insert(CLOSING_DUE, [last + 1, *meter])
    return len(left)


def keep_arrivals(file: ClosedFile, arrivals: bytes) -> Steps[None]:
    """Put beside a file what completeness asks of it; nothing where the file is there no more."""
    yield from _in_turn()
    key = (file.feeder_id, file.meter_serial, file.first_bucket)
    there = yield from ask(
        "SELECT 1 FROM closed WHERE feeder_id = ?1 AND meter_serial = ?2 AND first_bucket = ?3 AND sha256 = ?4",
        *(*key, file.sha256),
    )
    yield from insert(CLOSED_ARRIVALS, [*key, file.sha256, arrivals] if there else [])


def _in_turn() -> Steps[None]:
    """Let closing and late readings wait for one another, whichever processes they are of."""
    yield from do("UPDATE closing SET through = through")


def _key(row: Row) -> Any:
    return row[:3]


def _named(meter: tuple[str, str], live: Sequence[Row]) -> Steps[list["ClosedReading"]]:
    """Return live rows with their registers and units by name."""
    series = {row[0]: Named(row[1], row[2]) for row in cast(Any, (yield from ask(_SERIES, *meter)))}
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
    yield from _in_turn()
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
