"""A gateway's numbers as runs and holes: any order of arrival, replaced cards, bounds."""

import json
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.headend.decisions import NOON

from openami.headend.ingest import Message
from openami.headend.seq_gaps import (
    EPOCH_SLACK_MS,
    PREVIOUS_KEPT_MS,
    RUNS_MAX,
    Epoch,
    Hole,
    Numbered,
    Numbering,
    Run,
    merged,
    rejected_number,
)

SECOND = 1000
MINUTE = 60 * SECOND
START = 1_750_000_000_000


def measured(seq: int) -> int:
    """Return when a number of the first card was measured: one a minute."""
    return START + seq * MINUTE


def told(*seqs: int) -> list[Numbered]:
    return [Numbered(seq, measured(seq)) for seq in seqs]


def received(*batches: list[Numbered], at_ms: int = measured(10_000)) -> Numbering:
    """Return what is known after batches, all of them received after everything was measured."""
    known: Numbering | None = None
    for batch in batches:
        known = merged(known, batch, at_ms)
    assert known is not None
    return known


def extent(numbering: Numbering) -> list[tuple[int, int]]:
    assert numbering.previous is None
    return [(run.first, run.last) for run in numbering.current.runs]


# --- runs ----------------------------------------------------------------------------------------

NUMBERS = st.lists(st.integers(1, 60), min_size=1, max_size=80)
BATCHES = st.lists(NUMBERS, min_size=1, max_size=8)


def runs_of(seqs: set[int]) -> list[tuple[int, int]]:
    """Return the runs of a set of numbers, the plain way."""
    firsts = sorted(seq for seq in seqs if seq - 1 not in seqs)
    lasts = sorted(seq for seq in seqs if seq + 1 not in seqs)
    return list(zip(firsts, lasts, strict=True))


@given(BATCHES, st.randoms(use_true_random=False))
def test_any_order_any_repetition_any_batches_make_the_same_runs(
    batches: list[list[int]], chance: random.Random
) -> None:
    known = received(*(told(*batch) for batch in batches))
    everything = [seq for batch in batches for seq in batch] * 2
    chance.shuffle(everything)
    other = received(*(told(seq) for seq in everything))
    assert extent(known) == extent(other) == runs_of(set(everything))
    assert known.current.runs == other.current.runs, "the times at the edges are the numbers' own"


@given(BATCHES)
def test_every_number_that_did_not_come_is_in_one_hole(batches: list[list[int]]) -> None:
    known = received(*(told(*batch) for batch in batches))
    came = {seq for batch in batches for seq in batch}
    missing = [seq for hole in known.holes() for seq in range(hole.first, hole.last + 1)]
    assert missing == [seq for seq in range(min(came), max(came)) if seq not in came]
    for hole in known.holes():
        assert (hole.from_ms, hole.to_ms) == (measured(hole.first - 1), measured(hole.last + 1))
        assert hole.missing == hole.last - hole.first + 1


@given(BATCHES)
def test_when_every_hole_is_filled_one_run_is_left(batches: list[list[int]]) -> None:
    known = received(*(told(*batch) for batch in batches))
    filling = [told(*range(hole.first, hole.last + 1)) for hole in reversed(known.holes())]
    filled = received(*(told(*batch) for batch in batches), *filling)
    assert len(filled.current.runs) == 1
    assert filled.holes() == []


def test_a_backlog_told_newest_first_is_one_hole_that_shrinks() -> None:
    known = received(told(1, 2, 3), told(100))
    sizes = []
    for seq in range(99, 3, -1):
        merged_ = merged(known, told(seq), measured(10_000))
        assert merged_ is not None
        known = merged_
        sizes.append(sum(hole.missing for hole in known.holes()))
    assert sizes == list(range(95, -1, -1))


def test_below_the_lowest_number_nothing_is_missing() -> None:
    assert received(told(50_000, 50_001)).holes() == []


def test_it_survives_its_own_writing() -> None:
    known = received(told(1, 2, 5), [Numbered(9, None)])
    assert msgspec.json.decode(msgspec.json.encode(known), type=Numbering) == known


def test_nothing_told_changes_nothing() -> None:
    assert merged(None, [], START) is None
    known = received(told(1))
    assert merged(known, [], START) is known


# --- times that say nothing ----------------------------------------------------------------------


def test_an_edge_without_a_time_takes_the_nearest_in_its_run() -> None:
    known = received([*told(1, 2), Numbered(3, None), Numbered(7, None), *told(8, 9)])
    [hole] = known.holes()
    assert hole == Hole(1, 4, 6, measured(2), measured(8))


def test_runs_without_any_time_lend_that_of_the_run_beyond() -> None:
    known = received([*told(1), Numbered(3, None), *told(5)])
    assert [(h.from_ms, h.to_ms) for h in known.holes()] == [(measured(1), measured(5))] * 2


# --- replaced cards ------------------------------------------------------------------------------


def swapped(*, seq: int = 40, after_ms: int = 2 * EPOCH_SLACK_MS) -> Numbering:
    """Return what is known when a card at number 100 was replaced and another told a number."""
    known = received(told(1, 2, *range(50, 101)), at_ms=measured(100))
    ts_ms = measured(100) + after_ms
    after = merged(known, [Numbered(seq, ts_ms)], ts_ms + SECOND)
    assert after is not None
    return after


def test_a_number_that_cannot_be_of_this_count_begins_another() -> None:
    known = swapped()
    assert known.previous is not None
    assert (known.previous.number, known.current.number) == (1, 2)
    assert [(run.first, run.last) for run in known.current.runs] == [(40, 40)]
    assert [(hole.epoch, hole.first, hole.last) for hole in known.holes()] == [(1, 3, 49)]


