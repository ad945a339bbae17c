"""``/events``: what meters and gateways have told of themselves."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.accounts import Role
from openami.headend.store import StoredEvent
from openami.headend.store.pages import Wanted
from openami.headend.web.admission import declares
from openami.headend.web.api.edge import ApiRoute, may_refuse
from openami.headend.web.api.forms import (
    CODE_CHARS_MAX,
    LIMIT_DEFAULT,
    Cursor,
    FeederFilter,
    GatewayFilter,
    Limit,
    MeterFilter,
    Moment,
    Resource,
    Since,
    Until,
)
from openami.headend.web.api.paging import NEXT_LINK, Page, first_of, key_of, page_answer
from openami.headend.web.api.scope import feeders_of
from openami.headend.web.site import site_of
from openami.profile import EventState, Severity
from openami.profile.event import EVENT_NAME_PATTERN

router = APIRouter(route_class=ApiRoute, tags=["events"])


class EventTold(Resource):
    """One event, as told by its first delivery."""

    feeder_id: str
    gateway_id: str
    meter_serial: str
    event_id: str = Field(description="The same event told twice has the same id.")
    type: str = Field(description="What happened: tamper.cover_open, power.lost …")
    state: str = Field(description="raised, cleared or moment.")
    severity: str = Field(description="How grave its sender holds it to be.")
    occurred_at: Moment = Field(description="When it happened, by its sender's clock.")
    ts: Moment = Field(description="When it was told; the list is in this order.")
    received_at: Moment = Field(description="When the head-end received it.")

    @classmethod
    def of(cls, event: StoredEvent) -> "EventTold":
        """Return a stored event as it is told."""
        return cls(
            feeder_id=event.feeder_id,
            gateway_id=event.gateway_id,
            meter_serial=event.meter_serial,
            event_id=event.event_id,
            type=event.type,
            state=event.state,
            severity=event.severity,
            occurred_at=event.occurred_at,
            ts=event.ts,
            received_at=event.received_at,
        )


TypeFilter = Annotated[
    str | None,
    Query(
        alias="type",
        pattern=f"^{EVENT_NAME_PATTERN}$",
        max_length=CODE_CHARS_MAX,
        description="Of this type only.",
    ),
]
SeverityFilter = Annotated[
    Severity | None, Query(alias="severity", description="Of this severity only.")
]
StateFilter = Annotated[
    EventState | None, Query(alias="state", description="In this state when told, only.")
]


@router.get(
    "/events",
    response_model=Page[EventTold],
    responses={200: {"headers": NEXT_LINK}, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.VIEWER)
async def list_events(
    request: Request,
    feeder_id: FeederFilter = None,
    gateway_id: GatewayFilter = None,
    meter_serial: MeterFilter = None,
    kind: TypeFilter = None,
    severity: SeverityFilter = None,
    state: StateFilter = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
) -> Response:
    """List events, newest first by the time they were told."""
    wanted = Wanted(
        feeders=await feeders_of(request, feeder_id),
        gateway_id=gateway_id,
        meter_serial=meter_serial,
        type=kind,
        severity=severity and str(severity),
        state=state and str(state),
        since=since,
        until=until,
    )
    after = key_of("events", cursor, (int, int))
    rows = await site_of(request).store.events_page(wanted, after=after, at_most=limit + 1)
    page, last = first_of(rows, limit)
    return page_answer(request, "events", [EventTold.of(row) for row in page], last)
