"""MQTT 3.1.1 and 5, read from bytes, no deeper than a judge of the profile has to look (sans IO).

The broker is the judge of MQTT itself; here a packet is cut out of the stream and those of its fields are
read that the profile speaks of, or that tell one message from the next. A packet is handed over with its
bytes as they came, so that whoever passes it on need not write it anew.

Two directions of one connection are two readers: only the client's CONNECT says which MQTT is spoken, and
without that a PUBLISH cannot be read (OASIS MQTT 3.1.1 and 5.0; section numbers below are of 5.0).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

# Sixteen of the profile's largest messages: what is larger is no message, and is not waited for.
PACKET_BYTES_MAX: Final = 1024 * 1024
# MQTT 5 topic aliases of a connection: as many as docs/bandwidth.md advises an operator's broker to take. The kit's
# broker is told this number: with its own ten, a pole of more meters is seen to send more than it will.
TOPIC_ALIASES_MAX: Final = 100
# What their topics may hold together: nearly three times as many of the profile's longest (222), or one of MQTT's.
TOPIC_ALIASES_CHARS_MAX: Final = 64 * 1024
# A gateway of five hundred meters that names every command topic by itself, twice.
FILTERS_MAX: Final = 1_000

_LENGTH_BYTES_MAX = 4  # 1.5.5: a variable byte integer
_V5 = 5
# 3.1.2.1: name and level, and what people call it.
_PROTOCOLS: Final[Mapping[tuple[str, int], str]] = {
    ("MQIsdp", 3): "3.1",
    ("MQTT", 4): "3.1.1",
    ("MQTT", 5): "5",
}


class PacketError(ValueError):
    """The bytes are not MQTT, or more than is read; the message says what is wrong with them."""


class Kind(IntEnum):
    """What a packet is: the upper half of its first byte (2.1.2)."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


@dataclass(frozen=True, slots=True)
class Connect:
    """A client introduces itself. ``level`` is MQTT's own number for ``protocol``: 3, 4 or 5."""

    client_id: str
    protocol: str
    level: int
    clean: bool
    keep_alive_s: int
    will_topic: str | None
    username: str | None
    password: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class ConnAck:
    """The broker's answer; 0 lets the client in."""

    session_present: bool
    code: int


@dataclass(frozen=True, slots=True)
class Publish:
    """A message; ``packet_id`` is None at QoS 0."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    packet_id: int | None


@dataclass(frozen=True, slots=True)
class PubAck:
    """A message at QoS 1 was taken; a code of 0x80 or more says that it was not (MQTT 5)."""

    packet_id: int
    code: int


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A client asks for topics, each filter with its QoS."""

    filters: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The end, announced: 0 is a goodbye; 4 one that wants the will published (MQTT 5)."""

    code: int


@dataclass(frozen=True, slots=True)
class Other:
    """A packet nothing is asked of."""

    kind: Kind


Packet = Connect | ConnAck | Publish | PubAck | Subscribe | Disconnect | Other


@dataclass(frozen=True, slots=True)
class Framed:
    """A packet, and its bytes as they came."""

    packet: Packet
    raw: bytes


class PacketReader:
    """Cuts one direction of a connection into packets.

    Without a ``level`` it reads a client, who has to begin with CONNECT and says there which MQTT it speaks;
    with one it reads a broker.
    """

    def __init__(self, level: int | None = None) -> None:
        self.level = level
        self._buffer = bytearray()
        self._topics: dict[int, str] = {}

    @property
    def pending_bytes(self) -> int:
        """How many bytes wait for the rest of their packet; never more than PACKET_BYTES_MAX and a read."""
        return len(self._buffer)

    def read(self, data: bytes) -> Iterator[Framed]:
        """Yield each packet that is whole now. Raises PacketError, after those that came before the fault."""
        self._buffer += data
        while (size := _size(self._buffer)) is not None and size[0] + size[1] <= len(self._buffer):
            head, body = size
            raw = bytes(self._buffer[: head + body])
            del self._buffer[: head + body]
            yield Framed(self._packet(raw[0], raw[head:]), raw)

    def _packet(self, first: int, body: bytes) -> Packet:
        try:
            kind = Kind(first >> 4)
        except ValueError:
            raise PacketError("a packet of type 0, which MQTT does not have") from None
        if (self.level is None) != (kind is Kind.CONNECT):
            raise PacketError(f"{kind.name} where {_due(self.level)}")
        fields = _Fields(body)
        match kind:
            case Kind.CONNECT:
                connect = _connect(fields)
                self.level = connect.level
                return connect
            case Kind.PUBLISH:
                return self._publish(first & 0x0F, fields)
            case Kind.SUBSCRIBE:
                return _subscribe(fields, self._speaks_5)
            case Kind.CONNACK:
                return ConnAck(bool(fields.byte() & 1), fields.byte())
            case Kind.PUBACK:
                return PubAck(fields.short(), fields.byte() if fields.left else 0)
            case Kind.DISCONNECT:
                return Disconnect(fields.byte() if fields.left else 0)
            case _:
                return Other(kind)

    @property
    def _speaks_5(self) -> bool:
        return self.level == _V5

    def _publish(self, flags: int, fields: "_Fields") -> Publish:
        qos = flags >> 1 & 3
        if qos == 3:
            raise PacketError("PUBLISH with QoS 3, which MQTT does not have")
        topic = fields.text()
        packet_id = fields.short() if qos else None
        if packet_id == 0:
            raise PacketError("PUBLISH with packet id 0, which means none")
        if self._speaks_5:
            topic = self._aliased(topic, _topic_alias(fields.properties()))
        if not topic:
            raise PacketError("PUBLISH without a topic")
        return Publish(topic, fields.rest(), qos, bool(flags & 1), bool(flags & 8), packet_id)

    def _aliased(self, topic: str, alias: int | None) -> str:
        """Return the topic a number stands for, and learn the number (3.3.2.3.4)."""
        if alias is None:
            return topic
        if not topic:
            if alias not in self._topics:
                raise PacketError(f"topic alias {alias} is used and was never given")
            return self._topics[alias]
        if not 0 < alias <= TOPIC_ALIASES_MAX:
            raise PacketError(f"topic alias {alias}: at most {TOPIC_ALIASES_MAX} are granted")
        self._topics[alias] = topic
        if sum(map(len, self._topics.values())) > TOPIC_ALIASES_CHARS_MAX:
            raise PacketError(
                f"topic aliases for more than {TOPIC_ALIASES_CHARS_MAX:,} characters of topics"
            )
        return topic


def _due(level: int | None) -> str:
    return "CONNECT has to be the first packet" if level is None else "CONNECT was already sent"


def _size(buffer: bytearray) -> tuple[int, int] | None:
    """Return the length of a packet's head and of its body; None while the head is not there."""
    length = 0
    for place in range(_LENGTH_BYTES_MAX):
        if place + 1 >= len(buffer):
            return None
        byte = buffer[place + 1]
        length |= (byte & 0x7F) << 7 * place
        if not byte & 0x80:
            head = place + 2
            if head + length > PACKET_BYTES_MAX:
                raise PacketError(
                    f"a packet of {head + length:,} bytes; at most {PACKET_BYTES_MAX:,} are read"
                )
            return head, length
    raise PacketError("the length of a packet has more than four bytes: this is not MQTT")


