"""The way down, from a request in the store to the relay's report, on a broker in memory."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.headend.gateway_double import GatewayDouble, Pole
from tests.headend.new_store import new_store
from tests.headend.village_keys import CLINIC, FEEDER, GATEWAY, METER, ROOTS, START, keyring, signer

from openami.headend.audit import Entry, first_break
from openami.headend.commands import STALE_SIGNINGS_MAX, Approval, LedgerCommand, Requested
from openami.headend.downlink import OFFLINE_POLL_INTERVAL_S, Downlink
from openami.headend.sessions import RENEW_BEFORE, SESSION_DAYS, SessionChange
from openami.headend.store import StoreError
from openami.headend.store.commands import HeadEndStore, StoredKeyring
from openami.headend.store.open import open_store
from openami.headend.uplink import Uplink
from openami.mqtt.backoff import Backoff
from openami.mqtt.memory import MemoryBroker
from openami.mqtt.port import Connection, Delivery, TransportError
from openami.profile import FeederId, GatewayId, SessionId, SessionTopic, shipped_catalogue
from openami.profile.command import CommandState
from openami.sip.actions import Action, Role
from openami.sip.acts import ActType, make_act
from openami.sip.canonical import read_document
from openami.sip.compose import sign
from openami.sip.fields import print_moment
from openami.sip.session import SessionState

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

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish as somebody who has the right to."""
        async with self.broker.port("somebody", persistent=False).connect() as connection:
            await connection.publish(topic, payload)

    async def tell_relay(self, state: str) -> None:
        """Let the gateway measure the relay, and return when the store knows it: looks are a minute apart."""
        members = {
            "schemaVersion": "0.1",
            "ts": print_moment(self.clock.now()),
            "feederId": FEEDER,
            "gatewayId": GATEWAY,
            "meterSerial": METER,
            "registers": [{"obis": "96.11.1", "value": state, "unit": "enum", "quality": "good"}],
        }
        topic = f"openami/v1/{FEEDER}/{GATEWAY}/meter/{METER}/telemetry"
        await self.publish(topic, json.dumps(members).encode())
        async with asyncio.timeout(PATIENCE_S):
            while state not in [r.value for r in await self.store.latest(FEEDER, METER)]:
                await asyncio.sleep(0.005)

    async def approve(self, command: LedgerCommand, name: str) -> None:
        """Add somebody's act, as the command line does."""
        assert command.document is not None
        assert command.digest is not None
        now = self.clock.now()
        act = make_act(
            signer(name),
            read_document(command.document),
            ActType.COMMAND,
            iat=int(now.timestamp()),
        )
        approval = Approval(command.id, command.digest, signer(name).kid, act, name, now)
        await self.store.approve(approval, Entry(who=name, what="command approved"))

    async def offers(self) -> int:
        """Return how often sessions were offered."""
        return sum(session.offers for session in await self.store.sessions())

    async def offered(self, times: int) -> None:
        """Wait until sessions were offered so often, and see that they are offered no more."""
        async with asyncio.timeout(PATIENCE_S):
            while await self.offers() != times:
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.1)
        assert await self.offers() == times

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


class BrokenConnection:
    """A connection on which the process dies: before a command is out, or, with a village, right after."""

    resumed = True
    tls_resumed = False

    def __init__(self, village: Village | None) -> None:
        self._village = village

    async def publish(self, topic: str, payload: bytes) -> None:
        if self._village is not None:
            await self._village.publish(topic, payload)
        raise TransportError("gone")

    async def subscribe(self, filters: Sequence[str]) -> None:
        raise TransportError("gone")

    async def receive(self, at_most: int) -> Sequence[Delivery]:
        raise TransportError("gone")

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        raise TransportError("gone")


@pytest.fixture
async def village(tmp_path: Path) -> AsyncIterator[Village]:
    async with open_store(new_store(tmp_path / "headend.db")) as store:
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


async def test_a_session_is_opened_once_and_used_again(village: Village) -> None:
    await village.with_keyring()
    async with village.gatewayed(), village.headed():
        first = await village.end((await village.request()).id)
        again = await village.end((await village.request(Action.RECONNECT)).id)
    assert (first.state, again.state) == (CommandState.CONFIRMED, CommandState.CONFIRMED)
    assert first.session_id == again.session_id
    assert (first.seq, again.seq) == (1, 2)
    assert len(await village.store.sessions()) == 1


