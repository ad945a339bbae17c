"""What takes the village's messages and does what has to be done for it: one head-end alone, or one of several."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from openami.clock import Clock
from openami.headend.broker_link import BrokerLink
from openami.headend.config import HeadendConfig
from openami.headend.duties import Premises, downlink_of, duties, patient
from openami.headend.liveness import Pulse
from openami.headend.slices import REST
from openami.headend.standing import Standing
from openami.headend.statistics import Statistics
from openami.headend.store import StoreError
from openami.headend.store.commands import HeadEndStore
from openami.headend.tracing import Tracing
from openami.headend.uplink import Uplink
from openami.mqtt.cluster import ClusterPort

CheckBroker = Callable[[], Coroutine[Any, Any, None]]


class Streams(Protocol):
    """What the head-end runs, and what its console and its metrics ask of it, from any thread."""

    statistics: Statistics
    subscribed: asyncio.Event
    """Set when the broker delivers to us for the first time; of several head-ends one may stand by before."""

    @property
    def pulses(self) -> Sequence[Pulse]:
        """Of everything that takes messages now."""
        ...

    @property
    def refused_documents(self) -> int:
        """Session documents and reports that did not prove themselves."""
        ...

    def link(self) -> BrokerLink:
        """Return how it stands with the broker."""
        ...

    def standing(self) -> Standing | None:
        """Return what share of the feeders is ours; None where we share with nobody."""
        ...

    async def prove_store(self) -> None:
        """Return when the store takes the writes of everything that takes messages. Raises StoreError.

        Not from any thread: on the event loop they run on.
        """
        ...

    async def run(self, check_broker: CheckBroker) -> None:
        """Run until cancelled; the batch in hand is finished. Raises TransportError and StoreError in groups.

        ``check_broker`` says what of the broker would lose data; what needs no broker does not wait for it.
        """
        ...


async def prove_store_on(loop: asyncio.AbstractEventLoop, streams: Streams) -> None:
    """Have streams prove their store on the loop they run on, and wait for it on another thread's."""
    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(streams.prove_store(), loop))


class Alone:
    """A head-end that takes everything its broker has."""

    def __init__(
        self, config: HeadendConfig, store: HeadEndStore, *, clock: Clock, tracing: Tracing
    ) -> None:
        self._config = config
        self._store = store
        self._clock = clock
        self._downlink = downlink_of(config, store, clock, tracing)
        self._uplink = Uplink(
            ClusterPort(config.session(REST)),
            store,
            catalogue=config.catalogue(),
            clock=clock,
            broker_backoff=patient(),
            store_backoff=patient(),
            beside=self._downlink,
            tracing=tracing,
        )
        self.statistics = self._uplink.statistics
        self.subscribed = self._uplink.subscribed
        self.pulses = [self._uplink.pulse]

    @property
    def refused_documents(self) -> int:
        return 0 if self._downlink is None else self._downlink.refused_documents

    def link(self) -> BrokerLink:
        return self._uplink.link

    def standing(self) -> None:
        return None

    async def prove_store(self) -> None:
        await self._uplink.prove_store()

    async def run(self, check_broker: CheckBroker) -> None:
        await _refuse_shared(self._store)
        await self._store.put_intervals(self._config.completeness.intervals_s)
        premises = Premises(self._config, self._store, self._clock, self.statistics, self.link)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take(check_broker), name="uplink")
            for name, duty in duties(premises, self._downlink).items():
                group.create_task(duty, name=name)

    async def _take(self, check_broker: CheckBroker) -> None:
        await check_broker()
        await self._uplink.run()


async def _refuse_shared(store: HeadEndStore) -> None:
    """Raise StoreError where several head-ends share the feeders: what waits for them would wait for ever."""
    slices = len((await store.roster()).slices)
    if slices:
        raise StoreError(
            f"the feeders of this store are shared in {slices - 1} slices, and this head-end is told of none",
            remedy=f"write slices = {slices - 1} in [workers], or end the sharing: "
            "`openami headend workers --end`",
            permanent=True,
        )
