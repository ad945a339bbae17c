"""Head-ends that share a broker's feeders, killed and frozen under load: nothing is lost, doubled or changed.

Promises 2 to 5, several programs in the place of one (decision 0073). For longer: `benchmarks/bench_workers.py`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from tests.conftest import StartMosquitto
from tests.e2e.sharing import (
    Load,
    Sharing,
    all_held_by,
    freeze,
    held_evenly_by,
    holder_of_the_rest,
    thaw,
    until,
)
from tests.e2e.test_kill import KEEPS

from openami.headend.store import Access
from openami.headend.store.open import open_store
from openami.headend.worker_life import TAKEOVER_BEYOND_LEASE_S

pytestmark = [pytest.mark.broker, pytest.mark.postgres, pytest.mark.slow]

SLICES = 3
LEASE_S = 2.0
FEEDERS = [f"feeder-{number:02}" for number in range(8)]
PER_SECOND = 200


@asynccontextmanager
async def sharing(
    mosquitto: StartMosquitto, postgres_url: str, directory: Path
) -> AsyncIterator[Sharing]:
    broker = mosquitto(*KEEPS)
    async with open_store(postgres_url):
        pass  # the schema, for who only reads
    async with open_store(postgres_url, Access.READ) as store:
        system = Sharing(broker.url, postgres_url, directory, SLICES, LEASE_S, store)
        try:
            yield system
        finally:
            await system.stop()
    system.assert_sound()


async def test_one_is_frozen_and_one_killed_under_load_and_the_other_takes_over(
    mosquitto: StartMosquitto, postgres_url: str, tmp_path: Path
) -> None:
    load = Load(FEEDERS)
    async with (
        sharing(mosquitto, postgres_url, tmp_path) as system,
        system.client("publisher").connect() as publisher,
    ):
        await system.start("a")
        await load.publish(publisher, len(FEEDERS))
        await system.start("b")
        await system.wait_for(held_evenly_by("a", "b"))
        rows = await system.wait_until_handed(FEEDERS)
        assert len({row.number for row in rows}) > 1, "they are shared"
        flowing = asyncio.create_task(load.flow(publisher, per_second=PER_SECOND))

        freeze(system.workers["a"])
        await system.wait_for(all_held_by("b"))
        thaw(system.workers["a"])
        await until(lambda: system.workers["a"].has_said("this one begins anew"))
        await system.wait_for(held_evenly_by("a", "b"))

        assert holder_of_the_rest(await system.holders()) == "b"
        await system.workers["b"].kill()
        took_s = await system.wait_for(all_held_by("a"))
        assert took_s < LEASE_S + TAKEOVER_BEYOND_LEASE_S
        flowing.cancel()
        with suppress(asyncio.CancelledError):
            await flowing
        await system.judge(load)
