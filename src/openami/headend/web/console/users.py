"""Users and API tokens: for engineers of every feeder; a change wants the password again."""

import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from openami.headend.accounts import Role
from openami.headend.accounts.credentials import INVITE_HOURS, TOKEN_DAYS, made_token
from openami.headend.accounts.users import (
    AccountError,
    User,
    UserChange,
    checked_name,
    chosen_scope,
    disabled,
    enabled,
    role_named,
    with_role,
    without_second_factor,
)
from openami.headend.audit import Entry
from openami.headend.links import new_invite
from openami.headend.store.accounts import DecideUser
from openami.headend.web.admission import declares, principal_of
from openami.headend.web.console.rendering import page
from openami.headend.web.problems import Problem
from openami.headend.web.site import site_of

router: Final = APIRouter(include_in_schema=False)
Field = Annotated[str, Form()]
Fields = Annotated[list[str] | None, Form()]


@router.get("/users")
@declares(Role.ENGINEER)
async def users(request: Request) -> Response:
    return await _shown(request)


@router.post("/users")
@declares(Role.ENGINEER, step_up=True)
async def add_user(
    request: Request, name: Field = "", role: Field = "", scope: Field = "", feeders: Fields = None
) -> Response:
    _refuse_narrow(request)
    site, who = site_of(request), principal_of(request).name
    now = site.clock.now()
    try:
        user = User(
            name=checked_name(name),
            role=role_named(role),
            feeders=chosen_scope(scope, feeders or ()),
            created_at=now,
            created_by=who,
        )
        entry = Entry(who=who, what=f"user {user.name} added", result=user.role.word)
        if not await site.store.add_user(user, entry):
            raise AccountError(f"there is a user {user.name} already", "choose another name")
    except AccountError as error:
        return await _shown(request, error=error)
    return await _invited(request, user.name)


@router.post("/users/{name}/link")
@declares(Role.ENGINEER, step_up=True)
async def new_link(request: Request, name: str) -> Response:
    """Make a link with which somebody chooses a new password: for who has forgotten theirs."""
    _refuse_narrow(request)
    if await site_of(request).store.user(name) is None:
        raise Problem.not_found(f"there is no user {name}")
    return await _invited(request, name)


async def _invited(request: Request, name: str) -> Response:
    site = site_of(request)
    path = await new_invite(site.store, name, who=principal_of(request).name, now=site.clock.now())
    link = f"{request.url.scheme}://{request.url.netloc}{path}"
    return await _shown(request, invited=name, invite_link=link)


@router.post("/users/{name}/role")
@declares(Role.ENGINEER, step_up=True)
async def change_role(
    request: Request, name: str, role: Field = "", scope: Field = "", feeders: Fields = None
) -> Response:
    try:
        given, chosen = role_named(role), chosen_scope(scope, feeders or ())
    except AccountError as error:
        return await _shown(request, error=error)
    who = principal_of(request).name
    return await _changed(
        request, name, lambda user, others: with_role(user, given, chosen, others=others, who=who)
    )


@router.post("/users/{name}/disable")
@declares(Role.ENGINEER, step_up=True)
async def disable(request: Request, name: str) -> Response:
    who, now = principal_of(request).name, site_of(request).clock.now()
    return await _changed(
        request, name, lambda user, others: disabled(user, others=others, now=now, who=who)
    )


@router.post("/users/{name}/totp/remove")
@declares(Role.ENGINEER, step_up=True)
async def remove_second_factor(request: Request, name: str) -> Response:
    """Take away a second factor whose phone and recovery codes are gone."""
    who = principal_of(request).name
    return await _changed(request, name, lambda user, _: without_second_factor(user, who=who))


@router.post("/users/{name}/enable")
@declares(Role.ENGINEER, step_up=True)
async def enable(request: Request, name: str) -> Response:
    who = principal_of(request).name

    def decide(user: User, _: int) -> UserChange | None:
        return enabled(user, who=who)

    return await _changed(request, name, decide)


async def _changed(request: Request, name: str, decide: DecideUser) -> Response:
    _refuse_narrow(request)
    site = site_of(request)
    try:
        if await site.store.change_user(name, decide, site.clock.now()) is None:
            raise Problem.not_found(f"there is no user {name}")
    except AccountError as error:
        return await _shown(request, error=error)
    return RedirectResponse("/users", status_code=303)


# --- tokens --------------------------------------------------------------------------------------


@router.post("/tokens")
@declares(Role.ENGINEER, step_up=True)
async def create_token(
    request: Request,
    label: Field = "",
    role: Field = "",
    days: Annotated[int, Form()] = TOKEN_DAYS,
    scope: Field = "",
    feeders: Fields = None,
    relays: Field = "",
    accounts: Field = "",
) -> Response:
    _refuse_narrow(request)
    site, who = site_of(request), principal_of(request).name
    try:
        token, text = made_token(
            secrets.token_bytes,
            label=label,
            role=role_named(role),
            feeders=chosen_scope(scope, feeders or ()),
            life=timedelta(days=days),
            now=site.clock.now(),
            who=who,
            relays=relays == "yes",
            accounts=accounts == "yes",
        )
    except AccountError as error:
        return await _shown(request, error=error)
    await site.store.add_token(token, token.entry_of_making())
    return await _shown(request, token=token, token_text=text)


@router.post("/tokens/{token_id}/revoke")
@declares(Role.ENGINEER, step_up=True)
async def revoke_token(request: Request, token_id: str) -> Response:
    _refuse_narrow(request)
    site = site_of(request)
    entry = Entry(who=principal_of(request).name, what=f"{token_id} revoked", result="done")
    await site.store.revoke_token(token_id, entry, site.clock.now())
    return RedirectResponse("/users", status_code=303)


def _refuse_narrow(request: Request) -> None:
    """Raise Problem for an engineer of some feeders: the accounts they made could see the others."""
    if principal_of(request).feeders is not None:
        raise Problem.accounts_are_for_all_feeders()


async def _shown(
    request: Request,
    *,
    error: AccountError | None = None,
    invited: str | None = None,
    invite_link: str | None = None,
    **told: object,
) -> Response:
    _refuse_narrow(request)
    store = site_of(request).store
    feeders: Sequence[str] = [row.feeder_id for row in await store.feeders()]
    return page(
        request,
        "users.html",
        status=200 if error is None else 422,
        users=await store.users(),
        tokens=await store.tokens(),
        roles=[role.word for role in Role],
        feeders=feeders,
        error=error,
        invited=invited,
        invite_link=invite_link,
        invite_hours=INVITE_HOURS,
        token_days=TOKEN_DAYS,
        **{"token": None, "token_text": None, **told},
    )
