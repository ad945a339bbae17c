"""The verdict on one message by itself: what is wrong, and what a person should look at.

Judged by what a message and its topic are, without what came before or after: what a file of messages can be
judged by. The rules of the kit and `openami check` ask the same functions, so that a vendor hears at home
what is said of the gateway in the field.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from openami.profile import (
    SCHEMA_VERSION,
    Envelope,
    EventTopic,
    Obis,
    ProfileError,
    RegisterCatalogue,
    TelemetryTopic,
    audit_envelope,
    implausible,
    judge_register,
    judge_topic,
    pointer,
)
from openami.profile.reader import JsonObject, read_document

# The profile's members, and those this system adds (decision 0017).
_MEMBERS_OF_PROFILE = frozenset(
    ("schemaVersion", "ts", "feederId", "gatewayId", "meterSerial", "sessionId", "registers")
)
_KNOWN_MEMBERS = _MEMBERS_OF_PROFILE | {"seq", "event", "command", "report", "signature"}
_KNOWN_REGISTER_MEMBERS = frozenset(("obis", "value", "unit", "quality"))


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that is let through, and that a person should look at."""

    code: str
    path: str
    detail: str


@dataclass(frozen=True, slots=True)
class MessageVerdict:
    """What is said about one message; it is rejected when there is an error.

    ``faults`` counts the errors, those that were too many to be kept among them.
    """

    errors: tuple[ProfileError, ...]
    faults: int
    remarks: tuple[Remark, ...]


def judge_message(
    payload: bytes, catalogue: RegisterCatalogue, topic: TelemetryTopic | EventTopic | None
) -> MessageVerdict:
    """Judge a message, whatever its bytes; against its topic too, where that is known."""
    audit = audit_envelope(payload)
    if audit.envelope is None:
        return MessageVerdict(audit.errors, audit.faults, ())
    further = list(judge_topic(audit.envelope, topic)) if topic is not None else []
    remarks = list(_remarks_on_header(audit.envelope))
    seen: set[Obis] = set()
    for place, reading in zip(audit.places, audit.envelope.registers, strict=True):
        path = pointer("registers", place)
        if reading.obis in seen:
            remarks.append(Remark("REPEATED_REGISTER", path, f"{reading.obis} stands twice"))
        seen.add(reading.obis)
        register = catalogue.get(reading.obis)
        if register is None:
            remarks.append(Remark("UNKNOWN_REGISTER", path, not_listed(reading.obis)))
        elif (error := judge_register(reading, register, path=path)) is not None:
            further.append(error)
        elif (doubt := implausible(reading, register)) is not None:
            remarks.append(Remark("IMPLAUSIBLE_VALUE", path + pointer("value"), doubt))
    remarks.extend(_unknown_members(payload))
    return MessageVerdict((*audit.errors, *further), audit.faults + len(further), tuple(remarks))


def register_faults(
    envelope: Envelope, places: Sequence[int] | None, catalogue: RegisterCatalogue
) -> tuple[ProfileError, ...]:
    """Return where an envelope's registers are not what the list says of their codes.

    ``places`` tells where in the message each of them stood; None when all were good and stand in order.
    """
    faults = []
    for index, reading in enumerate(envelope.registers):
        register = catalogue.get(reading.obis)
        if register is None or judge_register(reading, register) is None:
            continue
        path = pointer("registers", index if places is None else places[index])
        fault = judge_register(reading, register, path=path)
        assert fault is not None, "judged wrong a moment ago"
        faults.append(fault)
    return tuple(faults)


def not_listed(obis: Obis) -> str:
    """Say that a code is not in the register list."""
    return f"{obis} is not in the register list: it is stored unjudged"


def _remarks_on_header(envelope: Envelope) -> Iterator[Remark]:
    if envelope.schema_version != SCHEMA_VERSION:
        detail = f"written for {envelope.schema_version}; read as {SCHEMA_VERSION}"
        yield Remark("NEWER_VERSION", pointer("schemaVersion"), detail)
    for name in envelope.ignored:
        yield Remark("EXTENSION_IGNORED", pointer(name), f"{name} is not of our shape: ignored")


def _unknown_members(payload: bytes) -> Iterator[Remark]:
    """Tell of members nobody reads: they are allowed, and most often misspelt."""
    root = read_document(payload).root
    assert isinstance(root, JsonObject)
    yield from (_unknown(pointer(name)) for name in root if name not in _KNOWN_MEMBERS)
    items = root["registers"]
    assert isinstance(items, list)
    for index, item in enumerate(items):
        if isinstance(item, JsonObject):
            yield from (
                _unknown(pointer("registers", index, name))
                for name in item
                if name not in _KNOWN_REGISTER_MEMBERS
            )


def _unknown(path: str) -> Remark:
    return Remark("UNKNOWN_MEMBER", path, "no reader of this profile looks at it; is it misspelt?")
