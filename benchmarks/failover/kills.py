"""What is done to the cluster, and how it is undone. Each is one failure of one night."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import asyncpg

from benchmarks.failover.cluster import Cluster, Etcd, Server

# Longer than Patroni's ttl (30 s) and the head-end's wait for a statement (60 s): all that has to happen, has.
HELD_S = 75.0
# How far a standby is behind when its primary dies; far less than maximum_lag_on_failover allows.
BEHIND_S = 2.0
# Whoever writes past everything, again and again, to a primary that wakes up.
INTRUDERS = 4
INTRUSION_S = 20.0


@dataclass(slots=True)
class Scene:
    """The cluster, and what a kill has left to be undone."""

    cluster: Cluster
    servers: list[Server] = field(default_factory=list)
    members: list[Etcd] = field(default_factory=list)
    intruded: int = 0
    """Writes that a former primary said it had committed, after it had been replaced."""

    def primary(self) -> Server:
        found = self.cluster.primary()
        assert found is not None
        return found


Act = Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Kill:
    """One kind: what happens, and what is done when the head-end has had its time with it."""

    name: str
    happens: Act
    undone: Act
    held_s: float = 0.0
    """How long it lasts at least, once envelopes are acknowledged again or were all the time."""
    is_control: bool = False
    """Whether it does harm to a cluster that is not synchronous, and so shows that the verdict can convict."""


async def restarted(scene: Scene) -> None:
    """Start what was killed."""
    for member in scene.members:
        member.start(scene.cluster.etcd)
    for server in scene.servers:
        server.start()


async def primary_dies(scene: Scene) -> None:
    scene.servers = [scene.primary()]
    await asyncio.to_thread(scene.servers[0].kill)


async def postgres_crashes(scene: Scene) -> None:
    """Patroni lives, and starts it again."""
    await asyncio.to_thread(scene.primary().kill_postgres)


async def primary_freezes(scene: Scene) -> None:
    scene.servers = [scene.primary()]
    await asyncio.to_thread(scene.servers[0].freeze)


async def primary_wakes(scene: Scene) -> None:
    """It believes that it is the primary still; whoever asks it first gets in before its Patroni."""
    [server] = scene.servers
    url = scene.cluster.url_of(server)
    intruders = [asyncio.create_task(intrusion(url)) for _ in range(INTRUDERS)]
    await asyncio.sleep(0.5)  # their connections wait in its queue
    await asyncio.to_thread(server.thaw)
    scene.intruded = sum(await asyncio.gather(*intruders))


async def intrusion(url: str) -> int:
    """Return how many writes a server committed within INTRUSION_S; it ends early when that is a standby."""
    committed = 0
    try:
        async with asyncio.timeout(INTRUSION_S):
            while True:
                try:
                    connection = await asyncpg.connect(url, timeout=INTRUSION_S, ssl=False)
                    try:
                        while True:
                            await connection.execute(
                                "UPDATE openami.tally SET messages = messages", timeout=INTRUSION_S
                            )
                            committed += 1
                    finally:
                        connection.terminate()
                except asyncpg.ReadOnlySQLTransactionError:
                    return committed
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    await asyncio.sleep(0.05)
    except TimeoutError:
        return committed


async def standby_dies(scene: Scene) -> None:
    scene.servers = [await asyncio.to_thread(scene.cluster.standby)]
    await asyncio.to_thread(scene.servers[0].kill)


async def standby_freezes(scene: Scene) -> None:
    scene.servers = [await asyncio.to_thread(scene.cluster.standby)]
    await asyncio.to_thread(scene.servers[0].freeze)


async def standby_wakes(scene: Scene) -> None:
    for server in scene.servers:
        await asyncio.to_thread(server.thaw)


async def member_dies(scene: Scene) -> None:
    scene.members = scene.cluster.etcd[:1]
    scene.members[0].kill()


async def majority_dies(scene: Scene) -> None:
    scene.members = scene.cluster.etcd[1:]
    for member in scene.members:
        member.kill()


async def both_copies_die(scene: Scene) -> None:
    """The third server lacks what was acknowledged last, so nobody may be primary until one of the two is back."""
    primary, standby = scene.primary(), await asyncio.to_thread(scene.cluster.standby)
    scene.servers = [primary]
    for server in (primary, standby):
        await asyncio.to_thread(server.kill)
    await asyncio.sleep(HELD_S)
    if (elected := await asyncio.to_thread(scene.cluster.primary)) is not None:
        raise AssertionError(f"{elected.name} became primary without what was acknowledged last")
    standby.start()


async def primary_dies_ahead(scene: Scene) -> None:
    """The network to the standbys stands still for a moment, and then the primary's machine is gone."""
    primary = scene.primary()
    scene.servers = [primary]
    others = [server for server in scene.cluster.servers if server is not primary]
    for server in others:
        server.freeze_receiver()
    await asyncio.sleep(BEHIND_S)
    await asyncio.to_thread(primary.kill)
    for server in others:
        server.cut_receiver()


async def nothing(_: Scene) -> None:
    await asyncio.sleep(0)


KILLS = (
    Kill("the primary's machine dies", primary_dies, restarted),
    Kill("the primary's PostgreSQL crashes", postgres_crashes, nothing),
    Kill(
        "the primary freezes, is replaced, and wakes up",
        primary_freezes,
        primary_wakes,
        is_control=True,
    ),
    Kill("the synchronous standby dies", standby_dies, restarted, held_s=15.0),
    Kill("the synchronous standby freezes", standby_freezes, standby_wakes, held_s=15.0),
    Kill("one etcd member dies", member_dies, restarted, held_s=15.0),
    Kill("the etcd majority dies", majority_dies, restarted, held_s=HELD_S),
    Kill("primary and synchronous standby die", both_copies_die, restarted),
    Kill("the primary dies ahead of its standbys", primary_dies_ahead, restarted, is_control=True),
)
