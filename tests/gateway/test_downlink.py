"""The downlink over a broker: what is acknowledged when, what is told, what a restart and an echo do."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from tests.gateway.clock_double import ClockDouble
from tests.gateway.sip_world import FEEDER, GATEWAY, Pole, Running

from openami.gateway import downlink
from openami.gateway.driver import RelayPosition
from openami.gateway.metrics import GatewayMetrics
from openami.gateway.reconnect import Reconnector
from openami.gateway.snapshot import UplinkView
from openami.gateway.uplink import UplinkSettings
from openami.mqtt.backoff import Backoff
from openami.mqtt.memory import MemoryBroker
from openami.mqtt.port import Connection, Delivery, TransportError
from openami.profile import EventTopic, SessionTopic, parse_topic
from openami.sip.actions import Action
from openami.sip.acts import ActType, read_acts
from openami.sip.canonical import read_document

DEADLINE_S = 10.0


class HeadEnd:
    """Hears what the gateway says, and learns its nonces."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.heard: list[Delivery] = []
        self.nonces: list[str] = []

    async def until(self, enough: "Callable[[HeadEnd], bool]") -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not enough(self):
                deliveries = await self.connection.receive(10)
                self.connection.acknowledge(deliveries)
                self.heard += deliveries
                for delivery in deliveries:
                    self._learn(delivery)

    def _learn(self, delivery: Delivery) -> None:
        topic = parse_topic(delivery.topic)
        if isinstance(topic, SessionTopic) and topic.session_id == "s-1":
            for act in read_acts(read_document(delivery.payload)):
                if act.type is ActType.ACCEPT and act.nonce is not None:
                    self.nonces.append(act.nonce)

    @property
    def reports(self) -> list[dict[str, object]]:
        return [
            read_document(delivery.payload).members["report"]
            for delivery in self.heard
            if isinstance(parse_topic(delivery.topic), EventTopic)
        ]

    async def send(self, message: tuple[object, bytes]) -> None:
        await self.connection.publish(str(message[0]), message[1])


@asynccontextmanager
async def listening(broker: MemoryBroker) -> AsyncIterator[HeadEnd]:
    async with broker.port("hes-1").connect() as connection:
        await connection.subscribe(
            [SessionTopic.filter(FEEDER, GATEWAY), EventTopic.filter(FEEDER, GATEWAY)]
        )
        yield HeadEnd(connection)


@asynccontextmanager
async def connected(gateway: Running, broker: MemoryBroker) -> AsyncIterator[None]:
    """Uplink and downlink as the gateway runs them, over one connection after another."""

    async def receive(connection: Connection) -> None:
        await downlink.receive(gateway.commanding, connection, FEEDER, GATEWAY)

    async def announce(connection: Connection) -> None:
        await downlink.announce(gateway.commanding, connection)

    reconnector = Reconnector(
        broker.port("pole-1"),
        gateway.outbox,
        UplinkSettings(mark_interval_s=0.01),
        clock=gateway.pole.clock,
        backoff=Backoff(lambda: 0.0),
        view=UplinkView("memory"),
        metrics=GatewayMetrics(),
        downlink=(receive, announce),
    )
    task = asyncio.create_task(reconnector.run(), name="reconnector")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, TransportError):
            await task


@pytest.fixture
def pole(tmp_path: Path) -> Pole:
    return Pole(tmp_path, ClockDouble())


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


async def ready(hes: HeadEnd, gateway: Running) -> None:
    """A broker keeps nothing for who has never subscribed; a head-end offers again after a minute."""
    async with asyncio.timeout(DEADLINE_S):
        while not gateway.commanding.is_connected:
            await asyncio.sleep(0.001)
    pole = gateway.pole
    await hes.send(pole.parties.keyring())
    await hes.send(pole.parties.offer())
    await hes.until(lambda hes: len(hes.nonces) == 1)


async def test_a_command_goes_down_and_its_report_comes_up(
    pole: Pole, broker: MemoryBroker
) -> None:
    async with listening(broker) as hes, pole.running() as gateway, connected(gateway, broker):
        await ready(hes, gateway)
        order = pole.parties.command(Action.DISCONNECT, hes.nonces[-1], seq=1)
        await hes.send(order)
        await hes.until(lambda hes: len(hes.reports) == 1)
        assert hes.reports[0]["status"] == "done"
        await hes.send(order)
        await hes.until(lambda hes: len(hes.reports) == 2)
        assert hes.reports[0] == hes.reports[1]
        assert pole.meters["M-1"].moves == [RelayPosition.DISCONNECTED]


async def test_a_reconnection_tells_a_new_nonce_and_echoes_tell_nothing(
    pole: Pole, broker: MemoryBroker
) -> None:
    async with listening(broker) as hes, pole.running() as gateway, connected(gateway, broker):
        await ready(hes, gateway)
        broker.cut("pole-1")
        await hes.until(lambda hes: len(hes.nonces) == 2)
        assert hes.nonces[0] != hes.nonces[1]
        # Its own accepts come back to the gateway, too: had they been answered, there would be more.
        await hes.send(pole.parties.command(Action.DISCONNECT, hes.nonces[-1], seq=1))
        await hes.until(lambda hes: len(hes.reports) == 1)
        assert len(hes.nonces) == 2


async def test_what_was_not_decided_is_delivered_again_and_moves_once(
    pole: Pole, broker: MemoryBroker
) -> None:
    """The order is in the broker's queue while the gateway is away; its nonce is of before."""
    async with listening(broker) as hes:
        async with pole.running() as gateway, connected(gateway, broker):
            await ready(hes, gateway)
        await hes.send(pole.parties.command(Action.DISCONNECT, hes.nonces[-1], seq=1))
        async with pole.running() as gateway, connected(gateway, broker):
            await hes.until(lambda hes: len(hes.reports) == 1)
            assert hes.reports[0]["code"] == "STALE_NONCE"
            await hes.send(pole.parties.command(Action.DISCONNECT, hes.nonces[-1], seq=1))
            await hes.until(lambda hes: len(hes.reports) == 2)
        assert pole.meters["M-1"].moves == [RelayPosition.DISCONNECTED]


async def test_a_command_before_its_session_is_not_acknowledged_before_it_is_decided(
    pole: Pole, broker: MemoryBroker
) -> None:
    async with listening(broker) as hes, pole.running() as gateway, connected(gateway, broker):
        await ready(hes, gateway)
        order = pole.parties.command(Action.DISCONNECT, "A" * 22, seq=1, session_id="s-2")
        await hes.send(order)
        await hes.send(pole.parties.command(Action.RECONNECT, hes.nonces[-1], seq=1))
        await hes.until(lambda hes: len(hes.reports) == 1)
        assert hes.reports[0]["status"] == "done", "the later one, decided at once"
        broker.cut("pole-1")
        await hes.until(lambda hes: len(hes.nonces) == 2)
        await hes.send(pole.parties.offer("s-2"))
        # It is delivered again; the nonce it guesses is not the session's.
        await hes.until(lambda hes: any(r["code"] == "STALE_NONCE" for r in hes.reports))
