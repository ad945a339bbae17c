"""Who holds which slice: the life of a slice, and what a worker does at its next look (decision 0073). Pure.

    FREE ──claim (a worker)──▶ HELD ──release (its holder)──▶ FREE
                                │
                                └──outlived (its holder has not shown itself for a lease)──▶ FREE

A worker shows itself by a number that grows, its beat. Nobody compares clocks: whoever sees the same beat for a
whole lease, by his own clock, declares its worker dead. So a wrong clock moves nothing, and a worker that was only
frozen may come back to slices that are somebody else's. That is safe, whatever the times: each holder has a term of
its own, higher than all before, and the store asks for it within every transaction (`Fence`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from openami.profile.life import Life, Move, Party

# Two small commits a second for each worker; and a lease is several of them, so that one slow sync moves nothing.
BEAT_INTERVAL_S: Final = 0.5
# Longer than a database's hiccup or a virtual machine's move to another host. A worker that dies costs its feeders
# ten seconds of lateness and nothing else; slices that move for no reason cost the same.
LEASE_S: Final = 10.0
# Four beats: below that, a worker whose disk is slow once is declared dead.
LEASE_MIN_S: Final = 2.0
# Beyond five minutes a person is faster.
LEASE_MAX_S: Final = 300.0


class SliceState(Enum):
    """Where a slice stands."""

    FREE = "free"
    HELD = "held"


class SliceEvent(Enum):
    """What moves it on."""

    CLAIM = "claim"
    RELEASE = "release"
    OUTLIVED = "outlived"


SLICE_LIFE: Final[Life[SliceState, SliceEvent]] = Life(
    SliceState.FREE,
    {
        SliceState.FREE: {SliceEvent.CLAIM: Move(SliceState.HELD, Party.HEAD_END)},
        SliceState.HELD: {
            SliceEvent.RELEASE: Move(SliceState.FREE, Party.HEAD_END),
            SliceEvent.OUTLIVED: Move(SliceState.FREE, Party.TIME),
        },
    },
)


@dataclass(frozen=True, slots=True)
class Worker:
    """A head-end that shares the feeders with others."""

    id: str
    """New at every start, and for who was declared dead: whoever comes back is somebody else."""
    name: str
    """What people call it."""
    beat: int
    started_at: datetime
    beat_at: datetime
    """When it last showed itself, by its own clock; for people."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A share of the feeders, and who holds it."""

    number: int
    holder: str | None
    term: int
    """How many holders it has had: each is known by its number."""
    since: datetime

    @property
    def state(self) -> SliceState:
        """Where it stands."""
        return SliceState.FREE if self.holder is None else SliceState.HELD


@dataclass(frozen=True, slots=True)
class Fence:
    """What proves that a slice is still held by who thinks so."""

    number: int
    holder: str
    term: int


@dataclass(frozen=True, slots=True)
class Roster:
    """All workers and slices at one moment."""

    workers: Sequence[Worker] = ()
    slices: Sequence[Slice] = ()

    def has(self, worker_id: str) -> bool:
        """Return whether a worker is there and was not declared dead."""
        return any(worker.id == worker_id for worker in self.workers)

    def held_by(self, worker_id: str) -> Sequence[Fence]:
        """Return what a worker holds."""
        return [
            Fence(each.number, worker_id, each.term)
            for each in self.slices
            if each.holder == worker_id
        ]


@dataclass(frozen=True, slots=True)
class Heard:
    """The last beat seen of a worker, and since when nothing newer was."""

    beat: int
    since_s: float


Watch = Mapping[str, Heard]
"""What one worker has seen of the others, by their ids. Begun anew after a time without the store."""


def watched(before: Watch, workers: Sequence[Worker], now_s: float) -> Watch:
    """Return what has been seen after one more look; ``now_s`` is a clock that never steps."""
    found: dict[str, Heard] = {}
    for worker in workers:
        known = before.get(worker.id)
        is_still = known is not None and known.beat == worker.beat
        found[worker.id] = known if known and is_still else Heard(worker.beat, now_s)
    return found


def outlived(
    watch: Watch, roster: Roster, me: str, *, lease_s: float, now_s: float
) -> list[Worker]:
    """Return whom to declare dead: others whose beat has stood still for a whole lease."""
    return [
        worker
        for worker in roster.workers
        if worker.id != me
        and (heard := watch.get(worker.id)) is not None
        and heard.beat == worker.beat
        and now_s - heard.since_s >= lease_s
    ]


@dataclass(frozen=True, slots=True)
class Share:
    """What a worker should do for everybody to have about as many slices."""

    claim: Sequence[Slice] = ()
    release: Slice | None = None


def fair_share(roster: Roster, me: str, *, unfit: Collection[int] = ()) -> Share:
    """Return what one worker claims of what is free, or lets go for somebody with fewer.

    ``unfit`` are slices it has just failed to serve and leaves to others. One slice at a time is let go, and only
    where the difference is two: then it is always less afterwards, and the moving ends. The rest stays where it is,
    because what is done once for the village moves with it.
    """
    counts = {worker.id: 0 for worker in roster.workers}
    for each in roster.slices:
        if each.holder in counts:
            counts[each.holder] += 1
    if me not in counts:
        return Share()
    free = [each for each in roster.slices if each.state is SliceState.FREE]
    if free:
        most = -(-len(roster.slices) // len(counts))
        wanted = [each for each in free if each.number not in unfit]
        return Share(claim=wanted[: max(0, most - counts[me])])
    mine = [each for each in roster.slices if each.holder == me]
    if counts[me] - min(counts.values()) >= 2:
        return Share(release=mine[-1])
    return Share()
