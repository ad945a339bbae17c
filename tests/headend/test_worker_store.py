"""What workers tell one another, on both engines; and that nobody writes for a slice he has lost."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest
from tests.headend.decisions import NOON, accepted

from openami.headend.ingest import Accepted, Kind
from openami.headend.slices import REST
from openami.headend.store import Access, LeaseLost, StoreError, postgres, postgres_steps
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.open import open_store
from openami.headend.store.steps import Insert
from openami.headend.store.tables import EVENT
from openami.headend.store.workers import SliceFeeder
from openami.headend.worker_life import Fence, Slice, Worker
from openami.profile import Event, EventSource, EventState, Severity

T = TypeVar("T")
LATER = NOON + timedelta(seconds=1)


def worker(name: str, started_at: datetime = NOON) -> Worker:
    return Worker(f"worker-{name}", name, 0, started_at, started_at)


A, B = worker("a"), worker("b", LATER)


async def claimed(store: HeadEndStore, number: int, who: Worker) -> Fence:
    """Claim a slice; return what proves it."""
    slices = {each.number: each for each in (await store.roster()).slices}
    term = await store.claim(slices[number], who.id, NOON)
    assert term is not None
    return Fence(number, who.id, term)


# --- on both engines -----------------------------------------------------------------------------


async def test_a_store_nobody_shares_has_no_slices(store: HeadEndStore) -> None:
    assert await store.roster() == await store.beat("nobody", NOON)
    assert not (await store.roster()).slices


async def test_the_first_makes_the_slices_and_another_number_is_refused(
    store: HeadEndStore,
) -> None:
    await store.join_workers(A, 2)
    await store.join_workers(B, 2)
    found = await store.roster()
    assert found.workers == [A, B]
    assert found.slices == [Slice(number, None, 0, NOON) for number in range(3)]
    with pytest.raises(StoreError, match="shared in 2 slices, and 3 are asked for") as refused:
        await store.join_workers(worker("c"), 3)
    assert refused.value.permanent
    assert (await store.roster()).workers == [A, B]


async def test_a_slice_is_given_to_one_of_two_and_each_holder_has_a_term_of_his_own(
    store: HeadEndStore,
) -> None:
    await store.join_workers(A, 1)
    await store.join_workers(B, 1)
    free = (await store.roster()).slices[1]
    terms = [await store.claim(free, each.id, LATER) for each in (A, B)]
    assert terms == [1, None]
    held = (await store.roster()).slices[1]
    assert held == Slice(1, A.id, 1, LATER)
    assert await store.claim(held, B.id, LATER) is None

    await store.release(1, B.id, LATER)
    assert (await store.roster()).slices[1] == held, "it is not his"
    await store.release(1, A.id, LATER)
    assert await store.claim((await store.roster()).slices[1], B.id, LATER) == 2


async def test_who_shows_himself_is_not_buried_and_who_is_buried_claims_nothing(
    store: HeadEndStore,
) -> None:
    await store.join_workers(A, 1)
    await store.join_workers(B, 1)
    await claimed(store, 1, A)
    found = await store.beat(A.id, LATER)
    assert (found.workers[0].beat, found.workers[0].beat_at) == (1, LATER)
    assert not await store.bury(A, LATER), "he was seen since"
    assert (await store.roster()).held_by(A.id)

    assert await store.bury(found.workers[0], LATER)
    after = await store.beat(A.id, LATER)
    assert not after.has(A.id)
    assert [each.holder for each in after.slices] == [None, None]
    assert await store.claim(after.slices[0], A.id, LATER) is None


async def test_who_leaves_lets_everything_go(store: HeadEndStore) -> None:
    await store.join_workers(A, 1)
    for number in (0, 1):
        await claimed(store, number, A)
    await store.leave_workers(A.id, LATER)
    found = await store.roster()
    assert not found.workers
    assert [(each.holder, each.term) for each in found.slices] == [(None, 1), (None, 1)]
    await store.end_sharing()
    assert not (await store.roster()).slices


async def test_a_feeder_is_handed_over_only_as_it_was_subscribed_to(store: HeadEndStore) -> None:
    await store.commit([accepted(feeder="f-1"), accepted(feeder="f-2")])
    assert await store.known_feeders() == ["f-1", "f-2"]
    await store.put_subscribed(1, ["f-1", "f-2"], NOON)
    rows = await store.slice_feeders()
    assert rows == [SliceFeeder("f-1", 1, NOON), SliceFeeder("f-2", 1, NOON)]
    await store.put_subscribed(1, ["f-2"], LATER)  # the broker had forgotten the session meanwhile
    await store.put_handed(rows, LATER)
    assert await store.slice_feeders() == [
        SliceFeeder("f-1", 1, NOON, LATER),
        SliceFeeder("f-2", 1, LATER),
    ]
    await store.put_subscribed(1, ["f-1"], LATER)
    assert (await store.slice_feeders())[0].handed_at is None


# --- the fence -----------------------------------------------------------------------------------


@asynccontextmanager
async def written_for(url: str, fence: Fence) -> AsyncIterator[HeadEndStore]:
    async with open_store(url, Access.EDIT, fence=fence) as store:
        yield store


@pytest.mark.postgres
async def test_who_has_lost_a_slice_writes_nothing_for_it(empty_database: str) -> None:
    async with open_store(empty_database) as registry:
        await registry.join_workers(A, 1)
        await registry.join_workers(B, 1)
        fence = await claimed(registry, 1, A)
        async with written_for(empty_database, fence) as store:
            await store.commit([accepted(meter="M-1")])
            await registry.bury(A, LATER)
            with pytest.raises(LeaseLost, match="slice 1 is not held in term 1"):
                await store.commit([accepted(meter="M-2")])
            anew = await claimed(registry, 1, B)
            for write in (store.prove_writable, lambda: store.wake(NOON), store.end_sharing):
                with pytest.raises(LeaseLost):
                    await write()
            async with written_for(empty_database, anew) as theirs:
                await theirs.commit([accepted(meter="M-3")])
        assert [meter.meter_serial for meter in await registry.meters()] == ["M-1", "M-3"]


@pytest.mark.postgres
async def test_a_slice_is_not_taken_in_the_middle_of_its_holders_transaction(
    empty_database: str,
) -> None:
    """Else what was judged by the old holder would be committed after the new one had looked."""
    async with open_store(empty_database) as registry:
        await registry.join_workers(A, 1)
        fence = await claimed(registry, REST, A)
        async with written_for(empty_database, fence) as store:
            began, on = asyncio.Event(), asyncio.Event()
            order: list[str] = []

            async def bury() -> None:
                await began.wait()
                await registry.bury(A, LATER)
                order.append("buried")

            burying = asyncio.create_task(bury())
            committing = asyncio.create_task(
                _held_up(lambda: store.commit([accepted()]), began, on)
            )
            await began.wait()
            await asyncio.sleep(0.1)
            assert not burying.done()
            on.set()
            await committing
            order.append("committed")
            await burying
        assert order == ["committed", "buried"]


async def _held_up(
    write: Callable[[], Coroutine[Any, Any, T]], began: asyncio.Event, on: asyncio.Event
) -> T:
    """Write with a pause within the transaction."""
    real = postgres_steps.carried_out

    async def slowly(connection: Any, steps: Any) -> Any:
        done = await real(connection, steps)
        began.set()
        await on.wait()
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres, "carried_out", slowly)
        writing = asyncio.create_task(write())
        await began.wait()
    return await writing


@pytest.mark.postgres
async def test_a_slice_that_is_claimed_while_its_claimer_is_buried_is_free_again(
    empty_database: str,
) -> None:
    """Else it would be held for ever by somebody nobody knows."""
    async with open_store(empty_database) as one, open_store(empty_database) as other:
        await one.join_workers(A, 1)
        free = (await one.roster()).slices[1]
        began, on = asyncio.Event(), asyncio.Event()
        claiming = asyncio.create_task(_held_up(lambda: one.claim(free, A.id, NOON), began, on))
        await began.wait()
        burying = asyncio.create_task(other.bury(A, LATER))
        await asyncio.sleep(0.1)
        on.set()
        assert await claiming == 1
        assert await burying
        found = await one.roster()
    assert not found.workers
    assert found.slices[1] == Slice(1, None, 1, LATER)


@pytest.mark.postgres
async def test_who_is_stopped_within_a_transaction_does_not_keep_the_others_waiting(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends it; whoever wakes is told that, may try again, and finds that the slice is gone."""
    monkeypatch.setattr(postgres, "_WRITES", {"idle_in_transaction_session_timeout": "200ms"})
    async with open_store(empty_database) as registry:
        await registry.join_workers(A, 1)
        fence = await claimed(registry, REST, A)
        async with written_for(empty_database, fence) as store:
            began, never = asyncio.Event(), asyncio.Event()
            stopped = asyncio.create_task(
                _held_up(lambda: store.commit([accepted()]), began, never)
            )
            await began.wait()
            assert await registry.bury(A, LATER)
            never.set()
            with pytest.raises(StoreError) as told:
                await stopped
            assert not told.value.permanent
            with pytest.raises(LeaseLost):
                await store.commit([accepted()])
        assert not await registry.meters()


