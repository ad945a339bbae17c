"""``/gateways``: the poles' machines, and whether they are heard."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.accounts import Role
from openami.headend.bandwidth import BUDGET_BYTES_MAX, BUDGET_BYTES_MIN, budget_entry
from openami.headend.states import GatewayState, gateway_state
from openami.headend.store import GatewayRow
from openami.headend.store.traffic import DayTraffic
from openami.headend.web.admission import declares, principal_of
from openami.headend.web.api.edge import ApiRoute, may_refuse
from openami.headend.web.api.etags import ETAG_HEADER, NOT_MODIFIED, answer, check_unchanged
from openami.headend.web.api.forms import (
    AS_WHOLE,
    LIMIT_DEFAULT,
    Asked,
    Cursor,
    FeederFilter,
    FeederId,
    GatewayId,
    IfMatch,
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
    bytes_today: int = Field(
        description="Topics and payloads of it that were accepted this day of UTC."
    )
    bytes_this_month: int = Field(description="The same of this month of UTC.")
    month_budget_bytes: int | None = Field(
        description="What it may send in a month; null where nobody has set that."
    )

    @classmethod
    def of(cls, row: GatewayRow, sent: "_Sent", now: datetime) -> "Gateway":
        """Return a gateway as it is to be called now."""
        key, today = (row.feeder_id, row.gateway_id), str(now.date())
        return cls(
            feeder_id=row.feeder_id,
            gateway_id=row.gateway_id,
            state=gateway_state(row, now),
            last_seq=row.last_seq,
            first_seen=row.first_seen,
            last_seen=row.last_seen,
            bytes_today=sum(each.bytes for each in sent.days[key] if each.day == today),
            bytes_this_month=sum(each.bytes for each in sent.days[key]),
            month_budget_bytes=sent.budgets.get(key),
        )


@dataclass(frozen=True, slots=True)
class _Sent:
    """What gateways sent this month, and may send."""

    days: Mapping[tuple[str, str], Sequence[DayTraffic]]
    budgets: Mapping[tuple[str, str], int]


async def _sent(request: Request, feeder_id: str | None) -> _Sent:
    store, today = site_of(request).store, site_of(request).clock.now().date()
    days: dict[tuple[str, str], list[DayTraffic]] = defaultdict(list)
    for each in await store.traffic(today.replace(day=1), feeder_id):
        days[each.feeder_id, each.gateway_id].append(each)
    return _Sent(days, await store.budgets())


class Budget(Asked):
    """What a gateway may send in a month of UTC."""

    month_bytes: Annotated[
        int | None, Field(ge=BUDGET_BYTES_MIN, le=BUDGET_BYTES_MAX), AS_WHOLE
    ] = Field(description="In bytes of topics and payloads; null for as much as it likes.")


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
    now, sent = site_of(request).clock.now(), await _sent(request, feeder_id)
    return page_answer(request, "gateways", [Gateway.of(row, sent, now) for row in page], last)


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
    return answer(request, await _found(request, feeder_id, gateway_id))


@router.put(
    "/gateways/{feederId}/{gatewayId}/budget",
    response_model=Gateway,
    responses={
        200: {"headers": ETAG_HEADER},
        **may_refuse(HTTPStatus.NOT_FOUND, HTTPStatus.PRECONDITION_FAILED),
    },
)
@declares(Role.ENGINEER)
async def set_gateway_budget(
    request: Request,
    feeder_id: FeederId,
    gateway_id: GatewayId,
    asked: Annotated[Budget, Body()],
    if_match: IfMatch = None,
) -> Response:
    """Set what a gateway may send in a month; an alarm tells when it is near that. Nothing is held back."""
    check_unchanged(if_match, await _found(request, feeder_id, gateway_id))
    site, who = site_of(request), principal_of(request).name
    entry = budget_entry(gateway_id, asked.month_bytes, who=who)
    await site.store.set_budget(feeder_id, gateway_id, asked.month_bytes, entry, site.clock.now())
    return answer(request, await _found(request, feeder_id, gateway_id))


async def _found(request: Request, feeder_id: str, gateway_id: str) -> Gateway:
    await require_feeder(request, feeder_id)
    for row in await site_of(request).store.gateways(feeder_id):
        if row.gateway_id == gateway_id:
            return Gateway.of(row, await _sent(request, feeder_id), site_of(request).clock.now())
    raise Problem.not_found(f"there is no gateway {gateway_id} on feeder {feeder_id}")
