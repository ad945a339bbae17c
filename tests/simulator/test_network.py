"""What the radio does to messages: each fault beside the same thing without it."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress

import pytest

from openami.mqtt.memory import MemoryBroker
from openami.mqtt.port import Connection, Delivery, TransportError
from openami.simulator.network import NO_FAULTS, Link, LinkFaults, Tap

TOPIC = "openami/v1/f/g/meter/m/telemetry"
BLINK_S = 0.05  # long against a step of the loop, short for a test
LONG_S = 5.0


def a_link(
    broker: MemoryBroker,
    client_id: str = "gw",
    faults: LinkFaults = NO_FAULTS,
    *,
    tap: Tap | None = None,
    keep_alive_s: float = LONG_S,
    connect_timeout_s: float = LONG_S,
    seed: int = 1,
) -> Link:
    return Link(
        broker.port(client_id),
        random.Random(seed),
        faults=faults,
        tap=tap,
        keep_alive_s=keep_alive_s,
        connect_timeout_s=connect_timeout_s,
    )


async def a_subscribed(broker: MemoryBroker) -> None:
    """Let the broker keep everything for `hes` from now on."""
    async with broker.port("hes").connect() as hes:
        await hes.subscribe(["#"])


async def waiting_at(broker: MemoryBroker) -> list[bytes]:
    """Take, acknowledge and return what waits for `hes`."""
    taken: list[bytes] = []
    async with broker.port("hes").connect() as hes:
        with suppress(TimeoutError):
            while True:
                deliveries = await asyncio.wait_for(hes.receive(100), BLINK_S)
                hes.acknowledge(deliveries)
                taken += [d.payload for d in deliveries]
    return taken


async def took(connection: Connection) -> float:
    """Publish; return how long it was under way."""
    clock = asyncio.get_running_loop()
    began = clock.time()
    await connection.publish(TOPIC, bytes(1000))
    return clock.time() - began


async def test_latency_is_paid_there_and_back() -> None:
    link = a_link(MemoryBroker())
    async with link.connect() as gateway:
        assert await took(gateway) < 0.2
        link.faults = LinkFaults(latency_s=0.1)
        assert 0.2 <= await took(gateway) < LONG_S
        link.faults = NO_FAULTS
        assert await took(gateway) < 0.2


async def test_latency_is_paid_on_a_delivery() -> None:
    broker = MemoryBroker()
    await a_subscribed(broker)
    link = a_link(broker, "hes")
    clock = asyncio.get_running_loop()
    async with link.connect() as hes, broker.port("gw").connect() as gateway:
        for latency_s in (0.0, 0.2):
            link.faults = LinkFaults(latency_s=latency_s)
            await gateway.publish(TOPIC, b"1")
            began = clock.time()
            hes.acknowledge(await hes.receive(1))
            assert (clock.time() - began >= 0.2) is (latency_s == 0.2)
    assert await waiting_at(broker) == []  # the PUBACKs under way went before the DISCONNECT


async def test_a_narrow_link_takes_its_time_a_byte() -> None:
    async with a_link(MemoryBroker(), faults=LinkFaults(bytes_per_s=5_000)).connect() as gateway:
        assert 0.2 <= await took(gateway) < LONG_S
    async with a_link(MemoryBroker(), faults=LinkFaults(bytes_per_s=2e9)).connect() as gateway:
        assert await took(gateway) < 0.2


async def test_connecting_while_the_link_is_down_times_out() -> None:
    link = a_link(MemoryBroker(), connect_timeout_s=BLINK_S)
    link.up = False
    with pytest.raises(TransportError, match="no answer") as raised:
        async with link.connect():
            pytest.fail("nothing passes")
    assert not raised.value.permanent
    link.up = True
    async with link.connect() as gateway:
        await gateway.publish(TOPIC, b"")


async def test_connecting_waits_for_a_link_that_comes_back_in_time() -> None:
    link = a_link(MemoryBroker())
    link.up = False
    asyncio.get_running_loop().call_later(BLINK_S, setattr, link, "up", True)
    async with link.connect() as gateway:
        await gateway.publish(TOPIC, b"")


async def test_a_dead_link_breaks_an_open_connection_after_the_keep_alive_and_not_before() -> None:
    broker = MemoryBroker()
    await a_subscribed(broker)
    link = a_link(broker, keep_alive_s=5 * BLINK_S)
    async with link.connect() as gateway:
        link.up = False
        publishing = asyncio.create_task(gateway.publish(TOPIC, b""))
        receiving = asyncio.create_task(gateway.receive(1))
        await asyncio.sleep(2 * BLINK_S)
        assert not publishing.done()
        assert not receiving.done()
        for hanging in (publishing, receiving):
            with pytest.raises(TransportError, match="stopped answering"):
                await asyncio.wait_for(hanging, LONG_S)
    assert await waiting_at(broker) == []


async def test_a_link_that_comes_back_within_the_keep_alive_goes_on_in_order() -> None:
    broker = MemoryBroker()
    await a_subscribed(broker)
    link = a_link(broker, keep_alive_s=5 * BLINK_S)
    async with link.connect() as gateway:
        link.up = False
        payloads = [bytes([n]) for n in range(20)]
        publishing = [asyncio.create_task(gateway.publish(TOPIC, each)) for each in payloads]
        await asyncio.sleep(2 * BLINK_S)
        link.up = True
        await asyncio.gather(*publishing)
        await asyncio.sleep(6 * BLINK_S)  # the keep-alive begins anew
        await gateway.publish(TOPIC, b"still open")
    assert await waiting_at(broker) == [*payloads, b"still open"]


async def test_what_came_over_a_dying_link_comes_again() -> None:
    """The broker had sent it, the receiver never had it."""
    broker = MemoryBroker()
    link = a_link(broker, "hes", keep_alive_s=BLINK_S)
    async with link.connect() as hes:
        await hes.subscribe(["#"])
        receiving = asyncio.create_task(hes.receive(1))
        await asyncio.sleep(0)
        link.up = False
        async with broker.port("gw").connect() as gateway:
            await gateway.publish(TOPIC, b"1")
        with pytest.raises(TransportError):
            await receiving
    assert await waiting_at(broker) == [b"1"]


@pytest.mark.parametrize(
    ("faults", "arrives"),
    [
        (LinkFaults(lost_before=1.0), []),
        (LinkFaults(lost_after=1.0), [b"1"]),
    ],
)
async def test_a_loss_leaves_the_publisher_in_doubt(
    faults: LinkFaults, arrives: Sequence[bytes]
) -> None:
    broker = MemoryBroker()
    await a_subscribed(broker)
    link = a_link(broker, faults=faults)
    async with link.connect() as gateway:
        with pytest.raises(TransportError, match="radio was lost"):
            await gateway.publish(TOPIC, b"1")
        with pytest.raises(TransportError, match="radio was lost"):
            await gateway.receive(1)
    assert await waiting_at(broker) == arrives
    link.faults = NO_FAULTS
    async with link.connect() as gateway:
        await gateway.publish(TOPIC, b"1")
    assert await waiting_at(broker) == [b"1"]


@pytest.mark.parametrize(("chance", "again"), [(1.0, [b"1"]), (0.0, [])])
async def test_an_acknowledgement_that_is_lost_is_a_message_delivered_again(
    chance: float, again: Sequence[bytes]
) -> None:
    broker = MemoryBroker()
    await a_subscribed(broker)
    async with broker.port("gw").connect() as gateway:
        await gateway.publish(TOPIC, b"1")
    faults = LinkFaults(acknowledgements_lost=chance)
    async with a_link(broker, "hes", faults).connect() as hes:
        hes.acknowledge(await hes.receive(1))
    assert await waiting_at(broker) == again


@pytest.mark.parametrize(("up", "again"), [(False, [b"1"]), (True, [])])
async def test_an_acknowledgement_over_a_dead_link_does_not_arrive(
    up: bool, again: Sequence[bytes]
) -> None:
    broker = MemoryBroker()
    await a_subscribed(broker)
    async with broker.port("gw").connect() as gateway:
        await gateway.publish(TOPIC, b"1")
    link = a_link(broker, "hes")
    async with link.connect() as hes:
        deliveries = await hes.receive(1)
        link.up = up
        hes.acknowledge(deliveries)
    assert await waiting_at(broker) == again


async def test_an_acknowledgement_waits_for_a_link_that_comes_back() -> None:
    broker = MemoryBroker(inflight_max=1)
    await a_subscribed(broker)
    async with broker.port("gw").connect() as gateway:
        await gateway.publish(TOPIC, b"1")
        await gateway.publish(TOPIC, b"2")
    link = a_link(broker, "hes")
    async with link.connect() as hes:
        deliveries = await hes.receive(1)
        link.up = False
        hes.acknowledge(deliveries)
        receiving = asyncio.create_task(hes.receive(1))
        await asyncio.sleep(BLINK_S)
        assert not receiving.done()
        link.up = True
        assert [d.payload for d in await asyncio.wait_for(receiving, LONG_S)] == [b"2"]


@pytest.mark.parametrize(("chance", "times"), [(1.0, 2), (0.0, 1)])
async def test_a_duplicated_publish_arrives_twice(chance: float, times: int) -> None:
    broker = MemoryBroker()
    await a_subscribed(broker)
    async with a_link(broker, faults=LinkFaults(duplicated=chance)).connect() as gateway:
        await gateway.publish(TOPIC, b"1")
    assert await waiting_at(broker) == [b"1"] * times


@pytest.mark.parametrize("chance", [0.5, 0.0])
async def test_only_a_reordering_link_lets_messages_overtake(chance: float) -> None:
    """Jitter alone does not: a connection keeps its order."""
    broker = MemoryBroker()
    await a_subscribed(broker)
    faults = LinkFaults(latency_s=0.001, jitter_s=0.005, reordered=chance, reordered_s=BLINK_S)
    payloads = [bytes([n]) for n in range(50)]
    async with a_link(broker, faults=faults).connect() as gateway:
        await asyncio.gather(*(gateway.publish(TOPIC, each) for each in payloads))
    arrived = await waiting_at(broker)
    assert sorted(arrived) == payloads
    assert (arrived == payloads) is (chance == 0.0)


async def test_a_modem_that_is_reset_breaks_what_is_open() -> None:
    link = a_link(MemoryBroker())
    async with link.connect() as gateway:
        receiving = asyncio.create_task(gateway.receive(1))
        await asyncio.sleep(0)
        link.cut()
        with pytest.raises(TransportError, match="reset"):
            await receiving
    async with link.connect() as gateway:
        await gateway.publish(TOPIC, b"")


async def history(seed: int) -> list[tuple[int, str]]:
    """Publish numbers over a bad radio, three tries each; return what became of them."""
    broker = MemoryBroker()
    faults = LinkFaults(lost_before=0.2, lost_after=0.2, duplicated=0.2)
    told: list[tuple[int, str]] = []
    tap = Tap(
        on_sent=lambda _client_id, _topic, payload: told.append((payload[0], "sent")),
        on_published=lambda _client_id, _topic, payload: told.append((payload[0], "published")),
    )
    link = a_link(broker, faults=faults, tap=tap, seed=seed)
    for number in range(50):
        with suppress(TransportError):
            async with link.connect() as gateway:
                await gateway.publish(TOPIC, bytes([number]))
    return told


async def test_the_same_seed_is_the_same_history() -> None:
    first, again, other = [await history(seed) for seed in (7, 7, 8)]
    assert first == again
    assert first != other
    assert len({number for number, _ in first}) < 50  # some never arrived
    assert len(first) > len(set(first))  # some arrived twice


@pytest.mark.parametrize("faults", [NO_FAULTS, LinkFaults(latency_s=0.001)])
async def test_a_tap_hears_each_step_at_its_moment(faults: LinkFaults) -> None:
    heard: list[tuple[str, str, bytes]] = []

    def message(step: str, client_id: str, payload: bytes) -> None:
        heard.append((step, client_id, payload))

    def deliveries(step: str, client_id: str, them: Sequence[Delivery]) -> None:
        heard.extend((step, client_id, each.payload) for each in them)

    tap = Tap(
        on_sent=lambda client_id, _topic, payload: message("sent", client_id, payload),
        on_published=lambda client_id, _topic, payload: message("published", client_id, payload),
        on_delivered=lambda client_id, them: deliveries("delivered", client_id, them),
        on_acknowledged=lambda client_id, them: deliveries("acknowledged", client_id, them),
    )
    broker = MemoryBroker()
    await a_subscribed(broker)
    async with (
        a_link(broker, "gw", faults, tap=tap).connect() as gateway,
        a_link(broker, "hes", faults, tap=tap).connect() as hes,
    ):
        await gateway.publish(TOPIC, b"1")
        hes.acknowledge(await hes.receive(1))
    assert heard == [
        ("sent", "gw", b"1"),
        ("published", "gw", b"1"),
        ("delivered", "hes", b"1"),
        ("acknowledged", "hes", b"1"),
    ]


async def test_a_tap_is_not_told_of_a_puback_that_did_not_come() -> None:
    heard: list[str] = []
    tap = Tap(
        on_sent=lambda *_message: heard.append("sent"),
        on_published=lambda *_message: heard.append("published"),
    )
    link = a_link(MemoryBroker(), faults=LinkFaults(lost_after=1.0), tap=tap)
    async with link.connect() as gateway:
        with pytest.raises(TransportError):
            await gateway.publish(TOPIC, b"1")
    assert heard == ["sent"]


def test_the_edges_of_the_faults() -> None:
    LinkFaults(lost_before=1.0, latency_s=0.0, bytes_per_s=0.1)
    for name, value in (
        ("lost_before", 1.001),
        ("duplicated", -0.001),
        ("latency_s", -0.001),
        ("jitter_s", float("nan")),
        ("bytes_per_s", 0.0),
    ):
        with pytest.raises(ValueError, match=name):
            LinkFaults(**{name: value})
