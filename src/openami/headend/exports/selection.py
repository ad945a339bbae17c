"""Which readings are exported: every one of a feeder or meter in a time, in order, a page in memory at a time."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from openami.headend.store import MeterRow, Reading, Store
from openami.profile import Obis


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is asked for; None means whatever."""

    feeders: frozenset[str] | None = None
    meter_serial: str | None = None
    obis: Obis | None = None
    since: datetime | None = None
    until: datetime | None = None
    """Not included."""


async def selected_meters(store: Store, selection: Selection) -> Sequence[MeterRow]:
    """Return the meters of a selection, by feeder and serial."""
    rows = await store.meters(meter_serial=selection.meter_serial)
    return [row for row in rows if selection.feeders is None or row.feeder_id in selection.feeders]


async def selected_readings(
    store: Store, selection: Selection
) -> AsyncIterator[tuple[MeterRow, Reading]]:
    """Yield readings by feeder, meter, measured time and register."""
    for meter in await selected_meters(store, selection):
        async for reading in store.readings(
            meter.feeder_id,
            meter.meter_serial,
            obis=selection.obis,
            since=selection.since,
            until=selection.until,
        ):
            yield meter, reading


async def months_of(store: Store) -> Sequence[datetime]:
    """Return the first moment of each calendar month, by UTC, from the oldest reading to the newest."""
    oldest: datetime | None = None
    newest: datetime | None = None
    for meter in await store.meters():
        async for first in store.readings(meter.feeder_id, meter.meter_serial):
            oldest = first.ts if oldest is None else min(oldest, first.ts)
            break
        newest = meter.last_ts if newest is None else max(newest, meter.last_ts)
    if oldest is None or newest is None:
        return []
    months = [datetime(oldest.year, oldest.month, 1, tzinfo=UTC)]
    while (following := next_month(months[-1])) <= newest:
        months.append(following)
    return months


def next_month(month: datetime) -> datetime:
    """Return the first moment of the month after."""
    years, month_index = divmod(month.year * 12 + month.month, 12)
    return datetime(years, month_index + 1, 1, tzinfo=UTC)
