"""The head-end asks for what is missing by itself: with bounds, through the ledger, until it is closed or lost.

The store is the real one, on both engines; the gateway's side is what the test commits and answers.
"""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count

import pytest
from structlog.testing import capture_logs
from tests.gateway.clock_double import ClockDouble
from tests.headend.decisions import FEEDER, GATEWAY, METER, NOON, accepted

from openami.headend.commands import Change, LedgerCommand
from openami.headend.gap_life import (
    GRACE_S,
    WINDOW_MARGIN_S,
    Gap,
    GapReason,
    GapState,
)
from openami.headend.ingest import Decision
from openami.headend.resending import INTERVAL_LOOK_S, Resending
from openami.headend.sessions import HEAD_END
from openami.headend.store import StoreError
from openami.headend.store.commands import HeadEndStore
from openami.profile.command import CommandState
from openami.sip.actions import Action

SECOND, MINUTE, HOUR, DAY = (
    timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days")
)


class World:
    """A store, a clock, and a gateway that sends what the test says."""

    def __init__(self, store: HeadEndStore, *, can_command: bool = True) -> None:
        self.store = store
        self.clock = ClockDouble(NOON)
        self._numbers = count(1)
        self.resending = self.started(can_command=can_command)

    def started(self, *, can_command: bool = True) -> Resending:
        """Return what asks, as after a start of the head-end."""
        return Resending(
            self.store,
            clock=self.clock,
            new_id=lambda prefix: f"{prefix}-{next(self._numbers)}",
            can_command=can_command,
        )

    async def receive(self, *seqs: int, meter: str = METER) -> None:
        """Let numbers come, each measured at its second from noon."""
        batch: list[Decision] = [
            accepted(
                seq=seq,
                ts=NOON - HOUR + seq * SECOND,
                meter=meter,
                received_at=self.clock.now(),
            )
            for seq in seqs
        ]
        await self.store.commit(batch)

    async def passes(self, time: timedelta, *, alive: bool = True) -> None:
        """Let time pass in steps; a gateway that lives is heard, of readings without a number."""
        end = self.clock.now() + time
        while self.clock.now() < end:
            step = min(max(MINUTE, time / 24), end - self.clock.now())
            self.clock.advance(step.total_seconds())
            if alive:
                now = self.clock.now()
                await self.store.commit([accepted(ts=now, received_at=now)])
            await self.resending.look()

    async def gap(self) -> Gap:
        [gap] = await self.store.gaps()
        return gap

    async def asked(self) -> list[LedgerCommand]:
        """Return what was asked for, the oldest first."""
        return sorted(await self.store.commands(), key=lambda command: command.requested_at)

    async def answer(self, state: CommandState, code: str = "OK") -> None:
        """End the open command as its gateway's report would."""
        [command] = await self.store.commands(only_open=True)
        now = self.clock.now()
        await self.store.change_command(
            command.id,
            lambda found, _: Change(
                replace(found, state=state, code=code, ended_at=now, due_at=None)
            ),
            now,
        )
        await self.resending.look()


@pytest.fixture
def world(store: HeadEndStore) -> World:
    return World(store)


GRACE = timedelta(seconds=GRACE_S)


async def test_a_gap_is_asked_for_by_the_head_end_for_the_time_around_it(world: World) -> None:
    await world.receive(*range(1, 11), *range(21, 31))
    await world.resending.look()
    await world.passes(GRACE - SECOND)
    assert await world.asked() == []
    assert (await world.gap()).reason is GapReason.IN_TRANSIT
    await world.passes(SECOND)
    [command] = await world.asked()
    assert (command.action, command.requested_by) == (Action.RESEND, HEAD_END)
    assert (command.gateway_id, command.meter_serial) == (GATEWAY, METER)
    margin = timedelta(seconds=WINDOW_MARGIN_S)
    begins = datetime.fromisoformat(command.args["from"])
    ends = datetime.fromisoformat(command.args["to"])
    assert begins == NOON - HOUR + 10 * SECOND - margin
    assert ends == NOON - HOUR + 21 * SECOND + margin
    gap = await world.gap()
    assert (gap.state, gap.command_id) == (GapState.ASKED, command.id)


