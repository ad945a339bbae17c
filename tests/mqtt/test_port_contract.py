"""What every message port promises.

Over mosquitto with MQTT 5 and 3.1.1; the broker in memory; and that one over a simulated radio, undisturbed
and slow.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

import pytest
from tests.conftest import StartMosquitto
from tests.mosquitto import Mosquitto

from openami.mqtt.client import MqttPort
from openami.mqtt.memory import MemoryBroker
from openami.mqtt.port import Connection, Delivery, MessagePort, PublishRefused, TransportError
from openami.mqtt.settings import BrokerSettings
from openami.simulator.network import NO_FAULTS, Link, LinkFaults

TOPIC = "openami/v1/f/g/meter/{}/telemetry"
EVERYTHING = "openami/v1/+/+/meter/+/telemetry"
QUIET_S = 0.15  # long enough for a broker on this machine to deliver what it is going to deliver

Version = Literal["5", "3.1.1"]


class World(Protocol):
    """One kind of broker, with what a test does to it."""

    tells_refusals: bool

    def port(self, client_id: str) -> MessagePort: ...

    def stop(self) -> None: ...

    def start(self) -> None: ...


class RealWorld:
    """A mosquitto that allows `g` to write below its own topics only."""

    def __init__(self, broker: Mosquitto, version: Version) -> None:
        self._broker = broker
        self._version: Version = version
        self.tells_refusals = version == "5"

    def port(self, client_id: str) -> MessagePort:
        return MqttPort(
            BrokerSettings(url=self._broker.url, client_id=client_id, protocol=self._version)
        )

    def stop(self) -> None:
        self._broker.stop()

    def start(self) -> None:
        self._broker.start()


class MemoryWorld:
    """The same in memory."""

    tells_refusals = True

    def __init__(self, queued_messages_max: int) -> None:
        self._broker = MemoryBroker(
            queued_messages_max=queued_messages_max,
            allows=lambda _client_id, topic: not topic.startswith("forbidden/"),
        )

    def port(self, client_id: str) -> MessagePort:
        return self._broker.port(client_id)

    def stop(self) -> None:
        self._broker.stop()

    def start(self) -> None:
        self._broker.start()


class LinkedWorld(MemoryWorld):
    """The same over a radio."""

    def __init__(self, queued_messages_max: int, faults: LinkFaults) -> None:
        super().__init__(queued_messages_max)
        self._faults = faults

    def port(self, client_id: str) -> MessagePort:
        return Link(self._broker.port(client_id), random.Random(client_id), faults=self._faults)


SLOW = LinkFaults(latency_s=0.003, jitter_s=0.004, bytes_per_s=10_000_000)

MakeWorld = Callable[[int], World]


@pytest.fixture(params=["mqtt-5", "mqtt-3.1.1", "memory", "link", "slow-link"])
def make_world(
    request: pytest.FixtureRequest, mosquitto: StartMosquitto, tmp_path: Path
) -> MakeWorld:
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite openami/#\n")

    def make(queued_messages_max: int) -> World:
        if request.param == "memory":
            return MemoryWorld(queued_messages_max)
        if request.param in ("link", "slow-link"):
            faults = NO_FAULTS if request.param == "link" else SLOW
            return LinkedWorld(queued_messages_max, faults)
        broker = mosquitto(
            f"max_queued_messages {queued_messages_max}",
            "max_inflight_messages 1000",
            f"acl_file {acl}",
        )
        return RealWorld(broker, "5" if request.param == "mqtt-5" else "3.1.1")

    return make


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world(100_000)


async def take(connection: Connection, count: int) -> list[Delivery]:
    """Return exactly so many deliveries; fail when they do not come."""
    taken: list[Delivery] = []
    async with asyncio.timeout(10):
        while len(taken) < count:
            taken += await connection.receive(count - len(taken))
    return taken


async def assert_quiet(connection: Connection) -> None:
    """Nothing more comes."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(connection.receive(10), QUIET_S)


async def publish_all(connection: Connection, payloads: Sequence[bytes]) -> None:
    for payload in payloads:
        await connection.publish(TOPIC.format("m"), payload)


def numbers(count: int, start: int = 0) -> list[bytes]:
    return [str(n).encode() for n in range(start, start + count)]


async def test_what_is_published_arrives_as_it_was(world: World) -> None:
    payload = bytes(range(256)) * 4
    async with world.port("hes").connect() as hes, world.port("gw").connect() as gateway:
        await hes.subscribe([EVERYTHING])
        await gateway.publish(TOPIC.format("m-1"), payload)
        await gateway.publish(TOPIC.format("m-2"), b"")
        first, second = await take(hes, 2)
    assert (first.topic, first.payload, first.retain) == (TOPIC.format("m-1"), payload, False)
    assert (second.topic, second.payload) == (TOPIC.format("m-2"), b"")


