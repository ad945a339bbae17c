"""A gap's life: when it is asked for, what closes it, and what proves it lost."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.headend.decisions import FEEDER, GATEWAY, NOON

from openami.headend.gap_life import (
    ANSWERS_PROVING,
    ASKS_MAX,
    REPLACED_AFTER_S,
    RETENTION_DAYS,
    WINDOW_MARGIN_S,
    Ask,
    Gap,
    GapReason,
    GapState,
    Patience,
    Span,
    Surroundings,
    answered,
    next_step,
    noticed,
    window,
)
from openami.headend.seq_gaps import Epoch, Numbering, Run
from openami.headend.store.identity import to_ms
from openami.profile.command import CommandState

SECOND, MINUTE, HOUR, DAY = (
    timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days")
)
PATIENCE = Patience()
WELL = Surroundings(
    gateway_speaks=True,
    filled_at=NOON - DAY,
    epoch=1,
    can_command=True,
    another_is_asked=False,
    thinned=(),
)


def numbers(*runs: tuple[int, int], epoch: int = 1, forgotten_until: int = 0) -> Numbering:
    """Return a numbering with these runs; each number was measured at its minute."""
    at = to_ms(NOON - DAY)
    made = tuple(Run(a, b, at + a * 60_000, at + b * 60_000) for a, b in runs)
    return Numbering(Epoch(epoch, made, 0, 0, forgotten_until=forgotten_until))


def the_gap(*runs: tuple[int, int]) -> Gap:
    [gap] = noticed([], numbers(*runs), (FEEDER, GATEWAY), NOON)
    return gap


GAP = the_gap((1, 10), (21, 30))
QUIET = NOON + PATIENCE.grace


# --- noticed -------------------------------------------------------------------------------------


def test_a_hole_is_noticed_with_the_times_around_it() -> None:
    assert (GAP.first, GAP.last, GAP.missing) == (11, 20, 10)
    assert GAP.measured_from == NOON - DAY + 10 * MINUTE
    assert GAP.measured_to == NOON - DAY + 21 * MINUTE
    assert (GAP.state, GAP.reason) == (GapState.OPEN, GapReason.IN_TRANSIT)


def test_what_is_known_is_not_noticed_again() -> None:
    assert noticed([GAP], numbers((1, 10), (21, 30)), GAP.gateway, NOON + MINUTE) == []


def test_what_comes_in_its_middle_makes_it_less_and_no_second_gap() -> None:
    [less] = noticed([GAP], numbers((1, 10), (14, 16), (21, 30)), GAP.gateway, NOON + MINUTE)
    assert (less.first, less.last, less.missing) == (11, 20, 7)
    assert (less.changed_at, less.noticed_at) == (NOON + MINUTE, NOON)


def test_what_comes_at_its_edge_narrows_the_window() -> None:
    [less] = noticed([GAP], numbers((1, 10), (15, 30)), GAP.gateway, NOON + MINUTE)
    assert (less.measured_from, less.measured_to) == (GAP.measured_from, NOON - DAY + 15 * MINUTE)


def test_an_edge_that_becomes_known_later_is_learnt_and_it_can_be_asked_for() -> None:
    at = to_ms(NOON - DAY)
    below, undated = Run(1, 10, at, at + 60_000), Run(21, 22, None, None)
    [gap] = noticed([], Numbering(Epoch(1, (below, undated), 0, 0)), (FEEDER, GATEWAY), NOON)
    assert gap.measured_to is None
    assert next_step(gap, WELL, PATIENCE, QUIET) == gap
    later = Numbering(Epoch(1, (below, Run(21, 30, at + 3_600_000, at + 4_000_000)), 0, 0))
    [dated] = noticed([gap], later, gap.gateway, NOON + MINUTE)
    assert dated == replace(gap, measured_to=NOON - DAY + HOUR)
    assert isinstance(next_step(dated, WELL, PATIENCE, QUIET), Ask)
    assert noticed([dated], later, gap.gateway, NOON + 2 * MINUTE) == []


def test_it_is_closed_when_all_has_come() -> None:
    [closed] = noticed([GAP], numbers((1, 30)), GAP.gateway, NOON + MINUTE)
    assert (closed.state, closed.missing, closed.ended_at) == (GapState.CLOSED, 0, NOON + MINUTE)


def test_one_that_was_lost_and_came_after_all_is_closed() -> None:
    lost = replace(GAP, state=GapState.LOST, reason=GapReason.ANSWERED_WITHOUT, ended_at=NOON)
    assert noticed([lost], numbers((1, 10), (21, 30)), GAP.gateway, NOON) == []
    [closed] = noticed([lost], numbers((1, 30)), GAP.gateway, NOON + MINUTE)
    assert closed.state is GapState.CLOSED


def test_one_forgotten_for_newer_gaps_is_lost_and_not_closed() -> None:
    known = numbers((1, 30), forgotten_until=20)
    [lost] = noticed([GAP], known, GAP.gateway, NOON)
    assert (lost.state, lost.reason) == (GapState.LOST, GapReason.TOO_MANY_GAPS)
    assert lost.missing == GAP.missing


def test_one_proved_lost_and_then_forgotten_stays_lost_for_its_own_reason() -> None:
    lost = replace(GAP, state=GapState.LOST, reason=GapReason.ANSWERED_WITHOUT, ended_at=NOON)
    assert noticed([lost], numbers((1, 30), forgotten_until=20), GAP.gateway, NOON + MINUTE) == []


def test_one_of_a_count_that_is_forgotten_stays_as_it_is() -> None:
    assert noticed([GAP], numbers((1, 5), epoch=3), GAP.gateway, NOON) == []


# --- asked ---------------------------------------------------------------------------------------


def asked(gap: Gap = GAP, **other: Any) -> Gap | Ask:
    return next_step(gap, replace(WELL, **other), PATIENCE, QUIET)


def test_it_is_asked_for_after_the_grace_and_not_before() -> None:
    step = asked()
    assert isinstance(step, Ask)
    assert (step.gap.state, step.gap.reason) == (GapState.ASKED, GapReason.ASKED)
    assert (step.gap.asks, step.gap.ask_at) == (1, QUIET + PATIENCE.ask_again)
    early = next_step(GAP, WELL, PATIENCE, QUIET - SECOND)
    assert isinstance(early, Gap)
    assert early.reason is GapReason.IN_TRANSIT


def test_while_its_gateway_fills_any_gap_it_is_draining_and_not_asked() -> None:
    step = asked(filled_at=QUIET - PATIENCE.grace + SECOND)
    assert isinstance(step, Gap)
    assert step.reason is GapReason.IN_TRANSIT
    assert isinstance(asked(filled_at=QUIET - PATIENCE.grace), Ask)


@pytest.mark.parametrize(
    ("around", "reason"),
    [
        ({"gateway_speaks": False}, GapReason.GATEWAY_SILENT),
        ({"can_command": False}, GapReason.NO_KEYS),
        ({"another_is_asked": True}, GapReason.IN_TRANSIT),
    ],
)
def test_what_hinders_is_named(around: dict[str, Any], reason: GapReason) -> None:
    step = asked(**around)
    assert isinstance(step, Gap)
    assert (step.state, step.reason, step.asks) == (GapState.OPEN, reason, 0)


def test_a_gap_without_times_cannot_be_asked_for() -> None:
    assert isinstance(asked(replace(GAP, measured_to=None)), Gap)


def test_asks_become_rarer_and_end() -> None:
    gap, now, pauses = GAP, QUIET, []
    for _ in range(ASKS_MAX):
        step = next_step(gap, WELL, PATIENCE, now)
        assert isinstance(step, Ask)
        assert step.gap.ask_at is not None
        pauses.append(step.gap.ask_at - now)
        gap = answered(step.gap, CommandState.EXPIRED, None, PATIENCE, now)
        assert (gap.state, gap.reason) == (GapState.OPEN, GapReason.NO_ANSWER)
        assert isinstance(next_step(gap, WELL, PATIENCE, step.gap.ask_at - SECOND), Gap)
        now = step.gap.ask_at
    assert pauses[:3] == [10 * MINUTE, 30 * MINUTE, 90 * MINUTE]
    assert max(pauses) == pauses[-1] == 12 * HOUR
    assert isinstance(next_step(gap, WELL, PATIENCE, now), Gap)


@pytest.mark.parametrize(
    ("state", "code", "reason"),
    [
        (CommandState.CONFIRMED, "OK", GapReason.IN_RESEND),
        (CommandState.REFUSED, "NO_KEYRING", GapReason.NO_KEYS),
        (CommandState.REFUSED, "LOCKED_OUT", GapReason.REFUSED),
        (CommandState.FAILED, "STORAGE", GapReason.NO_ANSWER),
        (CommandState.EXPIRED, "EXPIRED", GapReason.NO_ANSWER),
        (CommandState.UNKNOWN, "NO_REPORT", GapReason.NO_ANSWER),
    ],
)
def test_an_answer_is_named(state: CommandState, code: str, reason: GapReason) -> None:
    step = asked()
    assert isinstance(step, Ask)
    after = answered(step.gap, state, code, PATIENCE, QUIET)
    assert (after.state, after.reason) == (GapState.OPEN, reason)
    assert after.answers == (1 if state is CommandState.CONFIRMED else 0)
    assert after.command_id is None


def test_the_window_is_the_gaps_times_with_a_margin_in_whole_seconds() -> None:
    gap = replace(GAP, measured_from=NOON + timedelta(milliseconds=700), measured_to=NOON + MINUTE)
    margin = timedelta(seconds=WINDOW_MARGIN_S)
    assert window(gap) == (NOON - margin, NOON + MINUTE + margin)
    crossed = replace(gap, measured_from=NOON + MINUTE, measured_to=NOON)
    assert window(crossed) == (NOON - margin, NOON + MINUTE + margin)


# --- lost ----------------------------------------------------------------------------------------


def said_all(times: int) -> Gap:
    return replace(GAP, asks=times, answers=times, answered_at=NOON)


def test_two_answers_without_it_prove_it_lost_and_one_does_not() -> None:
    step = asked(said_all(ANSWERS_PROVING))
    assert isinstance(step, Gap)
    assert (step.state, step.reason) == (GapState.LOST, GapReason.ANSWERED_WITHOUT)
    assert isinstance(asked(said_all(ANSWERS_PROVING - 1)), Ask)


def test_what_was_answered_may_still_be_draining() -> None:
    gap = replace(said_all(ANSWERS_PROVING), answered_at=QUIET - SECOND)
    step = asked(gap)
    assert isinstance(step, Gap)
    assert (step.state, step.reason) == (GapState.OPEN, GapReason.IN_RESEND)


def test_one_answer_proves_what_the_gateway_told_that_it_thinned() -> None:
    span = Span(NOON - 2 * DAY, NOON - DAY + 10 * MINUTE)
    step = asked(said_all(1), thinned=(span,))
    assert isinstance(step, Gap)
    assert (step.state, step.reason) == (GapState.LOST, GapReason.THINNED)
    before = Span(NOON - 2 * DAY, NOON - DAY + 10 * MINUTE - SECOND)
    assert isinstance(asked(said_all(1), thinned=(before,)), Ask)
    assert isinstance(asked(thinned=(span,)), Ask), "something of it may be there: it is asked once"


def test_what_waits_by_a_cap_is_neither_asked_for_nor_lost_and_has_its_time_afterwards() -> None:
    month = timedelta(days=30)
    waits = next_step(GAP, replace(WELL, withholds=True), PATIENCE, NOON + month)
    assert isinstance(waits, Gap)
    assert (waits.state, waits.reason) == (GapState.OPEN, GapReason.WITHHELD)
    over = next_step(waits, WELL, PATIENCE, NOON + month)
    assert isinstance(over, Gap)
    assert (over.state, over.reason) == (GapState.OPEN, GapReason.IN_TRANSIT)
    later = next_step(over, WELL, PATIENCE, NOON + month + PATIENCE.grace)
    assert isinstance(later, Ask)
    of_an_older_card = next_step(
        GAP, replace(WELL, withholds=True, epoch=2), PATIENCE, NOON + month
    )
    assert isinstance(of_an_older_card, Gap)
    assert of_an_older_card.reason is GapReason.CARD_REPLACED


def test_an_old_one_that_was_answered_without_is_beyond_retention() -> None:
    old = replace(said_all(ANSWERS_PROVING), measured_to=NOON - timedelta(days=8))
    step = asked(old)
    assert isinstance(step, Gap)
    assert step.reason is GapReason.BEYOND_RETENTION


def test_without_an_answer_it_is_lost_only_when_no_gateway_can_have_it() -> None:
    known_for = timedelta(days=RETENTION_DAYS)
    given_up = replace(GAP, asks=ASKS_MAX)
    assert next_step(given_up, WELL, PATIENCE, NOON + known_for - SECOND) == given_up
    step = next_step(given_up, WELL, PATIENCE, NOON + known_for)
    assert isinstance(step, Gap)
    assert (step.state, step.reason) == (GapState.LOST, GapReason.BEYOND_RETENTION)
    silent = replace(WELL, gateway_speaks=False)
    step = next_step(given_up, silent, PATIENCE, NOON + 2 * known_for)
    assert isinstance(step, Gap)
    assert step.state is GapState.OPEN, "its backlog may be unsent, however old"


def test_an_older_card_is_not_asked_and_is_lost_an_hour_after_something_of_it_came() -> None:
    replaced = replace(WELL, epoch=2)
    last = NOON + timedelta(seconds=REPLACED_AFTER_S)
    assert next_step(GAP, replaced, PATIENCE, last - SECOND) == GAP
    step = next_step(GAP, replaced, PATIENCE, last)
    assert isinstance(step, Gap)
    assert (step.state, step.reason) == (GapState.LOST, GapReason.CARD_REPLACED)
