"""``/rejected``: messages, or single registers of them, that were refused; kept, and judged again on request."""

import base64
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.accounts import Role
from openami.headend.replay import drop, faults_of, replay
from openami.headend.store import Reject, RejectStatus
from openami.headend.store.pages import KeptMessage, Wanted, topics_begin
from openami.headend.web.admission import declares, principal_of
from openami.headend.web.api.edge import ApiRoute, may_refuse
from openami.headend.web.api.etags import ETAG_HEADER, NOT_MODIFIED, answer, check_unchanged
from openami.headend.web.api.forms import (
    LIMIT_DEFAULT,
    CodeFilter,
    Cursor,
    FeederFilter,
    IfMatch,
    IfNoneMatch,
    Limit,
    Moment,
    RejectId,
    Resource,
    Since,
    Until,
)
from openami.headend.web.api.paging import NEXT_LINK, Page, first_of, key_of, page_answer
from openami.headend.web.api.scope import feeders_of
from openami.headend.web.problems import Problem
from openami.headend.web.site import site_of

router = APIRouter(route_class=ApiRoute, tags=["rejected"])


class Rejected(Resource):
    """A kept message without its bytes."""

    id: int
    received_at: Moment = Field(description="When it first came.")
    topic: str
    code: str = Field(description="Its first fault.")
    requirement: str = Field(description="Which rule of the profile that is.")
    path: str = Field(description="Where in the message, as a JSON Pointer.")
    detail: str
    partial: bool = Field(description="Whether its good registers were stored.")
    status: RejectStatus
    count: int = Field(description="How often the same bytes came on the same topic.")

    @classmethod
    def of(cls, row: KeptMessage) -> "Rejected":
        """Return a kept message as a list tells it."""
        return cls(
            id=row.id,
            received_at=row.received_at,
            topic=_sound(row.topic),
            code=row.code,
            requirement=row.requirement,
            path=_sound(row.path),
            detail=_sound(row.detail),
            partial=row.partial,
            status=row.status,
            count=row.count,
        )


class RejectedInFull(Rejected):
    """A kept message with what it said."""

    payload: str | None = Field(description="The message; null where it is no UTF-8 text.")
    payload_base64: str | None = Field(description="Its bytes, where it is no UTF-8 text.")


class Fault(Resource):
    """Why a message, or a register of it, is still rejected."""

    code: str
    path: str
    detail: str


class Replayed(Resource):
    """What became of a message that was judged again."""

    id: int
    stored: int = Field(description="Readings that are new.")
    duplicates: int = Field(description="Readings that were there already.")
    conflicts: int = Field(description="Readings that were there with another value.")
    still_rejected: list[Fault] = Field(description="Empty when all of it was accepted.")


StatusFilter = Annotated[
    RejectStatus | None,
    Query(alias="status", description="Of this status only: open, replayed, dropped."),
]


@router.get(
    "/rejected",
    response_model=Page[Rejected],
    responses={200: {"headers": NEXT_LINK}, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.VIEWER)
async def list_rejected(
    request: Request,
    feeder_id: FeederFilter = None,
    status: StatusFilter = None,
    code: CodeFilter = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
) -> Response:
    """List kept messages, newest first. One whose topic names no feeder is seen by who sees every feeder."""
    wanted = Wanted(
        feeders=await feeders_of(request, feeder_id),
        status=status and str(status),
        code=code,
        since=since,
        until=until,
    )
    after = key_of("rejected", cursor, (int,))
    rows = await site_of(request).store.rejects_page(wanted, after=after, at_most=limit + 1)
    page, last = first_of(rows, limit)
    return page_answer(request, "rejected", [Rejected.of(row) for row in page], last)


@router.get(
    "/rejected/{rejectId}",
    response_model=RejectedInFull,
    responses={200: {"headers": ETAG_HEADER}, **NOT_MODIFIED, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.VIEWER)
async def show_rejected(request: Request, reject_id: RejectId, _: IfNoneMatch = None) -> Response:
    """Show a kept message: what is wrong with it, and the message itself."""
    return answer(request, in_full(await _found(request, reject_id)))


@router.post(
    "/rejected/{rejectId}/replay",
    response_model=Replayed,
    responses={
        200: {"headers": ETAG_HEADER},
        **may_refuse(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED),
    },
)
@declares(Role.OPERATOR)
async def replay_rejected(
    request: Request, reject_id: RejectId, if_match: IfMatch = None
) -> Response:
    """Judge a kept message again by today's rules and clock, and store what is accepted; nothing twice."""
    kept = await _found(request, reject_id)
    check_unchanged(if_match, in_full(kept))
    if kept.status is RejectStatus.DROPPED:
        raise Problem(HTTPStatus.CONFLICT, "dropped", f"message {reject_id} was given up")
    site = site_of(request)
    by = principal_of(request).name
    decision, tally = await replay(
        site.store, kept, catalogue=site.catalogue, now=site.clock.now(), who=by
    )
    replayed = Replayed(
        id=reject_id,
        stored=tally.stored,
        duplicates=tally.duplicates,
        conflicts=tally.conflicts,
        still_rejected=[
            Fault(code=str(each.code), path=_sound(each.path), detail=_sound(each.detail))
            for each in faults_of(decision)
        ],
    )
    return answer(request, replayed)


@router.post(
    "/rejected/{rejectId}/drop",
    response_model=RejectedInFull,
    responses={
        200: {"headers": ETAG_HEADER},
        **may_refuse(HTTPStatus.NOT_FOUND, HTTPStatus.PRECONDITION_FAILED),
    },
)
@declares(Role.OPERATOR)
async def drop_rejected(
    request: Request, reject_id: RejectId, if_match: IfMatch = None
) -> Response:
    """Give a kept message up: its bytes are deleted with the next prune."""
    kept = await _found(request, reject_id)
    check_unchanged(if_match, in_full(kept))
    if kept.status is not RejectStatus.DROPPED:
        site, by = site_of(request), principal_of(request).name
        await drop(site.store, kept, now=site.clock.now(), who=by)
    return answer(request, in_full(await _found(request, reject_id)))


def in_full(kept: Reject) -> RejectedInFull:
    """Return a kept message with what it said."""
    try:
        text, encoded = kept.payload.decode(), None
    except UnicodeDecodeError:
        text, encoded = None, base64.b64encode(kept.payload).decode()
    return RejectedInFull(
        id=kept.id,
        received_at=kept.received_at,
        topic=_sound(kept.topic),
        code=kept.code,
        requirement=kept.requirement,
        path=_sound(kept.path),
        detail=_sound(kept.detail),
        partial=kept.partial,
        status=kept.status,
        count=kept.count,
        payload=text,
        payload_base64=encoded,
    )


async def _found(request: Request, reject_id: int) -> Reject:
    found = await site_of(request).store.reject(reject_id)
    scope = principal_of(request).feeders
    hidden = found is not None and scope is not None and not _is_of(found.topic, scope)
    if found is None or hidden:
        raise Problem.not_found(f"there is no kept message {reject_id}")
    return found


def _is_of(topic: str, feeders: frozenset[str]) -> bool:
    return any(topic.startswith(topics_begin(feeder_id)) for feeder_id in feeders)


def _sound(text: str) -> str:
    """Return a text that came from outside so that every reader of JSON takes it: no half characters."""
    return text.encode("utf-8", "backslashreplace").decode()
