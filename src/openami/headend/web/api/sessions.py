"""``/sessions``: SIP sessions with gateways, which commands are signed in. Nobody's sign-in is one."""

from datetime import datetime, timedelta
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Body, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.accounts import Role
from openami.headend.audit import Entry
from openami.headend.new_ids import new_id
from openami.headend.sessions import SESSION_DAYS, LedgerSession, SessionChange, close_requested
from openami.headend.store.pages import Wanted
from openami.headend.web.admission import declares, principal_of
from openami.headend.web.api.edge import ApiRoute, may_refuse
from openami.headend.web.api.etags import ETAG_HEADER, NOT_MODIFIED, answer, check_unchanged
from openami.headend.web.api.forms import (
    AS_WHOLE,
    LIMIT_DEFAULT,
    Asked,
    Cursor,
    FeederFilter,
    GatewayFilter,
    Id,
    IfMatch,
    IfNoneMatch,
    Limit,
    Moment,
    Reason,
    Resource,
    SessionId,
)
from openami.headend.web.api.paging import NEXT_LINK, Page, first_of, key_of, page_answer
from openami.headend.web.api.scope import feeders_of, require_can_command, require_gateway
from openami.headend.web.problems import Problem
from openami.headend.web.site import site_of
from openami.sip.keyring import ANY
from openami.sip.session import SESSION_LIFE
from openami.sip.session_document import SESSION_LIFE_MAX

router = APIRouter(route_class=ApiRoute, tags=["sessions"])

# A session's scope is signed, and a gateway has that many meters at most.
METERS_MAX: Final = 256
CLOSED_BY_REQUEST: Final = "CLOSED"


class SessionWord(StrEnum):
    """Where a session stands; `rejected`, `expired` and `revoked` are its ends."""

    OFFERED = "offered"
    ACTIVE = "active"
    REJECTED = "rejected"
    EXPIRED = "expired"
    REVOKED = "revoked"


class Session(Resource):
    """A session as the head-end's ledger has it."""

    id: str
    feeder_id: str
    gateway_id: str
    meters: list[str] = Field(description="Whom it is for; `*` is every meter of the gateway.")
    state: SessionWord
    code: str | None = Field(description="Why it was rejected or closed.")
    valid_from: Moment | None = Field(description="Null until it is offered.")
    valid_to: Moment
    offers: int = Field(description="How often it was offered to its gateway.")
    offered_at: Moment | None
    nonce_at: Moment | None = Field(description="When its gateway last gave a fresh nonce.")
    close_asked: bool = Field(description="Whether somebody asked to close it.")
    renewed_by: str | None = Field(description="The session that was offered in its place.")
    requested_by: str
    reason: str
    requested_at: Moment
    ended_at: Moment | None

    @classmethod
    def of(cls, session: LedgerSession) -> "Session":
        """Return a session as it is told."""
        return cls(
            id=session.id,
            feeder_id=session.feeder_id,
            gateway_id=session.gateway_id,
            meters=list(session.meters),
            state=SessionWord(session.state.name.lower()),
            code=session.code,
            valid_from=session.valid_from,
            valid_to=session.valid_to,
            offers=session.offers,
            offered_at=session.offered_at,
            nonce_at=session.nonce_at,
            close_asked=session.close_reason is not None,
            renewed_by=session.renewed_by,
            requested_by=session.requested_by,
            reason=session.reason,
            requested_at=session.requested_at,
            ended_at=session.ended_at,
        )


class NewSession(Asked):
    """A session to be offered to a gateway."""

    feeder_id: Id
    gateway_id: Id
    meters: list[Id] = Field(
        default_factory=list,
        max_length=METERS_MAX,
        description="Only these meters; every one of the gateway without it.",
    )
    days: Annotated[int, Field(ge=1, le=SESSION_LIFE_MAX.days), AS_WHOLE] = Field(
        default=SESSION_DAYS,
        description="How long it holds, in days.",
    )
    reason: Reason = ""