async def test_what_is_not_acknowledged_comes_again_in_order(world: World) -> None:
    port = world.port("hes")
    async with port.connect() as hes, world.port("gw").connect() as gateway:
        await hes.subscribe([EVERYTHING])
        await publish_all(gateway, numbers(5))
        hes.acknowledge((await take(hes, 5))[:2])
    async with port.connect() as hes:
        again = await take(hes, 3)
        assert [d.payload for d in again] == numbers(3, start=2)
        hes.acknowledge(again)
        await assert_quiet(hes)
    async with port.connect() as hes:
        await assert_quiet(hes)


async def test_what_came_while_away_is_kept(world: World) -> None:
    port = world.port("hes")
    async with port.connect() as hes:
        await hes.subscribe([EVERYTHING])
    async with world.port("gw").connect() as gateway:
        await publish_all(gateway, numbers(300))
    async with port.connect() as hes:
        assert [d.payload for d in await take(hes, 300)] == numbers(300)


async def test_acknowledging_out_of_order_releases_just_those(world: World) -> None:
    port = world.port("hes")
    async with port.connect() as hes, world.port("gw").connect() as gateway:
        await hes.subscribe([EVERYTHING])
        await publish_all(gateway, numbers(4))
        deliveries = await take(hes, 4)
        hes.acknowledge([deliveries[3], deliveries[1]])
    async with port.connect() as hes:
        assert [d.payload for d in await take(hes, 2)] == [b"0", b"2"]
        await assert_quiet(hes)


async def test_an_acknowledgement_from_an_older_connection_is_passed_over(world: World) -> None:
    """Its packet id may by now be another message's."""
    port = world.port("hes")
    async with port.connect() as hes, world.port("gw").connect() as gateway:
        await hes.subscribe([EVERYTHING])
        await publish_all(gateway, numbers(1))
        stale = await take(hes, 1)
    async with port.connect() as hes:
        fresh = await take(hes, 1)
        assert fresh[0].epoch != stale[0].epoch
        hes.acknowledge(stale)
    async with port.connect() as hes:
        again = await take(hes, 1)
        assert again[0].payload == b"0"
        hes.acknowledge(again)
    async with port.connect() as hes:
        await assert_quiet(hes)


async def test_receive_returns_at_most_what_was_asked_for(world: World) -> None:
    async with world.port("hes").connect() as hes, world.port("gw").connect() as gateway:
        await hes.subscribe([EVERYTHING])
        await publish_all(gateway, numbers(10))
        await asyncio.sleep(QUIET_S)
        sizes = [len(await hes.receive(at_most)) for at_most in (1, 4, 100)]
        assert sizes == [1, 4, 5]


async def test_a_cancelled_receive_takes_nothing_with_it(world: World) -> None:
    async with world.port("hes").connect() as hes, world.port("gw").connect() as gateway:
        await hes.subscribe([EVERYTHING])
        await assert_quiet(hes)
        await gateway.publish(TOPIC.format("m"), b"later")
        assert [d.payload for d in await take(hes, 1)] == [b"later"]


async def test_many_may_publish_at_once(world: World) -> None:
    """More than any broker takes in one window."""
    async with world.port("hes").connect() as hes, world.port("gw").connect() as gateway:
        await hes.subscribe([EVERYTHING])
        async with asyncio.TaskGroup() as group:
            for payload in numbers(500):
                group.create_task(gateway.publish(TOPIC.format("m"), payload))
        assert {d.payload for d in await take(hes, 500)} == set(numbers(500))


async def test_each_message_comes_under_its_own_topic(world: World) -> None:
    """More topics than any broker has aliases for, each more than once, on one connection and on the next."""
    topics = [TOPIC.format(f"m-{n}") for n in range(12)]
    sent = [(topic, payload) for payload in (b"1", b"2") for topic in topics]
    async with world.port("hes").connect() as hes:
        await hes.subscribe([EVERYTHING])
        for part in (sent, sent[::-1]):
            async with world.port("gw").connect() as gateway:
                for topic, payload in part:
                    await gateway.publish(topic, payload)
            came = await take(hes, len(part))
            hes.acknowledge(came)
            assert [(d.topic, d.payload) for d in came] == part


