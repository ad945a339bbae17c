"""Who somebody is, shown on the command line as at the console: by an account's password, and a code if it has one.

The machine's user would not do where two people are asked for: its names are not the console's, and whoever may
write to the store may call themselves as they like.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from openami.cli.logs import configure_logs
from openami.cli.passwords import password_file_option, read_password
from openami.cli.report import Exit, fail
from openami.clock import SystemClock
from openami.headend.accounts import Means, Principal, Role
from openami.headend.accounts.passwords import Argon2Hasher
from openami.headend.accounts.users import User
from openami.headend.store.commands import HeadEndStore
from openami.profile import utc_text

_Command = TypeVar("_Command", bound=Callable[..., Any])
# Attempts are counted by account and address; whoever sits at this machine is one address.
_ADDRESS: Final = "command line"

_options: Final = (
    click.option("--as", "name", metavar="NAME", required=True, help="Your account's name."),
    password_file_option,
    click.option("--code", metavar="CODE", default="", help="The second factor's, if it has one."),
)


@dataclass(frozen=True, slots=True)
class Shown:
    """What somebody shows of themselves."""

    name: str
    password: str
    code: str


def shows_account(command: _Command) -> _Command:
    """Give a command the options by which a person shows who they are."""
    for option in reversed(_options):
        command = option(command)
    return command


def shown(name: str, password_file: Path | None, code: str) -> Shown:
    """Return what the options of ``shows_account`` show; asks a terminal for what they do not."""
    if password_file is not None:
        return Shown(name, read_password(password_file), code)
    if not sys.stdin.isatty():
        raise click.UsageError("a password is typed at a terminal, or read from a --password-file")
    return Shown(name, click.prompt(f"Password of {name}", hide_input=True, err=True), code)


async def proved(store: HeadEndStore, person: Shown, role: Role, feeder_id: str) -> Principal:
    """Return who it is, if they are believed and may do this on this feeder; otherwise the command ends with 4."""
    from openami.headend.web.doorkeeper import AccountsDoorkeeper
    from openami.headend.web.sign_in_desk import SignInDesk

    configure_logs()  # the desk logs who guesses, and stdout is for data
    clock = SystemClock()
    desk = SignInDesk(store, clock, AccountsDoorkeeper(store, clock), Argon2Hasher())
    try:
        user = await desk.prove(person.name, person.password, person.code, _ADDRESS)
    finally:
        desk.close()
    if not isinstance(user, User):
        if user.until is not None:
            fail("too many attempts", Exit.REFUSED, f"try again after {utc_text(user.until)}")
        fail(
            "not believed: the name, the password or the --code is wrong",
            Exit.REFUSED,
            "`openami user list` names the accounts, and which of them have a code",
        )
    principal = Principal(user.name, user.role, Means.SIGN_IN, user.feeders, clock.now())
    if not principal.may(role):
        fail(f"{user.name} is {user.role.word}, and this needs {role.word}", Exit.REFUSED)
    if not principal.sees(feeder_id):
        fail(f"{feeder_id} is none of the feeders of {user.name}", Exit.REFUSED)
    return principal
