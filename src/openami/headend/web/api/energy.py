"""``/energy``: what each meter counted by quarter hour, hour, day or month of its feeder's own time.

Where a meter was swapped, those that hung there one after the other are one course, across the registers that were
written down at the swap.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.accounts import Role
from openami.headend.consumption import Known
from openami.headend.periods import Step, boundaries
from openami.headend.place_energy import Succession, succession_energy, successions
from openami.headend.store.energy import ACTIVE_IMPORT, METER_DAYS_MAX, PERIODS_MAX, SeriesEnergy
from openami.headend.store.pages import Key
from openami.headend.web.admission import declares
from openami.headend.web.api.edge import ApiRoute, may_refuse
from openami.headend.web.api.forms import (
    Cursor,
    FeederNamed,
    MeterFilter,
    Moment,
    ObisFilter,
    Resource,
    Since,
    Until,
    register_of,
)
from openami.headend.web.api.paging import NEXT_LINK, Page, in_memory, key_of, page_answer
from openami.headend.web.api.scope import require_feeder
from openami.headend.web.refusals import invalid
from openami.headend.web.site import site_of
from openami.profile import utc_text

router = APIRouter(route_class=ApiRoute, tags=["energy"])

# A meter may have 2,400 periods, and a page is held in memory: some two megabytes.
METERS_PAGE_MAX: Final = 20
METERS_PAGE_DEFAULT: Final = 10


class KnownWord(StrEnum):
    """How far energy is known."""

    MEASURED = "measured"
    SPREAD = "spread"
    AT_LEAST = "at_least"
    NOTHING = "nothing"


class Period(Resource):
    """One period of one meter."""

    since: Moment
    until: Moment = Field(description="Not included.")
    wh: int | None = Field(description="In Wh; null where nothing is known, which is not zero.")
    known: KnownWord = Field(
        description="measured; spread over a gap, so right in sum; at_least, a part is hidden; nothing."
    )


class Energy(Resource):
    """One meter's energy. Its periods add up to the difference of its registers: resets, rollovers, swaps apart."""

    feeder_id: str
    meter_serial: str = Field(description="The meter that hangs there, or hung there last.")
    meters: list[str] = Field(
        description="All that hung there meanwhile, one after the other; their energy is told together."
    )
    obis: str
    total_wh: int = Field(description="What is known of all periods together, in Wh.")
    suspect: int = Field(description="Readings of these days that nobody vouches for.")
    periods: list[Period]

    @classmethod
    def of(cls, series: SeriesEnergy, succession: Succession) -> "Energy":
        """Return what meters counted one after the other as it is told."""
        ends = zip(series.since, series.since[1:], series.wh, series.known, strict=False)
        return cls(
            feeder_id=series.feeder_id,
            meter_serial=series.meter_serial,
            meters=list(dict.fromkeys(span.serial for span in succession)),
            obis=str(series.obis),
            total_wh=series.total_wh,
            suspect=series.suspect,
            periods=[
                Period(since=begin, until=end, wh=wh, known=_word(known))
                for begin, end, wh, known in ends
            ],
        )


def _word(known: Known) -> KnownWord:
    return KnownWord[known.name]


StepParameter = Annotated[
    Step,
    Query(alias="step", description="How long a period is; days follow the feeder's time zone."),
]
MetersLimit = Annotated[
    int, Query(alias="limit", ge=1, le=METERS_PAGE_MAX, description="How many meters on a page.")
]


@router.get(
    "/energy",
    response_model=Page[Energy],
    responses={200: {"headers": NEXT_LINK}, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.VIEWER)
async def list_energy(
    request: Request,
    feeder_id: FeederNamed,
    meter_serial: MeterFilter = None,
    obis: ObisFilter = None,
    since: Since = None,
    until: Until = None,
    step: StepParameter = Step.DAY,
    limit: MetersLimit = METERS_PAGE_DEFAULT,
    cursor: Cursor = None,
) -> Response:
    """List what a feeder's meters counted, by serial; the last week up to now, if you name no time.

    A meter that was swapped is found by its own serial and by those that hung there before and after it.
    """
    await require_feeder(request, feeder_id)
    store = site_of(request).store
    end = until or site_of(request).clock.now()
    begin = since or end - timedelta(days=7)
    _check_span(begin, end)
    assets = await store.assets(feeder_id)
    zone = assets.feeder.zone
    register = register_of(obis) or ACTIVE_IMPORT
    after = key_of("energy", cursor, (str, str))
    heard = [row.meter_serial for row in await store.meters(feeder_id=feeder_id)]
    # A swap within the first period or the last belongs to it.
    edges = boundaries(begin, end, step, zone)
    keyed: list[tuple[Key, Succession]] = [
        ((each[-1].serial, utc_text(each[0].begin)), each)
        for each in successions(assets, heard, edges[0], edges[-1])
        if meter_serial is None or any(span.serial == meter_serial for span in each)
    ]
    page, last = in_memory(keyed, after, limit)
    items: list[Energy] = []
    for each in page:
        try:
            found = await succession_energy(
                store, feeder_id, each, begin, end, step, zone=zone, obis=register
            )
        except ValueError:
            raise _too_long(
                f"that is more than {PERIODS_MAX} periods: choose a longer step"
            ) from None
        if found is not None:
            items.append(Energy.of(found, each))
    return page_answer(request, "energy", items, last)


def _check_span(begin: datetime, end: datetime) -> None:
    if begin >= end:
        raise _too_long("not after `since`")
    if end - begin > timedelta(days=METER_DAYS_MAX):
        raise _too_long(f"more than {METER_DAYS_MAX} days after `since`: ask for less")


def _too_long(detail: str) -> Exception:
    return invalid([{"in": "query: until", "detail": detail}])
