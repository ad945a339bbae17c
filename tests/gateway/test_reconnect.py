"""The gateway's way back to the broker: it ends when it is told to, at whatever moment that is."""

import asyncio
import random
from pathlib import Path

import pytest
from tests.gateway.clock_double import ClockDouble

from openami.gateway.metrics import GatewayMetrics
from openami.gateway.outbox import OutboxLimits, open_outbox
from openami.gateway.reconnect import Reconnector
from openami.gateway.snapshot import UplinkView
from openami.gateway.uplink import UplinkSettings
from openami.mqtt.backoff import Backoff
from openami.mqtt.memory import MemoryBroker
from openami.mqtt.port import Connection

ENDS_WITHIN_S = 2.0


async def receive(connection: Connection) -> None:
    """Stand for the downlink: wait for deliveries until the connection ends."""
    while True:
        await connection.receive(1)


@pytest.mark.parametrize("turns", range(6))
async def test_told_to_end_while_the_connection_breaks_it_ends(tmp_path: Path, turns: int) -> None:
    """So many turns of the loop lie between the two; before Python 3.13 a task group forgot the first."""
    broker, clock = MemoryBroker(), ClockDouble()
    async with open_outbox(tmp_path / "gateway.db", OutboxLimits(), clock) as outbox:
        view = UplinkView("memory")
        reconnector = Reconnector(
            broker.port("gateway"),
            outbox,
            UplinkSettings(),
            clock=clock,
            backoff=Backoff(random.Random(1).random, first_s=0.001, ceiling_s=0.002),
            view=view,
            metrics=GatewayMetrics(),
            downlink=(receive,),
        )
        task = asyncio.create_task(reconnector.run())
        async with asyncio.timeout(ENDS_WITHIN_S):
            while not view.connected:
                await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        broker.cut("gateway")
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=ENDS_WITHIN_S)
        ended = task.cancelled()
        while not task.done():  # leave nothing behind for the other tests
            task.cancel()
            await asyncio.sleep(0)
        assert ended
