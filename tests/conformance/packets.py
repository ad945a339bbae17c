"""MQTT packets as bytes, written by hand after the standard; paho writes them too, see test_mqtt_packets."""


def number(value: int) -> bytes:
    """Write a variable byte integer."""
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def text(value: str) -> bytes:
    return len(value.encode()).to_bytes(2, "big") + value.encode()


def packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + number(len(body)) + body


def connect(
    client_id: str = "pole-1",
    *,
    level: int = 4,
    flags: int = 0x02,
    keep_alive_s: int = 60,
    after: bytes = b"",
    properties: bytes = b"",
) -> bytes:
    """``after`` is what follows the client's name: will, user name, password."""
    head = text("MQTT") + bytes((level, flags)) + keep_alive_s.to_bytes(2, "big")
    if level == 5:
        head += number(len(properties)) + properties
    return packet(0x10, head + text(client_id) + after)


def publish(
    topic: str,
    payload: bytes,
    *,
    qos: int = 1,
    retain: bool = False,
    dup: bool = False,
    packet_id: int = 7,
    properties: bytes | None = None,
) -> bytes:
    """With ``properties``, even empty ones, it is a packet of MQTT 5."""
    body = text(topic)
    if qos:
        body += packet_id.to_bytes(2, "big")
    if properties is not None:
        body += number(len(properties)) + properties
    return packet(0x30 | dup << 3 | qos << 1 | retain, body + payload)


def subscribe(*filters: tuple[str, int], properties: bytes | None = None) -> bytes:
    body = (1).to_bytes(2, "big")
    if properties is not None:
        body += number(len(properties)) + properties
    return packet(0x82, body + b"".join(text(f) + bytes((qos,)) for f, qos in filters))


PUBACK = packet(0x40, b"\x00\x07")
CONNACK = packet(0x20, b"\x00\x00")
CONNACK_5 = packet(0x20, b"\x00\x00\x00")
PINGREQ = packet(0xC0, b"")
DISCONNECT = packet(0xE0, b"")
