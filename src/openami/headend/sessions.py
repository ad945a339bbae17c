"""Sessions as the head-end lives them: offered, offered again, renewed, closed; and which nonce is current.

Pure: a session, what was heard of it and ``now`` in, the session as it is afterwards out. A nonce is current
from when an act of the gateway's key first brings it until another one does; one that was ever seen is never
current again, so that an old accept, replayed, changes nothing (it could only delay us: the gateway alone
decides what is fresh).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from openami.headend.audit import Entry
from openami.profile.life import Party
from openami.sip.actions import Role
from openami.sip.acts import Act, ActType
from openami.sip.compose import session_members, sign
from openami.sip.keyring import ANY, Keyring
from openami.sip.keys import Signer
from openami.sip.session import SESSION_LIFE, SessionEvent, SessionState
from openami.sip.session_document import SESSION_LIFE_MAX, Participant

# A gateway that is there answers within a second; one that reconnects, within a minute.
OFFER_ANSWER_S: Final = 60
# Offered once and three times again, after one, two and four minutes. The broker keeps what was published for
# a gateway that is away, so more would only be repeated to it when it comes.
OFFERS_MAX: Final = 4
# A gateway that is there has answered by then; so a burst of requests is one offer.
OFFER_GAP: Final = timedelta(seconds=1)
# A week, of the eight days a gateway takes (SESSION_LIFE_MAX): the operator's rota.
SESSION_DAYS: Final = 7
# A day before its end, so that a gateway that is away for a night is renewed in time.
RENEW_BEFORE: Final = timedelta(days=1)
# A session that short is somebody's visit and ends with it.
_RENEWED_LIFE_MIN: Final = 2 * RENEW_BEFORE

HEAD_END: Final = "head-end"
"""Who, in the audit log, when the head-end acts by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSession:
    """A session as the head-end's store has it. ``document`` is None until it is first offered."""

    id: str
    feeder_id: str
    gateway_id: str
    meters: tuple[str, ...] = (ANY,)
    requested_by: str
    reason: str
    requested_at: datetime
    valid_to: datetime
    valid_from: datetime | None = None
    state: SessionState = SessionState.OFFERED
    document: bytes | None = None
    digest: str | None = None
    nonce: str | None = None
    nonce_at: datetime | None = None
    nonces_heard: int = 0
    offers: int = 0
    offered_at: datetime | None = None
    renewed_by: str | None = None
    """The session that was offered in its place before its end."""
    close_reason: str | None = None
    """Set when somebody asked to close it."""
    code: str | None = None
    """Why it was rejected or closed."""
    ended_at: datetime | None = None
    due_at: datetime | None = None
    """When the head-end has to look at it next."""

    def covers(self, meter_serial: str) -> bool:
        """Whether its scope holds a meter."""
        return ANY in self.meters or meter_serial in self.meters

    def is_usable(self, now: datetime) -> bool:
        """Whether a command can be signed in it now."""
        return (
            self.state is SessionState.ACTIVE
            and self.nonce is not None
            and self.valid_from is not None
            and self.valid_from <= now < self.valid_to
            and self.close_reason is None
        )


@dataclass(frozen=True, slots=True)
class SessionChange:
    """A session after a decision, what is told of it, and whether commands may wait for this."""

    session: LedgerSession
    entries: tuple[Entry, ...] = ()
    wakes_commands: bool = False
    successor: LedgerSession | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """Publish the session's document (for the first time, or again)."""


@dataclass(frozen=True, slots=True)
class Close:
    """Sign the end of it, and publish that."""


@dataclass(frozen=True, slots=True)
class Republish:
    """Publish the signed end again: whether it went out is not known."""


@dataclass(frozen=True, slots=True)
class Renew:
    """Offer another in its place."""


