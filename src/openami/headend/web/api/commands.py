"""``/commands``: ask a meter for something, and see what became of it.

A request goes into the ledger, and the head-end does the rest; so whoever asks may be cut off, and asks again under
the same key. Every command ends in exactly one of five ways.
"""

from datetime import timedelta
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.accounts import Means, Principal, Role
from openami.headend.commands import (
    Approval,
    Change,
    LedgerCommand,
    Requested,
    RequestFault,
    RequestRefused,
    plain,
    withdrawn,
)
from openami.headend.new_ids import new_id
from openami.headend.ordering import ApprovalFault, Order, OrderFault, approval_of, new_command
from openami.headend.store.commands import Around
from openami.headend.store.pages import Wanted
from openami.headend.web.admission import declares, principal_of
from openami.headend.web.api.edge import ApiRoute, may_refuse
from openami.headend.web.api.etags import ETAG_HEADER, NOT_MODIFIED, answer, check_unchanged
from openami.headend.web.api.forms import (
    ACT_CHARS_MAX,
    LIMIT_DEFAULT,
    Asked,
    CommandId,
    Cursor,
    FeederFilter,
    GatewayFilter,
    IdempotencyKey,
    IfMatch,
    IfNoneMatch,
    Limit,
    MeterFilter,
    Moment,
    Resource,
    Since,
    Until,
)
from openami.headend.web.api.media import JSON
from openami.headend.web.api.orders import NewCommand, args_of, needs_step_up
from openami.headend.web.api.paging import NEXT_LINK, Page, first_of, key_of, page_answer
from openami.headend.web.api.scope import feeders_of, require_can_command, require_meter
from openami.headend.web.problems import Problem
from openami.headend.web.refusals import invalid
from openami.headend.web.site import site_of
from openami.sip.actions import Action
from openami.sip.actions import Role as SignerRole

router = APIRouter(route_class=ApiRoute, tags=["commands"])


class CommandWord(StrEnum):
    """Where a command stands; the last five are its ends."""

    ISSUED = "issued"
    ACCEPTED = "accepted"
    EXECUTING = "executing"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    FAILED = "failed"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


class ApprovalTold(Resource):
    """Somebody else's act over the document in hand."""

    who: str = Field(description="The name their key has in the keyring.")
    at: Moment


class Command(Resource):
    """A command as the head-end's ledger has it."""

    id: str
    feeder_id: str
    gateway_id: str
    meter_serial: str
    action: Action
    args: dict[str, Any] = Field(description="What the action needs, as it was asked for.")
    state: CommandWord = Field(
        description="`confirmed`, `refused`, `failed`, `expired` and `unknown` are ends; none is ever left."
    )
    is_open: bool = Field(description="Whether it may still move.")
    in_words: str = Field(description="Where it stands, in a sentence.")
    code: str | None = Field(description="Why it ended so.")
    resolved_as: CommandWord | None = Field(
        description="What was learnt after it ended `unknown`: confirmed, refused or failed."
    )
    resolved_by: str | None = Field(description="By what: report or telemetry.")
    resolved_at: Moment | None
    waits_for: list[SignerRole] = Field(description="Whose approval is missing before it is sent.")
    approvals: list[ApprovalTold]
    requested_by: str
    reason: str
    requested_at: Moment
    not_after: Moment = Field(description="It never acts later than that.")
    session_id: str | None = Field(description="The session it is signed in.")
    seq: int | None = Field(description="Its number in that session.")
    digest: str | None = Field(description="Names its signed document.")
    signed_at: Moment | None
    sent_at: Moment | None = Field(description="From here on it may be out.")
    ended_at: Moment | None

    @classmethod
    def of(cls, command: LedgerCommand, approvals: "list[Approval] | None" = None) -> "Command":
        """Return a command as it is told."""
        return cls(
            id=command.id,
            feeder_id=command.feeder_id,
            gateway_id=command.gateway_id,
            meter_serial=command.meter_serial,
            action=command.action,
            args=dict(command.args),
            state=CommandWord(command.state.name.lower()),
            is_open=command.is_open,
            in_words=plain(command),
            code=command.code,
            resolved_as=(
                None
                if command.resolved_as is None
                else CommandWord(command.resolved_as.name.lower())
            ),
            resolved_by=command.resolved_by,
            resolved_at=command.resolved_at,
            waits_for=list(command.missing) if command.is_open else [],
            approvals=[ApprovalTold(who=each.who, at=each.at) for each in approvals or []],
            requested_by=command.requested_by,
            reason=command.reason,
            requested_at=command.requested_at,
            not_after=command.not_after,
            session_id=command.session_id,
            seq=command.seq,
            digest=command.digest,
            signed_at=command.signed_at,
            sent_at=command.sent_at,
            ended_at=command.ended_at,
        )


