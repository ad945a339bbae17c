"""What the demo's village had told before the demo began: billing registers of the last days.

A feeder's loss is told of closed intervals, and a demo lasts minutes: without a past nobody would see what the
feeder loses. The past is lived by the same village under the same plan, ends where the plan begins, and goes
through the head-end's own judge into its store.
"""

import dataclasses
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from openami.headend.ingest import Message
from openami.headend.intake import Intake
from openami.headend.statistics import Statistics
from openami.headend.store import Access
from openami.headend.store.open import open_store
from openami.profile import (
    Envelope,
    FeederId,
    GatewayId,
    MeterSerial,
    Obis,
    Quality,
    RegisterReading,
    TelemetryTopic,
    shipped_catalogue,
)
from openami.profile.codec import encode_envelope
from openami.simulator.plan import UJ_PER_KWH, VillagePlan
from openami.simulator.village import Village

# Billing registers are read on the quarter hour.
INTERVAL: Final = timedelta(minutes=15)
# Two whole days and the one that runs; fewer for a large village, because a person waits for the demo to begin.
DAYS_MAX: Final = 3
ENVELOPES_MAX: Final = 12_000
# The last instant of the past lies so long before the first of the present.
_APART: Final = timedelta(minutes=2)
# How late a reading comes over a quiet link.
_LATENESS: Final = timedelta(seconds=2)
_COMMIT_MESSAGES: Final = 1_000  # one commit holds a second's worth of what a head-end takes
_IMPORT: Final = Obis.parse("1.8.0")
_KWH_DECIMALS: Final = 2
_CREDIT_WITHOUT_END_UJ: Final = 1_000_000 * UJ_PER_KWH

Past = Iterator[tuple[datetime, MeterSerial, float]]
"""When, which meter, and its import register in kWh; in the order of time."""


def instants_before(plan: VillagePlan, begun: datetime) -> list[datetime]:
    """Return the quarter hours of the past, from the oldest."""
    intervals_per_day = timedelta(days=1) // INTERVAL
    count = min(DAYS_MAX * intervals_per_day, ENVELOPES_MAX // plan.meters)
    latest = begun - _APART
    latest -= (latest - datetime.min.replace(tzinfo=latest.tzinfo)) % INTERVAL
    return [latest - INTERVAL * back for back in reversed(range(count))]


def past_of(plan: VillagePlan, begun: datetime) -> Past:
    """Live through the days before a plan begins, so that every counter ends where the plan has it."""
    instants = instants_before(plan, begun)
    if not instants:
        return
    lead_ms = (begun - instants[0]) // timedelta(milliseconds=1)
    earlier = dataclasses.replace(
        plan,
        start_ms=plan.start_ms - lead_ms,
        customers=tuple(
            dataclasses.replace(
                each, credit_uj=each.credit_uj and _CREDIT_WITHOUT_END_UJ, topups=()
            )
            for each in plan.customers
        ),
    )
    serials = [plan.head_serial, *(each.serial for each in plan.customers)]
    village = Village(earlier)
    told: list[tuple[datetime, MeterSerial, int]] = []
    for instant in instants:
        village.advance(plan.start_ms - (begun - instant) // timedelta(milliseconds=1))
        told += ((instant, serial, village.measured(serial).import_uj) for serial in serials)
    village.advance(plan.start_ms)
    now = Village(plan)
    ahead = {s: village.measured(s).import_uj - now.measured(s).import_uj for s in serials}
    for instant, serial, import_uj in told:
        yield instant, serial, round((import_uj - ahead[serial]) / UJ_PER_KWH, _KWH_DECIMALS)


async def tell_past(
    store_url: str,
    plan: VillagePlan,
    feeder_id: FeederId,
    gateway_id: GatewayId,
    *,
    begun: datetime,
) -> int:
    """Enter the past into the head-end's store; return how many messages that were. Raises StoreError."""
    messages = (_message(feeder_id, gateway_id, *reading) for reading in past_of(plan, begun))
    count = 0
    async with open_store(store_url, Access.EDIT) as store:
        intake = Intake(store, catalogue=shipped_catalogue(), statistics=Statistics())
        while batch := list(islice(messages, _COMMIT_MESSAGES)):
            await intake.commit(await intake.judge(batch))
            count += len(batch)
    return count


def _message(
    feeder_id: FeederId, gateway_id: GatewayId, ts: datetime, serial: MeterSerial, kwh: float
) -> Message:
    envelope = Envelope(
        ts=ts,
        feeder_id=feeder_id,
        gateway_id=gateway_id,
        meter_serial=serial,
        registers=(RegisterReading(_IMPORT, kwh, "kWh", Quality.GOOD),),
    )
    topic = TelemetryTopic(feeder_id, gateway_id, serial)
    return Message(str(topic), encode_envelope(envelope), ts + _LATENESS)
