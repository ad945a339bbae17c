"""What the RetentionStore does; the engine carries the steps out."""

# Statements are put together from this program's own words; every value is bound.
# ruff: noqa: S608

from collections.abc import Sequence
from datetime import date, datetime
from itertools import chain
from typing import Any, Final, cast

from openami.headend.audit import Entry
from openami.headend.consumption import DAY_MS
from openami.headend.store.chain import append, in_turn
from openami.headend.store.engine import Engine
from openami.headend.store.identity import from_ms, to_ms
from openami.headend.store.months import buckets_of, month_of_bucket
from openami.headend.store.retaining import Partition, Removed
from openami.headend.store.steps import Steps, ask, change, do, insert
from openami.headend.store.tables import LATEST_KEPT, LATEST_KEPT_GONE

# One step holds the store for a tenth of a second, which is what a commit of the stream waits for it at most.
REMOVED_AT_ONCE_MAX: Final = 10_000
# Of some 40 kB each: as much for the disk as those rows.
FILES_AT_ONCE_MAX: Final = 50

_LATEST_WITHIN: Final = (
    "SELECT r.bucket, r.series, r.ms, {value}, r.flags, r.lag_ms FROM latest l "
    "JOIN reading r ON r.bucket = l.bucket AND r.series = l.series AND r.ms = l.ms "
    "WHERE l.bucket >= ?1 AND (l.bucket, l.series, l.ms) < (?2, ?3, ?4)"
)
_NEWEST: Final = (
    "SELECT max(bucket) FROM (SELECT max(bucket) AS bucket FROM reading WHERE bucket < ?1 "
    "UNION ALL SELECT max(last_bucket) FROM closed WHERE last_bucket < ?1) AS newest"
)
_COUNT: Final = (
    "SELECT (SELECT count(*) FROM reading WHERE bucket >= ?1 AND bucket <= ?2) + "
    "(SELECT coalesce(sum(readings), 0) FROM closed WHERE first_bucket >= ?1 AND last_bucket <= ?2)"
)
_FILES_WITHIN: Final = (
    "SELECT feeder_id, meter_serial, first_bucket, readings FROM closed "
    "WHERE first_bucket >= ?1 AND last_bucket <= ?2 LIMIT ?3"
)
_NEXT_PLACE: Final = (
    "SELECT bucket, series, ms FROM {table} WHERE bucket >= ?1 AND bucket <= ?2 "
    "ORDER BY bucket, series, ms LIMIT 1 OFFSET ?3"
)


Place = tuple[int, int, int]
"""Bucket, series, milliseconds: a place of the key."""


def beginning_of(bucket: int) -> Place:
    """Return the place before everything in a bucket."""
    return (bucket, -(2**31), -(2**31))


def keep_latest(first: int, until: Place) -> Steps[None]:
    """Keep aside, of readings that are removed in this transaction, those that `latest` speaks of."""
    rows = yield from ask(_LATEST_WITHIN, first, *until)
    kept = [
        (bucket, series, ms, number if text is None else text, flags, lag_ms)
        for bucket, series, ms, number, text, flags, lag_ms in cast(Any, rows)
    ]
    yield from change(LATEST_KEPT_GONE, [series for _, series, *_ in kept])
    yield from insert(LATEST_KEPT, list(chain.from_iterable(kept)))


def remove_rows(first: int, last: int) -> Steps[Removed]:
    """Remove the first rows of buckets: closed months, then readings, and when there are none, conflicts."""
    if closed := (yield from _remove_files(first, last)):
        return Removed(readings=closed)
    until = yield from _until("reading", first, last)
    yield from keep_latest(first, until)
    if readings := (yield from _remove("reading", first, until)):
        return Removed(readings=readings)
    until = yield from _until("conflict", first, last)
    return Removed(conflicts=(yield from _remove("conflict", first, until)))


def _remove_files(first: int, last: int) -> Steps[int]:
    """Remove some of the closed months that lie wholly within buckets; return how many readings they had."""
    files = cast(Any, (yield from ask(_FILES_WITHIN, first, last, FILES_AT_ONCE_MAX)))
    for *key, _ in files:
        for table in ("closed_arrivals", "closed"):
            yield from do(
                f"DELETE FROM {table} WHERE feeder_id = ?1 AND meter_serial = ?2 AND first_bucket = ?3",
                *key,
            )
    if files:
        yield from do("DELETE FROM closing_due WHERE bucket >= ?1 AND bucket <= ?2", first, last)
    return sum(readings for *_, readings in files)


def _until(table: str, first: int, last: int) -> Steps[Place]:
    """Return the place up to which one step removes, that place itself not."""
    rows = yield from ask(_NEXT_PLACE.replace("{table}", table), first, last, REMOVED_AT_ONCE_MAX)
    return cast(Place, tuple(rows[0])) if rows else beginning_of(last + 1)


def _remove(table: str, first: int, until: Place) -> Steps[int]:
    # What is said twice is for PostgreSQL, which leaves out partitions by a column and not by three.
    return (
        yield from do(
            f"DELETE FROM {table} WHERE bucket >= ?1 AND bucket <= ?2 "
            "AND (bucket, series, ms) < (?2, ?3, ?4)",
            *(first, *until),
        )
    )


def keep_since(moment: datetime, entry: Entry, now: datetime) -> Steps[bool]:
    """Move on from when on readings are kept."""
    yield from in_turn()
    moved = yield from do(
        "UPDATE tally SET kept_since = ?1 WHERE kept_since IS NULL OR kept_since < ?1",
        to_ms(moment),
    )
    if moved:
        yield from append((entry,), now)
    return bool(moved)


class RetentionLedger(Engine):
    """The RetentionStore on top of an engine's questions and transactions."""

    async def make_months(self, now: datetime) -> Sequence[str]:
        return ()

    async def partitions(self) -> Sequence[Partition]:
        return ()

    async def kept_since(self) -> datetime | None:
        [(since,)] = await self._rows("SELECT kept_since FROM tally")
        return None if since is None else from_ms(cast(int, since))

    async def newest_months(self, at_most: int) -> Sequence[int]:
        found: list[int] = []
        before = 2**31 - 1
        while len(found) < at_most:
            rows = await self._rows(_NEWEST, before)
            if rows[0][0] is None:
                break
            found.append(month_of_bucket(cast(int, rows[0][0])))
            before = buckets_of(found[-1]).start
        return found

    async def readings_in(self, first: int, last: int) -> int:
        rows = await self._rows(_COUNT, first, last)
        return int(cast(int, rows[0][0]))

    async def unfolded_days(self, before: date) -> int:
        day = before.toordinal() - date(1970, 1, 1).toordinal()
        rows = await self._rows("SELECT count(*) FROM energy_due WHERE day < ?1", day)
        return cast(int, rows[0][0])

    async def keep_since(self, moment: datetime, entry: Entry, now: datetime) -> bool:
        assert to_ms(moment) % DAY_MS == 0, "a day whose readings are half there is folded wrong"
        return await self._write(lambda: keep_since(moment, entry, now))

    async def remove_some(self, first: int, last: int) -> Removed:
        return await self._write(lambda: remove_rows(first, last))
