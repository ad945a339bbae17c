"""Writes the JSON Schemas of the signed documents, from the constants of those who read them.

    python -m tools.make_signed_schemas

`openami.sip` reads these documents member by member and not by types, so their schemas cannot be made as those of
the envelope are (`openami.profile.schema`); `tests/sip/test_schemas.py` holds schema and reader to one verdict.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import openami
from openami.profile import ID_PATTERN
from openami.profile.schema import DIALECT
from openami.sip.actions import ACTIONS, Action, Role
from openami.sip.acts import ACTS_MAX
from openami.sip.command import ARG_CHARS_MAX, SEQ_MAX
from openami.sip.keyring import (
    COMMAND_TTL_S_MAX,
    DISCONNECTS_PER_HOUR_MAX,
    IDENTITIES_MAX,
    KEYRING_PREFIX,
    METERS_MAX,
    MIN_DWELL_S_MAX,
    NONCE_LIFE_S_MAX,
    NONCE_LIFE_S_MIN,
    PROTECTED_HOURS_MAX,
    VERSION_DIGITS,
)
from openami.sip.reports import ReportStatus
from openami.sip.session_document import PARTICIPANTS_MAX
from openami.sip.statements import METERS_PER_PART_MAX, PARTS_MAX, READINGS_MAX

ROOT: Final = Path(openami.__file__).parent / "spec" / "schema"
_REGISTERS_MAX = 32  # as in sip/command.py and sip/reports.py

Schema = dict[str, Any]

_BASE64URL = "A-Za-z0-9_-"
# As strict as `sip/fields.py`: one form, to the second. A day that no month has is beyond a schema.
_MOMENT: Final[Schema] = {
    "type": "string",
    "pattern": "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$",
}
# When something was measured: a report's registers are readings, which are known by the millisecond.
_MEASURED: Final[Schema] = {
    "type": "string",
    "pattern": _MOMENT["pattern"].replace("Z$", r"(\.[0-9]{1,6})?Z$"),
}
_ACT = rf"[{_BASE64URL}]+\.\.[{_BASE64URL}]{{86}}"


def made() -> Mapping[str, Schema]:
    """Return all schemas by name."""
    return {
        "session": _document(
            "session",
            "Session document: who may do what to which meters, from when to when",
            "Exactly the profile's six members. It never changes: an answer is another act in its "
            "signature, over the same bytes (docs/sip.md).",
            _session_members(
                participants=_listed("#/$defs/Participant", least=1, most=PARTICIPANTS_MAX),
                session_id={"$ref": "#/$defs/Id"},
                scope=_closed(
                    {
                        "feederId": {"$ref": "#/$defs/Id"},
                        "gatewayId": {"$ref": "#/$defs/Id"},
                        "meters": {"$ref": "#/$defs/Meters"},
                        "limits": {"$ref": "#/$defs/Limits"},
                    },
                    optional=("limits",),
                ),
            ),
            ("Id", "Moment", "Signature", "Meters", "Limits", "Action", "Role", "Participant"),
        ),
        "keyring": _document(
            "keyring",
            "Keyring: a session document that holds every key, role, right and limit",
            "Signed offline by the operator's roots; it proves itself (docs/sip.md, Keyring).",
            _session_members(
                participants=_listed("#/$defs/Identity", least=1, most=IDENTITIES_MAX),
                session_id={
                    "type": "string",
                    "pattern": f"^{KEYRING_PREFIX}[0-9]{{{VERSION_DIGITS}}}$",
                },
                scope=_closed(
                    {
                        "feederId": {"$ref": "#/$defs/Id"},
                        "gatewayId": {"anyOf": [{"const": "*"}, {"$ref": "#/$defs/Id"}]},
                        "meters": {"$ref": "#/$defs/Meters"},
                        "limits": {
                            "allOf": [
                                {"$ref": "#/$defs/Limits"},
                                {"required": ["disconnectsPerHour"]},
                            ]
                        },
                        "protected": _listed("#/$defs/Id", least=0, most=METERS_MAX),
                        "protectedHours": _listed(
                            "#/$defs/Hours", least=0, most=PROTECTED_HOURS_MAX
                        ),
                        "rootThreshold": _whole(1, IDENTITIES_MAX),
                    },
                    optional=("protected", "protectedHours", "rootThreshold"),
                ),
            ),
            (
                "Id",
                "Moment",
                "Signature",
                "Meters",
                "Limits",
                "Action",
                "Role",
                "Identity",
                "Hours",
            ),
        ),
        "command": _document(
            "command",
            "Command: the profile's envelope, plus sessionId, command and signature",
            "Its registers state the wanted end. An emergency ticket has ticket in place of seq and "
            "nonce, and no session (docs/sip.md).",
            {
                **_closed(
                    {
                        **_envelope_members(),
                        "sessionId": {"$ref": "#/$defs/Id"},
                        "command": {
                            "anyOf": [{"$ref": "#/$defs/Order"}, {"$ref": "#/$defs/Ticket"}]
                        },
                        "signature": {"$ref": "#/$defs/Signature"},
                    },
                    optional=("sessionId",),
                ),
                "if": {"required": ["sessionId"]},
                "then": {"properties": {"command": {"$ref": "#/$defs/Order"}}},
                "else": {"properties": {"command": {"$ref": "#/$defs/Ticket"}}},
            },
            ("Id", "Moment", "Signature", "SignedRegister", "Action", "Args", "Order", "Ticket"),
        ),
        "report": _document(
            "report",
            "Report: what became of a command, on the event topic, signed by its gateway",
            "registers is what was measured afterwards, never a copy of what was asked (decision 0023).",
            _closed(
                {
                    **_envelope_members(),
                    "ts": {"$ref": "#/$defs/Measured"},
                    "sessionId": {"$ref": "#/$defs/Id"},
                    "seq": {},
                    "event": {},
                    "report": _closed(
                        {
                            "command": {"type": "string", "minLength": 1, "maxLength": 43},
                            "status": {"enum": [status.value for status in ReportStatus]},
                            "code": {"type": "string", "minLength": 1, "maxLength": 32},
                            "seq": _whole(1, SEQ_MAX),
                            "ticket": {"$ref": "#/$defs/Id"},
                            "nonce": {"$ref": "#/$defs/Nonce"},
                        },
                        optional=("seq", "ticket", "nonce"),
                    ),
                    "signature": {"$ref": "#/$defs/Signature"},
                },
                optional=("sessionId", "seq", "event"),
            ),
            ("Id", "Measured", "Signature", "SignedRegister", "Nonce"),
        ),
        "statement": _document(
            "statement",
            "Daily statement: what a gateway recorded on a UTC day, meter by meter",
            "An event of the gateway itself, signed by it; one part of several (decision 0032).",
            _closed(
                {
                    **_envelope_members(),
                    "ts": {},
                    "registers": {"type": "array", "minItems": 1},
                    "seq": {},
                    "event": {},
                    "report": _closed(
                        {
                            "day": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
                            "part": _whole(1, PARTS_MAX),
                            "parts": _whole(1, PARTS_MAX),
                            "meters": _listed(
                                "#/$defs/MeterDay", least=0, most=METERS_PER_PART_MAX
                            ),
                        }
                    ),
                    "signature": {"$ref": "#/$defs/Signature"},
                },
                optional=("seq",),
            ),
            ("Id", "Signature", "MeterDay", "Standing"),
        ),
    }


def _document(
    name: str, title: str, description: str, body: Schema, definitions: Sequence[str]
) -> Schema:
    return {
        "$schema": DIALECT,
        "$id": f"urn:openami:village-northbound:0.1:{name}",
        "title": title,
        "description": description,
        **body,
        "$defs": {each: _DEFINITIONS[each] for each in definitions},
    }


def _closed(properties: Schema, *, optional: Sequence[str] = ()) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def _listed(item: str, *, least: int, most: int) -> Schema:
    return {"type": "array", "items": {"$ref": item}, "minItems": least, "maxItems": most}


def _whole(least: int, most: int) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most}


def _session_members(*, session_id: Schema, participants: Schema, scope: Schema) -> Schema:
    return _closed(
        {
            "sessionId": session_id,
            "participants": participants,
            "feederScope": scope,
            "validFrom": {"$ref": "#/$defs/Moment"},
            "validTo": {"$ref": "#/$defs/Moment"},
            "signature": {"$ref": "#/$defs/Signature"},
        }
    )


def _envelope_members() -> Schema:
    return {
        "schemaVersion": {"const": "0.1"},
        "ts": {"$ref": "#/$defs/Moment"},
        "feederId": {"$ref": "#/$defs/Id"},
        "gatewayId": {"$ref": "#/$defs/Id"},
        "meterSerial": {"$ref": "#/$defs/Id"},
        "registers": _listed("#/$defs/SignedRegister", least=1, most=_REGISTERS_MAX),
    }


def _argument(name: str) -> Schema:
    match name:
        case "from" | "to":
            return {"$ref": "#/$defs/Moment"}
        case "energyWh" | "amountMinor":
            return _whole(0, SEQ_MAX)
        case "tradeId" | "seller" | "buyer":
            return {"$ref": "#/$defs/Id"}
        case _:
            return {"type": "string", "minLength": 1, "maxLength": ARG_CHARS_MAX}


def _args() -> Schema:
    """What stands in `args`, action by action; most have none."""
    return {
        "allOf": [
            {
                "if": {"properties": {"action": {"const": action.value}}, "required": ["action"]},
                "then": {
                    "properties": {
                        "args": _closed(
                            {name: _argument(name) for name in sorted(rule.required_args)}
                        )
                    },
                    **({"required": ["args"]} if rule.required_args else {}),
                },
            }
            for action, rule in ACTIONS.items()
        ]
    }


_PARTICIPANT: Final[Schema] = {
    "id": {"$ref": "#/$defs/Id"},
    "role": {"$ref": "#/$defs/Role"},
    "kid": {"type": "string", "minLength": 1, "maxLength": 64},
    "can": {
        "type": "array", "items": {"$ref": "#/$defs/Action"}, "uniqueItems": True,
    },
}  # fmt: skip
_BODY: Final[Schema] = {
    "action": {"$ref": "#/$defs/Action"},
    "notAfter": {"$ref": "#/$defs/Moment"},
    "args": {"type": "object"},
}
_DEFINITIONS: Final[Mapping[str, Schema]] = {
    "Id": {"type": "string", "pattern": f"^{ID_PATTERN}$"},
    "Moment": _MOMENT,
    "Measured": _MEASURED,
    "Nonce": {"type": "string", "minLength": 1, "maxLength": 22},
    "Signature": {
        "type": "string",
        "description": "One to eight acts, separated by a space: detached JWS, Ed25519 (decision 0022).",
        "pattern": f"^{_ACT}( {_ACT}){{0,{ACTS_MAX - 1}}}$",
    },
    "Action": {"enum": [action.value for action in Action]},
    "Role": {"enum": [role.value for role in Role]},
    "Meters": {
        "description": "Serials, or * alone: all of them.",
        "anyOf": [
            {"const": ["*"]},
            {**_listed("#/$defs/Id", least=1, most=METERS_MAX), "uniqueItems": True},
        ],
    },
    "Limits": _closed(
        {
            "disconnectsPerHour": _whole(0, DISCONNECTS_PER_HOUR_MAX),
            "commandTtl": _whole(1, COMMAND_TTL_S_MAX),
            "nonceLife": _whole(NONCE_LIFE_S_MIN, NONCE_LIFE_S_MAX),
            "minDwell": _whole(0, MIN_DWELL_S_MAX),
        },
        optional=("disconnectsPerHour", "commandTtl", "nonceLife", "minDwell"),
    ),
    "Participant": _closed(_PARTICIPANT, optional=("kid", "can")),
    "Identity": _closed(
        {**_PARTICIPANT, "key": {"type": "string", "pattern": f"^[{_BASE64URL}]{{43}}$"}},
        optional=("can",),
    ),
    "Hours": _closed(
        {
            name: {"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$"}
            for name in ("from", "to")
        }
    ),
    "SignedRegister": _closed(
        {
            "obis": {"type": "string", "minLength": 1, "maxLength": 32},
            "value": {"type": ["number", "string", "boolean"]},
            "unit": {"type": "string", "maxLength": 16},
            "quality": {"enum": ["good", "suspect", "comms_lost"]},
        }
    ),
    "Args": _args(),
    "Order": {
        "allOf": [{"$ref": "#/$defs/Args"}],
        **_closed(
            {
                "seq": _whole(1, SEQ_MAX),
                **_BODY,
                "nonce": {"type": "string", "minLength": 1, "maxLength": 22},
            },
            optional=("args",),
        ),
    },
    "Ticket": {
        "allOf": [{"$ref": "#/$defs/Args"}],
        **_closed({"ticket": {"$ref": "#/$defs/Id"}, **_BODY}, optional=("args",)),
    },
    "MeterDay": _closed(
        {
            "meter": {"$ref": "#/$defs/Id"},
            "readings": _whole(0, READINGS_MAX),
            "digest": {"type": "string", "pattern": f"^[{_BASE64URL}]+$"},
            "thinned": _whole(0, READINGS_MAX),
            "first": {"$ref": "#/$defs/Standing"},
            "last": {"$ref": "#/$defs/Standing"},
        },
        optional=("first", "last"),
    ),
    "Standing": _closed({"ts": {"type": "string"}, "value": {"type": "number"}}),
}


def main() -> None:
    """Write the files."""
    for name, schema in made().items():
        (ROOT / f"{name}.json").write_text(rendered(schema))


def rendered(schema: Schema) -> str:
    """Return a schema as its file has it."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main()
