"""What one decision writes, each in one transaction, on the thread that owns the database.

The facts of a command come from memory and from the journal; here they meet, are judged, and what was permitted is
written down before anybody acts on it.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime

from openami.gateway import journal
from openami.gateway.handshake import (
    PublishAct,
    Refused,
    Step,
    StoreEnd,
    StoreKeyring,
    StoreSession,
)
from openami.gateway.journal import Intent
from openami.sip.actions import ACTIONS, Direction
from openami.sip.authorise import Claim, GatewayFacts, Permit, Verdict, authorise
from openami.sip.freshness import raised_floor
from openami.sip.keyring import Limits
from openami.sqlite_transaction import transaction


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict on a command, and its stored report where it is a repetition."""

    verdict: Verdict
    report: bytes | None


def judge_and_commit(
    connection: sqlite3.Connection, claim: Claim, facts: GatewayFacts, wait_s: float
) -> Decision:
    """Decide, and commit the intent if it is permitted: one transaction."""
    command = claim.command
    with transaction(connection):
        known = journal.known_of(connection, command)
        facts = journal.completed(facts, command, known)
        verdict = authorise(claim, facts)
        if isinstance(verdict, Permit):
            limits = claim.keyring.limits if facts.session is None else facts.session.limits
            _write_permitted(connection, verdict, facts, limits, wait_s)
    return Decision(verdict, known.report)


def _write_permitted(
    connection: sqlite3.Connection,
    permit: Permit,
    facts: GatewayFacts,
    limits: Limits,
    wait_s: float,
) -> None:
    command, powered_s = permit.command, facts.relay.powered_s
    rule = ACTIONS[command.action]
    journal.write_intent(connection, command)
    if rule.moves_relay:
        journal.write_movement(connection, command.meter_serial, powered_s + wait_s)
    if rule.direction is Direction.UNSAFE:
        filled = facts.relay.budget.at(powered_s, per_hour=limits.disconnects_per_hour)
        journal.write_budget(connection, filled.spent())
    lo = facts.time.lo
    if command.session_id is not None:  # it echoed a nonce; a ticket proves nothing about today
        lo = raised_floor(lo, permit.signed_at, keyring_valid_to=permit.keyring.valid_to)
    journal.write_time(connection, lo, powered_s)


def store_step(connection: sqlite3.Connection, step: Step) -> None:
    """Store what a step of the handshake changes: all of it, or nothing."""
    with transaction(connection):
        for effect in step.effects:
            match effect:
                case StoreKeyring():
                    journal.keep_keyring(connection, effect)
                case StoreSession():
                    journal.keep_session(connection, effect.session)
                case StoreEnd():
                    journal.keep_end(connection, effect)
                case PublishAct() | Refused():
                    pass


def store_time(connection: sqlite3.Connection, lo: datetime, powered_s: float) -> None:
    """Store the floor of time and the powered seconds."""
    with transaction(connection):
        journal.write_time(connection, lo, powered_s)


def finish(
    connection: sqlite3.Connection, report: bytes, *, intent: Intent, powered_s: float
) -> None:
    """Store what became of a command; within the transaction that puts its report into the outbox."""
    journal.write_report(connection, intent.identity, report)
    if ACTIONS[intent.action].moves_relay:
        journal.write_movement(connection, intent.meter, powered_s)


def nothing_else(connection: sqlite3.Connection, payload: bytes) -> None:
    """A report that stands alone."""
