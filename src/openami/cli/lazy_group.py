"""A group whose commands are imported when they are asked for, so that each needs only its own libraries."""

import gc
import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click


class LazyGroup(click.Group):
    """A group that knows where its commands live: ``module:attribute`` below this package, by name."""

    def __init__(self, *args: Any, places: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self._places, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = self._places.get(cmd_name)
        if place is None:
            return super().get_command(ctx, cmd_name)
        module, attribute = place.split(":")
        try:
            with _all_of_it_stays():
                command = getattr(importlib.import_module(f"openami.cli.{module}"), attribute)
        except ModuleNotFoundError as missing:
            if missing.name is None or missing.name.split(".")[0] == "openami":
                raise
            raise click.ClickException(
                f"`{ctx.command_path} {cmd_name}` needs {missing.name}, which is not installed: "
                "pip install 'openami[all]'"
            ) from None
        assert isinstance(command, click.Command)
        return command


@contextmanager
def _all_of_it_stays() -> Iterator[None]:
    """Look for no garbage while a program is imported: that is a tenth of a start, and finds none."""
    looks = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looks:
            gc.enable()
