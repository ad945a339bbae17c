"""Topic aliases of MQTT 5: never more than the broker takes, never under a name it may not know."""

import asyncio
import contextlib
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import StartMosquitto
from tests.mqtt.scripted import CONNACK_5, Peer, connack_5, scripted_broker

from openami.mqtt.client import MqttPort
from openami.mqtt.port import Connection, PublishRefused, TransportError
from openami.mqtt.settings import BrokerSettings
from openami.mqtt.topic_aliases import TopicAliases

TOPIC = "openami/v1/feeder-1/pole-1/meter/{}/telemetry"
NOT_AUTHORISED = 0x87
# Topic Alias (MQTT 5.0 §3.3.2.3.4) and, in CONNACK, Topic Alias Maximum (§3.2.2.3.8).
TOPIC_ALIAS, TOPIC_ALIAS_MAXIMUM = 0x23, 0x22


@given(
    at_most=st.integers(0, 4),
    said=st.lists(st.tuples(st.sampled_from("abcdefg"), st.booleans()), max_size=40),
)
def test_a_broker_that_keeps_only_what_it_acknowledged_understands_everything(
    at_most: int, said: list[tuple[str, bool]]
) -> None:
    aliases, kept = TopicAliases(at_most), dict[int, str]()
    for topic, is_taken in said:
        spoken, alias = aliases.said(topic)
        assert alias is None or 1 <= alias <= at_most
        if spoken:
            assert spoken == topic
        else:
            assert alias is not None
            assert kept[alias] == topic
        if is_taken and alias is not None:
            kept[alias] = topic
            aliases.acknowledged(alias)


class Heard:
    """A broker that says how many aliases it takes, and notes what each message called its topic."""

    def __init__(self, connack: bytes, *, refused: str = "") -> None:
        self._connack = connack
        self._refused = refused.encode()
        self.topics: dict[int, list[tuple[str, int | None]]] = defaultdict(list)
        """By connection: each message's topic as it was sent, and its alias."""
        self._connections = 0

    async def serve(self, peer: Peer) -> None:
        self._connections += 1
        heard = self.topics[self._connections]
        await peer.packet()
        await peer.send(self._connack)
        while True:
            first, body = await peer.packet()
            if first >> 4 != 3:
                return
            length = int.from_bytes(body[:2], "big")
            topic, rest = body[2 : 2 + length], body[2 + length :]
            packet_id, properties = rest[:2], rest[3 : 3 + rest[2]]
            alias = None
            if properties:
                assert properties[0] == TOPIC_ALIAS
                alias = int.from_bytes(properties[1:3], "big")
            heard.append((topic.decode(), alias))
            if topic and topic == self._refused:
                await peer.send(b"\x40\x04" + packet_id + bytes([NOT_AUTHORISED, 0]))
            else:
                await peer.send(b"\x40\x02" + packet_id)


async def say(settings: BrokerSettings, *topics: str) -> None:
    async with MqttPort(settings).connect() as connection:
        for topic in topics:
            await publish(connection, topic)


async def publish(connection: Connection, topic: str) -> None:
    with contextlib.suppress(PublishRefused):
        await connection.publish(topic, b"x")


def offering(aliases: int) -> bytes:
    return connack_5(properties=bytes([TOPIC_ALIAS_MAXIMUM]) + aliases.to_bytes(2, "big"))


async def test_a_topic_is_said_once_and_then_by_its_alias_on_this_connection_only() -> None:
    broker = Heard(offering(2))
    async with scripted_broker(broker.serve, "5") as settings:
        await say(settings, "a", "b", "c", "a", "b", "c")
        await say(settings, "b", "b", "a")
    assert broker.topics[1] == [("a", 1), ("b", 2), ("c", None), ("", 1), ("", 2), ("c", None)]
    # The next connection knows nothing of them: what is sent again carries its topic.
    assert broker.topics[2] == [("b", 1), ("", 1), ("a", 2)]


async def test_without_an_offer_there_are_none() -> None:
    broker = Heard(CONNACK_5)
    async with scripted_broker(broker.serve, "5") as settings:
        await say(settings, "a", "a")
    assert broker.topics[1] == [("a", None), ("a", None)]


async def test_what_was_refused_is_said_in_full() -> None:
    broker = Heard(offering(2), refused="a")
    async with scripted_broker(broker.serve, "5") as settings:
        await say(settings, "a", "a", "b", "b")
    assert broker.topics[1] == [("a", 1), ("a", None), ("b", 2), ("", 2)]


async def test_what_is_under_way_beside_the_first_is_said_in_full() -> None:
    broker = Heard(offering(1))
    async with (
        scripted_broker(broker.serve, "5") as settings,
        MqttPort(settings).connect() as connection,
    ):
        await asyncio.gather(*(connection.publish("a", b"x") for _ in range(3)))
        await connection.publish("a", b"x")
    assert broker.topics[1] == [("a", 1), ("a", None), ("a", None), ("", 1)]


async def test_a_message_that_was_lost_with_its_connection_carries_its_topic_on_the_next() -> None:
    """The one message that may not rely on an alias: the first time it was sent under one."""
    heard: list[bytes] = []

    async def serve(peer: Peer) -> None:
        await peer.packet()
        await peer.send(offering(10))
        _, body = await peer.packet()
        heard.append(body)
        await peer.send(b"\x40\x02" + body[2 + body[1] :][:2])
        _, body = await peer.packet()
        heard.append(body)  # and no answer: the link is gone

    async with scripted_broker(serve, "5") as settings:
        port = MqttPort(settings)
        async with port.connect() as connection:
            await connection.publish("a", b"1")
            with pytest.raises(TransportError):
                await connection.publish("a", b"2")
        async with port.connect() as connection:
            await connection.publish("a", b"2")
    before, lost, again = heard[0], heard[1], heard[2]
    assert lost[:2] == b"\0\0"
    assert before[:3] == again[:3] == b"\0\x01a"
    assert again.endswith(b"2")


@pytest.mark.broker
@pytest.mark.parametrize("offered", [0, 1, 10])
async def test_mosquitto_is_spoken_to_in_as_many_aliases_as_it_says(
    mosquitto: StartMosquitto, offered: int
) -> None:
    """Its listener refuses more: ten meters, each told three times, all come."""
    broker = mosquitto(f"max_topic_alias {offered}")
    listener = BrokerSettings(url=broker.url, client_id="hes")
    sender = BrokerSettings(url=broker.url, client_id="pole-1")
    topics = [TOPIC.format(f"m-{n}") for n in range(10)] * 3
    async with MqttPort(listener).connect() as hes, MqttPort(sender).connect() as gateway:
        await hes.subscribe([TOPIC.format("+")])
        for topic in topics:
            await gateway.publish(topic, b"")
        came: list[str] = []
        while len(came) < len(topics):
            deliveries = await hes.receive(100)
            hes.acknowledge(deliveries)
            came += [each.topic for each in deliveries]
    assert came == topics