def told(event_id: str) -> Accepted:
    event = Event(
        event_id=event_id,
        type="tamper.cover_open",
        state=EventState.RAISED,
        severity=Severity.MAJOR,
        occurred_at="2026-06-22T11:59:00Z",
        source=EventSource.METER,
    )
    return accepted(feeder=f"f-{event_id}", kind=Kind.EVENT, event=event)


@pytest.mark.postgres
async def test_an_event_that_is_committed_late_is_not_passed_over_by_who_looks_for_alarms(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number is lower than that of one committed before it, unless writers with events take turns."""
    began, on = asyncio.Event(), asyncio.Event()
    real = postgres_steps._done

    async def slowly_after_events(connection: Any, step: Any) -> Any:
        done = await real(connection, step)
        if isinstance(step, Insert) and step.table is EVENT and not began.is_set():
            began.set()
            await on.wait()
        return done

    async with open_store(empty_database) as one, open_store(empty_database) as other:
        await one.commit([accepted()])  # a new unit is waited for, too
        monkeypatch.setattr(postgres_steps, "_done", slowly_after_events)
        first = asyncio.create_task(one.commit([told("e-1")]))
        await began.wait()
        second = asyncio.create_task(other.commit([told("e-2")]))
        await asyncio.wait([second], timeout=0.3)
        looked = await other.new_events()
        if looked.events:
            await other.put_alarms((), looked_to=looked.looked_to)
        on.set()
        await asyncio.gather(first, second)
        seen = [*looked.events, *(await other.new_events()).events]
    assert [event.event_id for event in seen] == ["e-1", "e-2"]


@pytest.mark.postgres
async def test_folding_beside_commits_of_the_same_days_never_crosses_them(
    empty_database: str,
) -> None:
    """Of several workers one folds and others commit: all take many days at once, in one order."""
    days = [NOON + timedelta(days=day) for day in range(3)]

    async def commits(feeder: str) -> None:
        chance = random.Random(feeder)
        of_all = [(f"M-{number}", day) for number in range(20) for day in days]
        async with open_store(empty_database, Access.EDIT) as store:
            for minute in range(20):
                some = chance.sample(of_all, 30)
                await store.commit(
                    [
                        accepted(feeder=feeder, meter=m, ts=day + timedelta(minutes=minute))
                        for m, day in some
                    ]
                )

    async with open_store(empty_database) as store:
        committing = asyncio.gather(*(commits(f"f-{number}") for number in range(3)))
        while not committing.done():
            await store.fold_energy(64)
        await committing
