"""The formula: what more of anything does, and what it says of figures that were measured."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from openami.capacity.reckoning import KEEP_DAYS, MARGIN, Limit, Load, Reach, Room, reach

loads = st.builds(
    Load, interval_s=st.sampled_from([1, 30, 60, 900, 86_400]), registers=st.integers(1, 40)
)
rates = st.floats(1, 1e6)
latencies = st.floats(1e-6, 10)
rooms = st.builds(Room, free_bytes=st.integers(0, 10**15), bytes_per_reading=st.floats(1, 500))


def test_the_reference_machine() -> None:
    """By hand: 30,000 a second, 8 ms, 100 GB at 35 bytes; three registers every 15 minutes."""
    found = reach(
        Load(900, 3),
        intake_per_s=30_000,
        commit_p99_s=0.008,
        room=Room(100_000_000_000, 35.0),
    )
    assert found.by == {
        Limit.INTAKE: 8_100_000,  # 30,000 x 0.3 x 900
        Limit.COMMITS: 67_500_000,  # 2,000 / 0.008 x 0.3 x 900
        Limit.ROOM: 19_025,  # 70 GB / (365 x 288 x 35 B)
    }
    assert (found.first_limit, found.meters) == (Limit.ROOM, 19_025)


def test_a_slow_card_ends_with_its_commits() -> None:
    found = reach(Load(60, 8), intake_per_s=9_000, commit_p99_s=0.8, room=Room(10**13, 35.0))
    assert found.first_limit is Limit.COMMITS
    assert found.meters == 45_000  # 2,000 / 0.8 x 0.3 x 60


def test_room_that_nobody_knows_limits_nothing() -> None:
    found = reach(Load(60, 8), intake_per_s=9_000, commit_p99_s=0.01, room=None)
    assert Limit.ROOM not in found.by
    assert found.first_limit is Limit.INTAKE


@given(loads, rates, latencies, rooms)
def test_what_is_served_is_within_every_limit(
    load: Load, rate: float, latency: float, room: Room
) -> None:
    found = reach(load, intake_per_s=rate, commit_p99_s=latency, room=room)
    assert found.meters == found.by[found.first_limit] == min(found.by.values())
    assert found.meters / load.interval_s <= rate * MARGIN * (1 + 1e-9)
    if found.meters:
        assert room.days(found.meters, load) >= KEEP_DAYS * (1 - 1e-9)


@given(loads, rates, latencies, rooms, st.integers(2, 10))
def test_more_never_serves_fewer(
    load: Load, rate: float, latency: float, room: Room, factor: int
) -> None:
    def served(**changed: float) -> Reach:
        figures = {"intake_per_s": rate, "commit_p99_s": latency} | changed
        return reach(load, room=room, **figures)

    before = served()
    larger = dataclasses.replace(room, free_bytes=room.free_bytes * factor)
    rarer = dataclasses.replace(load, interval_s=load.interval_s * factor)
    for after in (
        served(intake_per_s=rate * factor),
        served(commit_p99_s=latency / factor),
        reach(load, intake_per_s=rate, commit_p99_s=latency, room=larger),
        reach(rarer, intake_per_s=rate, commit_p99_s=latency, room=room),
    ):
        assert after.meters >= before.meters
        assert all(after.by[limit] >= before.by[limit] for limit in Limit)


@given(loads, rooms, st.integers(1, 10**8))
def test_days_are_shared_among_meters(load: Load, room: Room, meters: int) -> None:
    assert room.days(2 * meters, load) * 2 <= room.days(meters, load) * (1 + 1e-9)
