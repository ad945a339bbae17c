"""What messages cost on a link, in bytes and in money: MQTT, TLS, TCP and IP around topic and payload (pure).

What lies below MQTT is reckoned. Every figure the reckoning rests on is in `Assumptions`, so that whoever pays can
put his own in its place.
"""

from decimal import ROUND_HALF_UP, Decimal
from math import ceil
from typing import Annotated, Final

import msgspec
from msgspec import Meta

DAY_S: Final = 86_400
MB_BYTES: Final = 1_000_000  # as networks bill it, not 2**20
# Bounds of what a report says, since anybody can sign one: figures that can be reckoned with, and prices.
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
_CENT: Final = Decimal("0.01")
_PING_BYTES: Final = 2  # MQTT 5.0 §3.12, §3.13: a fixed header each way


class Assumptions(msgspec.Struct, frozen=True, rename="camel"):
    """What a bill takes for granted where nothing was seen; bytes and days."""

    month_days: Positive = 30
    mb_bytes: Positive = MB_BYTES
    ip_tcp_bytes: Count = 52
    """IPv4 header 20 and TCP header 20 with its timestamps 12, of each segment either way."""
    tls_record_bytes: Count = 22
    """TLS 1.3: header 5, content type 1, tag 16; each MQTT packet is a record of its own."""
    segment_bytes: Positive = 1_400
    """What a radio link lets through in one TCP segment."""
    puback_bytes: Count = 4
    handshake_bytes: Count = 5_000
    """TCP, TLS 1.3 with certificates on both sides, CONNECT, SUBSCRIBE and their answers."""
    resumed_handshake_bytes: Count = 2_800
    """The same where the TLS session of the connection before is resumed, without certificates."""
    connections_per_day: Count = 1
    keep_alive_s: Count = 60
    """Where the gateway's own was not seen."""


WITHOUT_TLS: Final = Assumptions(
    tls_record_bytes=0, handshake_bytes=800, resumed_handshake_bytes=800
)
"""The same of a link that is not encrypted: TCP, CONNECT, SUBSCRIBE and their answers, and nothing around them."""


def packet_size(topic: int, payload: int, *, property_bytes: int = 0) -> int:
    """Return the size of a PUBLISH packet, QoS 1 (§3.3); MQTT 5 has at least one byte of properties, 3.1.1 none."""
    remaining = 2 + topic + 2 + property_bytes + payload
    length_bytes = 1 + sum(remaining >= 128**power for power in (1, 2, 3))
    return 1 + length_bytes + remaining


def link_bytes(packet: int, assumed: Assumptions) -> int:
    """Return what TLS, TCP and IP add to an MQTT packet of so many bytes, one way."""
    record = packet + assumed.tls_record_bytes
    return assumed.tls_record_bytes + ceil(record / assumed.segment_bytes) * assumed.ip_tcp_bytes


def exchange_link_bytes(packet: int, assumed: Assumptions) -> int:
    """Return what they add to a PUBLISH of so many bytes and to what answers it."""
    # The segment that acknowledges the PUBACK; that of the message rides with it.
    acknowledgement = assumed.ip_tcp_bytes
    return link_bytes(packet, assumed) + link_bytes(assumed.puback_bytes, assumed) + acknowledgement


def ping_bytes(assumed: Assumptions) -> int:
    """Return what a ping and its answer cost."""
    return 2 * (_PING_BYTES + link_bytes(_PING_BYTES, assumed)) + assumed.ip_tcp_bytes


def idle_bytes(sendings: int, keep_alive_s: int, assumed: Assumptions) -> int:
    """Return what a connection costs a month by itself: handshakes, and pings where no sending spares one."""
    rounds = assumed.month_days * DAY_S // keep_alive_s if keep_alive_s else 0
    pings = max(0, rounds - sendings)
    # Once a day in full, whatever was resumed before (decision 0077).
    full, resumed = min(1, assumed.connections_per_day), max(0, assumed.connections_per_day - 1)
    a_day = full * assumed.handshake_bytes + resumed * assumed.resumed_handshake_bytes
    return pings * ping_bytes(assumed) + assumed.month_days * a_day


def cost(total_bytes: int, price_per_mb: Decimal | None, assumed: Assumptions) -> str | None:
    """Return the price of so many bytes, to the cent; None without a price."""
    if price_per_mb is None:
        return None
    exact = Decimal(total_bytes) / assumed.mb_bytes * price_per_mb
    return str(exact.quantize(_CENT, rounding=ROUND_HALF_UP))
