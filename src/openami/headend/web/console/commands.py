"""Commands: choose, confirm, follow, and the receipt; and the list of all of them.

A page asks; the head-end signs and sends. So a browser may be closed at any time: the command goes on, once.
"""

from dataclasses import replace
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from openami.headend.accounts import Role
from openami.headend.bulk import BulkState
from openami.headend.commands import Change, LedgerCommand, RequestFault, RequestRefused, withdrawn
from openami.headend.new_ids import new_id
from openami.headend.ordering import ApprovalFault, Order, OrderFault, approval_of, new_command
from openami.headend.states import meter_state
from openami.headend.store import Reading
from openami.headend.store.commands import Around
from openami.headend.store.pages import Wanted
from openami.headend.web.admission import declares, in_scope, principal_of
from openami.headend.web.console.command_flow import (
    ORDERED,
    REASONS,
    SERIAL_END_CHARS,
    FormFault,
    Obstacle,
    RelayFacts,
    RelayForm,
    Standing,
    can_withdraw,
    count_commands,
    look_again_s,
    obstacles,
    proves,
    read_back_of,
    relay_facts,
    standing,
    steps_of,
    stops,
)
from openami.headend.web.console.paging import next_page, read_key
from openami.headend.web.console.rendering import page
from openami.headend.web.problems import Problem
from openami.headend.web.site import site_of
from openami.profile import Obis
from openami.sip.actions import RELAY_STATE_OBIS

# A page of the list, and what is counted above it: the last of a large village's month.
LISTED_MAX: Final = 100
COUNTED_MAX: Final = 500
# On the page of one meter: what happened lately.
RECENT_MAX: Final = 5
# Telemetry of a relay comes at least hourly; the first of these that shows it in its place is the proof.
PROOF_LOOKED_AT_MAX: Final = 200
# An act has 300 bytes; what is longer is something else.
ACT_CHARS_MAX: Final = 8 * 1024

SHOWN: Final = {
    "approval": frozenset({Standing.WAITS_FOR_APPROVAL}),
    "unknown": frozenset({Standing.UNKNOWN}),
}
"""Where those stand that a filter shows; all, for others."""

_RELAY: Final = Obis.parse(RELAY_STATE_OBIS)

router = APIRouter(include_in_schema=False)
Field = Annotated[str, Form()]


# --- choose and confirm --------------------------------------------------------------------------


@router.get("/meters/{feeder_id}/{serial}/relay")
@declares(Role.OPERATOR)
async def choose(request: Request, feeder_id: str, serial: str) -> Response:
    """Show what is known, and ask what to do and why."""
    facts = await _facts(request, feeder_id, serial)
    return _choosing(request, facts)


def _choosing(
    request: Request,
    facts: RelayFacts,
    form: RelayForm | None = None,
    faults: frozenset[FormFault] = frozenset(),
) -> Response:
    told = {name: _obstacles(request, facts, name) for name in ORDERED}
    return page(
        request,
        "commands_choose.html",
        status=422 if faults else 200,
        facts=facts,
        told=told,
        stopped={name: stops(found) for name, found in told.items()},
        reasons={name: REASONS[action] for name, action in ORDERED.items()},
        form=form,
        faults=faults,
    )


@router.get("/meters/{feeder_id}/{serial}/relay/{order}")
@declares(Role.OPERATOR, step_up=True)
async def confirm(
    request: Request, feeder_id: str, serial: str, order: str, reason: str = "", note: str = ""
) -> Response:
    """Show what will be done, in which session, and ask for the end of the serial number."""
    facts = await _facts(request, feeder_id, serial)
    form = _form(order, reason, note)
    if faults := form.reason_faults():
        return _choosing(request, facts, form, faults)
    return _confirming(request, facts, order, form)


def _confirming(
    request: Request,
    facts: RelayFacts,
    order: str,
    form: RelayForm,
    faults: frozenset[FormFault] = frozenset(),
    *,
    key: str = "",
    refused: str = "",
) -> Response:
    found = _obstacles(request, facts, order)
    return page(
        request,
        "commands_confirm.html",
        status=422 if faults else 409 if refused else 200,
        facts=facts,
        order=order,
        form=form,
        faults=faults,
        told=found,
        stopped=stops(found),
        refused=refused,
        key=key or new_id("form"),
        end_chars=SERIAL_END_CHARS,
        open_command=facts.open_for(form.action),
    )


