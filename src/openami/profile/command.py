"""A command's life, as a table: every command ends in exactly one terminal state (promise 5).

    ISSUED ─▶ ACCEPTED ─▶ EXECUTING ─▶ CONFIRMED   the relay was read back as ordered
       │          │            ├─────▶ FAILED      it was not, or the meter refused
       │          │            └─────▶ UNKNOWN     power lost while moving, or no read-back
       │          └──────────────────▶ EXPIRED     its time passed before anything moved
       ├─────────────────────────────▶ REFUSED     a rule said no, or it was withdrawn before it was sent
       ├─────────────────────────────▶ EXPIRED     its time passed and nobody had it
       └── no report, from any of the three ──▶ UNKNOWN     it was sent, and nothing was ever heard

UNKNOWN is not an error to hide. A gateway that finds EXECUTING in its journal after a restart reads the
relay, reports what it sees, and never repeats the movement by itself (decision 0021).
"""

from collections.abc import Mapping
from enum import Enum, auto

from openami.profile.life import Life, Move, Party


class CommandState(Enum):
    """Where a command stands."""

    ISSUED = auto()
    ACCEPTED = auto()
    EXECUTING = auto()
    CONFIRMED = auto()
    REFUSED = auto()
    FAILED = auto()
    EXPIRED = auto()
    UNKNOWN = auto()


class CommandEvent(Enum):
    """What can happen to a command."""

    ACCEPT = auto()
    REFUSE = auto()
    INTENT_COMMITTED = auto()
    READ_BACK_AGREES = auto()
    READ_BACK_DIFFERS = auto()
    NO_READ_BACK = auto()
    NOT_AFTER_PASSED = auto()
    WITHDRAW = auto()
    """The head-end's own rules, or a person, stop it before it was sent."""
    NO_REPORT = auto()
    """It was sent, its time and the time for a report passed, and what became of it is not known."""


_MOVES: Mapping[CommandState, Mapping[CommandEvent, Move[CommandState]]] = {
    CommandState.ISSUED: {
        CommandEvent.ACCEPT: Move(CommandState.ACCEPTED, by=Party.GATEWAY),
        CommandEvent.REFUSE: Move(CommandState.REFUSED, by=Party.GATEWAY),
        CommandEvent.NOT_AFTER_PASSED: Move(CommandState.EXPIRED, by=Party.TIME),
        CommandEvent.WITHDRAW: Move(CommandState.REFUSED, by=Party.HEAD_END),
        CommandEvent.NO_REPORT: Move(CommandState.UNKNOWN, by=Party.TIME),
    },
    CommandState.ACCEPTED: {
        CommandEvent.INTENT_COMMITTED: Move(CommandState.EXECUTING, by=Party.GATEWAY),
        CommandEvent.NOT_AFTER_PASSED: Move(CommandState.EXPIRED, by=Party.TIME),
        CommandEvent.NO_REPORT: Move(CommandState.UNKNOWN, by=Party.TIME),
    },
    CommandState.EXECUTING: {
        CommandEvent.READ_BACK_AGREES: Move(CommandState.CONFIRMED, by=Party.GATEWAY),
        CommandEvent.READ_BACK_DIFFERS: Move(CommandState.FAILED, by=Party.GATEWAY),
        CommandEvent.NO_READ_BACK: Move(CommandState.UNKNOWN, by=Party.GATEWAY),
        CommandEvent.NO_REPORT: Move(CommandState.UNKNOWN, by=Party.TIME),
    },
    CommandState.CONFIRMED: {},
    CommandState.REFUSED: {},
    CommandState.FAILED: {},
    CommandState.EXPIRED: {},
    CommandState.UNKNOWN: {},
}

COMMAND_LIFE = Life(start=CommandState.ISSUED, moves=_MOVES)
