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