@router.post("/meters/{feeder_id}/{serial}/relay/{order}")
@declares(Role.OPERATOR, step_up=True)
async def ask(
    request: Request,
    feeder_id: str,
    serial: str,
    order: str,
    reason: Field = "",
    note: Field = "",
    serial_end: Field = "",
    key: Field = "",
) -> Response:
    """Enter the request into the ledger. The same form sent twice is one command."""
    site, principal = site_of(request), principal_of(request)
    facts = await _facts(request, feeder_id, serial)
    form = _form(order, reason, note, serial_end)
    if faults := form.faults(serial):
        return _confirming(request, facts, order, form, faults, key=key)
    if not site.can_command:
        return _confirming(request, facts, order, form, refused=Obstacle.NO_KEY)
    now = site.clock.now()
    try:
        new = new_command(
            Order(
                feeder_id=feeder_id,
                gateway_id=facts.meter.gateway_id,
                meter_serial=serial,
                action=form.action,
                args={},
                reason=form.told,
            ),
            command_id=new_id("cmd"),
            by=principal.name,
            idempotency_key=f"console-{key}" if key else None,
            now=now,
        )
    except OrderFault as fault:
        return _confirming(request, facts, order, form, refused=str(fault))
    verdict = await site.store.request_command(new, now, engineer=principal.may(Role.ENGINEER))
    if isinstance(verdict, RequestRefused):
        facts = await _facts(request, feeder_id, serial)
        return _confirming(request, facts, order, form, refused=_why_refused(verdict))
    return RedirectResponse(f"/commands/{verdict.command.id}", status_code=303)


def _why_refused(verdict: RequestRefused) -> str:
    """Return which obstacle a refusal met, or its own words."""
    match verdict.fault:
        case RequestFault.ALREADY_OPEN:
            return Obstacle.ALREADY_OPEN
        case RequestFault.PROTECTED:
            return Obstacle.PROTECTED
        case _:
            return verdict.detail


def _form(order: str, reason: str, note: str, serial_end: str = "") -> RelayForm:
    if order not in ORDERED:
        raise Problem.not_found(f"a relay is not told to {order}: {' or '.join(ORDERED)}")
    return RelayForm(ORDERED[order], reason, note.strip(), serial_end)


def _obstacles(request: Request, facts: RelayFacts, order: str) -> list[Obstacle]:
    return obstacles(
        facts,
        ORDERED[order],
        can_command=site_of(request).can_command,
        engineer=principal_of(request).may(Role.ENGINEER),
    )


async def _facts(request: Request, feeder_id: str, serial: str) -> RelayFacts:
    in_scope(request, feeder_id)
    site = site_of(request)
    store, now = site.store, site.clock.now()
    rows = await store.meters(feeder_id=feeder_id, meter_serial=serial)
    if not rows:
        raise Problem.not_found(f"no meter {serial} was ever heard of on feeder {feeder_id}")
    [meter] = rows
    gateways = {row.gateway_id: row for row in await store.gateways(feeder_id)}
    return relay_facts(
        meter,
        meter_state(meter, gateways.get(meter.gateway_id), now=now),
        await store.latest(feeder_id, serial),
        catalogue=site.catalogue,
        assets=await store.assets(feeder_id),
        keyrings=await store.keyrings(feeder_id, meter.gateway_id),
        sessions=await store.sessions(
            feeder_id=feeder_id, gateway_id=meter.gateway_id, only_open=True
        ),
        commands=await store.commands(feeder_id=feeder_id, meter_serial=serial, at_most=RECENT_MAX),
        now=now,
    )


# --- follow --------------------------------------------------------------------------------------


@router.get("/commands/{command_id}")
@declares(Role.VIEWER)
async def follow(request: Request, command_id: str) -> Response:
    """Show how far a command has come; the part that changes looks again by itself."""
    return await _follow(request, await _found(request, command_id))


@router.get("/commands/{command_id}/progress")
@declares(Role.VIEWER)
async def progress(request: Request, command_id: str) -> Response:
    """Return the part that changes alone."""
    found = await _found(request, command_id)
    return await _follow(request, found, template="commands_progress.html")


async def _follow(
    request: Request,
    command: LedgerCommand,
    *,
    template: str = "commands_follow.html",
    status: int = 200,
    **told: str,
) -> Response:
    site = site_of(request)
    links = await site.store.audit_links(command_id=command.id)
    approvals = (
        () if command.digest is None else await site.store.approvals(command.id, command.digest)
    )
    return page(
        request,
        template,
        status=status,
        command=command,
        standing=standing(command),
        steps=steps_of(command, links),
        approvals=approvals,
        links=links,
        again_s=look_again_s(command, site.clock.now()),
        may=principal_of(request).may(Role.OPERATOR),
        can_withdraw=can_withdraw(command),
        waits_for_approval=standing(command) is Standing.WAITS_FOR_APPROVAL,
        proof=await _proof(request, command),
        order=_order_of(command),
        **{"fault": "", **told},
    )


def _order_of(command: LedgerCommand) -> str | None:
    """Return the relay page's word for what it asks; None for other commands."""
    return next((name for name, action in ORDERED.items() if action is command.action), None)


async def _proof(request: Request, command: LedgerCommand) -> Reading | None:
    """Return the first reading that shows the relay where it was ordered to be."""
    if command.sent_at is None or command.is_open or _order_of(command) is None:
        return None
    looked = 0
    async for reading in site_of(request).store.readings(
        command.feeder_id, command.meter_serial, obis=_RELAY, since=command.sent_at
    ):
        if proves(command, reading):
            return reading
        looked += 1
        if looked >= PROOF_LOOKED_AT_MAX:
            break
    return None


