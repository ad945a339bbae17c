"""From a delivery to a decision: what is accepted, what is rejected, and why.

Pure: a topic, bytes and the moment of receipt in, a value out. The uplink commits the value and only
then acknowledges. Nothing is dropped: what is rejected is a value too, and is kept with its bytes.

The order of the questions is the order of what can be trusted: how the message came, then its topic,
then its header, then each register by itself, for one bad register does not cost the customer the
others (decision 0006).
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from openami.profile import (
    MESSAGE_BYTES_MAX,
    Code,
    CommandTopic,
    Envelope,
    EventTopic,
    ProfileError,
    RegisterCatalogue,
    RegisterReading,
    SessionTopic,
    TelemetryTopic,
    audit_envelope,
    decode_envelope,
    parse_topic,
    pointer,
    utc_text,
)

# Decision 0005: a clock that is kept at all drifts less; and a time in the future would stay "the
# latest" until it comes.
AHEAD_OF_CLOCK_MAX_S: Final = 5 * 60
# The profile is younger; a clock that lost its battery says 1970 or 2000 (decision 0005).
OLDEST_TS: Final = datetime(2020, 1, 1, tzinfo=UTC)
# 64 KiB hold some 20,000 empty registers; a vendor learns from the first faults, not from all of them.
FAULTS_KEPT_MAX: Final = 256

_AHEAD_OF_CLOCK_MAX = timedelta(seconds=AHEAD_OF_CLOCK_MAX_S)


class Kind(StrEnum):
    """Which of a gateway's two topics a message came on."""

    TELEMETRY = "telemetry"
    EVENT = "event"