async def test_a_command_waits_for_a_gateway_that_is_away_and_expires(village: Village) -> None:
    await village.with_keyring()
    async with village.headed():
        asked = await village.request(valid_for_s=300)
        await asyncio.sleep(0.1)
        village.clock.ahead += timedelta(seconds=301)
        village_end = await village.end(asked.id)
    assert village_end.state is CommandState.EXPIRED
    assert village_end.sent_at is None


async def test_without_a_keyring_nothing_is_sent(village: Village) -> None:
    async with village.gatewayed(), village.headed():
        refused = await village.end((await village.request()).id)
    assert (refused.state, refused.code) == (CommandState.REFUSED, "NO_KEYRING")


@pytest.mark.parametrize(
    ("keyring_bytes", "code"),
    [
        pytest.param(keyring(names=["anita", GATEWAY]), "UNKNOWN_KEY", id="our-key-was-taken-out"),
        pytest.param(keyring().replace(b'"disconnectsPerHour": 100', b'"disconnectsPerHour": 99'),
                     "NO_KEYRING", id="a-keyring-somebody-changed"),
    ],
)  # fmt: skip
async def test_what_the_keyring_does_not_give_us_is_not_sent(
    village: Village, keyring_bytes: bytes, code: str
) -> None:
    await village.with_keyring(keyring_bytes)
    async with village.gatewayed(), village.headed():
        refused = await village.end((await village.request()).id)
    assert (refused.state, refused.code) == (CommandState.REFUSED, code)
    assert village.pole.seen == {}


async def test_a_refusal_by_the_gateway_ends_it(village: Village) -> None:
    await village.with_keyring()
    village.gateway.refuses = "LOCKOUT"
    async with village.gatewayed(), village.headed():
        refused = await village.end((await village.request()).id)
    assert (refused.state, refused.code) == (CommandState.REFUSED, "LOCKOUT")
    assert village.pole.relays[METER] == "connected"


async def test_a_relay_that_does_not_follow_is_a_failure(village: Village) -> None:
    await village.with_keyring()
    village.gateway.dead_relay = True
    async with village.gatewayed(), village.headed():
        failed = await village.end((await village.request()).id)
    assert (failed.state, failed.code) == (CommandState.FAILED, "METER_ERROR")


async def test_a_stale_nonce_is_signed_again_with_the_fresh_one(village: Village) -> None:
    """The gateway booted, and its accept has not come when the command goes out."""
    await village.with_keyring()
    async with village.gatewayed(), village.headed():
        await village.end((await village.request()).id)
        [session_id] = village.pole.sessions
        village.gateway.forget_nonces(session_id)
        done = await village.end((await village.request(Action.RECONNECT)).id)
    assert (done.state, done.signings, done.seq) == (CommandState.CONFIRMED, 2, 3)
    assert village.pole.relays[METER] == "connected"
    assert len(village.pole.moved) == 2


async def test_stale_again_and_again_is_not_signed_for_ever(village: Village) -> None:
    await village.with_keyring()
    async with village.gatewayed(), village.headed():
        await village.end((await village.request()).id)
        [session_id] = village.pole.sessions
        take = village.gateway.take

        def boots_before_each_command(delivery: Delivery) -> list[tuple[str, bytes]]:
            if delivery.topic.endswith("/command"):
                village.gateway.forget_nonces(session_id)
            return take(delivery)

        village.gateway.take = boots_before_each_command  # type: ignore[method-assign]  # a pole that reboots
        refused = await village.end((await village.request(Action.RECONNECT)).id)
    assert (refused.state, refused.code) == (CommandState.REFUSED, "STALE_NONCE")
    assert refused.signings == STALE_SIGNINGS_MAX
    assert len(village.pole.moved) == 1


