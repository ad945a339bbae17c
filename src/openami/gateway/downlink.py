"""The downlink: what the broker delivers to the gateway, on the connection the uplink has.

Two loops over one connection's life: deliveries in, announcements out. A delivery is acknowledged when what
follows from it is on the disk, so what a crash takes is delivered again, and then known or refused; see
`openami.gateway.commanding` for the deciding.
"""

from functools import partial

import structlog

from openami.gateway.commanding import Commanding
from openami.mqtt.port import Connection, Delivery, PublishRefused
from openami.profile import (
    CommandTopic,
    FeederId,
    GatewayId,
    ProfileError,
    SessionTopic,
    parse_topic,
)

# Decided one after the other; the broker keeps the rest, and gives it in its own order.
DELIVERIES_TAKEN_MAX = 20

_log = structlog.get_logger(__name__)


async def receive(
    commanding: Commanding, connection: Connection, feeder_id: FeederId, gateway_id: GatewayId
) -> None:
    """Subscribe, renew every nonce, and take what comes until the connection ends (TransportError)."""
    await connection.subscribe(
        [SessionTopic.filter(feeder_id, gateway_id), CommandTopic.filter(feeder_id, gateway_id)]
    )
    try:
        await commanding.connected()
        while True:
            for delivery in await connection.receive(DELIVERIES_TAKEN_MAX):
                await _take(commanding, connection, delivery)
    finally:
        commanding.disconnected()


async def _take(commanding: Commanding, connection: Connection, delivery: Delivery) -> None:
    decided = partial(connection.acknowledge, [delivery])
    try:
        topic = parse_topic(delivery.topic)
    except ProfileError as error:
        _log.warning("delivery on a foreign topic", topic=delivery.topic[:200], reason=str(error))
        decided()
        return
    match topic:
        case SessionTopic():
            await commanding.take_session(topic, delivery.payload, retain=delivery.retain)
            decided()
        case CommandTopic():
            await commanding.take_command(
                topic, delivery.payload, retain=delivery.retain, decided=decided
            )
        case _:
            decided()  # not subscribed to; somebody else's filter under our session


async def announce(commanding: Commanding, connection: Connection) -> None:
    """Publish acts and repeated reports until the connection ends (TransportError)."""
    while True:
        topic, payload = await commanding.next_announcement()
        try:
            await connection.publish(topic, payload)
        except PublishRefused as refusal:
            _log.warning("publish refused", topic=topic, reason=str(refusal), remedy=refusal.remedy)
