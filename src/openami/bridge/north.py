"""The way up: what the spool holds goes to the operator's broker, and is forgotten on its PUBACK.

Oldest first: there is no command to answer and nobody who waits for now. A message the broker refuses is
set aside for an hour and passed by the others (decision 0027). What a lost connection or a crash leaves
unforgotten is sent again, which harms nobody (decision 0006).
"""

import asyncio
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Final

import structlog

from openami.bridge.metrics import BridgeMetrics
from openami.bridge.spool import Entry, Spool
from openami.clock import Clock
from openami.mqtt.port import Connection, PublishRefused

# mosquitto takes 20 at once from a client by default.
WINDOW_MESSAGES: Final = 20
# The broker's access list is mended by a person; until then each try costs the link for nothing.
OFFERED_AGAIN_AFTER: Final = timedelta(hours=1)
# While nothing is new, so often is looked for what was refused and is due again.
LOOK_INTERVAL_S: Final = 60.0

_log = structlog.get_logger(__name__)


async def send(
    connection: Connection,
    spool: Spool,
    clock: Clock,
    metrics: BridgeMetrics,
    *,
    proved: Callable[[], None] = lambda: None,
) -> None:
    """Send what the spool holds and what comes, until the connection ends; tell ``proved`` of what is acknowledged.

    Raises TransportError when it ends, SpoolError when the spool cannot be read or written.
    """
    while True:
        spool.appended.clear()
        entries = await spool.due(clock.now(), WINDOW_MESSAGES)
        if entries:
            await _publish(entries, connection, spool, clock, metrics, proved)
        else:
            await _until_appended(spool)


async def _until_appended(spool: Spool) -> None:
    try:
        async with asyncio.timeout(LOOK_INTERVAL_S):
            await spool.appended.wait()
    except TimeoutError:
        return


async def _publish(
    entries: Collection[Entry],
    connection: Connection,
    spool: Spool,
    clock: Clock,
    metrics: BridgeMetrics,
    proved: Callable[[], None],
) -> None:
    results = await asyncio.gather(
        *(connection.publish(entry.topic, entry.payload) for entry in entries),
        return_exceptions=True,
    )
    acknowledged: list[Entry] = []
    refused: list[int] = []
    broken: BaseException | None = None
    for entry, result in zip(entries, results, strict=True):
        match result:
            case None:
                acknowledged.append(entry)
            case PublishRefused():
                refused.append(entry.id)
                _log.warning(
                    "publish refused", topic=entry.topic, reason=str(result), remedy=result.remedy
                )
            case _:
                broken = result
    if acknowledged:
        proved()
        await spool.forget([entry.id for entry in acknowledged])
        metrics.sent.inc(len(acknowledged))
        metrics.sent_bytes.inc(sum(len(entry.payload) for entry in acknowledged))
    if refused:
        await spool.set_aside(refused, clock.now() + OFFERED_AGAIN_AFTER)
        metrics.refused.inc(len(refused))
    if broken is not None:
        raise broken
