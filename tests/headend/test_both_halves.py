"""The head-end's half and the gateway's half together, each as it runs, on a broker in memory."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
from tests.gateway.clock_double import ClockDouble
from tests.gateway.sip_world import FEEDER, GATEWAY, HES, OPERATOR, PINNED, Pole, Running

from openami.gateway import downlink as gateway_downlink
from openami.gateway.driver import RelayPosition
from openami.gateway.metrics import GatewayMetrics
from openami.gateway.reconnect import Reconnector
from openami.gateway.snapshot import UplinkView
from openami.gateway.uplink import UplinkSettings
from openami.headend.audit import Entry, first_break
from openami.headend.commands import Approval, LedgerCommand, Requested
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
from openami.sip.acts import ActType, make_act
from openami.sip.canonical import read_document

PATIENCE_S = 10.0
METER = "M-1"
TRADE = {
    "tradeId": "t-17", "energyWh": 12_400, "amountMinor": 9_300, "currency": "INR",
    "seller": "house-7", "buyer": "house-12",
}  # fmt: skip


class Utility:
    """A head-end that lives as long as the test, and its store."""

    def __init__(self, store: HeadEndStore, pole: Pole, broker: MemoryBroker) -> None:
        self.store = store
        self.pole = pole
        self.broker = broker
        self._numbers = iter(range(1, 1000))

    @asynccontextmanager
    async def living(self) -> AsyncIterator[None]:
        down = Downlink(
            self.store,
            HES,
            PINNED,
            clock=self.pole.clock,
            new_id=lambda prefix: f"{prefix}-{next(self._numbers)}",
        )
        up = Uplink(
            self.broker.port("hes-1"),
            self.store,
            catalogue=shipped_catalogue(),
            clock=self.pole.clock,
            broker_backoff=Backoff(random.Random(1).random, first_s=0.002, ceiling_s=0.01),
            store_backoff=Backoff(random.Random(1).random, first_s=0.002, ceiling_s=0.01),
            beside=down,
        )
        tasks = [asyncio.create_task(up.run()), asyncio.create_task(down.run())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task

    async def keyring(self, **options: object) -> None:
        _, payload = self.pole.parties.keyring(**options)  # type: ignore[arg-type]  # whatever a test sets
        version = self.pole.parties.version
        stored = StoredKeyring(FEEDER, GATEWAY, version, payload, self.pole.clock.now(), "anna")
        await self.store.add_keyring(stored, Entry(who="anna", what="keyring added"))

    async def command(self, action: Action, **args: object) -> LedgerCommand:
        """Ask for a command; return it when it has ended."""
        asked = await self.ask(action, **args)
        return await self.ended(asked.id)

    async def ask(self, action: Action, **args: object) -> LedgerCommand:
        now = self.pole.clock.now()
        new = LedgerCommand(
            id=f"cmd-{next(self._numbers)}",
            feeder_id=FEEDER,
            gateway_id=GATEWAY,
            meter_serial=METER,
            action=action,
            args=args,
            requested_by="anna",
            reason="",
            requested_at=now,
            not_after=(now + timedelta(minutes=5)).replace(microsecond=0),
            due_at=now,
        )
        assert isinstance(await self.store.request_command(new, now), Requested)
        return new

    async def ended(self, command_id: str) -> LedgerCommand:
        async with asyncio.timeout(PATIENCE_S):
            while (found := await self.store.command(command_id)) is None or found.is_open:
                await asyncio.sleep(0.005)
        return found


@asynccontextmanager
async def gateway_of(pole: Pole, broker: MemoryBroker) -> AsyncIterator[Running]:
    """Let the gateway live: journal, uplink and downlink."""
    async with pole.running() as gateway:

        async def receive(connection: Connection) -> None:
            await gateway_downlink.receive(gateway.commanding, connection, FEEDER, GATEWAY)

        async def announce(connection: Connection) -> None:
            await gateway_downlink.announce(gateway.commanding, connection)

        reconnector = Reconnector(
            broker.port("pole-1"),
            gateway.outbox,
            UplinkSettings(mark_interval_s=0.01),
            clock=pole.clock,
            backoff=Backoff(lambda: 0.0),
            view=UplinkView("memory"),
            metrics=GatewayMetrics(),
            downlink=(receive, announce),
        )
        task = asyncio.create_task(reconnector.run(), name="reconnector")
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not gateway.commanding.is_connected:
                    await asyncio.sleep(0.001)
            yield gateway
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, TransportError):
                await task


@pytest.fixture
async def utility(tmp_path: Path) -> AsyncIterator[Utility]:
    async with AsyncExitStack() as resources:
        store = await resources.enter_async_context(open_store(f"sqlite:///{tmp_path}/headend.db"))
        pole_directory = tmp_path / "pole"
        pole_directory.mkdir()
        utility = Utility(store, Pole(pole_directory, ClockDouble()), MemoryBroker())
        await resources.enter_async_context(utility.living())
        yield utility
        assert first_break(await store.audit_links()) is None


async def test_a_house_is_cut_off_and_comes_back(utility: Utility) -> None:
    await utility.keyring()
    meter = utility.pole.meters[METER]
    async with gateway_of(utility.pole, utility.broker):
        off = await utility.command(Action.DISCONNECT)
        assert (off.state, off.code) == (CommandState.CONFIRMED, "OK")
        assert meter.moves == [RelayPosition.DISCONNECTED]
        dwelt = await utility.command(Action.RECONNECT)
        assert (dwelt.state, dwelt.code) == (CommandState.REFUSED, "DWELL")
        utility.pole.clock.advance(301)
        on = await utility.command(Action.RECONNECT)
        assert (on.state, on.code) == (CommandState.CONFIRMED, "OK")
        assert meter.moves == [RelayPosition.DISCONNECTED, RelayPosition.CONNECTED]
    [delivery] = await utility.store.deliveries()
    assert delivery.accepted_at is not None
    values = [
        r.value for r in await utility.store.latest(FEEDER, METER) if str(r.obis) == "96.11.1"
    ]
    assert values == ["connected"]


async def test_a_gateway_that_restarts_is_commanded_in_the_same_session(utility: Utility) -> None:
    await utility.keyring()
    async with gateway_of(utility.pole, utility.broker):
        first = await utility.command(Action.DISCONNECT)
    span = {"from": "2026-07-01T11:00:00Z", "to": "2026-07-01T12:00:00Z"}
    waiting = await utility.ask(Action.RESEND, **span)
    async with asyncio.timeout(PATIENCE_S):
        while (out := await utility.store.command(waiting.id)) is None or out.sent_at is None:
            await asyncio.sleep(0.005)
    async with gateway_of(utility.pole, utility.broker):
        second = await utility.ended(waiting.id)
    assert (second.state, second.session_id) == (CommandState.CONFIRMED, first.session_id)
    assert second.signings == 2  # the nonce it was signed with had died with the first life


async def test_a_protected_meter_and_a_settlement_wait_for_their_second_act(
    utility: Utility,
) -> None:
    await utility.keyring(scope={"protected": [METER]})
    async with gateway_of(utility.pole, utility.broker):
        asked = await utility.ask(Action.DISCONNECT)
        async with asyncio.timeout(PATIENCE_S):
            while (waiting := await utility.store.command(asked.id)) is None or not waiting.digest:
                await asyncio.sleep(0.005)
        assert waiting.document is not None
        assert waiting.sent_at is None
        now = utility.pole.clock.now()
        document = read_document(waiting.document)
        act = make_act(OPERATOR, document, ActType.COMMAND, iat=int(now.timestamp()))
        approval = Approval(asked.id, document.digest, OPERATOR.kid, act, "anna", now)
        await utility.store.approve(approval, Entry(who="anna", what="command approved"))
        done = await utility.ended(asked.id)
    assert done.state is CommandState.CONFIRMED


async def test_a_revoked_head_end_commands_nothing_more(utility: Utility) -> None:
    await utility.keyring()
    async with gateway_of(utility.pole, utility.broker):
        await utility.command(Action.DISCONNECT)
        await utility.keyring(without=[HES.kid])
        utility.pole.clock.advance(301)
        refused = await utility.command(Action.RECONNECT)
    assert (refused.state, refused.code) == (CommandState.REFUSED, "UNKNOWN_KEY")
    assert utility.pole.meters[METER].position is RelayPosition.DISCONNECTED
