"""PostgreSQL under Patroni loses its primary under load: is anything lost that the head-end acknowledged?

    python -m benchmarks.bench_failover [--kills 9] [--seed 1] [--rate 100] [--only WORDS]
        [--patroni PROGRAM] [--asynchronous] [--keep]

Three etcd members, three PostgreSQL servers with deploy/patroni/patroni.yml, mosquitto and the real head-end, on
loopback. A tap between head-end and broker hears each PUBACK. One failure after another, each kind at least once if
--kills allows, in the order of the seed; after each, every envelope that was acknowledged is looked for in the
primary, by identity and value. Prints a JSON object for each and one for all; exit code 1 when one is missing,
doubled or changed, when a former primary took a write, or when the cluster did not heal by itself.

--asynchronous is the control: without synchronous_mode, a primary dies ahead of its standbys, or wakes up and takes
writes, and both have to be found. Needs (Debian) patroni, etcd-server, postgresql-15, mosquitto, and root or the
user postgres.
"""

import argparse
import asyncio
import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.broker import running_broker
from benchmarks.failover.cluster import Cluster, make_database, running_cluster
from benchmarks.failover.kills import KILLS, Kill, Scene
from benchmarks.failover.load import Load
from benchmarks.failover.tap import Tap, running_tap
from benchmarks.failover.verdict import Row, longest_silence_s, lost, stored
from benchmarks.processes import free_port

CALM_S = 10.0  # between two failures, so that each finds work going on
BACK_S_MAX = 240.0  # until envelopes are acknowledged again
WHOLE_S_MAX = (
    180.0  # until the cluster is as it was; a server that is copied anew takes half of that here
)
LOOK_S = 0.25
QUIET_S = 1.0  # so long without an acknowledgement is an interruption
READY_TIMEOUT_S = 20.0  # /readyz tries a write for ten

STORED = """
SELECT meter_serial, ts, count(*), count(DISTINCT obis), max(number) FILTER (WHERE obis = '1.8.0')
FROM openami.readings GROUP BY meter_serial, ts
"""


@dataclass(slots=True)
class Watch:
    """What the head-end shows to whoever looks at it: /readyz, once a second."""

    port: int
    answers: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        while True:
            self.answers[await asyncio.to_thread(self._asked)] += 1
            await asyncio.sleep(1.0)

    def _asked(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=READY_TIMEOUT_S)
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            told = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError):
            return "no answer"
        finally:
            connection.close()
        failing = [check["name"] for check in told["checks"] if check["status"] == "fail"]
        return f"{answer.status} {' '.join(failing)}".strip()

    def taken(self) -> dict[str, int]:
        answers, self.answers = dict(self.answers), Counter()
        return answers


