"""Passwords on the command line: typed twice at a terminal, or read from a file; never an argument."""

import sys
from pathlib import Path
from typing import Final

import click

from openami.cli.files import A_PATH
from openami.cli.report import Exit, fail
from openami.headend.accounts.passwords import Argon2Hasher
from openami.headend.accounts.users import PASSWORD_CHARS_MAX, AccountError, checked_password

# The longest password in the widest letters, and a line's end.
_FILE_BYTES_MAX: Final = 4 * PASSWORD_CHARS_MAX + 2

password_file_option = click.option(
    "--password-file",
    metavar="FILE",
    type=A_PATH,
    help="A file with the password and nothing else; without it a terminal is asked.",
)


def hashed_password(name: str, file: Path | None) -> str:
    """Return the hash of a password that was chosen for a user; a bad one ends the command."""
    if file is None and not sys.stdin.isatty():
        raise click.UsageError("a password is typed at a terminal, or read from a --password-file")
    text = _typed(name) if file is None else read_password(file)
    try:
        return Argon2Hasher().hash(checked_password(text, name=name))
    except AccountError as error:
        fail(str(error), Exit.USAGE, error.remedy)


def _typed(name: str) -> str:
    typed: str = click.prompt(
        f"New password of {name}", hide_input=True, confirmation_prompt=True, err=True
    )
    return typed


def read_password(file: Path) -> str:
    """Return the password a file holds; one that cannot be read ends the command."""
    try:
        with file.open("rb") as opened:
            return opened.read(_FILE_BYTES_MAX).decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        fail(f"{file}: {error.strerror}", Exit.USAGE)
    except UnicodeDecodeError:
        fail(f"{file} is no text in UTF-8", Exit.USAGE)
