"""The monthly cap at work: what goes, what waits, what is told, and what a restart remembers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.gateway.clock_double import ClockDouble
from tests.gateway.outbox_samples import FEEDER, GATEWAY, event, telemetry
from tests.gateway.test_budget import meter, plan

from openami.gateway import cap_table, uplink
from openami.gateway.budget import Plan
from openami.gateway.cap_forecast import SIGN_OF_LIFE_S, bytes_per_day
from openami.gateway.cap_keeper import START_S, CapKeeper
from openami.gateway.driver import PollGroup
from openami.gateway.link_account import LinkAccount
from openami.gateway.metrics import GatewayMetrics
from openami.gateway.monthly_cap import CapStage
from openami.gateway.normalise import Source
from openami.gateway.outbox import Outbox, OutboxLimits, open_outbox
from openami.gateway.uplink import EVERYTHING, UplinkSettings
from openami.link_cost import Assumptions
from openami.mqtt.memory import MemoryBroker
from openami.mqtt.port import Connection, TransportError
from openami.profile import Envelope, EventState, decode_envelope

# Long enough for a broker in memory, and for a commit, to do what they are going to do.
QUIET_S = 0.08
MB = 1_000_000
CAP_MB = 60.0
NOON = datetime.fromisoformat("2026-07-01T12:00:00+00:00")
PLAN = plan(meter("M-1"), meter("M-2"))
SETTINGS = UplinkSettings(
    backfill_per_s=0, mark_interval_s=0.01, cap_mb_a_month=CAP_MB, cap_from_day=1
)


@pytest.fixture
def clock() -> ClockDouble:
    return ClockDouble(NOON)


@pytest.fixture
async def outbox(tmp_path: Path, clock: ClockDouble) -> AsyncIterator[Outbox]:
    async with open_outbox(tmp_path / "gateway.db", OutboxLimits(), clock) as opened:
        yield opened


async def kept(
    outbox: Outbox,
    clock: ClockDouble,
    *,
    plan: Callable[[], Plan] = lambda: PLAN,
    settings: UplinkSettings = SETTINGS,
) -> CapKeeper:
    """A keeper as a starting gateway makes it, with what the last one stored."""
    return CapKeeper(
        outbox,
        settings,
        LinkAccount(Assumptions(), protocol="5", keepalive_s=60),
        plan=plan,
        reports={},
        source=Source(FEEDER, GATEWAY),
        clock=clock,
        metrics=GatewayMetrics(),
        standing=await outbox.database.run(cap_table.read),
    )


def used_for(stage: CapStage, *, left_days: float) -> int:
    """Return how much must be used so that this stage is the mildest that still fits."""
    available = CAP_MB * MB * 0.9
    return round(available - bytes_per_day(PLAN)[stage] * left_days - 1_000)


def spend(keeper: CapKeeper, clock: ClockDouble, stage: CapStage) -> None:
    month_end = datetime.fromisoformat("2026-08-01T00:00:00+00:00")
    left_days = (month_end - clock.now()) / timedelta(days=1)
    keeper.account.used_bytes = used_for(stage, left_days=left_days)


async def sent(outbox: Outbox, keeper: CapKeeper) -> Sequence[Envelope]:
    """Return what the uplink sends now, in the order of its numbers, until it sends no more."""
    broker = MemoryBroker()
    async with (
        broker.port("hes").connect() as head_end,
        broker.port("gateway").connect() as connection,
    ):
        await head_end.subscribe(["openami/#"])
        task = asyncio.create_task(
            uplink.run(
                outbox,
                connection,
                SETTINGS,
                ClockDouble(),
                passage=lambda: keeper.passage,
                within=keeper.keeping,
            )
        )
        heard = await until_quiet(head_end)
        task.cancel()
        with suppress(asyncio.CancelledError, TransportError):
            await task
    return sorted(heard, key=lambda each: each.seq or 0)


async def until_quiet(connection: Connection) -> list[Envelope]:
    heard: list[Envelope] = []
    with suppress(TimeoutError):
        while True:
            async with asyncio.timeout(QUIET_S):
                deliveries = await connection.receive(100)
            connection.acknowledge(deliveries)
            heard += [decode_envelope(each.payload) for each in deliveries]
    return heard


def told(envelopes: Sequence[Envelope]) -> list[tuple[str, str]]:
    return [(e.event.type, e.event.state) for e in envelopes if e.event]


async def test_within_its_cap_everything_goes(outbox: Outbox, clock: ClockDouble) -> None:
    keeper = await kept(outbox, clock)
    await keeper.look()
    assert keeper.passage == EVERYTHING
    await outbox.append([telemetry(NOON), event(NOON)])
    assert len(await sent(outbox, keeper)) == 2


async def test_the_first_of_each_hour_goes_and_the_others_wait(
    outbox: Outbox, clock: ClockDouble
) -> None:
    keeper = await kept(outbox, clock)
    spend(keeper, clock, CapStage.HOURLY)
    await keeper.look()
    assert keeper.view.stage is CapStage.HOURLY
    assert told(await sent(outbox, keeper)) == [
        ("telemetry_slowed", EventState.RAISED),
        ("telemetry_withheld", EventState.RAISED),
    ]
    for quarter in range(6):
        moment = clock.now() + timedelta(milliseconds=250)
        await outbox.append([telemetry(moment, meter=n) for n in (1, 2)])
        await outbox.append([event(moment)])
        await keeper.look()
        went = await sent(outbox, keeper)
        assert told(went) == [("power_fail", EventState.RAISED)], "events always"
        assert sum(e.event is None for e in went) == (2 if quarter in (0, 4) else 0)
        clock.advance(900)
    assert (await outbox.state()).pending == 8, "and nothing is lost"


async def test_a_late_poll_of_the_hour_passes_when_it_comes(
    outbox: Outbox, clock: ClockDouble
) -> None:
    """A slow line reads its last meter minutes after the hour."""
    keeper = await kept(outbox, clock)
    spend(keeper, clock, CapStage.HOURLY)
    await keeper.look()
    await sent(outbox, keeper)
    await outbox.append([telemetry(clock.now(), meter=1)])
    await keeper.look()
    assert len(await sent(outbox, keeper)) == 1
    clock.advance(240)
    await outbox.append([telemetry(clock.now(), meter=1), telemetry(clock.now(), meter=2)])
    await outbox.append([telemetry(clock.now(), meter=1, group=PollGroup.DAILY)])
    await keeper.look()
    first, second = await sent(outbox, keeper)
    assert (first.seq, second.seq) == (5, 6), "of the other meter, and of the other group"


async def test_in_the_last_stage_only_events_go(outbox: Outbox, clock: ClockDouble) -> None:
    keeper = await kept(outbox, clock)
    keeper.account.used_bytes = 2 * round(CAP_MB * MB)
    await outbox.append([telemetry(clock.now()), event(clock.now())])
    await keeper.look()
    assert keeper.view.stage is CapStage.ESSENTIAL
    assert keeper.readings_wait()
    went = await sent(outbox, keeper)
    assert [each.event is not None for each in went] == [True, True, True]
    assert (await outbox.state()).pending == 1


async def test_what_waited_goes_when_the_month_turns_and_is_told_over(
    outbox: Outbox, clock: ClockDouble
) -> None:
    keeper = await kept(outbox, clock)
    keeper.account.used_bytes = 2 * round(CAP_MB * MB)
    await keeper.look()
    await outbox.append([telemetry(clock.now())])
    await sent(outbox, keeper)
    clock.advance(31 * 86_400)
    await outbox.append([])  # the outbox looks at the clock
    await keeper.look()
    assert (keeper.view.stage, keeper.view.used_bytes) == (CapStage.FULL, 0)
    went = await sent(outbox, keeper)
    assert told(went) == [
        ("telemetry_slowed", EventState.CLEARED),
        ("telemetry_withheld", EventState.RAISED),  # two hours are over: the same event again
    ]
    assert sum(each.event is None for each in went) == 1
    assert keeper.view.waits, "until none does"
    await keeper.look()
    assert told(await sent(outbox, keeper)) == [("telemetry_withheld", EventState.CLEARED)]


async def test_what_an_outage_left_waits_where_there_is_room_for_the_live_only(
    outbox: Outbox, clock: ClockDouble
) -> None:
    """Nothing is withheld of what is read now, and that the rest waits is told all the same."""
    keeper = await kept(outbox, clock)
    spend(keeper, clock, CapStage.SLOWER)
    await outbox.append([telemetry(clock.now())])
    clock.advance(900)
    await keeper.look()
    assert keeper.view.stage is CapStage.SLOWER
    assert not keeper.readings_wait()
    assert told(await sent(outbox, keeper)) == [
        ("telemetry_slowed", EventState.RAISED),
        ("telemetry_withheld", EventState.RAISED),
    ]
    assert (await outbox.state()).pending == 1
    keeper.account.used_bytes -= 2 * MB  # as when the days that came sent less than was foretold
    await keeper.look()
    assert [each.seq for each in await sent(outbox, keeper)] == [1]
    await keeper.look()
    assert told(await sent(outbox, keeper)) == [("telemetry_withheld", EventState.CLEARED)]


async def test_a_cap_that_was_taken_away_lets_everything_go_and_is_told_over(
    outbox: Outbox, clock: ClockDouble
) -> None:
    """Or its alarm would stand at the head-end for ever."""
    keeper = await kept(outbox, clock)
    keeper.account.used_bytes = 2 * round(CAP_MB * MB)
    await keeper.look()
    await outbox.append([telemetry(clock.now())])
    await sent(outbox, keeper)
    without = await kept(outbox, clock, settings=UplinkSettings(mark_interval_s=0.01))
    await without.look()
    assert told(await sent(outbox, without)) == [
        ("telemetry_slowed", EventState.CLEARED),
        ("telemetry_withheld", EventState.CLEARED),
    ]
    assert (await outbox.state()).pending == 0


async def test_that_readings_wait_is_told_again_as_the_same_event(
    outbox: Outbox, clock: ClockDouble
) -> None:
    keeper = await kept(outbox, clock)
    keeper.account.used_bytes = 2 * round(CAP_MB * MB)
    await keeper.look()
    [_, first] = await sent(outbox, keeper)
    clock.advance(SIGN_OF_LIFE_S - 1)
    await keeper.look()
    assert await sent(outbox, keeper) == []
    clock.advance(1)
    await keeper.look()
    [again] = await sent(outbox, keeper)
    assert first.event is not None
    assert again.event is not None
    assert again.event.event_id == first.event.event_id
    assert again.ts > first.ts


async def test_bytes_and_stage_outlive_a_restart(outbox: Outbox, clock: ClockDouble) -> None:
    """Stored in the very commit that marks a message as sent."""
    keeper = await kept(outbox, clock)
    await keeper.look()
    spend(keeper, clock, CapStage.SLOWER)
    await outbox.append([telemetry(clock.now())])
    before = keeper.account.used_bytes
    await sent(outbox, keeper)
    again = await kept(outbox, clock)
    assert again.account.used_bytes == before
    await again.look()
    assert again.view.stage is CapStage.SLOWER
    third = await kept(outbox, clock)
    assert third.view.stage is CapStage.SLOWER


async def test_a_gateway_that_starts_again_in_a_harsh_stage_sends_nothing_before_it_has_looked(
    outbox: Outbox, clock: ClockDouble
) -> None:
    keeper = await kept(outbox, clock)
    keeper.account.used_bytes = 2 * round(CAP_MB * MB)
    await keeper.look()
    await sent(outbox, keeper)
    await outbox.append([telemetry(clock.now())])
    again = await kept(outbox, clock)
    assert await sent(outbox, again) == []


async def test_without_a_trusted_clock_no_month_turns(tmp_path: Path, clock: ClockDouble) -> None:
    """1970 has no month: what is spent counts to the one that was known, and the stage stays."""
    async with open_outbox(tmp_path / "gateway.db", OutboxLimits(), clock) as outbox:
        keeper = await kept(outbox, clock)
        spend(keeper, clock, CapStage.SLOWER)
        await keeper.look()
        spent = keeper.account.used_bytes
        clock.set(datetime.fromisoformat("1970-01-01T00:00:10+00:00"), synchronised=False)
        await outbox.append([])
        assert not outbox.clock_verdict.trusted
        await keeper.look()
        assert keeper.view.stage is CapStage.SLOWER
        assert keeper.account.used_bytes == spent


async def test_a_clock_that_goes_back_a_month_forgives_nothing(
    outbox: Outbox, clock: ClockDouble
) -> None:
    keeper = await kept(outbox, clock)
    await keeper.look()
    spend(keeper, clock, CapStage.SLOWER)
    spent = keeper.account.used_bytes
    clock.set(NOON - timedelta(days=20), synchronised=True)
    await outbox.append([])
    await keeper.look()
    assert keeper.account.used_bytes == spent


async def test_nothing_is_judged_before_the_meters_are_known(
    outbox: Outbox, clock: ClockDouble
) -> None:
    """A forecast of an empty line would ease what the next minute has to slow again."""
    shut = replace(PLAN, meters=[replace(each, infos=()) for each in PLAN.meters])
    keeper = await kept(outbox, clock, plan=lambda: shut)
    keeper.account.used_bytes = 2 * round(CAP_MB * MB)
    await keeper.look()
    assert keeper.passage == EVERYTHING
    clock.advance(START_S)
    await keeper.look()
    assert keeper.view.stage is CapStage.ESSENTIAL


async def test_the_fast_group_is_told_by_heartbeats_once_it_is_slowed(
    outbox: Outbox, clock: ClockDouble
) -> None:
    keeper = await kept(outbox, clock)
    await keeper.look()
    info = PLAN.meters[0].infos[0]
    assert not keeper.on_change().covers(info, PLAN.catalogue, accounted=True)
    spend(keeper, clock, CapStage.SLOWER)
    await keeper.look()
    assert keeper.on_change().covers(info, PLAN.catalogue, accounted=True)
    assert not keeper.on_change().covers(info, PLAN.catalogue, accounted=False)
    energy = PLAN.meters[0].infos[1]
    assert not keeper.on_change().covers(energy, PLAN.catalogue, accounted=True)
