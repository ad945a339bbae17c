"""``/gateways``: the poles' machines, and whether they are heard."""

from datetime import datetime
from http import HTTPStatus

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.accounts import Role
from openami.headend.states import GatewayState, gateway_state
from openami.headend.store import GatewayRow
from openami.headend.web.admission import declares
from openami.headend.web.api.edge import ApiRoute, may_refuse
from openami.headend.web.api.etags import ETAG_HEADER, NOT_MODIFIED, answer
from openami.headend.web.api.forms import (
    LIMIT_DEFAULT,
    Cursor,
    FeederFilter,
    FeederId,
    GatewayId,
    IfNoneMatch,
    Limit,
    Moment,
    Resource,
)
from openami.headend.web.api.paging import NEXT_LINK, Page, in_memory, key_of, page_answer
from openami.headend.web.api.scope import feeders_of, require_feeder
from openami.headend.web.problems import Problem
from openami.headend.web.site import site_of

router = APIRouter(route_class=ApiRoute, tags=["gateways"])


class Gateway(Resource):
    """A gateway as the stream has shown it."""

    feeder_id: str
    gateway_id: str
    state: GatewayState = Field(description="Whether it is heard of.")
    last_seq: int | None = Field(
        description="The highest number it gave an envelope; null for one that does not number."
    )
    first_seen: Moment = Field(description="When something of it was first received.")
    last_seen: Moment = Field(description="When something of it was last received.")

    @classmethod
    def of(cls, row: GatewayRow, now: datetime) -> "Gateway":
        """Return a gateway as it is to be called now."""
        return cls(
            feeder_id=row.feeder_id,
            gateway_id=row.gateway_id,
            state=gateway_state(row, now),
            last_seq=row.last_seq,
            first_seen=row.first_seen,
            last_seen=row.last_seen,
        )


@router.get(
    "/gateways",
    response_model=Page[Gateway],
    responses={200: {"headers": NEXT_LINK}, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.VIEWER)
async def list_gateways(
    request: Request,
    feeder_id: FeederFilter = None,
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
) -> Response:
    """List gateways by feeder and name."""
    feeders = await feeders_of(request, feeder_id)
    after = key_of("gateways", cursor, (str, str))
    rows = await site_of(request).store.gateways(feeder_id)
    keyed = (
        ((row.feeder_id, row.gateway_id), row)
        for row in rows
        if feeders is None or row.feeder_id in feeders
    )
    page, last = in_memory(keyed, after, limit)
    now = site_of(request).clock.now()
    return page_answer(request, "gateways", [Gateway.of(row, now) for row in page], last)


@router.get(
    "/gateways/{feederId}/{gatewayId}",
    response_model=Gateway,
    responses={200: {"headers": ETAG_HEADER}, **NOT_MODIFIED, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.VIEWER)
async def show_gateway(
    request: Request, feeder_id: FeederId, gateway_id: GatewayId, _: IfNoneMatch = None
) -> Response:
    """Show one gateway."""
    await require_feeder(request, feeder_id)
    for row in await site_of(request).store.gateways(feeder_id):
        if row.gateway_id == gateway_id:
            return answer(request, Gateway.of(row, site_of(request).clock.now()))
    raise Problem.not_found(f"there is no gateway {gateway_id} on feeder {feeder_id}")