async def test_no_report_in_time_is_unknown_and_telemetry_resolves_it(village: Village) -> None:
    await village.with_keyring()
    village.gateway.silent = True
    async with village.gatewayed(), village.headed():
        asked = await village.request()
        await village.when(asked.id, lambda command: command.sent_at is not None)
        async with asyncio.timeout(PATIENCE_S):
            while not village.pole.moved:
                await asyncio.sleep(0.005)
        village.clock.ahead += timedelta(seconds=301)
        await asyncio.sleep(0.1)
        assert (await village.get(asked.id)).is_open  # its report may still be on its way
        village.clock.ahead += timedelta(seconds=61)
        unknown = await village.end(asked.id)
        assert (unknown.state, unknown.resolved_as) == (CommandState.UNKNOWN, None)
        await village.tell_relay("disconnected")
        village.clock.ahead += timedelta(seconds=61)
        resolved = await village.when(asked.id, lambda c: c.resolved_as is not None)
    assert resolved.state is CommandState.UNKNOWN
    assert (resolved.resolved_as, resolved.resolved_by) == (CommandState.CONFIRMED, "telemetry")


async def test_a_gateway_that_lost_its_memory_is_given_keyring_and_session_again(
    village: Village,
) -> None:
    """Found by the simulation: a new memory card under the old key, and a session that only we hold for active."""
    await village.with_keyring()
    async with village.gatewayed(), village.headed():
        assert (await village.end((await village.request()).id)).state is CommandState.CONFIRMED
        village.pole.keyring = None
        village.pole.sessions.clear()
        asked = await village.request(Action.RECONNECT)
        unheard = await village.when(asked.id, lambda command: command.sent_at is not None)
        village.clock.ahead += timedelta(seconds=362)
        assert (await village.end(unheard.id)).state is CommandState.UNKNOWN
        async with asyncio.timeout(PATIENCE_S):
            while not village.pole.sessions:
                await asyncio.sleep(0.005)
        again = await village.end((await village.request(Action.RECONNECT)).id)
    assert again.state is CommandState.CONFIRMED
    assert again.session_id == unheard.session_id


async def test_a_report_that_comes_days_late_resolves_it(village: Village) -> None:
    await village.with_keyring()
    village.gateway.silent = True
    async with village.gatewayed(), village.headed():
        asked = await village.request()
        await village.when(asked.id, lambda command: command.sent_at is not None)
        async with asyncio.timeout(PATIENCE_S):
            while not village.gateway.reports:
                await asyncio.sleep(0.005)
        village.clock.ahead += timedelta(days=3)
        await village.end(asked.id)
        # Telemetry, of which the report brings some, has just been asked in vain.
        await village.when(
            asked.id, lambda c: c.due_at is not None and c.due_at > village.clock.now()
        )
        [(topic, payload)] = village.gateway.reports
        await village.publish(topic, payload)
        resolved = await village.when(asked.id, lambda c: c.resolved_as is not None)
    assert (resolved.state, resolved.resolved_as) == (CommandState.UNKNOWN, CommandState.CONFIRMED)
    assert resolved.resolved_by == "report"


async def test_a_forged_report_ends_nothing(village: Village) -> None:
    await village.with_keyring()
    village.gateway.silent = True
    async with village.gatewayed(), village.headed():
        asked = await village.request()
        async with asyncio.timeout(PATIENCE_S):
            while not village.gateway.reports:
                await asyncio.sleep(0.005)
        [(topic, payload)] = village.gateway.reports
        await village.publish(topic, payload.replace(b'"done"', b'"failed"'))
        members = read_document(payload).members
        forged = sign(
            {name: value for name, value in members.items() if name != "signature"},
            signer("anita"),
            ActType.REPORT,
            iat=int(village.clock.now().timestamp()),
        )
        await village.publish(topic, json.dumps(forged).encode())
        await asyncio.sleep(0.1)
        assert (await village.get(asked.id)).is_open
        await village.publish(topic, payload)
        done = await village.end(asked.id)
    assert done.state is CommandState.CONFIRMED


async def test_a_protected_meter_waits_for_the_operators_act(village: Village) -> None:
    await village.with_keyring()
    async with village.gatewayed(), village.headed():
        asked = await village.request(meter=CLINIC)
        waiting = await village.when(asked.id, lambda command: command.document is not None)
        assert waiting.missing == (Role.OPERATOR,)
        assert waiting.sent_at is None
        for name in ("market-coop", GATEWAY):  # whose act is not what is missing
            await village.approve(waiting, name)
        await asyncio.sleep(0.1)
        assert village.pole.seen == {}
        await village.approve(waiting, "anita")
        done = await village.end(asked.id)
    assert done.state is CommandState.CONFIRMED
    assert village.pole.relays[CLINIC] == "disconnected"


