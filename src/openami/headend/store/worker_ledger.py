"""What the WorkerStore does; the engine carries the steps out."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final, cast

from openami.headend.slices import REST
from openami.headend.store import LeaseLost, StoreError
from openami.headend.store.chain import in_turn
from openami.headend.store.engine import Engine
from openami.headend.store.identity import from_ms, to_ms
from openami.headend.store.ledger_rows import TIME, Rows
from openami.headend.store.steps import Steps, ask, do
from openami.headend.store.workers import SliceFeeder
from openami.headend.worker_life import Fence, Roster, Slice, Worker

_WORKERS: Final = Rows("worker", Worker, {"started_at": TIME, "beat_at": TIME})
_SLICES: Final = Rows("slice", Slice, {"since": TIME})
# Locked until the transaction ends: nobody takes the slice between this and the commit. PostgreSQL's words; the
# other engine has nobody to fence out.
_HELD: Final = "SELECT 1 FROM slice WHERE number = ?1 AND holder = ?2 AND term = ?3 FOR SHARE"
_SLICE_FEEDERS: Final = (
    "SELECT feeder_id, slice, subscribed_at, handed_at FROM slice_feeder ORDER BY feeder_id"
)


def held(fence: Fence) -> Steps[None]:
    """Begin a transaction of a slice's holder. Raises LeaseLost if it is that no more; then nothing is done."""
    if not (yield from ask(_HELD, fence.number, fence.holder, fence.term)):
        raise LeaseLost(fence.number, fence.term)


def join(worker: Worker, slices: int) -> Steps[None]:
    """Enter a worker, and make the slices if there are none."""
    yield from in_turn()  # the first two would make different slices
    numbers = [cast(int, row[0]) for row in (yield from ask("SELECT number FROM slice"))]
    if numbers and len(numbers) != slices + 1:
        there = len(numbers) - 1
        raise StoreError(
            f"the feeders of this store are shared in {there} slices, and {slices} are asked for",
            remedy=f"write slices = {there} in [workers]: what waits at the broker waits under their names",
            permanent=True,
        )
    for number in range(REST, slices + 1):
        yield from do(
            "INSERT INTO slice (number, term, since) VALUES (?1, 0, ?2) ON CONFLICT DO NOTHING",
            *(number, to_ms(worker.started_at)),
        )
    yield from do(_WORKERS.insert(), *_WORKERS.cells(worker))


def beat(worker_id: str, now: datetime) -> Steps[Roster]:
    """Let a worker show itself, and look around."""
    yield from do(
        "UPDATE worker SET beat = beat + 1, beat_at = ?1 WHERE id = ?2", to_ms(now), worker_id
    )
    workers = yield from ask(_WORKERS.select("ORDER BY started_at, id"))
    slices = yield from ask(_SLICES.select("ORDER BY number"))
    return Roster([_WORKERS.read(row) for row in workers], [_SLICES.read(row) for row in slices])


def bury(worker: Worker, now: datetime) -> Steps[bool]:
    """Declare a worker dead."""
    gone = yield from do("DELETE FROM worker WHERE id = ?1 AND beat = ?2", worker.id, worker.beat)
    if gone:
        yield from _free(worker.id, now)
    return bool(gone)


def claim(free: Slice, worker_id: str, now: datetime) -> Steps[int | None]:
    """Take a free slice, unless its worker was declared dead or another was first."""
    # Its row is this transaction's: whoever buries it meanwhile waits, and then frees this slice as well.
    if not (yield from do("UPDATE worker SET beat = beat WHERE id = ?1", worker_id)):
        return None
    taken = yield from do(
        "UPDATE slice SET holder = ?1, term = term + 1, since = ?2 "
        "WHERE number = ?3 AND term = ?4 AND holder IS NULL",
        *(worker_id, to_ms(now), free.number, free.term),
    )
    return free.term + 1 if taken else None


