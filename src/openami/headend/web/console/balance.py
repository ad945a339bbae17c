"""The balance of a feeder: a range with its coverage, hour by hour, pole by pole, and why the rest is missing."""

from datetime import timedelta
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.accounts import Role
from openami.headend.assets import Feeder
from openami.headend.balance import Balance
from openami.headend.web.admission import declares, in_scope, principal_of
from openami.headend.web.balances import balancing_of
from openami.headend.web.console.balance_view import SHADES, days_of, strip_of
from openami.headend.web.console.rendering import page
from openami.headend.web.site import site_of

# Spans a person chooses from: a day, a week, a bill, and the longest a balance can be.
SPANS: Final = {"1": 1, "7": 7, "30": 30, "60": 60}
SPAN: Final = "30"
# Meters listed by name; all are counted.
NAMED_MAX: Final = 100

router = APIRouter(include_in_schema=False)


@router.get("/balance")
@declares(Role.VIEWER)
async def balance(
    request: Request, feeder: str = "", days: str = SPAN, table: str = ""
) -> Response:
    """Show the balance of one feeder; of several one is chosen."""
    site, principal = site_of(request), principal_of(request)
    if feeder:
        in_scope(request, feeder)
    feeders = [each for each in await site.store.feeder_list() if principal.sees(each.id)]
    chosen = _chosen(feeders, feeder)
    span = days if days in SPANS else SPAN
    found = None if chosen is None else await _balance(request, chosen, SPANS[span])
    zone = None if chosen is None else chosen.zone
    return page(
        request,
        "balance.html",
        feeders=feeders,
        chosen=chosen,
        zone=zone,
        span=span,
        spans=SPANS,
        balance=found,
        strip=None if found is None or zone is None else strip_of(found, zone),
        days=[] if found is None or zone is None else days_of(found, zone),
        shades=SHADES,
        as_table=table == "1",
        named_max=NAMED_MAX,
    )


def _chosen(feeders: list[Feeder], feeder_id: str) -> Feeder | None:
    if not feeder_id:
        return feeders[0] if feeders else None
    return next((each for each in feeders if each.id == feeder_id), None)


async def _balance(request: Request, feeder: Feeder, days: int) -> Balance | None:
    """Return the balance up to the last hour that is over; None while none is."""
    now = site_of(request).clock.now()
    until = now.replace(minute=0, second=0, microsecond=0)
    try:
        return await balancing_of(request).balance(
            feeder.id, until - timedelta(days=days), now, now=now
        )
    except ValueError:
        return None
