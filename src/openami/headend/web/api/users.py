"""``/users``: who may sign in, with which role, on which feeders."""

from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Path
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.accounts import Role
from openami.headend.accounts.credentials import INVITE_HOURS
from openami.headend.accounts.users import (
    NAME_CHARS_MAX,
    AccountError,
    UserChange,
    disabled,
    enabled,
    with_role,
    without_second_factor,
)
from openami.headend.accounts.users import User as Account
from openami.headend.audit import Entry
from openami.headend.links import new_invite
from openami.headend.store.accounts import DecideUser
from openami.headend.web.admission import declares, principal_of
from openami.headend.web.api.account_changes import (
    refuse_by_token,
    require_every_feeder,
    require_may_change,
)
from openami.headend.web.api.edge import ApiRoute, may_refuse
from openami.headend.web.api.etags import ETAG_HEADER, NOT_MODIFIED, answer, check_unchanged
from openami.headend.web.api.forms import (
    LIMIT_DEFAULT,
    Asked,
    Cursor,
    IfMatch,
    IfNoneMatch,
    Limit,
    Moment,
    Resource,
    RoleAsked,
    RoleWord,
    Scope,
    role_of,
    scope_of,
    scope_told,
)
from openami.headend.web.api.paging import NEXT_LINK, Page, in_memory, key_of, page_answer
from openami.headend.web.problems import Problem
from openami.headend.web.site import site_of

router = APIRouter(route_class=ApiRoute, tags=["users"])

_NAME: Final = r"^[a-z0-9][a-z0-9._@+-]*$"
UserName = Annotated[
    str,
    Path(alias="name", pattern=_NAME, max_length=NAME_CHARS_MAX, description="The account's name."),
]


class User(Resource):
    """One person's account; nothing of it is secret."""

    name: str
    role: RoleWord
    feeders: list[str] | None = Field(description="The feeders they see and touch; null for all.")
    can_sign_in: bool = Field(
        description="Whether there is a password, and the account is in force."
    )
    second_factor: bool = Field(description="Whether a code is asked for beside the password.")
    created_at: Moment
    created_by: str
    disabled_at: Moment | None

    @classmethod
    def of(cls, account: Account) -> "User":
        """Return an account as it is told."""
        return cls(**_members(account))


def _members(account: Account) -> dict[str, Any]:
    return {
        "name": account.name,
        "role": RoleWord(account.role.word),
        "feeders": scope_told(account.feeders),
        "can_sign_in": account.can_sign_in,
        "second_factor": account.totp_secret is not None,
        "created_at": account.created_at,
        "created_by": account.created_by,
        "disabled_at": account.disabled_at,
    }


class UserInvited(User):
    """An account, and the link with which its owner chooses a password."""

    link: str = Field(description="Opens once; give it to them and to nobody else.")
    link_expires_at: Moment


class UserRole(Asked):
    """What somebody may do, and where."""

    role: RoleAsked
    feeders: Scope


class NewUser(UserRole):
    """An account to be made."""

    name: Annotated[
        str,
        Field(
            pattern=_NAME, max_length=NAME_CHARS_MAX, description="Small letters; an address fits."
        ),
    ]


@router.get("/users", response_model=Page[User], responses={200: {"headers": NEXT_LINK}})
@declares(Role.ENGINEER)
async def list_users(
    request: Request, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
) -> Response:
    """List accounts by name; for engineers of every feeder."""
    require_every_feeder(request)
    after = key_of("users", cursor, (str,))
    rows = (((each.name,), each) for each in await site_of(request).store.users())
    page, last = in_memory(rows, after, limit)
    return page_answer(request, "users", [User.of(each) for each in page], last)