async def test_an_approval_holds_for_the_bytes_that_were_approved(village: Village) -> None:
    """The gateway booted meanwhile: the document is another, so is what has to be approved."""
    await village.with_keyring()
    async with village.gatewayed(), village.headed():
        asked = await village.request(meter=CLINIC)
        waiting = await village.when(asked.id, lambda command: command.document is not None)
        [session_id] = village.pole.sessions
        assert village.connection is not None
        village.gateway.forget_nonces(session_id)
        await village.gateway.renew(village.connection, session_id)
        anew = await village.when(asked.id, lambda c: c.digest not in (None, waiting.digest))
        await village.approve(waiting, "anita")
        await asyncio.sleep(0.1)
        assert (await village.get(asked.id)).sent_at is None
        await village.approve(anew, "anita")
        done = await village.end(asked.id)
    assert done.state is CommandState.CONFIRMED


async def test_our_own_budget_holds_whatever_the_gateways_is(village: Village) -> None:
    await village.with_keyring()
    async with village.gatewayed(), village.headed(disconnects_per_hour_max=1):
        first = await village.end((await village.request()).id)
        await village.end((await village.request(Action.RECONNECT)).id)
        second = await village.end((await village.request()).id)
        third = await village.end((await village.request(Action.RECONNECT)).id)
        village.clock.ahead += timedelta(hours=1, seconds=1)
        later = await village.end((await village.request()).id)
    assert first.state is third.state is later.state is CommandState.CONFIRMED
    assert (second.state, second.code) == (CommandState.REFUSED, "RATE_LIMIT")


async def test_killed_after_any_commit_the_next_life_goes_on_with_the_same_bytes(
    village: Village,
) -> None:
    """Signed and noted as sent, then the process was gone before, or after, it was published."""
    await village.with_keyring()
    async with village.gatewayed():
        async with village.headed():
            await village.end((await village.request()).id)
        for published in (False, True):
            _, downlink = village.head_end()
            asked = await village.request(Action.RECONNECT)
            downlink.joined(BrokenConnection(village if published else None))
            with suppress(TransportError):
                await downlink._attend_command(asked.id)
            left = await village.get(asked.id)
            assert left.sent_at is not None
            async with village.headed():
                done = await village.end(asked.id)
            assert (done.state, done.digest) == (CommandState.CONFIRMED, left.digest)
    digests = [d for d, c in village.pole.seen.items() if c.action is Action.RECONNECT]
    assert len(digests) == 2


async def test_without_a_broker_nothing_is_noted_as_sent(village: Village) -> None:
    await village.with_keyring()
    async with village.gatewayed(), village.headed():
        await village.end((await village.request()).id)
        village.broker.stop()
        await asyncio.sleep(0.05)
        asked = await village.request(Action.RECONNECT, valid_for_s=60)
        await asyncio.sleep(1.2 * OFFLINE_POLL_INTERVAL_S)
        assert (await village.get(asked.id)).sent_at is None
        village.clock.ahead += timedelta(seconds=61)
        expired = await village.end(asked.id)
    assert expired.state is CommandState.EXPIRED
    assert len(village.pole.moved) == 1


async def test_a_session_that_is_closed_is_closed_at_the_gateway(village: Village) -> None:
    await village.with_keyring()
    async with village.gatewayed(), village.headed():
        await village.end((await village.request()).id)
        [session_id] = village.pole.sessions
        now = village.clock.now()
        await village.store.change_session(
            session_id,
            lambda held, _: SessionChange(replace(held, close_reason="CLOSED", due_at=now)),
            now,
        )
        async with asyncio.timeout(PATIENCE_S):
            while session_id not in village.pole.closed:
                await asyncio.sleep(0.005)
        done = await village.end((await village.request(Action.RECONNECT)).id)
    assert done.session_id != session_id
    ended = await village.store.session(session_id)
    assert ended is not None
    assert ended.state is SessionState.REVOKED


