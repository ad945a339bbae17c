"""Who holds which slice: beats, leases and terms, with workers that freeze, die, come back, with wrong clocks."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from openami.headend.slices import REST, SLICES_DEFAULT, session_name, slice_of
from openami.headend.worker_life import (
    LEASE_S,
    Fence,
    Heard,
    Roster,
    Slice,
    SliceState,
    Watch,
    Worker,
    fair_share,
    outlived,
    watched,
)

NOON = datetime(2026, 6, 22, 12, tzinfo=UTC)
SLICES = 5


def worker(name: str, beat: int = 0) -> Worker:
    return Worker(name, name, beat, NOON, NOON)


def roster(*holders: str | None, workers: str) -> Roster:
    """Return a roster whose slices are held by these."""
    slices = [Slice(number, holder, 1, NOON) for number, holder in enumerate(holders)]
    return Roster([worker(name) for name in workers], slices)


# --- slices --------------------------------------------------------------------------------------


@given(st.text(min_size=1, max_size=40), st.integers(1, 64))
def test_a_feeder_has_one_slice_for_ever_and_never_the_rest(feeder_id: str, slices: int) -> None:
    number = slice_of(feeder_id, slices)
    assert 1 <= number <= slices
    assert number == slice_of(feeder_id, slices)


def test_the_slice_of_a_name_is_the_same_in_every_version() -> None:
    """What waits at the broker waits under the slice's name: a change would leave it there."""
    assert [slice_of(f"feeder-{n}", SLICES_DEFAULT) for n in range(8)] == [2, 6, 6, 8, 8, 4, 1, 5]


def test_feeders_spread_over_the_slices() -> None:
    found = [slice_of(f"feeder-{n:04}", 8) for n in range(4000)]
    assert all(400 < found.count(number) < 600 for number in range(1, 9))


def test_the_rest_has_the_session_of_a_single_head_end() -> None:
    assert session_name("openami-headend", REST) == "openami-headend"
    assert session_name("openami-headend", 3) == "openami-headend-slice-3"


# --- who is dead ---------------------------------------------------------------------------------


def test_a_beat_that_stands_still_for_a_lease_is_a_death_and_a_newer_one_is_life() -> None:
    both = Roster([worker("a"), worker("b")])
    watch = watched({}, both.workers, 100.0)
    assert watch == {"a": Heard(0, 100.0), "b": Heard(0, 100.0)}
    watch = watched(watch, both.workers, 109.0)
    assert not outlived(watch, both, "a", lease_s=LEASE_S, now_s=109.0)
    assert outlived(watch, both, "a", lease_s=LEASE_S, now_s=110.0) == [worker("b")]

    later = Roster([worker("a"), worker("b", beat=1)])
    assert not outlived(watch, later, "a", lease_s=LEASE_S, now_s=110.0), "it has just been seen"
    watch = watched(watch, later.workers, 110.0)
    assert watch["b"] == Heard(1, 110.0)


def test_nobody_calls_himself_dead_and_nobody_whom_he_has_only_just_met() -> None:
    alone = Roster([worker("a"), worker("b")])
    assert not outlived({"a": Heard(0, 0.0)}, alone, "a", lease_s=LEASE_S, now_s=1e9)


# --- who takes what ------------------------------------------------------------------------------


def test_the_first_takes_everything() -> None:
    share = fair_share(roster(None, None, None, workers="a"), "a")
    assert [each.number for each in share.claim] == [0, 1, 2]


def test_a_second_is_given_to_one_by_one_and_never_the_rest() -> None:
    assert fair_share(roster("a", "a", "a", workers="ab"), "a").release == Slice(2, "a", 1, NOON)
    assert fair_share(roster("a", "a", "b", workers="ab"), "a").release is None
    assert fair_share(roster("a", "a", "b", workers="ab"), "b") == fair_share(
        roster(workers=""), "b"
    )


def test_of_what_a_dead_one_leaves_each_takes_his_part() -> None:
    left = roster("a", None, None, "b", None, None, workers="ab")
    assert [each.number for each in fair_share(left, "a").claim] == [1, 2]
    assert [each.number for each in fair_share(left, "a", unfit={1, 2}).claim] == [4, 5]


