"""Sessions, commands and audit entries as people and programs read them; times are UTC ``Z``."""

import getpass
import os
from dataclasses import asdict
from datetime import datetime

from openami.cli.rows import Row
from openami.headend.audit import Link
from openami.headend.commands import LedgerCommand, plain
from openami.headend.sessions import LedgerSession
from openami.profile import utc_text


def command_row(command: LedgerCommand) -> Row:
    """One command."""
    return {
        "id": command.id,
        "action": str(command.action),
        "feederId": command.feeder_id,
        "gatewayId": command.gateway_id,
        "meterSerial": command.meter_serial,
        "args": dict(command.args),
        "state": command.state.name.lower(),
        "inWords": plain(command),
        "code": command.code,
        "resolvedAs": None if command.resolved_as is None else command.resolved_as.name.lower(),
        "resolvedBy": command.resolved_by,
        "missing": [str(role) for role in command.missing] if command.is_open else [],
        "requestedBy": command.requested_by,
        "reason": command.reason,
        "idempotencyKey": command.idempotency_key,
        "sessionId": command.session_id,
        "seq": command.seq,
        "digest": command.digest,
        "requestedAt": utc_text(command.requested_at),
        "signedAt": text_of(command.signed_at),
        "sentAt": text_of(command.sent_at),
        "notAfter": utc_text(command.not_after),
        "endedAt": text_of(command.ended_at),
        "resolvedAt": text_of(command.resolved_at),
    }


def session_row(session: LedgerSession) -> Row:
    """One session."""
    return {
        "id": session.id,
        "feederId": session.feeder_id,
        "gatewayId": session.gateway_id,
        "meters": list(session.meters),
        "state": session.state.name.lower(),
        "code": session.code,
        "validFrom": text_of(session.valid_from),
        "validTo": utc_text(session.valid_to),
        "offers": session.offers,
        "offeredAt": text_of(session.offered_at),
        "nonces": session.nonces_heard,
        "nonceAt": text_of(session.nonce_at),
        "renewedBy": session.renewed_by,
        "requestedBy": session.requested_by,
        "reason": session.reason,
        "requestedAt": utc_text(session.requested_at),
        "endedAt": text_of(session.ended_at),
    }


def audit_row(link: Link) -> Row:
    """One entry of the audit log."""
    return {"number": link.number, "at": link.at, **asdict(link.entry), "hash": link.hash}


def text_of(moment: datetime | None) -> str | None:
    """Return a moment's text."""
    return None if moment is None else utc_text(moment)


def who_asks() -> str:
    """Return the name under which this machine knows who runs the command."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as containers have
        return f"uid-{os.getuid()}"
