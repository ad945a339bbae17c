"""``openami driver new``: begin a register map, or a driver in Python."""

from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import click

import openami
from openami.cli.report import Exit, fail, say

_KIT = "openami.gateway.driver_kit"
_EXAMPLE = "examples/driver-python"
_SUFFIXES = (".py", ".toml", ".md", ".typed")


@click.command()
@click.argument("name")
@click.option(
    "--python", "in_python", is_flag=True, help="A driver for a new protocol, as a package."
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    show_default=True,
    help="Where it is made.",
)
def new(name: str, in_python: bool, directory: Path) -> None:
    """Begin a register map NAME.toml, or with --python a driver package openami-NAME.

    The map loads as it is and says in comments what to change. The package is the example of a complete driver
    under another name: entry point, protocol, simulated meter, and tests that run the driver contract. Nothing
    that exists is overwritten.
    """
    from openami.gateway.driver_kit.skeletons import NameRefused, new_driver, new_map

    place = directory / f"openami-{name}"
    try:
        if in_python:
            written = {place / path: text for path, text in new_driver(name, _example()).items()}
        else:
            template = files(_KIT).joinpath("new_map.toml").read_text("utf-8")
            written = {directory / f"{name}.toml": new_map(name, template)}
    except NameRefused as error:
        fail(str(error), Exit.USAGE)
    _write(written)
    if in_python:
        say(
            f"{place}: a driver that works; begin with src/openami_{name.replace('-', '_')}/protocol.py"
        )
        say(f"  cd {place} && pip install -e . && pytest && openami driver test {name}")
    else:
        say(
            f"{next(iter(written))}: change what the manual says, then `openami driver test {name}.toml`"
        )


def _write(written: Mapping[Path, str]) -> None:
    for path in written:
        if path.exists():
            fail(f"{path} exists", Exit.FAILED, "choose another name or --directory")
    for path, text in written.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        except OSError as error:
            fail(f"{path}: {error.strerror}", Exit.FAILED)


def _example() -> Iterator[tuple[str, str]]:
    """Yield the example's files: in an installation beside the kit, in a checkout where everybody sees them."""
    root: Traversable = files(_KIT).joinpath("example")
    if not root.is_dir():
        root = Path(openami.__file__).parents[2] / _EXAMPLE
    yield from _texts(root, "")


def _texts(folder: Traversable, path: str) -> Iterator[tuple[str, str]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir() and entry.name != "__pycache__":
            yield from _texts(entry, f"{path}{entry.name}/")
        elif entry.name.endswith(_SUFFIXES):
            yield f"{path}{entry.name}", entry.read_text("utf-8")
