"""The command document: the profile's envelope, plus ``sessionId``, ``command`` and ``signature``; nothing else.

Its ``registers`` state the wanted end state and have to agree with the action, so that a consumer that knows only
the profile understands it. ``(sessionId, meterSerial, seq)`` is its identity. An emergency ticket has ``ticket``
instead of ``seq``, ``nonce`` and session: an operator's signature, carried in by hand.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from openami.profile import CommandTopic
from openami.sip import fields
from openami.sip.actions import (
    ACTIONS,
    RELAY_STATE_OBIS,
    RELAY_STATE_UNIT,
    Action,
    action_of,
)
from openami.sip.canonical import SIGNATURE, Document
from openami.sip.errors import SipCode, SipError

SEQ_MAX: Final = 2**53 - 1  # the largest whole number every JSON reader agrees on; never wraps
ARG_CHARS_MAX: Final = 256  # a token has 20 digits; a trade id is an id
_REGISTERS_MAX = 32  # a settlement names a few; a relay one
_NONCE_CHARS = 22  # 16 bytes in base64url


@dataclass(frozen=True, slots=True)
class Command:
    """A command as its document says it; nothing about it is verified yet."""

    feeder_id: str
    gateway_id: str
    meter_serial: str
    action: Action
    not_after: datetime
    args: Mapping[str, Any]
    registers: tuple[Mapping[str, Any], ...]
    document: Document
    session_id: str | None
    seq: int | None
    nonce: str | None
    ticket: str | None


def read_command(document: Document, topic: CommandTopic) -> Command:
    """Read a command. Raises SipError BAD_FIELD, TOPIC_MISMATCH or UNKNOWN_ACTION."""
    members = fields.closed(
        document.members,
        "",
        required=(
            "schemaVersion", "ts", "feederId", "gatewayId", "meterSerial", "registers", "command",
        ),
        optional=("sessionId", SIGNATURE),
    )  # fmt: skip
    if members["schemaVersion"] != "0.1":
        raise fields.bad("schemaVersion", "0.1 is asked for")
    fields.moment(members["ts"], "ts")
    ids = {name: fields.identifier(members[name], name) for name in _IDS}
    if tuple(ids.values()) != (topic.feeder_id, topic.gateway_id, topic.meter_serial):
        raise SipError(SipCode.TOPIC_MISMATCH, "the command is for another topic")
    body = members["command"]
    ticketed = isinstance(body, dict) and "ticket" in body
    fields.closed(
        body,
        "command",
        required=("action", "notAfter", *(("ticket",) if ticketed else ("seq", "nonce"))),
        optional=("args",),
    )
    if ticketed == ("sessionId" in members):
        raise fields.bad("sessionId", "a command names its session, a ticket has none")
    action = action_of(body["action"])
    return Command(
        feeder_id=ids["feederId"],
        gateway_id=ids["gatewayId"],
        meter_serial=ids["meterSerial"],
        action=action,
        not_after=fields.moment(body["notAfter"], "command/notAfter"),
        args=_args(body.get("args", {}), action),
        registers=fields.listed(
            members["registers"], "registers", fields.register, least=1, most=_REGISTERS_MAX
        ),
        document=document,
        session_id=None if ticketed else fields.identifier(members["sessionId"], "sessionId"),
        seq=None
        if ticketed
        else fields.whole_number(body["seq"], "command/seq", least=1, most=SEQ_MAX),
        nonce=None
        if ticketed
        else fields.text(body["nonce"], "command/nonce", chars_max=_NONCE_CHARS),
        ticket=fields.identifier(body["ticket"], "command/ticket") if ticketed else None,
    )


_IDS = ("feederId", "gatewayId", "meterSerial")


def _args(value: object, action: Action) -> Mapping[str, Any]:
    required = sorted(ACTIONS[action].required_args)
    members = fields.closed(value, "command/args", required=required)
    for name in required:
        place = f"command/args/{name}"
        match name:
            case "from" | "to":
                fields.moment(members[name], place)
            case "energyWh" | "amountMinor":
                fields.whole_number(members[name], place, least=0, most=SEQ_MAX)
            case "tradeId" | "seller" | "buyer":
                fields.identifier(members[name], place)
            case _:
                fields.text(members[name], place, chars_max=ARG_CHARS_MAX)
    if "from" in required and members["from"] > members["to"]:  # one form: text order is time order
        raise fields.bad("command/args/to", "not before from")
    return members


def check_agreement(command: Command) -> None:
    """Check that the registers say what the action does. Raises SipError ACTION_MISMATCH."""
    wanted = ACTIONS[command.action].relay_state
    if wanted is None:
        return
    expected = {
        "obis": RELAY_STATE_OBIS, "value": wanted, "unit": RELAY_STATE_UNIT, "quality": "good",
    }  # fmt: skip
    if [dict(register) for register in command.registers] != [expected]:
        raise SipError(
            SipCode.ACTION_MISMATCH, f"{command.action} asks for {RELAY_STATE_OBIS} = {wanted}"
        )
