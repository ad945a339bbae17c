"""How far a log is read: nothing is missed and the history is not repeated, whatever the meter's clock does."""

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from openami.gateway.log_position import (
    FIRST_LOOK,
    OVERLAP,
    RECENT_IDS_MAX,
    SPAN_MAX,
    STRETCH,
    LogPosition,
    looked,
    read_up_to,
    stretch,
)

NOON = datetime(2026, 6, 22, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def read_to_the_end(position: LogPosition) -> tuple[LogPosition, list[tuple[datetime, datetime]]]:
    pieces = []
    while (piece := stretch(position)) is not None:
        pieces.append(piece)
        position = read_up_to(position, piece[1], ())
    return position, pieces


def test_the_first_look_goes_a_week_back_a_day_at_a_time() -> None:
    position, pieces = read_to_the_end(looked(None, meter_time=NOON, now=NOON))
    assert pieces[0][0] == NOON - FIRST_LOOK
    assert pieces[-1][1] == NOON + OVERLAP
    assert all(end - begin <= STRETCH for begin, end in pieces)
    assert all(one[1] == other[0] for one, other in itertools.pairwise(pieces))
    assert position.pending == ()


def test_a_meter_in_order_is_asked_for_what_is_new() -> None:
    position = LogPosition(meter_time=NOON, at=NOON)
    later = NOON + 15 * MINUTE
    _, pieces = read_to_the_end(looked(position, meter_time=later, now=later))
    assert pieces == [(NOON - OVERLAP, later + OVERLAP)]


def test_a_clock_that_was_set_back_to_the_beginning_is_asked_at_both_of_its_times() -> None:
    """An empty battery: the history of years lies between the two and is not asked for."""
    position = LogPosition(meter_time=NOON, at=NOON)
    reset = datetime(2000, 1, 1, 0, 3, tzinfo=UTC)
    _, pieces = read_to_the_end(looked(position, meter_time=reset, now=NOON + 15 * MINUTE))
    assert pieces == [
        (reset - 15 * MINUTE - OVERLAP, reset + OVERLAP),
        (NOON - OVERLAP, NOON + 15 * MINUTE + OVERLAP),
    ]


def test_what_could_not_be_read_stays_to_be_read() -> None:
    position = looked(None, meter_time=NOON, now=NOON)
    assert looked(position, meter_time=NOON + MINUTE, now=NOON + MINUTE) == position


def test_a_gateway_whose_own_clock_was_set_back_goes_by_the_meters() -> None:
    position = LogPosition(meter_time=NOON, at=NOON + timedelta(hours=1))
    _, pieces = read_to_the_end(looked(position, meter_time=NOON + 15 * MINUTE, now=NOON))
    assert pieces == [(NOON - OVERLAP, NOON + 15 * MINUTE + OVERLAP)]


def test_ids_are_remembered_up_to_a_number() -> None:
    position = looked(None, meter_time=NOON, now=NOON)
    piece = stretch(position)
    assert piece is not None
    after = read_up_to(position, piece[1], [str(n) for n in range(3 * RECENT_IDS_MAX)])
    assert after.recent == tuple(str(n) for n in range(2 * RECENT_IDS_MAX, 3 * RECENT_IDS_MAX))


_STEPS = st.lists(
    st.tuples(
        st.integers(1, 60 * 24 * 3).map(lambda minutes: minutes * MINUTE),  # since the last look
        st.one_of(st.just(timedelta()), st.integers(-(10**6), 10**6).map(lambda m: m * MINUTE)),
        st.booleans(),  # whether the log answers
        st.floats(0, 1),  # when in between something is logged, and the clock set before or after
    ),
    max_size=12,
)


@given(_STEPS)
def test_every_entry_is_asked_for_and_never_the_whole_history(
    steps: list[tuple[timedelta, timedelta, bool, float]],
) -> None:
    """A meter whose clock is set once between two readings of its log, to anything; logs that answer or not.

    What it said between two settings nobody has seen.
    """
    now, offset = NOON, timedelta()
    position, _ = read_to_the_end(looked(None, meter_time=now, now=now))
    waiting: list[datetime] = []
    since_read, was_set = timedelta(), False
    for passed, wanted, answers, when in steps:
        set_by = timedelta() if was_set else wanted
        was_set = was_set or bool(set_by)
        before_setting = now + offset + passed * when
        now += passed
        since_read += passed
        # Set at the end of the interval: what was logged in it has the old time, but for the last second.
        waiting.append(before_setting)
        offset += set_by
        waiting.append(now + offset)
        if not answers or since_read > SPAN_MAX:
            position = looked(position, meter_time=now + offset, now=now)
            continue
        for _ in range(2):  # what was pending, and what has come since
            position = looked(position, meter_time=now + offset, now=now)
            position, pieces = read_to_the_end(position)
            asked = sum((end - begin for begin, end in pieces), timedelta())
            assert asked <= 2 * (since_read + 2 * OVERLAP)
            waiting = [at for at in waiting if not any(b <= at <= e for b, e in pieces)]
        assert waiting == []
        since_read, was_set = timedelta(), False
