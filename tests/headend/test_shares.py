"""A feeder goes from the rest to its slice under load, and no message falls between the two."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from tests.conftest import StartMosquitto
from tests.headend.messages import message_of
from tests.headend.new_store import new_store
from tests.headend.test_uplink import FixedClock, eventually, publish

from openami.headend.shares import RestShare, SliceShare
from openami.headend.slice_link import SliceConnection, SlicePort
from openami.headend.slices import REST, session_name
from openami.headend.store import LeaseLost
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.open import open_store
from openami.headend.uplink import FILTERS, Uplink
from openami.mqtt.backoff import Backoff
from openami.mqtt.client import MqttPort
from openami.mqtt.memory import MemoryBroker
from openami.mqtt.port import Connection
from openami.mqtt.settings import BrokerSettings
from openami.profile import shipped_catalogue

NAME = "headend"
SLICE = 1


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[HeadEndStore]:
    async with open_store(new_store(tmp_path / "headend.db")) as opened:
        yield opened


class Serving:
    """A slice that is served, without a worker around it."""

    def __init__(self, broker: MemoryBroker, store: HeadEndStore, number: int) -> None:
        self.share = (
            RestShare(store, clock=FixedClock(), broker_writes_s=0.0)
            if number == REST
            else SliceShare(store, number, slices=1, clock=FixedClock())
        )
        self.uplink = Uplink(
            SlicePort(broker.port(session_name(NAME, number)), store.prove_writable),
            store,
            catalogue=shipped_catalogue(),
            clock=FixedClock(),
            broker_backoff=_soon(),
            store_backoff=_soon(),
            share=self.share,
        )


def _soon() -> Backoff:
    return Backoff(random.Random(1).random, first_s=0.002, ceiling_s=0.01)


@asynccontextmanager
async def served(broker: MemoryBroker, store: HeadEndStore, number: int) -> AsyncIterator[Serving]:
    serving = Serving(broker, store, number)
    task = asyncio.create_task(serving.uplink.run())
    await eventually(serving.uplink.subscribed.is_set)
    try:
        yield serving
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def handed(store: HeadEndStore) -> bool:
    return any(row.handed_at is not None for row in await store.slice_feeders())


@pytest.mark.parametrize("seed", range(4))
async def test_handed_over_under_load_every_message_is_stored_once(
    store: HeadEndStore, seed: int
) -> None:
    chance = random.Random(seed)
    broker = MemoryBroker(inflight_max=3)
    published = 0

    async def flow() -> None:
        nonlocal published
        async with broker.port("pole", persistent=False).connect() as pole:
            for number in range(150):
                each = message_of(f"M-{number}", seq=number + 1)
                await pole.publish(each.topic, each.payload)
                published += 1
                await asyncio.sleep(chance.choice([0, 0, 0.001, 0.003]))

    async with AsyncExitStack() as stack:
        rest = await stack.enter_async_context(served(broker, store, REST))
        flowing = asyncio.create_task(flow())
        await eventually(lambda: published > chance.randrange(30))
        part = await stack.enter_async_context(served(broker, store, SLICE))
        while not await handed(store):
            await part.share.look()
            await rest.share.look()
        await flowing
        await eventually(lambda: _stored(store, published * 3))
        await eventually(lambda: broker.owed(NAME) == 0)
    totals = await store.totals()
    assert (totals.stored, totals.conflicts) == (published * 3, 0)
    assert len(await store.meters()) == published


async def _stored(store: HeadEndStore, readings: int) -> bool:
    return (await store.totals()).stored >= readings


async def test_what_waits_for_the_rest_from_before_is_stored_by_the_rest(
    store: HeadEndStore,
) -> None:
    """The rest is behind: while anything waits for it, nothing is handed over, and it stores what comes."""
    broker = MemoryBroker(inflight_max=1)
    async with served(broker, store, REST), served(broker, store, SLICE) as part:
        await publish(broker, message_of("M-0"))
        await eventually(lambda: _stored(store, 3))
        await part.share.look()
    await publish(broker, *(message_of(f"M-{number}") for number in range(1, 6)))
    async with served(broker, store, REST) as rest:
        while broker.owed(NAME):
            await rest.share.look()
            assert not await handed(store) or broker.owed(NAME) == 0
            await asyncio.sleep(0)
        await eventually(lambda: _stored(store, 18))
        await rest.share.look()
        assert await handed(store)
        before = rest.uplink.statistics.tally.messages
        await publish(broker, message_of("M-9"))
        await eventually(lambda: rest.uplink.statistics.left_to_slices == 1)
        assert rest.uplink.statistics.tally.messages == before
    assert (await store.totals()).stored == 18, "the slice has it, at the broker"
    async with served(broker, store, SLICE):
        await eventually(lambda: _stored(store, 21))


async def test_a_feeder_is_not_handed_over_before_the_broker_has_written_its_subscription(
    store: HeadEndStore,
) -> None:
    """Killed before, the broker comes back without it: what comes then is heard by the rest alone."""
    broker = MemoryBroker()
    async with served(broker, store, REST) as rest, served(broker, store, SLICE) as part:
        await publish(broker, message_of("M-0"))
        await eventually(lambda: _stored(store, 3))
        await part.share.look()
        share = RestShare(store, clock=FixedClock(), broker_writes_s=0.2)
        async with broker.port("another").connect() as idle:
            link = SliceConnection(idle)
            waiting = asyncio.create_task(link.receive(1))
            await asyncio.sleep(0)
            await share.joined(link)
            await share.look()
            assert not await handed(store)
            await asyncio.sleep(0.25)
            await share.look()
            assert await handed(store)
            waiting.cancel()
        assert rest.uplink.statistics.left_to_slices == 0


async def test_a_slice_whose_session_was_forgotten_gives_its_feeders_back_to_the_rest(
    store: HeadEndStore,
) -> None:
    broker = MemoryBroker()
    async with served(broker, store, REST) as rest:
        async with served(broker, store, SLICE) as part:
            await publish(broker, message_of("M-0"))
            await eventually(lambda: _stored(store, 3))
            await part.share.look()
            await rest.share.look()
            assert await handed(store)
        async with broker.port(session_name(NAME, SLICE), persistent=False).connect():
            pass  # whoever connects without a session ends the one there was
        async with served(broker, store, SLICE) as part:
            assert not await handed(store)
            await rest.share.look()
            assert await handed(store), "heard by both again, and then by its slice"
            assert part.uplink.statistics.sessions_lost == 1


async def test_who_has_lost_the_slice_does_not_throw_its_new_holder_out() -> None:
    broker = MemoryBroker()

    async def lost() -> None:
        raise LeaseLost(1, 7)

    async with broker.port(NAME).connect() as theirs:
        with pytest.raises(LeaseLost):
            async with SlicePort(broker.port(NAME), lost).connect():
                raise AssertionError("it must not connect")
        await theirs.subscribe(FILTERS)


@pytest.mark.broker
async def test_a_broker_says_that_nothing_waits_only_when_nothing_waits(
    mosquitto: StartMosquitto,
) -> None:
    """Much waits behind a window of one message; asked all the time, it is never called empty too early."""
    broker = mosquitto("max_inflight_messages 1", "max_queued_messages 1000")

    def port(name: str, days: float = 1) -> MqttPort:
        settings = BrokerSettings(
            url=broker.url, client_id=name, protocol="3.1.1", session_expiry_days=days
        )
        return MqttPort(settings)

    async with port(NAME).connect() as first:
        await first.subscribe(FILTERS)
    messages = [message_of(f"M-{number}") for number in range(300)]
    async with port("pole", 0).connect() as pole:
        await asyncio.gather(*(pole.publish(each.topic, each.payload) for each in messages))

    answered = 0

    async def answer(connection: Connection) -> None:
        nonlocal answered
        while True:
            came = await connection.receive(1)
            connection.acknowledge(came)
            answered += len(came)

    async with port(NAME).connect() as inner:
        connection = SliceConnection(inner)
        answering = asyncio.create_task(answer(connection))
        async with asyncio.timeout(20):
            while not await connection.is_drained():
                await asyncio.sleep(0)
        assert answered == len(messages)
        answering.cancel()
