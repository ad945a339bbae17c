"""Where meter maps are: the shipped ones beside this module, an operator's own with his configuration."""

from importlib.resources import files
from pathlib import Path

from openami.gateway.drivers.iec62056.meter_map import MapError, MeterMap, read_map
from openami.profile import one_line

_SUFFIX = ".toml"


def shipped_maps() -> tuple[str, ...]:
    """Return the names of the maps that ship with the product."""
    return tuple(
        sorted(
            entry.name.removesuffix(_SUFFIX)
            for entry in files(__package__).joinpath("maps").iterdir()
            if entry.name.endswith(_SUFFIX)
        )
    )


def load_map(name: str, directory: Path = Path()) -> MeterMap:
    """Return a shipped map by name, or one from a file (``….toml``) relative to a directory.

    Raises MapError.
    """
    if not name.endswith(_SUFFIX):
        if name not in shipped_maps():
            raise MapError(f"no map is called {name!r}; a file of your own ends in {_SUFFIX}")
        return read_map(files(__package__).joinpath("maps", name + _SUFFIX).read_text("utf-8"))
    path = directory / name
    try:
        return read_map(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise MapError(f"{one_line(str(path))}: {error}") from None
    except MapError as error:
        raise MapError(f"{path}: {error}") from None
