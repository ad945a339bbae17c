"""Reports and acts as the gateway signs them (pure but for the signer): what became of a command, in bytes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from openami.gateway.driver import RelayPosition
from openami.gateway.journal import Intent
from openami.profile import EventTopic, FeederId, GatewayId, MeterSerial
from openami.sip.actions import RELAY_STATE_OBIS, RELAY_STATE_UNIT
from openami.sip.acts import ActType, read_acts
from openami.sip.canonical import SIGNATURE, Document, decode_base64url
from openami.sip.compose import printed, sign
from openami.sip.errors import SipCode
from openami.sip.keys import Signer
from openami.sip.reports import CODE_OK, ReportStatus, report_members

_METER_ID_OBIS: Final = "96.1.0"
_STATEMENTS: Final = frozenset({ActType.OFFER, ActType.KEYRING})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a command: status, code, and the relay's position where it was measured."""

    status: ReportStatus
    code: str = CODE_OK
    position: RelayPosition | None = None

    @classmethod
    def refused(cls, code: SipCode) -> "Outcome":
        """Return the outcome of a command that did not run."""
        return cls(ReportStatus.REFUSED, code.value)


def reporting(
    topic: EventTopic,
    intent: Intent,
    outcome: Outcome,
    *,
    signer: Signer,
    nonce: str | None,
    ts: datetime,
) -> Callable[[int | None], bytes]:
    """Return the function that gives a report its number in the outbox, signs it and prints it."""

    def seal(seq: int | None) -> bytes:
        members = report_members(
            topic,
            session_id=intent.session_id,
            seq=intent.seq,
            ticket=intent.ticket,
            command_digest=intent.digest,
            status=outcome.status,
            code=outcome.code,
            nonce=nonce,
            registers=[_measured(outcome, intent.meter)],
            ts=ts,
        )
        if seq is not None:
            members["seq"] = seq
        return printed(sign(members, signer, ActType.REPORT, iat=int(ts.timestamp())))

    return seal


def _measured(outcome: Outcome, meter: str) -> Mapping[str, Any]:
    """Return the register that was read back, or else the one that can always be told: which meter."""
    if outcome.position is None:
        return {"obis": _METER_ID_OBIS, "value": meter, "unit": "", "quality": "good"}
    return {
        "obis": RELAY_STATE_OBIS,
        "value": outcome.position.value,
        "unit": RELAY_STATE_UNIT,
        "quality": "good",
    }


def acted(
    document: Document,
    signer: Signer,
    type_: ActType,
    *,
    iat: int,
    nonce: str | None,
    reason: str | None,
) -> bytes:
    """Return a session's document with the acts that made it and one of ours; other parties' are left out."""
    made_by: Sequence[str] = [act.text for act in read_acts(document) if act.type in _STATEMENTS]
    members = {**document.members, SIGNATURE: " ".join(made_by)}
    fresh = None if nonce is None else decode_base64url(nonce)
    return printed(sign(members, signer, type_, iat=iat, nonce=fresh, reason=reason))


def event_topic(feeder_id: str, gateway_id: str, meter: str) -> EventTopic:
    """Return where a meter's reports are published."""
    return EventTopic(FeederId(feeder_id), GatewayId(gateway_id), MeterSerial(meter))
