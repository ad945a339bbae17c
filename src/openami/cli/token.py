"""``openami token``: what programs show the API, as ``Authorization: Bearer oami_…``."""

import secrets
from datetime import timedelta

import click

from openami.cli.command_rows import text_of, who_asks
from openami.cli.durations import as_duration
from openami.cli.options import store_option
from openami.cli.report import Exit, fail, print_json, say
from openami.cli.rows import Row, print_rows
from openami.cli.storage import json_option, with_store
from openami.cli.user import feeder_option, role_option
from openami.clock import SystemClock
from openami.headend.accounts.credentials import TOKEN_DAYS, TOKEN_DAYS_MAX, Token, made_token
from openami.headend.accounts.users import AccountError, checked_feeders, role_named
from openami.headend.audit import Entry
from openami.headend.store import Access
from openami.headend.store.commands import HeadEndStore
from openami.profile import utc_text

_LIST = ("id", "label", "role", "feeders", "expiresAt", "usedAt", "revokedAt")


@click.group()
def token() -> None:
    """API tokens: for billing, for a dashboard, for whatever asks by itself."""


@token.command()
@click.argument("label")
@role_option
@feeder_option
@click.option(
    "--for",
    "life",
    metavar="TIME",
    default=f"{TOKEN_DAYS}d",
    show_default=True,
    callback=as_duration,
    help=f"How long it holds, {TOKEN_DAYS_MAX}d at most.",
)
@click.option(
    "--relays",
    is_flag=True,
    help="It may order relays and settlements: whoever has it cuts houses off.",
)
@click.option(
    "--accounts",
    is_flag=True,
    help="It may make and change accounts and tokens below an engineer's, through the API.",
)
@store_option
@json_option
def create(
    label: str,
    role: str,
    feeders: tuple[str, ...],
    life: timedelta,
    relays: bool,
    accounts: bool,
    store: str,
    as_json: bool,
) -> None:
    """Make a token and print it, once: only its hash is kept. LABEL says what uses it."""
    try:
        made, text = made_token(
            secrets.token_bytes,
            label=label,
            role=role_named(role),
            feeders=checked_feeders(feeders),
            life=life,
            now=SystemClock().now(),
            who=who_asks(),
            relays=relays,
            accounts=accounts,
        )
    except AccountError as error:
        fail(str(error), Exit.USAGE, error.remedy)

    async def run(opened: HeadEndStore) -> None:
        await opened.add_token(made, made.entry_of_making())

    with_store(store, run, Access.EDIT)
    if as_json:
        print_json({**token_row(made), "token": text})
        return
    click.echo(text)
    say(f"{made.id}, {role}, until {made.expires_at:%Y-%m-%d}; it is not shown again")


@token.command("list")
@store_option
@json_option
def list_tokens(store: str, as_json: bool) -> None:
    """List the tokens, newest first; those that ended within the last quarter, too."""

    async def read(opened: HeadEndStore) -> list[Token]:
        return list(await opened.tokens())

    rows = [token_row(each) for each in with_store(store, read)]
    print_rows(rows, _LIST, as_json=as_json)


@token.command()
@click.argument("token_id", metavar="ID")
@store_option
def revoke(token_id: str, store: str) -> None:
    """Put a token out of force, at once. Exit code 1 when there is none of that id in force."""
    now = SystemClock().now()
    entry = Entry(who=who_asks(), what=f"{token_id} revoked", result="done")

    async def run(opened: HeadEndStore) -> bool:
        return await opened.revoke_token(token_id, entry, now)

    if not with_store(store, run, Access.EDIT):
        fail(f"there is no token {token_id} in force", Exit.FAILED, "`openami token list`")
    say(f"{token_id}: revoked")


def token_row(each: Token) -> Row:
    """One token, without anything secret."""
    return {
        "id": each.id,
        "relays": each.relays,
        "accounts": each.accounts,
        "label": each.label,
        "role": each.role.word,
        "feeders": None if each.feeders is None else sorted(each.feeders),
        "createdAt": utc_text(each.created_at),
        "createdBy": each.created_by,
        "expiresAt": utc_text(each.expires_at),
        "usedAt": text_of(each.used_at),
        "revokedAt": text_of(each.revoked_at),
    }
