"""A broker in one process, behind the same port: for simulation and tests only.

It keeps what the port's users rely on in a real broker, and passes the same contract test: sessions that
outlive connections, redelivery of what was not acknowledged, a queue that is bounded and drops the
newest, an in-flight window, one connection a client id. It also breaks when told to: ``cut`` one
connection, ``stop`` and ``start`` the whole broker, ``crash`` it back to its last ``save``. Time and network
do not exist in it (`openami.simulator.network` adds them).
"""

import asyncio
import contextlib
import itertools
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field

from openami.mqtt.port import Connection, Delivery, MessagePort, PublishRefused, TransportError

# What our deploy/mosquitto/mosquitto.conf sets for the real one.
QUEUED_MESSAGES_MAX = 1_000_000
INFLIGHT_MAX = 1_000
_PACKET_ID_MAX = 65_535
# Topics whose receivers are remembered until the next subscription; a village of 500 meters has some thousand.
_REMEMBERED_TOPICS_MAX = 65_536

# Who listens at the broker: client id, topic and payload of each message it takes.
Listener = Callable[[str, str, bytes], None]


@dataclass(frozen=True, slots=True)
class _Message:
    topic: str
    payload: bytes
    retain: bool = False


@dataclass(slots=True)
class _Session:
    client_id: str
    persistent: bool = True
    filters: dict[str, None] = field(default_factory=dict)
    queue: deque[_Message] = field(default_factory=deque)
    unacknowledged: OrderedDict[int, _Message] = field(default_factory=OrderedDict)
    connection: "MemoryConnection | None" = None
    packet_ids: Iterator[int] = field(
        default_factory=lambda: itertools.cycle(range(1, _PACKET_ID_MAX + 1))
    )

    def owed(self) -> Iterator[_Message]:
        """Yield what the client has not acknowledged, in its order."""
        yield from self.unacknowledged.values()
        yield from self.queue


@dataclass(frozen=True, slots=True)
class _Saved:
    """A session as it stands in the broker's file."""

    filters: tuple[str, ...]
    owed: tuple[_Message, ...]


