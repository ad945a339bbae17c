"""The AssetStore port: what stands in the village, in the same database as the readings.

A change is one durable transaction, in turn with every other change of the ledger: it loads the feeders it is
about, lets a pure decision say what they are afterwards, writes the difference, and appends its entries to the
audit log.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from openami.headend.assets import Feeder, FeederAssets, Tariff
from openami.headend.audit import Entry

# A feeder has 50 to 500 customers; ten swaps of each are a long life.
PLACEMENTS_MAX = 10_000
# A tariff that changes every week for a lifetime.
TARIFF_ROWS_MAX = 5_000


@dataclass(frozen=True, slots=True)
class AssetsChange:
    """What feeders are after a decision, and what is told of it."""

    after: Sequence[FeederAssets] = ()
    """Those that change; a feeder's ``tariffs`` are not written from here."""
    tariffs: Sequence[Tariff] = ()
    """Prices that are new or other than they were."""
    entries: Sequence[Entry] = ()


@dataclass(frozen=True, slots=True)
class AssetsKnown:
    """What a decision looks at: the feeders it is about, and all prices."""

    feeders: Mapping[str, FeederAssets]
    tariffs: Sequence[Tariff]


DecideAssets = Callable[[AssetsKnown], AssetsChange]


class AssetStore(Protocol):
    """What the head-end keeps of assets. Every method raises StoreError."""

    async def feeder_list(self) -> Sequence[Feeder]:
        """Return every feeder that is described or was heard of, by id."""
        ...

    async def assets(self, feeder_id: str) -> FeederAssets:
        """Return a feeder's assets; of one nobody has described, an empty one of that name."""
        ...

    async def tariffs(self) -> Sequence[Tariff]:
        """Return all prices, by tariff and from the oldest."""
        ...

    async def change_assets(
        self, feeder_ids: Sequence[str], decide: DecideAssets, now: datetime
    ) -> AssetsChange:
        """Decide on feeders and write what follows; return the decision.

        What the decision raises (`AssetsRefused`) ends the transaction without a trace.
        """
        ...
