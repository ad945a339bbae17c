"""What a killed broker loses and delivers again: mosquitto and the broker in memory, side by side.

The twin of decision 0008: a PUBACK is not proof. mosquitto writes its persistence file on SIGUSR1, as it does
each ``autosave_interval``; here no autosave comes in between.
"""

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import pytest
from tests.conftest import StartMosquitto
from tests.mosquitto import Mosquitto

from openami.mqtt.client import MqttPort
from openami.mqtt.memory import MemoryBroker
from openami.mqtt.port import Connection, Delivery, MessagePort
from openami.mqtt.settings import BrokerSettings

TOPIC = "openami/v1/f/g/meter/m/telemetry"
QUIET_S = 0.3  # long enough for a broker on this machine to deliver what it is going to deliver
WRITTEN_S = 10.0  # a file of some kilobytes; more is a broker that does not listen


class Killable(Protocol):
    """A broker that is told when to write, and killed."""

    def port(self, client_id: str) -> MessagePort: ...

    async def save(self) -> None: ...

    def crash(self) -> None: ...

    def restart(self) -> None: ...

    def start(self) -> None: ...


class RealBroker:
    """A mosquitto."""

    def __init__(self, broker: Mosquitto) -> None:
        self._broker = broker
        self._file = broker.directory / "data" / "mosquitto.db"

    def port(self, client_id: str) -> MessagePort:
        return MqttPort(BrokerSettings(url=self._broker.url, client_id=client_id))

    async def save(self) -> None:
        before = _identity(self._file)
        os.kill(self._broker.pid, signal.SIGUSR1)
        async with asyncio.timeout(WRITTEN_S):
            while _identity(self._file) == before:  # a new file is moved into its place
                await asyncio.sleep(0.01)

    def crash(self) -> None:
        self._broker.kill()

    def restart(self) -> None:
        self._broker.restart()

    def start(self) -> None:
        self._broker.start()


def _identity(file: Path) -> tuple[int, int] | None:
    with suppress(FileNotFoundError):
        status = file.stat()
        return status.st_ino, status.st_mtime_ns
    return None


class BrokerInMemory:
    """Its double."""

    def __init__(self) -> None:
        broker = MemoryBroker()
        self._broker = broker
        self.port, self.crash = broker.port, broker.crash
        self.restart, self.start = broker.restart, broker.start

    async def save(self) -> None:
        self._broker.save()


@pytest.fixture(params=["mosquitto", "memory"])
def broker(request: pytest.FixtureRequest, mosquitto: StartMosquitto) -> Killable:
    if request.param == "memory":
        return BrokerInMemory()
    return RealBroker(mosquitto("max_inflight_messages 1000", "max_queued_messages 100000"))


async def publish(broker: Killable, *payloads: bytes) -> None:
    async with broker.port("gw").connect() as gateway:
        for payload in payloads:
            await gateway.publish(TOPIC, payload)


async def waiting(connection: Connection) -> list[Delivery]:
    """Return what comes until nothing more comes."""
    taken: list[Delivery] = []
    with suppress(TimeoutError):
        while True:
            taken += await asyncio.wait_for(connection.receive(1000), QUIET_S)
    return taken


async def acknowledged(connection: Connection, deliveries: list[Delivery]) -> None:
    connection.acknowledge(deliveries)
    await connection.publish("openami/after", b"")  # an answer: the acknowledgement has arrived too


async def waits_for_hes(broker: Killable) -> list[bytes]:
    async with broker.port("hes").connect() as hes:
        return [d.payload for d in await waiting(hes)]


async def subscribed(broker: Killable) -> None:
    async with broker.port("hes").connect() as hes:
        await hes.subscribe([TOPIC])


async def test_what_was_queued_since_the_save_is_lost(broker: Killable) -> None:
    await subscribed(broker)
    await publish(broker, b"1", b"2")
    await broker.save()
    await publish(broker, b"3")
    broker.crash()
    broker.start()
    assert await waits_for_hes(broker) == [b"1", b"2"]


async def test_what_was_acknowledged_since_the_save_comes_again(broker: Killable) -> None:
    await subscribed(broker)
    await publish(broker, b"1", b"2", b"3")
    async with broker.port("hes").connect() as hes:
        deliveries = await waiting(hes)
        await acknowledged(hes, deliveries[:1])
        await broker.save()
        await acknowledged(hes, deliveries[1:])
    broker.crash()
    broker.start()
    assert await waits_for_hes(broker) == [b"2", b"3"]


async def test_a_broker_that_never_wrote_has_acknowledged_everything_in_vain(
    broker: Killable,
) -> None:
    """The figure of decision 0008: 5,000 acknowledged, none delivered; and the subscription is gone too."""
    await subscribed(broker)
    await publish(broker, *(b"%d" % n for n in range(5000)))
    broker.crash()
    broker.start()
    async with broker.port("hes").connect() as hes:
        assert not hes.resumed
        assert await waiting(hes) == []
        await publish(broker, b"nobody subscribes")
        assert await waiting(hes) == []


async def test_a_clean_restart_loses_nothing(broker: Killable) -> None:
    await subscribed(broker)
    await publish(broker, b"1", b"2")
    async with broker.port("hes").connect() as hes:
        await acknowledged(hes, (await waiting(hes))[:1])
    broker.restart()
    async with broker.port("hes").connect() as hes:
        assert hes.resumed
        assert [d.payload for d in await waiting(hes)] == [b"2"]
        await publish(broker, b"the subscription lives")
        assert [d.payload for d in await waiting(hes)] == [b"the subscription lives"]
