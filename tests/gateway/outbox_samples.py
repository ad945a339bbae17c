"""Envelopes and outboxes for the outbox's tests."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path

from openami.gateway.driver import PollGroup
from openami.gateway.outbox import Draft, Kind, Outbox
from openami.profile import (
    Envelope,
    Event,
    EventSource,
    EventState,
    FeederId,
    GatewayId,
    MeterSerial,
    Obis,
    Quality,
    RegisterReading,
    Severity,
    utc_text,
)

FEEDER = FeederId("feeder-north")
GATEWAY = GatewayId("pole-7")


def telemetry(
    ts: datetime,
    meter: int = 1,
    group: PollGroup | None = PollGroup.BILLING,
    *,
    boottime_s: float | None = None,
    quality: Quality = Quality.GOOD,
) -> Draft:
    """One meter's registers at one moment."""
    registers = (
        RegisterReading(Obis.parse("1.8.0"), 1842.5, "kWh", quality),
        RegisterReading(Obis.parse("32.7.0"), 231.4, "V", quality),
    )
    return Draft(_envelope(ts, meter, registers), Kind.TELEMETRY, group, boottime_s)


def event(ts: datetime, meter: int = 1, *, boottime_s: float | None = None) -> Draft:
    """Something that happened at a meter, noticed by the gateway."""
    registers = (RegisterReading(Obis.parse("1.8.0"), 1842.5, "kWh", Quality.GOOD),)
    what = Event(
        event_id=f"E{meter}-{ts.timestamp():.3f}",
        type="power_fail",
        state=EventState.RAISED,
        severity=Severity.MAJOR,
        occurred_at=utc_text(ts),
        source=EventSource.GATEWAY,
    )
    envelope = _envelope(ts, meter, registers, what)
    return Draft(envelope, Kind.EVENT, None, boottime_s)


def _envelope(
    ts: datetime,
    meter: int,
    registers: tuple[RegisterReading, ...],
    what: Event | None = None,
) -> Envelope:
    return Envelope(
        ts=ts,
        feeder_id=FEEDER,
        gateway_id=GATEWAY,
        meter_serial=MeterSerial(f"DS1000-{meter:05d}"),
        registers=registers,
        event=what,
    )


async def all_pending(outbox: Outbox) -> list[int]:
    """The numbers of everything that may be sent, in the order of sending."""
    return [entry.seq for entry in await outbox.pending(1_000_000)]


def rows(path: Path, sql: str) -> Sequence[tuple[object, ...]]:
    """Look into the file from outside, as a person would."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()
