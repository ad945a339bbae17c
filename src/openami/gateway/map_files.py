"""Where drivers' maps are: shipped ones beside the driver, an operator's own with his configuration."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Final, TypeVar

from openami.profile import one_line

SUFFIX: Final = ".toml"

Map = TypeVar("Map")


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
