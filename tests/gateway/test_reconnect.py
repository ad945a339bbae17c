"""The gateway's way back to the broker: it ends when it is told to, at whatever moment that is."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.gateway.clock_double import START, ClockDouble
from tests.gateway.outbox_samples import telemetry

from openami.clock import Clock
from openami.gateway.metrics import GatewayMetrics
from openami.gateway.outbox import Outbox, OutboxLimits, open_outbox
from openami.gateway.reconnect import Reconnector
from openami.gateway.snapshot import UplinkView
from openami.gateway.uplink import UplinkSettings
from openami.mqtt.backoff import Backoff
from openami.mqtt.memory import MemoryBroker
from openami.mqtt.port import Connection
from openami.simulator.virtual_time import MachineClock, VirtualTimeLoop

ENDS_WITHIN_S = 2.0


async def receive(connection: Connection) -> None:
    """Stand for the downlink: wait for deliveries until the connection ends."""
    while True:
        await connection.receive(1)


def way_back(
    broker: MemoryBroker, outbox: Outbox, clock: Clock, backoff: Backoff, view: UplinkView
) -> Reconnector:
    return Reconnector(
        broker.port("gateway"),
        outbox,
        UplinkSettings(),
        clock=clock,
        backoff=backoff,
        view=view,
        metrics=GatewayMetrics(),
        downlink=(receive,),
    )


@pytest.mark.parametrize("turns", range(6))
async def test_told_to_end_while_the_connection_breaks_it_ends(tmp_path: Path, turns: int) -> None:
    """So many turns of the loop lie between the two; before Python 3.13 a task group forgot the first."""
    broker, clock = MemoryBroker(), ClockDouble()
    async with open_outbox(tmp_path / "gateway.db", OutboxLimits(), clock) as outbox:
        view = UplinkView("memory")
        backoff = Backoff(random.Random(1).random, first_s=0.001, ceiling_s=0.002)
        reconnector = way_back(broker, outbox, clock, backoff, view)
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


@pytest.mark.parametrize("sends", [True, False])
def test_after_an_outage_the_next_loss_costs_a_moment_if_something_was_acknowledged(
    tmp_path: Path, sends: bool
) -> None:
    """An hour without a broker, twenty seconds with it, and it goes again: as a cluster's nodes do."""
    loop = VirtualTimeLoop()
    broker = MemoryBroker()

    async def back_after_s() -> float:
        clock = MachineClock(loop, START)
        async with open_outbox(tmp_path / "gateway.db", OutboxLimits(), clock) as outbox:
            view = UplinkView("memory")
            reconnector = way_back(broker, outbox, clock, Backoff(lambda: 0.9), view)
            task = asyncio.create_task(reconnector.run())
            broker.stop()
            await asyncio.sleep(3600)
            if sends:
                await outbox.append([telemetry(clock.now())])
            broker.start()
            await until(lambda: view.connected)
            await asyncio.sleep(20)
            broker.cut("gateway")
            lost_at_s = loop.time()
            await until(lambda: not view.connected)
            await until(lambda: view.connected)
            task.cancel()
            await asyncio.wait({task})
            return loop.time() - lost_at_s

    try:
        took_s = loop.run_until_complete(back_after_s())
    finally:
        loop.close()
    assert took_s < 2 if sends else took_s > 60


async def until(happens: Callable[[], bool]) -> None:
    while not happens():
        await asyncio.sleep(0.1)