def _connect(fields: "_Fields") -> Connect:
    name, level = fields.text(), fields.byte()
    protocol = _PROTOCOLS.get((name, level))
    if protocol is None:
        raise PacketError(f"CONNECT speaks {name[:16]!r} level {level}; MQTT 3.1.1 or 5 is read")
    flags, keep_alive_s = fields.byte(), fields.short()
    if level == _V5:
        fields.properties()
    client_id = fields.text()
    will_topic = None
    if flags & 0x04:
        if level == _V5:
            fields.properties()
        will_topic = fields.text()
        fields.binary()
    username = fields.text() if flags & 0x80 else None
    password = fields.binary() if flags & 0x40 else None
    return Connect(
        client_id, protocol, level, bool(flags & 0x02), keep_alive_s, will_topic, username, password
    )


def _subscribe(fields: "_Fields", speaks_5: bool) -> Subscribe:
    fields.short()
    if speaks_5:
        fields.properties()
    filters: list[tuple[str, int]] = []
    while fields.left:
        if len(filters) == FILTERS_MAX:
            raise PacketError(f"SUBSCRIBE with more than {FILTERS_MAX:,} filters")
        filters.append((fields.text(), fields.byte() & 3))
    if not filters:
        raise PacketError("SUBSCRIBE without a filter")
    return Subscribe(tuple(filters))


class _Fields:
    """The body of a packet, read from its beginning; what is missing is a PacketError."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._body) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise PacketError(f"a packet ends {count - self.left} bytes before its last field")
        self._at += count
        return self._body[self._at - count : self._at]

    def byte(self) -> int:
        return self.take(1)[0]

    def short(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def binary(self) -> bytes:
        return self.take(self.short())

    def text(self) -> str:
        try:
            return self.binary().decode()
        except UnicodeDecodeError as error:
            raise PacketError(f"a string is not UTF-8: {error.reason}") from None

    def number(self) -> int:
        """Read a variable byte integer (1.5.5)."""
        value = 0
        for place in range(_LENGTH_BYTES_MAX):
            byte = self.byte()
            value |= (byte & 0x7F) << 7 * place
            if not byte & 0x80:
                return value
        raise PacketError("a number has more than four bytes")

    def properties(self) -> "_Fields":
        return _Fields(self.take(self.number()))

    def rest(self) -> bytes:
        return self.take(self.left)


_TOPIC_ALIAS = 0x23
# 2.2.2.2, those a PUBLISH may carry: how many bytes follow; None: a length and so many bytes.
_PUBLISH_PROPERTIES: Final[Mapping[int, int | None]] = {
    0x01: 1,  # payload format
    0x02: 4,  # message expiry
    0x03: None,  # content type
    0x08: None,  # response topic
    0x09: None,  # correlation data
    _TOPIC_ALIAS: 2,
}
_USER_PROPERTY = 0x26
_SUBSCRIPTION_IDENTIFIER = 0x0B


def _topic_alias(properties: "_Fields") -> int | None:
    alias = None
    while properties.left:
        name = properties.number()
        if name == _TOPIC_ALIAS:
            alias = properties.short()
        elif name == _USER_PROPERTY:
            properties.binary()
            properties.binary()
        elif name == _SUBSCRIPTION_IDENTIFIER:
            properties.number()
        elif name not in _PUBLISH_PROPERTIES:
            raise PacketError(f"PUBLISH with property {name:#04x}, which it cannot have")
        elif (size := _PUBLISH_PROPERTIES[name]) is None:
            properties.binary()
        else:
            properties.take(size)
    return alias


def refusal(level: int) -> bytes:
    """Return the CONNACK that says "not authorised", for MQTT of this level (3.2.2.2)."""
    if level == _V5:
        return bytes((Kind.CONNACK << 4, 3, 0, 0x87, 0))
    return bytes((Kind.CONNACK << 4, 2, 0, 5))