def test_who_was_declared_dead_claims_nothing() -> None:
    assert not fair_share(roster(None, workers="b"), "a").claim


# --- all of it together --------------------------------------------------------------------------


@dataclass
class Process:
    """A worker's program: its memory, and a clock that is its own."""

    id: str
    clock_s: float
    frozen: bool = False
    watch: Watch = field(default_factory=dict)
    fences: set[Fence] = field(default_factory=set)


class Sharing(RuleBasedStateMachine):
    """The store as the ledger keeps it, and any number of processes in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.workers: dict[str, Worker] = {}
        self.slices = [Slice(number, None, 0, NOON) for number in range(SLICES)]
        self.processes: list[Process] = []
        self.started = 0
        self.terms: list[list[int]] = [[] for _ in range(SLICES)]

    @property
    def roster(self) -> Roster:
        return Roster(list(self.workers.values()), tuple(self.slices))

    @initialize()
    def one(self) -> None:
        self.start(0.0)

    @rule(clock_s=st.floats(-1e6, 1e6))
    def start(self, clock_s: float) -> None:
        if len(self.processes) < 4:
            self.started += 1
            process = Process(f"w{self.started}", clock_s)
            self.processes.append(process)
            self.workers[process.id] = worker(process.id)

    @rule(index=st.integers(0, 3))
    def kill(self, index: int) -> None:
        if len(self.processes) > 1 and index < len(self.processes):
            del self.processes[index]

    @rule(index=st.integers(0, 3), frozen=st.booleans())
    def freeze_or_thaw(self, index: int, frozen: bool) -> None:
        if index < len(self.processes):
            self.processes[index].frozen = frozen

    @rule(seconds=st.floats(0.0, LEASE_S * 1.5))
    def time_passes(self, seconds: float) -> None:
        for process in self.processes:
            process.clock_s += seconds

    @rule(index=st.integers(0, 3))
    def look(self, index: int) -> None:
        if index >= len(self.processes) or self.processes[index].frozen:
            return
        me = self.processes[index]
        if me.id in self.workers:
            found = self.workers[me.id]
            self.workers[me.id] = replace(found, beat=found.beat + 1)
        else:
            me.fences.clear()
            self.started += 1
            me.id = f"w{self.started}"
            self.workers[me.id] = worker(me.id)
        me.watch = watched(me.watch, self.roster.workers, me.clock_s)
        for dead in outlived(me.watch, self.roster, me.id, lease_s=LEASE_S, now_s=me.clock_s):
            del self.workers[dead.id]
            self._free(dead.id)
        me.fences &= set(self.roster.held_by(me.id))
        share = fair_share(self.roster, me.id)
        for free in share.claim:
            self.slices[free.number] = replace(free, holder=me.id, term=free.term + 1)
            self.terms[free.number].append(free.term + 1)
            me.fences.add(Fence(free.number, me.id, free.term + 1))
        if share.release is not None:
            self.slices[share.release.number] = replace(share.release, holder=None)
            me.fences -= {Fence(share.release.number, me.id, share.release.term)}

    def _free(self, holder: str) -> None:
        self.slices = [
            replace(each, holder=None) if each.holder == holder else each for each in self.slices
        ]

    @invariant()
    def of_all_who_think_they_hold_a_slice_the_store_lets_one_write(self) -> None:
        for each in self.slices:
            writers = [
                fence
                for process in self.processes
                for fence in process.fences
                if (fence.number, fence.holder, fence.term) == (each.number, each.holder, each.term)
            ]
            assert len(writers) <= 1
            assert not writers or each.state is SliceState.HELD

    @invariant()
    def no_term_is_given_twice(self) -> None:
        for terms in self.terms:
            assert terms == sorted(set(terms))

    def teardown(self) -> None:
        """Left in peace, everything is held by somebody alive, as evenly as it can be."""
        for process in self.processes:
            process.frozen = False
        for _ in range(3 * SLICES + 10):
            self.time_passes(LEASE_S / 4)
            for index in range(len(self.processes)):
                self.look(index)
        counts = [
            sum(each.holder == process.id for each in self.slices) for process in self.processes
        ]
        assert sum(counts) == SLICES
        assert max(counts) - min(counts) <= 1


TestSharing = Sharing.TestCase
TestSharing.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
