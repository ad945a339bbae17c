"""Old readings go, a month at a time, where the operator has said how many stay (decision 0074).

First the store is told from when on readings are kept, with an entry in the audit log; then what is older is
removed in small steps, after its energy is folded. Killed between two steps it goes on at the next look: what was
decided stands in the store.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog

from openami.clock import Clock
from openami.headend.audit import Entry
from openami.headend.horizon import first_kept
from openami.headend.sessions import HEAD_END
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.months import FIRST_BUCKET, buckets_of, midnight_of, month_name, month_of
from openami.headend.store.retaining import Removed
from openami.profile import utc_text

# While much is to be removed, the stream has three quarters of the store, as while days are folded.
SHARE_OF_THE_STORE: Final = 0.25

_log = structlog.get_logger("headend.retention")


@dataclass(frozen=True, slots=True)
class Horizon:
    """From when on readings are kept, and what that leaves to be removed."""

    kept_since: datetime | None
    """None: all of them are kept."""
    moves_on: bool
    """Whether the store has still to be told."""

    @property
    def last_bucket(self) -> int | None:
        """The last bucket that goes; what was measured in the two hours before the midnight goes a month later."""
        return None if self.kept_since is None else buckets_of(month_of(self.kept_since)).start - 1


class Retention:
    """Removes what is older than ``keep_months`` whole months before the current one."""

    def __init__(
        self,
        store: HeadEndStore,
        *,
        clock: Clock,
        keep_months: int,
        who: str = HEAD_END,
        share: float = SHARE_OF_THE_STORE,
    ) -> None:
        self.removed = Removed()
        """What went in this run of the program."""
        self._store = store
        self._clock = clock
        self._keep_months = keep_months
        self._who = who
        self._share = share

    async def horizon(self) -> Horizon:
        """Look from when on readings would be kept now; nothing is changed. Raises StoreError."""
        months = await self._store.newest_months(self._keep_months + 1)
        first = first_kept(self._keep_months, now=self._clock.now().astimezone(UTC), months=months)
        known = await self._store.kept_since()
        if first is None or (known is not None and midnight_of(first) <= known):
            return Horizon(known, moves_on=False)
        return Horizon(midnight_of(first), moves_on=True)

    async def remove(self) -> Removed:
        """Move on from when on readings are kept, and remove what is older; return what went. Raises StoreError."""
        horizon = await self.horizon()
        since, last = horizon.kept_since, horizon.last_bucket
        if since is None or last is None:
            return Removed()
        if horizon.moves_on:
            await self._store.keep_since(since, self._entry(since), self._clock.now())
            _log.info("older readings are kept no longer", kept_since=utc_text(since))
        if due := await self._store.unfolded_days(since.date()):
            _log.info("readings go when the energy of their days is folded", days=due)
            return Removed()
        return await self._in_steps(last)

    async def _in_steps(self, last: int) -> Removed:
        loop, gone = asyncio.get_running_loop(), Removed()
        began = loop.time()
        while step := await self._store.remove_some(FIRST_BUCKET, last):
            gone += step
            self.removed += step
            await asyncio.sleep((loop.time() - began) * (1 / self._share - 1))
            began = loop.time()
        if gone:
            _log.info(
                "readings removed",
                readings=gone.readings,
                conflicts=gone.conflicts,
                tables=list(gone.tables),
            )
        return gone

    def _entry(self, since: datetime) -> Entry:
        return Entry(
            who=self._who,
            what=f"readings kept since {utc_text(since)}",
            why=f"{self._keep_months} whole months are kept",
            result=f"those of {month_name(month_of(since) - 1)} and before are removed",
        )
