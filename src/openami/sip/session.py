"""A session's life, as a table.

For every state the table names the one party that may move it on; time is a party too. What a session
document holds, and who may sign it, stands with the acts; this file says only what can follow what.

    OFFERED ── accept ──▶ ACTIVE ── validTo passed ──▶ EXPIRED
       │                     └───── close, revoke ───▶ REVOKED
       ├────── reject ──▶ REJECTED
       └────── no answer, validTo passed ───────────▶ EXPIRED

(decision 0021; profile v0.1, ``sip.sessionHandshake``)
"""

from collections.abc import Mapping
from enum import Enum, auto

from openami.profile.life import Life, Move, Party


class SessionState(Enum):
    """Where a session stands."""

    OFFERED = auto()
    ACTIVE = auto()
    REJECTED = auto()
    EXPIRED = auto()
    REVOKED = auto()


class SessionEvent(Enum):
    """What can happen to a session."""

    ACCEPT = auto()
    REJECT = auto()
    CLOSE = auto()
    VALID_TO_PASSED = auto()


_MOVES: Mapping[SessionState, Mapping[SessionEvent, Move[SessionState]]] = {
    SessionState.OFFERED: {
        SessionEvent.ACCEPT: Move(SessionState.ACTIVE, by=Party.GATEWAY),
        SessionEvent.REJECT: Move(SessionState.REJECTED, by=Party.GATEWAY),
        SessionEvent.CLOSE: Move(SessionState.REVOKED, by=Party.HEAD_END),
        SessionEvent.VALID_TO_PASSED: Move(SessionState.EXPIRED, by=Party.TIME),
    },
    SessionState.ACTIVE: {
        SessionEvent.CLOSE: Move(SessionState.REVOKED, by=Party.HEAD_END),
        SessionEvent.VALID_TO_PASSED: Move(SessionState.EXPIRED, by=Party.TIME),
    },
    SessionState.REJECTED: {},
    SessionState.EXPIRED: {},
    SessionState.REVOKED: {},
}

SESSION_LIFE = Life(start=SessionState.OFFERED, moves=_MOVES)
