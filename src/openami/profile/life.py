"""A life as a table: states, events, and for each move the one party that may make it.

Two things in the system have a life that several parties watch over an unreliable network: a session and
a command. Both are tables of this one shape, and so is whatever else has a life, so that the diagrams are
drawn from the code and a move that is not in the table cannot be made (after h11's state tables; the owner
per move is thin-edge.io's rule).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar


class Party(Enum):
    """Who may move a life on."""

    HEAD_END = "head-end"
    GATEWAY = "gateway"
    TIME = "time"
    KIT = "conformance kit"
    VENDOR = "vendor"


State = TypeVar("State", bound=Enum)
Event = TypeVar("Event", bound=Enum)


@dataclass(frozen=True, slots=True)
class Move(Generic[State]):
    """Where an event leads, and who alone may cause it."""

    to: State
    by: Party


class IllegalMove(ValueError):
    """The table has no such move, or it is not this party's to make."""


@dataclass(frozen=True, slots=True)
class Life(Generic[State, Event]):
    """The table of one life. A state without moves is terminal."""

    start: State
    moves: Mapping[State, Mapping[Event, Move[State]]]

    def after(self, state: State, event: Event, *, by: Party) -> State:
        """Return the state that follows. Raises IllegalMove."""
        move = self.moves[state].get(event)
        if move is None:
            raise IllegalMove(f"{event.name} cannot happen in {state.name}")
        if move.by is not by:
            raise IllegalMove(f"{event.name} in {state.name} is for the {move.by.value} to tell")
        return move.to

    def is_terminal(self, state: State) -> bool:
        """Whether nothing can follow."""
        return not self.moves[state]

    def edges(self) -> Iterator[tuple[State, Event, Move[State]]]:
        """Yield every move of the table; the diagrams in docs/sip.md are drawn from them."""
        for state, moves in self.moves.items():
            for event, move in moves.items():
                yield state, event, move

    def mermaid(self) -> str:
        """Draw the table as a Mermaid state diagram."""
        lines = ["stateDiagram-v2", f"    [*] --> {self.start.name}"]
        for state, event, move in self.edges():
            cause = event.name.lower().replace("_", " ")
            lines.append(f"    {state.name} --> {move.to.name}: {cause} ({move.by.value})")
        lines.extend(f"    {state.name} --> [*]" for state in self.moves if self.is_terminal(state))
        return "\n".join(lines) + "\n"
