"""Decisions for the store's tests, and what a store says of one feeder."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from openami.headend.audit import Entry
from openami.headend.ingest import Accepted, Finding, Kind, Message, Rejected
from openami.headend.store import Reading, Store, Tally
from openami.profile import (
    Code,
    Envelope,
    Event,
    FeederId,
    GatewayId,
    MeterSerial,
    Obis,
    ProfileError,
    Quality,
    RegisterReading,
    Value,
)

FEEDER, GATEWAY, METER = "feeder-1", "gateway-1", "M-1"
ENERGY, POWER, RELAY = Obis.parse("1.8.0"), Obis.parse("16.7.0"), Obis.parse("96.11.1")
NOON = datetime(2026, 6, 22, 12, tzinfo=UTC)
LATENCY = timedelta(seconds=2)


def register(
    value: Value = 1842.5,
    obis: Obis = ENERGY,
    *,
    unit: str = "kWh",
    quality: Quality = Quality.GOOD,
) -> RegisterReading:
    """Return one register, good and in kWh unless said otherwise."""
    return RegisterReading(obis, value, unit, quality)


def accepted(
    *registers: RegisterReading,
    ts: datetime = NOON,
    feeder: str = FEEDER,
    gateway: str = GATEWAY,
    meter: str = METER,
    received_at: datetime | None = None,
    seq: int | None = None,
    event: Event | None = None,
    kind: Kind = Kind.TELEMETRY,
    rejected_items: tuple[ProfileError, ...] = (),
    findings: tuple[Finding, ...] = (),
    payload: bytes = b"{}",
) -> Accepted:
    """Return an accepted message; received two seconds after it was measured."""
    envelope = Envelope(
        ts=ts,
        feeder_id=FeederId(feeder),
        gateway_id=GatewayId(gateway),
        meter_serial=MeterSerial(meter),
        registers=registers or (register(),),
        seq=seq,
        event=event,
    )
    topic = f"openami/v1/{feeder}/{gateway}/meter/{meter}/{kind}"
    message = Message(topic, payload, received_at or ts + LATENCY)
    return Accepted(kind, envelope, message, rejected_items, findings)


def fault(detail: str = "not JSON", path: str = "") -> ProfileError:
    """Return a fault a message may be rejected for."""
    return ProfileError(Code.BAD_JSON, "OA-ENV-003", path, detail)


def rejected(
    payload: bytes = b"nonsense",
    *,
    topic: str = "openami/v1/f/g/meter/m/telemetry",
    received_at: datetime = NOON,
    error: ProfileError | None = None,
) -> Rejected:
    """Return a rejected message."""
    return Rejected(Message(topic, payload, received_at), (error or fault(),))


async def readings(store: Store, meter: str = METER, **wanted: Any) -> list[Reading]:
    """Return a meter's readings as a list."""
    return [r async for r in store.readings(FEEDER, meter, **wanted)]


def told(found: Sequence[Reading]) -> list[tuple[str, Value, str, Quality]]:
    """Return what readings say, without when."""
    return [(str(r.obis), r.value, r.unit, r.quality) for r in found]


DROPPED = Entry(who="asha", what="dropped")


def replayed(tally: Tally) -> Entry:
    """Return what the audit log says of a replay."""
    return Entry(who="asha", what="replayed", result=f"stored {tally.stored}")
