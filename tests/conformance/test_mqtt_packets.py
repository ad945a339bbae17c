"""The reader of MQTT packets: what it reads, where it refuses, and every packet cut at every byte."""

from collections.abc import Sequence

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from tests.conformance.packets import (
    CONNACK,
    CONNACK_5,
    DISCONNECT,
    PINGREQ,
    PUBACK,
    connect,
    number,
    packet,
    publish,
    subscribe,
    text,
)

from openami.conformance.mqtt_packets import (
    FILTERS_MAX,
    PACKET_BYTES_MAX,
    TOPIC_ALIASES_MAX,
    ConnAck,
    Connect,
    Disconnect,
    Framed,
    Kind,
    Other,
    Packet,
    PacketError,
    PacketReader,
    PubAck,
    Publish,
    Subscribe,
    refusal,
)

TOPIC = "openami/v1/f/g/meter/M-1/telemetry"
ALIAS = b"\x23\x00\x05"
USER = b"\x26" + text("made by") + text("a vendor")


def read(*chunks: bytes, level: int | None = 4) -> list[Packet]:
    reader = PacketReader(level)
    return [framed.packet for chunk in chunks for framed in reader.read(chunk)]


def test_a_client_of_3_1_1_introduces_itself() -> None:
    will = text("openami/v1/f/g/meter/g/event") + b"\x00\x02{}"
    who = text("anna") + b"\x00\x06secret"
    [seen] = read(connect(flags=0xC6, after=will + who), level=None)
    assert seen == Connect(
        "pole-1", "3.1.1", 4, True, 60, "openami/v1/f/g/meter/g/event", "anna", b"secret"
    )
    assert "secret" not in repr(seen)


def test_a_client_of_5_introduces_itself_whatever_its_properties() -> None:
    will = number(5) + b"\x18\x00\x00\x00\x09" + text("away") + b"\x00\x01x"
    expiry = b"\x11\x00\x00\x00\x3c"
    [seen] = read(connect(level=5, flags=0x04, after=will, properties=expiry), level=None)
    assert seen == Connect("pole-1", "5", 5, False, 60, "away", None, None)


@pytest.mark.parametrize(
    ("qos", "retain", "dup"),
    [(0, False, False), (1, False, True), (1, True, False), (2, True, True)],
)
def test_a_message_is_read_with_its_flags(qos: int, retain: bool, dup: bool) -> None:
    raw = publish(TOPIC, b"{}", qos=qos, retain=retain, dup=dup)
    [framed] = PacketReader(4).read(raw)
    assert framed == Framed(Publish(TOPIC, b"{}", qos, retain, dup, 7 if qos else None), raw)


def test_a_topic_that_became_a_number_is_still_the_topic() -> None:
    first = publish(TOPIC, b"1", properties=USER + ALIAS)
    second = publish("", b"2", properties=ALIAS)
    assert [p.topic for p in read(first, second, level=5) if isinstance(p, Publish)] == [TOPIC] * 2


def test_the_other_packets_a_judge_looks_at() -> None:
    assert read(subscribe(("a/+", 1), ("b/#", 2))) == [Subscribe((("a/+", 1), ("b/#", 2)))]
    assert read(subscribe(("a", 1), properties=b""), level=5) == [Subscribe((("a", 1),))]
    assert read(PUBACK) == [PubAck(7, 0)]
    assert read(packet(0x40, b"\x00\x07\x87"), level=5) == [PubAck(7, 0x87)]
    assert read(CONNACK) == [ConnAck(session_present=False, code=0)]
    assert read(packet(0x20, b"\x01\x05")) == [ConnAck(session_present=True, code=5)]
    assert read(PINGREQ, DISCONNECT) == [Other(Kind.PINGREQ), Disconnect(0)]
    assert read(packet(0xE0, b"\x04"), level=5) == [Disconnect(4)]


WHOLE: Sequence[tuple[int | None, bytes]] = [
    (None, connect(flags=0xC6, after=text("w") + b"\x00\x01x" + text("u") + b"\x00\x01p")),
    (None, connect(level=5, properties=b"\x21\x00\x0a")),
    (4, publish(TOPIC, b"")),
    (5, publish(TOPIC, b"", properties=USER + ALIAS + b"\x01\x01\x0b\x07")),
    (4, subscribe(("a/+", 1), ("b", 0))),
    (5, subscribe(("a/+", 1), properties=b"")),
    (4, PUBACK),
    (4, CONNACK),
    (5, CONNACK_5),
]


