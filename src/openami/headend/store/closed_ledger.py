"""What the ClosedStore does, and what every question about readings asks of closed months."""

# Statements are put together from this program's own words; every value is bound.

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, TypeVar, cast

from openami.headend.store import StoreError, closed_content, closing
from openami.headend.store.closed import (
    FILES_LISTED_MAX,
    ClosedFile,
    ClosedTotals,
    Due,
    ended_before,
    month_around,
)
from openami.headend.store.closed_reading import asked
from openami.headend.store.identity import BUCKET_MS, from_ms
from openami.headend.store.plan import Cell
from openami.headend.store.steps import Row, Steps

T = TypeVar("T")

_FILES: Final = (
    "SELECT feeder_id, meter_serial, first_bucket, last_bucket, readings, length(content), closed_at, sha256 "
    "FROM closed WHERE ?1 IN ('', feeder_id) AND ?2 IN ('', meter_serial) "
    "ORDER BY feeder_id, meter_serial, first_bucket LIMIT ?3"
)
_TOTALS: Final = (
    "SELECT count(*), coalesce(sum(readings), 0), coalesce(sum(length(content)), 0), "
    "(SELECT count(*) FROM closing_due) FROM closed"
)

# Between looking and closing lies half a second; that readings of one old month come three times in it is rare.
_TRIES_MAX: Final = 3


class ClosedLedger(ABC):
    """The ClosedStore on top of an engine's questions and transactions."""

    @abstractmethod
    async def _rows(self, sql: str, *arguments: Cell) -> list[Row]:
        """Return the rows of a query; raises StoreError."""

    @abstractmethod
    async def _write(self, steps: Callable[[], Steps[T]]) -> T:
        """Carry steps out in one durable transaction; raises StoreError."""

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

    async def closed_totals(self) -> ClosedTotals:
        [row] = await self._rows(_TOTALS)
        return ClosedTotals(*map(int, cast(Any, row)))

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
