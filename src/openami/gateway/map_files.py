"""Where drivers' maps are: shipped ones beside the driver, an operator's own with his configuration."""

from collections.abc import Callable
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from openami.gateway.strict import TableError, convert
from openami.profile import one_line
from openami.toml_text import TomlError, read_toml

SUFFIX: Final = ".toml"
MAP_CHARS_MAX: Final = 256 * 1024  # the largest of ours has 12 kB; more is another kind of file

Map = TypeVar("Map")
Table = TypeVar("Table", bound=msgspec.Struct)


class MapError(ValueError):
    """A map cannot be used; the message says what is wrong in it and where."""


def shipped(package: str) -> tuple[str, ...]:
    """Return the names of the maps in a driver's package."""
    return tuple(
        sorted(
            entry.name.removesuffix(SUFFIX)
            for entry in files(package).joinpath("maps").iterdir()
            if entry.name.endswith(SUFFIX)
        )
    )


def load(package: str, name: str, directory: Path, read: Callable[[str], Map]) -> Map:
    """Return a shipped map by name, or one from a file (``….toml``) relative to a directory. Raises MapError."""
    if not name.endswith(SUFFIX):
        if name not in shipped(package):
            raise MapError(f"no map is called {name!r}; a file of your own ends in {SUFFIX}")
        return read(files(package).joinpath("maps", name + SUFFIX).read_text("utf-8"))
    path = directory / name
    try:
        return read(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise MapError(f"{one_line(str(path))}: {error}") from None
    except MapError as error:
        raise MapError(f"{path}: {error}") from None


def read(text: str, table: type[Table], build: Callable[[Table], Map]) -> Map:
    """Return the map a TOML text describes; ``build`` may raise TableError. Raises MapError."""
    if len(text) > MAP_CHARS_MAX:
        raise MapError(f"the file has {len(text)} characters, at most {MAP_CHARS_MAX} are read")
    try:
        # Decimal, so that a scale written 0.1 is a tenth and not the double next to it.
        document = read_toml(text, parse_float=Decimal)
    except TomlError as error:
        raise MapError(f"the file {error}") from None
    try:
        return build(convert(document, table))
    except TableError as error:
        raise MapError(str(error)) from None
