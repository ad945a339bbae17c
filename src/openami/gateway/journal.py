"""The journal: what the gateway must remember of sessions and commands, in the gateway's one SQLite file.

Functions of the connection, run on the thread that owns it; those that write want a transaction around them, so
that one decision is one commit. The order that keeps every promise: the intent is committed, the contactor moves,
the report is committed. A row that is still ``executing`` when the gateway starts is never carried out again.

Bounded: rows of finished commands, trades and used tickets are kept as long as a repetition could still be told by
them and not by the high-water mark or the end of their time.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from openami.gateway.handshake import SESSIONS_HELD_MAX, StoreEnd, StoreKeyring
from openami.sip.actions import Action
from openami.sip.authorise import Done, GatewayFacts, HeldSession
from openami.sip.canonical import Document, encode_base64url, read_document
from openami.sip.command import Command
from openami.sip.interlocks import Budget
from openami.sip.keyring import DISCONNECTS_PER_HOUR_MAX, Keyring, Roots, admit_keyring
from openami.sip.keys import PublicKey
from openami.sip.session import SessionState
from openami.sip.session_document import limits_in_force, read_session

# Reports that can still be repeated word for word; what is older is refused by its number. A gateway of 500
# meters commanded twice a day fills this in a week, the longest life of a session.
DONE_ROWS_MAX: Final = 8_000
# Settlements: some dozens a day between neighbours, for years.
TRADES_MAX: Final = 100_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Cut down to the limits' hour when it is used.
FULL_BUDGET: Final = Budget(float(DISCONNECTS_PER_HOUR_MAX), 0.0)


@dataclass(frozen=True, slots=True)
class Recalled:
    """What the journal holds when the gateway starts."""

    roots: Roots
    keyring: Keyring | None
    keyring_document: Document | None
    sessions: Mapping[str, HeldSession]
    ended: Mapping[str, SessionState]
    lo: datetime
    powered_s: float
    executing: tuple["Intent", ...]


@dataclass(frozen=True, slots=True)
class Intent:
    """A command that is about to run, or was when the power went."""

    identity: str
    session_id: str | None
    seq: int | None
    ticket: str | None
    meter: str
    action: Action
    digest: str
    not_after: datetime

    @classmethod
    def of(cls, command: Command) -> "Intent":
        """Return what is written down of a command before it runs."""
        return cls(
            identity=identity_of(command),
            session_id=command.session_id,
            seq=command.seq,
            ticket=command.ticket,
            meter=command.meter_serial,
            action=command.action,
            digest=command.document.digest,
            not_after=command.not_after,
        )


@dataclass(frozen=True, slots=True)
class Known:
    """What the journal knows about one command."""

    done: Done | None
    report: bytes | None
    """The report of the row ``done``; None while it is executing."""
    high_water: int
    trade_done: bool
    ticket_used: bool
    budget: Budget
    last_moved_powered_s: float | None


def identity_of(command: Command) -> str:
    """Return a command's identity: what makes two deliveries the same command."""
    if command.ticket is not None:
        return f"ticket/{command.ticket}"
    return f"{command.session_id}/{command.meter_serial}/{command.seq}"


# --- keyring and sessions ------------------------------------------------------------------------


def recall(
    connection: sqlite3.Connection, *, pinned: Roots, feeder_id: str, gateway_id: str
) -> Recalled:
    """Return what was known when the gateway last ran; ``pinned`` are the roots where no keyring changed them.

    Raises SipError when the file holds what this program would not have stored.
    """
    keyring, keyring_document = _recall_keyring(connection, feeder_id, gateway_id)
    sessions: dict[str, HeldSession] = {}
    ended: dict[str, SessionState] = {}
    for session_id, state, document in connection.execute(
        "SELECT session_id, state, document FROM command_session ORDER BY number"
    ):
        if state != "active":
            ended[session_id] = SessionState[state.upper()]
        elif keyring is not None:
            session = read_session(read_document(document))
            limits = limits_in_force(session, keyring)
            sessions[session_id] = HeldSession(session, SessionState.ACTIVE, limits, nonces=None)
    assert len(sessions) <= SESSIONS_HELD_MAX
    lo_s, powered_s = connection.execute("SELECT lo_s, powered_s FROM command_time").fetchone()
    executing = connection.execute(
        f"{_SELECT_INTENT} WHERE state = 'executing' ORDER BY number"
    ).fetchall()
    return Recalled(
        roots=pinned if keyring is None else keyring.roots,
        keyring=keyring,
        keyring_document=keyring_document,
        sessions=sessions,
        ended=ended,
        lo=_moment(lo_s),
        powered_s=powered_s,
        executing=tuple(_intent(row) for row in executing),
    )


