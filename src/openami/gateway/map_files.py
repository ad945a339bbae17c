"""Drivers' maps: shipped ones beside the driver, an operator's own with his configuration; and what they share."""

from collections.abc import Callable, Collection
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from openami.gateway.driver import PollGroup, RegisterInfo
from openami.gateway.strict import TableError, convert
from openami.profile import Obis, one_line
from openami.toml_text import TomlError, read_toml

SUFFIX: Final = ".toml"
MAP_CHARS_MAX: Final = 256 * 1024  # the largest of ours has 12 kB; more is another kind of file

Map = TypeVar("Map")
Table = TypeVar("Table", bound=msgspec.Struct)


class MapError(ValueError):
    """A map cannot be used; the message says what is wrong in it and where."""


class RegisterTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a ``[[register]]``, whatever the driver."""

    obis: Obis
    unit: str
    decimals: Annotated[int, Meta(ge=0, le=9)] | None = None
    group: PollGroup = PollGroup.FAST
    min: Decimal | None = None
    max: Decimal | None = None
    monotonic: bool = False
    rollover: Decimal | None = None
    note: str = ""

    @property
    def info(self) -> RegisterInfo:
        """What the gateway is told of it."""
        return RegisterInfo(
            obis=self.obis,
            unit=self.unit,
            group=self.group,
            decimals=self.decimals,
            minimum=_float(self.min),
            maximum=_float(self.max),
            monotonic=self.monotonic,
            rollover=_float(self.rollover),
        )


def _float(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def check_whole(registers: Collection[object], source: Collection[str]) -> None:
    """Check that a map has registers and says where they are from. Raises TableError."""
    if not registers:
        raise TableError("a map has at least one register", path=("register",))
    if not source:
        raise TableError("a map names its sources", path=("source",))


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
