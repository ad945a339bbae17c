"""``openami user``: who may use the console. For who has the store's file anyway; each change is audited."""

from pathlib import Path
from typing import NoReturn

import click

from openami.cli.command_rows import text_of, who_asks
from openami.cli.options import store_option
from openami.cli.passwords import hashed_password, password_file_option
from openami.cli.report import Exit, fail, print_json, say
from openami.cli.rows import Row, print_rows
from openami.cli.storage import json_option, with_store
from openami.clock import SystemClock
from openami.headend.accounts import Role
from openami.headend.accounts.credentials import INVITE_HOURS
from openami.headend.accounts.users import (
    AccountError,
    User,
    UserChange,
    checked_feeders,
    checked_name,
    disabled,
    enabled,
    role_named,
    with_password,
    without_second_factor,
)
from openami.headend.audit import Entry
from openami.headend.links import new_invite
from openami.headend.store import Access
from openami.headend.store.accounts import DecideUser
from openami.headend.store.commands import HeadEndStore
from openami.profile import utc_text

_LIST = ("name", "role", "feeders", "signsIn", "createdAt", "disabledAt")

role_option = click.option(
    "--role",
    type=click.Choice([role.word for role in Role]),
    required=True,
    help="What it may do; each may do what the one before may.",
)
feeder_option = click.option(
    "--feeder", "feeders", metavar="F", multiple=True, help="Only this feeder (repeatable)."
)


@click.group()
def user() -> None:
    """Users of the console: viewers, operators, engineers."""


@user.command()
@click.argument("name")
@role_option
@feeder_option
@password_file_option
@click.option("--link", is_flag=True, help="Print a one-time link: they choose the password.")
@store_option
@json_option
def add(
    name: str,
    role: str,
    feeders: tuple[str, ...],
    password_file: Path | None,
    link: bool,
    store: str,
    as_json: bool,
) -> None:
    """Make an account; its password is typed, read from a file, or chosen by its owner with a link.

    Exit code 4 when there is one of that name.
    """
    if link and password_file is not None:
        raise click.UsageError("give either --link or a --password-file")
    now, who = SystemClock().now(), who_asks()
    try:
        name = checked_name(name)
        scope = checked_feeders(feeders)
    except AccountError as error:
        fail(str(error), Exit.USAGE, error.remedy)
    made = User(
        name=name,
        role=role_named(role),
        feeders=scope,
        password=None if link else hashed_password(name, password_file),
        created_at=now,
        created_by=who,
    )
    entry = Entry(who=who, what=f"user {name} added", result=role)

    async def run(opened: HeadEndStore) -> str | None:
        if not await opened.add_user(made, entry):
            fail(f"there is a user {name} already", Exit.REFUSED, "`openami user list`")
        return await new_invite(opened, name, who=who, now=now) if link else None

    path = with_store(store, run, Access.EDIT)
    _print(made, path, as_json)


@user.command("list")
@store_option
@json_option
def list_users(store: str, as_json: bool) -> None:
    """List the accounts."""

    async def read(opened: HeadEndStore) -> list[User]:
        return list(await opened.users())

    rows = [user_row(each) for each in with_store(store, read)]
    print_rows(rows, _LIST, as_json=as_json)


@user.command()
@click.argument("name")
@password_file_option
@click.option("--link", is_flag=True, help="Print a one-time link: they choose the password.")
@click.option(
    "--without-second-factor", is_flag=True, help="Take it away, too: phone and codes are lost."
)
@store_option
@json_option
def passwd(
    name: str,
    password_file: Path | None,
    link: bool,
    without_second_factor: bool,
    store: str,
    as_json: bool,
) -> None:
    """Give an account another password; every sign-in of it ends. A disabled one is in force again."""
    if link and password_file is not None:
        raise click.UsageError("give either --link or a --password-file")
    now, who = SystemClock().now(), who_asks()
    name = name.strip().lower()
    hashed = None if link else hashed_password(name, password_file)
    steps: list[DecideUser] = [lambda found, _: enabled(found, who=who)]
    if without_second_factor:
        steps.append(lambda found, _: _without_factor(found, who))
    if hashed is not None:
        steps.append(lambda found, _: with_password(found, hashed, who=who))

    async def run(opened: HeadEndStore) -> tuple[User, str | None]:
        found = None
        for decide in steps:
            found = await opened.change_user(name, decide, now)
        if found is None:
            _fail_for_unknown(name)
        return found, await new_invite(opened, name, who=who, now=now) if link else None

    found, path = with_store(store, run, Access.EDIT)
    _print(found, path, as_json)


def _without_factor(found: User, who: str) -> UserChange | None:
    return without_second_factor(found, who=who)


@user.command()
@click.argument("name")
@store_option
@json_option
def disable(name: str, store: str, as_json: bool) -> None:
    """Put an account out of force; every sign-in of it ends. Exit code 4 for the last engineer."""
    now, who = SystemClock().now(), who_asks()

    async def run(opened: HeadEndStore) -> User:
        try:
            found = await opened.change_user(
                name.strip().lower(),
                lambda each, others: disabled(each, others=others, now=now, who=who),
                now,
            )
        except AccountError as error:
            fail(str(error), Exit.REFUSED, error.remedy)
        if found is None:
            _fail_for_unknown(name)
        return found

    _print(with_store(store, run, Access.EDIT), None, as_json)


def user_row(each: User) -> Row:
    """One account, without anything secret."""
    if each.disabled_at is not None:
        signs_in = "disabled"
    elif each.password is None:
        signs_in = "has no password yet"
    else:
        signs_in = "password" if each.totp_secret is None else "password and code"
    return {
        "name": each.name,
        "role": each.role.word,
        "feeders": None if each.feeders is None else sorted(each.feeders),
        "signsIn": signs_in,
        "language": each.language,
        "createdAt": utc_text(each.created_at),
        "createdBy": each.created_by,
        "disabledAt": text_of(each.disabled_at),
    }


def _print(each: User, path: str | None, as_json: bool) -> None:
    row = user_row(each)
    if path is not None:
        row["link"] = path
    if as_json:
        print_json(row)
        return
    click.echo(f"{each.name}  {each.role.word}  {row['signsIn']}")
    if path is not None:
        click.echo(path)
        say(f"put the console's address before it; opens once, within {INVITE_HOURS} h")


def _fail_for_unknown(name: str) -> NoReturn:
    fail(f"there is no user {name}", Exit.FAILED, "`openami user list` names those there are")
