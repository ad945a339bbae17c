"""What the broker in memory does beyond the port's contract: it breaks when told to."""

import asyncio

import pytest

from openami.mqtt.memory import MemoryBroker
from openami.mqtt.port import TransportError

TOPIC = "openami/v1/f/g/meter/m/telemetry"


async def test_a_cut_connection_raises_and_its_session_stays() -> None:
    broker = MemoryBroker()
    port = broker.port("hes")
    async with port.connect() as hes:
        await hes.subscribe([TOPIC])
        waiting = asyncio.create_task(hes.receive(1))
        await asyncio.sleep(0)
        broker.cut("hes")
        with pytest.raises(TransportError, match="was lost"):
            await waiting
    async with broker.port("gw").connect() as gateway:
        await gateway.publish(TOPIC, b"kept")
    async with port.connect() as hes:
        assert [d.payload for d in await hes.receive(1)] == [b"kept"]


async def test_a_broker_that_forgets_has_acknowledged_in_vain() -> None:
    """As a real one does that is killed before it has written: a PUBACK is not proof."""
    broker = MemoryBroker()
    async with broker.port("hes").connect() as hes:
        await hes.subscribe([TOPIC])
    async with broker.port("gw").connect() as gateway:
        await gateway.publish(TOPIC, b"acknowledged")
    broker.forget()
    async with broker.port("hes").connect() as hes:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(hes.receive(1), 0.01)


async def test_the_window_holds_back_until_something_is_acknowledged() -> None:
    broker = MemoryBroker(inflight_max=2)
    async with broker.port("hes").connect() as hes:
        await hes.subscribe([TOPIC])
        for payload in (b"1", b"2", b"3"):
            await hes.publish(TOPIC, payload)
        first = await hes.receive(10)
        assert [d.payload for d in first] == [b"1", b"2"]
        waiting = asyncio.create_task(hes.receive(10))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        hes.acknowledge(first[:1])
        assert [d.payload for d in await waiting] == [b"3"]


async def test_what_the_queue_bound_costs_is_counted() -> None:
    broker = MemoryBroker(queued_messages_max=2)
    async with broker.port("hes").connect() as hes:
        await hes.subscribe([TOPIC])
        for payload in (b"1", b"2", b"3"):
            await hes.publish(TOPIC, payload)
    assert broker.dropped == 1


async def test_a_client_without_a_session_leaves_none() -> None:
    broker = MemoryBroker()
    async with broker.port("w", persistent=False).connect() as watcher:
        await watcher.subscribe(["#"])
        assert broker.has_session("w")
    assert not broker.has_session("w")


async def test_packet_ids_under_way_are_not_given_again() -> None:
    broker = MemoryBroker(inflight_max=10)
    async with broker.port("hes").connect() as hes:
        await hes.subscribe([TOPIC])
        await hes.publish(TOPIC, b"first")
        (first,) = await hes.receive(1)
        for _ in range(70_000):  # beyond the 65,535 there are
            await hes.publish(TOPIC, b"")
            (delivery,) = await hes.receive(1)
            assert delivery.packet_id != first.packet_id
            hes.acknowledge([delivery])


async def test_who_subscribes_later_gets_what_comes_later_on_a_topic_already_seen() -> None:
    """Receivers are remembered by topic, and that must not outlive a subscription."""
    broker = MemoryBroker()
    async with broker.port("gw").connect() as gateway:
        await gateway.publish(TOPIC, b"nobody wants it")
        async with broker.port("w", persistent=False).connect() as watcher:
            await watcher.subscribe([TOPIC])
            await gateway.publish(TOPIC, b"1")
            assert [d.payload for d in await watcher.receive(10)] == [b"1"]
        await gateway.publish(TOPIC, b"between")
        async with broker.port("w", persistent=False).connect() as watcher:
            await gateway.publish(TOPIC, b"not yet wanted")
            await watcher.subscribe([TOPIC])
            await gateway.publish(TOPIC, b"2")
            assert [d.payload for d in await watcher.receive(10)] == [b"2"]


async def test_a_crash_takes_sessions_that_were_not_to_be_remembered() -> None:
    broker = MemoryBroker()
    async with broker.port("w", persistent=False).connect() as watcher:
        await watcher.subscribe(["#"])
        async with broker.port("hes").connect() as hes:
            await hes.subscribe(["#"])
            broker.save()
        broker.crash()
        broker.start()
        assert not broker.has_session("w")
        assert broker.has_session("hes")
        async with broker.port("w", persistent=False).connect() as again:
            await again.subscribe([TOPIC])
            with pytest.raises(TransportError):
                await watcher.receive(1)
            await again.publish(TOPIC, b"mine")
            assert [d.payload for d in await again.receive(10)] == [b"mine"]


async def test_what_an_attacker_injects_asks_no_acl_and_tells_no_listener() -> None:
    broker = MemoryBroker(allows=lambda _client_id, _topic: False)
    heard: list[tuple[str, str, bytes]] = []
    broker.listen(lambda *message: heard.append(message))
    async with broker.port("hes").connect() as hes:
        await hes.subscribe([TOPIC])
        with pytest.raises(TransportError):
            await hes.publish(TOPIC, b"denied")
        broker.inject(TOPIC, b"injected", retain=True)
        (delivery,) = await hes.receive(10)
    assert (delivery.payload, delivery.retain) == (b"injected", True)
    assert heard == []
    broker.allows = lambda _client_id, _topic: True
    async with broker.port("gw").connect() as gateway:
        await gateway.publish(TOPIC, b"allowed")
    assert heard == [("gw", TOPIC, b"allowed")]
