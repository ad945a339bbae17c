"""The session handshake as the gateway lives it (pure): a message or a moment in, state and effects out.

    never seen ── offer, all checks pass ──▶ active: stored, answered by an accept with a new nonce
               ── offer, a check fails ────▶ rejected: answered once, remembered
               ── close before the offer ──▶ revoked: remembered, so that the offer comes too late
    active     ── boot, reconnect, nonce older than its life ──▶ a new accept; the old nonce dies
               ── close, revoke ───────────▶ revoked: the nonce is forgotten
               ── validTo passed ──────────▶ expired: the nonce is forgotten
    any        ── the same id, another document ──▶ refused SESSION_CONFLICT, nothing changes

Everything is idempotent and order does not matter. Only an unseen offer or keyring, a boot, a reconnect or a timer
makes a gateway publish; an accept makes nobody publish, so two parties cannot answer each other for ever. An echo
of our own is recognised by holding no act that is new.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from openami.profile import SessionTopic
from openami.profile.life import Party
from openami.sip.actions import Role
from openami.sip.acts import Act, ActType, read_acts, verified_acts
from openami.sip.authorise import HeldSession
from openami.sip.canonical import Document, read_document
from openami.sip.errors import SipCode, SipError
from openami.sip.freshness import Nonce, Nonces, TimeFacts
from openami.sip.keyring import KEYRING_PREFIX, Keyring, Roots, admit_keyring, keyring_session_id
from openami.sip.session import SESSION_LIFE, SessionEvent, SessionState
from openami.sip.session_document import (
    SessionDocument,
    admit_offer,
    limits_in_force,
    read_session,
)

SESSIONS_HELD_MAX: Final = 8  # one in use, one in renewal, for each of a few head-ends and markets
SESSIONS_REMEMBERED_MAX: Final = 64  # closed, rejected and expired ones, oldest forgotten first
_OF_SESSIONS: Final = frozenset(
    {ActType.OFFER, ActType.ACCEPT, ActType.REJECT, ActType.CLOSE, ActType.REVOKE}
)


@dataclass(frozen=True, slots=True)
class Self:
    """Who this gateway is."""

    feeder_id: str
    gateway_id: str
    kid: str


@dataclass(frozen=True, slots=True)
class Handshake:
    """What the gateway knows of keyring and sessions; durable but for the nonces."""

    roots: Roots
    keyring: Keyring | None = None
    sessions: Mapping[str, HeldSession] = field(default_factory=dict)
    ended: Mapping[str, SessionState] = field(default_factory=dict)
    """Sessions that are over, and those closed before they were ever offered."""


@dataclass(frozen=True, slots=True)
class PublishAct:
    """Publish a document on its session topic with one act of ours appended."""

    document: Document
    session_id: str
    type: ActType
    nonce: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class StoreKeyring:
    """Keep a keyring that was admitted, with the roots that were pinned when it was."""

    keyring: Keyring
    document: Document
    admitted_by: Roots


@dataclass(frozen=True, slots=True)
class StoreSession:
    """Keep a session that became active."""

    session: HeldSession


@dataclass(frozen=True, slots=True)
class StoreEnd:
    """Remember that a session is over, or closed before it was offered; forget what is beyond the bound."""

    session_id: str
    state: SessionState
    forgotten: tuple[str, ...] = ()
    """Older ended sessions that nothing needs to be kept of any more."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A document that changed nothing, for the counters and the log."""

    session_id: str
    code: SipCode
    detail: str


Effect = PublishAct | StoreKeyring | StoreSession | StoreEnd | Refused


@dataclass(frozen=True, slots=True)
class Step:
    """What follows: the new state, and what the shell has to do, in this order."""

    state: Handshake
    effects: tuple[Effect, ...] = ()


def receive(
    state: Handshake,
    topic: SessionTopic,
    payload: bytes,
    *,
    retain: bool,
    me: Self,
    time: TimeFacts,
    fresh_nonce: str,
) -> Step:
    """Take one message from the session topic."""
    try:
        if retain:
            raise SipError(SipCode.RETAINED, "a handshake is never retained")
        document = read_document(payload)
        if document.members.get("sessionId") != topic.session_id:
            raise SipError(SipCode.TOPIC_MISMATCH, "the document is for another session's topic")
        if topic.session_id.startswith(KEYRING_PREFIX):
            return _receive_keyring(state, document, me=me, fresh_nonce=fresh_nonce)
        return _receive_session(state, document, me=me, time=time, fresh_nonce=fresh_nonce)
    except SipError as error:
        return Step(state, (Refused(topic.session_id, error.code, error.detail),))


