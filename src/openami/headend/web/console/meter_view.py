"""One meter as its page shows it: where it hangs, what it says, what it has counted, and what is missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Final

from openami.headend.assets import Customer, FeederAssets, Meter, MeterRole, Pole
from openami.headend.consumption import Break, BreakKind, Known
from openami.headend.gap_life import Gap, GapState
from openami.headend.periods import Step, boundaries
from openami.headend.place_energy import succession_energy, successions
from openami.headend.states import MeterState, meter_state
from openami.headend.store import MeterRow, Reading, StoredEvent, StoredFinding
from openami.headend.store.energy import ACTIVE_IMPORT, ChartPoint, SeriesEnergy
from openami.headend.web.console.charts import Bars, Frame, TimeTick, bars, room_for, spans
from openami.headend.web.console.feeder_view import midnight_before
from openami.headend.web.problems import Problem
from openami.headend.web.site import Site

# The newest of each; whoever wants more goes to the page of all events or readings.
EVENTS_SHOWN_MAX: Final = 20
FINDINGS_SHOWN_MAX: Final = 10
GAPS_SHOWN_MAX: Final = 20
_BARS_HIGH: Final = 232
_STRIP_HIGH: Final = 12
_WIDE: Final = 1_000  # as wide as the page; on a phone it is moved sideways


class Span(StrEnum):
    """How far back a meter's page looks."""

    TODAY = "today"
    WEEK = "7d"
    MONTH = "30d"
    YEAR = "12m"


@dataclass(frozen=True, slots=True)
class _Scale:
    days: int
    step: Step
    strip: timedelta


# The strip has some 100 to 400 cells: each is at least two points wide.
_SCALES: Final = {
    Span.TODAY: _Scale(1, Step.HOUR, timedelta(minutes=15)),
    Span.WEEK: _Scale(7, Step.HOUR, timedelta(hours=1)),
    Span.MONTH: _Scale(30, Step.DAY, timedelta(hours=6)),
    Span.YEAR: _Scale(365, Step.MONTH, timedelta(days=1)),
}


class Told(StrEnum):
    """What was told of a stretch of time."""

    GOOD = "good"
    SUSPECT = "suspect"
    COMMS_LOST = "comms_lost"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Period:
    """A row of the consumption's table."""

    begin: datetime
    wh: int | None
    known: Known


@dataclass(frozen=True, slots=True)
class Interruption:
    """A break of the counting, at a moment of the feeder's clock."""

    at: datetime
    kind: BreakKind
    before_wh: int
    after_wh: int


@dataclass(frozen=True, slots=True)
class UseChart:
    """Consumption as bars over a strip of how well it is known."""

    frame: Frame
    times: Sequence[TimeTick]
    bars: Bars
    strip: Sequence[tuple[str, float, float]]
    late: Sequence[float]
    """Where readings came long after they were measured."""
    breaks: Sequence[tuple[float, Interruption]]
    strip_high: int = _STRIP_HIGH


@dataclass(frozen=True, slots=True)
class Use:
    """What a meter counted in a span."""

    span: Span
    step: Step
    periods: Sequence[Period]
    total_wh: int
    at_least: bool
    breaks: Sequence[Interruption]
    chart: UseChart | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterView:
    """All a meter's page shows."""

    assets: FeederAssets
    serial: str
    meter: MeterRow | None
    placed: Meter | None
    pole: Pole | None
    customer: Customer | None
    state: MeterState
    known_until: datetime
    latest: Sequence[Reading]
    use: Use
    events: Sequence[StoredEvent]
    findings: Sequence[StoredFinding]
    gaps: Sequence[Gap]
    history: Sequence[Meter]
    """Every placement of this serial, and of those before and after it at the same place."""

    @property
    def role(self) -> MeterRole:
        """Return what it measures."""
        return self.placed.role if self.placed else MeterRole.CUSTOMER

    @property
    def relay(self) -> Reading | None:
        """Return what was last told of its relay."""
        return next((r for r in self.latest if str(r.obis) == "96.11.1"), None)