async def test_a_close_that_the_broker_refuses_is_tried_again_a_minute_later(
    village: Village,
) -> None:
    await village.with_keyring()
    async with village.gatewayed(), village.headed():
        await village.end((await village.request()).id)
        [session_id] = village.pole.sessions
        refused: list[str] = []

        def denies(client_id: str, topic: str) -> bool:
            if client_id == "hes-1" and topic.endswith(session_id):
                refused.append(topic)
                return False
            return True

        village.broker.allows = denies
        now = village.clock.now()
        await village.store.change_session(
            session_id,
            lambda held, _: SessionChange(replace(held, close_reason="CLOSED", due_at=now)),
            now,
        )
        await asyncio.sleep(0.2)
        assert len(refused) == 1
        village.clock.ahead += timedelta(seconds=60)
        await asyncio.sleep(0.2)
        assert len(refused) == 2
        village.broker.allows = lambda _client_id, _topic: True
        village.clock.ahead += timedelta(seconds=60)
        async with asyncio.timeout(PATIENCE_S):
            while session_id not in village.pole.closed:
                await asyncio.sleep(0.005)


async def test_a_session_is_renewed_a_day_before_its_end(village: Village) -> None:
    await village.with_keyring()
    async with village.gatewayed(), village.headed():
        first = await village.end((await village.request()).id)
        village.clock.ahead += timedelta(days=SESSION_DAYS) - RENEW_BEFORE + timedelta(minutes=1)
        async with asyncio.timeout(PATIENCE_S):
            while len(village.pole.sessions) < 2:
                await asyncio.sleep(0.005)
        again = await village.end((await village.request(Action.RECONNECT)).id)
    assert again.state is CommandState.CONFIRMED
    assert again.session_id != first.session_id


async def test_an_unanswered_offer_is_repeated_three_times_ever_later(village: Village) -> None:
    await village.with_keyring()
    # Each goes on from the one before; what is between them is more than a slow machine takes for this.
    waits = ((0, 1), (45, 1), (20, 2), (100, 2), (30, 3), (215, 3), (35, 4), (445, 4), (5000, 4))
    async with village.headed():
        await village.request(valid_for_s=3600)
        for wait_s, times in waits:
            village.clock.ahead += timedelta(seconds=wait_s)
            await village.offered(times)
        village.clock.ahead += timedelta(seconds=1)
        await village.request(Action.RECONNECT)  # somebody who came later
        await village.offered(1)


async def test_who_comes_for_the_first_time_is_offered_what_was_lost_on_the_way(
    village: Village,
) -> None:
    """It has its keyring from a stick, says so when it joins, and is not left waiting for a minute."""
    await village.with_keyring()
    topic = SessionTopic(FeederId(FEEDER), GatewayId(GATEWAY), SessionId("keyring-0000000001"))
    ((_, accept),) = village.gateway.take(Delivery(str(topic), keyring(), False, 1, 1))
    async with village.headed():
        asked = await village.request()
        while await village.offers() == 0:
            await asyncio.sleep(0.005)
        village.clock.ahead += timedelta(seconds=2)
        async with village.gatewayed():
            assert await asyncio.to_thread(village.gateway.listens.wait, PATIENCE_S)
            await village.publish(str(topic), accept)
            assert (await village.end(asked.id)).state is CommandState.CONFIRMED


async def test_a_replayed_accept_changes_nothing(village: Village) -> None:
    await village.with_keyring()
    heard: list[bytes] = []
    async with village.gatewayed(), village.headed():
        await village.end((await village.request()).id)
        [session_id] = village.pole.sessions
        topic = f"openami/v1/{FEEDER}/{GATEWAY}/session/{session_id}"
        assert village.connection is not None
        for _ in range(2):
            heard.append(village.gateway.forget_nonces(session_id))
            await village.publish(topic, heard[-1])
        async with asyncio.timeout(PATIENCE_S):
            while (current := await village.store.session(session_id)) is None or (
                current.nonces_heard < 1 + len(heard)
            ):
                await asyncio.sleep(0.005)
        for old in heard:
            await village.publish(topic, old)
        await asyncio.sleep(0.1)
        assert await village.store.session(session_id) == current
    assert current.nonces_heard == 3