@router.get("/commands/{command_id}/receipt")
@declares(Role.VIEWER)
async def receipt(request: Request, command_id: str) -> Response:
    """Return what proves a command's end, on one sheet of paper."""
    site = site_of(request)
    command = await _found(request, command_id)
    if command.is_open:
        raise Problem.not_found(f"{command_id} has not ended: it has no receipt yet")
    session = None if command.session_id is None else await site.store.session(command.session_id)
    assets = await site.store.assets(command.feeder_id)
    return page(
        request,
        "commands_receipt.html",
        command=command,
        standing=standing(command),
        steps=steps_of(command, links := await site.store.audit_links(command_id=command.id)),
        links=links,
        session=session,
        read_back=read_back_of(command.report, site.catalogue),
        proof=await _proof(request, command),
        customer=assets.customer_of(command.meter_serial, command.requested_at),
        feeder=assets.feeder,
    )


@router.get("/commands/{command_id}/document")
@declares(Role.VIEWER)
async def document(request: Request, command_id: str) -> Response:
    """Return the signed command, byte by byte."""
    command = await _found(request, command_id)
    return _signed_file(command.document, f"{command.id}.json", "it is not signed")


@router.get("/commands/{command_id}/report")
@declares(Role.VIEWER)
async def report(request: Request, command_id: str) -> Response:
    """Return the gateway's signed report, byte by byte."""
    command = await _found(request, command_id)
    return _signed_file(command.report, f"{command.id}-report.json", "no report of it has come")


def _signed_file(content: bytes | None, name: str, why_not: str) -> Response:
    if content is None:
        raise Problem.not_found(why_not)
    return Response(
        content,
        media_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@router.post("/commands/{command_id}/withdraw")
@declares(Role.OPERATOR)
async def withdraw(request: Request, command_id: str) -> Response:
    """Call a command back that has not been sent. Needs no password: nothing happens by it."""
    site, by = site_of(request), principal_of(request).name
    now = site.clock.now()
    before = await _found(request, command_id)

    def decide(found: LedgerCommand, _: Around) -> Change | None:
        return withdrawn(found, now, who=by)

    after = await site.store.change_command(command_id, decide, now)
    assert after is not None
    if not before.is_open or after.is_open:
        return await _follow(request, after, status=409, fault="too_late")
    return RedirectResponse(f"/commands/{command_id}", status_code=303)


@router.post("/commands/{command_id}/approve")
@declares(Role.OPERATOR, step_up=True)
async def approve(request: Request, command_id: str, act: Field = "") -> Response:
    """Add the act of a second person, or of the market, to a command that waits for it."""
    site, by = site_of(request), principal_of(request).name
    now = site.clock.now()
    command = await _found(request, command_id)
    session = None if command.session_id is None else await site.store.session(command.session_id)
    try:
        if len(act) > ACT_CHARS_MAX or not act.isascii():
            raise ApprovalFault("an act is one line of letters and dots", unreadable=True)
        approval, entry = approval_of(command, session, act.strip(), carried_by=by, now=now)
    except ApprovalFault as fault:
        return await _follow(request, command, status=422, fault=str(fault))
    if approval.who == command.requested_by:
        fault_told = f"{approval.who} has asked for it: a second person has to approve"
        return await _follow(request, command, status=422, fault=fault_told)
    await site.store.approve(approval, entry)
    return RedirectResponse(f"/commands/{command_id}", status_code=303)


async def _found(request: Request, command_id: str) -> LedgerCommand:
    found = await site_of(request).store.command(command_id)
    if found is None or not principal_of(request).sees(found.feeder_id):
        raise Problem.not_found(f"there is no command {command_id}")
    return found


# --- the list ------------------------------------------------------------------------------------


@router.get("/commands")
@declares(Role.VIEWER)
async def commands(
    request: Request, feeder: str = "", meter: str = "", show: str = "all", before: str = ""
) -> Response:
    """List commands, newest first."""
    store, principal = site_of(request).store, principal_of(request)
    if feeder:
        in_scope(request, feeder)
    wanted = Wanted(
        feeders=frozenset({feeder}) if feeder else principal.feeders,
        meter_serial=meter or None,
        only_open=show in ("open", "approval"),
        state="UNKNOWN" if show == "unknown" else None,
    )
    found = await store.commands_page(wanted, after=read_key(before, int, str), at_most=LISTED_MAX)
    lately = await store.commands_page(
        replace(wanted, only_open=False, state=None), after=None, at_most=COUNTED_MAX
    )
    filters = {"feeder": feeder, "meter": meter, "show": show}
    proposals = await store.bulks(wanted.feeders, only_open=True)
    return page(
        request,
        "commands_list.html",
        rows=[
            (each.row, stands)
            for each in found
            if (stands := standing(each.row)) in SHOWN.get(show, frozenset(Standing))
        ],
        counts=count_commands([each.row for each in lately], site_of(request).clock.now()),
        proposals=sum(each.state is BulkState.PROPOSED for each in proposals),
        filters=filters,
        next_page=next_page("/commands", filters, found, LISTED_MAX),
        query=urlencode({"feeder": feeder, "meter": meter}),
    )