@dataclass(frozen=True, slots=True)
class Expire:
    """Its time has passed."""


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing to do before ``until``; None: never again."""

    until: datetime | None


SessionStep = Offer | Close | Republish | Renew | Expire | Rest


def next_session_step(session: LedgerSession, now: datetime) -> SessionStep:
    """Return what the head-end has to do for a session now."""
    if SESSION_LIFE.is_terminal(session.state):
        # A due time on an ended session says: its end was signed, and may not have gone out.
        return Rest(None) if session.due_at is None else Republish()
    if session.close_reason is not None:
        return Close()
    if now >= session.valid_to:
        return Expire()
    if session.state is SessionState.ACTIVE:
        renewal = renewal_at(session)
        if renewal is None:
            return Rest(session.valid_to)
        return Renew() if now >= renewal else Rest(renewal)
    again = answer_due_at(session)
    if again is not None and now < again:
        return Rest(again)
    return Offer() if session.offers < OFFERS_MAX else Rest(session.valid_to)


def answer_due_at(session: LedgerSession) -> datetime | None:
    """Return until when an answer to the last offer is waited for: twice as long each time."""
    if session.offered_at is None or session.offers == 0:
        return None
    return session.offered_at + timedelta(seconds=OFFER_ANSWER_S * 2 ** (session.offers - 1))


def renewal_at(session: LedgerSession) -> datetime | None:
    """Return when a session is to be replaced; None for one that is not."""
    if session.renewed_by is not None or session.valid_from is None:
        return None
    if session.valid_to - session.valid_from < _RENEWED_LIFE_MIN:
        return None
    return session.valid_to - RENEW_BEFORE


def usable_session(
    sessions: Sequence[LedgerSession], *, meter_serial: str, wanted: str | None, now: datetime
) -> LedgerSession | None:
    """Return the session to command a meter in: the one asked for, or the one that lasts longest."""
    usable = [
        session
        for session in sessions
        if session.is_usable(now) and session.covers(meter_serial) and wanted in (None, session.id)
    ]
    return max(usable, key=lambda session: (session.valid_to, session.id), default=None)


# --- what the head-end does ----------------------------------------------------------------------


def participants_of(keyring: Keyring, *, gateway_id: str, own_kid: str) -> list[Participant]:
    """Return who takes part: we, the gateway, and the operators and markets that the keyring has.

    Nobody gets more than the keyring gives, so a session of all of them is no wider than the keyring.
    """
    return [
        Participant(identity.id, identity.role, identity.key.kid, identity.can)
        for identity in sorted(keyring.identities.values(), key=lambda each: each.id)
        if identity.key.kid == own_kid
        or identity.role in (Role.OPERATOR, Role.MARKET)
        or (identity.role is Role.GATEWAY and identity.id == gateway_id)
    ]


def offer_document(
    session: LedgerSession, keyring: Keyring, signer: Signer, now: datetime
) -> dict[str, object]:
    """Return the session's document with our offer. Raises SipError."""
    valid_to = min(session.valid_to, now + SESSION_LIFE_MAX - timedelta(minutes=1))
    members = session_members(
        session.id,
        participants_of(keyring, gateway_id=session.gateway_id, own_kid=signer.kid),
        feeder_id=session.feeder_id,
        gateway_id=session.gateway_id,
        meters=session.meters,
        valid_from=now,
        valid_to=valid_to,
    )
    return sign(members, signer, ActType.OFFER, iat=int(now.timestamp()))


def offered(
    session: LedgerSession,
    now: datetime,
    *,
    document: bytes,
    digest: str,
    valid_from: datetime,
    valid_to: datetime,
) -> SessionChange:
    """Return the session with its offer about to go out; the same document every time."""
    after = replace(
        session,
        document=document,
        digest=digest,
        valid_from=valid_from,
        valid_to=valid_to,
        offers=session.offers + 1,
        offered_at=now,
    )
    waits = answer_due_at(after)
    again = f"again, for the {session.offers}. time" if session.offers else ""
    return SessionChange(replace(after, due_at=waits), (_entry(after, "session offered", again),))


def offered_anew(session: LedgerSession, now: datetime) -> SessionChange | None:
    """Return an unanswered session as if it had not been offered yet, due OFFER_GAP after its last offer.

    None if it is not one, or will be offered anyway.
    """
    if session.state is not SessionState.OFFERED or session.offered_at is None:
        return None
    return SessionChange(
        replace(session, offers=0, due_at=max(now, session.offered_at + OFFER_GAP))
    )


def close_requested(
    session: LedgerSession, now: datetime, *, by: str, code: str, why: str = ""
) -> SessionChange | None:
    """Return the session with its end asked for; None where it has ended, or somebody has asked before."""
    if SESSION_LIFE.is_terminal(session.state) or session.close_reason is not None:
        return None
    entry = Entry(who=by, what="session close requested", why=why or code, session_id=session.id)
    return SessionChange(replace(session, close_reason=code, due_at=now), (entry,))


