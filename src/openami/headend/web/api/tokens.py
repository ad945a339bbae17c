"""``/tokens``: what programs show this API."""

import secrets
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.accounts import Means, Role
from openami.headend.accounts.credentials import (
    LABEL_CHARS_MAX,
    TOKEN_DAYS,
    TOKEN_DAYS_MAX,
    made_token,
)
from openami.headend.accounts.credentials import Token as Kept
from openami.headend.accounts.users import AccountError
from openami.headend.audit import Entry
from openami.headend.web.admission import declares, principal_of
from openami.headend.web.api.account_changes import (
    refuse_by_token,
    require_every_feeder,
    require_may_change,
)
from openami.headend.web.api.edge import ApiRoute, may_refuse
from openami.headend.web.api.etags import ETAG_HEADER, answer
from openami.headend.web.api.forms import (
    AS_WHOLE,
    ID,
    LIMIT_DEFAULT,
    ONE_LINE,
    Asked,
    Cursor,
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
from openami.headend.web.refusals import invalid
from openami.headend.web.site import site_of

router = APIRouter(route_class=ApiRoute, tags=["tokens"])

TokenId = Annotated[str, Path(alias="tokenId", pattern=ID, description="The token's id.")]


class Token(Resource):
    """A program's permission; not the token itself, which is kept nowhere."""

    id: str
    label: str = Field(description="What uses it.")
    role: RoleWord
    feeders: list[str] | None = Field(description="The feeders it sees and touches; null for all.")
    relays: bool = Field(description="Whether it was made to order relays.")
    accounts: bool = Field(description="Whether it was made to change accounts and tokens.")
    created_at: Moment
    created_by: str
    expires_at: Moment
    used_at: Moment | None = Field(description="When it was last used, to five minutes.")
    revoked_at: Moment | None

    @classmethod
    def of(cls, token: Kept) -> "Token":
        """Return a token as it is told."""
        return cls(**_members(token))


def _members(token: Kept) -> dict[str, Any]:
    return {
        "id": token.id,
        "label": token.label,
        "role": RoleWord(token.role.word),
        "feeders": scope_told(token.feeders),
        "relays": token.relays,
        "accounts": token.accounts,
        "created_at": token.created_at,
        "created_by": token.created_by,
        "expires_at": token.expires_at,
        "used_at": token.used_at,
        "revoked_at": token.revoked_at,
    }


class TokenMade(Token):
    """A token that was just made, with its text."""

    token: str = Field(description="Shown now and never again.")


class NewToken(Asked):
    """A token to be made."""

    label: Annotated[
        str,
        Field(
            pattern=ONE_LINE, min_length=1, max_length=LABEL_CHARS_MAX, description="What uses it."
        ),
    ]
    role: RoleAsked
    feeders: Scope
    days: Annotated[int, Field(ge=1, le=TOKEN_DAYS_MAX), AS_WHOLE] = Field(
        default=TOKEN_DAYS, description="How long it holds."
    )
    relays: bool = Field(default=False, description="It may order relays.")
    accounts: bool = Field(
        default=False, description="It may change accounts and tokens below an engineer's."
    )


@router.get("/tokens", response_model=Page[Token], responses={200: {"headers": NEXT_LINK}})
@declares(Role.ENGINEER)
async def list_tokens(
    request: Request, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
) -> Response:
    """List tokens by their ids, those that ended within the last quarter, too; for engineers of every feeder."""
    require_every_feeder(request)
    after = key_of("tokens", cursor, (str,))
    rows = (((each.id,), each) for each in await site_of(request).store.tokens())
    page, last = in_memory(rows, after, limit)
    return page_answer(request, "tokens", [Token.of(each) for each in page], last)


@router.post(
    "/tokens",
    status_code=HTTPStatus.CREATED,
    response_model=TokenMade,
    responses={201: {"headers": ETAG_HEADER}},
)
@declares(Role.ENGINEER)
async def create_token(request: Request, asked: Annotated[NewToken, Body()]) -> Response:
    """Make a token. Needs a step-up, or a token made with `--accounts`.

    A token makes none that may do more than itself, nor one that makes others.
    """
    require_may_change(request)
    principal, site = principal_of(request), site_of(request)
    role = role_of(asked.role)
    refuse_by_token(request, role)
    if principal.means is Means.TOKEN and asked.relays and not principal.relays:
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "step-up-needed",
            "a token that may not order relays makes none that may",
            remedy="let an engineer make it on the console",
        )
    try:
        made, text = made_token(
            secrets.token_bytes,
            label=asked.label,
            role=role,
            feeders=scope_of(asked.feeders),
            life=timedelta(days=asked.days),
            now=site.clock.now(),
            who=principal.name,
            relays=asked.relays,
            accounts=asked.accounts,
        )
    except AccountError as error:
        raise invalid([{"in": "body", "detail": f"{error}: {error.remedy}"}]) from None
    await site.store.add_token(made, made.entry_of_making())
    return answer(request, TokenMade(**_members(made), token=text), status=HTTPStatus.CREATED)


@router.post(
    "/tokens/{tokenId}/revoke",
    response_model=Token,
    responses={
        200: {"headers": ETAG_HEADER},
        **may_refuse(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    },
)
@declares(Role.ENGINEER)
async def revoke_token(request: Request, token_id: TokenId) -> Response:
    """Put a token out of force, at once."""
    require_may_change(request)
    site = site_of(request)
    refuse_by_token(request, (await _found(request, token_id)).role)
    entry = Entry(who=principal_of(request).name, what=f"{token_id} revoked", result="done")
    if not await site.store.revoke_token(token_id, entry, site.clock.now()):
        raise Problem(HTTPStatus.CONFLICT, "ended-already", f"{token_id} is not in force")
    return answer(request, Token.of(await _found(request, token_id)))


async def _found(request: Request, token_id: str) -> Kept:
    for each in await site_of(request).store.tokens():
        if each.id == token_id:
            return each
    raise Problem.not_found(f"there is no token {token_id}")