@contextmanager
def running_program(*command: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends."""
    with log.open("ab") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                                   env={**os.environ, "OPENAMI_LOG": "json"})  # fmt: skip
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=90)


def told_since(log: Path, offset: int) -> dict[str, int]:
    """Count what the head-end's log has said at warning or above, by event."""
    said: Counter[str] = Counter()
    for line in log.read_bytes()[offset:].splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            said["a line that is no JSON"] += b"ready:" not in line
            continue
        if event.get("level") in {"warning", "error", "critical"} or "again" in event["event"]:
            said[event["event"]] += 1
    return dict(+said)


class Night:
    """One run: everything that is started, and what each failure came to."""

    def __init__(self, cluster: Cluster, tap: Tap, load: Load, watch: Watch, log: Path) -> None:
        self.cluster, self.tap, self.load, self.watch, self.log = cluster, tap, load, watch, log

    async def suffer(self, kill: Kill) -> dict[str, Any]:
        """Let one failure happen, wait until all is well again; return its figures."""
        await asyncio.sleep(CALM_S)
        scene, offset = Scene(self.cluster), self.log.stat().st_size
        self.watch.taken()
        begun = time.monotonic()
        await kill.happens(scene)
        await self._acknowledges_again(begun, kill.held_s)
        back = time.monotonic()
        await kill.undone(scene)
        try:
            await until_async(self.cluster.is_whole, WHOLE_S_MAX)
            healed = True
        except TimeoutError:
            healed = False
        await self._acknowledges_again(time.monotonic(), 0.0)
        acknowledged = dict(self.tap.acknowledged)
        found = stored(await self.rows())
        return {
            "kill": kill.name,
            "acknowledged": len(acknowledged),
            "lost": lost(acknowledged, found),
            "doubled": found.doubled,
            "changed": found.changed,
            "healed": healed,
            "written_to_a_former_primary": scene.intruded,
            "seconds_without_commits": round(longest_silence_s(acknowledged, begun, back), 1),
            "the_same_while_it_came_back": round(
                longest_silence_s(acknowledged, back, time.monotonic()), 1
            ),
            "readyz": self.watch.taken(),
            "log": told_since(self.log, offset),
        }

    async def rows(self) -> list[Row]:
        """Return what the primary holds."""
        primary = await asyncio.to_thread(self.cluster.primary)
        assert primary is not None
        connection = await asyncpg.connect(self.cluster.url_of(primary))
        try:
            return [tuple(row) for row in await connection.fetch(STORED)]
        finally:
            await connection.close()

    async def copies(self) -> list[str]:
        """Return a digest of the readings in each server: they are three copies of one store."""
        found = []
        for server in self.cluster.servers:
            connection = await asyncpg.connect(self.cluster.url_of(server))
            found.append(
                await connection.fetchval(
                    "SELECT count(*) || ' ' || coalesce(sum(hashtextextended(r::text, 0)), 0) "
                    "FROM openami.reading r"
                )
            )
            await connection.close()
        return found

    async def _acknowledges_again(self, since: float, held_s: float) -> None:
        """Return when that time is over and envelopes that were sent just now have been acknowledged."""
        await asyncio.sleep(max(held_s, QUIET_S))
        wanted = self.load.published
        deadline = since + held_s + BACK_S_MAX
        while not all(n in self.tap.acknowledged for n in range(max(1, wanted - 50), wanted + 1)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing was acknowledged for {BACK_S_MAX:.0f} s")
            await asyncio.sleep(LOOK_S)

    async def drained(self) -> None:
        """Stop the load; return when all of it is acknowledged."""
        self.load.stop()
        await asyncio.sleep(QUIET_S)
        await until_async(lambda: len(self.tap.acknowledged) >= self.load.published, WHOLE_S_MAX)


async def until_async(happens: Callable[[], bool], seconds_max: float) -> None:
    """Return when it has happened. Raises TimeoutError."""
    async with asyncio.timeout(seconds_max):
        while not await asyncio.to_thread(happens):
            await asyncio.sleep(LOOK_S)


def chosen(asked: argparse.Namespace) -> Sequence[Kill]:
    """Return what happens: every kind before one comes again, in an order that the seed gives."""
    kinds = [
        kill
        for kill in KILLS
        if asked.only in kill.name and (kill.is_control or not asked.asynchronous)
    ]
    dice = random.Random(asked.seed)
    order: list[Kill] = []
    while len(order) < asked.kills:
        order += dice.sample(kinds, len(kinds))
    return order[: asked.kills]


async def night(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Start everything, let it suffer, return the sum."""
    web_port, log = free_port(), folder / "headend.log"
    servers = folder / "cluster"
    servers.mkdir()
    with (
        running_broker() as broker,
        running_cluster(servers, asked.patroni, synchronous=not asked.asynchronous) as cluster,
    ):
        await make_database(cluster)
        async with running_tap(broker.port) as tap:
            with running_program(
                sys.executable, "-m", "openami", "headend", "run",
                "--broker", f"mqtt://127.0.0.1:{tap.port}", "--store", cluster.url,
                "--listen", f"127.0.0.1:{web_port}", log=log,
            ):  # fmt: skip
                await until_async(lambda: b"ready:" in log.read_bytes(), BACK_S_MAX)
                load, watch = Load(broker.port, asked.rate), Watch(web_port)
                at_work = [asyncio.create_task(part.run()) for part in (load, watch)]
                run = Night(cluster, tap, load, watch, log)
                told = []
                for kill in chosen(asked):
                    told.append(await run.suffer(kill))
                    print(json.dumps(told[-1]), flush=True)
                    if not told[-1]["healed"]:
                        break  # with fewer servers the next failure would say nothing
                await run.drained()
                found = stored(await run.rows())
                copies = await run.copies()
                for part in at_work:
                    part.cancel()
    return {
        "benchmark": "failover",
        "patroni": version(asked.patroni),
        "synchronous": not asked.asynchronous,
        "kills": len(told),
        "seed": asked.seed,
        "per_s": asked.rate,
        "published": load.published,
        "acknowledged": len(tap.acknowledged),
        "lost": lost(tap.acknowledged, found),
        "doubled": found.doubled,
        "changed": found.changed,
        "written_to_a_former_primary": sum(one["written_to_a_former_primary"] for one in told),
        "healed": all(one["healed"] for one in told),
        "three_equal_copies": len(set(copies)) == 1,
    }


def version(program: str) -> str:
    """Return what a program says of itself: ``patroni 4.1.5``."""
    return subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()


def is_sound(figures: dict[str, Any]) -> bool:
    """Return whether nothing that was acknowledged is missing or wrong, and all is as it was before."""
    wrong = ("lost", "doubled", "changed", "written_to_a_former_primary")
    return (
        all(figures[name] == 0 for name in wrong)
        and figures["healed"]
        and figures["three_equal_copies"]
    )


def main() -> int:
    """Run it as asked on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=len(KILLS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=int, default=100, help="envelopes a second")
    parser.add_argument(
        "--patroni", default="patroni", help="the program, where it is not the installed one"
    )
    parser.add_argument("--only", default="", help="kinds whose name has this in it")
    parser.add_argument("--asynchronous", action="store_true", help="the control: it has to fail")
    parser.add_argument("--keep", action="store_true", help="keep the logs of a sound run, too")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="openami-failover-"))
    folder.chmod(0o755)  # the servers run as another user
    print(f"# logs: {folder}", file=sys.stderr)
    figures = asyncio.run(night(folder, asked))
    print(json.dumps(figures))
    if not is_sound(figures):
        return 1
    if not asked.keep:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
