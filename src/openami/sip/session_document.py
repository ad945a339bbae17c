"""The session document: six fields, who may do what to which meters, from when to when.

The document never changes; its state moves by acts over the same bytes (``session.py`` has the life as a table).
``admit_offer`` holds every rule by which a gateway takes an offer, or tells why it does not:

* exactly the six members; its scope is this feeder and this gateway;
* every participant with a key is in the keyring, with the same id and role, and asks no right beyond it;
* this gateway is a participant; the offer is signed by a participant that is ``hes`` or ``operator``, all acts
  verify, and nobody outside the session signed;
* limits only narrow the keyring's, unless two different ``hes`` or ``operator`` identities signed the offer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from openami.sip import fields
from openami.sip.actions import Action, Role
from openami.sip.acts import Act, ActType, read_acts
from openami.sip.canonical import SIGNATURE, Document
from openami.sip.errors import SipCode, SipError
from openami.sip.keyring import (
    ANY,
    SESSION_MEMBERS,
    Keyring,
    Limits,
    LimitsNamed,
    read_can,
    read_limits,
    read_meters,
    read_role,
)

SESSION_LIFE_MAX: Final = timedelta(days=8)  # a week and a day: renewed weekly, with slack
PARTICIPANTS_MAX: Final = 32  # head-ends, operators, markets and keyed meters of one gateway
_SIGNATORIES_OF_BULK = 2


@dataclass(frozen=True, slots=True)
class Participant:
    """Somebody named in a session; without a ``kid`` it asserts nothing."""

    id: str
    role: Role
    kid: str | None
    can: frozenset[Action]


@dataclass(frozen=True, slots=True)
class SessionDocument:
    """A session as its document says it."""

    session_id: str
    participants: Mapping[str, Participant]
    feeder_id: str
    gateway_id: str
    meters: frozenset[str]
    limits: LimitsNamed | None
    valid_from: datetime
    valid_to: datetime
    document: Document

    def covers_meter(self, meter_serial: str) -> bool:
        """Whether the session's scope holds a meter."""
        return ANY in self.meters or meter_serial in self.meters


def read_session(document: Document) -> SessionDocument:
    """Read a session document. Raises SipError BAD_FIELD."""
    members = fields.closed(document.members, "", required=SESSION_MEMBERS, optional=(SIGNATURE,))
    participants = fields.listed(
        members["participants"], "participants", _participant, least=1, most=PARTICIPANTS_MAX
    )
    fields.distinct([participant.id for participant in participants], "participants")
    kids = [p.kid for p in participants if p.kid is not None]
    fields.distinct(kids, "participants")
    scope = fields.closed(
        members["feederScope"],
        "feederScope",
        required=("feederId", "gatewayId", "meters"),
        optional=("limits",),
    )
    valid_from = fields.moment(members["validFrom"], "validFrom")
    valid_to = fields.moment(members["validTo"], "validTo")
    if not timedelta(0) < valid_to - valid_from <= SESSION_LIFE_MAX:
        raise fields.bad("validTo", f"after validFrom, by at most {SESSION_LIFE_MAX.days} days")
    return SessionDocument(
        session_id=fields.identifier(members["sessionId"], "sessionId"),
        participants={p.kid: p for p in participants if p.kid is not None},
        feeder_id=fields.identifier(scope["feederId"], "feederScope/feederId"),
        gateway_id=fields.identifier(scope["gatewayId"], "feederScope/gatewayId"),
        meters=frozenset(read_meters(scope["meters"])),
        limits=read_limits(scope["limits"]) if "limits" in scope else None,
        valid_from=valid_from,
        valid_to=valid_to,
        document=document,
    )


def _participant(value: object, place: str) -> Participant:
    members = fields.closed(value, place, required=("id", "role"), optional=("kid", "can"))
    kid = members.get("kid")
    if kid is not None:
        kid = fields.text(kid, f"{place}/kid", chars_max=64)
    return Participant(
        id=fields.identifier(members["id"], f"{place}/id"),
        role=read_role(members["role"], f"{place}/role"),
        kid=kid,
        can=read_can(members.get("can", []), f"{place}/can"),
    )


def admit_offer(
    session: SessionDocument,
    acts: Sequence[Act],
    keyring: Keyring,
    *,
    gateway_kid: str,
    feeder_id: str,
    gateway_id: str,
) -> Limits:
    """Return the limits in force under the session if it may become active. Raises SipError."""
    if (session.feeder_id, session.gateway_id) != (feeder_id, gateway_id):
        raise SipError(SipCode.TOPIC_MISMATCH, "the session's scope is not this gateway's")
    for participant in session.participants.values():
        _check_participant(participant, keyring)
    if gateway_kid not in session.participants:
        raise SipError(SipCode.NOT_A_PARTICIPANT, "this gateway is not in the session")
    offering = [act for act in acts if act.type is ActType.OFFER]
    if not offering:
        raise SipError(SipCode.WRONG_TYPE, "no offer among the acts")
    for act in offering:
        signer = session.participants.get(act.kid)
        if signer is None:
            raise SipError(SipCode.NOT_A_PARTICIPANT, "the offer is signed from outside")
        if signer.role not in (Role.HES, Role.OPERATOR):
            raise SipError(SipCode.NOT_ALLOWED, f"a {signer.role} does not offer sessions")
    limits = limits_in_force(session, keyring)
    if session.limits is not None and limits != session.limits.over(keyring.limits):
        raise SipError(SipCode.QUORUM, "a raised limit needs the offer of two identities")
    return limits


def limits_in_force(session: SessionDocument, keyring: Keyring) -> Limits:
    """Return a session's limits under a keyring: the stricter of both, unless two identities raised them.

    Also for a session that is held while the keyring changes, so a signer may have left it meanwhile. What a
    session does not name is as the keyring has it.
    """
    if session.limits is None:
        return keyring.limits
    wanted = session.limits.over(keyring.limits)
    offering = {act.kid for act in read_acts(session.document) if act.type is ActType.OFFER}
    persons = {
        kid
        for kid in offering & set(keyring.identities)
        if keyring.identities[kid].role in (Role.HES, Role.OPERATOR)
    }
    if len(persons) >= _SIGNATORIES_OF_BULK:
        return wanted
    return keyring.limits.narrowed(wanted)


def _check_participant(participant: Participant, keyring: Keyring) -> None:
    identity = keyring.identities.get(participant.kid or "")
    if identity is None or (identity.id, identity.role) != (participant.id, participant.role):
        raise SipError(
            SipCode.UNKNOWN_PARTICIPANT, f"{participant.id} is not in the keyring as it says"
        )
    if not participant.can <= identity.can:
        raise SipError(SipCode.NOT_ALLOWED, f"{participant.id} asks more than the keyring gives")