def closed(session: LedgerSession, now: datetime, *, document: bytes, by: str) -> SessionChange:
    """Return the session closed by us: ``document`` has our close, and is to be published."""
    after = replace(
        session,
        state=SESSION_LIFE.after(session.state, SessionEvent.CLOSE, by=Party.HEAD_END),
        document=document,
        nonce=None,
        code=session.close_reason,
        ended_at=now,
        due_at=now,
    )
    return SessionChange(
        after, (_entry(after, "session closed", session.close_reason or "", who=by),), True
    )


def expired(session: LedgerSession, now: datetime) -> SessionChange:
    """Return the session whose time has passed."""
    after = replace(
        session,
        state=SESSION_LIFE.after(session.state, SessionEvent.VALID_TO_PASSED, by=Party.TIME),
        nonce=None,
        ended_at=now,
        due_at=None,
    )
    return SessionChange(after, (_entry(after, "session expired"),), True)


def renewed(session: LedgerSession, successor_id: str, now: datetime) -> SessionChange:
    """Return the session with another one asked for in its place; it stays in force until its end."""
    assert session.valid_from is not None
    successor = LedgerSession(
        id=successor_id,
        feeder_id=session.feeder_id,
        gateway_id=session.gateway_id,
        meters=session.meters,
        requested_by=HEAD_END,
        reason=f"renews {session.id}",
        requested_at=now,
        valid_to=now + (session.valid_to - session.valid_from),
        due_at=now,
    )
    after = replace(session, renewed_by=successor_id, due_at=session.valid_to)
    return SessionChange(
        after, (_entry(after, "session renewed", f"by {successor_id}"),), successor=successor
    )


# --- what the head-end hears ---------------------------------------------------------------------


def heard(
    session: LedgerSession,
    acts: Sequence[Act],
    keyring: Keyring,
    *,
    nonces_seen: Collection[str],
    now: datetime,
) -> SessionChange | None:
    """Return the session after a document of it was heard whose acts all verified; None: nothing new."""
    if SESSION_LIFE.is_terminal(session.state):
        return None
    for act in acts:
        identity = keyring.identities.get(act.kid)
        if identity is None:
            continue
        by_gateway = identity.role is Role.GATEWAY and identity.id == session.gateway_id
        if act.type is ActType.ACCEPT and by_gateway and act.nonce not in nonces_seen:
            assert act.nonce is not None
            return renonced(session, act.nonce, now, who=identity.id)
        if act.type is ActType.REJECT and by_gateway and session.state is SessionState.OFFERED:
            return _rejected(session, act.reason or "", now, who=identity.id)
        if act.type in (ActType.CLOSE, ActType.REVOKE) and identity.role in (
            Role.HES,
            Role.OPERATOR,
        ):
            return _closed_elsewhere(session, act.reason or "", now, who=identity.id)
    return None


def renonced(session: LedgerSession, nonce: str, now: datetime, *, who: str) -> SessionChange:
    """Return the session with a nonce nobody has seen before, brought by the gateway's signature."""
    first = session.state is SessionState.OFFERED
    after = replace(
        session,
        state=(
            SESSION_LIFE.after(session.state, SessionEvent.ACCEPT, by=Party.GATEWAY)
            if first
            else session.state
        ),
        nonce=nonce,
        nonce_at=now,
        nonces_heard=session.nonces_heard + 1,
    )
    after = replace(after, due_at=renewal_at(after) or after.valid_to)
    what = "session accepted" if first else "session has a fresh nonce"
    return SessionChange(after, (_entry(after, what, who=who),), wakes_commands=True)


def _rejected(session: LedgerSession, reason: str, now: datetime, *, who: str) -> SessionChange:
    after = replace(
        session,
        state=SESSION_LIFE.after(session.state, SessionEvent.REJECT, by=Party.GATEWAY),
        code=reason,
        ended_at=now,
        due_at=None,
    )
    return SessionChange(after, (_entry(after, "session rejected", reason, who=who),), True)


def _closed_elsewhere(
    session: LedgerSession, reason: str, now: datetime, *, who: str
) -> SessionChange:
    after = replace(
        session,
        state=SESSION_LIFE.after(session.state, SessionEvent.CLOSE, by=Party.HEAD_END),
        nonce=None,
        code=reason,
        ended_at=now,
        due_at=None,
    )
    return SessionChange(after, (_entry(after, "session closed", reason, who=who),), True)


def _entry(session: LedgerSession, what: str, why: str = "", *, who: str = HEAD_END) -> Entry:
    return Entry(
        who=who,
        what=what,
        why=why,
        result=session.state.name.lower(),
        session_id=session.id,
        digest=session.digest or "",
    )