@pytest.mark.parametrize(("level", "raw"), WHOLE)
def test_a_packet_in_pieces_is_the_packet_whole(level: int | None, raw: bytes) -> None:
    whole = read(raw, level=level)
    assert len(whole) == 1
    for cut in range(len(raw)):
        assert read(raw[:cut], level=level) == []
        assert read(raw[:cut], raw[cut:], level=level) == whole
    assert read(*(raw[i : i + 1] for i in range(len(raw))), level=level) == whole


@pytest.mark.parametrize(("level", "raw"), WHOLE)
def test_a_packet_that_ends_too_early_is_refused_at_every_byte(
    level: int | None, raw: bytes
) -> None:
    """The length says it is whole, and a field is missing: never an index error, never a wrong value."""
    body = raw[2:]
    assert len(raw) < 130
    for cut in range(len(body)):
        try:
            shorter = read(packet(raw[0], body[:cut]), level=level)
        except PacketError:
            continue
        # What may be left out at the end, and is: the payload, further filters, a reason code.
        [left] = shorter
        assert isinstance(left, Publish | Subscribe | PubAck | ConnAck)
        assert left != read(raw, level=level)[0] or isinstance(left, PubAck | ConnAck)


@pytest.mark.parametrize(
    ("level", "raw", "said"),
    [
        (None, PINGREQ, "CONNECT has to be the first"),
        (4, connect(), "CONNECT was already sent"),
        (None, connect(level=6), "level 6"),
        (None, packet(0x10, text("HTTP") + b"\x04\x02\x00\x3c"), "'HTTP'"),
        (4, packet(0x00, b""), "type 0"),
        (4, packet(0x36, text("t") + b"\x00\x01"), "QoS 3"),
        (4, publish("t", b"", packet_id=0), "packet id 0"),
        (4, publish("", b""), "without a topic"),
        (5, publish("", b"", properties=ALIAS), "never given"),
        (5, publish("t", b"", properties=b"\x23\x00\x00"), "topic alias 0"),
        (5, publish("t", b"", properties=b"\x11\x00\x00\x00\x01"), "property 0x11"),
        (4, packet(0x30, b"\x00\x02\xff\xff"), "not UTF-8"),
        (4, packet(0x82, b"\x00\x01"), "without a filter"),
        (4, b"\x30\xff\xff\xff\xff", "more than four bytes"),
        (5, packet(0x30, text("t") + b"\xff\xff\xff\xff"), "more than four bytes"),
    ],
)
def test_what_is_not_mqtt_is_refused_with_its_reason(
    level: int | None, raw: bytes, said: str
) -> None:
    with pytest.raises(PacketError, match=said):
        read(raw, level=level)


def test_what_came_before_the_fault_is_handed_over() -> None:
    packets = PacketReader(4).read(PUBACK + packet(0x00, b""))
    assert next(packets).packet == PubAck(7, 0)
    with pytest.raises(PacketError):
        next(packets)


def test_a_packet_may_be_so_large_and_one_byte_larger_is_refused_before_it_is_there() -> None:
    head = 1 + len(number(PACKET_BYTES_MAX - 5))
    largest = publish("t", bytes(PACKET_BYTES_MAX - head - 5))
    assert len(largest) == PACKET_BYTES_MAX
    assert len(read(largest)) == 1
    with pytest.raises(PacketError, match="1,048,577 bytes"):
        read(b"\x30" + number(PACKET_BYTES_MAX - head + 1))


FIRST = b"\x23\x00\x01"


def test_bounds_of_filters_and_aliases() -> None:
    assert len(read(subscribe(*[("a", 0)] * FILTERS_MAX))) == 1
    with pytest.raises(PacketError, match="filters"):
        read(subscribe(*[("a", 0)] * (FILTERS_MAX + 1)))
    last, beyond = (
        b"\x23" + n.to_bytes(2, "big") for n in (TOPIC_ALIASES_MAX, TOPIC_ALIASES_MAX + 1)
    )
    assert len(read(publish("t", b"", properties=last), level=5)) == 1
    with pytest.raises(PacketError, match="granted"):
        read(publish("t", b"", properties=beyond), level=5)
    longest = "t" * 65_535
    assert len(read(publish(longest, b"", properties=last), level=5)) == 1
    with pytest.raises(PacketError, match="65,536 characters of topics"):
        read(publish(longest, b"", properties=last), publish("tt", b"", properties=FIRST), level=5)


