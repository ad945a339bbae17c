"""Envelope, RegisterReading, Quality: what a gateway publishes about one meter at one moment."""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Final

import msgspec
from msgspec import Meta

from openami.profile.event import Event
from openami.profile.identifiers import FeederId, GatewayId, MeterSerial, SessionId
from openami.profile.obis import Obis

SCHEMA_VERSION: Final = "0.1"

# JSON numbers are doubles for almost every peer: beyond ±(2**53 - 1) neighbours become one (decision 0016).
INTEGER_MAX: Final = 2**53 - 1

# For the schema only: a pattern in the parser would cost more than the rest of it.
_without_nul = Meta(extra_json_schema={"pattern": "^[^\\u0000]*$"})

# Without int among them, 1 would be read as 1.0 and 2**53 + 1 would lose a digit.
Value = (
    bool
    | Annotated[int, Meta(ge=-INTEGER_MAX, le=INTEGER_MAX)]
    | float
    | Annotated[str, _without_nul]
)


class Quality(StrEnum):
    """What the sender vouches for. It may be lowered on the way north, never raised."""

    GOOD = "good"
    SUSPECT = "suspect"
    COMMS_LOST = "comms_lost"
    """The meter did not answer: the value is the last one known, ``ts`` its original time."""


# gc=False, here and below: these hold values that hold nothing, so no cycle can pass through them, and
# thousands a second need not be looked at by the collector.
class RegisterReading(msgspec.Struct, frozen=True, gc=False):
    """One register: which, its value in this unit, and how far to trust it."""

    obis: Obis
    value: Value
    unit: Annotated[str, _without_nul]
    quality: Quality


class Envelope(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One meter's registers at one moment, as published on a telemetry or event topic.

    ``ts`` is the measured time, in UTC. ``seq`` numbers a gateway's envelopes so that a gap can be seen
    (decision 0008). ``ignored`` names extension members that were there and not of our shape; it says
    something of the message that came and is not sent on.
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

    # Set by the codec, which knows this type and must not be known by it.
    encode: ClassVar[Callable[["Envelope"], bytes]]
    """Return the message's bytes. Raises ProfileError if a receiver would reject it, or part of it."""