class MemoryBroker:
    """The broker: hand ``port(client_id)`` to whoever wants to connect.

    ``allows(client_id, topic)`` stands for the ACL of publishing; a message it denies is refused as MQTT 5
    does. ``dropped`` counts what the queue bound has cost.
    """

    def __init__(
        self,
        *,
        queued_messages_max: int = QUEUED_MESSAGES_MAX,
        inflight_max: int = INFLIGHT_MAX,
        allows: Callable[[str, str], bool] = lambda _client_id, _topic: True,
    ) -> None:
        self.queued_messages_max = queued_messages_max
        self.inflight_max = inflight_max
        self.allows = allows
        self.dropped = 0
        self._sessions: dict[str, _Session] = {}
        self._saved: dict[str, _Saved] = {}
        self._receivers: dict[str, tuple[_Session, ...]] = {}
        self._listeners: list[Listener] = []
        self._running = True

    def port(self, client_id: str, *, persistent: bool = True) -> "MemoryPort":
        """Return a client's way to this broker."""
        return MemoryPort(self, client_id, persistent)

    def cut(self, client_id: str) -> None:
        """Break a client's connection, as a dying link does; its session stays."""
        session = self._sessions.get(client_id)
        if session is not None and session.connection is not None:
            session.connection.end(TransportError("the connection was lost"))

    def stop(self) -> None:
        """End every connection and take no new ones; sessions stay, as on a clean restart."""
        self._running = False
        for client_id in self._sessions:
            self.cut(client_id)

    def start(self) -> None:
        """Take connections again."""
        self._running = True

    def restart(self) -> None:
        """Restart as an administrator does: connections end, everything is written and read again."""
        self.stop()
        self.save()
        self._load()
        self.start()

    def save(self) -> None:
        """Write sessions and all that is owed, as an autosave does; of messages, only references are copied."""
        self._saved = {
            session.client_id: _Saved(tuple(session.filters), tuple(session.owed()))
            for session in self._sessions.values()
            if session.persistent
        }

    def crash(self) -> None:
        """Be killed, and stay down until `start`: what the last `save` wrote is what there is.

        What was queued since is lost though its sender has a PUBACK, and what was acknowledged since is
        delivered again: as mosquitto 2.0.11 does it (decision 0008).
        """
        self.stop()
        self._load()

    def forget(self) -> None:
        """Lose every session and message, as a broker does that is killed before it has ever written."""
        self._saved.clear()
        self.crash()
        self.start()

    def _load(self) -> None:
        self._receivers.clear()
        self._sessions = {
            client_id: _Session(
                client_id, filters=dict.fromkeys(saved.filters), queue=deque(saved.owed)
            )
            for client_id, saved in self._saved.items()
        }

    def listen(self, listener: Listener) -> None:
        """Tell a listener, from now on, of every message a client publishes and the broker takes."""
        self._listeners.append(listener)

    def inject(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Deliver a message that no client published: somebody has power over the broker.

        No ACL is asked, no listener told. ``retain`` marks its deliveries as retained; nothing is kept.
        """
        if self._running:
            self._route(_Message(topic, payload, retain))

    def owed(self, client_id: str) -> int:
        """Return how many messages a client has not acknowledged yet, those that wait in its queue included."""
        session = self._sessions.get(client_id)
        return 0 if session is None else len(session.queue) + len(session.unacknowledged)

    def unacknowledged(self, client_id: str) -> int:
        """Return how many messages a client has and has not answered for."""
        session = self._sessions.get(client_id)
        return 0 if session is None else len(session.unacknowledged)

    def has_session(self, client_id: str) -> bool:
        """Return whether a client of this name has been here and asked to be remembered."""
        return client_id in self._sessions

    def has_subscribed(self, client_id: str) -> bool:
        """Return whether anything that is published now would be kept for this client."""
        session = self._sessions.get(client_id)
        return session is not None and bool(session.filters)

    def attach(self, client_id: str, connection: "MemoryConnection", persistent: bool) -> _Session:
        """Give a connection its session; whoever held it before is thrown out."""
        if not self._running:
            raise TransportError("nothing listens there", remedy="start the broker")
        session = self._sessions.get(client_id)
        if session is None:
            session = self._sessions[client_id] = _Session(client_id)
        session.persistent = persistent
        if not persistent:
            self._receivers.clear()
            session.filters.clear()
            session.queue.clear()
            session.unacknowledged.clear()
        if session.connection is not None:
            session.connection.end(
                TransportError(
                    f"another client took over our session: it has the same client id "
                    f"{client_id!r}",
                    remedy="give each program its own client_id",
                )
            )
        session.connection = connection
        # In their order, before everything that came since.
        session.queue.extendleft(reversed(session.unacknowledged.values()))
        session.unacknowledged.clear()
        return session

    def detach(self, session: _Session, connection: "MemoryConnection", persistent: bool) -> None:
        """Take a connection's session back."""
        if session.connection is connection:
            session.connection = None
            # After a crash, the name may be another session's.
            if not persistent and self._sessions.get(session.client_id) is session:
                del self._sessions[session.client_id]
                self._receivers.clear()

    def subscribe(self, session: _Session, filters: Sequence[str]) -> None:
        """Let a session want, from now on, what these filters select."""
        session.filters.update(dict.fromkeys(filters))
        self._receivers.clear()

    def take(self, client_id: str, topic: str, payload: bytes) -> None:
        """Take a client's message: queue it for every session that wants it, once each."""
        for listener in self._listeners:
            listener(client_id, topic, payload)
        self._route(_Message(topic, payload))

    def _route(self, message: _Message) -> None:
        receivers = self._receivers.get(message.topic)
        if receivers is None:
            receivers = self._find_receivers(message.topic)
        for session in receivers:
            if len(session.queue) >= self.queued_messages_max:
                self.dropped += 1  # and the sender has its PUBACK: as real ones do
                continue
            session.queue.append(message)
            if session.connection is not None:
                session.connection.wake()

    def _find_receivers(self, topic: str) -> tuple[_Session, ...]:
        if len(self._receivers) >= _REMEMBERED_TOPICS_MAX:
            self._receivers.clear()
        receivers = self._receivers[topic] = tuple(
            session
            for session in self._sessions.values()
            if any(matches(each, topic) for each in session.filters)
        )
        return receivers


class MemoryPort:
    """A client's way to the broker in memory."""

    def __init__(self, broker: MemoryBroker, client_id: str, persistent: bool) -> None:
        self._broker = broker
        self.client_id = client_id
        self._persistent = persistent
        self._epochs = itertools.count(1)

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator["MemoryConnection"]:
        await asyncio.sleep(0)  # like a real one, it lets others run first
        connection = MemoryConnection(
            self._broker, self.client_id, next(self._epochs), self._persistent
        )
        try:
            yield connection
        finally:
            connection.end(TransportError("the connection was closed"))
            self._broker.detach(connection.session, connection, self._persistent)


class MemoryConnection:
    """An open session with the broker in memory."""

    def __init__(self, broker: MemoryBroker, client_id: str, epoch: int, persistent: bool) -> None:
        self.epoch = epoch
        self._broker = broker
        self._ended: TransportError | None = None
        self._wakened = asyncio.Event()
        self.resumed = persistent and broker.has_session(client_id)
        self.tls_resumed = False
        self.session = broker.attach(client_id, self, persistent)

    def end(self, reason: TransportError) -> None:
        """Let every wait on this connection raise; the first reason stays."""
        if self._ended is None:
            self._ended = reason
        self._wakened.set()

    def wake(self) -> None:
        """Let receive() look again."""
        self._wakened.set()

    async def publish(self, topic: str, payload: bytes) -> None:
        self.check_open()
        await asyncio.sleep(0)
        self.check_open()
        if not self._broker.allows(self.session.client_id, topic):
            raise PublishRefused(
                f"publishing on {topic}: the broker does not allow us this topic",
                remedy="check the broker's ACL",
                permanent=True,
            )
        self._broker.take(self.session.client_id, topic, payload)

    async def subscribe(self, filters: Sequence[str]) -> None:
        self.check_open()
        await asyncio.sleep(0)
        self.check_open()
        self._broker.subscribe(self.session, filters)

    async def receive(self, at_most: int) -> Sequence[Delivery]:
        while True:
            self.check_open()
            taken = list(itertools.islice(self._deliver(), at_most))
            if taken:
                return taken
            self._wakened.clear()
            await self._wakened.wait()

    def _deliver(self) -> Iterator[Delivery]:
        session = self.session
        while session.queue and len(session.unacknowledged) < self._broker.inflight_max:
            packet_id = next(i for i in session.packet_ids if i not in session.unacknowledged)
            message = session.unacknowledged[packet_id] = session.queue.popleft()
            yield Delivery(message.topic, message.payload, message.retain, packet_id, self.epoch)

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        if self._ended is not None:
            return
        for delivery in deliveries:
            if delivery.epoch == self.epoch:
                self.session.unacknowledged.pop(delivery.packet_id, None)
        self.wake()

    @property
    def is_open(self) -> bool:
        """Whether nobody has ended it yet."""
        return self._ended is None

    def check_open(self) -> None:
        """Raise the TransportError this connection ended with, if it has."""
        if self._ended is not None:
            raise self._ended


def matches(topic_filter: str, topic: str) -> bool:
    """Return whether a topic is one a subscription filter asks for (MQTT 5.0, section 4.7)."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if levels[0].startswith("$") and wanted[0] in ("+", "#"):
        return False
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(levels) or level not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)


def _obeys_the_port(
    port: MemoryPort, connection: MemoryConnection
) -> tuple[MessagePort, Connection]:
    return port, connection
