"""kill -9, in turn, under load: every reading is stored exactly once (promises 2 and 3).

The programs are the real ones, in processes of their own, with a real broker and real Modbus servers; what
the gateway's outbox says it took in is compared with what the head-end's store has, reading by reading.
"""

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from benchmarks.publisher import FEEDER
from tests.conftest import StartMosquitto
from tests.e2e.accounting import Identity, assert_stored_once, stored, taken_in, unsent
from tests.mosquitto import Mosquitto

from openami.clock import SystemClock
from openami.headend.store import Access
from openami.headend.store.open import open_store
from openami.mqtt.settings import BrokerSettings
from openami.profile import FeederId, GatewayId, Value
from openami.simulator.config_files import gateway_toml, headend_toml
from openami.simulator.lines import village_lines
from openami.simulator.programs import Program
from openami.simulator.scenario import village_tonight
from openami.simulator.village import Village

# What the shipped broker configuration says about queues (deploy/mosquitto), so that the broker keeps
# what a killed head-end has not taken.
KEEPS = (
    "max_queued_messages 1000000",
    "max_queued_bytes 0",
    "max_inflight_messages 1000",
    "autosave_interval 1",
    "set_tcp_nodelay true",
)
FEEDER_ID = FeederId("feeder-e2e")
METERS = 10
KILLS = 6
DEADLINE_S = 60.0
SEED = 20261123


@dataclass
class System:
    """Everything between the meters and the store."""

    broker: Mosquitto
    gateway: Program
    headend: Program
    outbox: Path
    store_url: str


@asynccontextmanager
async def running_system(broker: Mosquitto, directory: Path) -> AsyncIterator[System]:
    """Start meters, head-end and gateway; stop them in the end."""
    clock = SystemClock()
    mqtt = BrokerSettings(url=broker.url, protocol="3.1.1")
    lines = village_lines(
        Village(village_tonight(meters=METERS, seed=SEED, now=clock.now())), clock
    )
    async with AsyncExitStack() as parts:
        places = [await parts.enter_async_context(line.serving()) for line in lines]
        store_url = f"sqlite:///{directory / 'headend.db'}"
        (directory / "headend.toml").write_text(
            headend_toml(store_url=store_url, mqtt=named(mqtt, "e2e-headend"))
        )
        toml = gateway_toml(
            feeder_id=FEEDER_ID,
            gateway_id=GatewayId("gateway-e2e"),
            data_dir=directory / "gateway",
            mqtt=named(mqtt, "e2e-gateway"),
            lines=places,
        )
        (directory / "gateway.toml").write_text(toml.replace("fast_s = 2", "fast_s = 1"))
        programs = {
            name: Program(
                name,
                [name, "run", "-c", str(directory / f"{name}.toml")],
                log=directory / f"{name}.log",
            )
            for name in ("headend", "gateway")
        }
        for name in ("headend", "gateway"):
            parts.push_async_callback(programs[name].stop)
        await programs["headend"].start()
        # A broker keeps nothing for who has never come: the head-end subscribes first.
        await until(lambda: programs["headend"].has_said("ready"))
        await programs["gateway"].start()
        yield System(
            broker=broker,
            gateway=programs["gateway"],
            headend=programs["headend"],
            outbox=directory / "gateway" / "gateway.db",
            store_url=store_url,
        )


def named(mqtt: BrokerSettings, client_id: str) -> BrokerSettings:
    """Return the settings under a client id."""
    return BrokerSettings(url=mqtt.url, protocol=mqtt.protocol, client_id=client_id)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, at most DEADLINE_S."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.05)


@pytest.mark.broker
@pytest.mark.slow
async def test_gateway_and_headend_killed_in_turn_and_the_broker_restarted(
    mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    async with running_system(mosquitto(*KEEPS), tmp_path) as system:
        for turn in range(KILLS):
            await asyncio.sleep(chance.uniform(0.8, 2.2))
            victim = system.gateway if turn % 2 else system.headend
            await victim.kill()
            await asyncio.sleep(chance.uniform(0.0, 0.6))
            await victim.start()
            if turn == KILLS // 2:
                await asyncio.to_thread(system.broker.restart)
        await asyncio.sleep(2.0)
        await until(lambda: unsent(system.outbox) == 0)
        sent = await assert_stored_exactly_once(system)
    assert len(sent) > METERS * 20
    for log in (tmp_path / "gateway.log", tmp_path / "headend.log"):
        assert "Traceback" not in log.read_text()


async def assert_stored_exactly_once(system: System) -> dict[Identity, Value]:
    """Stop the gateway and compare both ends; return what was sent."""
    await system.gateway.stop()
    sent, read = taken_in(system.outbox, "sent"), taken_in(system.outbox)
    async with open_store(system.store_url, Access.READ) as store:
        await assert_stored_once(store, FEEDER_ID, sent=sent, read=read, patience_s=DEADLINE_S)
    return sent


@pytest.mark.broker
@pytest.mark.slow
async def test_a_flood_while_the_head_end_is_killed_again_and_again(
    mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    messages, meters, registers = 20_000, 100, 3
    broker = mosquitto(*KEEPS)
    store_url = f"sqlite:///{tmp_path / 'headend.db'}"
    (tmp_path / "headend.toml").write_text(
        headend_toml(
            store_url=store_url,
            mqtt=BrokerSettings(url=broker.url, protocol="3.1.1", client_id="e2e-flood"),
        )
    )
    headend = Program(
        "head-end",
        ["headend", "run", "-c", str(tmp_path / "headend.toml")],
        log=tmp_path / "headend.log",
    )
    await headend.start()
    await until(lambda: headend.has_said("ready"))
    publisher = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.publisher",
        str(broker.port), str(messages), str(meters), str(registers),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert publisher.stdout is not None
    assert publisher.stdin is not None
    await publisher.stdout.readline()
    publisher.stdin.write(b"go\n")
    for _ in range(3):
        await asyncio.sleep(0.4)
        await headend.kill()
        await headend.start()
    await publisher.communicate()
    assert publisher.returncode == 0
    async with open_store(store_url, Access.READ) as store:
        async with asyncio.timeout(DEADLINE_S):
            while (await store.totals()).stored < messages * registers:
                headend.check()
                await asyncio.sleep(0.2)
        tally = await store.totals()
        kept = [identity for identity, _ in await stored(store, FeederId(FEEDER))]
    await headend.stop()
    assert tally.stored == len(kept) == len(set(kept)) == messages * registers
    assert tally.conflicts == tally.rejected_messages == tally.rejected_items == 0
    assert "Traceback" not in (tmp_path / "headend.log").read_text()


@pytest.mark.broker
@pytest.mark.slow
async def test_an_uplink_that_is_away_loses_nothing(
    mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    """The broker is gone for a while; what was read meanwhile arrives, with its own times."""
    async with running_system(mosquitto(*KEEPS), tmp_path) as system:
        await asyncio.sleep(2.0)
        await asyncio.to_thread(system.broker.stop)
        away_from = SystemClock().now()
        await asyncio.sleep(4.0)
        away_to = SystemClock().now()
        assert unsent(system.outbox) > 0
        await asyncio.to_thread(system.broker.start)
        await until(lambda: unsent(system.outbox) == 0)
        sent = await assert_stored_exactly_once(system)
        span = (away_from + timedelta(seconds=1), away_to - timedelta(seconds=1))
        meanwhile = [ts for _, _, ts in sent if span[0].isoformat() < ts < span[1].isoformat()]
        assert meanwhile
