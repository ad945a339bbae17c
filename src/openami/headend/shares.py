"""Which messages each slice stores, and how a feeder goes from the rest to its slice without one between the two.

1. A feeder nobody has heard of comes to the rest, whose session hears everything, and is stored there.
2. Its slice's holder sees it in the store, subscribes to it, and notes that it does: from then on the broker keeps
   every message of it twice, and both store it. The second time it is a duplicate.
3. When the broker has the subscription on its disk, the rest is proved to be past all that came before
   (`SliceConnection.is_drained`) and notes that; from then on it acknowledges the feeder's messages and leaves them
   to the slice.

A slice whose session the broker has forgotten goes back to 2 with its feeders.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, Protocol

import structlog

from openami.clock import Clock
from openami.headend.slice_link import SliceConnection
from openami.headend.slices import slice_of
from openami.headend.store import LeaseLost, StoreError
from openami.headend.store.workers import SliceFeeder, WorkerStore
from openami.headend.uplink import FILTERS, FILTERS_AT_ONCE_MAX
from openami.mqtt.port import Connection, Delivery, TransportError
from openami.profile import EventTopic, TelemetryTopic

# A new feeder is stored from its first message on, by the rest; how soon its slice takes over is only a matter of
# load. Each look is one question of a few rows.
LOOK_S: Final = 1.0
# A broker that is killed forgets what is younger than its last write to disk, a subscription too (decision 0008):
# ours writes every second. Until then the rest stores the feeder as well.
BROKER_WRITES_S: Final = 3.0
_FILTERS_OF_A_FEEDER: Final = 2
# openami/v1/FEEDER/…
_FEEDER_LEVEL: Final = 2

_log = structlog.get_logger("headend.workers")


class Looking(Protocol):
    """A share that looks at the store now and then."""

    async def look(self) -> None:
        """Raises StoreError and TransportError."""
        ...


async def look_for_ever(share: Looking) -> None:
    """Let a share look every LOOK_S. Raises LeaseLost."""
    while True:
        try:
            await share.look()
        except LeaseLost:
            raise
        except StoreError as error:  # the stream meets the same error, and acts on it
            _log.warning("feeders were not handed over", error=str(error))
        except TransportError as error:
            _log.info("feeders are handed over when the broker is back", error=str(error))
        await asyncio.sleep(LOOK_S)


class SliceShare:
    """The share of a slice: the feeders whose names fall to it."""

    def __init__(self, store: WorkerStore, number: int, *, slices: int, clock: Clock) -> None:
        self.recall: Callable[[Collection[str]], Awaitable[None]] = _nothing
        """What is done about a new feeder's counters before it is listened to."""
        self._store = store
        self._number = number
        self._slices = slices
        self._clock = clock
        self._connection: Connection | None = None
        self._feeders: set[str] = set()

    @property
    def feeders(self) -> Collection[str]:
        return self._feeders

    async def filters(self) -> Sequence[str]:
        rows = await self._store.slice_feeders()
        self._feeders = {row.feeder_id for row in rows if row.number == self._number}
        return _filters(sorted(self._feeders))

    def stores(self, _delivery: Delivery) -> bool:
        return True

    async def joined(self, connection: Connection) -> None:
        if not connection.resumed:
            await self._store.put_subscribed(self._number, self._feeders, self._clock.now())
        self._connection = connection

    def left(self) -> None:
        self._connection = None

    async def look(self) -> None:
        """Subscribe to feeders that are new."""
        connection = self._connection
        if connection is None:
            return
        new = [
            feeder
            for feeder in await self._store.known_feeders()
            if feeder not in self._feeders and slice_of(feeder, self._slices) == self._number
        ]
        at_once = FILTERS_AT_ONCE_MAX // _FILTERS_OF_A_FEEDER
        for begin in range(0, len(new), at_once):
            some = new[begin : begin + at_once]
            await self.recall(some)
            await connection.subscribe(_filters(some))
            await self._store.put_subscribed(self._number, some, self._clock.now())
            self._feeders.update(some)


class RestShare:
    """The share of the rest: everything that is not handed to its slice."""

    def __init__(
        self, store: WorkerStore, *, clock: Clock, broker_writes_s: float = BROKER_WRITES_S
    ) -> None:
        self._store = store
        self._clock = clock
        self._broker_writes_s = broker_writes_s
        self._seen_s: dict[SliceFeeder, float] = {}
        """Since when each feeder that is not handed over has been subscribed to, by the event loop's clock."""
        self._connection: SliceConnection | None = None
        self._handed: frozenset[str] = frozenset()
        self._others: Collection[str] = ()

    @property
    def feeders(self) -> Collection[str]:
        return self._others

    async def filters(self) -> Sequence[str]:
        await self._look_at_rows()
        self._others = set(await self._store.known_feeders()) - self._handed
        return FILTERS

    def stores(self, delivery: Delivery) -> bool:
        levels = delivery.topic.split("/", _FEEDER_LEVEL + 1)
        return len(levels) <= _FEEDER_LEVEL or levels[_FEEDER_LEVEL] not in self._handed

    async def joined(self, connection: Connection) -> None:
        assert isinstance(connection, SliceConnection)
        self._connection = connection

    def left(self) -> None:
        self._connection = None

    async def look(self) -> None:
        """Hand over what can be: the rows are read before the proof, so that it is about them."""
        waiting = await self._look_at_rows()
        connection, now_s = self._connection, asyncio.get_running_loop().time()
        self._seen_s = {row: self._seen_s.get(row, now_s) for row in waiting}
        ready = [row for row, at_s in self._seen_s.items() if now_s - at_s >= self._broker_writes_s]
        if ready and connection is not None and await connection.is_drained():
            await self._store.put_handed(ready, self._clock.now())
            await self._look_at_rows()

    async def _look_at_rows(self) -> list[SliceFeeder]:
        rows = await self._store.slice_feeders()
        self._handed = frozenset(row.feeder_id for row in rows if row.handed_at is not None)
        return [row for row in rows if row.handed_at is None]


def _filters(feeders: Sequence[str]) -> list[str]:
    return [
        kind.filter(feeder_id) for feeder_id in feeders for kind in (TelemetryTopic, EventTopic)
    ]


async def _nothing(_feeders: Collection[str]) -> None:
    return
