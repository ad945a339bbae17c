"""The audit log: read backwards, filtered, its chain verified, and exported to be verified elsewhere."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from openami.headend.accounts import Role
from openami.headend.audit import Break, Link, first_break, print_link
from openami.headend.store.commands import AUDIT_PAGE_MAX, HeadEndStore
from openami.headend.web.admission import declares, principal_of
from openami.headend.web.console.rendering import page
from openami.headend.web.problems import Problem
from openami.headend.web.site import site_of

# What a page lists, and how many entries one answer looks through for them: five pages of the store.
LISTED_MAX: Final = 100
LOOKED_THROUGH_MAX: Final = 5 * AUDIT_PAGE_MAX
# A hundred thousand entries are some seconds of hashing, and the years of a village; beyond it the exported file is
# verified by `openami audit verify`, where nobody waits for a page.
VERIFIED_MAX: Final = 100_000

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Found:
    """Entries that were asked for, the last first, and from where to look on."""

    links: Sequence[Link]
    looked_to: int | None
    """The number of the oldest entry looked at; None where the log has begun."""


@router.get("/audit")
@declares(Role.OPERATOR)
async def audit(
    request: Request,
    who: str = "",
    what: str = "",
    command: str = "",
    session: str = "",
    before: str = "",
) -> Response:
    """Show the log, the last entry first."""
    _for_all_feeders(request)
    store = site_of(request).store
    number, end_hash = await store.audit_end()
    begin = (
        int(before) if before.isascii() and before.isdigit() and len(before) < 19 else number + 1
    )
    if command or session:
        links = await store.audit_links(command_id=command or None, session_id=session or None)
        found = Found([each for each in reversed(links) if _is_wanted(each, who, what)], None)
    else:
        found = await _looked_back(store, min(begin, number + 1), who, what)
    filters = {"who": who, "what": what, "command": command, "session": session}
    return page(
        request,
        "audit_list.html",
        links=found.links,
        filters=filters,
        number=number,
        end_hash=end_hash,
        next_page=None
        if found.looked_to is None
        else "/audit?" + urlencode({**filters, "before": found.looked_to}),
        verdict=None,
    )


async def _looked_back(store: HeadEndStore, before: int, who: str, what: str) -> Found:
    """Look through the log backwards for what is wanted, a bounded way."""
    wanted: list[Link] = []
    oldest = before
    while oldest > 1 and before - oldest < LOOKED_THROUGH_MAX:
        first = max(1, oldest - AUDIT_PAGE_MAX)
        some = await store.audit_links(after=first - 1, at_most=oldest - first)
        for each in reversed(some):
            if _is_wanted(each, who, what):
                wanted.append(each)
                if len(wanted) == LISTED_MAX:
                    return Found(wanted, each.number if each.number > 1 else None)
        oldest = first
    return Found(wanted, oldest if oldest > 1 else None)


def _is_wanted(link: Link, who: str, what: str) -> bool:
    entry = link.entry
    told = f"{entry.what} {entry.why} {entry.result}".casefold()
    return who.casefold() in entry.who.casefold() and what.casefold() in told


@router.get("/audit/verify")
@declares(Role.OPERATOR)
async def verify(request: Request) -> Response:
    """Verify the chain from its first entry to its end."""
    _for_all_feeders(request)
    store = site_of(request).store
    number, end_hash = await store.audit_end()
    return page(
        request,
        "audit_verified.html",
        number=number,
        end_hash=end_hash,
        verdict=await _verdict(store, number, end_hash),
        too_long=number > VERIFIED_MAX,
        verified_max=VERIFIED_MAX,
    )


async def _verdict(store: HeadEndStore, number: int, end_hash: str) -> Break | None:
    """Return the first place where the chain does not hold; None for a sound one, or one too long for a page."""
    if number > VERIFIED_MAX:
        return None
    links = [each async for each in _all_links(store, number)]
    found = first_break(links)
    if found is None and len(links) != number:
        return Break(len(links) + 1, f"the log ends here, and {number} entries were written")
    if found is None and links and links[-1].hash != end_hash:
        return Break(number, "its last entry is not the one that was written last")
    return found


@router.get("/audit/export.jsonl")
@declares(Role.ENGINEER)
async def export(request: Request) -> Response:
    """Return the whole log as `openami audit verify` reads it, one entry a line."""
    _for_all_feeders(request)
    store = site_of(request).store
    number, _ = await store.audit_end()

    async def lines() -> AsyncIterator[str]:
        async for each in _all_links(store, number):
            yield print_link(each) + "\n"

    return StreamingResponse(
        lines(),
        media_type="application/jsonl",
        headers={"Content-Disposition": 'attachment; filename="openami-audit.jsonl"'},
    )


async def _all_links(store: HeadEndStore, number: int) -> AsyncIterator[Link]:
    """Yield the log up to a number, a page in memory at a time."""
    after = 0
    while after < number:
        some = await store.audit_links(after=after, at_most=min(AUDIT_PAGE_MAX, number - after))
        if not some:
            return
        for each in some:
            yield each
        after = some[-1].number


def _for_all_feeders(request: Request) -> None:
    """An entry names no feeder, so the log is for those who may see all of them."""
    if principal_of(request).feeders is not None:
        raise Problem.scope_too_narrow("the audit log")
