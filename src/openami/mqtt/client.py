"""The real message port: paho-mqtt inside the asyncio loop, acknowledging by hand (decision 0010).

paho knows MQTT, the `Wire` knows the socket, and what is here knows when: when to read on, when to ping,
when to give up waiting. Messages of MQTT 5 are read past paho (`publishes`, decision 0079). Three things
differ from paho's own loops, each because something was lost or killed without it:

* Deliveries wait in a bounded queue. When it is full we stop reading, and TCP makes the broker wait; a
  broker's in-flight window alone is no bound (mosquitto 2.0.11 sends 533 messages for 27
  acknowledgements and a window of 20).
* The keepalive is ours. paho would end a connection that has paused reading, since it cannot see the
  answer to its ping; while paused we still ping, so that the broker keeps us, and judge nothing.
* Nothing outlives a connection. Messages without PUBACK are not sent again behind the caller's back: the
  caller has them on disk and is told.
"""

import asyncio
import contextlib
import itertools
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from openami.mqtt import failures
from openami.mqtt.port import Connection, Delivery, TransportError
from openami.mqtt.publishes import CAN_READ, packet_bytes, read_publishes
from openami.mqtt.settings import BrokerSettings
from openami.mqtt.tls import BrokerTls, ResumingContext
from openami.mqtt.topic_aliases import TopicAliases
from openami.mqtt.wire import Wire

