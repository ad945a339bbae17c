"""``/gaps``: what should have come from a gateway and has not, and what is done about it."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.accounts import Role
from openami.headend.gap_life import Gap, GapReason, GapState
from openami.headend.web.admission import declares
from openami.headend.web.api.edge import ApiRoute, may_refuse
from openami.headend.web.api.forms import (
    LIMIT_DEFAULT,
    Cursor,
    FeederFilter,
    GatewayFilter,
    Limit,
    Moment,
    Resource,
)
from openami.headend.web.api.paging import NEXT_LINK, Page, in_memory, key_of, page_answer
from openami.headend.web.api.scope import feeders_of
from openami.headend.web.site import site_of

router = APIRouter(route_class=ApiRoute, tags=["gaps"])


class GapTold(Resource):
    """A gap: numbers of envelopes, or intervals, of one gateway that have not come."""

    feeder_id: str
    gateway_id: str
    first_seq: int | None = Field(
        description="The first missing number; null for a gateway that does not number."
    )
    last_seq: int | None
    missing: int = Field(description="How many numbers or intervals of it have not come.")
    measured_from: Moment | None = Field(
        validation_alias="from",
        serialization_alias="from",
        description="Between which measured times it lies; null where nothing tells.",
    )
    measured_to: Moment | None = Field(validation_alias="to", serialization_alias="to")
    state: GapState
    reason: GapReason = Field(description="What is waited for, or what proves it lost.")
    noticed_at: Moment
    asks: int = Field(description="How often its gateway was asked to send it again.")
    ended_at: Moment | None = Field(description="When it was closed or given up.")

    @classmethod
    def of(cls, gap: Gap) -> "GapTold":
        """Return a gap as it is told."""
        return cls(
            feeder_id=gap.feeder_id,
            gateway_id=gap.gateway_id,
            first_seq=gap.first if gap.epoch else None,
            last_seq=gap.last if gap.epoch else None,
            missing=gap.missing,
            measured_from=gap.measured_from,
            measured_to=gap.measured_to,
            state=gap.state,
            reason=gap.reason,
            noticed_at=gap.noticed_at,
            asks=gap.asks,
            ended_at=gap.ended_at,
        )


ClosedToo = Annotated[bool, Query(alias="closed", description="Those that were closed, too.")]


@router.get(
    "/gaps",
    response_model=Page[GapTold],
    responses={200: {"headers": NEXT_LINK}, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.VIEWER)
async def list_gaps(
    request: Request,
    feeder_id: FeederFilter = None,
    gateway_id: GatewayFilter = None,
    closed: ClosedToo = False,
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
) -> Response:
    """List gaps by gateway, the oldest first."""
    feeders = await feeders_of(request, feeder_id)
    after = key_of("gaps", cursor, (str, str, int, int))
    gaps = await site_of(request).store.gaps(
        feeder_id=feeder_id, gateway_id=gateway_id, closed=closed
    )
    keyed = (
        ((gap.feeder_id, gap.gateway_id, gap.epoch, gap.first), gap)
        for gap in gaps
        if feeders is None or gap.feeder_id in feeders
    )
    page, last = in_memory(keyed, after, limit)
    return page_answer(request, "gaps", [GapTold.of(gap) for gap in page], last)
