"""The bandwidth bill: what a meter's telemetry costs a month, in bytes and in money (pure).

Payload, topic and MQTT packet are counted as they were seen; what lies below them, TLS, TCP and IP, no one sees
here and is estimated. Every figure the estimate rests on stands in the sheet, so that whoever pays can put his
own in its place.
"""

from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from math import ceil
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from openami.conformance.traffic import GatewayTraffic, MeterTraffic, Traffic, usual_interval_s

DAY_S: Final = 86_400
# Bounds of what a report says, since anybody can sign one: figures that can be reckoned with, and prices.
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Price = Annotated[str, Meta(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$")]
_CENT = Decimal("0.01")


class Assumptions(msgspec.Struct, frozen=True, rename="camel"):
    """What the bill takes for granted where nothing was seen; bytes and days."""

    month_days: Positive = 30
    mb_bytes: Positive = 1_000_000
    """As networks bill it, not 2**20."""
    ip_tcp_bytes: Count = 52
    """IPv4 header 20 and TCP header 20 with its timestamps 12, of each segment either way."""
    tls_record_bytes: Count = 22
    """TLS 1.3: header 5, content type 1, tag 16; each MQTT packet is a record of its own."""
    segment_bytes: Positive = 1_400
    """What a radio link lets through in one TCP segment."""
    puback_bytes: Count = 4
    handshake_bytes: Count = 5_000
    """TCP, TLS 1.3 with certificates on both sides, CONNECT, SUBSCRIBE and their answers."""
    connections_per_day: Count = 1
    keep_alive_s: Count = 60
    """Where the gateway's own was not seen."""


class MonthBill(msgspec.Struct, frozen=True, rename="camel"):
    """A month at one interval. ``mqtt_bytes`` are headers and PUBACKs, ``link_bytes`` TLS, TCP and IP;
    ``cost`` is None where no price was given."""

    interval_s: int
    messages: int
    payload_bytes: int
    topic_bytes: int
    mqtt_bytes: int
    link_bytes: int
    total_bytes: int
    cost: str | None


class MeterBill(msgspec.Struct, frozen=True, rename="camel"):
    """One meter; bytes are those of a telemetry message on average.

    ``packets_seen`` tells whether the MQTT packets were seen, or computed from topic and payload. ``seen`` is a
    month at the interval it was seen at, None where too little came to tell it; ``chosen`` one at the interval
    that was asked for.
    """

    gateway: str
    meter: str
    messages: int
    payload_bytes: int
    topic_bytes: int
    packet_bytes: int
    packets_seen: bool
    seen: MonthBill | None
    chosen: MonthBill | None


class GatewayBill(msgspec.Struct, frozen=True, rename="camel"):
    """A gateway's meters together. ``idle_bytes`` a month are what its connection costs by itself: keep-alive
    and handshakes; they are in the totals."""

    gateway: str
    meters: int
    idle_bytes: int
    seen_bytes: int | None
    seen_cost: str | None
    chosen_bytes: int | None
    chosen_cost: str | None


class BandwidthSheet(msgspec.Struct, frozen=True, rename="camel"):
    """The bill. ``price_per_mb`` is a decimal number in ``currency``."""

    price_per_mb: Price | None
    currency: str
    interval_s: Positive | None
    assumptions: Assumptions
    meters: tuple[MeterBill, ...]
    gateways: tuple[GatewayBill, ...]


def bandwidth_sheet(
    traffic: Traffic,
    *,
    interval_s: int | None = None,
    price_per_mb: Decimal | None = None,
    currency: str = "",
    assumptions: Assumptions | None = None,
) -> BandwidthSheet:
    """Return the bill at the interval that was seen and, where one is given, at ``interval_s``."""
    assumed = assumptions or Assumptions()
    senders = sorted(
        (each for each in traffic.meters.values() if each.telemetry.messages),
        key=lambda each: (each.gateway, each.meter),
    )
    meters = tuple(_meter(each, interval_s, price_per_mb, assumed) for each in senders)
    gateways = tuple(
        _gateway(gateway, [m for m in meters if m.gateway == name], price_per_mb, assumed)
        for name, gateway in sorted(traffic.gateways.items())
    )
    return BandwidthSheet(
        price_per_mb=None if price_per_mb is None else f"{price_per_mb:f}",
        currency=currency,
        interval_s=interval_s,
        assumptions=assumed,
        meters=meters,
        gateways=tuple(each for each in gateways if each.meters),
    )


def _meter(
    meter: MeterTraffic, interval_s: int | None, price: Decimal | None, assumed: Assumptions
) -> MeterBill:
    flow = meter.telemetry
    payload = round(flow.payload_bytes / flow.messages)
    topic = round(flow.topic_bytes / flow.messages)
    packets_seen = flow.packets == flow.messages
    packet = (
        round(flow.packet_bytes / flow.packets) if packets_seen else packet_size(topic, payload)
    )
    per_moment = meter.timed / meter.moments if meter.moments else 1.0
    seen_s = usual_interval_s(meter.spacings)

    def month(every_s: int | None) -> MonthBill | None:
        if every_s is None:
            return None
        messages = round(assumed.month_days * DAY_S / every_s * per_moment)
        return _month(every_s, messages, payload, topic, packet, price, assumed)

    return MeterBill(
        gateway=meter.gateway,
        meter=meter.meter,
        messages=flow.messages,
        payload_bytes=payload,
        topic_bytes=topic,
        packet_bytes=packet,
        packets_seen=packets_seen,
        seen=month(seen_s),
        chosen=month(interval_s),
    )


def _month(
    interval_s: int,
    messages: int,
    payload: int,
    topic: int,
    packet: int,
    price: Decimal | None,
    assumed: Assumptions,
) -> MonthBill:
    mqtt = max(0, packet - payload - topic) + assumed.puback_bytes
    link = link_bytes(packet, assumed) + link_bytes(assumed.puback_bytes, assumed)
    # The segment that acknowledges the PUBACK; that of the message rides with it.
    link += assumed.ip_tcp_bytes
    total = messages * (payload + topic + mqtt + link)
    return MonthBill(
        interval_s=interval_s,
        messages=messages,
        payload_bytes=messages * payload,
        topic_bytes=messages * topic,
        mqtt_bytes=messages * mqtt,
        link_bytes=messages * link,
        total_bytes=total,
        cost=_cost(total, price, assumed),
    )


def _gateway(
    gateway: GatewayTraffic, meters: list[MeterBill], price: Decimal | None, assumed: Assumptions
) -> GatewayBill:
    keep_alive_s = assumed.keep_alive_s if gateway.keep_alive_s is None else gateway.keep_alive_s
    seen = [meter.seen for meter in meters]
    chosen = [meter.chosen for meter in meters]
    seen_bytes = _sum(seen, keep_alive_s, assumed)
    chosen_bytes = _sum(chosen, keep_alive_s, assumed)
    known = [month for month in (seen if seen_bytes is not None else chosen) if month is not None]
    return GatewayBill(
        gateway=gateway.name,
        meters=len(meters),
        idle_bytes=_idle(known, keep_alive_s, assumed),
        seen_bytes=seen_bytes,
        seen_cost=None if seen_bytes is None else _cost(seen_bytes, price, assumed),
        chosen_bytes=chosen_bytes,
        chosen_cost=None if chosen_bytes is None else _cost(chosen_bytes, price, assumed),
    )


def _sum(months: Iterable[MonthBill | None], keep_alive_s: int, assumed: Assumptions) -> int | None:
    """Return a gateway's month; None where a meter's is not known, for a part would pass as the whole."""
    known = list(months)
    if not known or any(month is None for month in known):
        return None
    whole = [month for month in known if month is not None]
    return sum(month.total_bytes for month in whole) + _idle(whole, keep_alive_s, assumed)


def _idle(months: Iterable[MonthBill], keep_alive_s: int, assumed: Assumptions) -> int:
    """Return what a connection costs a month by itself; a ping is spared by each message."""
    messages = sum(month.messages for month in months)
    rounds = assumed.month_days * DAY_S // keep_alive_s if keep_alive_s else 0
    pings = max(0, rounds - messages)
    ping = 2 * link_bytes(2, assumed) + 2 * 2 + assumed.ip_tcp_bytes
    handshakes = assumed.month_days * assumed.connections_per_day
    return pings * ping + handshakes * assumed.handshake_bytes


def link_bytes(packet: int, assumed: Assumptions) -> int:
    """Return what TLS, TCP and IP add to an MQTT packet of so many bytes, one way."""
    record = packet + assumed.tls_record_bytes
    return assumed.tls_record_bytes + ceil(record / assumed.segment_bytes) * assumed.ip_tcp_bytes


def packet_size(topic: int, payload: int) -> int:
    """Return the size of a PUBLISH packet, QoS 1, MQTT 3.1.1 (§3.3)."""
    remaining = 2 + topic + 2 + payload
    length_bytes = 1 + sum(remaining >= 128**power for power in (1, 2, 3))
    return 1 + length_bytes + remaining


def _cost(total_bytes: int, price: Decimal | None, assumed: Assumptions) -> str | None:
    if price is None:
        return None
    cost = Decimal(total_bytes) / assumed.mb_bytes * price
    return str(cost.quantize(_CENT, rounding=ROUND_HALF_UP))
