"""The observer: listens at somebody's broker and hands on what passes, without touching it.

It has a session of its own that ends with it, publishes nothing, and is no client's rival. A broker tells less
than the kit's own door: neither who sent a message nor how often, and of its QoS only that it was not less than
what came.
"""

import asyncio
from collections.abc import Callable, Sequence

from openami.clock import Clock
from openami.conformance.observation import Published
from openami.mqtt.backoff import Backoff
from openami.mqtt.client import MqttConnection, MqttPort
from openami.mqtt.port import TransportError
from openami.mqtt.settings import BrokerSettings

# A tenth of a second's messages at the pace the judge has to keep; what is left waits.
TAKEN_AT_ONCE_MAX = 100
# Somebody is waiting for the verdict: a broker that is back is listened to within ten seconds.
RECONNECT_CEILING_S = 10.0


async def observe(
    settings: BrokerSettings,
    filters: Sequence[str],
    see: Callable[[Published], None],
    *,
    clock: Clock,
    random: Callable[[], float],
    tell: Callable[[str], None],
) -> None:
    """Hand on what passes until cancelled; ``tell`` is told in sentences when it begins, and of any gap.

    Returns when the broker has let us in once and never will again. Raises TransportError when it never did.
    """
    port, backoff = MqttPort(settings), Backoff(random, ceiling_s=RECONNECT_CEILING_S)
    came_in = False
    while True:
        try:
            async with port.connect() as connection:
                await _listen_in(connection, filters)
                tell(f"watching {', '.join(filters)} at {settings.endpoint}")
                came_in = True
                is_5 = settings.protocol == "5"
                await _hand_on(connection, see, clock, backoff, retains_as_published=is_5)
        except TransportError as error:
            if not came_in:
                raise
            if error.permanent:
                tell(f"{error}; {error.remedy}" if error.remedy else str(error))
                return
            tell(f"{error}; what passes until the broker answers again is not seen")
        await asyncio.sleep(backoff.next_s())


async def _listen_in(connection: MqttConnection, filters: Sequence[str]) -> None:
    if await connection.overhear(filters) < 1:
        raise TransportError(
            "the broker passes messages on with QoS 0 only: nobody could tell how they were sent",
            remedy="allow QoS 1 for this client; the profile asks a broker for it",
            permanent=True,
        )


async def _hand_on(
    connection: MqttConnection,
    see: Callable[[Published], None],
    clock: Clock,
    backoff: Backoff,
    *,
    retains_as_published: bool,
) -> None:
    while True:
        deliveries = await connection.receive(TAKEN_AT_ONCE_MAX)
        backoff.reset()
        now = clock.now()
        for delivery in deliveries:
            see(
                Published(
                    at=now,
                    topic=delivery.topic,
                    payload=delivery.payload,
                    qos=1 if delivery.packet_id else 0,
                    retain=delivery.retain,
                    stored=delivery.retain and not retains_as_published,
                )
            )
        connection.acknowledge(deliveries)
