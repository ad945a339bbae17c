"""Many houses cut off at once: chosen, looked at, proposed by one person, approved by another, and followed."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from openami.headend.accounts import Means, Principal, Role
from openami.headend.bulk import (
    PROPOSAL_HOURS,
    REASON_CHARS_MAX,
    Bulk,
    BulkMeter,
    BulkRefused,
    BulkState,
    approved,
    bulk_room,
    proposed,
)
from openami.headend.bulk_preview import Preview, preview
from openami.headend.bulk_work import feeder_facts, stop
from openami.headend.commands import LedgerCommand
from openami.headend.new_ids import new_id
from openami.headend.web.admission import declares, in_scope, principal_of
from openami.headend.web.console.command_flow import Standing, standing
from openami.headend.web.console.houses import Show
from openami.headend.web.console.live import hub_of
from openami.headend.web.console.rendering import page
from openami.headend.web.problems import Problem
from openami.headend.web.site import site_of

# While it runs, a page looks again: its commands end within seconds, and the next come as the hour allows.
LOOK_AGAIN_S: Final = 5
# What a person pastes: five hundred serials of 64 letters, and their separators.
PASTED_CHARS_MAX: Final = 40_000

router = APIRouter(include_in_schema=False)
Field = Annotated[str, Form()]
Fields = Annotated[list[str] | None, Form()]


@router.get("/bulk")
@declares(Role.VIEWER)
async def bulks(request: Request) -> Response:
    """List bulk disconnections, the newest first."""
    store, principal = site_of(request).store, principal_of(request)
    rows = []
    for bulk in await store.bulks(principal.feeders):
        meters = await store.bulk_meters(bulk.id)
        rows.append((bulk, len(meters), _ends(meters)))
    return page(
        request,
        "bulk_list.html",
        rows=rows,
        feeders=[each for each in await store.feeder_list() if principal.sees(each.id)],
        may=principal.may(Role.ENGINEER),
    )


# --- choose, look, propose -----------------------------------------------------------------------


@router.get("/bulk/new")
@declares(Role.ENGINEER, step_up=True)
async def choose(request: Request, feeder: str, show: Show = Show.LOW_CREDIT) -> Response:
    """Show the houses of a feeder to choose from; the password is asked for before anything is chosen."""
    in_scope(request, feeder)
    view, _ = await hub_of(request).looked(feeder)
    houses = [
        each
        for each in view.houses
        if each.role == "customer" and not each.protected and not each.off
    ]
    wanted = {
        Show.LOW_CREDIT: [each for each in houses if each.low_credit],
        Show.ALL: houses,
    }
    return page(
        request,
        "bulk_new.html",
        feeder_id=feeder,
        houses=wanted.get(show, houses),
        show=show,
        pasted_max=PASTED_CHARS_MAX,
    )


@router.post("/bulk/preview")
@declares(Role.ENGINEER, step_up=True)
async def look(
    request: Request, feeder: Field, serials: Fields = None, pasted: Field = ""
) -> Response:
    """Show who would be cut off, who not and why, and how long it takes; nothing is done."""
    in_scope(request, feeder)
    named = [*(serials or ()), *pasted[:PASTED_CHARS_MAX].replace(",", " ").split()]
    return await _previewed(request, feeder, named)


async def _previewed(
    request: Request,
    feeder_id: str,
    serials: Sequence[str],
    *,
    refused: BulkRefused | None = None,
    reason: str = "",
    key: str = "",
) -> Response:
    site = site_of(request)
    found = await _preview(request, feeder_id, serials)
    per_hour = site.disconnects_per_hour_max
    return page(
        request,
        "bulk_preview.html",
        status=200 if refused is None else 422,
        feeder_id=feeder_id,
        found=found,
        per_hour=bulk_room(per_hour, 0),
        hours=found.hours(per_hour),
        can_command=site.can_command,
        refused=refused,
        reason=reason,
        reason_max=REASON_CHARS_MAX,
        proposal_hours=PROPOSAL_HOURS,
        key=key or new_id("form"),
    )


async def _preview(request: Request, feeder_id: str, serials: Sequence[str]) -> Preview:
    site = site_of(request)
    facts = await feeder_facts(site.store, feeder_id, site.clock)
    return preview(serials, facts, site.clock.now())


@router.post("/bulk")
@declares(Role.ENGINEER, step_up=True)
async def propose(
    request: Request,
    feeder: Field,
    serials: Fields = None,
    reason: Field = "",
    count: Field = "",
    key: Field = "",
) -> Response:
    """Propose what was looked at. The same form sent twice is one proposal."""
    in_scope(request, feeder)
    site, who = site_of(request), principal_of(request).name
    named = serials or []
    found = await _preview(request, feeder, named)
    try:
        if not site.can_command:
            raise BulkRefused("no-key", "this head-end has no key to command with")
        if count.strip() != str(len(found.chosen)):
            raise BulkRefused("count", f"type the number of houses: {len(found.chosen)}")
        bulk, meters, entry = proposed(
            found.houses,
            bulk_id=new_id("bulk"),
            feeder_id=feeder,
            reason=reason,
            who=who,
            first_person=principal_of(request).person,
            now=site.clock.now(),
            idempotency_key=f"console-{key}" if key else None,
        )
    except BulkRefused as refused:
        return await _previewed(request, feeder, named, refused=refused, reason=reason, key=key)
    kept = await site.store.add_bulk(bulk, meters, entry)
    return RedirectResponse(f"/bulk/{kept.id}", status_code=303)


# --- approve, follow, stop -----------------------------------------------------------------------


@router.get("/bulk/{bulk_id}")
@declares(Role.VIEWER)
async def follow(request: Request, bulk_id: str) -> Response:
    """Show what it is and how far it has come; the part that changes looks again by itself."""
    return await _follow(request, await _found(request, bulk_id))


@router.get("/bulk/{bulk_id}/progress")
@declares(Role.VIEWER)
async def progress(request: Request, bulk_id: str) -> Response:
    """Return the part that changes alone."""
    return await _follow(request, await _found(request, bulk_id), template="bulk_progress.html")


async def _follow(
    request: Request,
    bulk: Bulk,
    *,
    template: str = "bulk_one.html",
    refused: BulkRefused | None = None,
) -> Response:
    site, principal = site_of(request), principal_of(request)
    meters = await site.store.bulk_meters(bulk.id)
    return page(
        request,
        template,
        status=200 if refused is None else 409,
        bulk=bulk,
        rows=[(meter, command, command and standing(command)) for meter, command in meters],
        ends=_ends(meters),
        again_s=LOOK_AGAIN_S if bulk.state is BulkState.RUNNING else None,
        per_hour=bulk_room(site.disconnects_per_hour_max, 0),
        may=principal.may(Role.OPERATOR),
        may_approve=may_approve(principal, bulk),
        refused=refused,
    )


def may_approve(principal: Principal, bulk: Bulk) -> bool:
    """Return whether somebody is a second person: a program is none, and who proposed it is the first."""
    return (
        bulk.state is BulkState.PROPOSED
        and principal.may(Role.OPERATOR)
        and principal.means is not Means.TOKEN
        and principal.name not in (bulk.requested_by, bulk.first_person)
    )


def _ends(
    meters: Sequence[tuple[BulkMeter, LedgerCommand | None]],
) -> Sequence[tuple[str, int]]:
    """Count meters by where they stand, in the order of the states."""
    found: Counter[str] = Counter()
    for meter, command in meters:
        if command is not None:
            found[standing(command).value] += 1
        else:
            found["not_taken" if meter.refused_as else "not_asked"] += 1
    order = ("not_asked", *(each.value for each in Standing), "not_taken")
    return [(word, found[word]) for word in order if found[word]]


@router.get("/bulk/{bulk_id}/approve")
@declares(Role.OPERATOR, step_up=True)
async def look_before_approving(request: Request, bulk_id: str) -> Response:
    """Show once more who is to be cut off, to the second person who has just given their password."""
    bulk = await _found(request, bulk_id)
    site = site_of(request)
    meters = await site.store.bulk_meters(bulk.id)
    now = await _preview(request, bulk.feeder_id, [meter.meter_serial for meter, _ in meters])
    return page(
        request,
        "bulk_approve.html",
        bulk=bulk,
        found=now,
        may_approve=may_approve(principal_of(request), bulk),
        per_hour=bulk_room(site.disconnects_per_hour_max, 0),
        hours=now.hours(site.disconnects_per_hour_max),
    )


@router.post("/bulk/{bulk_id}/approve")
@declares(Role.OPERATOR, step_up=True)
async def approve(request: Request, bulk_id: str) -> Response:
    """Let it run, as the second person."""
    bulk, site, principal = await _found(request, bulk_id), site_of(request), principal_of(request)
    now = site.clock.now()
    try:
        await site.store.change_bulk(
            bulk_id, lambda found: approved(found, who=principal.name, now=now), now
        )
    except BulkRefused as refused:
        return await _follow(request, bulk, refused=refused)
    return RedirectResponse(f"/bulk/{bulk_id}", status_code=303)


@router.post("/bulk/{bulk_id}/withdraw")
@declares(Role.OPERATOR)
async def withdraw(request: Request, bulk_id: str) -> Response:
    """Stop it: nobody else is cut off. Needs no password."""
    bulk, site = await _found(request, bulk_id), site_of(request)
    try:
        await stop(site.store, bulk_id, who=principal_of(request).name, clock=site.clock)
    except BulkRefused as refused:
        return await _follow(request, bulk, refused=refused)
    return RedirectResponse(f"/bulk/{bulk_id}", status_code=303)


async def _found(request: Request, bulk_id: str) -> Bulk:
    found = await site_of(request).store.bulk(bulk_id)
    if found is None or not principal_of(request).sees(found.feeder_id):
        raise Problem.not_found(f"there is no bulk disconnection {bulk_id}")
    return found
