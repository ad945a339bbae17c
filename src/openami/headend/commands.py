"""The command ledger's decisions: every request ends in exactly one terminal state, and at most one act.

Pure: a command, the facts around it and ``now`` in, the command as it is afterwards out; the store carries a
decision out in one transaction together with its audit entry. States move by the table of ``profile/command.py``
alone, so that nothing leaves a terminal state. What is learnt later is written beside it (``resolved_as``).

    requested ─▶ signed ─▶ (approved by all who have to) ─▶ sent ─▶ reported
                    ▲                                        │
                    └── refused as stale: signed again, with the gateway's fresh nonce

Until it is sent, a command is ours: it can be withdrawn, and when its time passes nothing has happened. From the
commit that precedes its first publication on, only the gateway knows: its report ends it, and where none comes,
what became of it is UNKNOWN. A command that the gateway refused as stale is ours again.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from openami.headend.audit import Entry
from openami.headend.sessions import HEAD_END, LedgerSession
from openami.profile.command import COMMAND_LIFE, CommandEvent, CommandState
from openami.profile.life import Party
from openami.sip.actions import ACTIONS, RELAY_STATE_OBIS, Action, Direction, Role, quorum_of
from openami.sip.errors import SipCode
from openami.sip.keyring import Keyring
from openami.sip.reports import Report, ReportStatus

# A report that left the gateway in time is here within a minute, and clocks may differ by as much
# (sip.freshness.CLOCK_SLACK): only then is "no report" a statement.
REPORT_GRACE_S: Final = 60
# Refused as stale more than so often in one command's life, something answers that is not honest.
STALE_SIGNINGS_MAX: Final = 4
BUDGET_WINDOW: Final = timedelta(hours=1)
# A session comes within a second where the gateway is there; what changes it wakes its commands anyway.
SESSION_LOOK_S: Final = 30
# Telemetry of the relay comes at least hourly (register list): a minute is soon enough to look at first, later a
# tenth of the time that has passed since, up to an hour. Each look is a durable write.
RECONCILE_FIRST_S: Final = 60
RECONCILE_S_MAX: Final = 3600
# An outbox holds weeks: a report, or a reading, that has not come by then is for a person to look into.
RECONCILE_DAYS: Final = 40
# What telemetry can neither confirm nor deny.
_OF_MONEY: Final = frozenset({Action.SETTLE, Action.CREDIT_TOKEN})
TTL_DEFAULT_S: Final = 300  # five minutes: a village radio link's bad moment


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerCommand:
    """A command as the head-end's store has it."""

    id: str
    idempotency_key: str | None = None
    feeder_id: str
    gateway_id: str
    meter_serial: str
    action: Action
    args: Mapping[str, Any] = field(default_factory=dict)
    requested_by: str
    reason: str
    requested_at: datetime
    not_after: datetime
    wanted_session: str | None = None
    state: CommandState = CommandState.ISSUED
    # What was signed last, and None before.
    session_id: str | None = None
    seq: int | None = None
    nonce: str | None = None
    digest: str | None = None
    document: bytes | None = None
    signed_at: datetime | None = None
    signings: int = 0
    missing: tuple[Role, ...] = ()
    """Who has to approve before it can be sent."""
    sent_at: datetime | None = None
    """From here on it may be out; None for one that certainly is not."""
    stale_nonce: str | None = None
    """The nonce with which the gateway refused it as stale."""
    # How it ended, and what was learnt after that.
    ended_at: datetime | None = None
    code: str | None = None
    report: bytes | None = None
    resolved_as: CommandState | None = None
    resolved_by: str | None = None
    resolved_at: datetime | None = None
    due_at: datetime | None = None
    """When the head-end has to look at it next."""

    @property
    def is_open(self) -> bool:
        """Whether it may still move."""
        return not COMMAND_LIFE.is_terminal(self.state)

    @property
    def trade_id(self) -> str | None:
        """The trade a settlement is about."""
        value = self.args.get("tradeId") if self.action is Action.SETTLE else None
        return value if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class Change:
    """A command after a decision, and what is told of it."""

    command: LedgerCommand
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class Approval:
    """An act by somebody else over a command's document."""

    command_id: str
    digest: str
    kid: str
    act: str
    who: str
    at: datetime


# --- requests ------------------------------------------------------------------------------------


class RequestFault(StrEnum):
    """Why a request does not enter the ledger."""

    KEY_REUSED = "KEY_REUSED"
    ALREADY_OPEN = "ALREADY_OPEN"
    TRADE_OPEN = "TRADE_OPEN"
    PROTECTED = "PROTECTED"


