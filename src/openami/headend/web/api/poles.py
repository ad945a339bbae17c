"""``/poles``: what stands along a feeder, in the order of the line."""

from http import HTTPStatus

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.accounts import Role
from openami.headend.assets import FeederAssets
from openami.headend.assets import Pole as Described
from openami.headend.web.admission import declares
from openami.headend.web.api.edge import ApiRoute, may_refuse
from openami.headend.web.api.etags import ETAG_HEADER, NOT_MODIFIED, answer
from openami.headend.web.api.forms import (
    LIMIT_DEFAULT,
    Cursor,
    FeederFilter,
    FeederId,
    IfNoneMatch,
    Limit,
    PoleId,
    Resource,
)
from openami.headend.web.api.paging import NEXT_LINK, Page, in_memory, key_of, page_answer
from openami.headend.web.api.scope import assets_of, require_feeder
from openami.headend.web.problems import Problem
from openami.headend.web.site import site_of

router = APIRouter(route_class=ApiRoute, tags=["poles"])


class Pole(Resource):
    """A pole as its operator describes it."""

    feeder_id: str
    pole_id: str
    name: str
    number: int = Field(description="Its place along the line.")
    parent: str | None = Field(description="The pole before it; null for the first.")
    longitude: float | None = Field(description="In degrees, WGS 84.")
    latitude: float | None = Field(description="In degrees, WGS 84.")
    phases: str = Field(
        description="The phases that reach it: ABC, A …; empty where nobody has said."
    )
    meters: list[str] = Field(description="The serials that hang on it now.")

    @classmethod
    def of(cls, pole: Described, assets: FeederAssets, request: Request) -> "Pole":
        """Return a pole with the meters that hang on it now."""
        hanging = assets.meters_at(site_of(request).clock.now())
        return cls(
            feeder_id=pole.feeder_id,
            pole_id=pole.id,
            name=pole.name,
            number=pole.number,
            parent=pole.parent,
            longitude=pole.longitude,
            latitude=pole.latitude,
            phases=pole.phases,
            meters=sorted(meter.serial for meter in hanging if meter.pole_id == pole.id),
        )


@router.get(
    "/poles",
    response_model=Page[Pole],
    responses={200: {"headers": NEXT_LINK}, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.VIEWER)
async def list_poles(
    request: Request,
    feeder_id: FeederFilter = None,
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
) -> Response:
    """List poles by feeder, in the order of the line."""
    after = key_of("poles", cursor, (str, int, str))
    keyed = [
        ((pole.feeder_id, pole.number, pole.id), (pole, assets))
        for assets in await assets_of(request, feeder_id)
        for pole in assets.poles
    ]
    page, last = in_memory(keyed, after, limit)
    items = [Pole.of(pole, assets, request) for pole, assets in page]
    return page_answer(request, "poles", items, last)


@router.get(
    "/poles/{feederId}/{poleId}",
    response_model=Pole,
    responses={200: {"headers": ETAG_HEADER}, **NOT_MODIFIED, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.VIEWER)
async def show_pole(
    request: Request, feeder_id: FeederId, pole_id: PoleId, _: IfNoneMatch = None
) -> Response:
    """Show one pole."""
    await require_feeder(request, feeder_id)
    assets = await site_of(request).store.assets(feeder_id)
    pole = assets.pole(pole_id)
    if pole is None:
        raise Problem.not_found(f"there is no pole {pole_id} on feeder {feeder_id}")
    return answer(request, Pole.of(pole, assets, request))
