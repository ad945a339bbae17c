"""Several addresses of one broker, over two mosquittos: each attempt is the next one's."""

import asyncio

import pytest
from tests.conftest import StartMosquitto
from tests.tools import free_port

from openami.mqtt.cluster import ClusterPort
from openami.mqtt.port import Delivery, TransportError
from openami.mqtt.settings import BrokerSettings

pytestmark = pytest.mark.broker

TOPIC = "openami/v1/f/g/meter/m/telemetry"


def settings(*urls: str, client_id: str = "hes-1") -> BrokerSettings:
    return BrokerSettings(urls=urls, client_id=client_id)


async def address_reached(port: ClusterPort) -> str:
    async with port.connect():
        return port.address


async def test_a_node_that_dies_is_left_for_the_next(mosquitto: StartMosquitto) -> None:
    """The connection ends with an error; the attempt after it is at the other node, and stays there."""
    brokers = {broker.url: broker for broker in (mosquitto(), mosquitto())}
    port = ClusterPort(settings(*brokers))

    async def one_connection() -> None:
        async with port.connect() as connection:
            await connection.publish(TOPIC, b"{}")
            brokers.pop(port.address).kill()
            await connection.receive(1)

    with pytest.raises(TransportError):
        await one_connection()
    (other,) = brokers
    async with port.connect() as connection:
        await connection.publish(TOPIC, b"{}")
    assert await address_reached(port) == other


async def test_a_dead_address_costs_one_attempt(mosquitto: StartMosquitto) -> None:
    """Whichever comes first: two attempts meet the living one, and no attempt tries two."""
    living, dead = mosquitto().url, f"mqtt://127.0.0.1:{free_port()}"
    for urls in ((dead, living), (living, dead)):
        port = ClusterPort(settings(*urls))
        began_at = port.address
        if began_at == dead:
            with pytest.raises(TransportError, match="nothing listens"):
                await address_reached(port)
        assert await address_reached(port) == living


async def test_what_came_at_one_node_is_not_acknowledged_at_another(
    mosquitto: StartMosquitto,
) -> None:
    """Packet ids are the same at both: a stale acknowledgement would take a message that nobody has."""
    first, second = mosquitto(), mosquitto()
    port = ClusterPort(settings(first.url, second.url))
    held: list[Delivery] = []

    async def one_connection() -> None:
        async with port.connect() as connection:
            await connection.subscribe([TOPIC])
            await connection.publish(TOPIC, b"{}")
            async with asyncio.timeout(5):
                held.extend(await connection.receive(1))
            raise TransportError("as if it had broken")

    for _ in range(2):
        with pytest.raises(TransportError, match="as if it had broken"):
            await one_connection()
    here, there = held
    assert here.packet_id == there.packet_id
    assert here.epoch != there.epoch


def test_gateways_with_one_list_are_spread_over_the_nodes() -> None:
    urls = tuple(f"mqtt://127.0.0.{node}" for node in (1, 2, 3))
    begun = [
        ClusterPort(settings(*urls, client_id=f"feeder-1/gateway-{number}")).address
        for number in range(300)
    ]
    for url in urls:
        assert 50 <= begun.count(f"{url}:1883") <= 150
    again = ClusterPort(settings(*urls, client_id="feeder-1/gateway-7"))
    assert again.address == begun[7]