@dataclass(frozen=True, slots=True)
class RequestRefused:
    """A request that does not enter the ledger."""

    fault: RequestFault
    detail: str


@dataclass(frozen=True, slots=True)
class Requested:
    """The command that stands for a request: a new one, or the one its idempotency key already made."""

    command: LedgerCommand
    is_new: bool


RequestVerdict = Requested | RequestRefused


def judge_request(
    new: LedgerCommand,
    *,
    same_key: LedgerCommand | None,
    on_meter: Sequence[LedgerCommand],
    same_trade: Sequence[LedgerCommand],
    protected: bool = False,
    engineer: bool = False,
) -> RequestVerdict:
    """Decide on a request. ``on_meter`` are the meter's open commands, ``same_trade`` all of its trade.

    ``protected``: the meter is a critical customer's; ``engineer``: whether an engineer asks.
    """
    if same_key is not None:
        if _request_of(same_key) == _request_of(new):
            return Requested(same_key, is_new=False)
        return RequestRefused(
            RequestFault.KEY_REUSED,
            f"the idempotency key {new.idempotency_key} was another request's: {same_key.id}",
        )
    if ACTIONS[new.action].direction is Direction.UNSAFE:
        if protected and not (engineer and new.reason.strip()):
            return RequestRefused(
                RequestFault.PROTECTED,
                f"{new.meter_serial} is protected: only an engineer may ask for it, and has to say why",
            )
        for other in on_meter:
            if other.action is new.action:
                return RequestRefused(
                    RequestFault.ALREADY_OPEN,
                    f"{other.id} already asks for it, and has not ended",
                )
    for other in same_trade:
        if _may_be_settled(other):
            return RequestRefused(
                RequestFault.TRADE_OPEN,
                f"trade {new.trade_id} was asked for in {other.id}, which is "
                f"{other.state.name.lower()}: it is not signed twice",
            )
    return Requested(new, is_new=True)


def _request_of(command: LedgerCommand) -> tuple[object, ...]:
    return (
        command.feeder_id,
        command.gateway_id,
        command.meter_serial,
        command.action,
        dict(command.args),
    )


def _may_be_settled(command: LedgerCommand) -> bool:
    """Whether a trade is, may be, or may come to be settled by a command."""
    outcome = command.resolved_as or command.state
    return command.is_open or outcome in (CommandState.CONFIRMED, CommandState.UNKNOWN)


def requested_entry(command: LedgerCommand) -> Entry:
    """Return what the audit log says of a new request."""
    return _entry(command, f"{command.action} requested", command.reason, who=command.requested_by)


def refused_request_entry(new: LedgerCommand, refused: RequestRefused) -> Entry:
    """Return what the audit log says of a request that was turned away."""
    return Entry(
        who=new.requested_by,
        what=f"{new.action} requested for {new.meter_serial}",
        why=new.reason,
        result=f"refused: {refused.fault}",
    )


# --- what to do next -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandFacts:
    """What the next step depends on besides the command."""

    keyring: Keyring | None
    own_kid: str
    session: LedgerSession | None
    """The session to sign in, if there is one that can be used."""
    approved_by: AbstractSet[Role] = frozenset()
    """Whose acts over the document in hand verify, besides our own."""
    disconnects_in_window: int = 0
    disconnects_max: int
    """The head-end's own threshold: so many within BUDGET_WINDOW."""


@dataclass(frozen=True, slots=True)
class Sign:
    """Sign it in this session, until then."""

    session: LedgerSession
    not_after: datetime
    needed: frozenset[Role]
    """Who has to approve it besides us."""


@dataclass(frozen=True, slots=True)
class Send:
    """Note that it may be out, then publish it; the same bytes every time."""


@dataclass(frozen=True, slots=True)
class OpenSession:
    """It needs a session; look again at ``until``."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again at ``until``; None: never."""

    until: datetime | None


@dataclass(frozen=True, slots=True)
class End:
    """It ends here."""

    event: CommandEvent
    by: Party
    code: str


@dataclass(frozen=True, slots=True)
class Reconcile:
    """It ended unknown: ask what telemetry says."""


Step = Sign | Send | OpenSession | Wait | End | Reconcile


