"""From the store to the accounts: reads what a feeder's meters have told, and hands it to `completeness`.

One day of one gateway at a time is in memory: 500 meters at a minute are 720,000 arrivals.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

import msgspec

from openami.headend.completeness import Arrival, DayAccount, Told, account, usual_interval
from openami.headend.store import MeterRow, Reading
from openami.headend.store.commands import HeadEndStore
from openami.headend.told_spans import silent_spans, thinned_spans
from openami.profile import CommandTopic, Obis, ProfileError, SessionTopic, parse_topic
from openami.profile.times import read_time

BILLING: Final = Obis.parse("1.8.0")
# Read back to learn an interval from, where the day itself does not tell: a silent day follows a talking one.
LOOK_BACK_DAYS: Final = 7
# Two days of quarter hours; more only confirms.
LEARNT_FROM_MAX: Final = 200
# Kept messages looked through for the meter's own; each may have its 64 kB in memory.
REJECTS_MAX: Final = 1_000
# Of one meter, comms_lost and comms_restored among the others.
EVENTS_MAX: Final = 1_000


async def day_accounts(
    store: HeadEndStore,
    feeder_id: str,
    days: Sequence[date],
    *,
    now: datetime,
    gateway_id: str | None = None,
    meter_serial: str | None = None,
) -> AsyncIterator[DayAccount]:
    """Yield the account of each meter and day, by gateway. Raises StoreError."""
    interval_s = (await store.intervals()).get(feeder_id)
    meters: dict[str, list[MeterRow]] = {}
    for row in await store.meters(feeder_id=feeder_id):
        if row.meter_serial != row.gateway_id:  # a gateway speaks of itself in a meter's place
            meters.setdefault(row.gateway_id, []).append(row)
    rejected = await _rejected_times(store)
    for gateway, rows in meters.items():
        if gateway_id not in (None, gateway):
            continue
        if meter_serial is not None and all(row.meter_serial != meter_serial for row in rows):
            continue
        events = await store.events(feeder_id=feeder_id, meter_serial=gateway, at_most=EVENTS_MAX)
        gaps = await store.gaps(feeder_id=feeder_id, gateway_id=gateway, closed=False)
        around = Told(thinned=thinned_spans(events), gaps=gaps)
        for day in days:
            arrivals = {row.meter_serial: await _arrivals(store, row, day) for row in rows}
            measured = sorted(each.ts for times in arrivals.values() for each in times)
            for row in rows:
                if meter_serial not in (None, row.meter_serial):
                    continue
                silent = await store.events(
                    feeder_id=feeder_id, meter_serial=row.meter_serial, at_most=EVENTS_MAX
                )
                told = replace(
                    around,
                    silent=silent_spans(silent),
                    rejected=rejected.get((feeder_id, row.meter_serial), ()),
                    gateway=measured,
                )
                times = arrivals[row.meter_serial]
                yield account(
                    (feeder_id, gateway, row.meter_serial),
                    day,
                    times,
                    interval_s=interval_s or await _learnt(store, row, day, times),
                    known_since=row.first_seen,
                    told=told,
                    now=now,
                )


async def _arrivals(store: HeadEndStore, row: MeterRow, day: date) -> list[Arrival]:
    begin = datetime.combine(day, time(), UTC)
    return await _read(store, row, begin, begin + timedelta(days=1))


async def _read(
    store: HeadEndStore,
    row: MeterRow,
    begin: datetime,
    end: datetime,
    at_most: int | None = None,
) -> list[Arrival]:
    """Return the billing register's arrivals; those of the register that came most, where it has none."""
    found: list[Arrival] = []
    async for reading in _readings(store, row, begin, end, BILLING):
        found.append(_arrival(reading))
        if len(found) == at_most:
            break
    if found:
        return found
    others: dict[Obis, list[Arrival]] = {}
    async for reading in _readings(store, row, begin, end, None):
        others.setdefault(reading.obis, []).append(_arrival(reading))
        if sum(map(len, others.values())) == at_most:
            break
    return max(others.values(), key=len, default=[])


def _readings(
    store: HeadEndStore, row: MeterRow, begin: datetime, end: datetime, obis: Obis | None
) -> AsyncIterator[Reading]:
    return store.readings(row.feeder_id, row.meter_serial, obis=obis, since=begin, until=end)


def _arrival(reading: Reading) -> Arrival:
    return Arrival(reading.ts, reading.received_at, reading.quality)


async def _learnt(
    store: HeadEndStore, row: MeterRow, day: date, arrivals: Sequence[Arrival]
) -> int | None:
    """Return a meter's interval by this day, or by the days before it."""
    known = usual_interval([each.ts for each in arrivals])
    if known is not None:
        return known
    end = datetime.combine(day, time(), UTC)
    begin = end - timedelta(days=LOOK_BACK_DAYS)
    before = await _read(store, row, begin, end, LEARNT_FROM_MAX)
    return usual_interval([each.ts for each in before])


async def _rejected_times(store: HeadEndStore) -> Mapping[tuple[str, str], list[datetime]]:
    """Return when what was rejected was measured, by feeder and meter, as far as it can be read."""
    found: dict[tuple[str, str], list[datetime]] = {}
    for reject in await store.rejects(at_most=REJECTS_MAX):
        try:
            topic = parse_topic(reject.topic)
            header = msgspec.json.decode(reject.payload, type=_Header)
        except (ProfileError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        if isinstance(topic, CommandTopic | SessionTopic) or (ts := read_time(header.ts)) is None:
            continue
        found.setdefault((topic.feeder_id, topic.meter_serial), []).append(ts)
    return found


class _Header(msgspec.Struct):
    ts: str