@router.get(
    "/users/{name}",
    response_model=User,
    responses={200: {"headers": ETAG_HEADER}, **NOT_MODIFIED, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.ENGINEER)
async def show_user(request: Request, name: UserName, _: IfNoneMatch = None) -> Response:
    """Show one account."""
    require_every_feeder(request)
    return answer(request, User.of(await _found(request, name)))


@router.post(
    "/users",
    status_code=HTTPStatus.CREATED,
    response_model=UserInvited,
    responses={201: {"headers": ETAG_HEADER}, **may_refuse(HTTPStatus.CONFLICT)},
)
@declares(Role.ENGINEER)
async def add_user(request: Request, asked: Annotated[NewUser, Body()]) -> Response:
    """Make an account, and a link with which its owner chooses a password: nobody else ever knows it.

    Needs a step-up, or a token made with `--accounts`, which makes no engineers.
    """
    require_may_change(request)
    role = role_of(asked.role)
    refuse_by_token(request, role)
    site, who = site_of(request), principal_of(request).name
    account = Account(
        name=asked.name,
        role=role,
        feeders=scope_of(asked.feeders),
        created_at=site.clock.now(),
        created_by=who,
    )
    entry = Entry(who=who, what=f"user {account.name} added", result=role.word)
    if not await site.store.add_user(account, entry):
        raise Problem(HTTPStatus.CONFLICT, "name-taken", f"there is a user {account.name} already")
    return await _invited(request, account, HTTPStatus.CREATED)


@router.post(
    "/users/{name}/link",
    response_model=UserInvited,
    responses={200: {"headers": ETAG_HEADER}, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.ENGINEER)
async def invite_user(request: Request, name: UserName) -> Response:
    """Make a link with which somebody chooses a new password: for who has forgotten theirs."""
    require_may_change(request)
    found = await _found(request, name)
    refuse_by_token(request, found.role)
    return await _invited(request, found, HTTPStatus.OK)


async def _invited(request: Request, account: Account, status: HTTPStatus) -> Response:
    site = site_of(request)
    now = site.clock.now()
    path = await new_invite(site.store, account.name, who=principal_of(request).name, now=now)
    told = UserInvited(
        **_members(account),
        link=f"{request.url.scheme}://{request.url.netloc}{path}",
        link_expires_at=now + timedelta(hours=INVITE_HOURS),
    )
    location = f"{request.url.path}/{account.name}" if status is HTTPStatus.CREATED else None
    return answer(request, told, status=status, location=location)


_CHANGES: Final = may_refuse(
    HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED
)


@router.put(
    "/users/{name}/role",
    response_model=User,
    responses={200: {"headers": ETAG_HEADER}, **_CHANGES},
)
@declares(Role.ENGINEER)
async def change_role(
    request: Request,
    name: UserName,
    asked: Annotated[UserRole, Body()],
    if_match: IfMatch = None,
) -> Response:
    """Give another role or scope; their sign-ins end with it."""
    given, scope, who = role_of(asked.role), scope_of(asked.feeders), principal_of(request).name
    refuse_by_token(request, given)
    return await _changed(
        request,
        name,
        if_match,
        lambda user, others: with_role(user, given, scope, others=others, who=who),
    )


@router.post(
    "/users/{name}/disable",
    response_model=User,
    responses={200: {"headers": ETAG_HEADER}, **_CHANGES},
)
@declares(Role.ENGINEER)
async def disable_user(request: Request, name: UserName, if_match: IfMatch = None) -> Response:
    """Put an account out of force, at once; every sign-in of theirs ends."""
    who, now = principal_of(request).name, site_of(request).clock.now()
    return await _changed(
        request,
        name,
        if_match,
        lambda user, others: disabled(user, others=others, now=now, who=who),
    )


@router.post(
    "/users/{name}/enable",
    response_model=User,
    responses={200: {"headers": ETAG_HEADER}, **_CHANGES},
)
@declares(Role.ENGINEER)
async def enable_user(request: Request, name: UserName, if_match: IfMatch = None) -> Response:
    """Put an account into force again."""
    who = principal_of(request).name
    return await _changed(request, name, if_match, lambda user, _: enabled(user, who=who))


@router.post(
    "/users/{name}/remove-second-factor",
    response_model=User,
    responses={200: {"headers": ETAG_HEADER}, **_CHANGES},
)
@declares(Role.ENGINEER)
async def remove_second_factor(
    request: Request, name: UserName, if_match: IfMatch = None
) -> Response:
    """Take away a second factor whose phone and recovery codes are gone."""
    who = principal_of(request).name
    return await _changed(
        request, name, if_match, lambda user, _: without_second_factor(user, who=who)
    )


async def _changed(
    request: Request, name: str, if_match: str | None, decide: DecideUser
) -> Response:
    require_may_change(request)
    found = await _found(request, name)
    check_unchanged(if_match, User.of(found))

    def decided(user: Account, others: int) -> UserChange | None:
        refuse_by_token(request, user.role)
        return decide(user, others)

    try:
        after = await site_of(request).store.change_user(
            name, decided, site_of(request).clock.now()
        )
    except AccountError as error:
        raise Problem(
            HTTPStatus.CONFLICT, "last-engineer", str(error), remedy=error.remedy
        ) from None
    assert after is not None, "an account is never deleted"
    return answer(request, User.of(after))


async def _found(request: Request, name: str) -> Account:
    found = await site_of(request).store.user(name)
    if found is None:
        raise Problem.not_found(f"there is no user {name}")
    return found
