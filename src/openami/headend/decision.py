"""One decision on a command or a session, made within the store's transaction (pure).

What is decided is signed on the spot, so that document and decision are committed together. The caller publishes
what `publish` says once they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from openami.headend.commands import (
    Approval,
    Change,
    CommandFacts,
    End,
    LedgerCommand,
    OpenSession,
    Reconcile,
    Send,
    Sign,
    Step,
    Wait,
    ended,
    next_step,
    rested,
    sent,
    signed,
)
from openami.headend.keyrings import InForce
from openami.headend.sessions import (
    HEAD_END,
    OFFER_ANSWER_S,
    Close,
    Expire,
    LedgerSession,
    Offer,
    Renew,
    Republish,
    Rest,
    SessionChange,
    closed,
    expired,
    next_session_step,
    offer_document,
    offered,
    renewed,
    usable_session,
)
from openami.headend.store.commands import Around
from openami.profile import (
    CommandTopic,
    FeederId,
    GatewayId,
    MeterSerial,
    SessionId,
    SessionTopic,
)
from openami.sip.actions import Role
from openami.sip.acts import ActType, verified_acts
from openami.sip.acts import signed as with_acts
from openami.sip.canonical import SIGNATURE, read_document
from openami.sip.compose import command_members, document_of, printed, sign
from openami.sip.errors import SipError
from openami.sip.keyring import Keyring
from openami.sip.keys import Signer
from openami.sip.session_document import read_session


@dataclass(frozen=True, slots=True)
class Signatory:
    """Who signs for this head-end, and within which threshold."""

    signer: Signer
    new_id: Callable[[str], str]
    """Makes an id nobody has: a prefix and something random."""
    disconnects_max: int
    """So many within BUDGET_WINDOW."""

    def new_session_id(self) -> str:
        """Return an id for a session."""
        return self.new_id("sip")

    def facts_of(
        self, command: LedgerCommand, around: Around, found: InForce | None, now: datetime
    ) -> CommandFacts:
        """Gather what the next step depends on."""
        keyring = None if found is None else found.keyring
        return CommandFacts(
            keyring=keyring,
            own_kid=self.signer.kid,
            session=usable_session(
                around.sessions,
                meter_serial=command.meter_serial,
                wanted=command.wanted_session,
                now=now,
            ),
            approved_by=frozenset(
                role for role, _ in _verified_approvals(command, around.approvals, keyring)
            ),
            disconnects_in_window=around.disconnects,
            disconnects_max=self.disconnects_max,
        )

    def sign_command(self, command: LedgerCommand, step: Sign, seq: int, now: datetime) -> Change:
        """Sign a command in its session."""
        assert step.session.nonce is not None
        members = command_members(
            command_topic(command),
            command.action,
            session_id=step.session.id,
            seq=seq,
            nonce=step.session.nonce,
            ts=now,
            not_after=step.not_after,
            args=command.args,
        )
        whole = sign(members, self.signer, ActType.COMMAND, iat=int(now.timestamp()))
        return signed(
            command,
            step,
            seq=seq,
            digest=document_of(whole).digest,
            document=printed(whole),
            now=now,
        )

    def compose_offer(self, session: LedgerSession, found: InForce, now: datetime) -> SessionChange:
        """Sign a session's offer, or take the one that was signed before."""
        payload = session.document
        if payload is None:
            payload = printed(offer_document(session, found.keyring, self.signer, now))
        offer = read_session(read_document(payload))
        return offered(
            session,
            now,
            document=payload,
            digest=offer.document.digest,
            valid_from=offer.valid_from,
            valid_to=offer.valid_to,
        )

    def compose_close(self, session: LedgerSession, now: datetime) -> SessionChange:
        """Sign a session's end; one that was never offered just ends."""
        if session.document is None:
            change = closed(session, now, document=b"", by=HEAD_END)
            return replace(change, session=replace(change.session, document=None, due_at=None))
        members = read_document(session.document).members
        whole = sign(
            members,
            self.signer,
            ActType.CLOSE,
            iat=int(now.timestamp()),
            reason="CLOSED",
        )
        return closed(session, now, document=printed(whole), by=HEAD_END)


