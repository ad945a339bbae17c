"""``/audit``: who did what, why, and with what result; each entry chained to the one before it."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.accounts import Role
from openami.headend.audit import Link
from openami.headend.store.commands import AUDIT_PAGE_MAX
from openami.headend.web.admission import declares, principal_of
from openami.headend.web.api.edge import ApiRoute, may_refuse
from openami.headend.web.api.etags import ETAG_HEADER, NOT_MODIFIED, answer
from openami.headend.web.api.forms import (
    LIMIT_DEFAULT,
    Cursor,
    IfNoneMatch,
    Limit,
    Moment,
    Resource,
)
from openami.headend.web.api.paging import NEXT_LINK, Page, key_of, page_answer
from openami.headend.web.api.scope import require_whole_site
from openami.headend.web.problems import Problem
from openami.headend.web.site import site_of
from openami.profile import ID_PATTERN

router = APIRouter(route_class=ApiRoute, tags=["audit"])


class AuditEntry(Resource):
    """One thing done. `hash` is SHA-256 over the entry and `previous`, as `openami audit verify` computes it."""

    number: int = Field(description="Its place in the log; the first is 1, and none is left out.")
    at: Moment
    who: str
    what: str
    why: str
    result: str
    session_id: str = Field(description="The session it is about; empty for none.")
    command_id: str = Field(description="The command it is about; empty for none.")
    digest: str = Field(description="The signed document it is about; empty for none.")
    previous: str = Field(description="The hash of the entry before it.")
    hash: str

    @classmethod
    def of(cls, link: Link) -> "AuditEntry":
        """Return an entry in its place."""
        entry = link.entry
        return cls.model_validate(
            {
                "number": link.number,
                "at": link.at,
                "who": entry.who,
                "what": entry.what,
                "why": entry.why,
                "result": entry.result,
                "session_id": entry.session_id,
                "command_id": entry.command_id,
                "digest": entry.digest,
                "previous": link.previous,
                "hash": link.hash,
            }
        )


class AuditEnd(Resource):
    """Where the log ends. Note it elsewhere: with it, a log that was cut off or written anew is found out."""

    number: int = Field(description="How many entries have been written.")
    hash: str = Field(description="The last one's hash.")


_ABOUT = f"^{ID_PATTERN}$"
CommandFilter = Annotated[
    str | None, Query(alias="command", pattern=_ABOUT, description="What is about this command.")
]
SessionFilter = Annotated[
    str | None, Query(alias="session", pattern=_ABOUT, description="What is about this session.")
]


@router.get(
    "/audit",
    response_model=Page[AuditEntry],
    responses={200: {"headers": NEXT_LINK}, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.VIEWER)
async def list_audit(
    request: Request,
    command_id: CommandFilter = None,
    session_id: SessionFilter = None,
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
) -> Response:
    """List the audit log from its beginning; all of it only if you see every feeder."""
    await _require_in_scope(request, command_id, session_id)
    key = key_of("audit", cursor, (int,))
    after = 0 if key is None else int(key[0])
    links = await site_of(request).store.audit_links(
        after=after,
        command_id=command_id,
        session_id=session_id,
        at_most=min(limit + 1, AUDIT_PAGE_MAX),
    )
    page = links[:limit]
    last = (page[-1].number,) if len(links) > limit or len(page) == AUDIT_PAGE_MAX else None
    return page_answer(request, "audit", [AuditEntry.of(link) for link in page], last)


@router.get(
    "/audit/end",
    response_model=AuditEnd,
    responses={200: {"headers": ETAG_HEADER}, **NOT_MODIFIED},
)
@declares(Role.VIEWER)
async def show_audit_end(request: Request, _: IfNoneMatch = None) -> Response:
    """Show how many entries there are, and the last one's hash."""
    number, last = await site_of(request).store.audit_end()
    return answer(request, AuditEnd(number=number, hash=last))


async def _require_in_scope(
    request: Request, command_id: str | None, session_id: str | None
) -> None:
    """Raise Problem unless what is asked for is of a feeder in scope, or everything may be seen."""
    store, principal = site_of(request).store, principal_of(request)
    if command_id is None and session_id is None:
        require_whole_site(request, "the audit log")
    if command_id is not None:
        command = await store.command(command_id)
        if command is None or not principal.sees(command.feeder_id):
            raise Problem.not_found(f"there is no command {command_id}")
    if session_id is not None:
        session = await store.session(session_id)
        if session is None or not principal.sees(session.feeder_id):
            raise Problem.not_found(f"there is no session {session_id}")