async def look_at_meter(site: Site, feeder_id: str, serial: str, span: Span) -> MeterView:
    """Return a meter as it is now. Raises Problem when nobody has heard or told of it, and StoreError."""
    store = site.store
    assets = await store.assets(feeder_id)
    found = await store.meters(feeder_id=feeder_id, meter_serial=serial)
    meter = found[0] if found else None
    if meter is None and not any(each.serial == serial for each in assets.meters):
        raise Problem.not_found(f"there is no meter {serial} on feeder {feeder_id}")
    link, now = site.link(), site.clock.now()
    known_until = now if link.heard else min(now, link.since)
    gateways = await store.gateways(feeder_id)
    gateway = next((g for g in gateways if meter and g.gateway_id == meter.gateway_id), None)
    placed = assets.meter(serial, known_until)
    gaps = await store.gaps(feeder_id=feeder_id, closed=False)
    return MeterView(
        assets=assets,
        serial=serial,
        meter=meter,
        placed=placed,
        pole=assets.pole(placed.pole_id) if placed else None,
        customer=assets.customer(placed.customer_id) if placed else None,
        state=meter_state(meter, gateway, now=known_until),
        known_until=known_until,
        latest=await store.latest(feeder_id, serial),
        use=await _use(site, assets, serial, span, known_until),
        events=await store.events(
            feeder_id=feeder_id, meter_serial=serial, at_most=EVENTS_SHOWN_MAX
        ),
        findings=await store.findings(
            feeder_id=feeder_id, meter_serial=serial, at_most=FINDINGS_SHOWN_MAX
        ),
        gaps=[
            gap
            for gap in gaps
            if meter and gap.gateway_id == meter.gateway_id and gap.state is not GapState.CLOSED
        ][-GAPS_SHOWN_MAX:],
        history=_history(assets, serial),
    )


def _history(assets: FeederAssets, serial: str) -> Sequence[Meter]:
    places = {meter.place for meter in assets.meters if meter.serial == serial and meter.place.id}
    return [m for m in assets.meters if m.serial == serial or m.place in places]


async def _use(site: Site, assets: FeederAssets, serial: str, span: Span, now: datetime) -> Use:
    scale, zone, feeder_id = _SCALES[span], assets.feeder.zone, assets.feeder.id
    midnight = midnight_before(now, assets)
    # Whole days of the feeder's clock; a day of 25 hours is found by its date, not by its hours.
    since = (midnight.replace(tzinfo=None) - timedelta(days=scale.days - 1)).replace(tzinfo=zone)
    edges = boundaries(since, now, scale.step, zone)
    succession = next(
        (
            each
            for each in reversed(successions(assets, [serial], edges[0], edges[-1]))
            if any(counted.serial == serial for counted in each)
        ),
        (),
    )
    energy = await succession_energy(
        site.store, feeder_id, succession, since, now, scale.step, zone=zone
    )
    if energy is None:
        return Use(span, scale.step, (), 0, False, (), None)
    at = [moment.astimezone(zone) for moment in energy.since]
    points: list[ChartPoint] = []
    for counted in succession:
        found = await site.store.chart(
            *(feeder_id, counted.serial, ACTIVE_IMPORT, energy.since[0], now),
            int(scale.strip.total_seconds()),
        )
        points += [
            each for each in found if counted.begin <= each.last_at and each.begin < counted.end
        ]
    return Use(
        span,
        scale.step,
        [Period(*each) for each in zip(at, energy.wh, energy.known, strict=False)],
        energy.total_wh,
        any(known >= Known.AT_LEAST for known in energy.known),
        [_interruption(each, zone) for each in energy.breaks],
        use_chart(energy, at, points, scale.strip, now),
    )


def use_chart(
    energy: SeriesEnergy,
    at: Sequence[datetime],
    points: Sequence[ChartPoint],
    cell: timedelta,
    now: datetime,
) -> UseChart:
    """Draw a meter's consumption: bars by period, and under them a strip of what was told."""
    top = room_for([None if wh is None else wh / 1000 for wh in energy.wh])
    frame = Frame(at[0], at[-1], top, height=_BARS_HIGH, width=_WIDE)
    told = {point.begin: point for point in points}
    cells = [at[0]]
    words: list[str] = []
    while cells[-1] < min(now, at[-1]):
        words.append(_word(told.get(cells[-1].astimezone(energy.since[0].tzinfo))))
        # By the clock on the wall of UTC: the points were counted so.
        cells.append((cells[-1].astimezone(energy.since[0].tzinfo) + cell).astimezone(at[0].tzinfo))
    return UseChart(
        frame,
        frame.times(at[0]),
        bars(frame, at, energy.wh, energy.known),
        list(spans(words, cells, frame)),
        [frame.x(point.begin + cell / 2) for point in points if point.late],
        [
            (frame.x(min(max(each.at, at[0]), at[-1])), each)
            for each in (_interruption(found, at[0].tzinfo) for found in energy.breaks)
        ],
    )


def _word(point: ChartPoint | None) -> str:
    if point is None or not point.count:
        return Told.NOTHING
    if point.lost == point.count:
        return Told.COMMS_LOST
    return Told.SUSPECT if point.suspect else Told.GOOD


def _interruption(each: Break, zone: tzinfo | None) -> Interruption:
    at = datetime.fromtimestamp(each.ms / 1000, zone)
    return Interruption(at, each.kind, each.before_wh, each.after_wh)
