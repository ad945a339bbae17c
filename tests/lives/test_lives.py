"""The lives are sound tables: every state is reached, every end is an end, every move has one owner."""

from enum import Enum
from typing import Any

import pytest

from openami.conformance.acts import ACT_LIFE, ActEvent, ActState
from openami.headend.bulk import BULK_LIFE, BulkEvent, BulkState
from openami.headend.gap_life import GAP_LIFE, GapEvent, GapState
from openami.headend.worker_life import SLICE_LIFE, SliceEvent, SliceState
from openami.profile.command import COMMAND_LIFE, CommandEvent, CommandState
from openami.profile.life import IllegalMove, Life, Party
from openami.sip.session import SESSION_LIFE, SessionEvent, SessionState

LIVES = [
    pytest.param(COMMAND_LIFE, CommandState, CommandEvent, id="command"),
    pytest.param(SESSION_LIFE, SessionState, SessionEvent, id="session"),
    pytest.param(GAP_LIFE, GapState, GapEvent, id="gap"),
    pytest.param(ACT_LIFE, ActState, ActEvent, id="act"),
    pytest.param(BULK_LIFE, BulkState, BulkEvent, id="bulk"),
    pytest.param(SLICE_LIFE, SliceState, SliceEvent, id="slice"),
]


@pytest.mark.parametrize(("life", "states", "events"), LIVES)
def test_every_state_is_in_the_table_and_reached_from_the_start(
    life: Life[Any, Any], states: type[Enum], events: type[Enum]
) -> None:
    reached = {life.start}
    grew = True
    while grew:
        found = {move.to for state, _, move in life.edges() if state in reached}
        grew = not found <= reached
        reached |= found
    assert reached == set(states) == set(life.moves)


@pytest.mark.parametrize(("life", "states", "events"), LIVES)
def test_a_move_is_made_by_its_owner_and_by_nobody_else(
    life: Life[Any, Any], states: type[Enum], events: type[Enum]
) -> None:
    for state in states:
        for event in events:
            move = life.moves[state].get(event)
            for party in Party:
                if move is not None and move.by is party:
                    assert life.after(state, event, by=party) is move.to
                else:
                    with pytest.raises(IllegalMove):
                        life.after(state, event, by=party)


def test_a_command_has_five_ends_and_leaves_none_of_them() -> None:
    ends = {state for state in CommandState if COMMAND_LIFE.is_terminal(state)}
    assert {end.name for end in ends} == {"CONFIRMED", "REFUSED", "FAILED", "EXPIRED", "UNKNOWN"}


def test_nothing_is_executed_that_was_not_accepted_first() -> None:
    into_executing = [
        state for state, _, move in COMMAND_LIFE.edges() if move.to is CommandState.EXECUTING
    ]
    assert into_executing == [CommandState.ACCEPTED]


def test_once_the_contactor_may_have_moved_time_cannot_expire_the_command() -> None:
    assert CommandEvent.NOT_AFTER_PASSED not in COMMAND_LIFE.moves[CommandState.EXECUTING]


def test_a_diagram_shows_every_move() -> None:
    lives: tuple[Life[Any, Any], ...] = (COMMAND_LIFE, SESSION_LIFE)
    for life in lives:
        ends = sum(life.is_terminal(state) for state in life.moves)
        assert life.mermaid().count(" --> ") == 1 + len(list(life.edges())) + ends
