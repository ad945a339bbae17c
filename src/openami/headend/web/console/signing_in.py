"""The pages on which somebody shows who they are: sign-in, one-time link, step-up."""

from typing import Annotated, Final

from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from openami.headend.accounts import Means, Role
from openami.headend.accounts.credentials import Kind, Link, LinkKind, digest_of, why_dead
from openami.headend.accounts.users import (
    AccountError,
    User,
    checked_name,
    checked_password,
    entered,
    first_engineer,
    invited,
)
from openami.headend.store.accounts import LinkUse
from openami.headend.web.admission import declares, open_to_all, principal_of
from openami.headend.web.console.rendering import page
from openami.headend.web.problems import Problem
from openami.headend.web.returning import HOME, own_path
from openami.headend.web.sign_in_desk import Busy, Refusal, Refused, SignInDesk
from openami.headend.web.site import site_of

router: Final = APIRouter(include_in_schema=False)
_STATUS: Final = {Refused.WRONG: 401, Refused.WAIT: 429, Refused.BUSY: 503}
Field = Annotated[str, Form()]


def desk_of(request: Request) -> SignInDesk:
    """Return the desk. Raises Problem where there is none."""
    desk = site_of(request).desk
    if desk is None:
        raise Problem.not_found("this head-end has no accounts of its own")
    return desk


def _seen_other(path: str) -> RedirectResponse:
    return RedirectResponse(path, status_code=303)


# --- sign-in -------------------------------------------------------------------------------------


@router.get("/sign-in")
@open_to_all
async def sign_in_form(request: Request, next: str = HOME) -> Response:
    if request.state.principal is not None:
        return _seen_other(own_path(next))
    no_account = not await site_of(request).store.users()
    return page(
        request, "sign_in.html", next=own_path(next), name="", refusal=None, no_account=no_account
    )


@router.post("/sign-in")
@open_to_all
async def sign_in(
    request: Request, name: Field = "", password: Field = "", code: Field = "", next: Field = HOME
) -> Response:
    desk = desk_of(request)
    proved = await desk.prove(name, password, code, desk.door.address(request))
    if isinstance(proved, Refusal):
        return _refused(request, "sign_in.html", proved, next=own_path(next), name=name)
    answer = _seen_other(own_path(next))
    await desk.hand_out(request, answer, proved.name)
    return answer


def _refused(
    request: Request, template: str, refusal: Refusal, *, next: str, name: str
) -> Response:
    answer = page(
        request,
        template,
        status=_STATUS[refusal.why],
        next=next,
        name=name,
        refusal=refusal,
        no_account=False,
    )
    if refusal.until is not None:
        wait_s = (refusal.until - site_of(request).clock.now()).total_seconds()
        answer.headers["retry-after"] = str(max(1, round(wait_s)))
    return answer


@router.post("/sign-out")
@open_to_all
async def sign_out(request: Request) -> Response:
    answer = _seen_other("/sign-in")
    await desk_of(request).take_back(request, answer)
    return answer


# --- step-up -------------------------------------------------------------------------------------


@router.get("/step-up")
@declares(Role.VIEWER)
async def step_up_form(request: Request, next: str = HOME) -> Response:
    if principal_of(request).stepped_up(site_of(request).clock.now()):
        return _seen_other(own_path(next))
    account = await site_of(request).store.user(principal_of(request).name)
    return page(
        request,
        "step_up.html",
        next=own_path(next),
        refusal=None,
        has_password=account is not None and account.can_sign_in,
        asks_code=account is not None and account.totp_secret is not None,
    )


@router.post("/step-up")
@declares(Role.VIEWER)
async def step_up(
    request: Request, password: Field = "", code: Field = "", next: Field = HOME
) -> Response:
    principal, desk = principal_of(request), desk_of(request)
    if principal.means is Means.TOKEN:
        raise Problem.step_up_needed()
    proved = await desk.prove(principal.name, password, code, desk.door.address(request))
    if isinstance(proved, Refusal):
        account = await site_of(request).store.user(principal.name)
        return page(
            request,
            "step_up.html",
            status=_STATUS[proved.why],
            next=own_path(next),
            refusal=proved,
            has_password=account is not None and account.can_sign_in,
            asks_code=account is not None and account.totp_secret is not None,
        )
    answer = _seen_other(own_path(next))
    await desk.hand_out(request, answer, proved.name, "password shown again")
    return answer


# --- one-time links ------------------------------------------------------------------------------


@router.get("/first/{secret}")
@open_to_all
async def open_link(request: Request, secret: str) -> Response:
    site = site_of(request)
    digest, now = digest_of(Kind.LINK, secret), site.clock.now()
    link, user, users = await site.store.look_at_link(digest)
    dead = why_dead(link, user, users, now)
    if dead is None and link is not None and link.kind is LinkKind.ENTER:
        return await _enter(request, digest)
    return _link_page(request, link, dead=dead)


async def _enter(request: Request, digest: str) -> Response:
    """Sign in who opens the link. A browser that only looks ahead has not opened it."""
    if "prefetch" in request.headers.get("sec-purpose", request.headers.get("purpose", "")):
        return Response(status_code=503)
    site, desk = site_of(request), desk_of(request)
    now = site.clock.now()

    def decide(link: Link | None, user: User | None, users: int) -> LinkUse | None:
        if why_dead(link, user, users, now) is not None or user is None:
            return None
        return LinkUse(*entered(user))

    user = await site.store.use_link(digest, decide, now)
    if user is None:
        return _link_page(request, None, dead="this link has been used: each opens once")
    answer = _seen_other(HOME)
    await desk.hand_out(request, answer, user.name)
    return answer


@router.post("/first/{secret}")
@open_to_all
async def use_link(
    request: Request, secret: str, name: Field = "", password: Field = "", again: Field = ""
) -> Response:
    site, desk = site_of(request), desk_of(request)
    digest, now = digest_of(Kind.LINK, secret), site.clock.now()
    link, named, users = await site.store.look_at_link(digest)
    if link is None or link.kind is LinkKind.ENTER or why_dead(link, named, users, now) is not None:
        return _link_page(request, link, dead=why_dead(link, named, users, now) or "")
    try:
        name = checked_name(name if link.user_name is None else link.user_name)
        if password != again:
            raise AccountError("the two passwords differ", "type the same one twice")
        hashed = await desk.hash(checked_password(password, name=name))
    except AccountError as error:
        return _link_page(request, link, error=error, name=name, status=422)
    except Busy:
        return _link_page(request, link, error=AccountError("too busy just now"), status=503)

    def decide(found: Link | None, user: User | None, count: int) -> LinkUse | None:
        if why_dead(found, user, count, now) is not None:
            return None
        if user is None:
            return LinkUse(*first_engineer(name, hashed, now=now))
        return LinkUse(*invited(user, hashed))

    made = await site.store.use_link(digest, decide, now)
    if made is None:
        return _link_page(request, link, dead="this link has been used: each opens once")
    if made.totp_secret is not None:
        # A link replaces a forgotten password, not the second factor.
        return _seen_other("/sign-in")
    answer = _seen_other(HOME)
    await desk.hand_out(request, answer, made.name)
    return answer


def _link_page(
    request: Request,
    link: Link | None,
    *,
    dead: str | None = None,
    error: AccountError | None = None,
    name: str = "",
    status: int = 200,
) -> Response:
    return page(
        request,
        "first_link.html",
        status=410 if dead is not None else status,
        dead=dead,
        error=error,
        user_name=None if link is None else link.user_name,
        name=name,
    )
