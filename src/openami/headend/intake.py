"""Judge and commit: what every message goes through, whichever way it came to the head-end.

From the broker, or from a file that somebody carried (decision 0033): the same questions, the same commits, so
that no way in is more lenient than another.
"""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Final

import msgspec
import structlog

from openami.headend.ingest import Decision, Message, Rejected, beyond_retention, ingest
from openami.headend.statistics import Statistics
from openami.headend.store import BeyondRetentionError, Store, StoreError, Tally
from openami.headend.validate import LatestValues, validate
from openami.profile import Code, ProfileError, RegisterCatalogue

# Read back one by one at the start, a millisecond each; the counters of meters beyond these are
# compared from their second value on.
METERS_RECALLED_MAX: Final = 2000

_log = structlog.get_logger("headend.intake")


class Intake:
    """The judge, who remembers each counter's latest value, and the commit."""

    def __init__(
        self, store: Store, *, catalogue: RegisterCatalogue, statistics: Statistics
    ) -> None:
        self.knows_meters = False
        """Whether the store had meters when its values were recalled."""
        self._store = store
        self._catalogue = catalogue
        self._statistics = statistics
        self._latest = LatestValues()
        self._kept_since: datetime | None = None

    async def recall(self, feeders: Collection[str] | None = None) -> None:
        """Read the counters' latest values back, so that a rollback during a restart is seen.

        Also after every loss: what was judged and not committed will come again, and must be judged
        as if for the first time. ``feeders``: of no others. Raises StoreError.
        """
        self._latest = LatestValues()
        self.knows_meters = False
        self._kept_since = await self._store.kept_since()
        await self.recall_also(feeders)

    async def recall_also(self, feeders: Collection[str] | None) -> None:
        """Read more feeders' values back, of all where None are named. Raises StoreError."""
        meters = [
            meter
            for meter in await self._store.meters()
            if feeders is None or meter.feeder_id in feeders
        ]
        self.knows_meters = self.knows_meters or bool(meters)
        for meter in meters[:METERS_RECALLED_MAX]:
            for reading in await self._store.latest(meter.feeder_id, meter.meter_serial):
                self._latest.recall(reading, catalogue=self._catalogue)

    async def judge(self, messages: Iterable[Message]) -> list[Decision]:
        """Return a decision on each message, with what a person should know about it."""
        decisions: list[Decision] = []
        for message in messages:
            decision = beyond_retention(
                ingest(message, catalogue=self._catalogue), self._kept_since
            )
            if isinstance(decision, Rejected):
                # The audit of a hostile message takes long; the connection's keep-alive may not wait.
                await asyncio.sleep(0)
            else:
                found = validate(decision, catalogue=self._catalogue, latest=self._latest)
                if found:
                    decision = msgspec.structs.replace(decision, findings=found)
            decisions.append(decision)
        return decisions

    async def commit(self, decisions: Sequence[Decision]) -> Tally:
        """Commit a batch; if its content is refused, find the message and set that one aside.

        Halving finds it in a handful of commits, and the others are stored with it. Raises StoreError when
        the store itself is at fault.
        """
        try:
            return await self._store.commit(decisions)
        except BeyondRetentionError as error:
            # Months were removed since the batch was judged.
            self._kept_since = error.kept_since
            return await self.commit(
                [beyond_retention(decision, error.kept_since) for decision in decisions]
            )
        except StoreError as error:
            if not error.permanent:
                raise
            if len(decisions) == 1:
                return await self._set_aside(decisions[0], error)
        half = len(decisions) // 2
        return await self.commit(decisions[:half]) + await self.commit(decisions[half:])

    async def _set_aside(self, decision: Decision, error: StoreError) -> Tally:
        if isinstance(decision, Rejected):
            raise error  # the store does not take even the evidence: it is not the message
        _log.error("the store refuses one message; it is kept as rejected", error=str(error))
        fault = ProfileError(Code.UNSTORABLE, "OA-ENV-015", "", f"the store refuses it: {error}")
        tally = await self._store.commit([Rejected(decision.message, (fault,))])
        self._statistics.faults[Code.UNSTORABLE] += 1
        return tally
