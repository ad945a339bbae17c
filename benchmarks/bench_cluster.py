"""Brokers of three nodes under kill -9: what was acknowledged and lost, what came twice, and how long it was still.

Three real nodes on loopback with the configuration `openami broker-config` prints (TLS, rights and all), gateways
that publish profile envelopes at QoS 1 as fast as they are acknowledged, and the real head-end program, which
commands nobody and so asks nobody for a gap. Each round a node is killed at a moment and by a rule that follow from
the seed, and brought back twenty seconds later; then everything that had a PUBACK is looked for in the store.
mosquitto is the control: one node, the configuration we ship, and a PUBACK that is no write.

    python -m benchmarks.bench_cluster rabbitmq|nats|mosquitto [--kills N] [--aims A,B] [--seed N] [--gateways N]

Prints a JSON object a round and one for all of them.
"""

import argparse
import asyncio
import json
import logging
import random
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise, repeat
from pathlib import Path
from typing import Final

import structlog

from benchmarks.clusters.certificates import Certificates
from benchmarks.clusters.cluster import Cluster
from benchmarks.clusters.gateways import Gateway, identity, name
from benchmarks.clusters.mosquitto import MosquittoAlone
from benchmarks.clusters.nats import NatsCluster
from benchmarks.clusters.rabbitmq import RabbitCluster
from openami.mqtt.broker_rights import BrokerRights
from openami.mqtt.settings import BrokerSettings
from openami.simulator.programs import PartFailed, Program

BROKERS: Final[dict[str, Callable[[Path, Certificates, BrokerRights], Cluster]]] = {
    "rabbitmq": RabbitCluster,
    "nats": NatsCluster,
    "mosquitto": MosquittoAlone,
}
HEADEND: Final = "hes-1"
# Whom a kill is meant for. "all" takes every node at once; "away" too, while the head-end is not there and all
# that was acknowledged waits in its session.
AIMS: Final = ("publishers", "session", "headend", "any", "all", "away")
BEFORE_S: Final = (5.0, 8.0)  # of undisturbed work, drawn evenly
DOWN_S: Final = 20.0  # a node is away so long, every node together a tenth of it
AFTER_S: Final = 6.0
# A round's readings are looked for until nothing has come for so long: twice what a broker waits before it
# sends again what was not acknowledged (NATS: 30 s).
QUIET_S: Final = 60.0
START_S_MAX: Final = 180.0
ANSWERED_S_MAX: Final = 180.0  # backoff and a cluster's restart
LOOK_S: Final = 0.05


class Store:
    """The head-end's SQLite file, looked at from beside it."""

    def __init__(self, file: Path) -> None:
        self._connection = sqlite3.connect(
            f"file:{file}?mode=ro", uri=True, check_same_thread=False
        )

    def stored(self) -> int:
        """Return how many readings were stored."""
        return int(self._one("SELECT stored FROM tally"))

    def duplicates(self) -> int:
        """Return how many came again."""
        return int(self._one("SELECT duplicates FROM tally"))

    def identities(self) -> list[tuple[str, int]]:
        """Return meter and time of every row."""
        return self._connection.execute(
            "SELECT meter_serial, bucket * 14400000 + ms FROM reading JOIN series ON id = series"
        ).fetchall()

    def _one(self, query: str) -> int:
        (value,) = self._connection.execute(query).fetchone()
        return int(value)


class Watch:
    """Notes when the store grew."""

    def __init__(self, store: Store) -> None:
        self.grown: list[tuple[float, int]] = []  # bound: twenty a second for a benchmark's length
        self._store = store

    async def run(self) -> None:
        while True:
            stored = await asyncio.to_thread(self._store.stored)
            if not self.grown or stored > self.grown[-1][1]:
                self.grown.append((time.monotonic(), stored))
            await asyncio.sleep(LOOK_S)


