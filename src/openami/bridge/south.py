"""The way in: what the firmware's broker delivers. Nothing is ever sent there.

This is the one place that holds a connection to that broker, and it asks it for deliveries only: who has
them has no connection. Commands of the firmware's kind are taken from anybody, so a bridge that could
publish there would be one more who can switch a village off.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from openami.bridge.firmware import FILTERS
from openami.mqtt.port import Delivery, MessagePort

# Translated and committed together; a round of ten poles is about as many.
TAKEN_AT_ONCE_MAX: Final = 100


async def listen(
    port: MessagePort,
    joined: Callable[[], None],
    take: Callable[[Sequence[Delivery]], Awaitable[None]],
) -> None:
    """Hand over what comes, in order, until the connection ends (TransportError)."""
    async with port.connect() as connection:
        await connection.subscribe(FILTERS)
        joined()
        while True:
            deliveries = await connection.receive(TAKEN_AT_ONCE_MAX)
            await take(deliveries)
            connection.acknowledge(deliveries)
