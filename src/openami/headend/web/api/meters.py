"""``/meters``: each meter, how it is, and what it said last."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.accounts import Role
from openami.headend.states import MeterState, meter_state, states_of
from openami.headend.store import MeterRow, Reading
from openami.headend.web.admission import declares
from openami.headend.web.api.edge import ApiRoute, may_refuse
from openami.headend.web.api.etags import ETAG_HEADER, NOT_MODIFIED, answer
from openami.headend.web.api.forms import (
    LIMIT_DEFAULT,
    Cursor,
    FeederFilter,
    FeederId,
    GatewayFilter,
    IfNoneMatch,
    Limit,
    MeterFilter,
    MeterSerial,
    Moment,
    Resource,
)
from openami.headend.web.api.paging import NEXT_LINK, Page, in_memory, key_of, page_answer
from openami.headend.web.api.readings import ReadingTold
from openami.headend.web.api.scope import feeders_of, require_meter
from openami.headend.web.site import site_of
from openami.profile import Quality

router = APIRouter(route_class=ApiRoute, tags=["meters"])


class Meter(Resource):
    """A meter as the stream has shown it. A serial is unique within its feeder only."""

    feeder_id: str
    gateway_id: str = Field(description="The gateway through which it last spoke.")
    meter_serial: str
    state: MeterState = Field(description="What to think of it, the worst that holds.")
    worst_quality: Quality = Field(description="The worst quality among its latest registers.")
    last_ts: Moment = Field(description="When the latest of its registers was measured.")
    latest_good_ts: Moment | None = Field(
        description="When the latest register of good quality was measured."
    )
    first_seen: Moment = Field(description="When something of it was first received.")
    last_seen: Moment = Field(description="When something of it was last received.")


class MeterInFull(Meter):
    """A meter with each register's latest value."""

    registers: list[ReadingTold] = Field(description="Each register's value of its latest moment.")


def members_of(row: MeterRow, state: MeterState) -> dict[str, Any]:
    """Return what is told of a meter everywhere."""
    return {
        "feeder_id": row.feeder_id,
        "gateway_id": row.gateway_id,
        "meter_serial": row.meter_serial,
        "state": state,
        "worst_quality": row.worst_quality,
        "last_ts": row.last_ts,
        "latest_good_ts": row.latest_good_ts,
        "first_seen": row.first_seen,
        "last_seen": row.last_seen,
    }


def meter_in_full(row: MeterRow, state: MeterState, latest: Sequence[Reading]) -> MeterInFull:
    """Return a meter with its registers."""
    told = [ReadingTold.of(reading) for reading in latest]
    return MeterInFull(**members_of(row, state), registers=told)


@router.get(
    "/meters",
    response_model=Page[Meter],
    responses={200: {"headers": NEXT_LINK}, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.VIEWER)
async def list_meters(
    request: Request,
    feeder_id: FeederFilter = None,
    gateway_id: GatewayFilter = None,
    meter_serial: MeterFilter = None,
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
) -> Response:
    """List meters by feeder and serial."""
    feeders = await feeders_of(request, feeder_id)
    after = key_of("meters", cursor, (str, str))
    store, now = site_of(request).store, site_of(request).clock.now()
    rows = await store.meters(feeder_id=feeder_id, meter_serial=meter_serial)
    keyed = (
        ((row.feeder_id, row.meter_serial), row)
        for row in rows
        if (feeders is None or row.feeder_id in feeders) and gateway_id in (None, row.gateway_id)
    )
    page, last = in_memory(keyed, after, limit)
    states = states_of(page, await store.gateways(feeder_id), now=now)
    items = [Meter(**members_of(row, state)) for row, state in states]
    return page_answer(request, "meters", items, last)


@router.get(
    "/meters/{feederId}/{meterSerial}",
    response_model=MeterInFull,
    responses={200: {"headers": ETAG_HEADER}, **NOT_MODIFIED, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.VIEWER)
async def show_meter(
    request: Request, feeder_id: FeederId, meter_serial: MeterSerial, _: IfNoneMatch = None
) -> Response:
    """Show one meter with its latest registers."""
    row = await require_meter(request, feeder_id, meter_serial)
    store = site_of(request).store
    gateways = {each.gateway_id: each for each in await store.gateways(feeder_id)}
    state = meter_state(row, gateways.get(row.gateway_id), now=site_of(request).clock.now())
    latest = await store.latest(feeder_id, meter_serial)
    return answer(request, meter_in_full(row, state, latest))
