"""What this month's connections have cost, in bytes of the link (pure, decision 0076).

Counted as it is foretold (`link_cost`): what goes through MQTT is seen, and what TLS, TCP and IP add is reckoned,
on the upper side. Times are seconds of a clock that is never set.
"""

from typing import Final

from openami.link_cost import Assumptions, exchange_link_bytes, packet_size, ping_bytes

# Nobody answers: SYN, and its repetitions until the attempt is given up, of 60 bytes each.
UNANSWERED_BYTES: Final = 360
_PROPERTIES_BYTES: Final = {"5": 1, "3.1.1": 0}


class LinkAccount:
    """The bytes so far. What is carried over from before a restart is given to it."""

    def __init__(self, assumed: Assumptions, *, protocol: str, keepalive_s: int) -> None:
        self.used_bytes = 0
        self._assumed = assumed
        self._properties = _PROPERTIES_BYTES[protocol]
        self._keepalive_s = keepalive_s
        self._quiet_since_s: float | None = None

    def connected(self, now_s: float, *, resumed: bool) -> None:
        """Count a connection that was opened, with its subscriptions."""
        assumed = self._assumed
        self.used_bytes += assumed.resumed_handshake_bytes if resumed else assumed.handshake_bytes
        self._quiet_since_s = now_s

    def failed(self, *, answered: bool) -> None:
        """Count an attempt to connect. ``answered``: somebody was there, and certificates were shown."""
        self.used_bytes += self._assumed.handshake_bytes if answered else UNANSWERED_BYTES

    def exchanged(self, topic: str, payload: bytes, now_s: float) -> None:
        """Count a message, in either direction, and what answers it."""
        self.idle(now_s)
        self._quiet_since_s = now_s
        packet = packet_size(len(topic.encode()), len(payload), property_bytes=self._properties)
        assumed = self._assumed
        self.used_bytes += packet + assumed.puback_bytes + exchange_link_bytes(packet, assumed)

    def idle(self, now_s: float) -> None:
        """Count the pings of a connection on which nothing was said."""
        if self._quiet_since_s is None or not self._keepalive_s:
            return
        pings = int((now_s - self._quiet_since_s) // self._keepalive_s)
        self._quiet_since_s += pings * self._keepalive_s
        self.used_bytes += pings * ping_bytes(self._assumed)

    def disconnected(self, now_s: float) -> None:
        """Count the last pings."""
        self.idle(now_s)
        self._quiet_since_s = None
