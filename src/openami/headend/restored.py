"""What a store that was brought back must not believe of itself. Pure.

A backup is older than the world: what was open in it may have been sent, done and reported since. So nothing that
was open acts again. A command may be out, and what became of it is unknown, until its report or the relay itself
tells; a session is closed, so that no number is given twice in it; a bulk disconnection is stopped where it stands.
A person asks anew for what is still wanted (decision 0066).
"""

from dataclasses import replace
from datetime import datetime
from typing import Final

from openami.headend.bulk import Bulk, BulkChange, withdrawn
from openami.headend.commands import Change, LedgerCommand, ended
from openami.headend.sessions import LedgerSession, SessionChange, close_requested
from openami.profile.command import CommandEvent
from openami.profile.life import Party
from openami.sip.actions import Action

RESTORED: Final = "RESTORED"
"""Why a command, a session or a bulk disconnection ended with a restore."""


def command_after(command: LedgerCommand, now: datetime) -> Change | None:
    """Return an open command as ended with its outcome unknown; None for one that has ended.

    A request to send readings again stays open: doing it twice changes nothing.
    """
    if not command.is_open or command.action is Action.RESEND:
        return None
    maybe_out = replace(command, sent_at=command.sent_at or command.requested_at)
    return ended(maybe_out, CommandEvent.NO_REPORT, by=Party.TIME, code=RESTORED, now=now)


def session_after(session: LedgerSession, now: datetime, *, who: str) -> SessionChange | None:
    """Return an open session with its end asked for; None for one that has ended, or is about to."""
    return close_requested(session, now, by=who, code=RESTORED)


def bulk_after(bulk: Bulk, now: datetime, *, who: str) -> BulkChange | None:
    """Return an open bulk disconnection as withdrawn; None for one that has ended."""
    return withdrawn(bulk, who=who, now=now) if bulk.is_open else None