def next_step(command: LedgerCommand, facts: CommandFacts, now: datetime) -> Step:
    """Return what the head-end has to do for a command now."""
    if not command.is_open:
        return _after_its_end(command, now)
    if command.sent_at is not None:
        gives_up = command.not_after + timedelta(seconds=REPORT_GRACE_S)
        if now >= gives_up:
            return End(CommandEvent.NO_REPORT, Party.TIME, "NO_REPORT")
        return Send() if now < command.not_after else Wait(gives_up)
    if _whole_second(now) >= command.not_after:
        return End(CommandEvent.NOT_AFTER_PASSED, Party.TIME, SipCode.EXPIRED)
    refusal = _own_refusal(command, facts)
    if refusal is not None:
        return End(CommandEvent.WITHDRAW, Party.HEAD_END, refusal)
    session = facts.session
    if session is None:
        return OpenSession(_look_again(command, now))
    if session.nonce == command.stale_nonce:
        return Wait(_look_again(command, now))  # its accept with a fresh one is on its way
    if command.document is not None and _is_fresh(command, session):
        missing = set(command.missing) - facts.approved_by
        return Wait(command.not_after) if missing else Send()
    return _sign(command, facts, session, now)


def _sign(
    command: LedgerCommand, facts: CommandFacts, session: LedgerSession, now: datetime
) -> Step:
    assert facts.keyring is not None
    if command.stale_nonce is not None and command.signings >= STALE_SIGNINGS_MAX:
        return End(CommandEvent.WITHDRAW, Party.HEAD_END, SipCode.STALE_NONCE)
    if (
        command.action is Action.DISCONNECT
        and command.signings == 0
        and facts.disconnects_in_window >= facts.disconnects_max
    ):
        return End(CommandEvent.WITHDRAW, Party.HEAD_END, SipCode.RATE_LIMIT)
    protected = command.meter_serial in facts.keyring.protected
    needed = quorum_of(command.action, protected=protected) - {Role.HES}
    life = timedelta(seconds=facts.keyring.limits.command_ttl_s)
    return Sign(session, min(command.not_after, _whole_second(now) + life), needed)


def _is_fresh(command: LedgerCommand, session: LedgerSession) -> bool:
    return (command.session_id, command.nonce) == (session.id, session.nonce)


def _own_refusal(command: LedgerCommand, facts: CommandFacts) -> str | None:
    """Return the code by which the gateway would refuse it for certain: then it is not sent at all."""
    if facts.keyring is None:
        return SipCode.NO_KEYRING
    if not facts.keyring.covers_meter(command.meter_serial):
        return SipCode.OUT_OF_SCOPE
    own = facts.keyring.identities.get(facts.own_kid)
    if own is None:
        return SipCode.UNKNOWN_KEY
    return None if command.action in own.can else SipCode.NOT_ALLOWED


def _look_again(command: LedgerCommand, now: datetime) -> datetime:
    return min(command.not_after, now + timedelta(seconds=SESSION_LOOK_S))


def _after_its_end(command: LedgerCommand, now: datetime) -> Step:
    if not is_unresolved(command):
        return Wait(None)
    assert command.ended_at is not None
    given_up = command.ended_at + timedelta(days=RECONCILE_DAYS)
    return Reconcile() if now < given_up else Wait(None)


def reconciled_next(command: LedgerCommand, now: datetime) -> datetime:
    """Return when telemetry is to be asked again what became of a command that ended unknown."""
    assert command.ended_at is not None
    age_s = (now - command.ended_at).total_seconds()
    return now + timedelta(seconds=min(max(age_s / 10, RECONCILE_FIRST_S), RECONCILE_S_MAX))


def _whole_second(now: datetime) -> datetime:
    """Times in documents are whole seconds."""
    return now.replace(microsecond=0)


# --- what the head-end does ----------------------------------------------------------------------


def signed(
    command: LedgerCommand,
    step: Sign,
    *,
    seq: int,
    digest: str,
    document: bytes,
    now: datetime,
) -> Change:
    """Return the command with a document that we signed; unless it waits for others, it is sent next."""
    after = replace(
        command,
        session_id=step.session.id,
        seq=seq,
        nonce=step.session.nonce,
        digest=digest,
        document=document,
        signed_at=now,
        signings=command.signings + 1,
        not_after=step.not_after,
        missing=tuple(sorted(step.needed)),
        stale_nonce=None,
        sent_at=None,
        due_at=now,
    )
    entry = _entry(after, "command signed", f"seq {seq}")
    if step.needed:
        return Change(after, (entry,))
    sending = sent(after, now)
    return Change(sending.command, (entry, *sending.entries))


def sent(command: LedgerCommand, now: datetime, document: bytes | None = None) -> Change:
    """Return the command as one that may be out; ``document`` then has everybody's acts."""
    if command.sent_at is not None:
        return Change(rested(command, command.not_after))
    after = replace(
        command, sent_at=now, document=document or command.document, due_at=command.not_after
    )
    return Change(after, (_entry(after, "command sent"),))