class Message(msgspec.Struct, frozen=True):
    """A delivery as it came: the evidence."""

    topic: str
    payload: bytes
    received_at: datetime
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a person should know about a stored reading; it never changes the reading."""

    code: str
    meter_serial: str
    obis: str
    detail: str


class Accepted(msgspec.Struct, frozen=True):
    """A message whose header is sound and of which at least one register is.

    ``rejected_items`` are the registers left out, with their reasons; the message is then kept as well,
    so that they can be replayed.
    """

    kind: Kind
    envelope: Envelope
    message: Message
    rejected_items: tuple[ProfileError, ...] = ()
    findings: tuple[Finding, ...] = ()


class Rejected(msgspec.Struct, frozen=True):
    """A message that cannot be stored as readings; kept whole. ``errors`` is never empty.

    Of an oversize message only what proves it is kept: the bound and one byte more.
    """

    message: Message
    errors: tuple[ProfileError, ...]


Decision = Accepted | Rejected


def ingest(
    message: Message, *, catalogue: RegisterCatalogue, now: datetime | None = None
) -> Decision:
    """Judge one message; whatever its topic and bytes, the answer is a decision.

    ``now`` is the head-end's clock, by default the moment of receipt. A replay passes the current time:
    what was ahead of the clock when it came may be past by now, and still keeps its time of receipt.
    """
    if message.retain:
        return Rejected(_bounded(message), (_retained(),))
    try:
        topic = parse_topic(message.topic)
    except ProfileError as error:
        return Rejected(_bounded(message), (error,))
    if isinstance(topic, CommandTopic | SessionTopic):
        return Rejected(_bounded(message), (_unexpected(topic),))
    kind = Kind.TELEMETRY if isinstance(topic, TelemetryTopic) else Kind.EVENT
    faults: tuple[ProfileError, ...] = ()
    try:
        envelope = decode_envelope(message.payload)
    except ProfileError:
        audit = audit_envelope(message.payload)
        if audit.envelope is None:
            return Rejected(_bounded(message), audit.errors[:FAULTS_KEPT_MAX])
        envelope, faults = audit.envelope, audit.errors
    wrong_header = _judge_header(envelope, topic, now or message.received_at)
    if wrong_header:
        return Rejected(message, (*wrong_header, *faults)[:FAULTS_KEPT_MAX])
    wrong_items = [
        (index, fault)
        for index, register in enumerate(envelope.registers)
        if (fault := _judge_register(register, catalogue)) is not None
    ]
    if not wrong_items and not faults:
        return Accepted(kind, envelope, message)
    return _partly(kind, envelope, message, wrong_items=wrong_items, faults=faults)


def _bounded(message: Message) -> Message:
    if len(message.payload) <= MESSAGE_BYTES_MAX:
        return message
    # A broker lets 256 MB through, and a flood of them would push out all other evidence.
    return msgspec.structs.replace(message, payload=message.payload[: MESSAGE_BYTES_MAX + 1])


# --- how it came, and its header -----------------------------------------------------------------


def _retained() -> ProfileError:
    return ProfileError(
        Code.RETAINED,
        "OA-TOP-006",
        "",
        "the broker had retained the message: it says what was once, at every new subscription; "
        "publish without the retain flag and clear the retained message",
    )


def _unexpected(topic: CommandTopic | SessionTopic) -> ProfileError:
    return ProfileError(
        Code.UNEXPECTED_TOPIC,
        "OA-TOP-005",
        "",
        f"{topic} carries what a head-end sends, not what it stores: "
        "readings go to …/telemetry, events to …/event",
    )


def _judge_header(
    envelope: Envelope, topic: TelemetryTopic | EventTopic, now: datetime
) -> list[ProfileError]:
    faults: list[ProfileError] = []
    if (
        envelope.meter_serial != topic.meter_serial
        or envelope.gateway_id != topic.gateway_id
        or envelope.feeder_id != topic.feeder_id
    ):
        faults += _mismatches(envelope, topic)
    if envelope.ts > now + _AHEAD_OF_CLOCK_MAX:
        faults.append(
            ProfileError(
                Code.TIME_IN_FUTURE,
                "OA-ENV-011",
                pointer("ts"),
                f"{utc_text(envelope.ts)} is more than {AHEAD_OF_CLOCK_MAX_S} s ahead of the "
                f"head-end's clock, {utc_text(now)}: set the gateway's clock; the message is "
                "kept and can be replayed",
            )
        )
    elif envelope.ts < OLDEST_TS:
        faults.append(
            ProfileError(
                Code.TIME_TOO_OLD,
                "OA-ENV-012",
                pointer("ts"),
                f"{utc_text(envelope.ts)} is before {utc_text(OLDEST_TS)}: "
                "the gateway's clock was not set when this was measured",
            )
        )
    return faults


def _mismatches(envelope: Envelope, topic: TelemetryTopic | EventTopic) -> list[ProfileError]:
    pairs = (
        ("feederId", envelope.feeder_id, topic.feeder_id),
        ("gatewayId", envelope.gateway_id, topic.gateway_id),
        ("meterSerial", envelope.meter_serial, topic.meter_serial),
    )
    return [
        ProfileError(
            Code.TOPIC_MISMATCH,
            "OA-TOP-002",
            pointer(name),
            f"the message says {name} {in_body!r}, its topic {in_topic!r}",
        )
        for name, in_body, in_topic in pairs
        if in_body != in_topic
    ]


# --- its registers -------------------------------------------------------------------------------

# What is wrong with one register: code, requirement, member, detail; its place is known to the caller.
_Fault = tuple[Code, str, str, str]


def _judge_register(register: RegisterReading, catalogue: RegisterCatalogue) -> _Fault | None:
    """Judge a register against its entry in the catalogue; one that is not in it may hold anything."""
    entry = catalogue.get(register.obis)
    if entry is None:
        return None
    if entry.unit != register.unit and not _same_unit(entry.unit, register.unit):
        return (
            Code.WRONG_UNIT,
            "OA-REG-008",
            "unit",
            f"the unit of {register.obis} is {entry.unit!r}, not {register.unit[:40]!r}",
        )
    kind = _JSON_TYPES[type(register.value)]
    if entry.type is not None and entry.type != kind:
        return (
            Code.WRONG_VALUE_TYPE,
            "OA-REG-009",
            "value",
            f"the value of {register.obis} is a {entry.type}, not a {kind}",
        )
    return None


_JSON_TYPES: Final = {bool: "boolean", int: "number", float: "number", str: "string"}


def _same_unit(listed: str, sent: str) -> bool:
    """Compare by meaning: vendors write KWH and kwh; an entry without a unit takes any."""
    return not listed or listed.casefold() == sent.casefold()


def _partly(
    kind: Kind,
    envelope: Envelope,
    message: Message,
    *,
    wrong_items: list[tuple[int, _Fault]],
    faults: tuple[ProfileError, ...],
) -> Decision:
    """Keep the good registers and name the bad ones by their place in the message as it came."""
    places = _places(len(envelope.registers), faults)
    errors = (
        *faults,
        *(
            ProfileError(code, requirement, pointer("registers", places[index], member), detail)
            for index, (code, requirement, member, detail) in wrong_items
        ),
    )[:FAULTS_KEPT_MAX]
    wrong = {index for index, _ in wrong_items}
    good = tuple(r for index, r in enumerate(envelope.registers) if index not in wrong)
    if not good:
        return Rejected(message, errors)
    return Accepted(
        kind, msgspec.structs.replace(envelope, registers=good), message, rejected_items=errors
    )


def _places(good_items: int, faults: tuple[ProfileError, ...]) -> list[int]:
    """Return where each item that the audit let through stands among those that came."""
    bad = {int(fault.path.split("/")[2]) for fault in faults}
    return [place for place in range(good_items + len(bad)) if place not in bad]
