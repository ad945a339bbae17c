"""From a delivery to a decision: what is accepted, what is rejected, and why.

Pure: a topic, bytes and the moment of receipt in, a value out. The uplink commits the value and only
then acknowledges. Nothing is dropped: what is rejected is a value too, and is kept with its bytes.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from openami.profile import Envelope, ProfileError


class Kind(StrEnum):
    """Which of a gateway's two topics a message came on."""

    TELEMETRY = "telemetry"
    EVENT = "event"


@dataclass(frozen=True, slots=True)
class Message:
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


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message whose header is sound and of which at least one register is.

    ``rejected_items`` are the registers left out, with their reasons; the message is then kept as well,
    so that they can be replayed.
    """

    kind: Kind
    envelope: Envelope
    message: Message
    rejected_items: tuple[ProfileError, ...] = ()
    findings: tuple[Finding, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message that cannot be stored as readings; kept whole. ``errors`` is never empty."""

    message: Message
    errors: tuple[ProfileError, ...]


Decision = Accepted | Rejected