# MQTT 5 brokers are asked not to send more; larger messages cannot be the profile's (64 KiB), and a
# megabyte is kept as evidence of who sends what.
PACKET_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one connection. The defaults suit a head-end; a gateway never comes near them."""

    # Deliveries that may wait for receive(): more than a head-end commits at once, so that the next
    # batch is there when one is done. Reading goes on when half of them are gone.
    queued_messages_max: int = 8_192
    queued_bytes_max: int = 16 * 1024 * 1024
    # What an MQTT 5 broker is told to have under way to us, the queue and the caller's batch together.
    receive_maximum: int = 4_096
    # A broker that resumes a session sends what it kept before it answers SUBSCRIBE: while we wait for
    # that answer we read on. There are 65,535 packet ids, so it ends; the bytes are bounded as well.
    queued_bytes_before_suback_max: int = 64 * 1024 * 1024
    # Messages published and not yet acknowledged by the broker. mosquitto takes 20 at once from a
    # client by default and says so in MQTT 5, where we take the smaller of the two. 100 messages under
    # way fill a link of 100 messages/s and a second's round trip: more than GPRS is.
    publish_window_max: int = 100
    # A broker answers PUBLISH and SUBSCRIBE at once; after a minute it has forgotten, or the way back
    # is dead though pings pass, and only a new connection helps.
    answer_timeout_s: float = 60.0
    # How often pings and overdue answers are looked at.
    tick_s: float = 1.0
    # The last words (acknowledgements, DISCONNECT) have this long to leave when we close.
    close_timeout_s: float = 2.0


# Fixed header 5, length of the topic 2, packet id 2, length of the properties 1.
_PUBLISH_OVERHEAD_BYTES = 10
# Its identifier and a two-byte integer, beside the topic they stand for from then on.
_TOPIC_ALIAS_BYTES = 3
# A broker next door refuses within a millisecond. Further away we have written long before its refusal
# arrives, and read it before we write again.
_ALERT_WAIT_S = 0.02
# By so many messages the queue may be over its bound: it is looked at after as many.
_READ_AT_ONCE_MAX = 64
_PINGREQ = b"\xc0\x00"
_PUBACK = b"\x40\x02"  # and the packet id: in MQTT 5, too, without more it says success
_Wanted = list[tuple[str, int]] | list[tuple[str, SubscribeOptions]]
_FAILURE = 0x80  # reason codes from here on are refusals
_PASSWORD_BYTES_MAX = 64 * 1024


class MqttPort:
    """The way to a real broker. Raises ValueError when a session is asked for without a client id."""

    def __init__(
        self,
        settings: BrokerSettings,
        limits: Limits = Limits(),
        epochs: Iterator[int] | None = None,
    ) -> None:
        if settings.session_expiry_s and not settings.client_id:
            raise ValueError(
                "client_id is empty: the broker keeps a session under the client's name, so it has "
                "to have one; set client_id, or session_expiry_days = 0 for no session"
            )
        self._settings = settings
        self._limits = limits
        self._tls = BrokerTls(settings)
        self._epochs = epochs or itertools.count(1)

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator["MqttConnection"]:
        """Open a connection that resumes the persistent session. Raises TransportError."""
        settings = self._settings
        connection = MqttConnection(settings, self._limits, next(self._epochs))
        try:
            try:
                async with asyncio.timeout(settings.connect_timeout_s):
                    now_s = asyncio.get_running_loop().time()
                    tls = self._tls.context(settings.endpoint, now_s)
                    await connection.open(tls, _password(settings))
            except TimeoutError as late:
                raise failures.connect_failure(late, settings) from None
            yield connection
        finally:
            await connection.close()


class _Paho(paho.Client):
    """paho, given its socket instead of making one."""

    def __init__(self, settings: BrokerSettings, wire: Wire) -> None:
        is_5 = settings.protocol == "5"
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            clean_session=None if is_5 else not settings.session_expiry_s,
            protocol=MQTTProtocolVersion.MQTTv5 if is_5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._wire = wire
        # The window is ours; paho's own walks through all of it at every PUBACK.
        self.max_inflight_messages_set(0)

    def _create_socket(self) -> Wire:
        return self._wire

    def hello(self, settings: BrokerSettings, limits: Limits, password: str | None) -> None:
        """Send CONNECT."""
        if settings.login is not None:
            self.username_pw_set(settings.login, password)
        endpoint = settings.endpoint
        if settings.protocol == "5":
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's
            properties.SessionExpiryInterval = settings.session_expiry_s
            properties.ReceiveMaximum = limits.receive_maximum
            properties.MaximumPacketSize = PACKET_BYTES_MAX
            self.connect(
                endpoint.host,
                endpoint.port,
                settings.keepalive_s,
                clean_start=not settings.session_expiry_s,
                properties=properties,
            )
        else:
            self.connect(endpoint.host, endpoint.port, settings.keepalive_s)


class MqttConnection:
    """An open session with a real broker; see `Connection` for what each method promises."""

    def __init__(self, settings: BrokerSettings, limits: Limits, epoch: int) -> None:
        self.epoch = epoch
        self.resumed = False
        """Whether the broker still had our session; if not, what came for us since then is lost."""
        self.tls_resumed = False
        self._settings = settings
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._wire = Wire(self._loop, self._read, self._on_lost)
        self._paho = _Paho(settings, self._wire)
        self._past_paho = CAN_READ and settings.protocol == "5"
        self._keepalive_s = float(settings.keepalive_s)
        self._pinged_s: float | None = None
        self._ended: TransportError | None = None
        self._connected: asyncio.Future[None] = self._loop.create_future()
        self._queue: deque[Delivery] = deque()  # bound: _is_full, which pauses reading
        self._queued_bytes = 0
        self._paused = False
        self._subscribing = 0
        self._receivers: deque[asyncio.Future[None]] = deque()  # bound: the caller's own tasks
        self._answers: dict[int, _Answer] = {}
        self._window = asyncio.Semaphore(limits.publish_window_max)
        self._packet_bytes_max = 0
        self._aliases = TopicAliases()
        self._ticker: asyncio.TimerHandle | None = None
        client = self._paho
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect

    # --- opening and closing

    async def open(self, tls: ResumingContext | None, password: str | None) -> None:
        """Connect, and return when the broker has let us in. Raises TransportError."""
        endpoint = self._settings.endpoint
        try:
            await self._loop.create_connection(
                lambda: self._wire,
                endpoint.host,
                endpoint.port,
                ssl=tls,
                server_hostname=endpoint.host if tls else None,
                ssl_handshake_timeout=self._settings.connect_timeout_s if tls else None,
                ssl_shutdown_timeout=self._limits.close_timeout_s if tls else None,
            )
        except OSError as error:
            raise failures.connect_failure(error, self._settings) from None
        if tls is not None:
            await self._hear_alert()
        if self._wire.is_open:
            self._paho.hello(self._settings, self._limits, password)
        await self._connected
        if tls is not None and self._wire.tls is not None:
            self.tls_resumed = bool(self._wire.tls.session_reused)
            tls.keep(self._wire.tls)
        self._ticker = self._loop.call_later(self._limits.tick_s, self._tick)

    async def _hear_alert(self) -> None:
        """Give a refusal of our certificate time to arrive: in TLS 1.3 it comes after our handshake.

        It comes with a reset. Writing into that fails, and the alert that says why is lost unread.
        """
        await asyncio.wait([self._wire.lost], timeout=_ALERT_WAIT_S)

    async def close(self) -> None:
        """Send what is due and DISCONNECT; the session stays with the broker."""
        if self._ticker is not None:
            self._ticker.cancel()
        if self._ended is None:
            was_let_in = self._connected.done()
            self._let_go(TransportError("the connection was closed"))
            if was_let_in:
                self._paho.disconnect()
            if self._wire.is_open:
                await self._linger()
        await self._wire.abort()

    async def _linger(self) -> None:
        """Read until the broker has closed: closing on unread bytes would reset the connection.

        A reset can overtake the acknowledgements we sent last; the broker would redeliver them.
        """
        self._wire.discarding = True
        self._wire.resume()
        self._wire.end_writing()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.close_timeout_s):
                await asyncio.shield(self._wire.lost)

    def _end(self, reason: TransportError) -> None:
        """Close, because the other side or the world has ended it; the first reason stays."""
        if self._ended is None:
            self._let_go(reason)
            self._wire.shut()

    def _let_go(self, reason: TransportError) -> None:
        """Let every wait on this connection raise."""
        self._ended = reason
        if not self._connected.done():
            self._connected.set_exception(reason)
            self._connected.exception()  # nobody need be waiting
        for answer in self._answers.values():
            answer.fail(reason)
        self._answers.clear()
        self._wake_receivers()
        self._window.release()  # wakes one; each passes it on

    def _check_open(self) -> None:
        if self._ended is not None:
            raise self._ended

    # --- the port

    async def publish(self, topic: str, payload: bytes) -> None:
        self._check_open()
        packet_bytes = len(payload) + len(topic.encode()) + _PUBLISH_OVERHEAD_BYTES
        if self._packet_bytes_max and packet_bytes > self._packet_bytes_max:
            raise failures.refused_publish(0x95, "", topic)
        await self._window.acquire()
        if self._ended is not None:
            self._window.release()
            raise self._ended
        has_room = not self._packet_bytes_max or (
            packet_bytes + _TOPIC_ALIAS_BYTES <= self._packet_bytes_max
        )
        said, alias = self._aliases.said(topic) if has_room else (topic, None)
        info = self._paho.publish(said, payload, qos=1, properties=_with_alias(alias))
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._end(failures.lost(None, self._settings))
            self._check_open()
        await self._answer(info.mid, topic)
        if alias is not None:
            self._aliases.acknowledged(alias)

    async def subscribe(self, filters: Sequence[str]) -> None:
        await self._subscribe([(f, 1) for f in filters], ", ".join(filters))

    async def overhear(self, filters: Sequence[str]) -> int:
        """Subscribe as one who looks on: messages as they were sent; return the QoS the broker grants.

        In MQTT 5 they come with the retain flag of their publisher, and what the broker had kept from before
        does not come. In 3.1.1 a retain flag says just that: the broker had kept it. Raises TransportError.
        """
        if self._settings.protocol != "5":
            wanted: _Wanted = [(f, 1) for f in filters]
        else:
            options = SubscribeOptions(
                qos=1,
                retainAsPublished=True,
                retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND,
            )
            wanted = [(f, options) for f in filters]
        return await self._subscribe(wanted, ", ".join(filters))

    async def _subscribe(self, wanted: _Wanted, about: str) -> int:
        """Subscribe; return the lowest QoS that was granted."""
        self._check_open()
        _, mid = self._paho.subscribe(wanted)
        if mid is None:
            self._end(failures.lost(None, self._settings))
            self._check_open()
            return 0
        self._subscribing += 1
        if self._paused:
            self._resume()
        try:
            return await self._answer(mid, about)
        finally:
            self._subscribing -= 1

    async def receive(self, at_most: int) -> Sequence[Delivery]:
        while not self._queue:
            self._check_open()
            receiver = self._loop.create_future()
            self._receivers.append(receiver)
            try:
                await receiver
            finally:
                with contextlib.suppress(ValueError):
                    self._receivers.remove(receiver)
        # What is still queued when the connection ends cannot be acknowledged any more.
        self._check_open()
        return self._take(at_most)

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        if self._ended is not None:
            return
        # In one piece, past paho, which makes and sends each for itself in 2 µs; it keeps nothing of them, and
        # what it has sent has left it, for the wire takes everything. A packet id of 0: published at QoS 0 by
        # a sender who ignores the profile, and nothing to acknowledge.
        packets = [
            _PUBACK + delivery.packet_id.to_bytes(2, "big")
            for delivery in deliveries
            if delivery.epoch == self.epoch and delivery.packet_id
        ]
        if packets and self._wire.is_open:
            self._wire.send(b"".join(packets))

    def _take(self, at_most: int) -> Sequence[Delivery]:
        queue = self._queue
        taken = [queue.popleft() for _ in range(min(at_most, len(queue)))]
        self._queued_bytes -= sum(len(each.payload) + len(each.topic) for each in taken)
        if queue:
            self._wake_receivers()
        if (
            self._paused
            and len(queue) <= self._limits.queued_messages_max // 2
            and self._queued_bytes <= self._limits.queued_bytes_max // 2
        ):
            self._resume()
        return taken

    def _wake_receivers(self) -> None:
        while self._receivers:
            receiver = self._receivers.popleft()
            if not receiver.done():
                receiver.set_result(None)

    async def _answer(self, packet_id: int, about: str) -> int:
        answer = _Answer(
            self._loop.create_future(), about, self._loop.time() + self._limits.answer_timeout_s
        )
        self._answers[packet_id] = answer
        return await answer.future

    # --- reading

    def _read(self) -> None:
        """Read what has arrived, packet by packet, until the queue is full."""
        loop_read, wire = self._paho.loop_read, self._wire
        while wire.has_unread and not self._paused:
            if self._past_paho:
                deliveries, nbytes = read_publishes(wire.unread, self.epoch, _READ_AT_ONCE_MAX)
                wire.skip(nbytes)
                if deliveries:
                    self._enqueue(deliveries)
                    continue
                if not self._next_is_whole():
                    return
            if loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return  # on_disconnect has said why

    def _next_is_whole(self) -> bool:
        """Return whether all of the next packet is there: of a half paho keeps, the rest could look like a PUBLISH.

        What is waited for is bounded: a broker that sends more than it was asked for is left.
        """
        unread = self._wire.unread
        nbytes = packet_bytes(unread)
        if nbytes is not None and nbytes > PACKET_BYTES_MAX:
            self._end(failures.oversize(nbytes, PACKET_BYTES_MAX, self._settings))
            return False
        return nbytes is not None and nbytes <= len(unread)

    def _pause(self) -> None:
        self._paused = True
        self._wire.pause()

    def _resume(self) -> None:
        self._paused = False
        self._pinged_s = None  # its answer may be in what we did not read
        self._read()
        if not self._paused:
            self._wire.resume()

    # --- what paho calls

    def _on_connect(
        self,
        _client: paho.Client,
        _userdata: object,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.value >= _FAILURE:
            self._end(failures.refused_connect(reason.value, str(reason), self._settings))
            return
        self.resumed = bool(flags.session_present)
        if properties is not None:
            self._heed(properties)
        if not self._connected.done():
            self._connected.set_result(None)

    def _heed(self, properties: Properties) -> None:
        """Keep the limits an MQTT 5 broker sets in its CONNACK."""
        self._keepalive_s = float(getattr(properties, "ServerKeepAlive", self._keepalive_s))
        self._packet_bytes_max = int(getattr(properties, "MaximumPacketSize", 0))
        window = int(getattr(properties, "ReceiveMaximum", self._limits.publish_window_max))
        self._window = asyncio.Semaphore(min(window, self._limits.publish_window_max))
        self._aliases = TopicAliases(int(getattr(properties, "TopicAliasMaximum", 0)))

    def _on_message(
        self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage
    ) -> None:
        payload = bytes(message.payload)
        self._enqueue([Delivery(_topic(message), payload, message.retain, message.mid, self.epoch)])

    def _enqueue(self, deliveries: Sequence[Delivery]) -> None:
        self._queue.extend(deliveries)
        self._queued_bytes += sum(len(each.payload) + len(each.topic) for each in deliveries)
        if self._receivers:
            self._wake_receivers()
        if self._is_full():
            self._pause()

    def _is_full(self) -> bool:
        if self._subscribing:
            return self._queued_bytes >= self._limits.queued_bytes_before_suback_max
        return (
            len(self._queue) >= self._limits.queued_messages_max
            or self._queued_bytes >= self._limits.queued_bytes_max
        )

    def _on_publish(
        self,
        _client: paho.Client,
        _userdata: object,
        packet_id: int,
        reason: ReasonCode,
        _properties: Properties,
    ) -> None:
        self._window.release()
        answer = self._answers.pop(packet_id, None)
        if answer is None:
            return
        if reason.value >= _FAILURE:
            answer.fail(failures.refused_publish(reason.value, str(reason), answer.about))
        else:
            answer.succeed()

    def _on_subscribe(
        self,
        _client: paho.Client,
        _userdata: object,
        packet_id: int,
        reasons: list[ReasonCode],
        _properties: Properties,
    ) -> None:
        answer = self._answers.pop(packet_id, None)
        if answer is None:
            return
        refused = [str(reason) for reason in reasons if reason.value >= _FAILURE]
        if refused:
            answer.fail(failures.refused_subscription(refused[0], answer.about))
        else:
            answer.succeed(min(reason.value for reason in reasons))

    def _on_disconnect(
        self,
        _client: paho.Client,
        _userdata: object,
        flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._end(failures.disconnected(reason.value, str(reason), self._settings))
        elif reason.value == failures.PROTOCOL_ERROR:
            self._end(failures.not_mqtt(self._settings))
        else:
            self._end(failures.lost(None, self._settings))

    # --- what the wire and the clock call

    def _on_lost(self, error: Exception | None) -> None:
        if not self._connected.done() and not isinstance(error, ssl.SSLError):
            self._end(failures.no_connack(self._settings))
        else:
            self._end(failures.lost(error, self._settings))

    def _tick(self) -> None:
        if self._ended is not None:
            return
        self._ticker = self._loop.call_later(self._limits.tick_s, self._tick)
        now_s = self._loop.time()
        self._keep_alive(now_s)
        self._give_up(now_s)

    def _keep_alive(self, now_s: float) -> None:
        """Ping when either side has been quiet; end when the broker does not answer.

        While we have paused, its answer would wait unread behind the messages: we ping for its sake,
        and do not judge.
        """
        wire, keepalive_s = self._wire, self._keepalive_s
        if not keepalive_s or not wire.is_open:
            return
        if self._paused:
            if now_s - wire.last_sent_s >= keepalive_s - self._limits.tick_s:
                wire.send(_PINGREQ)
            return
        if self._pinged_s is not None and wire.last_received_s >= self._pinged_s:
            self._pinged_s = None
        if self._pinged_s is None:
            if (
                now_s - min(wire.last_sent_s, wire.last_received_s)
                >= keepalive_s - self._limits.tick_s
            ):
                self._pinged_s = now_s
                wire.send(_PINGREQ)
        elif now_s - self._pinged_s >= keepalive_s:
            self._end(failures.silent(now_s - wire.last_received_s, self._settings))

    def _give_up(self, now_s: float) -> None:
        """End the waits that are overdue; they are in order, so only the first need be looked at."""
        while self._answers:
            packet_id, answer = next(iter(self._answers.items()))
            if answer.due_s > now_s:
                return
            del self._answers[packet_id]
            answer.fail(failures.unanswered(self._limits.answer_timeout_s, answer.about))


class _Answer:
    """A wait for PUBACK, or for SUBACK and the QoS it grants."""

    __slots__ = ("about", "due_s", "future")

    def __init__(self, future: asyncio.Future[int], about: str, due_s: float) -> None:
        self.future = future
        self.about = about
        self.due_s = due_s

    def succeed(self, granted: int = 0) -> None:
        if not self.future.done():
            self.future.set_result(granted)

    def fail(self, reason: TransportError) -> None:
        if not self.future.done():
            self.future.set_exception(reason)


def _with_alias(alias: int | None) -> Properties | None:
    if alias is None:
        return None
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's
    properties.TopicAlias = alias
    return properties


def _topic(message: paho.MQTTMessage) -> str:
    try:
        return message.topic
    except UnicodeDecodeError:
        # A broker has to refuse such a topic. Should one not, the head-end gets to reject it: ending
        # the connection instead would have it redelivered for ever.
        return message._topic.decode(errors="replace")


def _password(settings: BrokerSettings) -> str | None:
    """Read the password anew at every connection, so that it can be changed under way."""
    if settings.password_file is None:
        return None
    try:
        content = Path(settings.password_file).read_bytes()
        if len(content) > _PASSWORD_BYTES_MAX:
            raise ValueError(f"it has {len(content)} bytes: is it the right file?")
        return content.decode().rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise failures.unusable_file("password_file", settings.password_file, error) from None


def _obeys_the_port(connection: MqttConnection) -> Connection:
    return connection
