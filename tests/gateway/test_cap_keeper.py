"""The monthly cap at work: what goes, what waits, what is told, and what a restart remembers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
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
QUIET_S = 0.3
MB = 1_000_000
CAP_MB = 60.0
NOON = datetime.fromisoformat("2026-07-01T12:00:00+00:00")
MONTH_END = datetime.fromisoformat("2026-08-01T00:00:00+00:00")
PLAN = plan(meter("M-1"), meter("M-2"))
SETTINGS = UplinkSettings(
    backfill_per_s=0, mark_interval_s=0.01, cap_mb_a_month=CAP_MB, cap_from_day=1
)
SLOWED = ("telemetry_slowed", EventState.RAISED)
FAST_AGAIN = ("telemetry_slowed", EventState.CLEARED)
WITHHELD = ("telemetry_withheld", EventState.RAISED)
LET_GO = ("telemetry_withheld", EventState.CLEARED)


@pytest.fixture
async def capped(tmp_path: Path) -> AsyncIterator["Capped"]:
    clock = ClockDouble(NOON)
    async with open_outbox(tmp_path / "gateway.db", OutboxLimits(), clock) as outbox:
        yield Capped(outbox, clock)


@dataclass
class Capped:
    """A gateway with a monthly cap: its outbox, its clock, and the keepers of its starts."""

    outbox: Outbox
    clock: ClockDouble

    async def keeper(
        self,
        spent: CapStage | None = None,
        *,
        plan: Callable[[], Plan] = lambda: PLAN,
        settings: UplinkSettings = SETTINGS,
    ) -> CapKeeper:
        """Return one as a start makes it, with what the last one stored; or with so much spent, and looked at."""
        keeper = CapKeeper(
            self.outbox,
            settings,
            LinkAccount(Assumptions(), protocol="5", keepalive_s=60),
            plan=plan,
            reports={},
            source=Source(FEEDER, GATEWAY),
            clock=self.clock,
            metrics=GatewayMetrics(),
            standing=await self.outbox.database.run(cap_table.read),
        )
        if spent is not None:
            self.spend(keeper, spent)
            await keeper.look()
        return keeper

    def spend(self, keeper: CapKeeper, stage: CapStage) -> None:
        """Use so much that this stage is the mildest that still fits; for the last, more than there is."""
        if stage is CapStage.ESSENTIAL:
            keeper.account.used_bytes = 2 * round(CAP_MB * MB)
            return
        left_days = (MONTH_END - self.clock.now()) / timedelta(days=1)
        reserved = bytes_per_day(PLAN)[stage] * left_days + 1_000
        keeper.account.used_bytes = round(CAP_MB * MB * 0.9 - reserved)

    async def pending(self) -> int:
        return (await self.outbox.state()).pending

    async def sent(self, keeper: CapKeeper) -> Sequence[Envelope]:
        """Return what the uplink sends now, in the order of its numbers, until it sends no more."""
        broker = MemoryBroker()
        async with (
            broker.port("hes").connect() as head_end,
            broker.port("gateway").connect() as connection,
        ):
            await head_end.subscribe(["openami/#"])
            task = asyncio.create_task(
                uplink.run(
                    self.outbox,
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

    async def told(self, keeper: CapKeeper) -> list[tuple[str, str]]:
        """Return what it tells when it has looked."""
        await keeper.look()
        return events(await self.sent(keeper))


async def until_quiet(connection: Connection) -> list[Envelope]:
    heard: list[Envelope] = []
    with suppress(TimeoutError):
        while True:
            async with asyncio.timeout(QUIET_S):
                deliveries = await connection.receive(100)
            connection.acknowledge(deliveries)
            heard += [decode_envelope(each.payload) for each in deliveries]
    return heard


def events(envelopes: Sequence[Envelope]) -> list[tuple[str, str]]:
    return [(e.event.type, e.event.state) for e in envelopes if e.event]


async def test_within_its_cap_everything_goes(capped: Capped) -> None:
    keeper = await capped.keeper()
    await keeper.look()
    assert keeper.passage == EVERYTHING
    await capped.outbox.append([telemetry(NOON), event(NOON)])
    assert len(await capped.sent(keeper)) == 2


async def test_the_first_of_each_hour_goes_and_the_others_wait(capped: Capped) -> None:
    keeper = await capped.keeper(CapStage.HOURLY)
    assert keeper.view.stage is CapStage.HOURLY
    assert events(await capped.sent(keeper)) == [SLOWED, WITHHELD]
    for quarter in range(6):
        moment = capped.clock.now() + timedelta(milliseconds=250)
        await capped.outbox.append([telemetry(moment, meter=n) for n in (1, 2)])
        await capped.outbox.append([event(moment)])
        await keeper.look()
        went = await capped.sent(keeper)
        assert events(went) == [("power_fail", EventState.RAISED)], "events always"
        assert sum(e.event is None for e in went) == (2 if quarter in (0, 4) else 0)
        capped.clock.advance(900)
    assert await capped.pending() == 8, "and nothing is lost"


async def test_a_late_poll_of_the_hour_passes_when_it_comes(capped: Capped) -> None:
    """A slow line reads its last meter minutes after the hour."""
    keeper = await capped.keeper(CapStage.HOURLY)
    await capped.sent(keeper)
    await capped.outbox.append([telemetry(capped.clock.now(), meter=1)])
    await keeper.look()
    assert len(await capped.sent(keeper)) == 1
    capped.clock.advance(240)
    now = capped.clock.now()
    await capped.outbox.append([telemetry(now, meter=1), telemetry(now, meter=2)])
    await capped.outbox.append([telemetry(now, meter=1, group=PollGroup.DAILY)])
    await keeper.look()
    first, second = await capped.sent(keeper)
    assert (first.seq, second.seq) == (5, 6), "of the other meter, and of the other group"


async def test_in_the_last_stage_only_events_go(capped: Capped) -> None:
    now = capped.clock.now()
    await capped.outbox.append([telemetry(now), event(now)])
    keeper = await capped.keeper(CapStage.ESSENTIAL)
    assert keeper.view.stage is CapStage.ESSENTIAL
    assert keeper.readings_wait()
    went = await capped.sent(keeper)
    assert [each.event is not None for each in went] == [True, True, True]
    assert await capped.pending() == 1


async def test_what_waited_goes_when_the_month_turns_and_is_told_over(capped: Capped) -> None:
    keeper = await capped.keeper(CapStage.ESSENTIAL)
    await capped.outbox.append([telemetry(capped.clock.now())])
    await capped.sent(keeper)
    capped.clock.advance(31 * 86_400)
    await capped.outbox.append([])  # the outbox looks at the clock
    await keeper.look()
    assert (keeper.view.stage, keeper.view.used_bytes) == (CapStage.FULL, 0)
    went = await capped.sent(keeper)
    # Two hours are over: that readings wait is the same event again.
    assert events(went) == [FAST_AGAIN, WITHHELD]
    assert sum(each.event is None for each in went) == 1
    assert keeper.view.waits, "until none does"
    assert await capped.told(keeper) == [LET_GO]


async def test_what_an_outage_left_waits_where_there_is_room_for_the_live_only(
    capped: Capped,
) -> None:
    """Nothing is withheld of what is read now, and that the rest waits is told all the same."""
    keeper = await capped.keeper()
    capped.spend(keeper, CapStage.SLOWER)
    await capped.outbox.append([telemetry(capped.clock.now())])
    capped.clock.advance(900)
    await keeper.look()
    assert keeper.view.stage is CapStage.SLOWER
    assert not keeper.readings_wait()
    assert events(await capped.sent(keeper)) == [SLOWED, WITHHELD]
    assert await capped.pending() == 1
    keeper.account.used_bytes -= 2 * MB  # as when the days that came sent less than was foretold
    await keeper.look()
    assert [each.seq for each in await capped.sent(keeper)] == [1]
    assert await capped.told(keeper) == [LET_GO]


async def test_a_cap_that_was_taken_away_lets_everything_go_and_is_told_over(
    capped: Capped,
) -> None:
    """Or its alarm would stand at the head-end for ever."""
    keeper = await capped.keeper(CapStage.ESSENTIAL)
    await capped.outbox.append([telemetry(capped.clock.now())])
    await capped.sent(keeper)
    without = await capped.keeper(settings=UplinkSettings(mark_interval_s=0.01))
    assert await capped.told(without) == [FAST_AGAIN, LET_GO]
    assert await capped.pending() == 0


async def test_that_readings_wait_is_told_again_as_the_same_event(capped: Capped) -> None:
    keeper = await capped.keeper(CapStage.ESSENTIAL)
    [_, first] = await capped.sent(keeper)
    capped.clock.advance(SIGN_OF_LIFE_S - 1)
    await keeper.look()
    assert await capped.sent(keeper) == []
    capped.clock.advance(1)
    await keeper.look()
    [again] = await capped.sent(keeper)
    assert first.event is not None
    assert again.event is not None
    assert again.event.event_id == first.event.event_id
    assert again.ts > first.ts


async def test_bytes_and_stage_outlive_a_restart(capped: Capped) -> None:
    """Stored in the very commit that marks a message as sent."""
    keeper = await capped.keeper()
    await keeper.look()
    capped.spend(keeper, CapStage.SLOWER)
    await capped.outbox.append([telemetry(capped.clock.now())])
    before = keeper.account.used_bytes
    await capped.sent(keeper)
    again = await capped.keeper()
    assert again.account.used_bytes == before
    await again.look()
    assert again.view.stage is CapStage.SLOWER
    third = await capped.keeper()
    assert third.view.stage is CapStage.SLOWER


async def test_a_gateway_that_starts_again_in_a_harsh_stage_sends_nothing_before_it_has_looked(
    capped: Capped,
) -> None:
    await capped.sent(await capped.keeper(CapStage.ESSENTIAL))
    await capped.outbox.append([telemetry(capped.clock.now())])
    assert await capped.sent(await capped.keeper()) == []


async def test_without_a_trusted_clock_no_month_turns(capped: Capped) -> None:
    """1970 has no month: what is spent counts to the one that was known, and the stage stays."""
    keeper = await capped.keeper(CapStage.SLOWER)
    spent = keeper.account.used_bytes
    capped.clock.set(datetime.fromisoformat("1970-01-01T00:00:10+00:00"), synchronised=False)
    await capped.outbox.append([])
    assert not capped.outbox.clock_verdict.trusted
    await keeper.look()
    assert keeper.view.stage is CapStage.SLOWER
    assert keeper.account.used_bytes == spent


async def test_a_clock_that_goes_back_a_month_forgives_nothing(capped: Capped) -> None:
    keeper = await capped.keeper()
    await keeper.look()
    capped.spend(keeper, CapStage.SLOWER)
    spent = keeper.account.used_bytes
    capped.clock.set(NOON - timedelta(days=20), synchronised=True)
    await capped.outbox.append([])
    await keeper.look()
    assert keeper.account.used_bytes == spent


async def test_nothing_is_judged_before_the_meters_are_known(capped: Capped) -> None:
    """A forecast of an empty line would ease what the next minute has to slow again."""
    shut = replace(PLAN, meters=[replace(each, infos=()) for each in PLAN.meters])
    keeper = await capped.keeper(CapStage.ESSENTIAL, plan=lambda: shut)
    assert keeper.passage == EVERYTHING
    capped.clock.advance(START_S)
    await keeper.look()
    assert keeper.view.stage is CapStage.ESSENTIAL


async def test_the_fast_group_is_told_by_heartbeats_once_it_is_slowed(capped: Capped) -> None:
    keeper = await capped.keeper()
    await keeper.look()
    info, energy = PLAN.meters[0].infos[:2]
    assert not keeper.on_change().covers(info, PLAN.catalogue, accounted=True)
    capped.spend(keeper, CapStage.SLOWER)
    await keeper.look()
    assert keeper.on_change().covers(info, PLAN.catalogue, accounted=True)
    assert not keeper.on_change().covers(info, PLAN.catalogue, accounted=False)
    assert not keeper.on_change().covers(energy, PLAN.catalogue, accounted=True)
