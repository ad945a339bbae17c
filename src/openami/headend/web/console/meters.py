"""Meters: the list over all feeders, one meter's page, its raw readings, and a chart to explore."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from openami.headend.accounts import Role
from openami.headend.assets import FeederAssets
from openami.headend.store import Reading
from openami.headend.web.admission import declares, in_scope, principal_of
from openami.headend.web.console.feeder_view import midnight_before
from openami.headend.web.console.feeders import SEARCH_CHARS_MAX, Start, Words
from openami.headend.web.console.live import hub_of
from openami.headend.web.console.meter_view import Span, look_at_meter
from openami.headend.web.console.navigation import has_page
from openami.headend.web.console.rendering import page
from openami.headend.web.problems import Problem
from openami.headend.web.site import site_of
from openami.profile import Obis, ProfileError

# One screenful after the other; of 5,000 meters nobody scrolls through all.
METERS_PER_PAGE_MAX: Final = 100
# Feeders a search goes through; a person who sees more narrows it by name.
FEEDERS_SEARCHED_MAX: Final = 50
# A day of eight registers by the quarter hour are 768; whoever has more sees the next page.
READINGS_PER_PAGE_MAX: Final = 1_000
# Points of a chart to explore: twice the pixels of a wide screen.
EXPLORED_MAX: Final = 2_000
_EXPLORED_DAYS: Final = 14
_STEPS_S: Final = (60, 300, 900, 1_800, 3_600, 7_200, 21_600, 86_400)

router = APIRouter(include_in_schema=False)


@router.get("/meters")
@declares(Role.VIEWER)
async def meters(request: Request, q: Words = "", start: Start = 0) -> Response:
    """Find a meter by its serial, its customer or its pole, on all feeders; trouble first."""
    store, principal = site_of(request).store, principal_of(request)
    seen = [feeder for feeder in await store.feeder_list() if principal.sees(feeder.id)]
    found = []
    for feeder in seen[:FEEDERS_SEARCHED_MAX]:
        view, _ = await hub_of(request).looked(feeder.id)
        found += [(feeder, house) for house in view.houses if house.found_by(q)]
    found.sort(key=lambda pair: not (pair[1].silent or pair[1].off or pair[1].low_credit))
    following = start + METERS_PER_PAGE_MAX
    return page(
        request,
        "meters.html",
        q=q,
        found=found[start:following],
        matching=len(found),
        beyond=len(seen) > FEEDERS_SEARCHED_MAX,
        following=f"/meters?{urlencode({'q': q, 'start': following})}"
        if following < len(found)
        else None,
        longest=SEARCH_CHARS_MAX,
    )


@router.get("/meters/{feeder_id}/{serial}")
@declares(Role.VIEWER)
async def meter(
    request: Request, feeder_id: str, serial: str, span: Span = Span.WEEK, table: bool = False
) -> Response:
    """Show a meter: what it says now, what it has counted, and what is missing."""
    in_scope(request, feeder_id)
    site = site_of(request)
    view = await look_at_meter(site, feeder_id, serial, span)
    relay = f"/meters/{feeder_id}/{serial}/relay"
    may_command = principal_of(request).may(Role.OPERATOR) and site.can_command
    assets = f"/assets/{feeder_id}/meters/{serial}"
    return page(
        request,
        "meter.html",
        view=view,
        zone=view.assets.feeder.zone,
        catalogue=site.catalogue,
        Span=Span,
        table=table,
        relay=relay if may_command and has_page(request, relay) else None,
        place=assets if has_page(request, assets) else None,
    )


@router.get("/meters/{feeder_id}/{serial}/readings")
@declares(Role.VIEWER)
async def readings(
    request: Request,
    feeder_id: str,
    serial: str,
    day: date | None = None,
    obis: str = "",
    start: Start = 0,
) -> Response:
    """Show what a meter told on one day of the feeder's clock, as it came."""
    in_scope(request, feeder_id)
    site = site_of(request)
    assets = await site.store.assets(feeder_id)
    begin, end = day_on_the_clock(assets, day, site.clock.now())
    rows: list[Reading] = []
    skipped = 0
    following = None
    async for reading in site.store.readings(
        feeder_id, serial, obis=_register(obis), since=begin, until=end
    ):
        if skipped < start:
            skipped += 1
            continue
        if len(rows) == READINGS_PER_PAGE_MAX:
            asked = {"day": begin.date(), "obis": obis, "start": start + READINGS_PER_PAGE_MAX}
            following = f"{request.url.path}?{urlencode(asked)}"
            break
        rows.append(reading)
    return page(
        request,
        "readings.html",
        feeder_id=feeder_id,
        serial=serial,
        zone=assets.feeder.zone,
        day=begin,
        before=(begin - timedelta(days=1)).date(),
        after=end.date() if end <= site.clock.now() else None,
        obis=obis,
        registers=[reading.obis for reading in await site.store.latest(feeder_id, serial)],
        catalogue=site.catalogue,
        rows=rows,
        following=following,
    )


