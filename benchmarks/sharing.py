"""Head-ends that share a broker's feeders: real programs, a load of known messages, the count by identity."""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from openami.headend.slices import REST
from openami.headend.store import Tally
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.workers import SliceFeeder
from openami.headend.worker_life import Roster
from openami.mqtt.client import MqttPort
from openami.mqtt.port import Connection
from openami.mqtt.settings import BrokerSettings
from openami.simulator.programs import Program

CLIENT_ID = "sharing-headend"
GATEWAY = "gateway-1"
REGISTERS = 2
START = datetime(2026, 6, 22, tzinfo=UTC)
DEADLINE_S = 120.0
# What a takeover may need beyond the lease: a beat to see it, one to claim, a connection and the counters recalled.
TAKEOVER_BEYOND_LEASE_S = 10.0
LOOK_S = 0.02
# In flight at once; a gateway has 20.
WINDOW = 50


def telemetry(feeder_id: str, number: int) -> tuple[str, bytes]:
    """Return topic and payload of a feeder's numbered message, unlike any other."""
    meter = f"M{number % 5}"
    body = {
        "schemaVersion": "0.1",
        "ts": (START + timedelta(seconds=number)).isoformat().replace("+00:00", "Z"),
        "feederId": feeder_id,
        "gatewayId": GATEWAY,
        "meterSerial": meter,
        "seq": number + 1,
        "registers": [
            {"obis": "1.8.0", "value": 100 + number / 1000, "unit": "kWh", "quality": "good"},
            {"obis": "32.7.0", "value": 225.0 + number % 100 / 10, "unit": "V", "quality": "good"},
        ],
    }
    return f"openami/v1/{feeder_id}/{GATEWAY}/meter/{meter}/telemetry", json.dumps(body).encode()


@dataclass
class Load:
    """Messages that the broker has acknowledged, by feeder: everything that has to be stored."""

    feeders: Sequence[str]
    published: Counter[str] = field(default_factory=Counter)

    @property
    def readings(self) -> int:
        """How many readings they are."""
        return self.published.total() * REGISTERS

    async def publish(self, connection: Connection, messages: int) -> None:
        """Publish so many more, feeder by feeder in turn."""

        async def one(feeder_id: str) -> None:
            number = self.published[feeder_id]
            self.published[feeder_id] += 1
            async with window:
                await connection.publish(*telemetry(feeder_id, number))

        window = asyncio.Semaphore(WINDOW)
        async with asyncio.TaskGroup() as group:
            for number in range(messages):
                group.create_task(one(self.feeders[number % len(self.feeders)]))

    async def flow(self, connection: Connection, *, per_second: int) -> None:
        """Publish at a rate, until cancelled: what is begun is finished."""
        while True:
            begun = asyncio.create_task(self.publish(connection, per_second // 20))
            try:
                await asyncio.shield(begun)
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                await begun
                raise


@dataclass
class Sharing:
    """A broker, a database, and as many workers as a test starts."""

    broker_url: str
    store_url: str
    directory: Path
    slices: int
    lease_s: float
    store: HeadEndStore
    workers: dict[str, Program] = field(default_factory=dict)

    async def start(self, name: str, more: str = "") -> Program:
        """Start a worker; return when it serves something."""
        config = self.directory / f"{name}.toml"
        config.write_text(
            f'store = "{self.store_url}"\n[mqtt]\nurl = "{self.broker_url}"\n'
            f'client_id = "{CLIENT_ID}"\n[workers]\nslices = {self.slices}\n'
            f'lease_s = {self.lease_s}\nname = "{name}"\n{more}'
        )
        program = self.workers[name] = Program(
            name, ["headend", "run", "-c", str(config)], log=self.directory / f"{name}.log"
        )
        await program.start()
        await until(lambda: program.has_said("ready:"))
        return program

    async def stop(self) -> None:
        """Stop every worker that runs."""
        for program in self.workers.values():
            await program.stop()

    def client(self, name: str) -> MqttPort:
        """Return a client's way to the broker, without a session."""
        return MqttPort(BrokerSettings(url=self.broker_url, client_id=name, session_expiry_days=0))

    async def holders(self) -> dict[int, str | None]:
        """Return who holds each slice, by the worker's name."""
        return _by_slice(await self.store.roster())

    async def wait_for(self, happens: Callable[[dict[int, str | None]], bool]) -> float:
        """Wait until the slices are held as told; return how many seconds that took."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        async with asyncio.timeout(DEADLINE_S):
            while not happens(await self.holders()):
                await asyncio.sleep(LOOK_S)
        return loop.time() - began_s

    async def wait_until_handed(self, feeders: Sequence[str]) -> Sequence[SliceFeeder]:
        """Wait until the rest leaves these feeders to their slices."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                rows = await self.store.slice_feeders()
                handed = {row.feeder_id for row in rows if row.handed_at is not None}
                if handed >= set(feeders):
                    return rows
                await asyncio.sleep(LOOK_S)

    async def wait_until_stored(self, readings: Callable[[], int]) -> None:
        """Wait until the store has as many readings as that, asked anew each time."""
        async with asyncio.timeout(DEADLINE_S):
            while (await self.store.totals()).stored < readings():
                await asyncio.sleep(LOOK_S)

    async def judge(self, load: Load) -> Tally:
        """Wait until everything is stored; fail unless it is there once, by its identity, and nothing else is."""
        await self.wait_until_stored(lambda: load.readings)
        for feeder_id in load.feeders:
            kept = Counter(await self._stored(feeder_id))
            assert max(kept.values()) == 1
            assert len(kept) == load.published[feeder_id] * REGISTERS, feeder_id
        totals = await self.store.totals()
        assert totals.stored == load.readings
        assert (totals.conflicts, totals.rejected_messages, totals.rejected_items) == (0, 0, 0)
        return totals

    async def _stored(self, feeder_id: str) -> list[tuple[str, str, datetime]]:
        """Return the identity of every reading the store has of a feeder."""
        return [
            (meter.meter_serial, str(reading.obis), reading.ts)
            for meter in await self.store.meters(feeder_id=feeder_id)
            async for reading in self.store.readings(feeder_id, meter.meter_serial)
        ]

    def assert_sound(self) -> None:
        """No worker has met what it did not expect."""
        for name in self.workers:
            assert "Traceback" not in (self.directory / f"{name}.log").read_text()


def _by_slice(roster: Roster) -> dict[int, str | None]:
    names = {worker.id: worker.name for worker in roster.workers}
    return {each.number: names.get(each.holder or "") for each in roster.slices}


def all_held_by(*names: str) -> Callable[[dict[int, str | None]], bool]:
    """Return whether these workers, each of them, hold everything among them."""
    return lambda holders: set(holders.values()) == set(names)


def held_evenly_by(*names: str) -> Callable[[dict[int, str | None]], bool]:
    """Return whether the slices are spread over these workers as evenly as they can be."""

    def judged(holders: dict[int, str | None]) -> bool:
        counts = Counter(holders.values())
        return set(counts) == set(names) and max(counts.values()) - min(counts.values()) <= 1

    return judged


def holder_of_the_rest(holders: dict[int, str | None]) -> str:
    """Return who does what is done once for the village."""
    name = holders[REST]
    assert name is not None
    return name


def freeze(program: Program) -> None:
    """Stop a worker's process as it is."""
    assert program.pid is not None
    os.kill(program.pid, signal.SIGSTOP)


def thaw(program: Program) -> None:
    """Let it go on."""
    assert program.pid is not None
    os.kill(program.pid, signal.SIGCONT)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(LOOK_S)
