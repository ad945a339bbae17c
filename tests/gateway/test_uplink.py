"""The uplink: what order, how fast, what is marked when, and what a bad link or an ACL can spoil."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from tests.conftest import StartMosquitto
from tests.gateway.clock_double import START, ClockDouble
from tests.gateway.outbox_samples import all_pending, event, telemetry
from tests.gateway.small_disk import fill

from openami.clock import Clock
from openami.gateway import pacing, uplink
from openami.gateway.outbox import Outbox, OutboxLimits, OutboxState, open_outbox
from openami.gateway.pacing import BACKFILL_BURST_S, REST_S_MAX, REST_S_MIN, Pace, Rest
from openami.gateway.uplink import UplinkSettings
from openami.mqtt.client import MqttPort
from openami.mqtt.memory import MemoryBroker
from openami.mqtt.port import Connection, Delivery, MessagePort, TransportError
from openami.mqtt.settings import BrokerSettings
from openami.profile import decode_envelope

DEADLINE_S = 10.0
FAST = UplinkSettings(backfill_per_s=0, mark_interval_s=0.05)
ONE_BY_ONE = UplinkSettings(in_flight_max=1, backfill_per_s=0, mark_interval_s=0.05)


@pytest.fixture
def clock() -> ClockDouble:
    return ClockDouble()


@pytest.fixture
async def outbox(tmp_path: Path, clock: ClockDouble) -> AsyncIterator[Outbox]:
    async with open_outbox(tmp_path / "gateway.db", OutboxLimits(), clock) as opened:
        yield opened


@asynccontextmanager
async def running(
    outbox: Outbox,
    connection: Connection,
    settings: UplinkSettings = FAST,
    clock: Clock | None = None,
) -> AsyncIterator["asyncio.Task[None]"]:
    """An uplink at work; its end, whatever it was, is the test's to look at."""
    task = asyncio.create_task(uplink.run(outbox, connection, settings, clock or ClockDouble()))
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, TransportError):
            await task


async def until(outbox: Outbox, true: Callable[[OutboxState], bool]) -> OutboxState:
    """Wait for the outbox to come into a state."""
    async with asyncio.timeout(DEADLINE_S):
        while not true(state := await outbox.state()):
            await asyncio.sleep(0.005)
    return state


class Watched:
    """A connection whose publishes are noted, and wait at a gate while it is closed."""

    def __init__(self, connection: Connection, *, open_gate: bool = True) -> None:
        self.published: list[int] = []
        self.at_gate = 0
        self.gate = asyncio.Event()
        if open_gate:
            self.gate.set()
        self._connection = connection

    @property
    def resumed(self) -> bool:
        return self._connection.resumed

    @property
    def tls_resumed(self) -> bool:
        return self._connection.tls_resumed

    async def publish(self, topic: str, payload: bytes) -> None:
        seq = decode_envelope(payload).seq
        assert seq is not None
        self.published.append(seq)
        self.at_gate += 1
        try:
            await self.gate.wait()
        finally:
            self.at_gate -= 1
        await self._connection.publish(topic, payload)

    async def subscribe(self, filters: Sequence[str]) -> None:
        await self._connection.subscribe(filters)

    async def receive(self, at_most: int) -> Sequence[Delivery]:
        return await self._connection.receive(at_most)

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        self._connection.acknowledge(deliveries)


@dataclass
class World:
    """A broker in memory, and who may publish what on it."""

    denied: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.broker = MemoryBroker(
            allows=lambda _client, topic: not any(serial in topic for serial in self.denied)
        )

    @asynccontextmanager
    async def connected(self, *, open_gate: bool = True) -> AsyncIterator[Watched]:
        async with self.broker.port("gateway").connect() as connection:
            yield Watched(connection, open_gate=open_gate)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Connection]:
        async with listening(self.broker.port("head-end")) as connection:
            yield connection


@asynccontextmanager
async def listening(port: MessagePort) -> AsyncIterator[Connection]:
    async with port.connect() as connection:
        await connection.subscribe(["openami/#"])
        yield connection


@pytest.fixture
def world() -> World:
    return World()


# --- pace and rest


def test_the_pace_makes_a_little_lateness_good_and_no_more() -> None:
    pace = Pace(10)
    assert pace.wait_s(100.0) <= 0
    gone = 0
    while pace.wait_s(100.0) <= 0:
        pace.took_one(100.0)
        gone += 1
    assert gone == 1 + round(BACKFILL_BURST_S * 10)
    assert pace.wait_s(100.0) == pytest.approx(0.1)