def _recall_keyring(
    connection: sqlite3.Connection, feeder_id: str, gateway_id: str
) -> tuple[Keyring, Document] | tuple[None, None]:
    row = connection.execute(
        "SELECT version, document, admitted_by FROM command_keyring"
    ).fetchone()
    if row is None:
        return None, None
    version, payload, admitted_by = row
    document = read_document(payload)
    keyring = admit_keyring(
        document,
        roots=_roots(admitted_by),
        in_force=version - 1,
        feeder_id=feeder_id,
        gateway_id=gateway_id,
    )
    return keyring, document


def keep_keyring(connection: sqlite3.Connection, effect: StoreKeyring) -> None:
    """Put a keyring in force."""
    connection.execute(
        "INSERT INTO command_keyring VALUES (1, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
        " version = excluded.version, document = excluded.document,"
        " admitted_by = excluded.admitted_by",
        (effect.keyring.version, _bytes_of(effect.document), _roots_text(effect.admitted_by)),
    )
    # Its signing refuses the tickets that ended before, so nobody need remember that they were used.
    connection.execute(
        "DELETE FROM command_done WHERE ticket IS NOT NULL AND state = 'done' AND not_after_s < ?",
        (effect.keyring.signed_at,),
    )


def keep_session(connection: sqlite3.Connection, session: HeldSession) -> None:
    """Keep a session that became active."""
    connection.execute(
        "INSERT INTO command_session (session_id, state, document) VALUES (?, 'active', ?)",
        (session.document.session_id, _bytes_of(session.document.document)),
    )


def keep_end(connection: sqlite3.Connection, effect: StoreEnd) -> None:
    """Remember that a session is over, and forget the oldest that are."""
    connection.execute("DELETE FROM command_session WHERE session_id = ?", (effect.session_id,))
    connection.execute(
        "INSERT INTO command_session (session_id, state) VALUES (?, ?)",
        (effect.session_id, effect.state.name.lower()),
    )
    for session_id in effect.forgotten:
        connection.execute("DELETE FROM command_session WHERE session_id = ?", (session_id,))
        connection.execute("DELETE FROM command_high_water WHERE session_id = ?", (session_id,))
        connection.execute(
            "DELETE FROM command_done WHERE session_id = ? AND state = 'done'", (session_id,)
        )


# --- commands ------------------------------------------------------------------------------------


def known_of(connection: sqlite3.Connection, command: Command) -> Known:
    """Return what is known about a command."""
    row = connection.execute(
        "SELECT digest, report FROM command_done WHERE identity = ?", (identity_of(command),)
    ).fetchone()
    mark = connection.execute(
        "SELECT seq FROM command_high_water WHERE session_id = ? AND meter = ?",
        (command.session_id, command.meter_serial),
    ).fetchone()
    trade = connection.execute(
        "SELECT 1 FROM command_trade WHERE trade_id = ?", (command.args.get("tradeId"),)
    ).fetchone()
    moved = connection.execute(
        "SELECT powered_s FROM command_movement WHERE meter = ?", (command.meter_serial,)
    ).fetchone()
    tokens, tokens_at_s = connection.execute(
        "SELECT tokens, tokens_powered_s FROM command_time"
    ).fetchone()
    return Known(
        done=None if row is None else Done(row[0]),
        report=None if row is None else row[1],
        high_water=0 if mark is None else mark[0],
        trade_done=trade is not None,
        ticket_used=command.ticket is not None and row is not None,
        budget=FULL_BUDGET if tokens is None else Budget(tokens, tokens_at_s),
        last_moved_powered_s=None if moved is None else moved[0],
    )


def completed(facts: GatewayFacts, command: Command, known: Known) -> GatewayFacts:
    """Return the facts of a decision with what the journal knows."""
    trade, ticket = command.args.get("tradeId"), command.ticket
    return replace(
        facts,
        done=known.done,
        high_water=known.high_water,
        trades_done=frozenset({str(trade)} if known.trade_done else ()),
        tickets_used=frozenset({ticket} if known.ticket_used and ticket is not None else ()),
        relay=replace(
            facts.relay,
            budget=known.budget,
            last_moved_powered_s=known.last_moved_powered_s,
        ),
    )


