"""``/bulk-disconnections``: many houses cut off by one decision of two people, each by a command of its own."""

from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.accounts import Means, Role
from openami.headend.bulk import (
    BULK_METERS_MAX,
    Bulk,
    BulkMeter,
    BulkRefused,
    approved,
    bulk_room,
    proposed,
)
from openami.headend.bulk_preview import LeftOut, Preview, preview
from openami.headend.bulk_work import feeder_facts, stop
from openami.headend.commands import LedgerCommand
from openami.headend.new_ids import new_id
from openami.headend.store.identity import to_ms
from openami.headend.store.pages import Key
from openami.headend.web.admission import declares, principal_of
from openami.headend.web.api.commands import CommandWord, key_reused, owned_key, require_step_up
from openami.headend.web.api.edge import ApiRoute, may_refuse
from openami.headend.web.api.etags import ETAG_HEADER, NOT_MODIFIED, answer, check_unchanged
from openami.headend.web.api.forms import (
    ID,
    LIMIT_DEFAULT,
    ONE_LINE,
    REASON_CHARS_MAX,
    Asked,
    Cursor,
    FeederFilter,
    Id,
    IdempotencyKey,
    IfMatch,
    IfNoneMatch,
    Limit,
    Moment,
    Resource,
)
from openami.headend.web.api.paging import NEXT_LINK, Page, in_memory, key_of, page_answer
from openami.headend.web.api.scope import feeders_of, require_can_command, require_feeder
from openami.headend.web.problems import Problem
from openami.headend.web.refusals import invalid
from openami.headend.web.site import site_of

router = APIRouter(route_class=ApiRoute, tags=["bulk disconnections"])

BulkId = Annotated[str, Path(alias="bulkId", pattern=ID, description="The bulk disconnection.")]


class BulkWord(StrEnum):
    """Where a bulk disconnection stands; the last three are its ends."""

    PROPOSED = "proposed"
    RUNNING = "running"
    DONE = "done"
    WITHDRAWN = "withdrawn"
    LAPSED = "lapsed"


class BulkDisconnection(Resource):
    """Many houses cut off by one decision."""

    id: str
    feeder_id: str
    reason: str
    state: BulkWord
    requested_by: str
    requested_at: Moment
    lapses_at: Moment = Field(description="Until when a second person can approve it.")
    approved_by: str | None
    approved_at: Moment | None
    withdrawn_by: str | None
    ended_at: Moment | None

    @classmethod
    def of(cls, bulk: Bulk) -> "BulkDisconnection":
        """Return it as a list tells it."""
        return cls(**_members(bulk))


def _members(bulk: Bulk) -> dict[str, Any]:
    return {
        "id": bulk.id,
        "feeder_id": bulk.feeder_id,
        "reason": bulk.reason,
        "state": BulkWord(bulk.state.value),
        "requested_by": bulk.requested_by,
        "requested_at": bulk.requested_at,
        "lapses_at": bulk.lapses_at,
        "approved_by": bulk.approved_by,
        "approved_at": bulk.approved_at,
        "withdrawn_by": bulk.withdrawn_by,
        "ended_at": bulk.ended_at,
    }


class HouseTold(Resource):
    """One house of it."""

    meter_serial: str
    gateway_id: str
    command_id: str | None = Field(
        description="The command that asks for it; null while none does."
    )
    command_state: CommandWord | None
    refused_as: str | None = Field(description="Why no command was taken for it.")

    @classmethod
    def of(cls, meter: BulkMeter, command: LedgerCommand | None) -> "HouseTold":
        """Return a house and where its command stands."""
        return cls(
            meter_serial=meter.meter_serial,
            gateway_id=meter.gateway_id,
            command_id=meter.command_id,
            command_state=None if command is None else CommandWord(command.state.name.lower()),
            refused_as=meter.refused_as,
        )


class BulkInFull(BulkDisconnection):
    """A bulk disconnection with its houses, in the order they are asked for."""

    houses: list[HouseTold]


class NamedHouses(Asked):
    """The houses somebody means."""

    feeder_id: Id
    meter_serials: Annotated[list[Id], Field(min_length=1, max_length=BULK_METERS_MAX)]


class NewBulk(NamedHouses):
    """What is proposed."""

    reason: Annotated[
        str,
        Field(
            pattern=ONE_LINE,
            min_length=1,
            max_length=REASON_CHARS_MAX,
            description="Why; kept in the audit log and with each command.",
        ),
    ]


class LeftOutTold(Resource):
    """A meter that was named and would not be cut off."""

    meter_serial: str
    why: LeftOut


class BulkPreview(Resource):
    """What would happen."""

    feeder_id: str
    meter_serials: list[str] = Field(description="Who would be cut off.")
    left_out: list[LeftOutTold]
    per_hour: int = Field(description="How many are cut off in an hour in this way, at most.")

    @classmethod
    def of(cls, feeder_id: str, found: Preview, per_hour: int) -> "BulkPreview":
        """Return a preview as it is told."""
        return cls(
            feeder_id=feeder_id,
            meter_serials=[each.meter.meter_serial for each in found.chosen],
            left_out=[LeftOutTold(meter_serial=serial, why=why) for serial, why in found.left_out],
            per_hour=bulk_room(per_hour, 0),
        )