def rested(command: LedgerCommand, until: datetime | None) -> LedgerCommand:
    """Return the command, to be looked at again then."""
    return replace(command, due_at=until)


def ended(
    command: LedgerCommand, event: CommandEvent, *, by: Party, code: str, now: datetime
) -> Change:
    """Return the command in its terminal state. Raises IllegalMove for a move that is not in the table."""
    return _at_end(command, COMMAND_LIFE.after(command.state, event, by=by), code, now)


def withdrawn(command: LedgerCommand, now: datetime, *, who: str) -> Change | None:
    """Return the command withdrawn by a person; None when it may already be out, or has ended."""
    if not command.is_open or command.sent_at is not None:
        return None
    after = ended(
        command, CommandEvent.WITHDRAW, by=Party.HEAD_END, code="WITHDRAWN", now=now
    ).command
    return Change(after, (_entry(after, "command withdrawn", who=who),))


def _at_end(
    command: LedgerCommand,
    state: CommandState,
    code: str,
    now: datetime,
    *,
    report: bytes | None = None,
    who: str = HEAD_END,
) -> Change:
    after = replace(command, state=state, code=code, report=report, ended_at=now, due_at=None)
    if is_unresolved(after):
        after = rested(after, now)
    return Change(after, (_entry(after, "command ended", code, who=who),))


# --- what the head-end hears ---------------------------------------------------------------------

# The gateway's side of the life, told by one report: what happened up to here, in its order.
_TOLD: Final[Mapping[ReportStatus, CommandEvent | None]] = {
    # It was accepted and its intent committed: from here on, time alone cannot say that nothing moved.
    ReportStatus.ACCEPTED: None,
    ReportStatus.DONE: CommandEvent.READ_BACK_AGREES,
    ReportStatus.FAILED: CommandEvent.READ_BACK_DIFFERS,
    ReportStatus.UNKNOWN: CommandEvent.NO_READ_BACK,
    ReportStatus.REFUSED: CommandEvent.REFUSE,
}


def reported(
    command: LedgerCommand, report: Report, *, payload: bytes, now: datetime
) -> Change | None:
    """Return the command after a report that verified, for one of its signings; None: nothing new.

    A refusal counts for the document in hand alone: an older one was signed again, so that its refusals are
    known. Everything else counts for all of them, because it happened.
    """
    is_current = report.command_digest == command.digest
    if report.status is ReportStatus.REFUSED and not is_current:
        return None
    if not command.is_open:
        return _late_report(command, report, now)
    if report.status is ReportStatus.REFUSED and report.code == SipCode.STALE_NONCE:
        return _stale(command, now)
    state = _walked(command.state, _outcome(command, report))
    if state is command.state:
        return None
    if COMMAND_LIFE.is_terminal(state):
        code = _code(command, report)
        return _at_end(command, state, code, now, report=payload, who=command.gateway_id)
    after = replace(command, state=state, report=payload)
    return Change(after, (_entry(after, "command accepted", who=command.gateway_id),))


def _walked(state: CommandState, event: CommandEvent | None) -> CommandState:
    """Walk the table: a report that tells the end has everything before it happened, too."""
    if event is CommandEvent.REFUSE and state is CommandState.ISSUED:
        return COMMAND_LIFE.after(state, event, by=Party.GATEWAY)
    if event is CommandEvent.REFUSE:
        event = CommandEvent.READ_BACK_DIFFERS  # first accepted, then not done
    for passed in (CommandEvent.ACCEPT, CommandEvent.INTENT_COMMITTED):
        if passed in COMMAND_LIFE.moves[state]:
            state = COMMAND_LIFE.after(state, passed, by=Party.GATEWAY)
    return state if event is None else COMMAND_LIFE.after(state, event, by=Party.GATEWAY)


def _outcome(command: LedgerCommand, report: Report) -> CommandEvent | None:
    """Return what a report tells; "done" is believed of a relay only with its position read back."""
    event = _TOLD[report.status]
    if event is not CommandEvent.READ_BACK_AGREES or not ACTIONS[command.action].moves_relay:
        return event
    position = _position(report.registers)
    if position is None:
        return CommandEvent.NO_READ_BACK
    return event if _as_ordered(command.action, position) else CommandEvent.READ_BACK_DIFFERS


def _code(command: LedgerCommand, report: Report) -> str:
    if report.status is ReportStatus.DONE and (
        _outcome(command, report) is not CommandEvent.READ_BACK_AGREES
    ):
        return "READ_BACK"
    return report.code


