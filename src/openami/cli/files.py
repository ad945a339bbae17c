"""Options and arguments that name files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])

A_PATH: Final = click.Path(path_type=Path)
"""Whatever is there, or is to be."""
A_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
"""A file that is there."""


def config_option(
    tells: str, *, name: str = "config_file", required: bool = False
) -> Callable[[_Command], _Command]:
    """Return the option ``-c``; ``tells`` is its help, ``name`` the argument the command gets it as."""
    return click.option(
        "-c", "--config", name, required=required, metavar="FILE", type=A_PATH, help=tells
    )
