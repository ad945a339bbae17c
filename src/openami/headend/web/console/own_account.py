"""One's own account: password, language, second factor, and where one is signed in."""

import secrets
from typing import Annotated, Final

import segno
from fastapi import APIRouter, Form
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from openami.headend.accounts import Role
from openami.headend.accounts.second_factor import (
    new_recovery_codes,
    new_totp_secret,
    recovery_digests,
    step_of,
    totp_uri,
)
from openami.headend.accounts.users import (
    LANGUAGES,
    AccountError,
    User,
    UserChange,
    checked_password,
    with_language,
    with_password,
    with_second_factor,
    with_totp_pending,
    without_second_factor,
)
from openami.headend.audit import Entry
from openami.headend.store.accounts import DecideUser
from openami.headend.web.admission import declares, principal_of
from openami.headend.web.console.rendering import page
from openami.headend.web.console.signing_in import desk_of
from openami.headend.web.problems import Problem
from openami.headend.web.sign_in_desk import Busy
from openami.headend.web.site import site_of

router: Final = APIRouter(include_in_schema=False)
PATH: Final = "/account"
Field = Annotated[str, Form()]


@router.get(PATH)
@declares(Role.VIEWER)
async def own_account(request: Request) -> Response:
    return await _shown(request)


@router.post(f"{PATH}/language")
@declares(Role.VIEWER)
async def choose_language(request: Request, language: Field = "") -> Response:
    who = principal_of(request).name
    return await _changed(request, lambda user, _: with_language(user, language or None, who=who))


@router.post(f"{PATH}/password")
@declares(Role.VIEWER, step_up=True)
async def change_password(request: Request, password: Field = "", again: Field = "") -> Response:
    user, desk = await _own(request), desk_of(request)
    try:
        if password != again:
            raise AccountError("the two passwords differ", "type the same one twice")
        hashed = await desk.hash(checked_password(password, name=user.name))
    except AccountError as error:
        return await _shown(request, error=error)
    except Busy:
        return await _shown(request, error=AccountError("too busy just now", "try again"))
    answer = await _changed(request, lambda found, _: with_password(found, hashed, who=found.name))
    # Every sign-in has ended with the old password, this one too; whoever knows the new one goes on.
    await desk.hand_out(request, answer, user.name, "signed in with the new password")
    return answer


@router.post(f"{PATH}/sign-ins/{{sign_in_id}}/end")
@declares(Role.VIEWER)
async def end_sign_in(request: Request, sign_in_id: str) -> Response:
    principal, site = principal_of(request), site_of(request)
    entry = Entry(who=principal.name, what="sign-in ended", why=sign_in_id, result="done")
    await site.store.end_sign_in(sign_in_id, principal.name, entry, site.clock.now())
    return RedirectResponse(PATH, status_code=303)


# --- the second factor ---------------------------------------------------------------------------


@router.post(f"{PATH}/totp")
@declares(Role.VIEWER, step_up=True)
async def begin_totp(request: Request) -> Response:
    """Show a new secret. It is in force when a code from it was typed, and not before."""
    secret = new_totp_secret(secrets.token_bytes)
    await _change(request, lambda user, _: with_totp_pending(user, secret))
    return await _shown(request, secret=secret)


@router.post(f"{PATH}/totp/confirm")
@declares(Role.VIEWER, step_up=True)
async def confirm_totp(request: Request, code: Field = "") -> Response:
    user, now = await _own(request), site_of(request).clock.now()
    if user.totp_pending is None:
        return RedirectResponse(PATH, status_code=303)
    step = step_of(user.totp_pending, code, after=0, now=now)
    if step is None:
        error = AccountError(
            "this code does not fit", "wait for the next one and look at the clocks"
        )
        return await _shown(request, error=error, secret=user.totp_pending)
    codes = new_recovery_codes(secrets.token_bytes)
    kept = recovery_digests(codes)
    pending = user.totp_pending

    def decide(found: User, _: int) -> UserChange | None:
        return with_second_factor(found, pending, step=step, recovery=kept)

    await _change(request, decide)
    return await _shown(request, recovery=codes)


@router.post(f"{PATH}/totp/remove")
@declares(Role.VIEWER, step_up=True)
async def remove_totp(request: Request) -> Response:
    who = principal_of(request).name
    return await _changed(request, lambda user, _: without_second_factor(user, who=who))


# --- what they share -----------------------------------------------------------------------------


async def _own(request: Request) -> User:
    user = await site_of(request).store.user(principal_of(request).name)
    if user is None:
        raise Problem.not_found("you have no account here: another program signs you in")
    return user


async def _change(request: Request, decide: DecideUser) -> None:
    site = site_of(request)
    name = (await _own(request)).name
    await site.store.change_user(name, decide, site.clock.now())


async def _changed(request: Request, decide: DecideUser) -> Response:
    try:
        await _change(request, decide)
    except AccountError as error:
        return await _shown(request, error=error)
    return RedirectResponse(PATH, status_code=303)


async def _shown(
    request: Request,
    *,
    error: AccountError | None = None,
    secret: str | None = None,
    recovery: tuple[str, ...] = (),
) -> Response:
    principal, site = principal_of(request), site_of(request)
    square = None
    if secret is not None:
        uri = totp_uri(secret, principal.name, request.url.netloc)
        # Ours from the first letter to the last: segno draws, it does not quote.
        square = Markup(
            segno.make(uri, micro=False).svg_inline(omitsize=True, dark="#000", light="#fff")
        )
    return page(
        request,
        "account.html",
        status=200 if error is None else 422,
        account=await site.store.user(principal.name),
        sign_ins=[
            each
            for each in await site.store.sign_ins(principal.name)
            if each.holds(site.clock.now())
        ],
        languages=LANGUAGES,
        error=error,
        secret=secret,
        square=square,
        recovery=recovery,
    )
