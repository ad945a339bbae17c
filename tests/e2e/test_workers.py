"""Head-ends that share a broker's feeders, killed and frozen under load: nothing is lost, doubled or changed.

Promises 2 to 5, several programs in the place of one (decision 0073). For longer: `benchmarks/bench_workers.py`.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from benchmarks.sharing import (
    TAKEOVER_BEYOND_LEASE_S,
    Load,
    Sharing,
    all_held_by,
    freeze,
    held_evenly_by,
    holder_of_the_rest,
    thaw,
    until,
)
from tests.conftest import StartMosquitto
from tests.e2e.commanded import SEED, Surroundings, commanded_village
from tests.e2e.test_commands import all_ended, assert_ended_once, request
from tests.e2e.test_kill import KEEPS

from openami.headend.slices import REST
from openami.headend.store import Access
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.open import open_store
from openami.profile import MeterSerial
from openami.profile.command import CommandState
from openami.simulator.programs import Program
from openami.sip.actions import Action

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

        victim = holder_of_the_rest(await system.holders())
        await system.workers[victim].kill()
        took_s = await system.wait_for(all_held_by("a" if victim == "b" else "b"))
        assert took_s < LEASE_S + TAKEOVER_BEYOND_LEASE_S
        flowing.cancel()
        with suppress(asyncio.CancelledError):
            await flowing
        await system.judge(load)


# One shows that it works; more of them in many places of a command's life, for whoever changes it.
KILLS = int(os.environ.get("OPENAMI_WORKER_KILLS", "1"))
COMMANDS_EACH_TURN = 3


async def test_commands_in_flight_when_their_worker_dies_end_once_and_move_once(
    mosquitto: StartMosquitto, postgres_url: str, tmp_path: Path
) -> None:
    """The holder of the rest is killed in the middle of them, again and again; the other one goes on."""
    chance = random.Random(SEED)
    shared = f'[workers]\nslices = {SLICES}\nlease_s = {LEASE_S}\nname = "a"\n'
    async with (
        commanded_village(
            mosquitto,
            tmp_path,
            meters=KILLS * COMMANDS_EACH_TURN + 1,
            headend_more=shared,
            slices=SLICES,
            around=Surroundings(store_url=postgres_url),
        ) as system,
        open_store(postgres_url, Access.EDIT) as store,
        AsyncExitStack() as parts,
    ):
        config = (tmp_path / "headend.toml").read_text().replace('name = "a"', 'name = "b"')
        (tmp_path / "b.toml").write_text(config)
        workers = {
            "a": system.headend,
            "b": Program(
                "b", ["headend", "run", "-c", str(tmp_path / "b.toml")], log=tmp_path / "b.log"
            ),
        }
        parts.push_async_callback(workers["b"].stop)
        await workers["b"].start()
        waiting = list(system.serials)
        asked = []
        for _ in range(KILLS):
            while not await living(store) >= {"a", "b"}:
                await asyncio.sleep(0.05)
            leader = await holder(store, REST)
            for _ in range(COMMANDS_EACH_TURN):
                asked.append(await request(store, waiting.pop(), Action.DISCONNECT))
                await asyncio.sleep(chance.uniform(0.0, 0.03))
            await asyncio.sleep(chance.uniform(0.0, 0.1))
            await workers[leader].kill()
            await workers[leader].start()
        ended = await all_ended(store, [command.id for command in asked])
        states = [command.resolved_as or command.state for command in ended]
        assert states == [CommandState.CONFIRMED] * len(asked)
        assert system.orders() == {MeterSerial(command.meter_serial): 1 for command in asked}
        await system.run("audit", "verify")
        assert_ended_once(await system.run("audit", "list", "--json", "--limit", "1000"), asked)
        system.assert_sound()
    assert "Traceback" not in (tmp_path / "b.log").read_text()


async def living(store: HeadEndStore) -> set[str]:
    """Return the names of the workers that hold something."""
    roster = await store.roster()
    return {worker.name for worker in roster.workers if roster.held_by(worker.id)}


async def holder(store: HeadEndStore, number: int) -> str:
    """Return the name of who holds a slice."""
    roster = await store.roster()
    names = {worker.id: worker.name for worker in roster.workers}
    return names[roster.slices[number].holder or ""]
