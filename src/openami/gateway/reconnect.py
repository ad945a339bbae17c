"""Connecting to the broker, again and again: what the gateway does whatever comes of it.

A gateway never ends because a broker is away, refuses it, or shows a wrong certificate: it stores, and says
so once for each thing that is wrong, with the remedy. Even what a person must mend is tried on, because the
mending often happens at the other end.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager

import structlog

from openami.clock import Clock
from openami.gateway import uplink
from openami.gateway.cap_keeper import CapKeeper
from openami.gateway.metrics import GatewayMetrics
from openami.gateway.outbox import Outbox, OutboxError
from openami.gateway.snapshot import UplinkView
from openami.gateway.uplink import UplinkSettings
from openami.mqtt.backoff import Backoff
from openami.mqtt.port import Connection, Delivery, MessagePort, TransportError

Loop = Callable[[Connection], Coroutine[None, None, None]]
"""What runs beside the uplink over each connection, until it ends."""

_EXPECTED = (TransportError, OutboxError)

_log = structlog.get_logger(__name__)


class Reconnector:
    """Keeps the uplink running over one connection after another."""

    def __init__(
        self,
        port: MessagePort,
        outbox: Outbox,
        settings: UplinkSettings,
        *,
        clock: Clock,
        backoff: Backoff,
        view: UplinkView,
        metrics: GatewayMetrics,
        downlink: Sequence[Loop] = (),
        cap: CapKeeper | None = None,
    ) -> None:
        self._port = port
        self._outbox = outbox
        self._settings = settings
        self._clock = clock
        self._backoff = backoff
        self._view = view
        self._metrics = metrics
        self._downlink = downlink
        self._cap = cap

    async def run(self) -> None:
        """Connect, drain, wait, for ever."""
        while True:
            try:
                await self._one_connection(self._port.connect())
            except TransportError as error:
                self._note_down(str(error), error.remedy)
            except OutboxError as error:
                self._note_down(str(error), error.remedy)
            await asyncio.sleep(self._backoff.next_s())

    async def _one_connection(self, connecting: AbstractAsyncContextManager[Connection]) -> None:
        try:
            async with connecting as connection:
                self._note_up(resumed=connection.tls_resumed)
                counted = _Counted(connection, self._metrics, self._cap)
                began_s = asyncio.get_running_loop().time()
                try:
                    await self._loops(counted)
                finally:
                    held_s = asyncio.get_running_loop().time() - began_s
                    self._backoff.connection_lost(
                        held_s=held_s, acknowledged=counted.has_acknowledged
                    )
        except TransportError as error:
            if self._cap is not None and not self._view.connected:
                self._cap.account.failed(answered=error.permanent)
            raise
        finally:
            if self._view.connected:
                self._view.connected, self._view.since = False, self._clock.now()
                if self._cap is not None:
                    self._cap.account.disconnected(asyncio.get_running_loop().time())

    async def _loops(self, connection: Connection) -> None:
        """Run uplink and downlink over one connection; the first that ends, ends the other."""
        # No TaskGroup: before Python 3.13 a group whose task fails at the moment it is cancelled forgets the
        # cancellation, and a gateway that was told to end would connect on for ever.
        tasks = [asyncio.create_task(loop(connection), name="downlink") for loop in self._downlink]
        tasks.append(asyncio.create_task(self._sending(connection), name="sending"))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended = [task for task in tasks if task.done()]
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        bugs = [r for r in results if isinstance(r, Exception) and not isinstance(r, _EXPECTED)]
        fault = bugs[0] if bugs else ended[0].exception()
        assert fault is not None, "none of them ends by itself"
        raise fault

    async def _sending(self, connection: Connection) -> None:
        outbox, settings, cap = self._outbox, self._settings, self._cap
        if cap is None:
            await uplink.run(outbox, connection, settings, self._clock)
        else:
            await uplink.run(
                outbox,
                connection,
                settings,
                self._clock,
                passage=lambda: cap.passage,
                within=cap.keeping,
            )

    def _note_up(self, *, resumed: bool) -> None:
        if self._cap is not None:
            self._cap.account.connected(asyncio.get_running_loop().time(), resumed=resumed)
        view = self._view
        view.connected, view.since, view.fault, view.remedy = True, self._clock.now(), "", ""
        self._metrics.connects.inc()
        _log.info("uplink connected", broker=view.broker, tls_resumed=resumed)

    def _note_down(self, fault: str, remedy: str) -> None:
        """Say it when it is another fault than the last time; the status page has it always."""
        view = self._view
        self._metrics.connect_failures.inc()
        if fault != view.fault:
            _log.warning("uplink down, readings are stored", reason=fault, remedy=remedy)
        view.since = view.since or self._clock.now()
        view.fault, view.remedy = fault, remedy


class _Counted:
    """A connection whose acknowledged messages are counted, and what the link carries for all of them."""

    def __init__(
        self, connection: Connection, metrics: GatewayMetrics, cap: CapKeeper | None
    ) -> None:
        self._connection = connection
        self._metrics = metrics
        self._cap = cap
        self.has_acknowledged = False
        """Whether the broker has, of what was published on it."""
        self.resumed = connection.resumed
        self.tls_resumed = connection.tls_resumed
        self.subscribe = connection.subscribe
        self.acknowledge = connection.acknowledge

    async def receive(self, at_most: int) -> Sequence[Delivery]:
        deliveries = await self._connection.receive(at_most)
        for delivery in deliveries:
            self._count(delivery.topic, delivery.payload)
        return deliveries

    async def publish(self, topic: str, payload: bytes) -> None:
        # Before it has arrived: what is lost on the way was carried as far.
        self._count(topic, payload)
        await self._connection.publish(topic, payload)
        self.has_acknowledged = True
        self._metrics.sent.inc()
        self._metrics.sent_bytes.inc(len(payload))

    def _count(self, topic: str, payload: bytes) -> None:
        if self._cap is not None:
            self._cap.account.exchanged(topic, payload, asyncio.get_running_loop().time())
            self._cap.counted()