def _position(registers: Sequence[Mapping[str, Any]]) -> str | None:
    for register in registers:
        if register.get("obis") == RELAY_STATE_OBIS and register.get("quality") == "good":
            value = register.get("value")
            return value if isinstance(value, str) else None
    return None


def _as_ordered(action: Action, position: object) -> bool:
    """Whether a relay is where an action wants it; an armed one may have been closed by the customer."""
    wanted = ACTIONS[action].relay_state
    return position == wanted or (
        action is Action.ARM and position == ACTIONS[Action.RECONNECT].relay_state
    )


def _stale(command: LedgerCommand, now: datetime) -> Change | None:
    """The gateway did not act and will not: the command is ours again, to be signed with a fresh nonce."""
    if command.sent_at is None or command.state is not CommandState.ISSUED:
        return None
    after = replace(command, stale_nonce=command.nonce, sent_at=None, document=None, due_at=now)
    return Change(
        after, (_entry(after, "command refused as stale", "signed again", who=command.gateway_id),)
    )


# --- what is learnt after the end ----------------------------------------------------------------


def is_unresolved(command: LedgerCommand) -> bool:
    """Whether nobody knows what became of it."""
    return command.state is CommandState.UNKNOWN and command.resolved_as is None


def _late_report(command: LedgerCommand, report: Report, now: datetime) -> Change | None:
    if not is_unresolved(command):
        return None
    state = _walked(CommandState.ISSUED, _outcome(command, report))
    if state in (CommandState.EXECUTING, CommandState.UNKNOWN):
        return None
    return _resolved(command, state, "report", now)


def reconciled(
    command: LedgerCommand, *, position: object, measured_at: datetime, now: datetime
) -> Change | None:
    """Return an unknown command after the relay's position was measured; None while it says nothing.

    Where it was ordered to be, any time after the order was sent: the order is fulfilled. Elsewhere: only
    when measured after the command could no longer act; before that it may still have been on its way. Of
    money a relay says nothing: a settlement or token stays unknown until its report, or a person, tells.
    """
    if not is_unresolved(command) or command.sent_at is None or command.ended_at is None:
        return None
    if command.action in _OF_MONEY:
        return None
    if _as_ordered(command.action, position):
        if measured_at <= command.sent_at:
            return None
        return _resolved(command, CommandState.CONFIRMED, "telemetry", now)
    if measured_at <= command.ended_at:
        return None
    return _resolved(command, CommandState.FAILED, "telemetry", now)


def _resolved(command: LedgerCommand, state: CommandState, by: str, now: datetime) -> Change:
    after = replace(command, resolved_as=state, resolved_by=by, resolved_at=now, due_at=None)
    return Change(after, (_entry(after, "command resolved", f"by {by}: {state.name.lower()}"),))


# --- in plain words ------------------------------------------------------------------------------


def plain(command: LedgerCommand) -> str:
    """Say where a command stands, to the person who asked for it."""
    until = f"will expire {command.not_after:%H:%M:%S} UTC, will not act later"
    match command.state:
        case CommandState.ISSUED if command.sent_at is not None:
            return f"sent to the gateway, no answer yet; {until}"
        case CommandState.ISSUED if command.document is not None:
            return f"waits for the approval of: {', '.join(command.missing)}; {until}"
        case CommandState.ISSUED:
            return f"waits for a session with {command.gateway_id}; {until}"
        case CommandState.ACCEPTED | CommandState.EXECUTING:
            return "accepted by the gateway, which has begun to act"
        case CommandState.CONFIRMED:
            return "done, and read back as ordered"
        case CommandState.REFUSED if command.code == "WITHDRAWN":
            return "withdrawn before it was sent; nothing has happened"
        case CommandState.REFUSED:
            return f"refused ({command.code}); nothing has happened"
        case CommandState.FAILED:
            return f"failed ({command.code}): the meter is not as ordered"
        case CommandState.EXPIRED:
            return "its time passed before it was sent; nothing has happened, and it will not act later"
        case CommandState.UNKNOWN if command.resolved_as is not None:
            end = "in force" if command.resolved_as is CommandState.CONFIRMED else "not in force"
            return f"no report in time; {command.resolved_by} has shown since that it is {end}"
        case CommandState.UNKNOWN:
            return f"outcome unknown ({command.code}): look at the meter's relay state"


def _entry(command: LedgerCommand, what: str, why: str = "", *, who: str = HEAD_END) -> Entry:
    return Entry(
        who=who,
        what=what,
        why=why,
        result=command.state.name.lower(),
        session_id=command.session_id or "",
        command_id=command.id,
        digest=command.digest or "",
    )