@pytest.mark.parametrize(
    ("topic_filter", "topic", "wanted"),
    [
        ("openami/v1/+/x", "openami/v1/a/x", True),
        ("openami/v1/+/x", "openami/v1/a/b/x", False),
        ("openami/v1/+", "openami/v1/", True),
        ("openami/v1/+", "openami/v1", False),
        ("openami/#", "openami/v1/a/b/x", True),
        ("openami/#", "openami", True),
        ("openami/v1", "openami/v1/a", False),
        ("openami/v1", "openami/v2", False),
    ],
)
async def test_filters_select(world: World, topic_filter: str, topic: str, wanted: bool) -> None:
    async with world.port("hes").connect() as hes:
        await hes.subscribe([topic_filter])
        await hes.publish(topic, b"")
        if wanted:
            assert [d.topic for d in await take(hes, 1)] == [topic]
        else:
            await assert_quiet(hes)


async def test_a_second_client_of_the_same_name_takes_over(world: World) -> None:
    async with world.port("hes").connect() as first:
        await first.subscribe([EVERYTHING])
        waiting = asyncio.create_task(first.receive(1))
        await asyncio.sleep(0)
        async with world.port("hes").connect() as second:
            with pytest.raises(TransportError) as raised:
                await asyncio.wait_for(waiting, 5)
            with pytest.raises(TransportError):
                await first.publish(TOPIC.format("m"), b"")
            await second.publish(TOPIC.format("m"), b"mine")
            assert [d.payload for d in await take(second, 1)] == [b"mine"]
    # MQTT 5 has a word for it, but mosquitto 2.0.11 does not say it: the remedy names the suspicion.
    assert "client id 'hes'" in f"{raised.value} {raised.value.remedy}"


async def test_every_wait_ends_when_the_broker_goes_and_the_session_comes_back(
    world: World,
) -> None:
    port = world.port("hes")
    async with port.connect() as hes, world.port("gw").connect() as gateway:
        await hes.subscribe([EVERYTHING])
        await publish_all(gateway, numbers(3))
        taken = await take(hes, 3)
        hes.acknowledge(taken[:1])
        await hes.publish("openami/after", b"")  # an answer: the acknowledgement has arrived too
        waiting = asyncio.create_task(hes.receive(1))
        await asyncio.sleep(0)
        world.stop()
        with pytest.raises(TransportError):
            await asyncio.wait_for(waiting, 5)
        with pytest.raises(TransportError):
            await hes.publish(TOPIC.format("m"), b"")
        with pytest.raises(TransportError):
            await hes.subscribe([EVERYTHING])
        hes.acknowledge(taken)  # too late, and no error
    with pytest.raises(TransportError) as refused:
        async with port.connect():
            pytest.fail("nobody is there")
    assert not refused.value.permanent
    assert refused.value.remedy
    world.start()
    async with port.connect() as hes:
        assert [d.payload for d in await take(hes, 2)] == numbers(2, start=1)
        await publish_all(hes, [b"the subscription lives"])
        assert [d.payload for d in await take(hes, 1)] == [b"the subscription lives"]


async def test_a_closed_connection_says_so(world: World) -> None:
    async with world.port("hes").connect() as hes:
        pass
    with pytest.raises(TransportError, match="was closed"):
        await hes.publish("openami/a", b"")
    with pytest.raises(TransportError, match="was closed"):
        await hes.subscribe(["openami/a"])
    with pytest.raises(TransportError, match="was closed"):
        await hes.receive(1)


async def test_a_full_queue_drops_the_newest_though_the_sender_has_its_puback(
    make_world: MakeWorld,
) -> None:
    """The trap the head-end checks its broker for."""
    world = make_world(10)
    port = world.port("hes")
    async with port.connect() as hes:
        await hes.subscribe([EVERYTHING])
    async with world.port("gw").connect() as gateway:
        await publish_all(gateway, numbers(30))
    async with port.connect() as hes:
        assert [d.payload for d in await take(hes, 10)] == numbers(10)
        await assert_quiet(hes)


async def test_a_topic_the_acl_denies_is_refused(world: World) -> None:
    async with world.port("hes").connect() as hes, world.port("gw").connect() as gateway:
        await hes.subscribe(["forbidden/#", EVERYTHING])
        if world.tells_refusals:
            with pytest.raises(PublishRefused, match="does not allow us this topic") as refused:
                await gateway.publish("forbidden/a", b"")
            assert refused.value.permanent
            assert "ACL" in refused.value.remedy
        else:
            await gateway.publish("forbidden/a", b"")  # 3.1.1 acknowledges what it threw away
        await gateway.publish(TOPIC.format("m"), b"still open")
        assert [d.payload for d in await take(hes, 1)] == [b"still open"]
