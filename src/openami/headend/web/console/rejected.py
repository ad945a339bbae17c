"""Rejected messages: by rule, folded; one with its fault; replayed, dropped, or sent to the vendor."""

import json
from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from openami.headend.accounts import Principal, Role
from openami.headend.replay import drop as drop_kept
from openami.headend.replay import faults_of
from openami.headend.replay import replay as replay_kept
from openami.headend.store import REJECTED_KEPT_DAYS, Reject, RejectStatus
from openami.headend.web.admission import declares, principal_of
from openami.headend.web.console.rejected_view import (
    by_rule,
    fold,
    for_vendor,
    marked,
    rule,
    sender_of,
)
from openami.headend.web.console.rendering import page
from openami.headend.web.problems import Problem
from openami.headend.web.site import site_of

# What is folded for a page; each may have its 64 kB in memory.
FOLDED_MAX: Final = 1_000
# A file for a vendor: some hundred cases of one fault show nothing the first did not.
EXPORTED_MAX: Final = 200

RuleId = Annotated[str, Query(alias="rule")]

router = APIRouter(include_in_schema=False)


@router.get("/rejected")
@declares(Role.VIEWER)
async def rejected(
    request: Request, status: str = "open", rule_id: RuleId = "", gateway: str = ""
) -> Response:
    """Show what is kept, folded by what is wrong."""
    principal = principal_of(request)
    rows = await _kept(request, status)
    chosen = _chosen(rows, rule_id, gateway)
    return page(
        request,
        "rejected_list.html",
        folds=[(each, rule(each.requirement)) for each in fold(chosen)],
        rules=[(name, count, rule(name)) for name, count in by_rule(rows)],
        total=sum(each.count for each in rows),
        kept=status if status in (*RejectStatus, "all") else "open",
        rule_id=rule_id,
        gateway=gateway,
        kept_days=REJECTED_KEPT_DAYS,
        looked_at_all=len(rows) < FOLDED_MAX,
        may=principal.may(Role.OPERATOR),
    )


async def _kept(request: Request, status: str) -> list[Reject]:
    wanted = None if status == "all" else RejectStatus.OPEN
    if status in tuple(RejectStatus):
        wanted = RejectStatus(status)
    rows = await site_of(request).store.rejects(status=wanted, at_most=FOLDED_MAX)
    return [each for each in rows if _is_seen(principal_of(request), each)]


def _is_seen(principal: Principal, reject: Reject) -> bool:
    """A message whose topic names no feeder is only for those who see all of them."""
    return principal.feeders is None or principal.sees(sender_of(reject.topic).feeder_id)


def _chosen(rows: Sequence[Reject], rule_id: str, gateway: str) -> list[Reject]:
    return [
        each
        for each in rows
        if rule_id in ("", each.requirement) and gateway in ("", sender_of(each.topic).gateway_id)
    ]


@router.get("/rejected/export.json")
@declares(Role.OPERATOR)
async def export(
    request: Request, status: str = "open", rule_id: RuleId = "", gateway: str = ""
) -> Response:
    """Return messages for their vendor: rule, remedy, topic and the very bytes."""
    rows = await _kept(request, status)
    chosen = _chosen(rows, rule_id, gateway)[:EXPORTED_MAX]
    content = json.dumps(
        for_vendor(chosen, now=site_of(request).clock.now()), ensure_ascii=False, indent=1
    )
    return Response(
        content,
        media_type="application/json",
        headers={"Content-Disposition": 'attachment; filename="openami-rejected.json"'},
    )


@router.get("/rejected/{reject_id}")
@declares(Role.VIEWER)
async def one(request: Request, reject_id: str) -> Response:
    """Show a message with its fault marked, the rule, and what its vendor should change."""
    return _one(request, await _found(request, reject_id))


def _one(request: Request, found: Reject, *, status: int = 200, verdict: object = None) -> Response:
    return page(
        request,
        "rejected_one.html",
        status=status,
        reject=found,
        sender=sender_of(found.topic),
        rule=rule(found.requirement),
        message=marked(found.payload, found.path),
        verdict=verdict,
        kept_days=REJECTED_KEPT_DAYS,
        may=principal_of(request).may(Role.OPERATOR),
    )


@router.post("/rejected/{reject_id}/replay")
@declares(Role.OPERATOR)
async def replay(request: Request, reject_id: str) -> Response:
    """Judge a message again by today's rules and register list, and store what is accepted."""
    site = site_of(request)
    found = await _found(request, reject_id)
    decision, _ = await replay_kept(
        site.store,
        found,
        catalogue=site.catalogue,
        now=site.clock.now(),
        who=principal_of(request).name,
    )
    faults = faults_of(decision)
    if faults:
        again = await _found(request, reject_id)
        return _one(request, again, status=409, verdict=faults[0])
    return RedirectResponse(f"/rejected/{found.id}", status_code=303)


@router.post("/rejected/{reject_id}/drop")
@declares(Role.OPERATOR)
async def drop(request: Request, reject_id: str) -> Response:
    """Give a message up: its bytes go with the next prune."""
    site = site_of(request)
    found = await _found(request, reject_id)
    await drop_kept(site.store, found, now=site.clock.now(), who=principal_of(request).name)
    return RedirectResponse("/rejected", status_code=303)


async def _found(request: Request, reject_id: str) -> Reject:
    number = int(reject_id) if reject_id.isascii() and reject_id.isdigit() else -1
    found = await site_of(request).store.reject(number) if 0 < number < 2**63 else None
    if found is None or not _is_seen(principal_of(request), found):
        raise Problem.not_found(f"there is no kept message {reject_id}")
    return found
