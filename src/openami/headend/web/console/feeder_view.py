"""A feeder as it is now: what the overview shows, and what of it has changed since it was last shown."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from openami.headend.assets import FeederAssets, MeterRole
from openami.headend.balance import Balance
from openami.headend.consumption import Known
from openami.headend.periods import Step, boundaries
from openami.headend.states import MeterState, states_of
from openami.headend.store.energy import SeriesEnergy
from openami.headend.web.console.houses import House, Show, counts, houses_of
from openami.headend.web.problems import Problem
from openami.headend.web.site import Site

# A reading of a quarter hour is on its way for some seconds, over GPRS for minutes: before, the quarter is open.
QUARTER_CLOSES_AFTER_MINUTES: Final = 5
_QUARTER: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class BalanceDay:
    """Energy of one day by closed quarter hours, in kWh."""

    at: tuple[datetime, ...]
    """When each begins, in the feeder's time; the last entry is where the last one ends."""
    supplied: tuple[float | None, ...]
    sold: tuple[float, ...]
    missing: tuple[int, ...]
    """Of how many customers' meters the quarter is not known."""

    def rows(self) -> Sequence[tuple[datetime, float | None, float, int]]:
        """Return it as a table, the latest first."""
        return list(zip(self.at, self.supplied, self.sold, self.missing, strict=False))[::-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The counters over the overview."""

    meters: int
    reporting: int
    suspect: int
    meter_silent: int
    gateway_silent: int
    never_seen: int
    longest_silence: timedelta | None
    supplied_wh: int | None
    """None where no head meter is known."""
    supplied_at_least: bool
    sold_wh: int
    sold_meters: int
    """Of how many customers' meters all of today is known."""
    customers: int
    lost: tuple[float, float] | None
    """Between which percentages of what was supplied the unaccounted lies; None where it cannot be told."""
    lost_heard: int
    """Of how many customers' meters all hours of that are known."""
    off: int
    off_for_credit: int
    low_credit: int

    @property
    def silent(self) -> int:
        """Return how many meters are not heard, whoever is to blame."""
        return self.meter_silent + self.gateway_silent + self.never_seen


@dataclass(frozen=True, slots=True, kw_only=True)
class FeederView:
    """All an overview shows."""

    assets: FeederAssets
    looked_at: datetime
    """When, in UTC; of a head-end without its broker, when it lost it."""
    houses: tuple[House, ...]
    figures: Figures
    day: BalanceDay
    gateways: tuple[str, ...]

    @property
    def id(self) -> str:
        """Return the feeder's id."""
        return self.assets.feeder.id

    @property
    def described(self) -> bool:
        """Return whether somebody has said what stands there."""
        return bool(self.assets.meters)

    @property
    def counts(self) -> Mapping[Show, int]:
        """Return how many meters each list has."""
        return counts(self.houses)

    def changed_since(self, before: "FeederView") -> Sequence[House]:
        """Return the meters that are shown otherwise than before."""
        was = {house.serial: house for house in before.houses}
        return [house for house in self.houses if was.get(house.serial) != house]

    def redraws(self, before: "FeederView") -> bool:
        """Return whether a mark of the diagram has changed."""
        return _marks(self) != _marks(before)


def _marks(view: FeederView) -> Mapping[str, str]:
    return {house.serial: house.mark for house in view.houses}


async def look(
    site: Site,
    feeder_id: str,
    *,
    day: BalanceDay | None = None,
    balance_of: Callable[[FeederAssets, datetime], Awaitable[Balance | None]] | None = None,
) -> FeederView:
    """Return a feeder as it is now. Raises Problem when there is no such feeder, and StoreError.

    ``day``: its energy, where that was looked at a moment ago. ``balance_of``: returns today's balance, as far as
    it is known at a moment.
    """
    assets = await site.store.assets(feeder_id)
    gateways = await site.store.gateways(feeder_id)
    if not gateways and not assets.meters and not assets.poles:
        raise Problem.not_found(f"there is no feeder {feeder_id}")
    link, now = site.link(), site.clock.now()
    # Without its broker the head-end knows nothing newer: no meter turns silent for that.
    known_until = now if link.heard else min(now, link.since)
    midnight = midnight_before(known_until, assets)
    today = await site.store.today(feeder_id, midnight)
    states = {
        meter.meter_serial: state
        for meter, state in states_of([each.meter for each in today], gateways, now=known_until)
    }
    houses = houses_of(assets, today, states, known_until)
    closed = _closed(known_until)
    if day is None or day.at[-1] != max(closed, midnight):
        day = balance_day(
            assets, await _energy(site, assets, midnight, closed), midnight, closed, known_until
        )
    balance = await balance_of(assets, known_until) if balance_of else None
    return FeederView(
        assets=assets,
        looked_at=known_until,
        houses=houses,
        figures=figures_of(houses, known_until, balance),
        day=day,
        gateways=tuple(gateway.gateway_id for gateway in gateways),
    )


async def _energy(
    site: Site, assets: FeederAssets, since: datetime, until: datetime
) -> Sequence[SeriesEnergy]:
    if until <= since:
        return ()
    zone = assets.feeder.zone
    return await site.store.energy(assets.feeder.id, since, until, Step.QUARTER, zone=zone)


def hours_over(assets: FeederAssets, now: datetime) -> tuple[datetime, datetime] | None:
    """Return between when today's balance can be drawn up; None where no hour is over, or no head meter known."""
    midnight = midnight_before(now, assets)
    last_hour = boundaries(now, now, Step.HOUR, assets.feeder.zone)[0]
    if not assets.head_meters(now) or last_hour <= midnight:
        return None
    return midnight, last_hour


def midnight_before(now: datetime, assets: FeederAssets) -> datetime:
    """Return when the day began on the feeder's clock."""
    local = now.astimezone(assets.feeder.zone)
    return local.replace(hour=0, minute=0, second=0, microsecond=0)


def _closed(now: datetime) -> datetime:
    """Return the end of the last quarter hour that is closed."""
    settled = now.astimezone(UTC) - timedelta(minutes=QUARTER_CLOSES_AFTER_MINUTES)
    return settled - (settled - datetime(1970, 1, 1, tzinfo=UTC)) % _QUARTER


def balance_day(
    assets: FeederAssets,
    series: Sequence[SeriesEnergy],
    midnight: datetime,
    closed: datetime,
    now: datetime,
) -> BalanceDay:
    """Return a day's energy by quarter hour, for the feeder as a whole."""
    heads = set(assets.head_meters(now))
    others = {
        meter.serial for meter in assets.meters_at(now) if meter.role is not MeterRole.CUSTOMER
    }
    supplying = [each for each in series if each.meter_serial in heads]
    selling = [each for each in series if each.meter_serial not in others]
    at = series[0].since if series else (midnight, max(closed, midnight))
    quarters = range(len(at) - 1) if series else range(0)
    zone = assets.feeder.zone
    return BalanceDay(
        tuple(moment.astimezone(zone) for moment in at),
        tuple(_sum_of_all(supplying, n) for n in quarters),
        tuple(sum(each.wh[n] or 0 for each in selling) / 1000 for n in quarters),
        tuple(sum(each.known[n] >= Known.AT_LEAST for each in selling) for n in quarters),
    )


def _sum_of_all(series: Sequence[SeriesEnergy], number: int) -> float | None:
    """Return the sum in kWh; None unless each is known."""
    told = [each.wh[number] for each in series]
    if not told or any(wh is None for wh in told):
        return None
    return sum(wh for wh in told if wh is not None) / 1000


def figures_of(houses: Sequence[House], now: datetime, balance: Balance | None) -> Figures:
    """Return the counters."""
    customers = [house for house in houses if house.role is MeterRole.CUSTOMER]
    heads = [house for house in houses if house.role is MeterRole.HEAD]
    silences = [now - house.last_seen for house in houses if house.silent and house.last_seen]
    off = [house for house in houses if house.off]

    def among(state: MeterState) -> int:
        return sum(house.state is state for house in houses)

    return Figures(
        meters=len(houses),
        reporting=among(MeterState.REPORTING),
        suspect=among(MeterState.SUSPECT),
        meter_silent=among(MeterState.METER_SILENT),
        gateway_silent=among(MeterState.GATEWAY_SILENT),
        never_seen=among(MeterState.NEVER_SEEN),
        longest_silence=max(silences, default=None),
        supplied_wh=sum(house.today_wh or 0 for house in heads) if heads else None,
        supplied_at_least=any(house.at_least or house.today_wh is None for house in heads),
        sold_wh=sum(house.today_wh or 0 for house in customers),
        sold_meters=sum(house.today_wh is not None and not house.at_least for house in customers),
        customers=len(customers),
        lost=None if balance is None else balance.unaccounted_percent,
        lost_heard=0 if balance is None else balance.heard,
        off=len(off),
        off_for_credit=sum(house.credit_kwh is not None and house.credit_kwh <= 0 for house in off),
        low_credit=sum(house.low_credit for house in houses),
    )
