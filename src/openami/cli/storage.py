"""What the commands that read the head-end's store share: opening it, and failing plainly."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import click

from openami.cli.report import Exit, fail
from openami.headend.config import ConfigError, read_catalogue
from openami.headend.store import Access, StoreError
from openami.profile import RegisterCatalogue, shipped_catalogue

if TYPE_CHECKING:  # who only wants the register list needs no library that signs
    from openami.headend.store.commands import HeadEndStore

_Result = TypeVar("_Result")


def with_store(
    url: str, action: Callable[["HeadEndStore"], Awaitable[_Result]], access: Access = Access.READ
) -> _Result:
    """Run an action on the open store; a store that fails ends the command with a sentence."""

    from openami.headend.store.open import open_store

    async def run() -> _Result:
        async with open_store(url, access) as store:
            return await action(store)

    try:
        return asyncio.run(run())
    except StoreError as error:
        fail_for_store(error)


def fail_for_store(error: StoreError) -> NoReturn:
    """End the command: 2 when the address or the place is wrong, 3 when it cannot be reached."""
    fail(str(error), Exit.USAGE if error.permanent else Exit.CANNOT_CONNECT, error.remedy)


def catalogue_of(registers: str | None) -> RegisterCatalogue:
    """Return the register list of ``--registers``, ours without one; a bad file ends the command."""
    if registers is None:
        return shipped_catalogue()
    try:
        return read_catalogue(Path(registers))
    except ConfigError as error:
        fail(str(error), Exit.USAGE)


registers_option = click.option(
    "--registers",
    metavar="FILE",
    help="The register list (VMRS) to judge by, instead of the one that ships.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
