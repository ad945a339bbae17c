"""``/feeders``: each low-voltage line, and how its meters are."""

from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.accounts import Role
from openami.headend.assets import Feeder as Described
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
    """A feeder as its operator describes it and as the stream has shown it."""

    feeder_id: str
    name: str = Field(description="What its operator calls it; its id where nobody has said.")
    time_zone: str = Field(description="By its IANA name: its days and bills follow it.")
    billing_day: int = Field(description="The day of the month a bill begins on.")
    tariff_id: str | None
    gateways: int = Field(description="How many gateways were heard on it.")
    meters: int = Field(description="How many meters were heard on it.")
    meter_states: dict[str, int] = Field(
        description="Meters by state: reporting, suspect, meter_silent, gateway_silent; absent is none."
    )
    first_seen: Moment | None = Field(
        description="When something of it was first received; null for one never heard of."
    )
    last_seen: Moment | None = Field(description="When something of it was last received.")

    @classmethod
    def of(
        cls,
        described: Described,
        row: FeederRow | None,
        meters: Sequence[MeterRow],
        gateways: Sequence[GatewayRow],
        now: datetime,
    ) -> "Feeder":
        """Return a feeder with the states of its meters; ``meters`` may hold those of others."""
        own = [meter for meter in meters if meter.feeder_id == described.id]
        return cls(
            feeder_id=described.id,
            name=described.name,
            time_zone=described.time_zone,
            billing_day=described.billing_day,
            tariff_id=described.tariff_id,
            gateways=0 if row is None else row.gateways,
            meters=len(own),
            meter_states=count_states([state for _, state in states_of(own, gateways, now=now)]),
            first_seen=None if row is None else row.first_seen,
            last_seen=None if row is None else row.last_seen,
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
    described = [each for each in await store.feeder_list() if principal.sees(each.id)]
    page, last = in_memory((((each.id,), each) for each in described), after, limit)
    heard = {row.feeder_id: row for row in await store.feeders()}
    meters, gateways = await store.meters(), await store.gateways()
    items = [Feeder.of(each, heard.get(each.id), meters, gateways, now) for each in page]
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
    [described] = [each for each in await store.feeder_list() if each.id == feeder_id]
    row = next((row for row in await store.feeders() if row.feeder_id == feeder_id), None)
    meters, gateways = await store.meters(feeder_id=feeder_id), await store.gateways(feeder_id)
    return answer(request, Feeder.of(described, row, meters, gateways, now))
