"""From the store to the accounts: reads what a feeder's meters have told, and hands it to `completeness`.

One day of one gateway at a time is in memory: 500 meters at a minute are 720,000 arrivals.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import chain
from typing import Final

import msgspec

from openami.headend.completeness import DayAccount, Told, account, usual_interval
from openami.headend.gap_life import Gap
from openami.headend.store import MeterRow
from openami.headend.store.arrivals import Arrivals, ToldOfSilence
from openami.headend.store.commands import HeadEndStore
from openami.headend.told_spans import silent_spans, thinned_spans, withheld_spans
from openami.profile import CommandTopic, ProfileError, SessionTopic, parse_topic
from openami.profile.times import read_time

# Read back to learn an interval from, where the day itself does not tell: a silent day follows a talking one.
LOOK_BACK_DAYS: Final = 7
# Kept messages looked through for the meter's own; each may have its 64 kB in memory.
REJECTS_MAX: Final = 1_000
# Of one gateway, telemetry_thinned among the others.
EVENTS_MAX: Final = 1_000
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _GatewayDay:
    """What is known of one gateway's day."""

    gateway_id: str
    day: date
    meters: Sequence[MeterRow]
    arrivals: Mapping[str, Arrivals]
    silences: Mapping[str, Sequence[ToldOfSilence]]
    intervals: Mapping[str, int]
    """By meter, in seconds, where it is known."""
    rejected: Mapping[tuple[str, str], Sequence[datetime]]
    around: Told
    """What explains the silence of any of its meters."""


async def day_accounts(
    store: HeadEndStore,
    feeder_id: str,
    days: Sequence[date],
    *,
    now: datetime,
    gateway_id: str | None = None,
    meter_serial: str | None = None,
) -> AsyncIterator[DayAccount]:
    """Yield the account of each meter and day, by gateway; of a day whose readings are kept no longer, none.

    Raises StoreError.
    """
    interval_s = (await store.intervals()).get(feeder_id)
    kept_since = await store.kept_since()
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
        thinned, withheld = thinned_spans(events), withheld_spans(events)
        for day in days:
            begin = datetime.combine(day, time(), UTC)
            if kept_since is not None and begin < kept_since:
                continue  # its readings were removed, which is no reason to miss them
            # A day to either side: the first and the last interval reach beyond it.
            near = (begin - _DAY, begin + 2 * _DAY)
            arrivals = await store.arrivals(feeder_id, gateway, begin, begin + _DAY)
            told = _GatewayDay(
                gateway_id=gateway,
                day=day,
                meters=[row for row in rows if meter_serial in (None, row.meter_serial)],
                arrivals=arrivals,
                silences=await store.told_of_silence(feeder_id, gateway, *near),
                intervals=dict.fromkeys((row.meter_serial for row in rows), interval_s)
                if interval_s is not None
                else await _learnt(store, feeder_id, gateway, rows, day, arrivals),
                rejected=rejected,
                around=Told(
                    thinned=[span for span in thinned if span.touches(*near)],
                    withheld=[span for span in withheld if span.touches(*near)],
                    gaps=[gap for gap in gaps if _is_near(gap, *near)],
                ),
            )
            # 500 meters are a tenth of a second of reckoning: the stream goes on meanwhile.
            for each in await asyncio.to_thread(_accounts, told, now):
                yield each


def _is_near(gap: Gap, begin: datetime, end: datetime) -> bool:
    if gap.measured_from is None or gap.measured_to is None:
        return False
    return gap.measured_from <= end and begin <= gap.measured_to


def _accounts(told: _GatewayDay, now: datetime) -> list[DayAccount]:
    measured = sorted(chain.from_iterable(each.ms for each in told.arrivals.values()))
    return [
        account(
            (row.feeder_id, told.gateway_id, row.meter_serial),
            told.day,
            list(told.arrivals.get(row.meter_serial, ())),
            interval_s=told.intervals.get(row.meter_serial),
            known_since=row.first_seen,
            told=replace(
                told.around,
                silent=silent_spans(told.silences.get(row.meter_serial, ())),
                rejected=told.rejected.get((row.feeder_id, row.meter_serial), ()),
                gateway_ms=measured,
            ),
            now=now,
        )
        for row in told.meters
    ]


async def _learnt(
    store: HeadEndStore,
    feeder_id: str,
    gateway_id: str,
    meters: Sequence[MeterRow],
    day: date,
    arrivals: Mapping[str, Arrivals],
) -> Mapping[str, int]:
    """Return meters' intervals by this day, or by the last day before it that tells."""
    known = _usual(arrivals)
    begin = datetime.combine(day, time(), UTC)
    for _ in range(LOOK_BACK_DAYS):
        # What is silent for longer than that is not looked for, again and again, on each of its days.
        begin, end = begin - _DAY, begin
        wanted = [
            row.meter_serial
            for row in meters
            if row.meter_serial not in known and row.last_ts >= begin
        ]
        if wanted:
            known |= _usual(await store.arrivals(feeder_id, gateway_id, begin, end, meters=wanted))
    return known


def _usual(arrivals: Mapping[str, Arrivals]) -> dict[str, int]:
    """Return the meters' usual intervals, where their arrivals tell."""
    found = {serial: usual_interval(each.ms) for serial, each in arrivals.items()}
    return {serial: interval for serial, interval in found.items() if interval is not None}


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
