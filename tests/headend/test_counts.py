"""What dashboards count, on both engines."""

from dataclasses import replace
from datetime import timedelta

from tests.headend.decisions import FEEDER, NOON, accepted
from tests.headend.test_gap_store import GAP
from tests.headend.test_ledger import a_command

from openami.headend.gap_life import GapState
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.counts import CommandCount, GapCount
from openami.profile.command import CommandState
from openami.sip.actions import Action


async def test_commands_are_counted_from_the_moment_asked_for(store: HeadEndStore) -> None:
    await store.request_command(
        a_command(requested_at=NOON, not_after=NOON + timedelta(hours=2)), NOON
    )
    counted = await store.command_counts(NOON)
    assert counted == [CommandCount(Action.DISCONNECT, CommandState.ISSUED, 1)]
    assert not await store.command_counts(NOON + timedelta(milliseconds=1))


async def test_gaps_are_counted_by_feeder_and_state(store: HeadEndStore) -> None:
    lost = replace(GAP, first=40, last=46, state=GapState.LOST, ended_at=NOON)
    closed = replace(GAP, first=60, last=66, state=GapState.CLOSED, asks=1, ended_at=NOON)
    await store.put_gaps([GAP, replace(GAP, first=20, last=20, missing=1), lost, closed])
    assert await store.gap_counts() == [
        GapCount(FEEDER, GapState.LOST, 1, 7),
        GapCount(FEEDER, GapState.OPEN, 2, 8),
    ]


async def test_a_write_is_tried_and_changes_nothing(store: HeadEndStore) -> None:
    await store.commit([accepted(seq=1)])
    before = await store.totals()
    await store.prove_writable()
    assert await store.totals() == before