def test_without_a_pace_nothing_waits() -> None:
    pace = Pace(0)
    for _ in range(1_000):
        assert pace.wait_s(1.0) <= 0
        pace.took_one(1.0)


def test_a_rest_doubles_up_to_an_hour_and_not_for_what_was_under_way_beside_it() -> None:
    rest = Rest()
    now_s = 1_000.0
    lengths = []
    for _ in range(8):
        rest.begin(now_s)
        rest.begin(now_s + 1)
        lengths.append(rest.until_s - now_s)
        now_s = rest.until_s
    assert lengths == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert (lengths[0], lengths[-1]) == (REST_S_MIN, REST_S_MAX)


# --- order


async def test_all_is_sent_once_and_marked(outbox: Outbox, world: World) -> None:
    await outbox.append([telemetry(START, meter) for meter in range(50)] + [event(START)])
    async with world.listening() as head_end, world.connected() as connection:
        async with running(outbox, connection):
            await until(outbox, lambda state: state.kept == 51)
        assert sorted(connection.published) == list(range(1, 52))
        delivered = await head_end.receive(100)
    assert sorted(decode_envelope(each.payload).seq or 0 for each in delivered) == list(
        range(1, 52)
    )


async def test_events_first_then_the_newest_then_the_backlog(outbox: Outbox, world: World) -> None:
    await outbox.append([telemetry(START), event(START), telemetry(START)])
    async with (
        world.connected(open_gate=False) as connection,
        running(outbox, connection, ONE_BY_ONE),
    ):
        await until(outbox, lambda _: connection.published == [2])
        await outbox.append([telemetry(START), telemetry(START), event(START)])
        connection.gate.set()
        await until(outbox, lambda state: state.kept == 6)
    assert connection.published == [2, 6, 5, 4, 3, 1]


async def test_what_is_live_does_not_wait_for_the_backlogs_pace(
    outbox: Outbox, world: World
) -> None:
    await outbox.append([telemetry(START, meter) for meter in range(40)])
    slow = UplinkSettings(backfill_per_s=2, mark_interval_s=0.05)
    async with world.connected() as connection:
        async with running(outbox, connection, slow):
            await until(outbox, lambda state: state.kept >= 1)
            await outbox.append([telemetry(START, meter) for meter in range(40)])
            await until(outbox, lambda state: state.kept >= 41)
        assert set(range(41, 81)) <= set(connection.published)
        assert len(connection.published) < 50


async def test_the_backlog_keeps_its_pace(outbox: Outbox, world: World) -> None:
    await outbox.append([telemetry(START, meter) for meter in range(30)])
    loop = asyncio.get_running_loop()
    async with world.connected() as connection:
        began_s = loop.time()
        async with running(outbox, connection, UplinkSettings(backfill_per_s=50)):
            async with asyncio.timeout(DEADLINE_S):
                while len(connection.published) < 30:
                    await asyncio.sleep(0.005)
        # The first may go at once, and what burst the pace allows.
        assert loop.time() - began_s >= (30 - 1) / 50 - BACKFILL_BURST_S - 0.01


async def test_what_is_asked_for_again_goes_as_backlog(outbox: Outbox, world: World) -> None:
    async with world.connected() as connection:
        slow = UplinkSettings(backfill_per_s=2, mark_interval_s=0.01)
        async with running(outbox, connection, slow):
            await outbox.append([telemetry(START, meter) for meter in range(40)])
            await until(outbox, lambda state: state.kept == 40)
            await outbox.resend(START, START.replace(hour=23))
            await until(outbox, lambda state: state.kept == 2)
    assert connection.published[40:42] == [40, 39]


# --- the window and the marks


@pytest.mark.parametrize("live", [False, True])
async def test_the_window_is_kept_and_half_of_it_is_left_to_what_is_live(
    outbox: Outbox, world: World, live: bool
) -> None:
    await outbox.append([telemetry(START, meter) for meter in range(40)])
    async with world.connected(open_gate=False) as connection, running(outbox, connection):
        await until(outbox, lambda _: connection.at_gate == 10)
        if live:
            await outbox.append([telemetry(START, meter) for meter in range(40)])
            await until(outbox, lambda _: connection.at_gate == 20)
        await asyncio.sleep(0.05)
        assert connection.at_gate == (20 if live else 10)
        assert len(set(connection.published)) == len(connection.published)


async def test_what_is_under_way_is_not_started_again(outbox: Outbox, world: World) -> None:
    async with world.connected(open_gate=False) as connection, running(outbox, connection):
        for appended in range(1, 6):
            await outbox.append([telemetry(START)])
            await until(outbox, lambda _, n=appended: connection.at_gate == n)  # type: ignore[misc]
        connection.gate.set()
        await until(outbox, lambda state: state.kept == 5)
    assert connection.published == [1, 2, 3, 4, 5]


