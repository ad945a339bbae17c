"""``/meters``: each meter, where it hangs, how it is, and what it said last."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.accounts import Role
from openami.headend.assets import Meter as Placed
from openami.headend.assets import MeterRole
from openami.headend.states import MeterState, meter_state
from openami.headend.store import GatewayRow, MeterRow, Reading
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
from openami.headend.web.api.scope import feeders_of, require_feeder
from openami.headend.web.problems import Problem
from openami.headend.web.site import site_of
from openami.profile import Quality

router = APIRouter(route_class=ApiRoute, tags=["meters"])


class Meter(Resource):
    """A meter as the stream has shown it and as its operator has placed it; unique within its feeder only."""

    feeder_id: str
    meter_serial: str
    state: MeterState = Field(description="What to think of it, the worst that holds.")
    gateway_id: str | None = Field(
        description="The gateway through which it last spoke; null for one that never did."
    )
    worst_quality: Quality | None = Field(
        description="The worst quality among its latest registers."
    )
    last_ts: Moment | None = Field(description="When the latest of its registers was measured.")
    latest_good_ts: Moment | None = Field(
        description="When the latest register of good quality was measured."
    )
    first_seen: Moment | None = Field(description="When something of it was first received.")
    last_seen: Moment | None = Field(description="When something of it was last received.")
    role: MeterRole | None = Field(
        description="What it measures: the feeder's head, a pole, a customer; null where nobody has said."
    )
    pole_id: str | None
    phase: str | None = Field(description="A, B, C or several of them.")
    customer_id: str | None
    protected: bool = Field(description="Whether it takes a second person to cut it off.")


class MeterInFull(Meter):
    """A meter with each register's latest value."""

    registers: list[ReadingTold] = Field(description="Each register's value of its latest moment.")


class Known:
    """A meter as it was heard, and where it hangs; one of the two may be missing."""

    def __init__(
        self,
        feeder_id: str,
        serial: str,
        heard: MeterRow | None,
        placed: Placed | None,
        gateways: Mapping[str, GatewayRow],
        now: datetime,
    ) -> None:
        gateway = None if heard is None else gateways.get(heard.gateway_id)
        self.gateway_id = None if heard is None else heard.gateway_id
        self.state = meter_state(heard, gateway, now=now)
        self._members: dict[str, Any] = {
            "feeder_id": feeder_id,
            "meter_serial": serial,
            "state": self.state,
            **{name: getattr(heard, name, None) for name in _HEARD},
            **{name: getattr(placed, name, None) for name in _HANGS},
            "phase": placed.phase or None if placed is not None else None,
            "protected": placed is not None and placed.protected,
        }

    def told(self) -> Meter:
        """Return it as a list tells it."""
        return Meter(**self._members)

    def in_full(self, latest: Sequence[Reading]) -> MeterInFull:
        """Return it with its registers."""
        return MeterInFull(
            **self._members, registers=[ReadingTold.of(reading) for reading in latest]
        )


_HEARD: Final = (
    *("gateway_id", "worst_quality", "last_ts", "latest_good_ts", "first_seen", "last_seen"),
)
_HANGS: Final = ("role", "pole_id", "customer_id")

StateFilter = Annotated[MeterState | None, Query(alias="state", description="In this state only.")]


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
    state: StateFilter = None,
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
) -> Response:
    """List meters by feeder and serial: those that were heard, and those that hang there and never were."""
    feeders = await feeders_of(request, feeder_id)
    after = key_of("meters", cursor, (str, str))
    known: dict[tuple[str, str], Known] = {}
    for described in await site_of(request).store.feeder_list():
        if feeders is None or described.id in feeders:
            known |= await _known(request, described.id, meter_serial)
    wanted = (
        (place, meter)
        for place, meter in known.items()
        if state in (None, meter.state) and gateway_id in (None, meter.gateway_id)
    )
    page, last = in_memory(wanted, after, limit)
    return page_answer(request, "meters", [meter.told() for meter in page], last)


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
    await require_feeder(request, feeder_id)
    known = (await _known(request, feeder_id, meter_serial)).get((feeder_id, meter_serial))
    if known is None:
        raise Problem.not_found(f"there is no meter {meter_serial} on feeder {feeder_id}")
    latest = await site_of(request).store.latest(feeder_id, meter_serial)
    return answer(request, known.in_full(latest))


async def shown_meter(request: Request, feeder_id: str, meter_serial: str) -> Meter:
    """Return a meter as a list tells it. Raises Problem 404."""
    known = (await _known(request, feeder_id, meter_serial)).get((feeder_id, meter_serial))
    if known is None:
        raise Problem.not_found(f"there is no meter {meter_serial} on feeder {feeder_id}")
    return known.told()


async def _known(
    request: Request, feeder_id: str, meter_serial: str | None
) -> dict[tuple[str, str], Known]:
    """Return a feeder's meters, or one of them, by feeder and serial."""
    store, now = site_of(request).store, site_of(request).clock.now()
    heard = {
        row.meter_serial: row
        for row in await store.meters(feeder_id=feeder_id, meter_serial=meter_serial)
    }
    placed = {
        meter.serial: meter
        for meter in (await store.assets(feeder_id)).meters_at(now)
        if meter_serial in (None, meter.serial)
    }
    gateways = {row.gateway_id: row for row in await store.gateways(feeder_id)}
    return {
        (feeder_id, serial): Known(
            feeder_id, serial, heard.get(serial), placed.get(serial), gateways, now
        )
        for serial in heard.keys() | placed.keys()
    }