class NewApproval(Asked):
    """A second person's act, or the market's, over a command's document."""

    act: Annotated[
        str,
        Field(
            min_length=1,
            max_length=ACT_CHARS_MAX,
            pattern=r"^[A-Za-z0-9_.-]+$",
            description="The act: a compact JWS over the document, made where the key is.",
        ),
    ]


CommandStateFilter = Annotated[
    CommandWord | None, Query(alias="state", description="In this state only.")
]
OpenOnly = Annotated[bool, Query(alias="open", description="Only those that have not ended.")]

_CHANGES: Final = may_refuse(
    HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED
)


@router.get(
    "/commands",
    response_model=Page[Command],
    responses={200: {"headers": NEXT_LINK}, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.VIEWER)
async def list_commands(
    request: Request,
    feeder_id: FeederFilter = None,
    gateway_id: GatewayFilter = None,
    meter_serial: MeterFilter = None,
    state: CommandStateFilter = None,
    only_open: OpenOnly = False,
    since: Since = None,
    until: Until = None,
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
) -> Response:
    """List commands, newest first; their `approvals` are told one by one only."""
    wanted = Wanted(
        feeders=await feeders_of(request, feeder_id),
        gateway_id=gateway_id,
        meter_serial=meter_serial,
        state=None if state is None else state.name,
        only_open=only_open,
        since=since,
        until=until,
    )
    after = key_of("commands", cursor, (int, str))
    rows = await site_of(request).store.commands_page(wanted, after=after, at_most=limit + 1)
    page, last = first_of(rows, limit)
    return page_answer(request, "commands", [Command.of(row) for row in page], last)


# --- asking --------------------------------------------------------------------------------------


@router.post(
    "/commands",
    status_code=HTTPStatus.CREATED,
    response_model=Command,
    responses={
        200: {
            "model": Command,
            "headers": ETAG_HEADER,
            "description": "It was asked for before under this key: this is that command.",
        },
        201: {"headers": ETAG_HEADER},
        **may_refuse(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    },
)
@declares(Role.OPERATOR)
async def request_command(
    request: Request, asked: Annotated[NewCommand, Body()], key: IdempotencyKey
) -> Response:
    """Ask for a command. What moves a relay or money needs a step-up, or a token made for it.

    The answer says that it is in the ledger; how it ends is seen at its `Location`.
    """
    principal, site = principal_of(request), site_of(request)
    now = site.clock.now()
    if needs_step_up(Action(asked.action)):
        require_step_up(request)
    meter = await require_meter(request, asked.feeder_id, asked.meter_serial)
    require_can_command(request)
    order = Order(
        feeder_id=asked.feeder_id,
        gateway_id=meter.gateway_id,
        meter_serial=asked.meter_serial,
        action=Action(asked.action),
        args=args_of(asked),
        reason=asked.reason,
        valid_for=timedelta(seconds=asked.valid_for_s),
        wanted_session=asked.session_id,
    )
    try:
        new = new_command(
            order,
            command_id=new_id("cmd"),
            by=principal.name,
            idempotency_key=owned_key(principal, key),
            now=now,
        )
    except OrderFault as fault:
        raise invalid([{"in": "body", "detail": str(fault)}]) from None
    engineer = principal.may(Role.ENGINEER)
    match await site.store.request_command(new, now, engineer=engineer):
        case RequestRefused(RequestFault.KEY_REUSED):
            raise key_reused()
        case RequestRefused(refused, detail):
            raise Problem(HTTPStatus.CONFLICT, refused.lower().replace("_", "-"), detail)
        case Requested(command, is_new):
            if not is_new and _told_otherwise(command, new):
                raise key_reused()
            return answer(
                request,
                Command.of(command),
                status=HTTPStatus.CREATED if is_new else HTTPStatus.OK,
                location=f"{request.url.path}/{command.id}",
            )


def require_step_up(request: Request) -> None:
    """Raise Problem 403 unless whoever asks may order relays now."""
    principal = principal_of(request)
    if principal.may_order_relays(site_of(request).clock.now()):
        return
    if principal.means is Means.TOKEN:
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "step-up-needed",
            "this moves a relay or money, and the token was not made for that",
            remedy="have an engineer make one that may: openami token create --relays",
        )
    raise Problem.step_up_needed()


def owned_key(principal: Principal, key: str) -> str:
    """Return a key as the ledger keeps it: two people's keys are two, though they be spelled alike."""
    return f"{principal.means}:{principal.name}:{key}"


def _told_otherwise(command: LedgerCommand, new: LedgerCommand) -> bool:
    """Return whether two requests of one key differ in what the ledger does not compare.

    How long it is valid is not compared: signing may have shortened that, and nothing acts twice for it.
    """
    return (command.reason, command.wanted_session) != (new.reason, new.wanted_session)


def key_reused() -> Problem:
    """Return the refusal of a key that another request had."""
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "idempotency-key-reused",
        "this Idempotency-Key was another request's",
        remedy="repeat that request as it was, or give this one a key of its own",
    )


