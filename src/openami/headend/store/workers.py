"""The WorkerStore port: which head-ends share the feeders, which of them holds which slice, and who hears a feeder.

Every change is one durable transaction. A claim is given to one of all who ask at the same moment, and every holder
has a term that nobody had before; what a store is opened with a `Fence` for is refused to everybody else.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from openami.headend.worker_life import Roster, Slice, Worker


@dataclass(frozen=True, slots=True)
class SliceFeeder:
    """A feeder that a slice's session at the broker hears."""

    feeder_id: str
    number: int
    subscribed_at: datetime
    """Since when everything of it that the broker takes is kept for that slice."""
    handed_at: datetime | None = None
    """Since when the rest has been proved to be past all that came before; until then it stores the feeder too."""


class WorkerStore(Protocol):
    """What the workers tell one another. Every method raises StoreError."""

    async def roster(self) -> Roster:
        """Return all workers and slices; none where a single head-end takes everything."""
        ...

    async def join_workers(self, worker: Worker, slices: int) -> None:
        """Enter a worker; the first one makes the slices.

        Raises StoreError, permanent, where they were made in another number.
        """
        ...

    async def beat(self, worker_id: str, now: datetime) -> Roster:
        """Let a worker show itself, if it was not declared dead; return how things stand."""
        ...

    async def bury(self, worker: Worker, now: datetime) -> bool:
        """Declare a worker dead that has not shown itself since, and free what it held; False if it has."""
        ...

    async def claim(self, free: Slice, worker_id: str, now: datetime) -> int | None:
        """Take a free slice; return the new holder's term, None if another was first."""
        ...

    async def release(self, number: int, worker_id: str, now: datetime) -> None:
        """Let a slice go, if it is this worker's."""
        ...

    async def leave_workers(self, worker_id: str, now: datetime) -> None:
        """Take a worker out, and let go what it held."""
        ...

    async def end_sharing(self) -> None:
        """Forget slices and workers: from now on a single head-end takes everything."""
        ...

    async def known_feeders(self) -> Sequence[str]:
        """Return every feeder of which a message was ever accepted."""
        ...

    async def slice_feeders(self) -> Sequence[SliceFeeder]:
        """Return the feeders that slices hear."""
        ...

    async def put_subscribed(self, number: int, feeders: Collection[str], now: datetime) -> None:
        """Note that a slice's session hears feeders from now on; the rest has yet to be proved past it."""
        ...

    async def put_handed(self, feeders: Sequence[SliceFeeder], now: datetime) -> None:
        """Note that the rest is past all that came of feeders before they were subscribed to as told."""
        ...