def day_on_the_clock(
    assets: FeederAssets, day: date | None, now: datetime
) -> tuple[datetime, datetime]:
    """Return when a day begins and ends on the feeder's clock; today for none.

    Raises Problem for a day the calendar of this machine does not reach.
    """
    day = day or midnight_before(now, assets).date()
    zone = assets.feeder.zone
    try:
        end = datetime.combine(day + timedelta(days=1), time(), zone)
        return datetime.combine(day, time(), zone).astimezone(UTC).astimezone(zone), end
    except (OverflowError, ValueError):
        raise Problem.not_found(f"there is no day {day}") from None


def _register(text: str) -> Obis | None:
    try:
        return Obis.parse(text) if text else None
    except ProfileError:
        raise Problem.not_found(f"{text} is no register") from None


Days = Annotated[int, Query(ge=1, le=400)]


@router.get("/meters/{feeder_id}/{serial}/explore")
@declares(Role.VIEWER)
async def explore(
    request: Request, feeder_id: str, serial: str, obis: str = "", days: Days = _EXPLORED_DAYS
) -> Response:
    """Show a chart to move about in; its script is loaded here and nowhere else."""
    in_scope(request, feeder_id)
    site = site_of(request)
    view = await look_at_meter(site, feeder_id, serial, Span.TODAY)
    registers = numeric(view.latest)
    chosen = _register(obis) or (registers[0].obis if registers else None)
    return page(
        request,
        "explore.html",
        view=view,
        zone=view.assets.feeder.zone,
        zone_name=view.assets.feeder.time_zone,
        catalogue=site.catalogue,
        registers=registers,
        chosen=chosen,
        days=days,
        series=f"/meters/{feeder_id}/{serial}/series?{urlencode({'obis': chosen, 'days': days})}",
    )


@router.get("/meters/{feeder_id}/{serial}/series")
@declares(Role.VIEWER)
async def series(
    request: Request, feeder_id: str, serial: str, obis: str, days: Days = _EXPLORED_DAYS
) -> Response:
    """Return a register's course for the chart: seconds since 1970, mean, least, greatest."""
    in_scope(request, feeder_id)
    site = site_of(request)
    register = _register(obis)
    if register is None:
        raise Problem.not_found("no register is named")
    now = site.clock.now()
    since = now - timedelta(days=days)
    step_s = next(step for step in _STEPS_S if days * 86_400 / step <= EXPLORED_MAX)
    points = await site.store.chart(feeder_id, serial, register, since, now, step_s)
    return JSONResponse(
        {
            "at": [int(point.begin.timestamp()) for point in points],
            "mean": [round(point.mean, 3) for point in points],
            "least": [round(point.least, 3) for point in points],
            "greatest": [round(point.greatest, 3) for point in points],
            "step": step_s,
        }
    )


def numeric(latest: Sequence[Reading]) -> Sequence[Reading]:
    """Return the registers a chart can show."""
    return [each for each in latest if not isinstance(each.value, bool | str)]