class Bench:
    """One cluster, its gateways and its head-end, over as many rounds as are asked for."""

    def __init__(
        self, cluster: Cluster, headend: Program, gateways: Sequence[Gateway], log: Path
    ) -> None:
        self.cluster = cluster
        self.gateways = gateways
        self._headend = headend
        self._log = log
        self.store: Store
        self.watch: Watch

    async def round(self, aim: str, dice: random.Random) -> dict[str, object]:
        """Work, kill, wait, bring back, work; return what it cost."""
        known = [len(gateway.acknowledged) for gateway in self.gateways]
        duplicates = self.store.duplicates()
        if aim == "away":
            await self._headend.stop()
        self._go()
        began = time.monotonic()
        await asyncio.sleep(dice.uniform(*BEFORE_S))
        nodes = await asyncio.to_thread(self._nodes, aim, dice)
        killed = time.monotonic()
        for index in nodes:
            self.cluster.nodes[index].kill()
        down_s = DOWN_S if len(nodes) < len(self.cluster.nodes) else DOWN_S / 10
        await asyncio.sleep(down_s)
        starting = time.monotonic()
        await asyncio.to_thread(self.cluster.bring_back, nodes)
        back = time.monotonic()
        await asyncio.sleep(AFTER_S)
        over = time.monotonic()
        if aim == "away":
            await self._headend.start()
        await self._quiet()
        everything = self.store.identities()
        present = set(everything)
        acknowledged = self.acknowledged(known)
        return {
            "aim": aim,
            "killed": [index + 1 for index in nodes],
            "acknowledged": len(acknowledged),
            "lost": len(acknowledged - present),
            "stored_twice": len(everything) - len(present),
            "delivered_again": self.store.duplicates() - duplicates,
            "per_s_before": self._rate(began + 1, killed),
            "per_s_down": self._rate(killed, starting),
            "per_s_after": self._rate(back, over),
            "publishing_still_s": round(max(self._pauses(killed, over)), 2),
            "all_publishing_still_s": round(self._common_pause(killed, over), 2),
            "delivery_still_s": round(_pause([at for at, _ in self.watch.grown], killed, over), 2),
            "back_in_s": round(back - starting, 2),
            "down_s": round(starting - killed, 2),
        }

    def acknowledged(self, known: Sequence[int] = ()) -> set[tuple[str, int]]:
        """Return what had a PUBACK, beyond the first so many of each gateway."""
        return {
            identity(gateway.index, number)
            for gateway, before in zip(self.gateways, known or repeat(0), strict=False)
            for _, number in gateway.acknowledged[before:]
        }

    def _go(self) -> None:
        for gateway in self.gateways:
            gateway.going.set()

    async def _quiet(self) -> None:
        """Let nothing new be sent; return when everything is answered and nothing more is stored."""
        for gateway in self.gateways:
            gateway.going.clear()
        async with asyncio.timeout(ANSWERED_S_MAX):
            while any(gateway.owed for gateway in self.gateways):
                await asyncio.sleep(LOOK_S)
        wanted = sum(gateway.sent for gateway in self.gateways)
        at, stored = time.monotonic(), self.store.stored()
        while stored < wanted and time.monotonic() - at < QUIET_S:
            await asyncio.sleep(LOOK_S)
            await started_again(self._headend)
            if (now := self.store.stored()) > stored:
                at, stored = time.monotonic(), now

    def _nodes(self, aim: str, dice: random.Random) -> Sequence[int]:
        """Return which nodes a kill with this aim takes."""
        everyone = range(len(self.cluster.nodes))
        match aim:
            case "all" | "away":
                return everyone
            case "publishers":
                held = [gateway.node for gateway in self.gateways]
                return [max(everyone, key=held.count)]
            case "session":
                leader = self.cluster.leader(HEADEND)
                return [dice.choice(everyone) if leader is None else leader]
            case "headend":
                return [self._headends_node()]
            case _:
                return [dice.choice(everyone)]

    def _headends_node(self) -> int:
        """Return the node the head-end said last that it is connected to."""
        if len(self.cluster.urls) == 1:
            return 0
        said = [
            json.loads(line)["address"]
            for line in self._log.read_text().splitlines()
            if '"broker node"' in line
        ]
        return self.cluster.urls.index(said[-1])

    def _rate(self, began: float, ended: float) -> int:
        count = sum(
            began <= at < ended for gateway in self.gateways for at, _ in gateway.acknowledged
        )
        return round(count / (ended - began))

    def _pauses(self, began: float, ended: float) -> list[float]:
        """Return each gateway's longest time without a PUBACK."""
        return [_pause([at for at, _ in g.acknowledged], began, ended) for g in self.gateways]

    def _common_pause(self, began: float, ended: float) -> float:
        moments = sorted(at for gateway in self.gateways for at, _ in gateway.acknowledged)
        return _pause(moments, began, ended)


def _pause(moments: Sequence[float], began: float, ended: float) -> float:
    """Return the longest time without one of the moments, between two others."""
    inside = [began, *(at for at in moments if began < at < ended), ended]
    return max(later - earlier for earlier, later in pairwise(inside))


async def started_again(headend: Program) -> None:
    """Do what a service manager does: NATS refuses a subscription, for good as it says, while it is slow."""
    try:
        headend.check()
    except PartFailed as ended:
        print(ended, file=sys.stderr, flush=True)
        await headend.start()


