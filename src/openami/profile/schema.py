"""JSON Schema 2020-12 of the messages, made from the types that decode them.

The files in ``spec/schema`` are this module's output, and a test holds them equal. A schema cannot say
everything; what only the decoder knows is listed in `BEYOND_SCHEMA`.
"""

from collections.abc import Mapping
from functools import cache
from inspect import cleandoc
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from openami.profile.codec import WireEnvelope
from openami.profile.event import Event
from openami.profile.obis import OBIS_PATTERN, Obis
from openami.profile.registers import RegisterFile

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_ID: Final = "urn:openami:village-northbound:0.1:{name}"

BEYOND_SCHEMA: Final = (
    "bytes: size, UTF-8, a byte order mark, NaN, a member that stands twice",
    "nesting deeper than 16",
    "a time that is well formed and does not exist: 31 April",
    "feederId and gatewayId together longer than 63",
    "a whole number beyond ±(2^53-1), written without point or exponent",
    "half a surrogate pair",
    "that the message agrees with its topic, its register list and the clock",
)
"""What a message can be refused for though its schema holds."""


class EventEnvelope(WireEnvelope, kw_only=True, rename="camel"):
    """An envelope on the event topic: the registers it is about, and what happened."""

    event: Annotated[Event, Meta(extra_json_schema={"dependentRequired": {"code": ["codeSystem"]}})]


_TYPES: Final[Mapping[str, tuple[str, type]]] = {
    "envelope": ("Envelope: telemetry, and what every event message is as well", WireEnvelope),
    "event": ("Envelope of an event, as this system publishes it (decision 0009)", EventEnvelope),
    "registers": ("Register list, in the shape of the official VMRS file", RegisterFile),
}


@cache
def schemas() -> Mapping[str, bytes]:
    """Return the schema files' content by name."""
    return {name: _render(_schema(name)) for name in _TYPES}


def _schema(name: str) -> dict[str, Any]:
    title, kind = _TYPES[name]
    (root,), components = msgspec.json.schema_components(
        [kind], schema_hook=_custom_type, ref_template="#/$defs/{name}"
    )
    for component in components.values():
        component["description"] = cleandoc(component["description"])
    body = components.pop(root["$ref"].removeprefix("#/$defs/"))
    return {
        "$schema": DIALECT,
        "$id": _ID.format(name=name),
        **body,
        "title": title,
        "$defs": components,
    }


def _custom_type(kind: type) -> dict[str, Any]:
    assert kind is Obis, kind
    return {"type": "string", "pattern": f"^{OBIS_PATTERN}$"}


def _render(schema: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(schema), indent=2) + b"\n"
