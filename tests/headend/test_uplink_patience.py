"""How often a head-end tries a broker that is away: an hour of virtual time."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from openami.headend.store.open import open_store
from openami.headend.uplink import Uplink
from openami.mqtt.backoff import Backoff
from openami.mqtt.memory import MemoryBroker
from openami.mqtt.port import Connection, MessagePort
from openami.profile import shipped_catalogue
from openami.simulator.virtual_time import MachineClock, VirtualTimeLoop
from openami.simulator.world.world import EPOCH

CEILING_S = 60.0
HOUR_S = 3600.0


class CountedPort:
    """A way to the broker whose attempts are counted."""

    def __init__(self, port: MessagePort) -> None:
        self.attempts = 0
        self._port = port

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        self.attempts += 1
        async with self._port.connect() as connection:
            yield connection


def attempts_in_an_hour(directory: Path, *, after_s: float) -> int:
    """Return how often a broker is tried that goes away for an hour, so long after it was joined."""
    loop = VirtualTimeLoop()
    broker = MemoryBroker()
    port = CountedPort(broker.port("headend"))

    async def life() -> int:
        async with open_store(f"sqlite:///{directory}/headend.db") as store:
            uplink = Uplink(
                port,
                store,
                catalogue=shipped_catalogue(),
                clock=MachineClock(loop, EPOCH),
                broker_backoff=Backoff(random.Random(1).random, ceiling_s=CEILING_S),
                store_backoff=Backoff(random.Random(2).random, ceiling_s=CEILING_S),
            )
            task = asyncio.create_task(uplink.run())
            await asyncio.sleep(after_s)
            broker.stop()
            before = port.attempts
            await asyncio.sleep(HOUR_S)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return port.attempts - before

    try:
        return loop.run_until_complete(life())
    finally:
        loop.close()


def test_a_broker_that_is_away_is_tried_less_and_less_often(tmp_path: Path) -> None:
    """However long the connection before had held: it proved that broker, not the one that is gone."""
    fewest, most = HOUR_S / CEILING_S, 3 * HOUR_S / CEILING_S
    assert fewest < attempts_in_an_hour(tmp_path, after_s=30) < most
    assert fewest < attempts_in_an_hour(tmp_path, after_s=7 * HOUR_S) < most
