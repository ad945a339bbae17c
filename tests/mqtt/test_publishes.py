"""PUBLISH packets read past paho: what is wholly there, in order, and nothing that is for paho to judge."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.mqtt.scripted import CONNACK_5, PINGRESP, Peer, publish_5, scripted_broker

from openami.mqtt import client
from openami.mqtt.client import MqttPort
from openami.mqtt.port import Delivery
from openami.mqtt.publishes import CAN_READ, packet_bytes, read_publishes

EPOCH = 3
AT_MOST = 1_000
# Payload format 1, expiry 60 s, and a user property "a" = "b": what a broker passes on from a publisher.
PASSED_ON = b"\x01\x01" + b"\x02\x00\x00\x00\x3c" + b"\x26\x00\x01a\x00\x01b"
# What mqtt5 says to a topic that is not UTF-8, beside the exception we catch.
PANICS = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
FOR_PAHO = {
    "another packet": PINGRESP,
    "of QoS 2": publish_5(b"a", b"x", 5, first=0x34),
    "of QoS 3": publish_5(b"a", b"x", 5, first=0x36),
    "by an alias": publish_5(b"", b"x", 5, properties=b"\x23\x00\x01"),
    "with an alias": publish_5(b"a", b"x", 5, properties=b"\x23\x00\x01"),
    "not UTF-8": publish_5(b"\xff\xfe", b"x", 5),
    "with a property that is none": publish_5(b"a", b"x", 5, properties=b"\x7f"),
    "too short": b"\x32\x01\x00",
    "with a length that is none": b"\x32\xff\xff\xff\xff\xff",
}

deliveries = st.builds(
    Delivery,
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0+#"), min_size=1),
    st.binary(max_size=300),
    st.booleans(),
    st.integers(0, 65_535),
    st.just(EPOCH),
)


def packet(delivery: Delivery, properties: bytes = b"") -> bytes:
    first = 0x30 | (0x02 if delivery.packet_id else 0) | delivery.retain
    return publish_5(
        delivery.topic.encode(),
        delivery.payload,
        delivery.packet_id,
        first=first,
        properties=properties,
    )


def test_it_is_installed() -> None:
    """All of this would pass over nothing otherwise: paho reads alone where it is not."""
    assert CAN_READ


@given(st.lists(deliveries, max_size=6), st.sampled_from([b"", PASSED_ON]), st.data())
def test_whatever_is_wholly_there_is_read_and_no_more(
    sent: list[Delivery], properties: bytes, data: st.DataObject
) -> None:
    packets = [packet(each, properties) for each in sent]
    whole = b"".join(packets)
    cut = data.draw(st.integers(0, len(whole)))
    number = max(n for n in range(len(sent) + 1) if len(b"".join(packets[:n])) <= cut)
    taken = len(b"".join(packets[:number]))
    assert read_publishes(memoryview(whole)[:cut], EPOCH, AT_MOST) == (sent[:number], taken)
    if taken < cut:
        nbytes = packet_bytes(memoryview(whole)[taken:cut])
        assert nbytes is None or nbytes == len(packets[number]) > cut - taken


@given(st.lists(deliveries, min_size=1, max_size=4), st.integers(1, 4))
def test_no_more_than_asked_for(sent: list[Delivery], at_most: int) -> None:
    unread = memoryview(b"".join(map(packet, sent)))
    assert read_publishes(unread, EPOCH, at_most)[0] == sent[:at_most]


@PANICS
@pytest.mark.parametrize("what", FOR_PAHO)
def test_it_stops_before_what_is_for_paho(what: str) -> None:
    before = packet(Delivery("a/b", b"x", False, 7, EPOCH))
    unread = memoryview(before + FOR_PAHO[what] + before)
    assert read_publishes(unread, EPOCH, AT_MOST)[1] == len(before)
    nbytes = packet_bytes(unread[len(before) :])
    assert nbytes is not None
    assert nbytes <= len(unread) - len(before)


@PANICS
@given(st.binary(min_size=1, max_size=40))
def test_any_bytes_are_read_or_left(unread: bytes) -> None:
    read, taken = read_publishes(memoryview(unread), EPOCH, AT_MOST)
    assert 2 * len(read) <= taken <= len(unread)


@pytest.mark.parametrize("past_paho", [True, False])
async def test_a_connection_tells_the_same_with_it_and_without(
    monkeypatch: pytest.MonkeyPatch, past_paho: bool
) -> None:
    monkeypatch.setattr(client, "CAN_READ", past_paho)
    wanted = [Delivery(f"openami/{n}", b"x" * n * 7, n % 3 == 0, n, 1) for n in range(300)]
    between = PINGRESP + b"\x40\x02\x32\x00"

    async def send(peer: Peer) -> None:
        await peer.packet()
        whole = CONNACK_5 + between.join(packet(each, PASSED_ON) for each in wanted)
        for start in range(0, len(whole), 1_499):
            await peer.send(whole[start : start + 1_499])
            await asyncio.sleep(0)
        await peer.until_closed()

    told: list[Delivery] = []
    async with scripted_broker(send, "5") as settings, MqttPort(settings).connect() as connection:
        while len(told) < len(wanted):
            told += await asyncio.wait_for(connection.receive(50), 5)
    assert told == wanted
