"""From a delivery to a decision: what is accepted, what is rejected, and why.

Pure: a topic, bytes and the moment of receipt in, a value out. The uplink commits the value and only
then acknowledges. Nothing is dropped: what is rejected is a value too, and is kept with its bytes.

The order of the questions is the order of what can be trusted: how the message came, then its topic,
then its header, then each register by itself, for one bad register does not cost the customer the
others (decision 0006).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import msgspec

from openami.profile import (
    FAULTS_KEPT_MAX,
    Code,
    CommandTopic,
    Envelope,
    EventTopic,
    ProfileError,
    RegisterCatalogue,
    SessionTopic,
    TelemetryTopic,
    audit_envelope,
    decode_envelope,
    judge_clock,
    judge_register,
    judge_topic,
    parse_topic,
    pointer,
)


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
    """A message that cannot be stored as readings; kept whole. ``errors`` is never empty."""

    message: Message
    errors: tuple[ProfileError, ...]


Decision = Accepted | Rejected


class _Reporting(msgspec.Struct):
    """Of a message on the event topic, whether it carries a signed report."""

    report: msgspec.Raw = msgspec.Raw()


_read_reporting = msgspec.json.Decoder(_Reporting).decode


def report_type(accepted: Accepted) -> str | None:
    """Return which signed report an event message carries in place of an event (decisions 0023, 0032), if any.

    Read, not verified: it names a row for a person; what follows from a report is decided by its signature.
    """
    envelope = accepted.envelope
    if accepted.kind is not Kind.EVENT or envelope.event is not None:
        return None
    try:
        reporting = _read_reporting(accepted.message.payload)
    except msgspec.DecodeError:  # a message of which only some registers could be read
        return None
    if not bytes(reporting.report):
        return None
    by_gateway = str(envelope.meter_serial) == str(envelope.gateway_id)
    return "day_statement" if by_gateway else "command_report"


def ingest(
    message: Message, *, catalogue: RegisterCatalogue, now: datetime | None = None
) -> Decision:
    """Judge one message; whatever its topic and bytes, the answer is a decision.

    ``now`` is the head-end's clock, by default the moment of receipt. A replay passes the current time:
    what was ahead of the clock when it came may be past by now, and still keeps its time of receipt.
    """
    if message.retain:
        return Rejected(message, (_retained(),))
    try:
        topic = parse_topic(message.topic)
    except ProfileError as error:
        return Rejected(message, (error,))
    if isinstance(topic, TelemetryTopic):
        kind = Kind.TELEMETRY
    elif isinstance(topic, EventTopic):
        kind = Kind.EVENT
    else:
        return Rejected(message, (_unexpected(topic),))
    faults: tuple[ProfileError, ...] = ()
    places: Sequence[int] | None = None
    try:
        envelope = decode_envelope(message.payload)
    except ProfileError:
        audit = audit_envelope(message.payload)
        if audit.envelope is None:
            return Rejected(message, audit.errors)
        envelope, faults, places = audit.envelope, audit.errors, audit.places
    wrong_header = _judge_header(envelope, topic, now or message.received_at)
    if wrong_header:
        return Rejected(message, (*wrong_header, *faults)[:FAULTS_KEPT_MAX])
    wrong = [
        index
        for index, register in enumerate(envelope.registers)
        if (entry := catalogue.get(register.obis)) is not None
        and judge_register(register, entry) is not None
    ]
    if not wrong and not faults:
        return Accepted(kind, envelope, message)
    judged = _faults_of(wrong, envelope, places, catalogue=catalogue)
    errors = (*faults, *judged)[:FAULTS_KEPT_MAX]
    bad = frozenset(wrong)
    good = tuple(r for index, r in enumerate(envelope.registers) if index not in bad)
    if not good:
        return Rejected(message, errors)
    envelope = msgspec.structs.replace(envelope, registers=good)
    return Accepted(kind, envelope, message, rejected_items=errors)


def _faults_of(
    wrong: Sequence[int],
    envelope: Envelope,
    places: Sequence[int] | None,
    *,
    catalogue: RegisterCatalogue,
) -> Iterator[ProfileError]:
    """Name what is wrong with registers by their place in the message as it came."""
    for index in wrong:
        register = envelope.registers[index]
        entry = catalogue.get(register.obis)
        place = index if places is None else places[index]
        fault = entry and judge_register(register, entry, path=pointer("registers", place))
        assert fault, "judged wrong a moment ago"
        yield fault


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
        faults += judge_topic(envelope, topic)
    wrong_time = judge_clock(envelope.ts, now)
    if wrong_time is not None:
        faults.append(wrong_time)
    return faults
