"""Closes months that are old enough, beside the stream: a file at a time, so that nothing waits.

What a pass has found is kept for readiness and metrics. It waits by ``asyncio.sleep`` alone.
"""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.util import find_spec
from typing import Final

import structlog

from openami.clock import Clock
from openami.headend.store import StoreError
from openami.headend.store.closed import (
    AFTER_DAYS_MIN,
    ClosedDamaged,
    ClosedStore,
    ClosedTotals,
    Due,
)

# By when bills of a month are made, disputed and corrected; what is asked for most then lies row by row.
AFTER_DAYS: Final = 45
# A head-end that is started again and again does first what it is there for.
FIRST_LOOK_S: Final = 600.0
# A month ends twelve times a year; what comes late is closed again within the hour.
LOOK_INTERVAL_S: Final = 3600.0
# While much is due (an upgrade), the stream has three quarters of the store: a year of 500 meters with ten
# registers is closed in two hours.
SHARE_OF_THE_STORE: Final = 0.25

_log = structlog.get_logger("headend.closing")


@dataclass(frozen=True, slots=True)
class ClosingSeen:
    """What the last pass has found."""

    totals: ClosedTotals = field(default_factory=ClosedTotals)
    damaged: tuple[str, ...] = ()
    """Files that late readings belong into and that cannot be read, a sentence each."""
    fault: str = ""
    """Why the pass did not come to its end."""


def can_close() -> bool:
    """Return whether what writes and reads closed months is installed."""
    return find_spec("pyarrow") is not None


async def refuse_unreadable(store: ClosedStore) -> None:
    """Raise StoreError where months are closed and nothing here can read them."""
    if not can_close() and (await store.closed_totals()).files:
        raise StoreError(
            "months of this store are closed as Parquet, and pyarrow is not installed",
            remedy="pip install 'openami[parquet]'",
            permanent=True,
        )


class Closing:
    """Closes what is old. Runs until it is cancelled."""

    def __init__(self, store: ClosedStore, clock: Clock, *, after_days: int = AFTER_DAYS) -> None:
        assert after_days >= AFTER_DAYS_MIN
        self.seen = ClosingSeen()
        self._store = store
        self._clock = clock
        self._after = timedelta(days=after_days)
        self._told: set[str] = set()

    async def run(self) -> None:
        """Close, for ever. Raises nothing that waiting could mend."""
        await asyncio.sleep(FIRST_LOOK_S)
        while True:
            try:
                self.seen = await self.pass_over()
            except StoreError as error:  # the stream meets the same error, and acts on it
                self.seen = ClosingSeen(self.seen.totals, self.seen.damaged, str(error))
                _log.warning("months were not closed", error=str(error), remedy=error.remedy)
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def pass_over(self) -> ClosingSeen:
        """Close everything that is due, and return what there is then. Raises StoreError."""
        damaged: list[str] = []
        left = await self._close_due(damaged)
        while await self._store.make_due(self._clock.now() - self._after):
            left += await self._close_due(damaged)
        await self._keep_arrivals(damaged)
        for sentence in damaged:
            if sentence not in self._told:
                _log.error("a closed month is damaged", error=sentence)
        self._told = set(damaged)
        if left:
            _log.info("months were closed", readings=left)
        return ClosingSeen(await self._store.closed_totals(), tuple(damaged))

    async def _keep_arrivals(self, damaged: list[str]) -> None:
        """Keep what completeness asks beside files that a program has closed which kept nothing there."""
        loop = asyncio.get_running_loop()
        for file in await self._store.without_arrivals():
            began = loop.time()
            try:
                await self._store.keep_arrivals(file)
            except ClosedDamaged as error:
                if str(error) not in damaged:
                    damaged.append(str(error))
            await asyncio.sleep((loop.time() - began) * (1 / SHARE_OF_THE_STORE - 1))

    async def _close_due(self, damaged: list[str]) -> int:
        """Close what is due; return how many readings that were. What is damaged stays, and holds up nothing."""
        loop = asyncio.get_running_loop()
        total = 0
        last: Due | None = None
        while several := await self._store.closing_due(last):
            for last in several:
                began = loop.time()
                try:
                    left = await self._store.close_month(last, self._clock.now())
                except ClosedDamaged as error:
                    if str(error) not in damaged:
                        damaged.append(str(error))
                    continue
                if left:
                    total += left
                    await asyncio.sleep((loop.time() - began) * (1 / SHARE_OF_THE_STORE - 1))
        return total
