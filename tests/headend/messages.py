"""Messages for the head-end's tests: the profile's example, and what is done to it."""

import json
from datetime import UTC, datetime
from typing import Any

from openami.headend.ingest import Message
from openami.profile import TelemetryTopic, parse_topic

EXAMPLE: dict[str, Any] = {
    "schemaVersion": "0.1",
    "ts": "2026-06-22T14:30:00Z",
    "feederId": "feeder-north-paravur-01",
    "gatewayId": "pole-ems-0042",
    "meterSerial": "DS1000-88421",
    "sessionId": "sip-7f3a9c2e",
    "registers": [
        {"obis": "1.8.0", "value": 1842.5, "unit": "kWh", "quality": "good"},
        {"obis": "96.8.0", "value": 12.4, "unit": "kWh", "quality": "good"},
        {"obis": "96.11.1", "value": "connected", "unit": "enum", "quality": "good"},
    ],
}
ROOT = "openami/v1/feeder-north-paravur-01/pole-ems-0042"
TOPIC = f"{ROOT}/meter/DS1000-88421/telemetry"
EVENT_TOPIC = f"{ROOT}/meter/DS1000-88421/event"
RECEIVED = datetime(2026, 6, 22, 14, 30, 2, tzinfo=UTC)
EVENT = {
    "eventId": "e-1",
    "type": "tamper.cover_open",
    "state": "raised",
    "severity": "major",
    "occurredAt": "2026-06-22T14:29:00Z",
    "source": "meter",
}


def register(**members: Any) -> dict[str, Any]:
    """Return the example's first register with members changed; None takes one out."""
    merged = {**EXAMPLE["registers"][0], **members}
    return {name: value for name, value in merged.items() if value is not None}


def payload(**members: Any) -> bytes:
    """Return the example with members changed; None takes one out."""
    merged = {**EXAMPLE, **members}
    kept = {name: value for name, value in merged.items() if value is not None}
    return json.dumps(kept, separators=(",", ":")).encode()


def message(
    body: bytes | None = None,
    *,
    topic: str = TOPIC,
    received_at: datetime = RECEIVED,
    retain: bool = False,
) -> Message:
    """Return a message as it came: the example, unless said otherwise."""
    return Message(topic, payload() if body is None else body, received_at, retain)


def message_of(serial: str, **members: Any) -> Message:
    """Return the example told by another meter."""
    topic = parse_topic(TOPIC)
    assert isinstance(topic, TelemetryTopic)
    return message(
        payload(meterSerial=serial, **members), topic=TOPIC.replace(topic.meter_serial, serial)
    )
