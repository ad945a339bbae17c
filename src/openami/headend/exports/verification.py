"""A connection's use in one row: what results-based financing verifies a connection by."""

from collections.abc import AsyncIterator, Sequence
from typing import Final

from openami.headend.consumption import to_wh
from openami.headend.exports.neutral import Places, TableRow
from openami.headend.exports.pseudonyms import Pseudonyms
from openami.headend.exports.selection import Selection, selected_meters
from openami.headend.store.commands import HeadEndStore
from openami.profile import Obis, Quality, utc_text

COLUMNS: Final[Sequence[str]] = (
    *("feeder_id", "meter_serial", "customer_ref", "first_read_utc", "last_read_utc"),
    *("days_with_data", "kwh", "kwh_per_day"),
)
_ENERGY: Final = Obis.parse("1.8.0")


async def verification_rows(
    store: HeadEndStore, selection: Selection, pseudonyms: Pseudonyms
) -> AsyncIterator[TableRow]:
    """Yield a row for each meter that was read in this time.

    Energy is the sum of what the register advanced by; where it fell, nothing is counted, so it is a lower bound.
    """
    places = Places(store)
    for meter in await selected_meters(store, selection):
        if meter.meter_serial == meter.gateway_id:  # a gateway speaks of itself in a meter's place
            continue
        first = last = None
        days, used_wh, before_wh = set(), 0, None
        async for reading in store.readings(
            meter.feeder_id,
            meter.meter_serial,
            obis=_ENERGY,
            since=selection.since,
            until=selection.until,
        ):
            wh = to_wh(reading.value, reading.unit)
            if reading.quality is not Quality.GOOD or wh is None:
                continue
            first, last = first or reading.ts, reading.ts
            days.add(reading.ts.date())
            used_wh += max(0, wh - before_wh) if before_wh is not None else 0
            before_wh = wh
        if first is None or last is None:
            continue
        placements = await places.placements(meter.feeder_id, meter.meter_serial)
        at = next((each for each in placements if each.counts_at(last)), None)
        span_days = (last - first).total_seconds() / 86_400
        yield {
            "feeder_id": meter.feeder_id,
            "meter_serial": meter.meter_serial,
            "customer_ref": None if at is None else pseudonyms.of(meter.feeder_id, at.customer_id),
            "first_read_utc": utc_text(first),
            "last_read_utc": utc_text(last),
            "days_with_data": len(days),
            "kwh": used_wh / 1000,
            "kwh_per_day": round(used_wh / 1000 / span_days, 3) if span_days > 0 else None,
        }