SessionStateFilter = Annotated[
    SessionWord | None, Query(alias="state", description="In this state only.")
]
OpenOnly = Annotated[bool, Query(alias="open", description="Only those that have not ended.")]


@router.get(
    "/sessions",
    response_model=Page[Session],
    responses={200: {"headers": NEXT_LINK}, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.VIEWER)
async def list_sessions(
    request: Request,
    feeder_id: FeederFilter = None,
    gateway_id: GatewayFilter = None,
    state: SessionStateFilter = None,
    only_open: OpenOnly = False,
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
) -> Response:
    """List sessions, newest first."""
    wanted = Wanted(
        feeders=await feeders_of(request, feeder_id),
        gateway_id=gateway_id,
        state=None if state is None else state.name,
        only_open=only_open,
    )
    after = key_of("sessions", cursor, (int, str))
    rows = await site_of(request).store.sessions_page(wanted, after=after, at_most=limit + 1)
    page, last = first_of(rows, limit)
    return page_answer(request, "sessions", [Session.of(row) for row in page], last)


@router.post(
    "/sessions",
    status_code=HTTPStatus.CREATED,
    response_model=Session,
    responses={
        201: {"headers": ETAG_HEADER},
        **may_refuse(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    },
)
@declares(Role.OPERATOR)
async def open_session(request: Request, asked: Annotated[NewSession, Body()]) -> Response:
    """Ask for a session; the head-end offers it to the gateway, whose answer is seen in `state`."""
    await require_gateway(request, asked.feeder_id, asked.gateway_id)
    require_can_command(request)
    site, by = site_of(request), principal_of(request).name
    now = site.clock.now()
    new = LedgerSession(
        id=new_id("sip"),
        feeder_id=asked.feeder_id,
        gateway_id=asked.gateway_id,
        meters=tuple(dict.fromkeys(asked.meters)) or (ANY,),
        requested_by=by,
        reason=asked.reason,
        requested_at=now,
        valid_to=now + timedelta(days=asked.days),
        due_at=now,
    )
    entry = Entry(who=by, what="session requested", why=asked.reason, session_id=new.id)
    await site.store.add_session(new, entry, now)
    location = f"{request.url.path}/{new.id}"
    return answer(request, Session.of(new), status=HTTPStatus.CREATED, location=location)


@router.get(
    "/sessions/{sessionId}",
    response_model=Session,
    responses={200: {"headers": ETAG_HEADER}, **NOT_MODIFIED, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.VIEWER)
async def show_session(request: Request, session_id: SessionId, _: IfNoneMatch = None) -> Response:
    """Show one session."""
    return answer(request, Session.of(await _found(request, session_id)))


@router.post(
    "/sessions/{sessionId}/close",
    response_model=Session,
    responses={
        200: {"headers": ETAG_HEADER},
        **may_refuse(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED),
    },
)
@declares(Role.OPERATOR)
async def close_session(
    request: Request, session_id: SessionId, if_match: IfMatch = None
) -> Response:
    """Ask to close a session; commands in it are not taken any more. Asking again changes nothing."""
    await _found(request, session_id)
    site, by = site_of(request), principal_of(request).name
    now = site.clock.now()

    def decide(found: LedgerSession, _: frozenset[str]) -> SessionChange | None:
        check_unchanged(if_match, Session.of(found))
        return _close(found, by, now)

    after = await site.store.change_session(session_id, decide, now)
    assert after is not None, "a session is never deleted"
    return answer(request, Session.of(after))


def _close(found: LedgerSession, by: str, now: datetime) -> SessionChange | None:
    if SESSION_LIFE.is_terminal(found.state):
        raise Problem(
            HTTPStatus.CONFLICT,
            "ended-already",
            f"{found.id} has ended already: {found.state.name.lower()}",
        )
    return close_requested(found, now, by=by, code=CLOSED_BY_REQUEST)


async def _found(request: Request, session_id: str) -> LedgerSession:
    found = await site_of(request).store.session(session_id)
    if found is None or not principal_of(request).sees(found.feeder_id):
        raise Problem.not_found(f"there is no session {session_id}")
    return found