class CommandDecision:
    """One decision on a command, and what is to be published when it is committed."""

    def __init__(
        self, signatory: Signatory, found: InForce | None, now: datetime, *, online: bool
    ) -> None:
        self.now = now
        self.step: Step | None = None
        self.publish = False
        self._signatory = signatory
        self._found = found
        self._online = online

    def decide(self, command: LedgerCommand, around: Around) -> Change | None:
        """Decide within the transaction."""
        facts = self._signatory.facts_of(command, around, self._found, self.now)
        step = self.step = next_step(command, facts, self.now)
        if isinstance(step, Sign | Send) and not self._online:
            # Noted as sent it could never be EXPIRED, only UNKNOWN. Joining the broker wakes it.
            return Change(rested(command, command.not_after))
        match step:
            case Sign(session):
                change = self._signatory.sign_command(
                    command, step, around.seqs.get(session.id, 0) + 1, self.now
                )
                self.publish = change.command.sent_at is not None
                return change
            case Send():
                self.publish = True
                keyring = None if self._found is None else self._found.keyring
                return sent(command, self.now, _with_approvals(command, around.approvals, keyring))
            case End(event, by, code):
                return ended(command, event, by=by, code=code, now=self.now)
            case Wait(until) | OpenSession(until):
                return Change(rested(command, until))
            case Reconcile():
                return None


class SessionDecision:
    """One decision on a session, and what is to be published when it is committed."""

    def __init__(self, signatory: Signatory, found: InForce | None, now: datetime) -> None:
        self.now = now
        self.publish = False
        self.then_rests = False
        self._signatory = signatory
        self._found = found

    def decide(self, session: LedgerSession, _: frozenset[str]) -> SessionChange | None:
        """Decide within the transaction."""
        match next_session_step(session, self.now):
            case Offer():
                if self._found is None:
                    # Nothing to offer on; a keyring that comes lets somebody ask again.
                    later = self.now + timedelta(seconds=OFFER_ANSWER_S)
                    return SessionChange(replace(session, due_at=min(later, session.valid_to)))
                self.publish = True
                return self._signatory.compose_offer(session, self._found, self.now)
            case Close():
                self.publish = self.then_rests = True
                return self._signatory.compose_close(session, self.now)
            case Republish():
                self.publish = self.then_rests = True
                return None
            case Renew():
                return renewed(session, self._signatory.new_session_id(), self.now)
            case Expire():
                return expired(session, self.now)
            case Rest(until):
                return SessionChange(replace(session, due_at=until))


def _verified_approvals(
    command: LedgerCommand, approvals: Sequence[Approval], keyring: Keyring | None
) -> list[tuple[Role, str]]:
    """Return whose acts over the document in hand hold, each judged by itself: (role, act)."""
    if keyring is None or command.document is None:
        return []
    members = read_document(command.document).members
    unsigned = {name: value for name, value in members.items() if name != SIGNATURE}
    found: list[tuple[Role, str]] = []
    for approval in approvals:
        try:
            document = read_document(printed(with_acts(unsigned, [approval.act])))
            [act] = verified_acts(document, keyring.keys)
        except SipError:
            continue
        identity = keyring.identities.get(act.kid)
        if (
            identity is not None
            and act.type is ActType.COMMAND
            and document.digest == command.digest
            and command.action in identity.can
            and identity.role is not Role.HES
        ):
            found.append((identity.role, approval.act))
    return found


def _with_approvals(
    command: LedgerCommand, approvals: Sequence[Approval], keyring: Keyring | None
) -> bytes | None:
    """Return the document with everybody's acts; None when there are none to add."""
    acts = [act for _, act in _verified_approvals(command, approvals, keyring)]
    if command.document is None or command.sent_at is not None or not acts:
        return None
    members = read_document(command.document).members
    return printed({**members, SIGNATURE: " ".join([str(members[SIGNATURE]), *acts])})


def command_topic(command: LedgerCommand) -> CommandTopic:
    """Return where a command is published: its meter's gateway listens there."""
    return CommandTopic(
        FeederId(command.feeder_id),
        GatewayId(command.gateway_id),
        MeterSerial(command.meter_serial),
    )


def session_topic(session: LedgerSession) -> SessionTopic:
    """Return where a session's documents are published, by either side."""
    return SessionTopic(
        FeederId(session.feeder_id), GatewayId(session.gateway_id), SessionId(session.id)
    )
