"""From what somebody asks for to a command that can be entered into the ledger, and to the act that is missing.

Pure: whoever asks, on the command line, by a page or through the API, is told the same by the same rules.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from openami.headend.audit import Entry
from openami.headend.commands import TTL_DEFAULT_S, Approval, LedgerCommand, plain
from openami.headend.sessions import LedgerSession
from openami.profile import CommandTopic, FeederId, GatewayId, MeterSerial, ProfileError
from openami.sip.actions import Action
from openami.sip.acts import Act, ActType, read_acts, signed
from openami.sip.canonical import SIGNATURE, Document, read_document
from openami.sip.command import read_command
from openami.sip.compose import command_members, document_of
from openami.sip.errors import SipError
from openami.sip.keyring import COMMAND_TTL_S_MAX
from openami.sip.session_document import Participant, read_session

# Beyond it no gateway would take it: a command lives within one nonce.
VALID_FOR_MAX: Final = timedelta(seconds=COMMAND_TTL_S_MAX)


class OrderFault(Exception):
    """What is asked for is nothing a gateway could read as a command; the message says what of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What somebody asks of a meter."""

    feeder_id: str
    gateway_id: str
    meter_serial: str
    action: Action
    args: Mapping[str, Any]
    reason: str
    valid_for: timedelta = timedelta(seconds=TTL_DEFAULT_S)
    """It never acts later than that."""
    wanted_session: str | None = None
    """In this session and no other."""


def new_command(
    order: Order, *, command_id: str, by: str, idempotency_key: str | None, now: datetime
) -> LedgerCommand:
    """Return the command an order becomes. Raises OrderFault."""
    if not timedelta(0) < order.valid_for <= VALID_FOR_MAX:
        raise OrderFault("a command is valid for more than nothing and an hour at most")
    new = LedgerCommand(
        id=command_id,
        idempotency_key=idempotency_key,
        feeder_id=order.feeder_id,
        gateway_id=order.gateway_id,
        meter_serial=order.meter_serial,
        action=order.action,
        args=order.args,
        requested_by=by,
        reason=order.reason,
        requested_at=now,
        not_after=(now + order.valid_for).replace(microsecond=0),
        wanted_session=order.wanted_session,
        due_at=now,
    )
    _check_sendable(new)
    return new


def _check_sendable(new: LedgerCommand) -> None:
    """Read the command as its gateway would. Raises OrderFault."""
    try:
        topic = CommandTopic(
            FeederId(new.feeder_id), GatewayId(new.gateway_id), MeterSerial(new.meter_serial)
        )
        members = command_members(
            topic,
            new.action,
            session_id="not-signed-yet",
            seq=1,
            nonce="A" * 22,
            ts=new.requested_at,
            not_after=new.not_after,
            args=new.args,
        )
        read_command(document_of(members), topic)
    except SipError as error:
        raise OrderFault(error.detail.removeprefix("command/")) from None
    except ProfileError as error:
        raise OrderFault(str(error)) from None


class ApprovalFault(Exception):
    """An act that cannot be added to a command.

    ``too_early``: it is not signed by the head-end yet; ``unreadable``: this is no act over it. Otherwise it is
    the act of nobody who is waited for.
    """

    def __init__(self, message: str, *, too_early: bool = False, unreadable: bool = False) -> None:
        super().__init__(message)
        self.too_early = too_early
        self.unreadable = unreadable


def approval_of(
    command: LedgerCommand,
    session: LedgerSession | None,
    act_text: str,
    *,
    carried_by: str,
    now: datetime,
) -> tuple[Approval, Entry]:
    """Return a second person's act as it is kept, and what is told of it. Raises ApprovalFault.

    Whether the act verifies is checked by the head-end before it sends, and by the gateway before it acts; here it
    is only asked whose it says it is.
    """
    document, participants = waits_for_approval(command, session)
    act = _read_act(act_text, document)
    participant = participants.get(act.kid)
    if participant is None or participant.role not in command.missing:
        wanted = ", ".join(command.missing) or "nobody"
        raise ApprovalFault(
            f"this key is not whose act is missing: {command.id} waits for {wanted}"
        )
    if command.action not in participant.can:
        raise ApprovalFault(f"{participant.id} has no right to {command.action}")
    approval = Approval(command.id, document.digest, act.kid, act.text, participant.id, now)
    entry = Entry(
        who=participant.id,
        what="command approved",
        why=f"carried in by {carried_by}",
        result=command.state.name.lower(),
        session_id=command.session_id or "",
        command_id=command.id,
        digest=document.digest,
    )
    return approval, entry


def waits_for_approval(
    command: LedgerCommand, session: LedgerSession | None
) -> tuple[Document, Mapping[str, Participant]]:
    """Return the document an act is missing over, and who may act, by key. Raises ApprovalFault."""
    if not command.is_open or command.sent_at is not None:
        raise ApprovalFault(f"{command.id} waits for nobody: {plain(command)}")
    if command.document is None or session is None or session.document is None:
        raise ApprovalFault(f"{command.id} is not signed by the head-end yet", too_early=True)
    participants = read_session(read_document(session.document)).participants
    return read_document(command.document), participants


def _read_act(text: str, document: Document) -> Act:
    """Return the act, if it is one, of the right type. Raises ApprovalFault."""
    unsigned = {name: value for name, value in document.members.items() if name != SIGNATURE}
    try:
        acts = read_acts(document_of(signed(unsigned, [text])))
    except SipError as error:
        raise ApprovalFault(f"this is no act: {error.detail}", unreadable=True) from None
    if len(acts) != 1 or acts[0].type is not ActType.COMMAND:
        raise ApprovalFault("one act of the type sip-command is asked for", unreadable=True)
    return acts[0]
