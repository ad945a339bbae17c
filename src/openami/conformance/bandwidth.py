"""The bandwidth bill: what a meter's telemetry costs a month, in bytes and in money (pure).

Payload, topic and MQTT packet are counted as they were seen; what lies below them, TLS, TCP and IP, no one sees
here and is estimated (`link_cost`). Every figure the estimate rests on stands in the sheet.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import Meta

from openami.conformance.traffic import GatewayTraffic, MeterTraffic, Traffic, usual_interval_s
from openami.link_cost import (
    DAY_S,
    Assumptions,
    Positive,
    cost,
    exchange_link_bytes,
    idle_bytes,
    packet_size,
)

# Bound of what a report says, since anybody can sign one.
Price = Annotated[str, Meta(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$")]


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
    link = exchange_link_bytes(packet, assumed)
    total = messages * (payload + topic + mqtt + link)
    return MonthBill(
        interval_s=interval_s,
        messages=messages,
        payload_bytes=messages * payload,
        topic_bytes=messages * topic,
        mqtt_bytes=messages * mqtt,
        link_bytes=messages * link,
        total_bytes=total,
        cost=cost(total, price, assumed),
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
        seen_cost=None if seen_bytes is None else cost(seen_bytes, price, assumed),
        chosen_bytes=chosen_bytes,
        chosen_cost=None if chosen_bytes is None else cost(chosen_bytes, price, assumed),
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
    return idle_bytes(sum(month.messages for month in months), keep_alive_s, assumed)