async def test_nothing_is_marked_before_its_puback(outbox: Outbox, world: World) -> None:
    await outbox.append([telemetry(START, meter) for meter in range(5)])
    async with world.connected(open_gate=False) as connection, running(outbox, connection):
        await until(outbox, lambda _: connection.at_gate == 5)
        await asyncio.sleep(0.1)
        assert (await outbox.state()).kept == 0
        connection.gate.set()
        await until(outbox, lambda state: state.kept == 5)


async def test_marks_are_made_together(outbox: Outbox, world: World) -> None:
    """Forty acknowledgements are two commits at a bound of twenty, not forty."""
    await outbox.append([telemetry(START, meter) for meter in range(40)])
    statements = await traced(outbox)
    settings = UplinkSettings(backfill_per_s=0, mark_entries_max=20, mark_interval_s=60)
    async with world.connected() as connection, running(outbox, connection, settings):
        await until(outbox, lambda state: state.kept == 40)
    assert 1 <= statements.count("COMMIT") <= 2


async def test_an_idle_uplink_asks_nothing_until_something_is_appended(
    outbox: Outbox, world: World
) -> None:
    async with world.connected() as connection, running(outbox, connection):
        await asyncio.sleep(0.05)
        statements = await traced(outbox)
        await asyncio.sleep(0.2)
        assert not statements
        await outbox.append([telemetry(START)])
        await until(outbox, lambda state: state.kept == 1)


async def traced(outbox: Outbox) -> list[str]:
    """Every statement the database is given from now on."""
    statements: list[str] = []
    await outbox.database.run(lambda connection: connection.set_trace_callback(statements.append))
    return statements


# --- what goes wrong


async def test_a_lost_connection_ends_it_and_the_next_sends_what_is_left(
    outbox: Outbox, world: World
) -> None:
    await outbox.append([telemetry(START, meter) for meter in range(30)])
    settings = UplinkSettings(backfill_per_s=0, mark_interval_s=60)
    async with world.listening() as head_end:
        async with world.connected() as first, running(outbox, first, settings) as task:
            async with asyncio.timeout(DEADLINE_S):
                while len(first.published) < 12:
                    await asyncio.sleep(0)
            world.broker.cut("gateway")
            with pytest.raises(TransportError, match="lost"):
                await task
        acknowledged = (await outbox.state()).kept
        assert acknowledged > 0, "what was acknowledged is marked before the end"
        async with world.connected() as second, running(outbox, second):
            await until(outbox, lambda state: state.kept == 30)
        assert len(second.published) == 30 - acknowledged
        seqs = {decode_envelope(each.payload).seq for each in await head_end.receive(1_000)}
    assert seqs == set(range(1, 31))


