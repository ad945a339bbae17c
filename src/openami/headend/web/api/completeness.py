"""``/completeness``: what should have come from each meter on each day, what did, and why the rest is missing."""

from datetime import date, timedelta
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.accounting import day_accounts
from openami.headend.accounts import Role
from openami.headend.completeness import DayAccount, Missing, MissingReason
from openami.headend.gap_life import GapReason
from openami.headend.store.pages import Key
from openami.headend.web.admission import declares
from openami.headend.web.api.edge import ApiRoute, may_refuse
from openami.headend.web.api.forms import (
    Cursor,
    Day,
    FeederFilter,
    FeederId,
    GatewayFilter,
    GatewayId,
    MeterFilter,
    Moment,
    Resource,
)
from openami.headend.web.api.media import JSON
from openami.headend.web.api.paging import NEXT_LINK, Page, key_of, page_answer
from openami.headend.web.api.scope import feeders_of, require_gateway
from openami.headend.web.certificates import certificate_answer
from openami.headend.web.refusals import invalid
from openami.headend.web.site import site_of

router = APIRouter(route_class=ApiRoute, tags=["completeness"])

# A quarter of a year is one question; a year is asked for in four.
DAYS_MAX: Final = 92


class MissingTold(Resource):
    """Intervals one after the other that are missing for one reason."""

    begin: Moment = Field(
        validation_alias="from",
        serialization_alias="from",
        description="When the first reading was expected.",
    )
    end: Moment = Field(
        validation_alias="to",
        serialization_alias="to",
        description="When the last reading was expected.",
    )
    intervals: int
    reason: MissingReason | GapReason

    @classmethod
    def of(cls, missing: Missing) -> "MissingTold":
        """Return missing intervals as they are told."""
        return cls(
            begin=missing.begin,
            end=missing.end,
            intervals=missing.intervals,
            reason=missing.reason,
        )


class DayTold(Resource):
    """The account of one meter and one day of UTC."""

    feeder_id: str
    gateway_id: str
    meter_serial: str
    day: Day
    interval_s: int | None = Field(
        description="How often it reports, in seconds; null where nobody knows."
    )
    expected: int | None = Field(
        description="Intervals so far; null where the interval is not known: that is not completeness."
    )
    received: int = Field(description="Intervals of which a reading came.")
    late: int = Field(description="Of these, more than half an hour after they were measured.")
    suspect: int = Field(description="Of these, those that nobody vouches for.")
    missing: int | None = Field(description="Intervals of which none came.")
    gaps: list[MissingTold] = Field(description="The missing intervals, folded by reason.")

    @classmethod
    def of(cls, account: DayAccount) -> "DayTold":
        """Return an account as it is told."""
        return cls(
            feeder_id=account.feeder_id,
            gateway_id=account.gateway_id,
            meter_serial=account.meter_serial,
            day=account.day,
            interval_s=account.interval_s,
            expected=account.expected,
            received=account.received,
            late=account.late,
            suspect=account.suspect,
            missing=account.missing,
            gaps=[MissingTold.of(gap) for gap in account.gaps],
        )


FirstDay = Annotated[
    Day | None, Query(alias="since", description="The first day; today without it.")
]
DayOfPath = Annotated[Day, Path(alias="day", description="A day of UTC that is over.")]
LastDay = Annotated[
    Day | None, Query(alias="until", description="The last day, included; `since` without it.")
]


@router.get(
    "/completeness",
    response_model=Page[DayTold],
    responses={200: {"headers": NEXT_LINK}, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.VIEWER)
async def list_completeness(
    request: Request,
    feeder_id: FeederFilter = None,
    gateway_id: GatewayFilter = None,
    meter_serial: MeterFilter = None,
    since: FirstDay = None,
    until: LastDay = None,
    cursor: Cursor = None,
) -> Response:
    """List the accounts of a day's meters; a page is one feeder's day, and no two days are in one."""
    now, store = site_of(request).clock.now(), site_of(request).store
    first = since or until or now.date()
    days = _days(first, until or first)
    feeders = await feeders_of(request, feeder_id)
    after = key_of("completeness", cursor, (str, str))
    known = [each.id for each in await store.feeder_list()]
    listed = [each for each in known if feeders is None or each in feeders]
    places = sorted((day.isoformat(), each) for day in days for each in listed)
    left = [place for place in places if after is None or place > after]
    if not left:
        return page_answer(request, "completeness", [], None)
    day, feeder = left[0]
    accounts = day_accounts(
        store,
        feeder,
        [date.fromisoformat(day)],
        now=now,
        gateway_id=gateway_id,
        meter_serial=meter_serial,
    )
    items = [DayTold.of(account) async for account in accounts]
    last: Key | None = left[0] if len(left) > 1 else None
    return page_answer(request, "completeness", items, last)


@router.get(
    "/certificates/{feederId}/{gatewayId}/{day}",
    responses={
        200: {"content": {JSON: {"schema": {"type": "object"}}}},
        **may_refuse(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    },
)
@declares(Role.VIEWER)
async def show_certificate(
    request: Request, feeder_id: FeederId, gateway_id: GatewayId, day: DayOfPath
) -> Response:
    """Certify a gateway's day: what it states it recorded, beside what is here, signed by both.

    Whoever has the operator's roots verifies it without a network: `openami verify`.
    """
    await require_gateway(request, feeder_id, gateway_id)
    return await certificate_answer(request, feeder_id, gateway_id, day)


def _days(first: date, last: date) -> list[date]:
    """Return the days from the first to the last. Raises Problem 422 when they are none, or too many."""
    count = (last - first).days + 1
    if not 1 <= count <= DAYS_MAX:
        raise invalid(
            [
                {
                    "in": "query: until",
                    "detail": f"from `since` to `until` are 1 to {DAYS_MAX} days, not {count}",
                }
            ]
        )
    return [first + timedelta(days=n) for n in range(count)]
