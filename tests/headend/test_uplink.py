"""The way up: what is acknowledged is committed, whatever breaks in between."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.headend.breakable import DOWN, BreakableStore
from tests.headend.messages import EVENT, EVENT_TOPIC, TOPIC, message_of, payload, register
from tests.headend.new_store import new_store

from openami.headend.ingest import Accepted, Decision, Message
from openami.headend.store import StoreError
from openami.headend.store.open import open_store
from openami.headend.tracing import Tracing
from openami.headend.uplink import BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, FILTERS, Uplink
from openami.mqtt.backoff import Backoff
from openami.mqtt.memory import MemoryBroker
from openami.mqtt.port import Connection, MessagePort, TransportError
from openami.profile import Code, shipped_catalogue

CLIENT = "openami-headend"
PATIENCE_S = 10.0


class FixedClock:
    """A clock that stands still, past the example's time."""

    def now(self) -> datetime:
        return datetime(2026, 6, 22, 14, 30, 2, tzinfo=UTC)

    def boottime(self) -> float:
        return 0.0

    def synchronised(self) -> bool:
        return True


class Power(BaseException):
    """The process is gone: nothing after this line runs."""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[BreakableStore]:
    async with open_store(new_store(tmp_path / "headend.db")) as real:
        yield BreakableStore(real)


@pytest.fixture
async def broker() -> MemoryBroker:
    """A broker that already knows the head-end, as after its first start."""
    memory = MemoryBroker()
    async with memory.port(CLIENT).connect() as connection:
        await connection.subscribe(FILTERS)
    return memory


def an_uplink(
    port: MessagePort, store: BreakableStore, *, tracing: Tracing | None = None
) -> Uplink:
    def soon() -> Backoff:
        return Backoff(random.Random(1).random, first_s=0.002, ceiling_s=0.01)

    return Uplink(
        port,
        store,
        catalogue=shipped_catalogue(),
        clock=FixedClock(),
        broker_backoff=soon(),
        store_backoff=soon(),
        tracing=tracing,
    )


