"""``/findings``: what is odd about stored readings; a finding never changes one."""

from http import HTTPStatus

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.accounts import Role
from openami.headend.store import StoredFinding
from openami.headend.store.pages import Wanted
from openami.headend.web.admission import declares
from openami.headend.web.api.edge import ApiRoute, may_refuse
from openami.headend.web.api.forms import (
    LIMIT_DEFAULT,
    CodeFilter,
    Cursor,
    FeederFilter,
    Limit,
    MeterFilter,
    Moment,
    ObisFilter,
    Resource,
    Since,
    Until,
    register_of,
)
from openami.headend.web.api.paging import NEXT_LINK, Page, first_of, key_of, page_answer
from openami.headend.web.api.scope import feeders_of
from openami.headend.web.site import site_of

router = APIRouter(route_class=ApiRoute, tags=["findings"])


class FindingTold(Resource):
    """One kind of oddity of one register on one day, however often it was seen."""

    feeder_id: str
    meter_serial: str
    obis: str = Field(description="The register; empty for one about the meter.")
    code: str
    detail: str = Field(description="What was seen last, in words.")
    day: str = Field(description="The day in UTC on which it was seen.")
    count: int = Field(description="How often on that day.")
    last_seen: Moment

    @classmethod
    def of(cls, row: StoredFinding) -> "FindingTold":
        """Return a finding as it is told."""
        return cls(
            feeder_id=row.feeder_id,
            meter_serial=row.meter_serial,
            obis=row.obis,
            code=row.code,
            detail=row.detail,
            day=row.day,
            count=row.count,
            last_seen=row.last_seen,
        )


@router.get(
    "/findings",
    response_model=Page[FindingTold],
    responses={200: {"headers": NEXT_LINK}, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.VIEWER)
async def list_findings(
    request: Request,
    feeder_id: FeederFilter = None,
    meter_serial: MeterFilter = None,
    obis: ObisFilter = None,
    code: CodeFilter = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
) -> Response:
    """List findings, newest first by when they were last seen."""
    register = register_of(obis)
    wanted = Wanted(
        feeders=await feeders_of(request, feeder_id),
        meter_serial=meter_serial,
        obis=None if register is None else str(register),
        code=code,
        since=since,
        until=until,
    )
    after = key_of("findings", cursor, (int, str, str, str, str, str))
    rows = await site_of(request).store.findings_page(wanted, after=after, at_most=limit + 1)
    page, last = first_of(rows, limit)
    return page_answer(request, "findings", [FindingTold.of(row) for row in page], last)