def write_intent(connection: sqlite3.Connection, command: Command) -> None:
    """Write down that a command is about to run; its number is used up, whatever comes of it."""
    intent = Intent.of(command)
    connection.execute(
        "INSERT INTO command_done (identity, session_id, seq, ticket, meter, action, digest,"
        " not_after_s, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'executing')",
        (
            *(intent.identity, intent.session_id, intent.seq, intent.ticket, intent.meter),
            *(intent.action.value, intent.digest, _seconds(intent.not_after)),
        ),
    )
    if command.session_id is not None:
        connection.execute(
            "INSERT INTO command_high_water VALUES (?, ?, ?)"
            " ON CONFLICT (session_id, meter) DO UPDATE SET seq = excluded.seq",
            (command.session_id, command.meter_serial, command.seq),
        )
    if command.action is Action.SETTLE:
        connection.execute(
            "INSERT INTO command_trade (trade_id) VALUES (?)", (command.args["tradeId"],)
        )
    _forget_old(connection)


def write_budget(connection: sqlite3.Connection, budget: Budget) -> None:
    """Store the bucket of disconnects."""
    connection.execute(
        "UPDATE command_time SET tokens = ?, tokens_powered_s = ?",
        (budget.tokens, budget.powered_s),
    )


def write_movement(connection: sqlite3.Connection, meter: str, powered_s: float) -> None:
    """Store when a meter's relay was ordered to move."""
    connection.execute(
        "INSERT INTO command_movement VALUES (?, ?)"
        " ON CONFLICT (meter) DO UPDATE SET powered_s = max(powered_s, excluded.powered_s)",
        (meter, powered_s),
    )


def write_time(connection: sqlite3.Connection, lo: datetime, powered_s: float) -> None:
    """Store the floor of time and the powered seconds; neither ever goes back."""
    connection.execute(
        "UPDATE command_time SET lo_s = max(lo_s, ?), powered_s = max(powered_s, ?)",
        (_seconds(lo), powered_s),
    )


def write_report(connection: sqlite3.Connection, identity: str, report: bytes) -> None:
    """Store what became of a command; from now on a repetition is answered with it."""
    connection.execute(
        "UPDATE command_done SET state = 'done', report = ? WHERE identity = ?", (report, identity)
    )


def _forget_old(connection: sqlite3.Connection) -> None:
    """Keep the bounds. Tickets stay until a keyring refuses them by its date: no mark would."""
    connection.execute(
        "DELETE FROM command_done WHERE state = 'done' AND ticket IS NULL AND number <="
        " (SELECT max(number) FROM command_done) - ?",
        (DONE_ROWS_MAX,),
    )
    connection.execute(
        "DELETE FROM command_trade WHERE number <= (SELECT max(number) FROM command_trade) - ?",
        (TRADES_MAX,),
    )


_SELECT_INTENT = (
    "SELECT identity, session_id, seq, ticket, meter, action, digest, not_after_s FROM command_done"
)


def _intent(row: Sequence[object]) -> Intent:
    identity, session_id, seq, ticket, meter, action, digest, not_after_s = row
    assert isinstance(identity, str)
    assert isinstance(session_id, str | None)
    assert isinstance(seq, int | None)
    assert isinstance(ticket, str | None)
    assert isinstance(meter, str)
    assert isinstance(action, str)
    assert isinstance(digest, str)
    assert isinstance(not_after_s, int)
    return Intent(
        identity, session_id, seq, ticket, meter, Action(action), digest, _moment(not_after_s)
    )


def _roots_text(roots: Roots) -> str:
    keys = [encode_base64url(key.raw) for key in roots.keys.values()]
    return json.dumps({"threshold": roots.threshold, "keys": keys})


def _roots(text: str) -> Roots:
    members = json.loads(text)
    keys = [PublicKey.parse(key) for key in members["keys"]]
    return Roots(members["threshold"], {key.kid: key for key in keys})


def _bytes_of(document: Document) -> bytes:
    return json.dumps(
        document.members, separators=(",", ":"), sort_keys=True, ensure_ascii=False
    ).encode()


def _seconds(moment: datetime) -> int:
    return int((moment - _EPOCH).total_seconds())


def _moment(seconds: int) -> datetime:
    return _EPOCH + timedelta(seconds=seconds)
