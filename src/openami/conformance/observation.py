"""What the judge sees, as values: the door and the observer make them, the rules read nothing else.

Times are the kit's own clock, aware and in UTC: what the vendor's clock says is a thing to be judged.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Act(StrEnum):
    """What the kit, a control hook or a person's hands do on purpose: the names rules know an act by.

    The first group is done to the world around a gateway. The others are messages the kit sends, so that
    each is also a ``purpose``: a session, a good command, and those that must not move a relay.
    """

    METER_UNPLUGGED = "meter-unplugged"
    NETWORK_LOST = "network-lost"
    ACKNOWLEDGEMENT_WITHHELD = "acknowledgement-withheld"
    GATEWAY_RESTARTED = "gateway-restarted"

    KEYRING = "keyring"
    SESSION_OFFERED = "session-offered"
    SESSION_CLOSED = "session-closed"
    COMMAND_GIVEN = "command-given"

    COMMAND_WITHOUT_SESSION = "command-without-session"
    COMMAND_BADLY_SIGNED = "command-badly-signed"
    COMMAND_OF_ENDED_SESSION = "command-of-ended-session"
    COMMAND_REPLAYED = "command-replayed"
    COMMAND_FOR_ANOTHER_METER = "command-for-another-meter"


@dataclass(frozen=True, slots=True)
class Connected:
    """A client was let in; seen at the kit's door alone.

    ``connection`` counts the door's connections from 1. ``protocol`` is the version of MQTT: ``5``,
    ``3.1.1`` or ``3.1``. ``tls`` is its version as OpenSSL names it, None without TLS; ``certified_as`` the
    common name of the certificate the client showed, None without one.
    """

    at: datetime
    connection: int
    client_id: str
    protocol: str
    clean: bool
    keep_alive_s: int
    will_topic: str | None
    tls: str | None
    certified_as: str | None


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A connection ended. ``orderly``: the client said goodbye; ``by_kit``: it was the kit that cut it."""

    at: datetime
    connection: int
    orderly: bool
    by_kit: bool


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A client asked for topics: each filter with the QoS it asked for."""

    at: datetime
    connection: int
    filters: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Published:
    """A message a client sent.

    ``connection`` is None when it was seen through somebody's broker, which tells neither the sender nor
    how often it was sent; ``qos`` is then what the broker passed on, never more than what was sent, and -1
    where even that was not told.
    ``wire_bytes`` is the size of the MQTT packet, 0 where it was not seen. ``stored``: the broker had kept
    it, retained, from before, so it is evidence of its retain flag alone.
    """

    at: datetime
    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool = False
    connection: int | None = None
    packet_id: int | None = None
    wire_bytes: int = 0
    stored: bool = False


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The broker's PUBACK for a client's message reached the client; ``withheld``: the kit kept it back."""

    at: datetime
    connection: int
    packet_id: int
    withheld: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """The kit itself published a message to the one under test; ``purpose`` is the `Act` it belongs to."""

    at: datetime
    topic: str
    payload: bytes
    purpose: str


@dataclass(frozen=True, slots=True)
class ActBegan:
    """An act of the kit or of the vendor's hands began; ``act`` is one of `Act`."""

    at: datetime
    act: str
    meter_serial: str | None = None


@dataclass(frozen=True, slots=True)
class ActEnded:
    """It ended; ``done`` is False when it was skipped or could not be done, and ``detail`` says why."""

    at: datetime
    act: str
    done: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RelaySeen:
    """A relay's state from outside the wire: a control hook read it, or a person looked."""

    at: datetime
    meter_serial: str
    connected: bool


Observation = (
    Connected
    | Disconnected
    | Subscribed
    | Published
    | Acknowledged
    | Sent
    | ActBegan
    | ActEnded
    | RelaySeen
)
