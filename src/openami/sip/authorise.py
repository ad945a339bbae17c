"""May this command run? Twelve checks, in this order; the first that fails decides.

     1  not retained                                            RETAINED
     2  bytes: size, JSON, one reading                          TOO_LARGE BAD_JSON DUPLICATE_MEMBER
     3  members, types, topic = body = us                       BAD_FIELD TOPIC_MISMATCH UNKNOWN_ACTION
     4  a keyring; every act verifies and is a command's        NO_KEYRING … BAD_SIGNATURE
        ─ up to here the sender may be anybody: refused in silence, counted ─
     5  the session is known and active                         NO_SESSION SESSION_CLOSED
     6  seen before: the same → its report again                (Repeat) SEQ_REUSED
     7  it echoes the nonce in force                            STALE_NONCE
     8  its times: signed within the session, alive, in order   BAD_FIELD NOT_YET_VALID EXPIRED STALE_NONCE
                                                                SESSION_EXPIRED KEYRING_EXPIRED
     9  its number is above all before it                       SEQ_REPLAY
    10  scope, rights in session and keyring, quorum            OUT_OF_SCOPE NOT_A_PARTICIPANT NOT_ALLOWED QUORUM
    11  registers agree; interlocks; trade not done             ACTION_MISMATCH RATE_LIMIT DWELL … TRADE_DONE
    12  the intent is committed, then the relay moves           (gateway/decision.py, commanding.py)

A ticket goes the same way without a session: an operator's signature, safe actions only, one use.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from openami.profile import CommandTopic
from openami.sip.actions import ACTIONS, Action, Direction, Role, quorum_of
from openami.sip.acts import Act, ActType, verified_acts
from openami.sip.canonical import read_document
from openami.sip.command import Command, check_agreement, read_command
from openami.sip.errors import SipCode, SipError
from openami.sip.freshness import CLOCK_SLACK, Nonce, Nonces, TimeFacts
from openami.sip.interlocks import RelayFacts, check_interlocks
from openami.sip.keyring import Keyring, Limits
from openami.sip.session import SessionState
from openami.sip.session_document import SessionDocument

TICKET_LIFE_MAX: Final = timedelta(days=30)  # printed, carried, used within the month


@dataclass(frozen=True, slots=True)
class HeldSession:
    """A session as the gateway holds it."""

    document: SessionDocument
    state: SessionState
    limits: Limits
    nonces: Nonces | None
    """None from a boot to the first accept after it: a nonce is never stored."""


@dataclass(frozen=True, slots=True)
class Done:
    """What the journal has under a command's identity."""

    digest: str


@dataclass(frozen=True, slots=True)
class GatewayFacts:
    """All that the decision looks at; the shell gathers it in one transaction."""

    feeder_id: str
    gateway_id: str
    meters: AbstractSet[str]
    keyring: Keyring | None
    session: HeldSession | None
    """The session the command names, if it is held."""
    done: Done | None
    """The journal's row of this command's identity, if there is one."""
    high_water: int
    """The highest number executed in this session and meter; 0 at first."""
    trades_done: AbstractSet[str]
    tickets_used: AbstractSet[str]
    relay: RelayFacts
    time: TimeFacts
    ended: SessionState | None = None
    """How the session the command names ended, if it is over."""


@dataclass(frozen=True, slots=True)
class Permit:
    """The command may run, once, now."""

    command: Command
    keyring: Keyring
    signed_at: datetime


@dataclass(frozen=True, slots=True)
class Repeat:
    """The same command again: its stored report is published again, nothing moves."""

    command: Command


@dataclass(frozen=True, slots=True)
class Refusal:
    """The command does not run. ``command`` is None while the sender may be anybody: then silence."""

    code: SipCode
    detail: str
    command: Command | None = None
    renew_nonce: bool = False
    """Whether an honest sender needs another nonce than the one in force to try again. Not for any stale
    command: whoever replays old ones could turn the nonces over faster than honest commands arrive.
    """


Verdict = Permit | Repeat | Refusal


@dataclass(frozen=True, slots=True)
class Claim:
    """A command that passed checks 1 to 4: it was signed by keys of the keyring, and by them only."""

    command: Command
    acts: tuple[Act, ...]
    keyring: Keyring


