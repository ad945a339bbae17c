"""Envelope, RegisterReading, Quality: what a gateway publishes about one meter at one moment."""

from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from openami.profile.event import Event
from openami.profile.identifiers import FeederId, GatewayId, MeterSerial, SessionId
from openami.profile.obis import Obis

SCHEMA_VERSION = "0.1"

Value = bool | int | float | str


class Quality(StrEnum):
    """What the sender vouches for. It may be lowered on the way north, never raised."""

    GOOD = "good"
    SUSPECT = "suspect"
    COMMS_LOST = "comms_lost"
    """The meter did not answer: the value is the last one known, ``ts`` its original time."""


class RegisterReading(msgspec.Struct, frozen=True):
    """One register: which, its value in this unit, and how far to trust it."""

    obis: Obis
    value: Value
    unit: str
    quality: Quality


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """One meter's registers at one moment, as published on a telemetry or event topic.

    ``ts`` is the measured time, in UTC. ``seq`` numbers a gateway's envelopes so that a gap can be seen
    (decision 0008). ``ignored`` names extension members that were there and not of our shape.
    """

    ts: datetime
    feeder_id: FeederId
    gateway_id: GatewayId
    meter_serial: MeterSerial
    registers: tuple[RegisterReading, ...]
    session_id: SessionId | None = None
    schema_version: str = SCHEMA_VERSION
    seq: int | None = None
    event: Event | None = None
    ignored: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """Return the message's bytes. Raises ProfileError if a receiver would have to reject it."""
        from openami.profile.codec import encode_envelope  # the codec knows this type

        return encode_envelope(self)


def utc_text(moment: datetime) -> str:
    """Print a moment as the profile writes it: RFC 3339, UTC, ``Z``, no needless fraction.

    >>> utc_text(datetime(2026, 6, 22, 14, 30, tzinfo=UTC))
    '2026-06-22T14:30:00Z'
    """
    text = moment.astimezone(UTC).isoformat()
    return text.removesuffix("+00:00") + "Z"
