"""A feeder's balance from the store: its energy by hour, its assets, and what is still being asked for.

The reckoning is pure and takes a second for 500 meters and two months, so it runs on a thread of its own, and what
it found is kept for a few minutes: a page that shows it is then as quick as any other.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from openami.headend.assets import Counted, FeederAssets, MeterRole
from openami.headend.balance import HISTORY_DAYS, PERIOD_DAYS_MAX, Balance, PlaceHours
from openami.headend.balance.account import balance_of
from openami.headend.bridging import bridged
from openami.headend.periods import Step, boundaries
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.energy import MeterToday, SeriesEnergy
from openami.profile import Obis

# Late data changes a balance by the hour, a person looks again after minutes.
BALANCE_KEPT_S: Final = 600
# A dozen feeders, and a few periods of each that somebody leafs through: some 100 KB apiece.
BALANCES_KEPT_MAX: Final = 32
_PHASE_CURRENT, _NEUTRAL_CURRENT = Obis.parse("31.7.0"), Obis.parse("91.7.0")
# What an idle meter's own display and a phone charger draw.
_FLOWS_A: Final = 0.2


class Balancing:
    """Balances as they were found in the last minutes."""

    def __init__(self, store: HeadEndStore) -> None:
        self._store = store
        self._kept: OrderedDict[tuple[str, datetime, datetime], tuple[datetime, Balance]] = (
            OrderedDict()
        )

    async def balance(
        self, feeder_id: str, since: datetime, until: datetime, *, now: datetime
    ) -> Balance:
        """Return a feeder's balance, at most BALANCE_KEPT_S old; as `feeder_balance`."""
        # Who asks "until now" again a minute later asks for the same hours.
        key = (feeder_id, since, boundaries(min(until, now), until, Step.QUARTER, UTC)[0])
        kept = self._kept.get(key)
        if kept is not None and now - kept[0] < timedelta(seconds=BALANCE_KEPT_S):
            return kept[1]
        balance = await feeder_balance(self._store, feeder_id, since, until, now=now)
        self._kept[key] = (now, balance)
        self._kept.move_to_end(key)
        if len(self._kept) > BALANCES_KEPT_MAX:
            self._kept.popitem(last=False)
        return balance


async def feeder_balance(
    store: HeadEndStore, feeder_id: str, since: datetime, until: datetime, *, now: datetime
) -> Balance:
    """Return a feeder's balance from ``since`` to the last hour before ``until`` that is over.

    Raises StoreError, and ValueError where that is no time or more than PERIOD_DAYS_MAX days.
    """
    assets = await store.assets(feeder_id)
    zone = assets.feeder.zone
    end = _last_hour(min(until, now), zone)
    begin = boundaries(since, since, Step.HOUR, zone)[0]
    if begin >= end:
        raise ValueError("no hour of this time is over yet: ask for an earlier beginning")
    if end - begin > timedelta(days=PERIOD_DAYS_MAX):
        raise ValueError(f"a balance is of at most {PERIOD_DAYS_MAX} days: ask for less")
    from_day = boundaries(begin - timedelta(days=HISTORY_DAYS), begin, Step.DAY, zone)[0]
    edges = boundaries(from_day, end, Step.HOUR, zone)
    rows = await store.energy(feeder_id, from_day, end, Step.HOUR, zone=zone)
    meters = await store.today(
        feeder_id, end - timedelta(hours=1), registers=(_PHASE_CURRENT, _NEUTRAL_CURRENT)
    )
    asked = {gap.gateway_id for gap in await store.gaps(feeder_id=feeder_id) if gap.lives}
    places = _places(assets, edges, {row.meter_serial: row for row in rows}, meters, asked)
    return await asyncio.to_thread(
        balance_of,
        feeder_id,
        edges,
        edges.index(begin),
        heads=[place for role, place in places if role is MeterRole.HEAD],
        poles=[place for role, place in places if role is MeterRole.POLE],
        customers=[place for role, place in places if role is MeterRole.CUSTOMER],
    )


def _last_hour(moment: datetime, zone: tzinfo) -> datetime:
    return boundaries(moment, moment, Step.HOUR, zone)[0]


def _places(
    assets: FeederAssets,
    edges: Sequence[datetime],
    rows: Mapping[str, SeriesEnergy],
    meters: Sequence[MeterToday],
    asked: frozenset[str] | set[str],
) -> list[tuple[MeterRole, PlaceHours]]:
    """Return every place of the feeder; a meter that is heard but not described is a customer's."""
    described = {meter.serial for meter in assets.meters}
    # A gateway speaks of itself in a meter's place; what it counts is nobody's.
    own = {
        each.meter.meter_serial
        for each in meters
        if each.meter.meter_serial == each.meter.gateway_id
    }
    heard = {each.meter.meter_serial: each for each in meters}
    found: list[tuple[MeterRole, PlaceHours]] = []
    for place in assets.places():
        counted = assets.meters_of(place, edges[0], edges[-1])
        if counted:
            found.append((place.role, _hours(assets, counted, edges, rows, heard, asked)))
    for serial in sorted((set(rows) | set(heard)) - described - own):
        span = (Counted(serial, edges[0], edges[-1], None, None),)
        found.append((MeterRole.CUSTOMER, _hours(assets, span, edges, rows, heard, asked)))
    return found


def _hours(
    assets: FeederAssets,
    counted: Sequence[Counted],
    edges: Sequence[datetime],
    rows: Mapping[str, SeriesEnergy],
    heard: Mapping[str, MeterToday],
    asked: frozenset[str] | set[str],
) -> PlaceHours:
    serial = counted[-1].serial
    meter = assets.meter(serial, counted[-1].begin)
    customer = None if meter is None else assets.customer(meter.customer_id)
    wh, known = bridged(counted, edges, rows)
    told = [row for span in counted if (row := rows.get(span.serial)) is not None]
    today = heard.get(serial)
    phase_a, neutral_a = (_amperes(today, obis) for obis in (_PHASE_CURRENT, _NEUTRAL_CURRENT))
    return PlaceHours(
        serials=tuple(span.serial for span in counted),
        name="" if customer is None else customer.name,
        pole_id=None if meter is None else meter.pole_id,
        phase="" if meter is None else meter.phase,
        wh=wh,
        known=known,
        last_at=max((row.last_at for row in told if row.last_at is not None), default=None),
        late=None in wh and today is not None and today.meter.gateway_id in asked,
        breaks=tuple(each for row in told for each in row.breaks),
        flows=None if phase_a is None else phase_a > _FLOWS_A,
        bypassed_a=None if phase_a is None or neutral_a is None else abs(phase_a - neutral_a),
    )


def _amperes(today: MeterToday | None, obis: Obis) -> float | None:
    reading = None if today is None else today.latest.get(obis)
    if reading is None or isinstance(reading.value, bool | str):
        return None
    return float(reading.value)
