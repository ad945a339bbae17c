"""The GapStore port: which numbers of a gateway have come, and the gaps that are waited for or given up.

The numbers are kept by ``Store.commit``, in the transaction of their batch; gaps by whoever looks for them.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from openami.headend.gap_life import Gap
from openami.headend.seq_gaps import Numbering

# What became of a gap is of interest until the month it concerns has been billed.
ENDED_GAPS_KEPT_DAYS = 60
# A gateway that loses something every half hour; older ends are forgotten first.
ENDED_GAPS_KEPT_MAX = 3_000


class GapStore(Protocol):
    """What the head-end keeps of what is missing. Every method raises StoreError."""

    async def numberings(
        self, feeder_id: str | None = None
    ) -> Sequence[tuple[str, str, Numbering]]:
        """Return what is known of the gateways' numbers: feeder, gateway, numbering."""
        ...

    async def gaps(
        self, *, feeder_id: str | None = None, gateway_id: str | None = None, closed: bool = True
    ) -> Sequence[Gap]:
        """Return gaps, by gateway and then from the oldest; without those that are closed, if so asked."""
        ...

    async def put_gaps(self, gaps: Sequence[Gap]) -> None:
        """Write gaps as they are now. One that was closed without being asked for leaves no trace."""
        ...

    async def prune_gaps(self, now: datetime) -> int:
        """Delete what ended too long ago; return how many gaps went."""
        ...

    async def intervals(self) -> Mapping[str, int]:
        """Return how often the meters of a feeder report, in seconds, where that is configured."""
        ...

    async def put_intervals(self, intervals: Mapping[str, int]) -> None:
        """Write what is configured in the place of what was."""
        ...