@given(st.binary(max_size=200), st.sampled_from([None, 4, 5]))
def test_any_bytes_are_packets_or_a_packet_error(data: bytes, level: int | None) -> None:
    reader = PacketReader(level)
    passed = b""
    try:
        for framed in reader.read(data):
            passed += framed.raw
    except PacketError:
        assert data.startswith(passed)
        return
    assert len(passed) + reader.pending_bytes == len(data)


@given(
    topic=st.text(st.characters(codec="utf-8"), min_size=1, max_size=50),
    payload=st.binary(max_size=300),
    qos=st.sampled_from([0, 1, 2]),
    retain=st.booleans(),
    dup=st.booleans(),
    packet_id=st.integers(1, 65535),
    level=st.sampled_from([4, 5]),
    cut=st.integers(0, 400),
)
def test_what_was_written_is_read(
    topic: str,
    payload: bytes,
    qos: int,
    retain: bool,
    dup: bool,
    packet_id: int,
    level: int,
    cut: int,
) -> None:
    raw = publish(
        topic,
        payload,
        qos=qos,
        retain=retain,
        dup=dup,
        packet_id=packet_id,
        properties=b"" if level == 5 else None,
    )
    expected = Publish(topic, payload, qos, retain, dup, packet_id if qos else None)
    assert read(raw[:cut], raw[cut:] + PINGREQ, level=level) == [expected, Other(Kind.PINGREQ)]


class _Paper:
    """A socket that only writes down."""

    def __init__(self) -> None:
        self.written = b""

    def send(self, buffer: bytes | bytearray) -> int:
        self.written += buffer
        return len(buffer)

    def recv(self, buffer_size: int) -> bytes:
        raise BlockingIOError

    def close(self) -> None: ...

    def fileno(self) -> int:
        return -1

    def setblocking(self, flag: bool) -> None: ...


class _Writer(paho.Client):
    def __init__(self, version: MQTTProtocolVersion, paper: _Paper) -> None:
        super().__init__(CallbackAPIVersion.VERSION2, client_id="pole-1", protocol=version)
        self._paper = paper

    def _create_socket(self) -> _Paper:
        return self._paper


@pytest.mark.parametrize("version", [MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5])
def test_what_another_library_writes_is_read(version: MQTTProtocolVersion) -> None:
    paper = _Paper()
    client = _Writer(version, paper)
    client.username_pw_set("anna", "secret")
    client.will_set("away", b"x", qos=1)
    properties: Properties | None = None
    if version == MQTTProtocolVersion.MQTTv5:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's
        properties.TopicAlias = 5
        properties.UserProperty = ("made by", "paho")
        properties.ContentType = "application/json"
    client.connect("nowhere", 1883, 45)
    client.subscribe([("a/+", 1), ("b/#", 0)])
    client.publish(TOPIC, b'{"ts":1}', qos=1, properties=properties)
    client.disconnect()

    hello, asked, message, *rest = read(paper.written, level=None)

    protocol = "5" if version == MQTTProtocolVersion.MQTTv5 else "3.1.1"
    assert isinstance(hello, Connect)
    assert (hello.protocol, hello.client_id, hello.keep_alive_s) == (protocol, "pole-1", 45)
    assert (hello.will_topic, hello.username, hello.password) == ("away", "anna", b"secret")
    assert asked == Subscribe((("a/+", 1), ("b/#", 0)))
    assert isinstance(message, Publish)
    assert (message.topic, message.payload, message.qos) == (TOPIC, b'{"ts":1}', 1)
    assert rest == [Disconnect(0)]


@pytest.mark.parametrize("level", [4, 5])
def test_the_refusal_is_one(level: int) -> None:
    [answer] = read(refusal(level), level=level)
    assert answer == ConnAck(session_present=False, code=0x87 if level == 5 else 5)
