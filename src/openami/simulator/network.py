"""The network of a simulated world: a 2G radio between one client and the broker in memory.

A `Link` is a message port around a message port. It takes its time from the running loop, so on a loop of
virtual time a day of outage costs nothing, and its chances from the generator it is given: same seed, same
history. Faults may change while connections are open.

What it does as TCP does: messages keep their order, nothing is lost singly (what is lost takes the
connection with it), a link that is down is noticed only after the keep-alive. What TCP does not do, a bridge
between brokers or a client with two connections does: a message twice, messages out of order.
"""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, fields
from typing import Final

from openami.mqtt.memory import MemoryConnection, MemoryPort
from openami.mqtt.port import Connection, Delivery, MessagePort, TransportError

# A dead link is noticed when a ping stays unanswered: 60 s until it is sent, 60 s of waiting for its answer
# (BrokerSettings.keepalive_s).
KEEP_ALIVE_S: Final = 120.0
# As long as our MQTT client waits for a CONNACK (BrokerSettings.connect_timeout_s).
CONNECT_TIMEOUT_S: Final = 30.0

# TCP, TLS 1.3 and CONNECT: each asks and waits once.
_CONNECT_ROUND_TRIPS = 3
# What carries a message costs: 40 bytes of TCP/IP, 22 of TLS 1.3, 9 of MQTT; 4 of them are a PUBACK.
_FRAME_BYTES = 71
# Two messages never arrive in the same instant: timers of one moment have no order.
_TICK_S = 1e-6

_CHANCES = ("lost_before", "lost_after", "acknowledgements_lost", "duplicated", "reordered")


