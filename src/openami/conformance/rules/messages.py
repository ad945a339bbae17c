"""Topic, QoS, envelope and registers: what one message shows by itself.

On the event topic the profile names no payload. Whatever is wrong with an envelope there breaks our decision
that it is one (OA-EVT-001), and none of the requirements that are the profile's word on readings.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, Final

from openami.conformance.judgement import Kind
from openami.conformance.message import Message
from openami.conformance.observation import Connected
from openami.conformance.occasion import Occasion
from openami.conformance.rules.group import Seen
from openami.conformance.verdict import not_listed, register_faults
from openami.profile import (
    CommandTopic,
    Envelope,
    EventTopic,
    ProfileError,
    RegisterCatalogue,
    TelemetryTopic,
    Topic,
    judge_clock,
    judge_topic,
    parse_topic,
    pointer,
)
from openami.profile.reader import JsonObject, read_document

_QOS: Final[Mapping[type[Topic], str]] = {
    TelemetryTopic: "OA-QOS-001",
    EventTopic: "OA-QOS-002",
    CommandTopic: "OA-QOS-003",
}
_TOPIC: Final = ("OA-TOP-001", "OA-TOP-003", "OA-TOP-004")
# Before there is an object to look into.
_BYTES: Final = ("OA-ENV-001", "OA-ENV-002", "OA-ENV-003")
_OBJECT: Final = (*_BYTES, "OA-ENV-004", "OA-ENV-005", "OA-ENV-010")
# What a member, where it is there, can have wrong with it.
_OF_MEMBER: Final = {
    "ts": ("OA-ENV-008",),
    "schemaVersion": ("OA-ENV-006",),
    "sessionId": ("OA-ENV-009",),
    "feederId": ("OA-ENV-007",),
    "gatewayId": ("OA-ENV-007",),
    "meterSerial": ("OA-ENV-007",),
    "registers": ("OA-REG-001", "OA-REG-010"),
}
_OF_REGISTER_MEMBER: Final = {
    "obis": ("OA-REG-002",),
    "value": ("OA-REG-004", "OA-REG-007", "OA-REG-011"),
    "unit": ("OA-REG-005",),
    "quality": ("OA-REG-006",),
}
_GOOD: Final = (
    *_OBJECT,
    *("OA-ENV-006", "OA-ENV-007", "OA-ENV-008"),
    *(f"OA-REG-{number:03}" for number in (1, 2, 3, 4, 5, 6, 7, 10, 11)),
)


class Messages:
    """Judges each message by itself."""

    requirements: ClassVar = frozenset(
        (
            *_GOOD,
            *_TOPIC,
            *_QOS.values(),
            *("OA-TOP-002", "OA-TOP-006", "OA-ENV-009", "OA-ENV-011", "OA-ENV-012"),
            *("OA-ENV-013", "OA-REG-008", "OA-REG-009", "OA-REG-016", "OA-EVT-001", "OA-EVT-002"),
        )
    )

    def __init__(self, kind: Kind, catalogue: RegisterCatalogue) -> None:
        self._kind = kind
        self._catalogue = catalogue

    def see(self, seen: Seen) -> Iterable[Occasion]:
        match seen:
            case Message() if seen.party == self._kind:
                return self._judge(seen)
            case Connected(will_topic=str() as topic):
                return _judge_will(topic, seen.client_id)
            case _:
                return ()

    def _judge(self, message: Message) -> Iterator[Occasion]:
        published = message.published
        yield _kept_or(
            "OA-TOP-006",
            "the message has the retain flag: whoever comes later takes it for news"
            if published.retain
            else None,
        )
        if published.stored:
            return
        yield from _judge_topic_name(message)
        requirement = _QOS.get(message.kind) if message.kind is not None else None
        if requirement is not None and published.qos >= 0:
            wrong = f"it was published with QoS {published.qos}" if published.qos != 1 else None
            yield _kept_or(requirement, wrong)
        if message.kind is EventTopic:
            yield from _judge_event(message)
        elif message.kind is TelemetryTopic:
            yield from _judge_readings(message)
        if message.envelope is not None:
            yield from self._judge_envelope(message, message.envelope)

    def _judge_envelope(self, message: Message, envelope: Envelope) -> Iterator[Occasion]:
        """Judge what was read without a fault: against its topic, the clock and the register list."""
        if isinstance(message.topic, TelemetryTopic | EventTopic):
            yield from _one("OA-TOP-002", judge_topic(envelope, message.topic))
        wrong_time = judge_clock(envelope.ts, message.published.at)
        for requirement in ("OA-ENV-011", "OA-ENV-012"):
            yield from _one(requirement, () if wrong_time is None else (wrong_time,))
        if envelope.seq is not None:
            yield Occasion("OA-ENV-013")
        elif "seq" in envelope.ignored:
            detail = "seq is not a whole number from 0 to 2^53-1: nobody can count by it"
            yield Occasion("OA-ENV-013", detail, pointer("seq"))
        yield from self._judge_list(message, envelope)

    def _judge_list(self, message: Message, envelope: Envelope) -> Iterator[Occasion]:
        listed = [self._catalogue.get(each.obis) is not None for each in envelope.registers]
        for index, is_listed in enumerate(listed):
            if not is_listed:
                place = index if message.places is None else message.places[index]
                detail = not_listed(envelope.registers[index].obis)
                yield Occasion("OA-REG-016", detail, pointer("registers", place))
                break
        else:
            yield Occasion("OA-REG-016")
        if any(listed):
            faults = register_faults(envelope, message.places, self._catalogue)
            for requirement in ("OA-REG-008", "OA-REG-009"):
                yield from _one(requirement, faults)


def _kept_or(requirement: str, fault: str | None) -> Occasion:
    return Occasion(requirement, fault)


def _one(requirement: str, errors: Iterable[ProfileError]) -> Iterator[Occasion]:
    """Yield the one occasion a message is: broken by the first error of this number, else kept."""
    mine = [error for error in errors if error.requirement == requirement]
    if not mine:
        yield Occasion(requirement)
        return
    more = f"; and {len(mine) - 1} more in this message" if len(mine) > 1 else ""
    yield Occasion(requirement, mine[0].detail + more, mine[0].path)


# --- the topic -----------------------------------------------------------------------------------


def _judge_topic_name(message: Message) -> Iterator[Occasion]:
    error = message.topic_error
    for requirement in _TOPIC if error is None else (error.requirement,):
        yield Occasion(requirement, None if error is None else error.detail)


def _judge_will(topic: str, client_id: str) -> Iterator[Occasion]:
    """A will is a message too; only one below the profile's root is meant to be the profile's."""
    if topic.split("/", 1)[0] != "openami":
        return
    try:
        parse_topic(topic)
    except ProfileError as error:
        yield Occasion(error.requirement, f"the client's will: {error.detail}", by=client_id)


# --- the payload ---------------------------------------------------------------------------------

_ALL_GOOD: Final = tuple(Occasion(requirement) for requirement in _GOOD)


def _judge_readings(message: Message) -> Iterator[Occasion]:
    if not message.errors:
        yield from _ALL_GOOD
        if message.envelope is not None and message.envelope.session_id is not None:
            yield Occasion("OA-ENV-009")
        return
    broken = {error.requirement for error in message.errors}
    for requirement in dict.fromkeys((*_applicable(message.published.payload), *broken)):
        if requirement not in _TOPIC:
            yield from _one(requirement, message.errors)
    for requirement in sorted(broken.intersection(_TOPIC)):  # an id that is none, in the message
        yield from _one(requirement, message.errors)


def _applicable(payload: bytes) -> Iterator[str]:
    """Yield what a faulty message can be judged by: what is not there can have nothing wrong with it."""
    try:
        root = read_document(payload).root
    except ProfileError:
        return
    if not isinstance(root, JsonObject):
        yield from _BYTES
        return
    yield from _OBJECT
    for name, requirements in _OF_MEMBER.items():
        if name in root:
            yield from requirements
    items = root.get("registers")
    for item in items if isinstance(items, list) else ():
        if isinstance(item, JsonObject):
            yield "OA-REG-003"
            for name, requirements in _OF_REGISTER_MEMBER.items():
                if name in item:
                    yield from requirements


def _judge_event(message: Message) -> Iterator[Occasion]:
    if message.errors:
        first = message.errors[0]
        yield Occasion("OA-EVT-001", f"{first.detail} ({first.requirement})", first.path)
        return
    yield Occasion("OA-EVT-001")
    envelope = message.envelope
    assert envelope is not None, "what has no errors has been read"
    if envelope.event is not None:
        yield Occasion("OA-EVT-002")
    elif "event" in envelope.ignored:
        detail = "the member event is not of the shape readers know: they ignore it"
        yield Occasion("OA-EVT-002", detail, pointer("event"))
    elif "report" not in message.members:
        detail = "nothing says what happened: there is no member event, and no signed report"
        yield Occasion("OA-EVT-002", detail)