async def test_a_cancelled_uplink_leaves_nothing_running_and_nothing_lost(
    outbox: Outbox, world: World
) -> None:
    await outbox.append([telemetry(START, meter) for meter in range(5)])
    tasks_before = asyncio.all_tasks()
    async with world.connected(open_gate=False) as connection:
        async with running(outbox, connection) as task:
            await until(outbox, lambda _: connection.at_gate == 5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == tasks_before
    assert len(await all_pending(outbox)) == 5


async def test_one_denied_meter_does_not_hold_up_the_others_nor_lose_its_own(
    outbox: Outbox, world: World
) -> None:
    world.denied = {"DS1000-00002"}
    await outbox.append([telemetry(START, meter) for meter in (1, 2, 2, 2, 3)])
    async with world.connected() as connection, running(outbox, connection, ONE_BY_ONE):
        state = await until(outbox, lambda state: state.kept == 2 and state.refused == 1)
        assert "does not allow" in state.refusal
        await outbox.append([telemetry(START, meter) for meter in (1, 2, 3)])
        state = await until(outbox, lambda state: state.kept == 4)
    # Its topic rests: it was tried once, not with every message.
    assert [seq for seq in connection.published if seq in (2, 3, 4, 7)] == [4]


async def test_a_refusal_stops_what_was_fetched_for_the_same_topic(
    outbox: Outbox, world: World
) -> None:
    world.denied = {"DS1000-00002"}
    await outbox.append([telemetry(START, 2) for _ in range(4)])
    four = UplinkSettings(in_flight_max=4, backfill_per_s=0)  # two of a backlog at once
    async with world.connected() as connection, running(outbox, connection, four):
        await until(outbox, lambda state: state.refused == 2)
        await asyncio.sleep(0.05)
    assert connection.published == [4, 3]


async def test_what_was_refused_is_offered_again_after_an_hour(
    outbox: Outbox, world: World, clock: ClockDouble
) -> None:
    world.denied = {"DS1000-00002"}
    await outbox.append([telemetry(START, 2), telemetry(START, 2)])
    async with world.connected() as connection, running(outbox, connection, ONE_BY_ONE, clock):
        await until(outbox, lambda state: state.refused == 1)
    world.denied = set()
    clock.advance(uplink.REFUSED_OFFERED_AGAIN_AFTER.total_seconds() - 1)
    async with world.connected() as connection, running(outbox, connection, ONE_BY_ONE, clock):
        await until(outbox, lambda state: state.kept == 1)
        assert (await outbox.state()).refused == 1
    clock.advance(1)
    async with world.connected() as connection, running(outbox, connection, ONE_BY_ONE, clock):
        state = await until(outbox, lambda state: state.kept == 2)
    assert state.refused == 0
    assert state.refusal == ""


async def test_a_message_that_is_always_refused_does_not_block_those_behind_it(
    outbox: Outbox, world: World
) -> None:
    """It is set aside, so with the next try of its topic the next message is at the front."""
    world.denied = {"DS1000-00002"}
    await outbox.append([telemetry(START, 2) for _ in range(3)])
    tried: list[int] = []
    for refused in (1, 2, 3):
        async with world.connected() as connection, running(outbox, connection, ONE_BY_ONE):
            await until(outbox, lambda state, n=refused: state.refused == n)  # type: ignore[misc]
        tried += connection.published
    assert tried == [3, 2, 1]


async def test_sending_goes_on_while_the_disk_takes_no_marks(
    small_disk: Path, world: World, clock: ClockDouble
) -> None:
    async with open_outbox(small_disk / "gateway.db", OutboxLimits(), clock) as outbox:
        await outbox.append([telemetry(START, meter) for meter in range(100)])
        fill(small_disk)
        async with world.connected() as connection, running(outbox, connection) as task:
            async with asyncio.timeout(DEADLINE_S):
                while len(connection.published) < 100:
                    await asyncio.sleep(0.005)
            await asyncio.sleep(0.1)
            assert not task.done()
            assert sorted(connection.published) == list(range(1, 101))


def slowed(look_up: Callable[..., Awaitable[Any]], by_s: float) -> Callable[..., Awaitable[Any]]:
    """Look up as a disk does that others keep busy."""

    async def look_up_slowly(*given: Any, **named: Any) -> Any:
        found = await look_up(*given, **named)
        await asyncio.sleep(by_s)
        return found

    return look_up_slowly


async def test_what_a_full_disk_kept_from_being_set_aside_is_tried_again(
    small_disk: Path, world: World, clock: ClockDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the simulation: the uplink believed the outbox empty and never asked again."""
    monkeypatch.setattr(pacing, "REST_S_MIN", 0.02)  # a minute in life
    world.denied = {"DS1000-00002"}
    async with open_outbox(small_disk / "gateway.db", OutboxLimits(), clock) as outbox:
        await outbox.append([telemetry(START, 2)])
        with closing(sqlite3.connect(small_disk / "gateway.db")) as other:
            # Or what is set aside finds room in a log that was just written back.
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        fill(small_disk)
        monkeypatch.setattr(outbox, "pending", slowed(outbox.pending, 0.05))  # longer than it rests
        async with world.connected() as connection, running(outbox, connection):
            async with asyncio.timeout(DEADLINE_S):
                while len(connection.published) < 2:
                    await asyncio.sleep(0.005)
            assert (await outbox.state()).refused == 0


# --- a real broker


@pytest.mark.broker
@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_a_backlog_reaches_a_head_end_through_a_real_broker(
    outbox: Outbox, mosquitto: StartMosquitto, version: Literal["5", "3.1.1"]
) -> None:
    broker = mosquitto("max_queued_messages 100000")

    def port(name: str) -> MqttPort:
        return MqttPort(BrokerSettings(url=broker.url, client_id=name, protocol=version))

    for _ in range(5):
        await outbox.append([telemetry(START, meter) for meter in range(100)])
    seqs: set[int | None] = set()
    async with (
        listening(port("head-end")) as head_end,
        port("gateway").connect() as connection,
        running(outbox, connection),
        asyncio.timeout(DEADLINE_S),
    ):
        while len(seqs) < 500:
            deliveries = await head_end.receive(500)
            head_end.acknowledge(deliveries)
            seqs |= {decode_envelope(each.payload).seq for each in deliveries}
        state = await until(outbox, lambda state: state.kept == 500)
    assert seqs == set(range(1, 501))
    assert state.pending == 0