# --- keyring -------------------------------------------------------------------------------------


def _receive_keyring(state: Handshake, document: Document, *, me: Self, fresh_nonce: str) -> Step:
    in_force = state.keyring
    if in_force is not None and document.digest == in_force.digest:
        return Step(state)  # an echo of our accept, or the same keyring again
    keyring = admit_keyring(
        document,
        roots=state.roots,
        in_force=0 if in_force is None else in_force.version,
        feeder_id=me.feeder_id,
        gateway_id=me.gateway_id,
    )
    accepted = PublishAct(
        document, keyring_session_id(keyring.version), ActType.ACCEPT, nonce=fresh_nonce
    )
    after = replace(
        state, keyring=keyring, roots=keyring.roots, sessions=_under(keyring, state.sessions)
    )
    return Step(after, (StoreKeyring(keyring, document, state.roots), accepted))


def _under(keyring: Keyring, sessions: Mapping[str, HeldSession]) -> Mapping[str, HeldSession]:
    """Return the sessions with the limits the keyring now gives them: what the roots lower is lower at once."""
    return {
        session_id: replace(held, limits=limits_in_force(held.document, keyring))
        for session_id, held in sessions.items()
    }


# --- sessions ------------------------------------------------------------------------------------


def _receive_session(
    state: Handshake, document: Document, *, me: Self, time: TimeFacts, fresh_nonce: str
) -> Step:
    keyring = state.keyring
    if keyring is None:
        raise SipError(SipCode.NO_KEYRING, "this gateway has no keyring yet")
    session = read_session(document)
    if (session.feeder_id, session.gateway_id) != (me.feeder_id, me.gateway_id):
        # Or a close of another gateway's session, carried here, would end one of ours before it began.
        raise SipError(SipCode.TOPIC_MISMATCH, "the session's scope is not this gateway's")
    acts = verified_acts(document, keyring.keys)
    types = {act.type for act in acts}
    if not types <= _OF_SESSIONS:
        raise SipError(SipCode.WRONG_TYPE, "an act among them is not about sessions")
    held = state.sessions.get(session.session_id)
    if held is not None and held.document.document.digest != document.digest:
        raise SipError(SipCode.SESSION_CONFLICT, "this id is another document's")
    if types & {ActType.CLOSE, ActType.REVOKE}:
        for act in acts:
            if act.type in (ActType.CLOSE, ActType.REVOKE):
                _check_may_close(act.kid, keyring)
        return _close(state, session)
    if session.session_id in state.ended:
        raise SipError(
            SipCode.SESSION_CLOSED, f"it is {state.ended[session.session_id].name.lower()}"
        )
    if held is not None:
        return Step(state)  # the same offer again, our echo, or somebody else's accept
    if ActType.OFFER not in types:
        raise SipError(SipCode.NO_SESSION, "an act about a session that was never offered here")
    _check_may_offer(acts, keyring)
    return _admit(state, session, me=me, time=time, fresh_nonce=fresh_nonce)


def _check_may_close(kid: str, keyring: Keyring) -> None:
    if not _is_authority(kid, keyring):
        raise SipError(SipCode.NOT_ALLOWED, "only a head-end or an operator closes a session")


def _check_may_offer(acts: Sequence[Act], keyring: Keyring) -> None:
    """Whoever may not offer gets no answer, and nothing is remembered of it.

    Or else any key of the keyring could spend the ids of honest sessions, and push closed ones out of memory.
    """
    for act in acts:
        if act.type is ActType.OFFER and not _is_authority(act.kid, keyring):
            raise SipError(SipCode.NOT_ALLOWED, "only a head-end or an operator offers a session")


def _is_authority(kid: str, keyring: Keyring) -> bool:
    return keyring.identities[kid].role in (Role.HES, Role.OPERATOR)