# --- one command ---------------------------------------------------------------------------------


@router.get(
    "/commands/{commandId}",
    response_model=Command,
    responses={200: {"headers": ETAG_HEADER}, **NOT_MODIFIED, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.VIEWER)
async def show_command(request: Request, command_id: CommandId, _: IfNoneMatch = None) -> Response:
    """Show a command and where it stands."""
    return answer(request, await _in_full(request, await _found(request, command_id)))


_SIGNED_DOCUMENT: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {JSON: {"schema": {"type": "object"}}}},
    **may_refuse(HTTPStatus.NOT_FOUND),
}


@router.get("/commands/{commandId}/document", responses=_SIGNED_DOCUMENT)
@declares(Role.VIEWER)
async def show_document(request: Request, command_id: CommandId) -> Response:
    """Show the signed document, byte by byte: what a second person signs, and what the gateway was sent."""
    return _signed(await _found(request, command_id), "document")


@router.get("/commands/{commandId}/report", responses=_SIGNED_DOCUMENT)
@declares(Role.VIEWER)
async def show_report(request: Request, command_id: CommandId) -> Response:
    """Show the gateway's signed report, byte by byte: the proof of how it ended."""
    return _signed(await _found(request, command_id), "report")


def _signed(command: LedgerCommand, which: str) -> Response:
    content = command.document if which == "document" else command.report
    if content is None:
        raise Problem.not_found(f"{command.id} has no {which} yet")
    return Response(content, media_type=JSON)


@router.post(
    "/commands/{commandId}/approve",
    response_model=Command,
    responses={200: {"headers": ETAG_HEADER}, **_CHANGES},
)
@declares(Role.OPERATOR)
async def approve_command(
    request: Request,
    command_id: CommandId,
    asked: Annotated[NewApproval, Body()],
    if_match: IfMatch = None,
) -> Response:
    """Add a second person's act, or the market's, to a command that waits for it."""
    require_step_up(request)
    site, command = site_of(request), await _found(request, command_id)
    check_unchanged(if_match, await _in_full(request, command))
    session = None
    if command.session_id is not None:
        session = await site.store.session(command.session_id)
    try:
        approval, entry = approval_of(
            command,
            session,
            asked.act,
            carried_by=principal_of(request).name,
            now=site.clock.now(),
        )
    except ApprovalFault as fault:
        if fault.unreadable:
            raise invalid([{"in": "body: act", "detail": str(fault)}]) from None
        remedy = (
            "wait a moment: it needs a session with its gateway first" if fault.too_early else ""
        )
        raise Problem(HTTPStatus.CONFLICT, "not-waited-for", str(fault), remedy=remedy) from None
    await site.store.approve(approval, entry)
    return answer(request, await _in_full(request, await _found(request, command_id)))


@router.post(
    "/commands/{commandId}/withdraw",
    response_model=Command,
    responses={200: {"headers": ETAG_HEADER}, **_CHANGES},
)
@declares(Role.OPERATOR)
async def withdraw_command(
    request: Request, command_id: CommandId, if_match: IfMatch = None
) -> Response:
    """Withdraw a command that has not been sent yet; what has been sent cannot be called back."""
    site, by = site_of(request), principal_of(request).name
    found = await _found(request, command_id)
    check_unchanged(if_match, await _in_full(request, found))
    now = site.clock.now()

    def decide(command: LedgerCommand, _: Around) -> Change | None:
        change = withdrawn(command, now, who=by)
        if change is None:
            raise Problem(
                HTTPStatus.CONFLICT,
                "too-late",
                f"too late to withdraw {command.id}: {plain(command)}",
            )
        return change

    after = await site.store.change_command(command_id, decide, now)
    assert after is not None, "a command is never deleted"
    return answer(request, await _in_full(request, after))


async def _found(request: Request, command_id: str) -> LedgerCommand:
    found = await site_of(request).store.command(command_id)
    if found is None or not principal_of(request).sees(found.feeder_id):
        raise Problem.not_found(f"there is no command {command_id}")
    return found


async def _in_full(request: Request, command: LedgerCommand) -> Command:
    if command.digest is None:
        return Command.of(command)
    approvals = await site_of(request).store.approvals(command.id, command.digest)
    return Command.of(command, list(approvals))