def read_claim(
    topic: CommandTopic,
    payload: bytes,
    *,
    retain: bool,
    feeder_id: str,
    gateway_id: str,
    keyring: Keyring | None,
) -> Claim | Refusal:
    """Make checks 1 to 4. A Refusal here is silent: there is no oracle for somebody without a key."""
    try:
        if retain:
            raise SipError(SipCode.RETAINED, "a command is never retained")
        document = read_document(payload)
        command = read_command(document, topic)
        if (command.feeder_id, command.gateway_id) != (feeder_id, gateway_id):
            raise SipError(SipCode.TOPIC_MISMATCH, "the command is for another gateway")
        if keyring is None:
            raise SipError(SipCode.NO_KEYRING, "this gateway has no keyring yet")
        acts = verified_acts(document, keyring.keys)
        for act in acts:
            if act.type is not ActType.COMMAND:
                raise SipError(SipCode.WRONG_TYPE, f"{act.type} does not command")
    except SipError as error:
        return Refusal(error.code, error.detail)
    return Claim(command, acts, keyring)


def authorise(claim: Claim, facts: GatewayFacts) -> Verdict:
    """Make checks 5 to 11 on a command that is authentic. Pure."""
    command = claim.command
    try:
        if command.ticket is not None:
            return _authorise_ticket(claim, facts)
        return _authorise_in_session(claim, facts)
    except SipError as error:
        renew = error.code is SipCode.STALE_NONCE and _nonce_is_no_good(command, facts)
        return Refusal(error.code, error.detail, command, renew_nonce=renew)


def _nonce_is_no_good(command: Command, facts: GatewayFacts) -> bool:
    """Whether the nonce in force would not do for the same command signed again."""
    session = facts.session
    if session is None or session.nonces is None:
        return True
    current = session.nonces.current
    age_s = current.age_s(facts.time.boottime_s)
    # It echoed the nonce in force, and still: its life is too short for the nonce's age and there is no clock.
    return age_s > session.limits.nonce_life_s or command.nonce == current.text


def _authorise_in_session(claim: Claim, facts: GatewayFacts) -> Permit | Repeat:
    command, session = claim.command, facts.session
    if facts.ended is not None:
        raise SipError(SipCode.SESSION_CLOSED, f"the session is {facts.ended.name.lower()}")
    if session is None:
        raise SipError(SipCode.NO_SESSION, f"no session {command.session_id} here")
    if session.state is not SessionState.ACTIVE:
        raise SipError(SipCode.SESSION_CLOSED, f"the session is {session.state.name.lower()}")
    if facts.done is not None:
        if facts.done.digest != command.document.digest:
            raise SipError(SipCode.SEQ_REUSED, "this number was another command's")
        return Repeat(command)
    nonce = _echoed_nonce(command, session, facts.time)
    if nonce is None:
        raise SipError(SipCode.STALE_NONCE, "not the nonce in force")
    _check_times(claim, session, nonce, facts.time)
    assert command.seq is not None
    if command.seq <= facts.high_water:
        raise SipError(SipCode.SEQ_REPLAY, f"{command.seq} is not above {facts.high_water}")
    _check_scope(claim, session, facts)
    _check_rights(claim, session)
    _check_last(claim, session.limits, facts)
    return Permit(command, claim.keyring, _signed_at(claim.acts))


def _echoed_nonce(command: Command, session: HeldSession, time: TimeFacts) -> Nonce | None:
    if session.nonces is None:
        return None
    return session.nonces.matching(
        command.nonce or "", boottime_s=time.boottime_s, life_s=session.limits.nonce_life_s
    )


def _check_times(claim: Claim, session: HeldSession, nonce: Nonce, time: TimeFacts) -> None:
    """Every act is held to every rule; rule by rule, so that the order of checks is the order of codes."""
    command, document, now = claim.command, session.document, time.trusted_now
    signed = [_moment(act.iat) for act in claim.acts]
    lives = [command.not_after - iat for iat in signed]
    ttl = timedelta(seconds=session.limits.command_ttl_s)
    if not all(timedelta(0) < life <= ttl for life in lives):
        raise SipError(SipCode.BAD_FIELD, "notAfter is not within the command's life")
    if now is not None and max(signed) > now + CLOCK_SLACK:
        raise SipError(SipCode.NOT_YET_VALID, "signed in the future")
    # Signed after the nonce was made, it is younger than the nonce: alive whatever the clocks say.
    if nonce.age_s(time.boottime_s) > min(lives).total_seconds():
        if now is None:
            raise SipError(SipCode.STALE_NONCE, "older than its life may be; sign again")
        if now > command.not_after:
            raise SipError(SipCode.EXPIRED, f"was to run before {command.not_after}")
    if not all(document.valid_from <= iat <= document.valid_to for iat in signed):
        raise SipError(SipCode.SESSION_EXPIRED, "signed outside the session's time")
    _check_keyring_alive(claim, time)


