"""The message port: what gateway and head-end ask of MQTT, and no more.

Two rules shape it:

* ``publish`` returns when the broker has acknowledged (PUBACK), so the caller knows what it may mark.
* A delivery is acknowledged by the caller, because only the caller knows when it is safe: after its
  own commit. Clients that acknowledge on receipt lose what a crash takes between receipt and commit.

A connection is a context with an end. When it breaks, every wait on it raises ``TransportError``;
reconnecting, with `Backoff`, is the caller's loop, so that it can first repair what it lost.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol


class TransportError(Exception):
    """The broker cannot be reached, refused us, or the connection ended.

    ``remedy`` says in one sentence what a person can do about it; empty when waiting is the remedy.
    ``permanent`` is true when trying again without a change will fail again: a certificate of the
    wrong authority, a password refused.
    """

    def __init__(self, message: str, *, remedy: str = "", permanent: bool = False) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.permanent = permanent


class PublishRefused(TransportError):
    """The broker refused this one message (an MQTT 5 reason code of 0x80 or more); the connection lives.

    A publisher keeps the message and goes on with the others.
    """


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message received at QoS 1, owed an acknowledgement.

    ``epoch`` names the connection it came on: packet ids belong to a connection, so acknowledging
    on a later one could answer for another message. A stale delivery is simply redelivered.
    """

    topic: str
    payload: bytes
    retain: bool
    packet_id: int
    epoch: int


class Connection(Protocol):
    """An open session with the broker."""

    @property
    def resumed(self) -> bool:
        """Whether the broker still had our session; if not, what came for us since then is lost."""
        ...

    @property
    def tls_resumed(self) -> bool:
        """Whether the TLS handshake was a short one, which resumed the session of the connection before."""
        ...

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1, never retained; return when the broker has acknowledged it.

        Raises TransportError when the connection ends first (the message may or may not have
        arrived), PublishRefused when the broker refused it (MQTT 5 reason code; 3.1.1 cannot say so).
        """
        ...

    async def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe at QoS 1; return on SUBACK. Raises TransportError if any filter is refused."""
        ...

    async def receive(self, at_most: int) -> Sequence[Delivery]:
        """Wait for a delivery; return it with those already waiting, in order, ``at_most`` in all."""
        ...

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Send PUBACKs, in the order given; stale deliveries (an older epoch) are passed over."""
        ...


class MessagePort(Protocol):
    """A way to the broker."""

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        """Open a connection that resumes the persistent session. Raises TransportError."""
        ...