@router.post(
    "/bulk-disconnections/preview",
    response_model=BulkPreview,
    responses={200: {"headers": ETAG_HEADER}, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.ENGINEER)
async def preview_bulk(request: Request, asked: Annotated[NamedHouses, Body()]) -> Response:
    """Look who of these would be cut off, and who not and why. Nothing is done."""
    found = await _preview(request, asked)
    per_hour = site_of(request).disconnects_per_hour_max
    return answer(request, BulkPreview.of(asked.feeder_id, found, per_hour))


async def _preview(request: Request, asked: NamedHouses) -> Preview:
    await require_feeder(request, asked.feeder_id)
    site = site_of(request)
    facts = await feeder_facts(site.store, asked.feeder_id, site.clock)
    return preview(asked.meter_serials, facts, site.clock.now())


@router.post(
    "/bulk-disconnections",
    status_code=HTTPStatus.CREATED,
    response_model=BulkInFull,
    responses={
        200: {
            "model": BulkInFull,
            "headers": ETAG_HEADER,
            "description": "It was proposed before under this key: this is that one.",
        },
        201: {"headers": ETAG_HEADER},
        **may_refuse(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    },
)
@declares(Role.ENGINEER)
async def propose_bulk(
    request: Request, asked: Annotated[NewBulk, Body()], key: IdempotencyKey
) -> Response:
    """Propose to cut houses off; those that may not be are left out. A second person has to approve it."""
    require_step_up(request)
    found = await _preview(request, asked)
    require_can_command(request)
    site, principal = site_of(request), principal_of(request)
    try:
        bulk, meters, entry = proposed(
            found.houses,
            bulk_id=new_id("bulk"),
            feeder_id=asked.feeder_id,
            reason=asked.reason,
            who=principal.name,
            first_person=principal.person,
            now=site.clock.now(),
            idempotency_key=owned_key(principal, key),
        )
    except BulkRefused as refused:
        if refused.code == "reason":
            raise invalid([{"in": "body: reason", "detail": str(refused)}]) from None
        raise Problem(HTTPStatus.CONFLICT, refused.code, str(refused)) from None
    kept = await site.store.add_bulk(bulk, meters, entry)
    is_new = kept.id == bulk.id
    if not is_new and (kept.feeder_id, kept.reason) != (bulk.feeder_id, bulk.reason):
        raise key_reused()
    return answer(
        request,
        await _in_full(request, kept),
        status=HTTPStatus.CREATED if is_new else HTTPStatus.OK,
        location=f"{request.url.path}/{kept.id}",
    )


@router.get(
    "/bulk-disconnections",
    response_model=Page[BulkDisconnection],
    responses={200: {"headers": NEXT_LINK}, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.VIEWER)
async def list_bulk(
    request: Request,
    feeder_id: FeederFilter = None,
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
) -> Response:
    """List the last hundred bulk disconnections, newest first; each one's houses are told one by one only."""
    feeders = await feeders_of(request, feeder_id)
    after = key_of("bulk-disconnections", cursor, (int, str))
    rows = await site_of(request).store.bulks(feeders)
    keyed: list[tuple[Key, Bulk]] = [((-to_ms(row.requested_at), row.id), row) for row in rows]
    page, last = in_memory(keyed, after, limit)
    items = [BulkDisconnection.of(row) for row in page]
    return page_answer(request, "bulk-disconnections", items, last)


@router.get(
    "/bulk-disconnections/{bulkId}",
    response_model=BulkInFull,
    responses={200: {"headers": ETAG_HEADER}, **NOT_MODIFIED, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.VIEWER)
async def show_bulk(request: Request, bulk_id: BulkId, _: IfNoneMatch = None) -> Response:
    """Show a bulk disconnection, each house with its command and where that stands."""
    return answer(request, await _in_full(request, await _found(request, bulk_id)))


_CHANGES = may_refuse(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED)


@router.post(
    "/bulk-disconnections/{bulkId}/approve",
    response_model=BulkInFull,
    responses={200: {"headers": ETAG_HEADER}, **_CHANGES},
)
@declares(Role.OPERATOR, step_up=True)
async def approve_bulk(request: Request, bulk_id: BulkId, if_match: IfMatch = None) -> Response:
    """Let it run, as a second person who has just given their password; no token is a person."""
    site, principal = site_of(request), principal_of(request)
    bulk = await _found(request, bulk_id)
    assert principal.means is not Means.TOKEN, "no token can step up"
    check_unchanged(if_match, await _in_full(request, bulk))
    now = site.clock.now()
    try:
        await site.store.change_bulk(
            bulk_id, lambda found: approved(found, who=principal.name, now=now), now
        )
    except BulkRefused as refused:
        raise Problem(HTTPStatus.CONFLICT, refused.code, str(refused)) from None
    return answer(request, await _in_full(request, await _found(request, bulk_id)))


@router.post(
    "/bulk-disconnections/{bulkId}/withdraw",
    response_model=BulkInFull,
    responses={200: {"headers": ETAG_HEADER}, **_CHANGES},
)
@declares(Role.OPERATOR)
async def withdraw_bulk(request: Request, bulk_id: BulkId, if_match: IfMatch = None) -> Response:
    """Stop it: who was not asked for yet stays connected, and what was not sent yet is called back."""
    bulk, site = await _found(request, bulk_id), site_of(request)
    check_unchanged(if_match, await _in_full(request, bulk))
    try:
        await stop(site.store, bulk_id, who=principal_of(request).name, clock=site.clock)
    except BulkRefused as refused:
        raise Problem(HTTPStatus.CONFLICT, refused.code, str(refused)) from None
    return answer(request, await _in_full(request, await _found(request, bulk_id)))


async def _found(request: Request, bulk_id: str) -> Bulk:
    found = await site_of(request).store.bulk(bulk_id)
    if found is None or not principal_of(request).sees(found.feeder_id):
        raise Problem.not_found(f"there is no bulk disconnection {bulk_id}")
    return found


async def _in_full(request: Request, bulk: Bulk) -> BulkInFull:
    meters = await site_of(request).store.bulk_meters(bulk.id)
    return BulkInFull(
        **_members(bulk), houses=[HouseTold.of(meter, command) for meter, command in meters]
    )
