"""Sessions with gateways: who may command which gateway, from when to when. Not to be taken for a sign-in."""

import json
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from openami.headend.accounts import Role
from openami.headend.sessions import LedgerSession, SessionChange, close_requested
from openami.headend.store.pages import Wanted
from openami.headend.web.admission import declares, in_scope, principal_of
from openami.headend.web.console.paging import next_page, read_key
from openami.headend.web.console.rendering import page
from openami.headend.web.problems import Problem
from openami.headend.web.site import site_of

# A gateway has a new one a week: two years of one gateway, a few weeks of a large village.
LISTED_MAX: Final = 100
# Why, in the gateway's log and ours: the code of a session's end, as the profile writes codes.
CLOSED: Final = "CLOSED"

router = APIRouter(include_in_schema=False)


@router.get("/sessions")
@declares(Role.VIEWER)
async def sessions(
    request: Request, feeder: str = "", gateway: str = "", show: str = "open", before: str = ""
) -> Response:
    """List sessions, newest first."""
    principal = principal_of(request)
    if feeder:
        in_scope(request, feeder)
    found = await site_of(request).store.sessions_page(
        Wanted(
            feeders=frozenset({feeder}) if feeder else principal.feeders,
            gateway_id=gateway or None,
            only_open=show != "all",
        ),
        after=read_key(before, int, str),
        at_most=LISTED_MAX,
    )
    filters = {"feeder": feeder, "gateway": gateway, "show": show}
    return page(
        request,
        "sessions_list.html",
        rows=[each.row for each in found],
        filters=filters,
        next_page=next_page("/sessions", filters, found, LISTED_MAX),
    )


@router.get("/sessions/{session_id}")
@declares(Role.VIEWER)
async def session(request: Request, session_id: str) -> Response:
    """Show a session, who takes part, and what the audit log says of it."""
    found = await _found(request, session_id)
    return page(
        request,
        "sessions_one.html",
        session=found,
        participants=participants_of(found.document),
        links=await site_of(request).store.audit_links(session_id=session_id),
        may_close=found.ended_at is None
        and found.close_reason is None
        and principal_of(request).may(Role.OPERATOR),
    )


def participants_of(document: bytes | None) -> list[tuple[str, str, list[str]]]:
    """Return who takes part in a session that was offered: name, role, and what they may ask."""
    if document is None:
        return []
    members: Any = json.loads(document)
    return [
        (str(each.get("id")), str(each.get("role")), [str(right) for right in each.get("can", ())])
        for each in members.get("participants", ())
    ]


@router.post("/sessions/{session_id}/close")
@declares(Role.OPERATOR)
async def close(
    request: Request, session_id: str, note: Annotated[str, Form(max_length=300)] = ""
) -> Response:
    """Ask for a session's end; the head-end tells the gateway. What is open in it is not taken any more."""
    site, by = site_of(request), principal_of(request).name
    await _found(request, session_id)
    now = site.clock.now()

    def decide(found: LedgerSession, _: frozenset[str]) -> SessionChange | None:
        return close_requested(found, now, by=by, code=CLOSED, why=note.strip())

    await site.store.change_session(session_id, decide, now)
    return RedirectResponse(f"/sessions/{session_id}", status_code=303)


async def _found(request: Request, session_id: str) -> LedgerSession:
    found = await site_of(request).store.session(session_id)
    if found is None or not principal_of(request).sees(found.feeder_id):
        raise Problem.not_found(f"there is no session {session_id}")
    return found
