"""The BulkStore port: bulk disconnections, their meters, and the commands they became."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Protocol

from openami.headend.audit import Entry
from openami.headend.bulk import Bulk, BulkChange, BulkMeter
from openami.headend.commands import LedgerCommand

# A page of the list: a year of weekly ones.
BULKS_LISTED_MAX = 100

DecideBulk = Callable[[Bulk], BulkChange | None]


class BulkStore(Protocol):
    """What the head-end keeps of bulk disconnections. Every method raises StoreError."""

    async def add_bulk(self, bulk: Bulk, meters: Sequence[BulkMeter], entry: Entry) -> Bulk:
        """Keep a proposal; of one that was made under its key before, return that one, and change nothing."""
        ...

    async def bulk(self, bulk_id: str) -> Bulk | None: ...

    async def bulks(
        self, feeders: Collection[str] | None = None, *, only_open: bool = False
    ) -> Sequence[Bulk]:
        """Return those of some feeders, or of all, the newest first, BULKS_LISTED_MAX at most."""
        ...

    async def bulk_meters(self, bulk_id: str) -> Sequence[tuple[BulkMeter, LedgerCommand | None]]:
        """Return its meters in their order, each with its command as it stands."""
        ...

    async def change_bulk(self, bulk_id: str, decide: DecideBulk, now: datetime) -> Bulk | None:
        """Decide on one and write what follows; return it as it is then, None if there is none.

        What the decision raises ends the transaction without a trace.
        """
        ...

    async def ask_for_meter(
        self, meter: BulkMeter, new: LedgerCommand, now: datetime, *, per_hour: int
    ) -> bool:
        """Enter a meter's command into the ledger, or note why it is not taken.

        False when nothing was done: it does not run any more, the meter is settled, or as many were cut off within
        the hour as a bulk disconnection may.
        """
        ...
