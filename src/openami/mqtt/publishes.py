"""A broker's PUBLISH packets, read by mqtt5 (a library in Rust) where it is installed, and by paho otherwise.

paho takes 10 µs for a PUBLISH, a fifth of what a message costs a head-end; mqtt5 takes half of one (decision 0079).
It knows MQTT 5 only, and of that the packets: the connection and every other packet stay with paho, and so does a
PUBLISH that a broker should not have sent.
"""

from typing import Final

from openami.mqtt.port import Delivery

try:
    import mqtt5
except ImportError:  # there is no wheel for every processor
    mqtt5 = None  # type: ignore[assignment]

CAN_READ: Final = mqtt5 is not None

# A length of more bytes is no MQTT (MQTT 5, 1.5.5).
_LENGTH_BYTES_MAX: Final = 4


def read_publishes(unread: memoryview, epoch: int, at_most: int) -> tuple[list[Delivery], int]:
    """Return the messages that bytes of MQTT 5 begin with, and how many bytes those took.

    It ends before whatever is not all there, is another packet, or is a PUBLISH for paho to judge: with QoS 2, with
    a topic alias (we allow none) or malformed.
    """
    read, publish, exactly_once = mqtt5.read, mqtt5.PublishPacket, mqtt5.QoS.EXACTLY_ONCE
    deliveries: list[Delivery] = []
    position = 0
    while len(deliveries) < at_most:
        try:
            packet, size = read(unread[position:])
        except (IndexError, ValueError):
            break
        except BaseException as error:  # Rust's panic is no Exception, and has only its name
            if type(error).__name__ == "PanicException":  # at a topic that is not UTF-8
                break
            raise
        if not isinstance(packet, publish):
            break
        if packet.qos == exactly_once or packet.topic_alias:
            break
        deliveries.append(
            Delivery(packet.topic, packet.payload, packet.retain, packet.packet_id or 0, epoch)
        )
        position += size
    return deliveries, position


def packet_bytes(unread: memoryview) -> int | None:
    """Return how many bytes the packet takes that these begin with: None while untold, 0 where it is no MQTT."""
    length = 0
    for number, byte in enumerate(unread[1 : 1 + _LENGTH_BYTES_MAX]):
        length |= (byte & 0x7F) << (7 * number)
        if byte < 0x80:
            return 2 + number + length
    return 0 if len(unread) > _LENGTH_BYTES_MAX else None