def test_until_then_it_may_just_be_a_clock_ahead_of_ours() -> None:
    assert swapped(after_ms=EPOCH_SLACK_MS).previous is None
    assert swapped(after_ms=EPOCH_SLACK_MS + 1).previous is not None


@pytest.mark.parametrize("seq", [1, 60, 100])
def test_a_redelivery_or_a_resend_begins_nothing_however_late(seq: int) -> None:
    known = received(told(1, 2, *range(50, 101)), at_ms=measured(100))
    again = merged(known, told(seq), measured(100_000))
    assert again == known


def test_backlog_that_was_measured_before_begins_nothing_however_late() -> None:
    known = received(told(1, 2, *range(50, 101)), at_ms=measured(100))
    after = merged(known, told(*range(3, 50)), measured(100_000))
    assert after is not None
    assert extent(after) == [(1, 100)]


@pytest.mark.parametrize("seq", [3, 100])
def test_a_number_without_a_time_begins_nothing(seq: int) -> None:
    known = received(told(1, 2, *range(50, 101)), at_ms=measured(100))
    after = merged(known, [Numbered(seq, None)], measured(100_000))
    assert after is not None
    assert after.previous is None


def test_the_new_cards_backlog_is_counted_with_it_and_the_old_ones_stragglers_are_not() -> None:
    known = swapped(seq=40)
    began_ms = measured(100) + 2 * EPOCH_SLACK_MS
    backlog = [Numbered(seq, began_ms - (40 - seq) * SECOND) for seq in range(30, 40)]
    after = merged(known, [*backlog, *told(3, 4)], began_ms + MINUTE)
    assert after is not None
    assert after.previous is not None
    assert [(run.first, run.last) for run in after.current.runs] == [(30, 40)]
    assert [(run.first, run.last) for run in after.previous.runs] == [(1, 4), (50, 100)]


def test_the_old_count_is_forgotten_after_a_day() -> None:
    known = swapped()
    began_ms = known.current.began_ms
    for late_ms, kept in ((PREVIOUS_KEPT_MS, True), (PREVIOUS_KEPT_MS + 1, False)):
        ts_ms = began_ms + late_ms
        after = merged(known, [Numbered(41, ts_ms)], ts_ms)
        assert after is not None
        assert (after.previous is not None) is kept


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60), st.integers(2, 30))
def test_one_card_is_one_count_whenever_its_numbers_come(seqs: list[int], late: int) -> None:
    """Each is received some time after it was measured, in whatever order: never another count."""
    known: Numbering | None = None
    at_ms = START
    for at, seq in enumerate(seqs):
        at_ms = max(at_ms, measured(seq)) + (at % late) * MINUTE
        known = merged(known, told(seq), at_ms)
    assert known is not None
    assert extent(known) == runs_of(set(seqs))


# --- bounds --------------------------------------------------------------------------------------


def test_beyond_the_bound_the_lowest_hole_is_forgotten_and_counted() -> None:
    lone = range(1, 2 * RUNS_MAX + 2, 2)
    known = received(told(*lone[:-1]))
    assert (len(known.current.runs), known.current.forgotten) == (RUNS_MAX, 0)
    known = received(told(*lone))
    assert len(known.current.runs) == RUNS_MAX
    assert (known.current.forgotten, known.current.forgotten_until) == (1, 2)
    assert known.current.runs[0] == Run(1, 3, measured(1), measured(3))


def test_a_flood_of_lone_numbers_stays_within_the_bound() -> None:
    lone = list(range(1, 20_000, 7))
    known = received(*(told(*lone[at : at + 500]) for at in range(0, len(lone), 500)))
    assert len(known.current.runs) == RUNS_MAX
    assert known.current.forgotten == 6 * (len(lone) - RUNS_MAX)


# --- rejected messages ---------------------------------------------------------------------------

TOPIC = "openami/v1/f/g/meter/m/telemetry"


def message(members: object, topic: str = TOPIC, *, retain: bool = False) -> Message:
    return Message(topic, json.dumps(members).encode(), NOON, retain)


def test_a_rejected_message_is_counted_by_its_number() -> None:
    members = {"feederId": "f", "gatewayId": "g", "seq": 7, "ts": "1970-01-01T00:00:00Z"}
    assert rejected_number(message(members)) == ("f", "g", 7)
    event = TOPIC.replace("telemetry", "event")
    assert rejected_number(message(members, event)) == ("f", "g", 7)


@pytest.mark.parametrize(
    "rejected",
    [
        message({"feederId": "f", "gatewayId": "other", "seq": 7}),
        message({"feederId": "other", "gatewayId": "g", "seq": 7}),
        message({"feederId": "f", "gatewayId": "g"}),
        message({"feederId": "f", "gatewayId": "g", "seq": "7"}),
        message({"feederId": "f", "gatewayId": "g", "seq": -1}),
        message({"feederId": "f", "gatewayId": "g", "seq": 7}, "openami/v1/f/g/meter/m/command"),
        message({"feederId": "f", "gatewayId": "g", "seq": 7}, "somewhere/else"),
        message({"feederId": "f", "gatewayId": "g", "seq": 7}, retain=True),
        message([7]),
        Message(TOPIC, b"\xff", NOON),
        Message(TOPIC, b"[" * 20_000, NOON),
    ],
)
def test_a_number_that_cannot_be_believed_is_none(rejected: Message) -> None:
    assert rejected_number(rejected) is None


def test_an_epoch_knows_its_top() -> None:
    assert Epoch(1, (Run(1, 2, None, None), Run(5, 9, None, None)), 0, 0).top == 9
