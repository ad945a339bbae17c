"""Writes the contract as an AsyncAPI 3.0.0 document, for who makes code or pages of it.

    python -m tools.make_asyncapi

Topics and QoS are the profile's (`profile-v0.1.json`), schemas those of `spec/schema`, examples the vectors'. The
document stands alone: the schemas are in it, each under the `$id` it has as a file.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import openami
from openami import spec
from openami.profile import ID_PATTERN

FILE: Final = Path(openami.__file__).parent / "spec" / "asyncapi.json"
SCHEMAS: Final = ("envelope", "event", "session", "keyring", "command", "report", "statement")

Node = dict[str, Any]

_BINDING: Final = "0.2.0"
_EXAMPLES: Final[Mapping[str, Sequence[tuple[str, str]]]] = {
    "telemetry": (
        ("telemetry/y_example", "The profile's example, word for word."),
        ("telemetry/y_comms_lost_since_yesterday", "A silent meter: its last value, its own time."),
        ("telemetry/y_seq", "With the gateway's own number."),
    ),
    "event": (
        ("event/y_cover_opened", "A meter's cover was opened."),
        ("event/y_of_the_gateway_itself", "An event of the gateway itself."),
    ),
    "report": (("event/y_report_of_a_command", "The meter was disconnected."),),
    "statement": (("event/y_daily_statement", "A day's readings of two meters."),),
    "command": (("command/y_disconnect", "Disconnect, under a session."),),
    "session": (
        ("session/y_offer", "The head-end offers."),
        ("session/y_accept", "The gateway accepts: the same document, one act more."),
        ("session/y_close", "It is over."),
    ),
    "keyring": (),
}


def made() -> Node:
    """Return the document."""
    profile = json.loads(spec.load("profile-v0.1.json"))
    topics = profile["mqtt"]["topics"]
    return {
        "asyncapi": "3.0.0",
        "id": "urn:openami:village-northbound:0.1",
        "info": {
            "title": profile["title"],
            "version": profile["version"],
            "description": (
                "Topics, QoS, envelope and register are the profile's own word. What the profile leaves open, the "
                "payload of events, commands, sessions and their answers, is as OpenAMI Village reads it: "
                "docs/profile.md lists every such place with the number of its decision."
            ),
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
            "tags": [
                {"name": "gateway", "description": "What a gateway does."},
                {"name": "head-end", "description": "What a head-end does."},
            ],
        },
        "defaultContentType": "application/json",
        "servers": {
            "operator": {
                "host": "broker.example.org:8883",
                "protocol": "secure-mqtt",
                "protocolVersion": "3.1.1",
                "description": (
                    "The operator's broker, over TLS 1.2 or later; every gateway and head-end has a certificate of "
                    "its own. MQTT 5 may be spoken; nothing depends on its properties (decision 0017)."
                ),
                "security": [{"$ref": "#/components/securitySchemes/certificate"}],
                "bindings": {"mqtt": {"cleanSession": False, "bindingVersion": _BINDING}},
            }
        },
        "channels": {
            "telemetry": _channel(topics["telemetry"], "A meter's registers.", ["telemetry"]),
            "event": _channel(
                topics["event"],
                "What happened at a meter, and what became of a command to it; an event of the gateway itself has "
                "the gatewayId for meterSerial.",
                ["event", "report", "statement"],
            ),
            "command": _channel(topics["command"], "Commands to a meter.", ["command"]),
            "session": _channel(
                topics["session"],
                "Where sessions are offered, accepted and closed.",
                ["session", "keyring"],
            ),
        },
        "operations": {**_GATEWAY, **_HEAD_END},
        "components": {
            "parameters": {name: {"description": told} for name, told in _PARAMETERS.items()},
            "securitySchemes": {
                "certificate": {
                    "type": "X509",
                    "description": (
                        "A client certificate of the operator's authority; its common name is feederId/gatewayId. "
                        "The broker lets a gateway write and read below its own two levels alone."
                    ),
                }
            },
            "operationBindings": {
                "publish": {
                    "mqtt": {"qos": 1, "retain": False, "bindingVersion": _BINDING},
                },
                "subscribe": {"mqtt": {"qos": 1, "bindingVersion": _BINDING}},
            },
            "messages": {name: _message(name) for name in SCHEMAS_OF_MESSAGES},
            "schemas": _schemas(),
        },
    }


# --- channels and operations ---------------------------------------------------------------------

_PARAMETERS: Final = {
    "feederId": f"The feeder; an id, ^{ID_PATTERN}$ (decision 0002).",
    "gatewayId": f"The gateway; an id, with the feederId at most 63 characters: ^{ID_PATTERN}$.",
    "meterSerial": f"The meter; an id, ^{ID_PATTERN}$.",
    "sessionId": f"The session, or keyring-NNNNNNNNNN; an id, ^{ID_PATTERN}$.",
}


def _channel(address: str, description: str, messages: Sequence[str]) -> Node:
    return {
        "address": address,
        "description": description,
        "servers": [{"$ref": "#/servers/operator"}],
        "parameters": {
            name: {"$ref": f"#/components/parameters/{name}"}
            for name in _PARAMETERS
            if f"{{{name}}}" in address
        },
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
    }


def _operation(
    who: str,
    action: str,
    channel: str,
    summary: str,
    messages: Sequence[str],
    reply: str | None = None,
) -> Node:
    binding = "publish" if action == "send" else "subscribe"
    operation: Node = {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "tags": [{"name": who}],
        "bindings": {"$ref": f"#/components/operationBindings/{binding}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages],
    }
    if reply is not None:
        place, _, name = reply.partition("/")
        operation["reply"] = {
            "channel": {"$ref": f"#/channels/{place}"},
            "messages": [{"$ref": f"#/channels/{place}/messages/{name}"}],
        }
    return operation


_GATEWAY: Final[Node] = {
    "gatewaySendsTelemetry": _operation(
        "gateway", "send", "telemetry", "Publish a meter's registers.", ["telemetry"]
    ),
    "gatewaySendsEvents": _operation(
        "gateway", "send", "event", "Tell what happened, and what became of commands.",
        ["event", "report", "statement"],
    ),
    "gatewayReceivesCommands": _operation(
        "gateway", "receive", "command", "Take a command, judge it, report.", ["command"], "event/report"
    ),
    "gatewayReceivesSessions": _operation(
        "gateway", "receive", "session", "Take an offer, a close or a keyring; accept or reject.",
        ["session", "keyring"], "session/session",
    ),
    "gatewaySendsSessions": _operation(
        "gateway", "send", "session", "Publish the document with an accept or a reject.",
        ["session", "keyring"],
    ),
}  # fmt: skip
_HEAD_END: Final[Node] = {
    "headEndReceivesTelemetry": _operation(
        "head-end", "receive", "telemetry", "Store a meter's registers; acknowledge after that.", ["telemetry"]
    ),
    "headEndReceivesEvents": _operation(
        "head-end", "receive", "event", "Store events; match reports with commands.",
        ["event", "report", "statement"],
    ),
    "headEndSendsCommands": _operation(
        "head-end", "send", "command", "Command a meter under an active session.", ["command"], "event/report"
    ),
    "headEndSendsSessions": _operation(
        "head-end", "send", "session", "Offer or close a session; hand on a keyring.",
        ["session", "keyring"], "session/session",
    ),
    "headEndReceivesSessions": _operation(
        "head-end", "receive", "session", "Learn what gateways accepted.", ["session", "keyring"]
    ),
}  # fmt: skip


# --- messages and schemas ------------------------------------------------------------------------

SCHEMAS_OF_MESSAGES: Final[Mapping[str, tuple[str, str]]] = {
    "telemetry": ("envelope", "One meter's registers at one moment."),
    "event": ("event", "Something that happened, in an ordinary envelope (decision 0009)."),
    "report": ("report", "What became of a command, signed by the gateway (decision 0023)."),
    "statement": ("statement", "What a gateway recorded on a day, signed by it (decision 0032)."),
    "command": ("command", "A command, signed (docs/sip.md)."),
    "session": ("session", "A session: the profile's six members, signed (docs/sip.md)."),
    "keyring": ("keyring", "Keys, roles, rights and limits, signed by the roots (decision 0025)."),
}


def _message(name: str) -> Node:
    schema, summary = SCHEMAS_OF_MESSAGES[name]
    message: Node = {
        "name": name,
        "title": name.capitalize(),
        "summary": summary,
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{schema}"},
        "bindings": {"mqtt": {"payloadFormatIndicator": 1, "bindingVersion": _BINDING}},
    }
    examples = [
        {
            "name": vector.partition("/")[2].removeprefix("y_"),
            "summary": told,
            "payload": _payload(vector),
        }
        for vector, told in _EXAMPLES[name]
    ]
    return {**message, "examples": examples} if examples else message


def _payload(vector: str) -> Node:
    found: Node = json.loads(json.loads(spec.load(f"vectors/{vector}.json"))["payload"])
    return found


def _schemas() -> Node:
    """Return the schemas and what they are made of, by name; what two of them share stands once."""
    found: Node = {}
    for name in SCHEMAS:
        schema = json.loads(spec.load(f"schema/{name}.json"))
        parts = schema.pop("$defs")
        del schema["$schema"]
        for part, body in {name: schema, **parts}.items():
            moved = _moved(body)
            assert found.setdefault(part, moved) == moved, f"{part} is two things"
    return found


def _moved(body: Any) -> Any:
    """Return a schema whose references lead to where the parts stand in this document."""
    match body:
        case {"$ref": str(place)}:
            rest = {key: _moved(value) for key, value in body.items() if key != "$ref"}
            return {**rest, "$ref": place.replace("#/$defs/", "#/components/schemas/")}
        case dict():
            return {key: _moved(value) for key, value in body.items()}
        case list():
            return [_moved(each) for each in body]
        case _:
            return body


def main() -> None:
    """Write the file."""
    FILE.write_text(rendered())


def rendered() -> str:
    """Return the document as its file has it."""
    return json.dumps(made(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main()
