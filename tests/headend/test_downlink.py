"""The way down, from a request in the store to the relay's report, on a broker in memory."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.headend.gateway_double import GatewayDouble, Pole
from tests.headend.village_keys import FEEDER, GATEWAY, METER, ROOTS, START, keyring, signer

from openami.headend.audit import Entry, first_break
from openami.headend.commands import LedgerCommand, Requested
from openami.headend.downlink import Downlink
from openami.headend.store.commands import HeadEndStore, StoredKeyring
from openami.headend.store.open import open_store
from openami.headend.uplink import Uplink
from openami.mqtt.backoff import Backoff
from openami.mqtt.memory import MemoryBroker
from openami.mqtt.port import Connection, TransportError
from openami.profile import shipped_catalogue
from openami.profile.command import CommandState
from openami.sip.actions import Action

PATIENCE_S = 10.0


class ManualClock:
    """A clock that runs with the event loop, and jumps when told."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        return START + self.ahead + timedelta(seconds=self._ran())

    def boottime(self) -> float:
        return 1000.0 + self._ran() + self.ahead.total_seconds()

    def synchronised(self) -> bool:
        return True

    def _ran(self) -> float:
        return asyncio.get_running_loop().time() % 100_000


class Village:
    """A head-end, a broker and a pole."""

    def __init__(self, store: HeadEndStore, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock
        self.broker = MemoryBroker()
        self.pole = Pole()
        self.gateway = GatewayDouble(self.pole, clock)
        self.connection: Connection | None = None
        self._numbers = iter(range(1, 1_000_000))

    def head_end(self, *, disconnects_per_hour_max: int = 50) -> tuple[Uplink, Downlink]:
        """Return a new life of the head-end."""

        def soon() -> Backoff:
            return Backoff(random.Random(1).random, first_s=0.002, ceiling_s=0.01)

        downlink = Downlink(
            self.store,
            signer("hes-1"),
            ROOTS,
            clock=self.clock,
            new_id=lambda prefix: f"{prefix}-{next(self._numbers)}",
            disconnects_per_hour_max=disconnects_per_hour_max,
        )
        uplink = Uplink(
            self.broker.port("hes-1"),
            self.store,
            catalogue=shipped_catalogue(),
            clock=self.clock,
            broker_backoff=soon(),
            store_backoff=soon(),
            beside=downlink,
        )
        return uplink, downlink

    @asynccontextmanager
    async def headed(self, **options: int) -> AsyncIterator[None]:
        """Let the head-end live."""
        uplink, downlink = self.head_end(**options)
        tasks = [asyncio.create_task(uplink.run()), asyncio.create_task(downlink.run())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task

    @asynccontextmanager
    async def gatewayed(self) -> AsyncIterator[None]:
        """Let the gateway live."""

        async def live() -> None:
            async with self.broker.port("gateway").connect() as connection:
                self.connection = connection
                with suppress(TransportError):
                    await self.gateway.run(connection)

        task = asyncio.create_task(live())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def with_keyring(self, payload: bytes | None = None, version: int = 1) -> None:
        """Put a keyring in the store."""
        stored = StoredKeyring(
            FEEDER, GATEWAY, version, payload or keyring(version), self.clock.now(), "anita"
        )
        assert await self.store.add_keyring(stored, Entry(who="anita", what="keyring added"))

    async def request(
        self,
        action: Action = Action.DISCONNECT,
        *,
        meter: str = METER,
        valid_for_s: int = 300,
        **members: object,
    ) -> LedgerCommand:
        """Ask for a command, as the command line does."""
        now = self.clock.now()
        new = LedgerCommand(
            id=f"cmd-{next(self._numbers)}",
            feeder_id=FEEDER,
            gateway_id=GATEWAY,
            meter_serial=meter,
            action=action,
            requested_by="anita",
            reason="unpaid",
            requested_at=now,
            not_after=(now + timedelta(seconds=valid_for_s)).replace(microsecond=0),
            due_at=now,
        )
        verdict = await self.store.request_command(replace(new, **members), now)  # type: ignore[arg-type]  # whatever a test sets
        assert isinstance(verdict, Requested), verdict
        return verdict.command

    async def get(self, command_id: str) -> LedgerCommand:
        """Return a command as the store has it."""
        found = await self.store.command(command_id)
        assert found is not None
        return found

    async def end(self, command_id: str) -> LedgerCommand:
        """Return a command when it has ended."""
        return await self.when(command_id, lambda command: not command.is_open)

    async def when(
        self, command_id: str, happens: Callable[[LedgerCommand], bool]
    ) -> LedgerCommand:
        """Return a command when something is true of it."""
        async with asyncio.timeout(PATIENCE_S):
            while not happens(found := await self.get(command_id)):
                await asyncio.sleep(0.005)
        return found


@pytest.fixture
async def village(tmp_path: Path) -> AsyncIterator[Village]:
    async with open_store(f"sqlite:///{tmp_path}/headend.db") as store:
        village = Village(store, ManualClock())
        yield village
        links = await store.audit_links()
        assert first_break(links) is None
        # The pole never moved twice for one command, and never for two signings of one request.
        assert len({digest for _, digest in village.pole.moved}) == len(village.pole.moved)


async def test_a_disconnect_is_signed_sent_done_and_read_back(village: Village) -> None:
    await village.with_keyring()
    async with village.gatewayed(), village.headed():
        asked = await village.request()
        done = await village.end(asked.id)
    assert (done.state, done.code) == (CommandState.CONFIRMED, "OK")
    assert village.pole.relays[METER] == "disconnected"
    assert done.report is not None
    assert done.seq == 1
    # The report is a reading like any other.
    [reading] = [r for r in await village.store.latest(FEEDER, METER) if r.value == "disconnected"]
    assert str(reading.obis) == "96.11.1"
    told = [each.entry.what for each in await village.store.audit_links(command_id=asked.id)]
    assert told == [
        "relay.disconnect requested",
        "command signed",
        "command sent",
        "command ended",
    ]
    [delivery] = await village.store.deliveries()
    assert delivery.accepted_at is not None
