"""``/feeders``: each low-voltage line, and how its meters are."""

from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.accounts import Role
from openami.headend.states import count_states, states_of
from openami.headend.store import FeederRow, GatewayRow, MeterRow
from openami.headend.web.admission import declares, principal_of
from openami.headend.web.api.edge import ApiRoute, may_refuse
from openami.headend.web.api.etags import ETAG_HEADER, NOT_MODIFIED, answer
from openami.headend.web.api.forms import (
    LIMIT_DEFAULT,
    Cursor,
    FeederId,
    IfNoneMatch,
    Limit,
    Moment,
    Resource,
)
from openami.headend.web.api.paging import NEXT_LINK, Page, in_memory, key_of, page_answer
from openami.headend.web.api.scope import require_feeder
from openami.headend.web.site import site_of

router = APIRouter(route_class=ApiRoute, tags=["feeders"])


class Feeder(Resource):
    """A feeder as the stream has shown it."""

    feeder_id: str
    gateways: int = Field(description="How many gateways were heard on it.")
    meters: int = Field(description="How many meters were heard on it.")
    meter_states: dict[str, int] = Field(
        description="Meters by state: reporting, suspect, meter_silent, gateway_silent; absent is none."
    )
    first_seen: Moment = Field(description="When something of it was first received.")
    last_seen: Moment = Field(description="When something of it was last received.")

    @classmethod
    def of(
        cls,
        row: FeederRow,
        meters: Sequence[MeterRow],
        gateways: Sequence[GatewayRow],
        now: datetime,
    ) -> "Feeder":
        """Return a feeder with the states of its meters; ``meters`` may hold those of others."""
        own = [meter for meter in meters if meter.feeder_id == row.feeder_id]
        return cls(
            feeder_id=row.feeder_id,
            gateways=row.gateways,
            meters=row.meters,
            meter_states=count_states([state for _, state in states_of(own, gateways, now=now)]),
            first_seen=row.first_seen,
            last_seen=row.last_seen,
        )


@router.get("/feeders", response_model=Page[Feeder], responses={200: {"headers": NEXT_LINK}})
@declares(Role.VIEWER)
async def list_feeders(
    request: Request, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
) -> Response:
    """List the feeders in your scope."""
    store, now = site_of(request).store, site_of(request).clock.now()
    principal = principal_of(request)
    after = key_of("feeders", cursor, (str,))
    rows = [row for row in await store.feeders() if principal.sees(row.feeder_id)]
    page, last = in_memory((((row.feeder_id,), row) for row in rows), after, limit)
    meters, gateways = await store.meters(), await store.gateways()
    items = [Feeder.of(row, meters, gateways, now) for row in page]
    return page_answer(request, "feeders", items, last)


@router.get(
    "/feeders/{feederId}",
    response_model=Feeder,
    responses={200: {"headers": ETAG_HEADER}, **NOT_MODIFIED, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.VIEWER)
async def show_feeder(request: Request, feeder_id: FeederId, _: IfNoneMatch = None) -> Response:
    """Show one feeder."""
    await require_feeder(request, feeder_id)
    store, now = site_of(request).store, site_of(request).clock.now()
    [row] = [row for row in await store.feeders() if row.feeder_id == feeder_id]
    meters = await store.meters(feeder_id=feeder_id)
    return answer(request, Feeder.of(row, meters, await store.gateways(feeder_id), now))
