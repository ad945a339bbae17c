"""Head-ends that share a broker's feeders: throughput of one and of two, and how long a takeover takes.

Real programs, mosquitto and PostgreSQL on the cores they share. Throughput as `bench_ingest` has it, over FEEDERS
feeders that have been handed to their slices before. Takeover: a load of PER_SECOND messages flows without a pause;
the holder of the rest is killed with -9 and started again, KILLS times, then one is frozen and woken. In the end
every message the broker has acknowledged is looked for in the store by its identity.

    python -m benchmarks.bench_workers [MESSAGES] [RUNS] [KILLS] [LEASE_S]
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from benchmarks.broker import running_broker
from benchmarks.postgres_server import database, postgres_server
from benchmarks.processes import cpu_s
from benchmarks.publisher import feeder_of
from benchmarks.sharing import REGISTERS as READINGS_A_MESSAGE
from benchmarks.sharing import (
    Load,
    Sharing,
    all_held_by,
    freeze,
    held_evenly_by,
    holder_of_the_rest,
    thaw,
)
from openami.headend.store import Access
from openami.headend.store.open import open_store
from openami.headend.worker_life import LEASE_S

SLICES = 8
FEEDERS = 32
METERS = 480
REGISTERS = 3
PER_SECOND = 200
# Who is no more than that behind what has been published has caught up.
A_SECOND = PER_SECOND * READINGS_A_MESSAGE


@asynccontextmanager
async def sharing(folder: str, url: str, lease_s: float) -> AsyncIterator[Sharing]:
    """Run a broker beside an empty database; yield what workers are started on."""
    async with open_store(url):
        pass
    with running_broker() as broker:
        async with open_store(url, Access.READ) as store:
            system = Sharing(broker.url, url, Path(folder), SLICES, lease_s, store)
            try:
                yield system
            finally:
                await system.stop()
    system.assert_sound()


async def throughput(url: str, workers: int, messages: int) -> dict[str, float]:
    """Publish and store everything once; return the figures of the run."""
    names = "ab"[:workers]
    feeders = [feeder_of(meter, FEEDERS) for meter in range(FEEDERS)]
    with tempfile.TemporaryDirectory() as folder:
        async with sharing(folder, url, LEASE_S) as system:
            for name in names:
                await system.start(name)
            await system.wait_for(held_evenly_by(*names))
            before = Load(feeders)
            async with system.client("first").connect() as first:
                await before.publish(first, FEEDERS)
            await system.wait_until_handed(feeders)
            port = system.broker_url.rpartition(":")[2]
            publisher = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.publisher", port),
                *map(str, (messages, METERS, REGISTERS, 0, FEEDERS)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert publisher.stdin is not None
            assert publisher.stdout is not None
            await publisher.stdout.readline()
            pids = [program.pid for program in system.workers.values() if program.pid]
            wanted = before.readings + messages * REGISTERS
            used_s, began_s = sum(map(cpu_s, pids)), time.perf_counter()
            publisher.stdin.write(b"go\n")
            await system.wait_until_stored(lambda: wanted)
            took_s = time.perf_counter() - began_s
            used_s = sum(map(cpu_s, pids)) - used_s
            await publisher.wait()
            totals = await system.store.totals()
    assert (totals.stored, totals.conflicts) == (wanted, 0)
    return {
        "envelopes_per_s": messages / took_s,
        "headend_cpu_us_per_envelope": used_s / messages * 1e6,
    }


async def takeovers(url: str, kills: int, lease_s: float) -> dict[str, object]:
    """Kill, freeze and count; return the seconds each takeover took, and what became of the messages."""
    load = Load([f"feeder-{number:02}" for number in range(16)])
    held_s, caught_up_s = [], []
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as folder:
        async with (
            sharing(folder, url, lease_s) as system,
            system.client("publisher").connect() as publisher,
        ):
            await system.start("a")
            await system.start("b")
            await load.publish(publisher, len(load.feeders))
            await system.wait_until_handed(load.feeders)
            flowing = asyncio.create_task(load.flow(publisher, per_second=PER_SECOND))
            for _ in range(kills):
                await system.wait_for(held_evenly_by("a", "b"))
                victim = holder_of_the_rest(await system.holders())
                survivor = "a" if victim == "b" else "b"
                await system.workers[victim].kill()
                killed_s = loop.time()
                await system.wait_for(all_held_by(survivor))
                held_s.append(loop.time() - killed_s)
                await system.wait_until_stored(lambda: load.readings - A_SECOND)
                caught_up_s.append(loop.time() - killed_s)
                await system.start(victim)
            await system.wait_for(held_evenly_by("a", "b"))
            freeze(system.workers["a"])
            await system.wait_for(all_held_by("b"))
            thaw(system.workers["a"])
            await system.wait_for(held_evenly_by("a", "b"))
            flowing.cancel()
            with suppress(asyncio.CancelledError):
                await flowing
            totals = await system.judge(load)
    return {
        "lease_s": lease_s,
        "held_s": spread(held_s),
        "caught_up_s": spread(caught_up_s),
        "messages": load.published.total(),
        "readings_stored_once": totals.stored,
        "delivered_again": totals.duplicates,
    }


def spread(values: list[float]) -> dict[str, float]:
    """Return the middle and the ends of some figures."""
    return {
        "median": round(statistics.median(values), 1),
        "min": round(min(values), 1),
        "max": round(max(values), 1),
    }


def main(arguments: list[str]) -> None:
    """Run the benchmark; print one JSON object for each part."""
    messages = int(arguments[0]) if arguments else 100_000
    runs = int(arguments[1]) if len(arguments) > 1 else 3
    kills = int(arguments[2]) if len(arguments) > 2 else 10
    lease_s = float(arguments[3]) if len(arguments) > 3 else LEASE_S
    with postgres_server() as server:
        if server is None:
            sys.exit("PostgreSQL is not installed: apt install postgresql")
        for workers in (1, 2):
            found = []
            for _ in range(runs):
                with database(server) as url:
                    found.append(asyncio.run(throughput(url, workers, messages)))
            figures = {name: spread([run[name] for run in found]) for name in found[0]}
            told = {"benchmark": "workers", "workers": workers, "messages": messages, "runs": runs}
            print(json.dumps({**told, **figures}), flush=True)
        told = {"benchmark": "takeover", "kills": kills}
        with database(server) as url:
            suffered = asyncio.run(takeovers(url, kills, lease_s))
        print(json.dumps({**told, **suffered}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