async def test_an_accept_of_another_session_under_the_same_id_is_none_of_ours(
    village: Village,
) -> None:
    await village.with_keyring()
    async with village.gatewayed(), village.headed():
        await village.end((await village.request()).id)
        [session_id] = village.pole.sessions
        current = await village.store.session(session_id)
        members = dict(village.pole.sessions[session_id].document.members)
        members |= {"validTo": print_moment(village.clock.now() + timedelta(days=1))}
        del members["signature"]
        iat = int(village.clock.now().timestamp())
        offer = sign(members, signer("hes-1"), ActType.OFFER, iat=iat)
        other = sign(offer, signer(GATEWAY), ActType.ACCEPT, iat=iat, nonce=b"n" * 16)
        topic = f"openami/v1/{FEEDER}/{GATEWAY}/session/{session_id}"
        await village.publish(topic, json.dumps(other).encode())
        await asyncio.sleep(0.1)
        assert await village.store.session(session_id) == current


async def test_a_new_keyring_goes_to_the_gateway_and_its_answer_is_kept(village: Village) -> None:
    await village.with_keyring()
    async with village.gatewayed(), village.headed():
        await village.end((await village.request()).id)
        await village.with_keyring(keyring(2, names=["anita", GATEWAY]), 2)
        async with asyncio.timeout(PATIENCE_S):
            while not (
                (newest := (await village.store.deliveries())[0]).version == 2
                and newest.accepted_at
            ):
                await asyncio.sleep(0.005)
        refused = await village.end((await village.request(Action.RECONNECT)).id)
    assert refused.code == "UNKNOWN_KEY"


async def test_command_to_signed_report_takes_a_tenth_of_a_second(village: Village) -> None:
    """The bound of promise: p95 at most 100 ms; here without a network, so that the program is measured."""
    await village.with_keyring()
    took: list[float] = []
    async with village.gatewayed(), village.headed():
        await village.end((await village.request()).id)
        for turn in range(60):
            began = asyncio.get_running_loop().time()
            action = Action.RECONNECT if turn % 2 == 0 else Action.ARM
            await village.end((await village.request(action)).id)
            took.append(asyncio.get_running_loop().time() - began)
    # Another program's burst is not ours: the best of three rounds.
    rounds = [sorted(took[n : n + 20]) for n in (0, 20, 40)]
    assert min(each[18] for each in rounds) <= 0.1, rounds


class ForgetfulStore:
    """A downlink whose store fails once, after which it takes what comes."""

    filters: Sequence[str] = ()

    def __init__(self) -> None:
        self.taken: list[Delivery] = []
        self.failed = False

    def is_only_ours(self, delivery: Delivery) -> bool:
        return False

    def joined(self, connection: Connection) -> None:
        """Nothing is sent here."""

    def left(self) -> None:
        """Nothing was begun."""

    async def take(self, deliveries: Sequence[Delivery]) -> None:
        if not self.failed:
            self.failed = True
            raise StoreError("the database does not answer")
        self.taken += deliveries


async def test_nothing_is_acknowledged_before_the_ledger_has_committed_it(village: Village) -> None:
    forgetful = ForgetfulStore()
    soon = Backoff(random.Random(1).random, first_s=0.002, ceiling_s=0.01)
    uplink = Uplink(
        village.broker.port("hes-1"),
        village.store,
        catalogue=shipped_catalogue(),
        clock=village.clock,
        broker_backoff=soon,
        store_backoff=soon,
        beside=forgetful,
    )
    task = asyncio.create_task(uplink.run())
    try:
        await uplink.subscribed.wait()
        await village.tell_relay("connected")
        async with asyncio.timeout(PATIENCE_S):
            while not forgetful.taken:
                await asyncio.sleep(0.005)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert forgetful.failed
    assert (await village.store.totals()).duplicates == 1  # it was delivered again


async def test_a_meter_called_session_is_a_meter(village: Village) -> None:
    _, downlink = village.head_end()
    for topic, ours in (
        (f"openami/v1/{FEEDER}/{GATEWAY}/session/sip-1", True),
        (f"openami/v1/{FEEDER}/{GATEWAY}/meter/session/telemetry", False),
        (f"openami/v1/session/{GATEWAY}/meter/{METER}/event", False),
    ):
        assert downlink.is_only_ours(Delivery(topic, b"", False, 1, 1)) is ours