def _admit(
    state: Handshake, session: SessionDocument, *, me: Self, time: TimeFacts, fresh_nonce: str
) -> Step:
    assert state.keyring is not None
    try:
        if _is_over(session, state.keyring, time):
            raise SipError(SipCode.SESSION_EXPIRED, f"it ended {session.valid_to}")
        if len(state.sessions) >= SESSIONS_HELD_MAX:
            raise SipError(SipCode.TOO_MANY_SESSIONS, f"{SESSIONS_HELD_MAX} are held; close one")
        limits = admit_offer(
            session,
            read_acts(session.document),
            state.keyring,
            gateway_kid=me.kid,
            feeder_id=me.feeder_id,
            gateway_id=me.gateway_id,
        )
    except SipError as error:
        reject = PublishAct(
            session.document, session.session_id, ActType.REJECT, reason=error.code.value
        )
        refused = Refused(session.session_id, error.code, error.detail)
        rejected = SESSION_LIFE.after(SESSION_LIFE.start, SessionEvent.REJECT, by=Party.GATEWAY)
        ending = _ended(state, session.session_id, rejected)
        return Step(ending.state, (*ending.effects, reject, refused))
    became = SESSION_LIFE.after(SESSION_LIFE.start, SessionEvent.ACCEPT, by=Party.GATEWAY)
    held = HeldSession(
        document=session,
        state=became,
        limits=limits,
        nonces=Nonces(Nonce(fresh_nonce, time.boottime_s)),
    )
    after = replace(state, sessions={**state.sessions, session.session_id: held})
    accept = PublishAct(session.document, session.session_id, ActType.ACCEPT, nonce=fresh_nonce)
    return Step(after, (StoreSession(held), accept))


def _close(state: Handshake, session: SessionDocument) -> Step:
    """End a session. Closed already, or never seen: remembered, so that its offer comes too late."""
    if state.ended.get(session.session_id) in (SessionState.REVOKED, SessionState.EXPIRED):
        return Step(state)
    held = state.sessions.get(session.session_id)
    before = SESSION_LIFE.start if held is None else held.state
    became = SESSION_LIFE.after(before, SessionEvent.CLOSE, by=Party.HEAD_END)
    return _ended(state, session.session_id, became)


def _ended(state: Handshake, session_id: str, became: SessionState) -> Step:
    """Take a session from those held to those remembered; its nonce goes with it."""
    held = {key: value for key, value in state.sessions.items() if key != session_id}
    remembered = {key: value for key, value in state.ended.items() if key != session_id}
    excess = max(0, len(remembered) + 1 - SESSIONS_REMEMBERED_MAX)
    forgotten = tuple(remembered)[:excess]
    for old in forgotten:
        del remembered[old]
    after = replace(state, sessions=held, ended={**remembered, session_id: became})
    return Step(after, (StoreEnd(session_id, became, forgotten),))


# --- time ----------------------------------------------------------------------------------------


def renew(state: Handshake, fresh_nonces: Mapping[str, str], time: TimeFacts) -> Step:
    """Give these active sessions a new nonce each: at boot, at reconnect, and when one is too old."""
    sessions = dict(state.sessions)
    effects: list[Effect] = []
    for session_id, text in fresh_nonces.items():
        held = sessions[session_id]
        nonce = Nonce(text, time.boottime_s)
        nonces = Nonces(nonce) if held.nonces is None else held.nonces.renewed(nonce)
        sessions[session_id] = replace(held, nonces=nonces)
        effects.append(PublishAct(held.document.document, session_id, ActType.ACCEPT, nonce=text))
    return Step(replace(state, sessions=sessions), tuple(effects))


def due_for_renewal(state: Handshake, boottime_s: float) -> tuple[str, ...]:
    """Return the sessions whose nonce is missing (a boot) or has reached the end of its life."""
    return tuple(
        session_id
        for session_id, held in state.sessions.items()
        if held.nonces is None or held.nonces.current.age_s(boottime_s) >= held.limits.nonce_life_s
    )


def expire(state: Handshake, time: TimeFacts) -> Step:
    """End the sessions whose time has passed."""
    effects: list[Effect] = []
    for held in list(state.sessions.values()):
        if _is_over(held.document, state.keyring, time):
            became = SESSION_LIFE.after(held.state, SessionEvent.VALID_TO_PASSED, by=Party.TIME)
            step = _ended(state, held.document.session_id, became)
            state = step.state
            effects.extend(step.effects)
    return Step(state, tuple(effects))


def _is_over(session: SessionDocument, keyring: Keyring | None, time: TimeFacts) -> bool:
    """Whether a session's end has passed, by a clock that two witnesses bound or by what the roots signed since.

    Not by ``lo`` alone: a head-end's key can push that ahead to the keyring's end, and would end every session
    and refuse every offer until then. Not by the network's time alone, which anybody on the way can set. What
    stays too long does no harm: a command is held to its session's time by its own signing.
    """
    now = None if time.hi is None else time.trusted_now
    if now is not None and session.valid_to < now:
        return True
    return keyring is not None and session.valid_to < datetime.fromtimestamp(keyring.signed_at, UTC)