@dataclass(frozen=True, slots=True)
class LinkFaults:
    """What the radio does to messages. Chances are per call, from 0 to 1. Raises ValueError.

    ``latency_s`` one way, plus 0 to ``jitter_s`` evenly; publish, PUBACK, delivery, acknowledgement.
    ``lost_before`` the connection breaks before the broker has a publish; ``lost_after`` when the broker has
    it and its PUBACK is under way: sent again, it is a duplicate.
    ``acknowledgements_lost`` the connection breaks before the receiver's PUBACKs arrive: delivered again.
    ``duplicated`` the broker takes a publish twice. ``reordered`` a publish is ``reordered_s`` late, and
    those sent meanwhile overtake it.
    ``bytes_per_s`` what goes through in each direction; None is no limit.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    lost_before: float = 0.0
    lost_after: float = 0.0
    acknowledgements_lost: float = 0.0
    duplicated: float = 0.0
    reordered: float = 0.0
    reordered_s: float = 1.0
    bytes_per_s: float | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is None:
                continue
            if not 0 <= value < float("inf"):
                raise ValueError(f"{each.name}: {value} is not 0 or more")
            if each.name in _CHANCES and value > 1:
                raise ValueError(f"{each.name}: {value} is no chance, 0 to 1")
        if self.bytes_per_s == 0:
            raise ValueError("bytes_per_s: 0 lets nothing through; take the link down instead")


NO_FAULTS: Final = LinkFaults()


@dataclass(frozen=True, slots=True)
class Tap:
    """What a checker hears of one client, each at its moment; what is None is not told.

    ``on_sent`` the broker has taken the message (twice, when it was duplicated); ``on_published`` the
    publisher has its PUBACK; ``on_delivered`` the receiver has the messages; ``on_acknowledged`` the
    receiver answers for them, whether or not its PUBACKs arrive. The first argument is the client id.
    """

    on_sent: Callable[[str, str, bytes], None] | None = None
    on_published: Callable[[str, str, bytes], None] | None = None
    on_delivered: Callable[[str, Sequence[Delivery]], None] | None = None
    on_acknowledged: Callable[[str, Sequence[Delivery]], None] | None = None


_NO_TAP = Tap()


class Link:
    """A client's way to the broker, over a radio that can be disturbed."""

    def __init__(
        self,
        port: MemoryPort,
        rng: random.Random,
        *,
        faults: LinkFaults = NO_FAULTS,
        tap: Tap | None = None,
        keep_alive_s: float = KEEP_ALIVE_S,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self.rng = rng
        self.tap = tap or _NO_TAP
        self.client_id = port.client_id
        self.keep_alive_s = keep_alive_s
        self._port = port
        self._faults = faults
        self._connect_timeout_s = connect_timeout_s
        self._up = asyncio.Event()
        self._up.set()
        self._open: dict[_LinkConnection, None] = {}
        self.undisturbed = faults == NO_FAULTS

    @property
    def faults(self) -> LinkFaults:
        """What the radio does now; messages under way keep the arrival they have."""
        return self._faults

    @faults.setter
    def faults(self, faults: LinkFaults) -> None:
        self._faults = faults
        self._judge()

    @property
    def up(self) -> bool:
        """Whether anything passes.

        Down, what is under way waits: it arrives when the link is up again within the keep-alive time, and
        after that time the connection breaks. Connecting raises TransportError after its timeout.
        """
        return self._up.is_set()

    @up.setter
    def up(self, up: bool) -> None:
        if up == self.up:
            return
        if up:
            self._up.set()
        else:
            self._up.clear()
        self._judge()
        for connection in tuple(self._open):
            connection.link_changed()

    def cut(self) -> None:
        """Break what is open, at once, as a modem's reset does."""
        for connection in tuple(self._open):
            connection.break_off("the modem was reset")

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        await self._reach_the_broker()
        async with self._port.connect() as inner:
            connection = _LinkConnection(self, inner)
            self._open[connection] = None
            try:
                yield connection
            finally:
                del self._open[connection]
                connection.close()

    async def _reach_the_broker(self) -> None:
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                while True:
                    await self._up.wait()
                    if not self._faults.latency_s:
                        return
                    await asyncio.sleep(self._faults.latency_s * 2 * _CONNECT_ROUND_TRIPS)
                    if self.up:
                        return
        except TimeoutError:
            raise TransportError(
                f"no answer from the broker within {self._connect_timeout_s:g} s"
            ) from None

    def _judge(self) -> None:
        self.undisturbed = self.up and self._faults == NO_FAULTS


class _Direction:
    """One way of one connection: when does what is sent now arrive? Never before what was sent earlier."""

    def __init__(self) -> None:
        self._free_at = 0.0
        self._last = 0.0

    def arrival(self, now: float, size: int, faults: LinkFaults, rng: random.Random) -> float:
        if faults.bytes_per_s is not None:
            now = self._free_at = max(now, self._free_at) + size / faults.bytes_per_s
        jitter_s = faults.jitter_s and rng.random() * faults.jitter_s
        self._last = max(now + faults.latency_s + jitter_s, self._last + _TICK_S)
        return self._last


class _LinkConnection:
    """An open session with the broker, over the link."""

    def __init__(self, link: Link, inner: MemoryConnection) -> None:
        self._link = link
        self._inner = inner
        self._loop = asyncio.get_running_loop()
        self._northbound, self._southbound = _Direction(), _Direction()
        # In the order they began; true is a wait for the link, false one for a moment.
        self._waits: dict[asyncio.Future[None], bool] = {}
        # Both of them bound by the broker's in-flight window: it delivers no more unacknowledged.
        self._coming: deque[tuple[float, Delivery]] = deque()  # bound: INFLIGHT_MAX
        self._answers: deque[tuple[float, Sequence[Delivery]]] = deque()  # bound: INFLIGHT_MAX
        self._keep_alive: asyncio.TimerHandle | None = None
        if not link.up:
            self.link_changed()

    @property
    def resumed(self) -> bool:
        return self._inner.resumed

    @property
    def tls_resumed(self) -> bool:
        return self._inner.tls_resumed

    async def publish(self, topic: str, payload: bytes) -> None:
        link, tap = self._link, self._link.tap
        if link.undisturbed and not self._waits:
            await self._inner.publish(topic, payload)
            if tap.on_sent is not None:
                tap.on_sent(link.client_id, topic, payload)
        else:
            await self._publish_over_radio(topic, payload)
        if tap.on_published is not None:
            tap.on_published(link.client_id, topic, payload)

    async def _publish_over_radio(self, topic: str, payload: bytes) -> None:
        link = self._link
        self._inner.check_open()
        arrives = self._arrival(self._northbound, len(topic) + len(payload) + _FRAME_BYTES)
        if self._happens(link.faults.reordered):
            arrives += link.faults.reordered_s
        await self._travel(arrives)
        if self._happens(link.faults.lost_before):
            self.break_off("the radio was lost while a message was sent")
            self._inner.check_open()
        await self._arrive(topic, payload)
        if self._happens(link.faults.duplicated):
            await self._arrive(topic, payload)
        if self._happens(link.faults.lost_after):
            self.break_off("the radio was lost before the PUBACK came")
            self._inner.check_open()
        await self._travel(self._arrival(self._southbound, _FRAME_BYTES))

    async def _arrive(self, topic: str, payload: bytes) -> None:
        await self._inner.publish(topic, payload)
        if self._link.tap.on_sent is not None:
            self._link.tap.on_sent(self._link.client_id, topic, payload)

    async def subscribe(self, filters: Sequence[str]) -> None:
        if self._link.undisturbed and not self._waits:
            await self._inner.subscribe(filters)
            return
        self._inner.check_open()
        await self._travel(self._arrival(self._northbound, _FRAME_BYTES))
        await self._inner.subscribe(filters)
        await self._travel(self._arrival(self._southbound, _FRAME_BYTES))

    async def receive(self, at_most: int) -> Sequence[Delivery]:
        """Wait for a delivery, as the port says; what comes while a batch is on its way comes with the next."""
        while True:
            if not self._coming:
                sent = await self._inner.receive(at_most)
                if self._link.undisturbed:
                    return self._delivered(sent)
                size = sum(len(d.topic) + len(d.payload) + _FRAME_BYTES for d in sent)
                arrives = self._arrival(self._southbound, size)
                self._coming.extend((arrives, delivery) for delivery in sent)
            arrives = self._coming[0][0]
            await self._travel(arrives)
            arrived: list[Delivery] = []
            while self._coming and self._coming[0][0] <= arrives and len(arrived) < at_most:
                arrived.append(self._coming.popleft()[1])
            if arrived:
                return self._delivered(arrived)

    def _delivered(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        if self._link.tap.on_delivered is not None:
            self._link.tap.on_delivered(self._link.client_id, deliveries)
        return deliveries

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        link = self._link
        if link.tap.on_acknowledged is not None:
            link.tap.on_acknowledged(link.client_id, deliveries)
        if link.undisturbed and not self._answers:
            self._inner.acknowledge(deliveries)
        elif self._happens(link.faults.acknowledgements_lost):
            self.break_off("the radio was lost while a message was acknowledged")
        elif self._inner.is_open:
            arrives = self._arrival(self._northbound, len(deliveries) * _FRAME_BYTES)
            self._answers.append((arrives, tuple(deliveries)))
            self._loop.call_at(arrives, self._answers_arrive, arrives)

    def link_changed(self) -> None:
        """Let what waits for the link go on, or start to wait for a sign of life."""
        if self._keep_alive is not None:
            self._keep_alive.cancel()
            self._keep_alive = None
        if self._link.up:
            self._answers_arrive(self._loop.time())
            for woken, for_the_link in self._waits.items():
                if for_the_link:
                    _set(woken)
        else:
            self._keep_alive = self._loop.call_later(
                self._link.keep_alive_s, self.break_off, "the broker stopped answering"
            )

    def break_off(self, reason: str) -> None:
        """End the connection: every wait on it raises TransportError, what is under way is lost."""
        self._inner.end(TransportError(reason))
        for woken in self._waits:
            _set(woken)

    def close(self) -> None:
        """Leave in good order: PUBACKs go before the DISCONNECT, if anything goes."""
        if self._keep_alive is not None:
            self._keep_alive.cancel()
        self._answers_arrive(float("inf"))
        self.break_off("the connection was closed")

    def _happens(self, chance: float) -> bool:
        return chance > 0 and self._link.rng.random() < chance

    def _arrival(self, direction: _Direction, size: int) -> float:
        return direction.arrival(self._loop.time(), size, self._link.faults, self._link.rng)

    async def _travel(self, arrives: float) -> None:
        """Wait until then, and on until the link is up. Raises TransportError if the connection ends first."""
        await self._wait(arrives)
        while not self._link.up:
            await self._wait(None)

    async def _wait(self, until: float | None) -> None:
        woken = self._loop.create_future()
        self._waits[woken] = until is None
        timer = None if until is None else self._loop.call_at(until, _set, woken)
        try:
            await woken
        finally:
            del self._waits[woken]
            if timer is not None:
                timer.cancel()
        self._inner.check_open()

    def _answers_arrive(self, until: float) -> None:
        while self._link.up and self._answers and self._answers[0][0] <= until:
            self._inner.acknowledge(self._answers.popleft()[1])


def _set(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


def _obeys_the_port(link: Link) -> MessagePort:
    return link
