"""Playing a gateway: the shell that carries ``played_gateway.py`` to the broker, through the kit's own door.

It comes as any gateway does, with TLS and a certificate, so the judge sees of it what it sees of others.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Final

from openami.conformance.played_gateway import Answer, PlayedGateway
from openami.mqtt.client import MqttPort
from openami.mqtt.port import Connection, TransportError
from openami.mqtt.settings import BrokerSettings

# Often enough that a head-end shows it at once.
INTERVAL_S: Final = 2.0
# The event, and the messages that test a head-end's patience, come between ordinary ones.
_EVENT_AT = 2
_TWICE_AT = 3
_NONSENSE_AT = 4
_TAKEN_AT_ONCE_MAX = 10
# A link that was cut is there again within a second; the kit cuts none of its own.
_AGAIN_S = 1.0
_NONCE_BYTES = 16


async def play(
    gateway: PlayedGateway,
    settings: BrokerSettings,
    now: Callable[[], datetime],
    *,
    interval_s: float = INTERVAL_S,
) -> None:
    """Be the gateway, until cancelled."""
    while True:
        try:
            async with MqttPort(settings).connect() as connection, asyncio.TaskGroup() as group:
                # Before it asks for commands it shows, by what it publishes, that it is a gateway.
                await _tell(gateway, connection, 0, now())
                await connection.subscribe(gateway.filters)
                group.create_task(_listen(gateway, connection, group, now), name="played: listen")
                for number in range(1, 2**31):
                    await asyncio.sleep(interval_s)
                    await _tell(gateway, connection, number, now())
        except* TransportError:
            await asyncio.sleep(_AGAIN_S)


async def _tell(gateway: PlayedGateway, connection: Connection, number: int, now: datetime) -> None:
    messages = list(gateway.readings(now))
    if number == _EVENT_AT:
        messages.append(gateway.event(now))
    if number == _TWICE_AT:
        messages.append(messages[0])
    if number == _NONSENSE_AT:
        messages.append(gateway.nonsense())
    for topic, payload in messages:
        await connection.publish(topic, payload)


async def _listen(
    gateway: PlayedGateway,
    connection: Connection,
    group: asyncio.TaskGroup,
    now: Callable[[], datetime],
) -> None:
    while True:
        deliveries = await connection.receive(_TAKEN_AT_ONCE_MAX)
        connection.acknowledge(deliveries)
        for delivery in deliveries:
            nonce = secrets.token_bytes(_NONCE_BYTES)
            for answer in gateway.answers(delivery.topic, delivery.payload, nonce=nonce, now=now()):
                group.create_task(_say(connection, answer), name="played: answer")


async def _say(connection: Connection, answer: Answer) -> None:
    await asyncio.sleep(answer.after_s)
    with contextlib.suppress(TransportError):
        await connection.publish(answer.topic, answer.payload)
