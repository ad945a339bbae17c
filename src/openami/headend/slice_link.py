"""A slice's way to the broker: asked for only while the slice is held, and able to say that nothing waits there."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from openami.mqtt.port import Connection, Delivery, MessagePort
from openami.profile import EventTopic


class SlicePort:
    """A port whose session is another worker's as soon as the slice is.

    Connecting throws out whoever has the session, so who was frozen and wakes asks first.
    """

    def __init__(self, port: MessagePort, prove_held: Callable[[], Awaitable[None]]) -> None:
        """``prove_held`` raises LeaseLost."""
        self._port = port
        self._prove_held = prove_held

    @asynccontextmanager
    async def connect(self) -> AsyncIterator["SliceConnection"]:
        """Open a connection that resumes the slice's session. Raises TransportError, StoreError."""
        await self._prove_held()
        async with self._port.connect() as connection:
            yield SliceConnection(connection)


class SliceConnection:
    """A connection that counts what came and what was answered for; see `Connection` for the rest."""

    def __init__(self, inner: Connection) -> None:
        self._inner = inner
        self._came = self._acknowledged = 0
        self._waits = False

    @property
    def resumed(self) -> bool:
        return self._inner.resumed

    @property
    def tls_resumed(self) -> bool:
        return self._inner.tls_resumed

    async def publish(self, topic: str, payload: bytes) -> None:
        await self._inner.publish(topic, payload)

    async def subscribe(self, filters: Sequence[str]) -> None:
        await self._inner.subscribe(filters)

    async def receive(self, at_most: int) -> Sequence[Delivery]:
        self._waits = True
        try:
            deliveries = await self._inner.receive(at_most)
        finally:
            self._waits = False
        self._came += len(deliveries)
        return deliveries

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        self._acknowledged += len(deliveries)
        self._inner.acknowledge(deliveries)

    async def is_drained(self) -> bool:
        """Whether everything the broker had for this session before now has been acknowledged.

        A broker answers in turn: what waits in the session it sends as soon as there is room, and so before it
        answers what was asked after our acknowledgements. So if all that came is acknowledged, and a question is
        answered with nothing coming before the answer, then nothing waited. False says only that it was not proved
        this time. The question is a subscription that is already there. Raises TransportError.
        """
        if not self._is_quiet():
            return False
        came = self._came
        await self._inner.subscribe([EventTopic.filter()])
        await asyncio.sleep(0)  # who waits in receive() was woken before us, and has counted by now
        return self._is_quiet() and self._came == came

    def _is_quiet(self) -> bool:
        return self._waits and self._came == self._acknowledged
