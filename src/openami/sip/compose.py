"""Composing signed documents: what a head-end, an operator or a market participant sends.

Each function returns the document's members; ``sign`` appends an act. A second person signs what the first one
made, byte for byte the same document, so nobody signs what another's program would write differently.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from openami.profile import CommandTopic
from openami.sip.actions import ACTIONS, RELAY_STATE_OBIS, RELAY_STATE_UNIT, Action
from openami.sip.acts import ActType, make_act
from openami.sip.canonical import SIGNATURE, Document, canonical_bytes, digest_of
from openami.sip.fields import print_moment
from openami.sip.keys import Signer
from openami.sip.session_document import Participant

_METER_ID_REGISTER = "96.1.0"


def document_of(members: Mapping[str, Any]) -> Document:
    """Return a document from its members, to be signed or compared. Raises SipError BAD_JSON."""
    canonical = canonical_bytes(dict(members))
    return Document(dict(members), canonical, digest_of(canonical))


def sign(
    members: Mapping[str, Any],
    signer: Signer,
    type_: ActType,
    *,
    iat: int,
    nonce: bytes | None = None,
    reason: str | None = None,
) -> dict[str, Any]:
    """Return the document with one more act by this signer."""
    act = make_act(signer, document_of(members), type_, iat=iat, nonce=nonce, reason=reason)
    before = members.get(SIGNATURE)
    return {**members, SIGNATURE: f"{before} {act}" if before else act}


def printed(members: Mapping[str, Any]) -> bytes:
    """Return a document as it is sent; whoever reads it makes the canonical form himself."""
    return json.dumps(members, separators=(",", ":"), ensure_ascii=False).encode()


def session_members(
    session_id: str,
    participants: Sequence[Participant],
    *,
    feeder_id: str,
    gateway_id: str,
    meters: Sequence[str],
    valid_from: datetime,
    valid_to: datetime,
    limits: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Return an unsigned session document: exactly the profile's fields."""
    scope: dict[str, Any] = {
        "feederId": feeder_id,
        "gatewayId": gateway_id,
        "meters": list(meters),
    }
    if limits is not None:
        scope["limits"] = dict(limits)
    return {
        "sessionId": session_id,
        "participants": [_participant(p) for p in participants],
        "feederScope": scope,
        "validFrom": print_moment(valid_from),
        "validTo": print_moment(valid_to),
    }


def _participant(participant: Participant) -> dict[str, Any]:
    members: dict[str, Any] = {"id": participant.id, "role": participant.role.value}
    if participant.kid is not None:
        members["kid"] = participant.kid
    if participant.can:
        members["can"] = sorted(action.value for action in participant.can)
    return members


def command_members(
    topic: CommandTopic,
    action: Action,
    *,
    session_id: str,
    seq: int,
    nonce: str,
    ts: datetime,
    not_after: datetime,
    args: Mapping[str, Any] | None = None,
    registers: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return an unsigned command; its registers state the wanted end, or what is settled upon."""
    return {
        **_envelope(topic, ts, action, registers),
        "sessionId": session_id,
        "command": {
            "seq": seq,
            "action": action.value,
            "notAfter": print_moment(not_after),
            "nonce": nonce,
            **({"args": dict(args)} if args else {}),
        },
    }


def ticket_members(
    topic: CommandTopic, action: Action, *, ticket: str, ts: datetime, not_after: datetime
) -> dict[str, Any]:
    """Return an unsigned emergency ticket."""
    return {
        **_envelope(topic, ts, action, ()),
        "command": {
            "ticket": ticket,
            "action": action.value,
            "notAfter": print_moment(not_after),
        },
    }


def _envelope(
    topic: CommandTopic,
    ts: datetime,
    action: Action,
    registers: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    wanted = ACTIONS[action].relay_state
    if wanted is not None:
        registers = [_register(RELAY_STATE_OBIS, wanted, RELAY_STATE_UNIT)]
    elif not registers:
        registers = [_register(_METER_ID_REGISTER, topic.meter_serial, "")]
    return {
        "schemaVersion": "0.1",
        "ts": print_moment(ts),
        "feederId": topic.feeder_id,
        "gatewayId": topic.gateway_id,
        "meterSerial": topic.meter_serial,
        "registers": [dict(register) for register in registers],
    }


def _register(obis: str, value: str, unit: str) -> dict[str, Any]:
    return {"obis": obis, "value": value, "unit": unit, "quality": "good"}
