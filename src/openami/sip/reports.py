"""Reports: what became of a command, signed by its gateway, on the event topic the profile has.

``registers`` is what was measured afterwards, never a copy of what was asked. The report is bound to its command by
the command's digest; a report for another command, or by another key than the session's gateway, is refused. Its
``ts`` is a reading's, to the millisecond: two states of a relay within a second are two (decision 0023).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypeVar

from openami.profile import EventTopic
from openami.sip import fields
from openami.sip.actions import Role
from openami.sip.acts import ActType, verified_acts
from openami.sip.canonical import SIGNATURE, Document
from openami.sip.command import SEQ_MAX
from openami.sip.errors import SipCode, SipError
from openami.sip.fields import print_measured
from openami.sip.keyring import Keyring

_DIGEST_CHARS = 43  # SHA-256 in base64url
_NONCE_CHARS = 22  # 16 bytes in base64url
_REGISTERS_MAX = 32  # what was measured afterwards: the relay, and what else is worth a report
_CODE_CHARS_MAX = 32  # the codes of SipCode, and OK
CODE_OK: Final = "OK"

T = TypeVar("T")


class ReportStatus(StrEnum):
    """What became of it."""

    ACCEPTED = "accepted"
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Report:
    """A report that verified."""

    meter_serial: str
    session_id: str | None
    seq: int | None
    ticket: str | None
    command_digest: str
    status: ReportStatus
    code: str
    nonce: str | None
    registers: tuple[Mapping[str, Any], ...]
    ts: datetime


def report_members(
    topic: EventTopic,
    *,
    session_id: str | None,
    seq: int | None,
    ticket: str | None,
    command_digest: str,
    status: ReportStatus,
    code: str,
    nonce: str | None,
    registers: Sequence[Mapping[str, Any]],
    ts: datetime,
) -> dict[str, Any]:
    """Return an unsigned report."""
    report: dict[str, Any] = {"command": command_digest, "status": status.value, "code": code}
    told = {"seq": seq, "ticket": ticket, "nonce": nonce}
    report |= {name: value for name, value in told.items() if value is not None}
    members: dict[str, Any] = {
        "schemaVersion": "0.1",
        "ts": print_measured(ts),
        "feederId": topic.feeder_id,
        "gatewayId": topic.gateway_id,
        "meterSerial": topic.meter_serial,
        "registers": [dict(register) for register in registers],
        "report": report,
    }
    if session_id is not None:
        members["sessionId"] = session_id
    return members


def _seq(value: object, place: str) -> int:
    return fields.whole_number(value, place, least=1, most=SEQ_MAX)


def _status(value: object, place: str) -> ReportStatus:
    # By `str` first: a list is not hashable and would end the program, not the report.
    if not isinstance(value, str) or value not in ReportStatus._value2member_map_:
        raise fields.bad(place, "not a status")
    return ReportStatus(value)


def _nonce(value: object, place: str) -> str:
    return fields.text(value, place, chars_max=_NONCE_CHARS)


def _optional(body: Mapping[str, Any], name: str, read: Callable[[object, str], T]) -> T | None:
    return read(body[name], f"report/{name}") if name in body else None


def read_report(document: Document, topic: EventTopic, keyring: Keyring) -> Report:
    """Return a report its gateway signed. Raises SipError."""
    members = fields.closed(
        document.members,
        "",
        required=(
            "schemaVersion", "ts", "feederId", "gatewayId", "meterSerial", "registers", "report",
        ),
        optional=("sessionId", "seq", "event", SIGNATURE),
    )  # fmt: skip
    if members["schemaVersion"] != "0.1":
        raise fields.bad("schemaVersion", "0.1 is asked for")
    if keyring.feeder_id != topic.feeder_id:
        raise SipError(SipCode.TOPIC_MISMATCH, "the keyring is another feeder's")
    ids = (members["feederId"], members["gatewayId"], members["meterSerial"])
    if ids != (topic.feeder_id, topic.gateway_id, topic.meter_serial):
        raise SipError(SipCode.TOPIC_MISMATCH, "the report is for another topic")
    for act in verified_acts(document, keyring.keys):
        if act.type is not ActType.REPORT:
            raise SipError(SipCode.WRONG_TYPE, f"{act.type} does not report")
        identity = keyring.identities[act.kid]
        if identity.role is not Role.GATEWAY or identity.id != topic.gateway_id:
            raise SipError(SipCode.NOT_ALLOWED, f"{identity.id} reports for another gateway")
    body = fields.closed(
        members["report"],
        "report",
        required=("command", "status", "code"),
        optional=("seq", "ticket", "nonce"),
    )
    session_id = members.get("sessionId")
    return Report(
        meter_serial=topic.meter_serial,
        session_id=None if session_id is None else fields.identifier(session_id, "sessionId"),
        seq=_optional(body, "seq", _seq),
        ticket=_optional(body, "ticket", fields.identifier),
        command_digest=fields.text(body["command"], "report/command", chars_max=_DIGEST_CHARS),
        status=_status(body["status"], "report/status"),
        code=fields.text(body["code"], "report/code", chars_max=_CODE_CHARS_MAX),
        nonce=_optional(body, "nonce", _nonce),
        registers=fields.listed(
            members["registers"], "registers", fields.register, least=1, most=_REGISTERS_MAX
        ),
        ts=fields.measured(members["ts"], "ts"),
    )