async def test_what_is_sent_again_closes_it_and_nothing_more_is_asked(world: World) -> None:
    await world.receive(1, 2, 9, 10)
    await world.resending.look()
    await world.passes(GRACE)
    await world.answer(CommandState.CONFIRMED)
    assert (await world.gap()).reason is GapReason.IN_RESEND
    await world.receive(*range(3, 9))
    await world.passes(DAY)
    gap = await world.gap()
    assert (gap.state, gap.missing, gap.asks) == (GapState.CLOSED, 0, 1)
    assert len(await world.asked()) == 1


async def test_a_backlog_that_drains_is_never_asked_for_and_leaves_no_trace(world: World) -> None:
    await world.receive(1, 1000)
    await world.resending.look()
    for begin in range(999, 1, -100):
        await world.receive(*range(begin, max(1, begin - 100), -1))
        await world.passes(MINUTE)
    assert await world.asked() == []
    assert await world.store.gaps() == []


async def test_one_gap_of_a_gateway_at_a_time_the_oldest_first(world: World) -> None:
    await world.receive(1, 5, 9)
    await world.resending.look()
    await world.passes(GRACE)
    assert [(gap.first, gap.state) for gap in await world.store.gaps()] == [
        (2, GapState.ASKED),
        (6, GapState.OPEN),
    ]
    await world.answer(CommandState.CONFIRMED)
    await world.receive(2, 3, 4)
    await world.passes(GRACE + MINUTE)
    assert [(gap.first, gap.state) for gap in await world.store.gaps()] == [
        (2, GapState.CLOSED),
        (6, GapState.ASKED),
    ]


async def test_what_two_answers_did_not_bring_is_lost(world: World) -> None:
    await world.receive(1, 5)
    await world.resending.look()
    await world.passes(GRACE)
    await world.answer(CommandState.CONFIRMED)
    await world.passes(2 * HOUR - MINUTE)
    assert len(await world.asked()) == 1
    await world.passes(2 * MINUTE)
    assert len(await world.asked()) == 2
    await world.answer(CommandState.CONFIRMED)
    await world.passes(GRACE)
    gap = await world.gap()
    assert (gap.state, gap.reason) == (GapState.LOST, GapReason.ANSWERED_WITHOUT)
    await world.passes(DAY)
    assert len(await world.asked()) == 2


async def test_without_keys_it_is_said_and_nothing_is_asked(store: HeadEndStore) -> None:
    world = World(store, can_command=False)
    await world.receive(1, 5)
    await world.resending.look()
    await world.passes(HOUR)
    assert await world.asked() == []
    gap = await world.gap()
    assert (gap.state, gap.reason) == (GapState.OPEN, GapReason.NO_KEYS)


async def test_a_gateway_without_a_keyring_is_no_storm_of_requests(world: World) -> None:
    await world.receive(1, 5)
    await world.resending.look()
    for _ in range(12):
        await world.passes(HOUR)
        with suppress(ValueError):  # nothing is open
            await world.answer(CommandState.REFUSED, "NO_KEYRING")
    assert 1 <= len(await world.asked()) <= 5, "the fifth after some seven hours"
    assert (await world.gap()).reason is GapReason.NO_KEYS


async def test_a_silent_gateway_is_asked_when_it_is_back(world: World) -> None:
    await world.receive(1, 5)
    await world.passes(MINUTE, alive=False)
    world.clock.advance(HOUR.total_seconds())
    await world.resending.look()
    assert (await world.gap()).reason is GapReason.GATEWAY_SILENT
    assert await world.asked() == []
    await world.passes(MINUTE)
    assert len(await world.asked()) == 1


async def test_an_ask_that_ends_with_the_head_end_is_one_nobody_answered(world: World) -> None:
    """Killed between writing the gap and entering the command: the pause holds, and it is asked again."""
    await world.receive(1, 5)
    await world.resending.look()
    gap = await world.gap()
    ask_at = world.clock.now() + 10 * MINUTE
    asked = replace(gap, state=GapState.ASKED, command_id="cmd-never", asks=1, ask_at=ask_at)
    await world.store.put_gaps([asked])
    world.resending = world.started()
    await world.passes(10 * MINUTE - SECOND)
    assert (await world.gap()).reason is GapReason.NO_ANSWER
    assert await world.asked() == []
    await world.passes(SECOND)
    assert len(await world.asked()) == 1