@asynccontextmanager
async def running(uplink: Uplink) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(uplink.run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def eventually(happens: Callable[[], Awaitable[bool] | bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answer = happens()
            if answer is True or (not isinstance(answer, bool) and await answer):
                return
            await asyncio.sleep(0.002)


async def publish(broker: MemoryBroker, *messages: Message) -> None:
    async with broker.port("pole", persistent=False).connect() as connection:
        for each in messages:
            await connection.publish(each.topic, each.payload)


def some(count: int, first: int = 0) -> list[Message]:
    return [message_of(f"M-{number}") for number in range(first, first + count)]


async def still_with(broker: MemoryBroker) -> int:
    """Return how many messages the broker would deliver to the head-end now."""
    seen = 0
    async with broker.port(CLIENT).connect() as connection:
        with suppress(TimeoutError):
            while True:
                async with asyncio.timeout(0.02):
                    seen += len(await connection.receive(1000))
    return seen


def has_stored(store: BreakableStore, count: int) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        with suppress(StoreError):
            return (await store.totals()).stored >= count
        return False

    return look


async def test_a_commit_of_just_now_proves_the_store_and_nothing_older_does(
    broker: MemoryBroker, store: BreakableStore
) -> None:
    uplink = an_uplink(broker.port(CLIENT), store)
    await uplink.prove_store()
    store.reads_only = True
    await uplink.prove_store()
    another = an_uplink(broker.port(CLIENT), store)
    with pytest.raises(StoreError):
        await another.prove_store()
    store.reads_only = False
    await publish(broker, *some(1))
    async with running(another):
        await eventually(lambda: another.statistics.batches == 1)
        store.reads_only = True
        await another.prove_store()


async def test_what_is_published_is_stored_and_acknowledged(
    broker: MemoryBroker, store: BreakableStore
) -> None:
    await publish(broker, *some(20))
    async with running(an_uplink(broker.port(CLIENT), store)):
        await eventually(has_stored(store, 60))
        await publish(broker, Message(EVENT_TOPIC, payload(event=EVENT), FixedClock().now()))
        await eventually(has_stored(store, 63))
    assert await still_with(broker) == 0
    assert (await store.totals()).events == 1
    assert len(await store.meters()) == 21


async def test_nothing_is_acknowledged_before_the_commit(
    broker: MemoryBroker, store: BreakableStore
) -> None:
    """The moment the commit begins, the broker must still owe us every message of the batch."""
    never = asyncio.Event()
    store.before = never.wait
    await publish(broker, *some(5))
    uplink = an_uplink(broker.port(CLIENT), store)
    task = asyncio.create_task(uplink.run())
    await eventually(lambda: store.batches == [5])
    broker.cut(CLIENT)
    assert await still_with(broker) == 5
    store.failure = DOWN
    never.set()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert (await store._real.totals()).stored == 0


async def test_killed_between_commit_and_acknowledgement_all_is_stored_once(
    broker: MemoryBroker, store: BreakableStore
) -> None:
    async def power_cut() -> None:
        raise Power

    await publish(broker, *some(5))
    store.after = power_cut
    uplink = an_uplink(broker.port(CLIENT), store)
    with pytest.raises(Power):
        await uplink.run()
    assert (await store.totals()).stored == 15, "it was committed"

    restarted = BreakableStore(store._real)
    async with running(an_uplink(broker.port(CLIENT), restarted)):
        await eventually(lambda: restarted.batches != [])
        await eventually(lambda: _is(restarted, duplicates=15))
    totals = await restarted.totals()
    assert (totals.stored, totals.duplicates, totals.conflicts) == (15, 15, 0)
    assert await still_with(broker) == 0


async def _is(store: BreakableStore, *, duplicates: int) -> bool:
    return (await store.totals()).duplicates == duplicates


async def test_told_to_stop_it_finishes_the_batch_in_hand(
    broker: MemoryBroker, store: BreakableStore
) -> None:
    gate = asyncio.Event()
    store.before = gate.wait
    await publish(broker, *some(5))
    task = asyncio.create_task(an_uplink(broker.port(CLIENT), store).run())
    await eventually(lambda: store.batches == [5])
    task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await store.totals()).stored == 15
    assert await still_with(broker) == 0


async def test_a_store_that_is_down_keeps_everything_with_the_broker(
    broker: MemoryBroker, store: BreakableStore
) -> None:
    uplink = an_uplink(broker.port(CLIENT), store)
    async with running(uplink):
        await eventually(uplink.subscribed.is_set)
        store.failure = DOWN
        await publish(broker, *some(5))
        await eventually(lambda: uplink.statistics.store_losses == 1)
        await eventually(lambda: not uplink.subscribed.is_set())
        await publish(broker, *some(5, first=5))
        assert await still_with(broker) == 10, "it left the broker, which keeps all ten"
        assert uplink.statistics.batches == 0
        store.failure = None
        await eventually(has_stored(store, 30))
        await eventually(uplink.subscribed.is_set)
    totals = await store.totals()
    assert (totals.stored, totals.conflicts) == (30, 0)
    assert await still_with(broker) == 0


async def test_a_store_that_is_full_is_not_hammered(
    broker: MemoryBroker, store: BreakableStore
) -> None:
    """It answers questions and refuses every write: the pause between attempts must grow all the same."""
    uplink = an_uplink(broker.port(CLIENT), store)
    store.refuses = lambda _: True
    await publish(broker, *some(4))
    async with running(uplink):
        await eventually(lambda: uplink.statistics.store_losses >= 3)
        attempts = store.asked
        # Halving down to one message and its evidence: 4, 2, 1, and the rejection of that one.
        assert store.batches[:4] == [4, 2, 1, 1]
        assert attempts <= 4 * (uplink.statistics.store_losses + 1)
        store.refuses = lambda _: False
        await eventually(has_stored(store, 12))
    assert await still_with(broker) == 0


async def test_a_standby_that_answers_is_not_the_store_that_is_back(
    broker: MemoryBroker, store: BreakableStore
) -> None:
    """Else the broker would be joined, and everything delivered and refused, again and again."""
    uplink = an_uplink(broker.port(CLIENT), store)
    store.reads_only = True
    async with running(uplink):
        await publish(broker, *some(4))
        await eventually(lambda: uplink.statistics.store_losses == 1)
        await asyncio.sleep(0.2)
        assert (uplink.statistics.store_losses, store.asked) == (1, 1)
        store.reads_only = False
        await eventually(has_stored(store, 12))
    assert await still_with(broker) == 0


async def test_a_store_that_lost_what_it_had_committed_is_told_of(
    broker: MemoryBroker, store: BreakableStore, tmp_path: Path
) -> None:
    """As after a failover to a standby that was behind: the messages are acknowledged and gone."""
    uplink = an_uplink(broker.port(CLIENT), store)
    async with open_store(new_store(tmp_path / "behind.db")) as behind:
        with capture_logs() as said:
            async with running(uplink):
                await publish(broker, *some(4))
                await eventually(lambda: uplink.statistics.tally.messages == 4)
                broker.cut(CLIENT)
                await eventually(lambda: uplink.statistics.broker_connects == 2)
                assert not [line for line in said if line["log_level"] == "error"]
                store._real = behind
                broker.cut(CLIENT)
                await eventually(lambda: uplink.statistics.broker_connects == 3)
    [told] = [line for line in said if line["log_level"] == "error"]
    assert told["event"] == "the store is older than what it has committed"
    assert told["messages_missing"] == 4


async def test_one_message_the_database_refuses_is_set_aside_and_the_rest_is_stored(
    broker: MemoryBroker, store: BreakableStore
) -> None:
    def poison(decision: Decision) -> bool:
        return isinstance(decision, Accepted) and decision.envelope.meter_serial == "M-13"

    store.refuses = poison
    await publish(broker, *some(32))
    uplink = an_uplink(broker.port(CLIENT), store)
    async with running(uplink):
        await eventually(has_stored(store, 31 * 3))
        await eventually(lambda: uplink.statistics.batches == 1)
    assert await still_with(broker) == 0
    (kept,) = await store.rejects()
    assert kept.code == Code.UNSTORABLE
    assert kept.payload == message_of("M-13").payload
    assert uplink.statistics.store_losses == 0
    assert len(store.batches) <= 2 * 6, "found by halving"


async def test_a_broker_that_goes_away_is_joined_again(
    broker: MemoryBroker, store: BreakableStore
) -> None:
    uplink = an_uplink(broker.port(CLIENT), store)
    async with running(uplink):
        await publish(broker, *some(3))
        await eventually(has_stored(store, 9))
        broker.stop()
        await eventually(lambda: not uplink.subscribed.is_set())
        await asyncio.sleep(0.03)
        assert uplink.statistics.broker_losses == 1, "one loss, however many attempts"
        broker.start()
        await eventually(uplink.subscribed.is_set)
        await publish(broker, *some(3, first=3))
        await eventually(has_stored(store, 18))
    assert uplink.statistics.broker_connects == 2


async def test_a_session_the_broker_has_forgotten_is_counted(
    broker: MemoryBroker, store: BreakableStore
) -> None:
    uplink = an_uplink(broker.port(CLIENT), store)
    async with running(uplink):
        await publish(broker, *some(1))
        await eventually(has_stored(store, 3))
        broker.cut(CLIENT)
        await eventually(lambda: uplink.statistics.broker_connects == 2)
        assert uplink.statistics.sessions_lost == 0
        broker.forget()
        await eventually(lambda: uplink.statistics.broker_connects == 3)
        assert uplink.statistics.sessions_lost == 1
    broker.forget()
    again = an_uplink(broker.port(CLIENT), store)
    async with running(again):
        await eventually(again.subscribed.is_set)
    assert again.statistics.sessions_lost == 1, "the store has meters: there was a session once"


async def test_the_first_session_of_all_is_no_loss(store: BreakableStore) -> None:
    uplink = an_uplink(MemoryBroker().port(CLIENT), store)
    async with running(uplink):
        await eventually(uplink.subscribed.is_set)
    assert uplink.statistics.sessions_lost == 0


async def test_a_link_that_breaks_during_the_commit_costs_a_duplicate_and_nothing_else(
    broker: MemoryBroker, store: BreakableStore
) -> None:
    async def cut() -> None:
        store.before = _at_once
        broker.cut(CLIENT)

    store.before = cut
    await publish(broker, *some(4))
    async with running(an_uplink(broker.port(CLIENT), store)):
        await eventually(lambda: _is(store, duplicates=12))
    assert (await store.totals()).stored == 12
    assert await still_with(broker) == 0


async def _at_once() -> None:
    return


class _Refusing:
    """A port that refuses for good, or lets in as long as ``inner`` is there."""

    def __init__(self, inner: MessagePort | None = None) -> None:
        self.inner = inner
        self.refused = 0

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        if self.inner is not None:
            return self.inner.connect()
        return self._refuse()

    @asynccontextmanager
    async def _refuse(self) -> AsyncIterator[Connection]:
        self.refused += 1
        await self._fail()
        yield _nobody()

    async def _fail(self) -> None:
        raise TransportError("wrong certificate", remedy="check ca_file", permanent=True)


def _nobody() -> Connection:
    raise AssertionError("nobody was let in")


async def test_refused_for_good_at_the_start_is_for_a_person_to_mend(
    store: BreakableStore,
) -> None:
    with pytest.raises(TransportError, match="wrong certificate"):
        await an_uplink(_Refusing(), store).run()


async def test_refused_for_good_later_it_keeps_trying(
    broker: MemoryBroker, store: BreakableStore
) -> None:
    """A certificate that was renewed wrongly is renewed again; the head-end is back by itself."""
    port = _Refusing(broker.port(CLIENT))
    uplink = an_uplink(port, store)
    async with running(uplink):
        await eventually(uplink.subscribed.is_set)
        port.inner = None
        broker.cut(CLIENT)
        await eventually(lambda: port.refused >= 3)
        port.inner = broker.port(CLIENT)
        await eventually(uplink.subscribed.is_set)


async def test_a_store_that_cannot_be_read_at_the_start_is_for_a_person_to_mend(
    broker: MemoryBroker, store: BreakableStore
) -> None:
    store.failure = DOWN
    with pytest.raises(StoreError):
        await an_uplink(broker.port(CLIENT), store).run()


async def test_a_flood_of_bad_messages_does_not_stop_the_stream(
    broker: MemoryBroker, store: BreakableStore
) -> None:
    now = FixedClock().now()
    bad = [
        Message(TOPIC, body, now)
        for body in (b"\xff", b"[" * 50_000, b"{}", payload(ts="x"), payload(registers=[]))
    ]
    flood: list[Message] = []
    for number, good in enumerate(some(50)):
        flood += [bad[number % len(bad)]] * 20
        flood.append(good)
    await publish(broker, *flood)
    uplink = an_uplink(broker.port(CLIENT), store)
    async with running(uplink):
        await eventually(has_stored(store, 150))
        await eventually(lambda: _has_rejected(store, 1000))
    assert await still_with(broker) == 0
    kept = await store.rejects()
    assert {reject.code: reject.count for reject in kept} == {
        "BAD_UTF8": 200,
        "TOO_DEEP": 200,
        "MISSING_MEMBER": 200,
        "BAD_TIME": 200,
        "EMPTY_REGISTERS": 200,
    }
    assert uplink.statistics.faults.total() == 1000


async def _has_rejected(store: BreakableStore, count: int) -> bool:
    return (await store.totals()).rejected_messages == count


async def test_a_partly_bad_message_is_stored_and_kept(
    broker: MemoryBroker, store: BreakableStore
) -> None:
    items = [register(), register(obis="1.7.0", unit="W")]
    await publish(broker, message_of("M-1", registers=items))
    uplink = an_uplink(broker.port(CLIENT), store)
    async with running(uplink):
        await eventually(has_stored(store, 1))
    (kept,) = await store.rejects()
    assert (kept.code, kept.path, kept.partial) == ("WRONG_UNIT", "/registers/1/unit", True)
    assert uplink.statistics.register_faults == {"WRONG_UNIT": 1}


async def test_findings_are_stored_beside_the_reading(
    broker: MemoryBroker, store: BreakableStore
) -> None:
    await publish(
        broker, message_of("M-1", registers=[register(obis="32.7.0", value=1001, unit="V")])
    )
    async with running(an_uplink(broker.port(CLIENT), store)):
        await eventually(has_stored(store, 1))
    (finding,) = await store.findings(meter_serial="M-1")
    assert finding.code == "OUT_OF_RANGE"


async def test_a_counter_that_went_back_during_a_restart_is_seen(
    broker: MemoryBroker, store: BreakableStore
) -> None:
    await publish(broker, message_of("M-1", registers=[register(value=100)]))
    async with running(an_uplink(broker.port(CLIENT), store)):
        await eventually(has_stored(store, 1))
    later = {"ts": "2026-06-22T14:31:00Z", "registers": [register(value=3)]}
    await publish(broker, message_of("M-1", **later))
    async with running(an_uplink(broker.port(CLIENT), store)):
        await eventually(has_stored(store, 2))
    assert [f.code for f in await store.findings(meter_serial="M-1")] == ["REGISTER_ROLLBACK"]


async def test_batches_are_bounded_in_messages(broker: MemoryBroker, store: BreakableStore) -> None:
    broker.inflight_max = 3 * BATCH_MESSAGES_MAX
    count = BATCH_MESSAGES_MAX + 1
    await publish(broker, *some(count))
    async with running(an_uplink(broker.port(CLIENT), store)):
        await eventually(has_stored(store, 3 * count))
    assert store.batches == [BATCH_MESSAGES_MAX, 1]


async def test_batches_are_bounded_in_bytes(broker: MemoryBroker, store: BreakableStore) -> None:
    half = b" " * (BATCH_BYTES_MAX // 2)
    large = [Message(TOPIC, half + bytes([n]), FixedClock().now()) for n in range(5)]
    await publish(broker, *large)
    async with running(an_uplink(broker.port(CLIENT), store)):
        await eventually(lambda: _has_rejected(store, 5))
    assert store.batches == [2, 2, 1]


async def test_a_bug_is_not_caught(broker: MemoryBroker, store: BreakableStore) -> None:
    async def bug() -> None:
        raise ZeroDivisionError

    store.before = bug
    await publish(broker, *some(1))
    with pytest.raises(ZeroDivisionError):
        await an_uplink(broker.port(CLIENT), store).run()
    assert await still_with(broker) == 1


async def test_a_session_taken_over_is_said_and_survived(
    broker: MemoryBroker, store: BreakableStore
) -> None:
    uplink = an_uplink(broker.port(CLIENT), store)
    async with running(uplink):
        await eventually(uplink.subscribed.is_set)
        async with broker.port(CLIENT).connect():
            pass
        await eventually(lambda: uplink.statistics.broker_connects >= 2)
        await publish(broker, *some(1))
        await eventually(has_stored(store, 3))
