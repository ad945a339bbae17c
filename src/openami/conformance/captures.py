"""Captured messages: a message with its topic, as other programs print it one a line.

`mosquitto_sub -F '%J'` and `openami watch --json --raw` print such lines.
"""

import base64
import re
from dataclasses import dataclass
from datetime import datetime

import msgspec

from openami.conformance.verdict import MessageVerdict, judge_message
from openami.profile import (
    Code,
    EventTopic,
    ProfileError,
    RegisterCatalogue,
    TelemetryTopic,
    parse_topic,
    read_time,
)


@dataclass(frozen=True, slots=True)
class Capture:
    """A captured message. ``qos`` and ``at`` are None where the program that wrote it did not say."""

    topic: str
    payload: bytes
    retain: bool
    qos: int | None
    at: datetime | None


class _Line(msgspec.Struct, rename="camel"):
    topic: str
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    payload_base64: str | msgspec.UnsetType = msgspec.UNSET
    retain: bool | int = False
    qos: object = None
    tst: object = None
    received_at: object = None
    meter_serial: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_read_line = msgspec.json.Decoder(_Line).decode


def read_capture(content: bytes) -> Capture | None:
    """Return the message a line holds with its topic; None when the line is a message itself."""
    try:
        line = _read_line(content)
        payload = _payload_of(line)
    except (ValueError, RecursionError):
        return None
    # An envelope may have members topic and payload of its own; a capture has no meterSerial beside them.
    if payload is None or line.meter_serial is not msgspec.UNSET:
        return None
    return Capture(
        topic=line.topic,
        payload=payload,
        retain=bool(line.retain),
        qos=line.qos if isinstance(line.qos, int) else None,
        at=_moment(line.received_at) or _moment(line.tst),
    )


def _moment(text: object) -> datetime | None:
    """Read a time of capture; mosquitto_sub writes Z and then the zone, without a colon."""
    if not isinstance(text, str):
        return None
    return read_time(_with_colon(r"\1\2:\3", text))


_with_colon = re.compile(r"^(.*?)Z?([+-][0-9]{2})([0-9]{2})$").sub


def judge_input(content: bytes, catalogue: RegisterCatalogue) -> MessageVerdict:
    """Judge one input: a message, or a message with its topic."""
    capture = read_capture(content)
    if capture is None:
        return judge_message(content, catalogue, None)
    topic, errors = _judge_delivery(capture)
    verdict = judge_message(capture.payload, catalogue, topic)
    return MessageVerdict((*errors, *verdict.errors), len(errors) + verdict.faults, verdict.remarks)


def _judge_delivery(
    capture: Capture,
) -> tuple[TelemetryTopic | EventTopic | None, list[ProfileError]]:
    errors: list[ProfileError] = []
    if capture.retain:
        detail = "the broker retained the message: whoever comes later takes it for news"
        errors.append(ProfileError(Code.RETAINED, "OA-TOP-006", "", detail))
    try:
        topic = parse_topic(capture.topic)
    except ProfileError as error:
        return None, [*errors, error]
    if isinstance(topic, TelemetryTopic | EventTopic):
        return topic, errors
    detail = f"{topic} carries no readings; telemetry and events are judged here"
    return None, [*errors, ProfileError(Code.UNEXPECTED_TOPIC, "OA-TOP-005", "", detail)]


def _payload_of(line: _Line) -> bytes | None:
    """Return the message's bytes, None without; one that was not JSON is captured as a string."""
    if line.payload is not msgspec.UNSET:
        raw = bytes(line.payload)
        return msgspec.json.decode(raw, type=str).encode() if raw.startswith(b'"') else raw
    if line.payload_base64 is not msgspec.UNSET:
        return base64.b64decode(line.payload_base64, validate=True)
    return None