def leave(worker_id: str, now: datetime) -> Steps[None]:
    """Take a worker out."""
    yield from do("DELETE FROM worker WHERE id = ?1", worker_id)
    yield from _free(worker_id, now)


def _free(worker_id: str, now: datetime) -> Steps[int]:
    return (
        yield from do(
            "UPDATE slice SET holder = NULL, since = ?1 WHERE holder = ?2", to_ms(now), worker_id
        )
    )


def end_sharing() -> Steps[None]:
    """Forget everything of the sharing."""
    for table in ("slice_feeder", "slice", "worker"):
        yield from do(f"DELETE FROM {table}")  # noqa: S608


def put_subscribed(number: int, feeders: Collection[str], now: datetime) -> Steps[None]:
    """Note whom a slice hears."""
    for feeder_id in sorted(feeders):
        yield from do(
            "INSERT INTO slice_feeder (feeder_id, slice, subscribed_at) VALUES (?1, ?2, ?3) "
            "ON CONFLICT (feeder_id) DO UPDATE SET slice = excluded.slice, "
            "subscribed_at = excluded.subscribed_at, handed_at = NULL",
            *(feeder_id, number, to_ms(now)),
        )


def put_handed(feeders: Sequence[SliceFeeder], now: datetime) -> Steps[None]:
    """Note whom the rest leaves to their slices, unless they were subscribed to anew meanwhile."""
    for each in feeders:
        yield from do(
            "UPDATE slice_feeder SET handed_at = ?1 WHERE feeder_id = ?2 AND subscribed_at = ?3",
            *(to_ms(now), each.feeder_id, to_ms(each.subscribed_at)),
        )


class WorkerLedger(Engine):
    """The WorkerStore on top of an engine's questions and transactions."""

    async def roster(self) -> Roster:
        workers = await self._rows(_WORKERS.select("ORDER BY started_at, id"))
        slices = await self._rows(_SLICES.select("ORDER BY number"))
        return Roster(
            [_WORKERS.read(row) for row in workers], [_SLICES.read(row) for row in slices]
        )

    async def join_workers(self, worker: Worker, slices: int) -> None:
        await self._write(lambda: join(worker, slices))

    async def beat(self, worker_id: str, now: datetime) -> Roster:
        return await self._write(lambda: beat(worker_id, now))

    async def bury(self, worker: Worker, now: datetime) -> bool:
        return await self._write(lambda: bury(worker, now))

    async def claim(self, free: Slice, worker_id: str, now: datetime) -> int | None:
        return await self._write(lambda: claim(free, worker_id, now))

    async def release(self, number: int, worker_id: str, now: datetime) -> None:
        await self._write(
            lambda: do(
                "UPDATE slice SET holder = NULL, since = ?1 WHERE number = ?2 AND holder = ?3",
                *(to_ms(now), number, worker_id),
            )
        )

    async def leave_workers(self, worker_id: str, now: datetime) -> None:
        await self._write(lambda: leave(worker_id, now))

    async def end_sharing(self) -> None:
        await self._write(end_sharing)

    async def known_feeders(self) -> Sequence[str]:
        rows = await self._rows("SELECT DISTINCT feeder_id FROM gateway ORDER BY feeder_id")
        return [cast(str, row[0]) for row in rows]

    async def slice_feeders(self) -> Sequence[SliceFeeder]:
        return [
            SliceFeeder(feeder, number, from_ms(at), None if handed is None else from_ms(handed))
            for feeder, number, at, handed in cast(Any, await self._rows(_SLICE_FEEDERS))
        ]

    async def put_subscribed(self, number: int, feeders: Collection[str], now: datetime) -> None:
        if feeders:
            await self._write(lambda: put_subscribed(number, feeders, now))

    async def put_handed(self, feeders: Sequence[SliceFeeder], now: datetime) -> None:
        if feeders:
            await self._write(lambda: put_handed(feeders, now))