async def test_after_a_restart_the_gaps_go_on_where_they_were(world: World) -> None:
    await world.receive(1, 5)
    await world.resending.look()
    await world.passes(GRACE)
    world.resending = world.started()
    await world.passes(MINUTE)
    assert len(await world.asked()) == 1
    await world.answer(CommandState.CONFIRMED)
    assert (await world.gap()).answers == 1


async def test_a_replaced_cards_gap_is_lost_unasked(world: World) -> None:
    await world.receive(1, 2, 50, 51)
    await world.resending.look()
    await world.passes(30 * MINUTE, alive=False)
    now = world.clock.now()
    await world.store.commit([accepted(seq=1, ts=now, received_at=now)])
    # Asked for while nobody could know; from here on it is the old card's.
    before = len(await world.asked())
    await world.passes(HOUR + MINUTE)
    gap = await world.gap()
    assert (gap.state, gap.reason) == (GapState.LOST, GapReason.CARD_REPLACED)
    assert len(await world.asked()) == before


# --- gateways without numbers --------------------------------------------------------------------


def quarters(begin: int, end: int) -> Iterator[datetime]:
    return (NOON + n * 15 * MINUTE for n in range(begin, end))


async def test_a_gateway_without_numbers_is_asked_by_its_interval(world: World) -> None:
    """Two hours of a morning are missing, and its gateway lives."""
    await world.store.commit([accepted(ts=ts) for ts in (*quarters(-40, -16), *quarters(-8, 0))])
    await world.resending.look()
    gap = await world.gap()
    assert (gap.epoch, gap.missing, gap.state) == (0, 8, GapState.OPEN)
    await world.resending.look()
    world.clock.advance(GRACE_S)
    await world.resending.look()
    [command] = await world.asked()
    begins = datetime.fromisoformat(command.args["from"])
    assert begins < NOON - 4 * HOUR < datetime.fromisoformat(command.args["to"])
    await world.answer(CommandState.CONFIRMED)
    await world.store.commit([accepted(ts=ts) for ts in quarters(-16, -8)])
    world.clock.advance(INTERVAL_LOOK_S)
    await world.resending.look()
    gap = await world.gap()
    assert (gap.state, gap.asks) == (GapState.CLOSED, 1)


async def test_a_gateway_with_numbers_is_not_asked_for_what_it_never_sent(world: World) -> None:
    times = [*quarters(-40, -16), *quarters(-8, 0)]
    await world.store.commit([accepted(seq=n, ts=ts) for n, ts in enumerate(times, 1)])
    await world.passes(HOUR)
    assert await world.store.gaps() == []
    assert await world.asked() == []


async def test_what_ended_long_ago_is_forgotten(world: World) -> None:
    await world.receive(1, 5)
    await world.resending.look()
    gap = replace(await world.gap(), state=GapState.LOST, ended_at=NOON - 100 * DAY)
    await world.store.put_gaps([gap])
    await world.resending.prune()
    assert await world.store.gaps(feeder_id=FEEDER) == []


# --- a store that is away ------------------------------------------------------------------------


async def test_a_store_that_is_away_is_said_once_and_again_when_it_goes_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A night's outage is one line, not one every two seconds."""
    looks, away = 0, True
    look = world.resending.look

    async def looked() -> None:
        nonlocal looks
        looks += 1
        if away:
            raise StoreError("the database does not answer")
        await look()

    async def more(times: int) -> None:
        wanted = looks + times
        async with asyncio.timeout(10):
            while looks < wanted:
                await asyncio.sleep(0.001)

    monkeypatch.setattr(world.resending, "look", looked)
    monkeypatch.setattr(world.resending, "_look_interval_s", 0.001)
    with capture_logs() as said:
        running = asyncio.create_task(world.resending.run())
        await more(5)
        away = False
        await more(3)
        away = True
        await more(5)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert [line["event"] for line in said] == ["gaps were not looked for"] * 2