@asynccontextmanager
async def running(broker: str, directory: Path, count: int, seed: int) -> AsyncIterator[Bench]:
    """Start cluster, head-end and gateways; stop them in the end."""
    certificates = Certificates(directory / "certs")
    rights = BrokerRights(headends=(HEADEND,), gateways=tuple(map(name, range(count))))
    (place := directory / "nodes").mkdir()
    cluster: Cluster = BROKERS[broker](place, certificates, rights)
    async with AsyncExitStack() as parts:
        parts.callback(cluster.stop)
        await asyncio.to_thread(cluster.start)
        (directory / "headend.toml").write_text(
            _toml(directory, certificates.settings(HEADEND, cluster.urls))
        )
        log = directory / "headend.log"
        headend = Program(
            "headend", ["headend", "run", "-c", str(directory / "headend.toml")], log=log
        )
        parts.push_async_callback(headend.stop)
        await headend.start()
        async with asyncio.timeout(START_S_MAX):
            while not headend.has_said("ready:"):
                await started_again(headend)
                await asyncio.sleep(LOOK_S)
        gateways = [
            Gateway(
                index,
                certificates.settings(name(index), cluster.urls, protocol="3.1.1"),
                random.Random(seed + index),
            )
            for index in range(count)
        ]
        bench = Bench(cluster, headend, gateways, log)
        bench.store = Store(directory / "headend.db")
        bench.watch = Watch(bench.store)
        tasks = [asyncio.create_task(gateway.run()) for gateway in gateways]
        tasks.append(asyncio.create_task(bench.watch.run()))
        try:
            yield bench
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _toml(directory: Path, mqtt: BrokerSettings) -> str:
    urls = json.dumps(list(mqtt.urls))
    return (
        f'store = "sqlite:///{directory}/headend.db"\n\n[mqtt]\nurls = {urls}\n'
        f'client_id = "{mqtt.client_id}"\nca_file = "{mqtt.ca_file}"\ncert_file = "{mqtt.cert_file}"\n'
        f"connect_timeout_s = {mqtt.connect_timeout_s}\n"
    )


async def measure(asked: argparse.Namespace, directory: Path) -> bool:
    """Run the rounds and print them; return whether nothing acknowledged was lost."""
    dice = random.Random(asked.seed)
    aims = asked.aims.split(",")
    rounds: list[dict[str, object]] = []
    async with running(asked.broker, directory, asked.gateways, asked.seed) as bench:
        for number in range(asked.kills):
            done = await bench.round(aims[number % len(aims)], dice)
            rounds.append(done)
            print(json.dumps({"round": number + 1, **done}), flush=True)
        lost = len(bench.acknowledged() - set(bench.store.identities()))
    whole: dict[str, object] = {
        "benchmark": "cluster",
        "broker": bench.cluster.version(),
        "nodes": len(bench.cluster.nodes),
        "kills": asked.kills,
        "seed": asked.seed,
        "gateways": asked.gateways,
    }
    for figure in ("acknowledged", "stored_twice", "delivered_again"):
        whole[figure] = sum(_number(done, figure) for done in rounds)
    whole["lost"] = lost
    for figure in ("per_s_before", "per_s_down", "per_s_after", "publishing_still_s",
                   "all_publishing_still_s", "delivery_still_s", "back_in_s"):  # fmt: skip
        for kind, meant in (("one", AIMS[:4]), ("all", ("all",))):
            values = sorted(_number(each, figure) for each in rounds if each["aim"] in meant)
            if values:
                whole[f"{figure}_{kind}"] = {
                    "median": statistics.median(values), "min": values[0], "max": values[-1],
                }  # fmt: skip
    print(json.dumps(whole), flush=True)
    return lost == 0


def _number(done: dict[str, object], figure: str) -> float:
    value = done[figure]
    assert isinstance(value, int | float)
    return value


def main() -> int:
    """Run it as asked on the command line; 1 when something acknowledged was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("broker", choices=BROKERS)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--aims", help="of each round, in turn: " + ",".join(AIMS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--gateways", type=int, default=6)
    parser.add_argument("--directory", type=Path, help="on the disk to be measured")
    asked = parser.parse_args()
    asked.aims = asked.aims or ("all,away" if asked.broker == "mosquitto" else ",".join(AIMS))
    if unknown := set(asked.aims.split(",")) - set(AIMS):
        parser.error(f"no such aim: {', '.join(unknown)}")
    # Told to end, it ends what it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory(prefix="openami-cluster-", dir=asked.directory) as folder:
        return int(not asyncio.run(measure(asked, Path(folder))))


if __name__ == "__main__":
    sys.exit(main())