def _check_keyring_alive(claim: Claim, time: TimeFacts) -> None:
    if claim.keyring.valid_to < time.lo and not _is_safe(claim.command.action):
        raise SipError(
            SipCode.KEYRING_EXPIRED, "the keyring has ended: only the safe direction is open"
        )


def _is_safe(action: Action) -> bool:
    return ACTIONS[action].direction is Direction.SAFE


def _check_scope(claim: Claim, session: HeldSession, facts: GatewayFacts) -> None:
    serial = claim.command.meter_serial
    if (
        serial not in facts.meters
        or not session.document.covers_meter(serial)
        or not claim.keyring.covers_meter(serial)
    ):
        raise SipError(SipCode.OUT_OF_SCOPE, f"{serial} is not in scope")


def _check_rights(claim: Claim, session: HeldSession) -> None:
    """Every signer is a participant with the right; the roles that have to sign all did."""
    action = claim.command.action
    roles: set[Role] = set()
    for act in claim.acts:
        participant = session.document.participants.get(act.kid)
        if participant is None:
            raise SipError(SipCode.NOT_A_PARTICIPANT, "a signer is not in the session")
        identity = claim.keyring.identities[act.kid]
        if action not in participant.can or action not in identity.can:
            raise SipError(SipCode.NOT_ALLOWED, f"{participant.id} has no right to {action}")
        roles.add(identity.role)
    _check_quorum(claim, roles)


def _check_quorum(claim: Claim, roles: AbstractSet[Role]) -> None:
    command = claim.command
    needed = quorum_of(command.action, protected=command.meter_serial in claim.keyring.protected)
    if not needed <= roles:
        missing = ", ".join(sorted(needed - roles))
        raise SipError(SipCode.QUORUM, f"also has to be signed by: {missing}")


def _check_last(claim: Claim, limits: Limits, facts: GatewayFacts) -> None:
    command = claim.command
    check_agreement(command)
    check_interlocks(
        command.action, facts.relay, limits=limits, keyring=claim.keyring, time=facts.time
    )
    if command.action is Action.SETTLE and command.args["tradeId"] in facts.trades_done:
        raise SipError(SipCode.TRADE_DONE, f"trade {command.args['tradeId']} is settled")


def _authorise_ticket(claim: Claim, facts: GatewayFacts) -> Permit | Repeat:
    """An emergency reconnection: no session, no network; an operator's key, one gateway, one use."""
    command = claim.command
    assert command.ticket is not None
    if facts.done is not None and facts.done.digest == command.document.digest:
        return Repeat(command)
    if command.ticket in facts.tickets_used:
        raise SipError(SipCode.TICKET_USED, f"ticket {command.ticket} was used")
    if not _is_safe(command.action):
        raise SipError(SipCode.NOT_ALLOWED, "a ticket is for the safe direction only")
    for act in claim.acts:
        identity = claim.keyring.identities[act.kid]
        if identity.role is not Role.OPERATOR or command.action not in identity.can:
            raise SipError(SipCode.NOT_ALLOWED, "a ticket is signed by an operator")
    _check_ticket_time(claim, facts.time)
    serial = command.meter_serial
    if serial not in facts.meters or not claim.keyring.covers_meter(serial):
        raise SipError(SipCode.OUT_OF_SCOPE, f"{serial} is not in scope")
    _check_last(claim, claim.keyring.limits, facts)
    return Permit(command, claim.keyring, _signed_at(claim.acts))


def _check_ticket_time(claim: Claim, time: TimeFacts) -> None:
    """By a trusted clock, or by what the roots signed; never by ``lo``, which a head-end can push ahead.

    The emergency door must not be one that a stolen head-end key can lock. Where there is no clock, the roots
    retire old tickets with their next keyring, and each ticket is used once.
    """
    not_after, now = claim.command.not_after, time.trusted_now
    for act in claim.acts:
        iat = _moment(act.iat)
        if not timedelta(0) < not_after - iat <= TICKET_LIFE_MAX:
            raise SipError(SipCode.BAD_FIELD, "notAfter is not within a ticket's life")
        if now is not None and iat > now + CLOCK_SLACK:
            raise SipError(SipCode.NOT_YET_VALID, "signed in the future")
    if not_after < _moment(claim.keyring.signed_at) or (now is not None and now > not_after):
        raise SipError(SipCode.EXPIRED, "the ticket has ended")


def _signed_at(acts: tuple[Act, ...]) -> datetime:
    return _moment(max(act.iat for act in acts))


def _moment(iat: int) -> datetime:
    return datetime.fromtimestamp(iat, UTC)  # within the calendar: `acts` bounds it
