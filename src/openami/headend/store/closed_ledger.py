"""What the ClosedStore does, and what every question about readings asks of closed months."""

# Statements are put together from this program's own words; every value is bound.
# ruff: noqa: S608

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, cast

from openami.headend.store import StoreError, closed_content, closing
from openami.headend.store.closed import (
    FILES_LISTED_MAX,
    ClosedFile,
    ClosedTotals,
    Due,
    Waiting,
    ended_before,
    month_around,
)
from openami.headend.store.closed_arrivals import says_the_same
from openami.headend.store.closed_reading import asked
from openami.headend.store.engine import Engine
from openami.headend.store.identity import BUCKET_MS, from_ms
from openami.headend.store.months import month_name, month_of_bucket

_FILE: Final = (
    "SELECT c.feeder_id, c.meter_serial, c.first_bucket, c.last_bucket, c.readings, length(c.content), "
    "c.closed_at, c.sha256 FROM closed c WHERE "
)
_FILES: Final = (
    _FILE + "?1 IN ('', feeder_id) AND ?2 IN ('', meter_serial) "
    "ORDER BY feeder_id, meter_serial, first_bucket LIMIT ?3"
)
_WITHOUT_ARRIVALS: Final = (
    _FILE + "NOT EXISTS (SELECT 1 FROM closed_arrivals a WHERE a.feeder_id = c.feeder_id "
    "AND a.meter_serial = c.meter_serial AND a.first_bucket = c.first_bucket AND a.sha256 = c.sha256) "
    "ORDER BY feeder_id, meter_serial, first_bucket LIMIT ?1"
)
_TOTALS: Final = (
    "SELECT count(*), coalesce(sum(readings), 0), coalesce(sum(length(content)), 0), "
    "(SELECT count(*) FROM closing_due), (SELECT through FROM closing) FROM closed"
)
_WAITS: Final = (
    "SELECT late, count(*), min(bucket) FROM (SELECT d.bucket, EXISTS (SELECT 1 FROM closed c "
    "WHERE c.feeder_id = d.feeder_id AND c.meter_serial = d.meter_serial "
    "AND c.first_bucket <= d.bucket AND c.last_bucket >= d.bucket) AS late FROM closing_due d) AS due "
    "GROUP BY late"
)

# Between looking and closing lies half a second; that readings of one old month come three times in it is rare.
_TRIES_MAX: Final = 3


class ClosedLedger(Engine):
    """The ClosedStore on top of an engine's questions and transactions."""

    async def months_to_close(self, before: datetime) -> Sequence[str]:
        last = ended_before(before)
        months: list[str] = []
        [(through,)] = cast(Any, await self._rows("SELECT through FROM closing"))
        while True:
            [(bucket,)] = cast(
                Any,
                await self._rows(
                    "SELECT min(bucket) FROM reading WHERE bucket > ?1",
                    closing.BEFORE_ALL if through is None else through,
                ),
            )
            if bucket is None or bucket > last:
                return months
            first, through = month_around(bucket)
            months.append(f"{from_ms(first * BUCKET_MS):%Y-%m}")

    async def make_due(self, before: datetime) -> int:
        return await self._write(lambda: closing.make_due(before))

    async def closing_due(self, after: Due | None = None) -> Sequence[Due]:
        sql, arguments = closing.due_after(after)
        return [Due(*cast(Any, row)) for row in await self._rows(sql, *arguments)]

    async def close_month(self, due: Due, now: datetime) -> int:
        for _ in range(_TRIES_MAX):
            # Written and proved before anybody has to wait: a file is some tenths of a second of reckoning.
            found = await asked(self._rows, closing.find(due))
            files = await asyncio.to_thread(closing.files_of, found)
            with suppress(closing.Changed):
                return await self._write(lambda: closing.close_month(found, files, now))  # noqa: B023 – run at once
        raise StoreError(
            f"{due.feeder_id} {due.meter_serial} changes faster than it can be closed",
            remedy="it stays open; closing tries again by itself",
        )

    async def without_arrivals(self) -> Sequence[ClosedFile]:
        rows = await self._rows(_WITHOUT_ARRIVALS, FILES_LISTED_MAX)
        return [_file(*row) for row in cast(Any, rows)]

    async def keep_arrivals(self, file: ClosedFile) -> None:
        arrivals = await self._arrivals_of(file)
        await self._write(lambda: closing.keep_arrivals(file, arrivals))

    async def prove_arrivals(self, file: ClosedFile) -> None:
        key = (file.feeder_id, file.meter_serial, file.first_bucket)
        rows = await self._rows(
            "SELECT content FROM closed_arrivals WHERE feeder_id = ?1 AND meter_serial = ?2 "
            "AND first_bucket = ?3 AND sha256 = ?4",
            *(*key, file.sha256),
        )
        if not rows:
            return
        kept = bytes(cast(bytes, rows[0][0]))
        if not says_the_same(kept, await self._arrivals_of(file)):
            raise closed_content.damaged_beside(*key, "it is not what the file says")

    async def _arrivals_of(self, file: ClosedFile) -> bytes:
        content = await self.closed_content(file)
        return await asyncio.to_thread(closed_content.packed_of, file, content)

    async def closed_totals(self) -> ClosedTotals:
        [(*counts, through)] = cast(Any, await self._rows(_TOTALS))
        files, readings, size, due = map(int, counts)
        last = None if through is None else month_name(month_of_bucket(through))
        return ClosedTotals(files, readings, size, due, last)

    async def closing_waits(self) -> Waiting:
        found = {bool(late): row for late, *row in cast(Any, await self._rows(_WAITS))}
        first, bucket = found.get(False, (0, None))
        late, _ = found.get(True, (0, None))
        return Waiting(first, None if bucket is None else month_of_bucket(bucket), late)

    async def closed_files(
        self, *, feeder_id: str | None = None, meter_serial: str | None = None
    ) -> Sequence[ClosedFile]:
        rows = await self._rows(_FILES, feeder_id or "", meter_serial or "", FILES_LISTED_MAX)
        return [_file(*row) for row in cast(Any, rows)]

    async def closed_content(self, file: ClosedFile) -> bytes:
        meter = (file.feeder_id, file.meter_serial)
        rows = await self._rows(
            "SELECT content FROM closed WHERE feeder_id = ?1 AND meter_serial = ?2 AND first_bucket = ?3 "
            "AND sha256 = ?4",
            *(*meter, file.first_bucket, file.sha256),
        )
        if not rows:
            raise StoreError(
                f"the file of {' '.join(meter)} from {file.month} was written anew meanwhile",
                remedy="list the files again",
            )
        content = bytes(cast(bytes, rows[0][0]))
        closed_content.prove(content, file.sha256, *meter, file.first_bucket)
        return content


def _file(*told: Any) -> ClosedFile:
    return ClosedFile(*told[:-2], from_ms(told[-2]), told[-1])  # type: ignore[call-arg]  # as _FILES says
