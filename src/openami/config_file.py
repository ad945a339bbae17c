"""A TOML file that msgspec checks: read within a bound, the files it names beside it, its faults for people."""

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Final, TypeVar

import msgspec

# A configuration is a dozen lines, of a hundred poles 15 kB; a megabyte is another file.
CONFIG_BYTES_MAX: Final = 1024 * 1024

_Table = TypeVar("_Table", bound=msgspec.Struct)
# msgspec's words.
_UNKNOWN_KEY: Final = re.compile(
    r"Object contains unknown field `(?P<key>.+?)`(?: - at `\$\.?(?P<at>.*)`)?"
)
_WRONG_VALUE: Final = re.compile(r"(?P<why>.+) - at `\$\.?(?P<at>.*)`")


class ConfigError(ValueError):
    """The operator's configuration cannot be used; the message says where, why and what to do."""


def read_bytes(path: Path) -> bytes:
    """Return what a configuration, or a file it names, holds. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            content = file.read(CONFIG_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    if len(content) > CONFIG_BYTES_MAX:
        raise ConfigError(f"{path} has more than {CONFIG_BYTES_MAX} bytes: is it the right file?")
    return content


def beside(path: Path, table: _Table, *names: str) -> _Table:
    """Return the table with the files it names looked for beside the configuration file."""
    given = {name: getattr(table, name) for name in names}
    found = {name: str(path.parent / file) for name, file in given.items() if file is not None}
    return msgspec.structs.replace(table, **found)


def unknown_key(complaint: str) -> tuple[str, str] | None:
    """Return the table and the key nobody knows, where msgspec complains of one."""
    found = _UNKNOWN_KEY.fullmatch(complaint)
    return found and (found["at"] or "", found["key"])


def wrong_value(complaint: str) -> tuple[str, str] | None:
    """Return the key and what is wrong with its value, where msgspec complains of one."""
    found = _WRONG_VALUE.fullmatch(complaint)
    return found and (found["at"], found["why"])


def meant(key: str, table: type[msgspec.Struct]) -> str:
    """Return a guess at which key of a table was meant; all of them where none is close."""
    known = table.__struct_fields__
    close = get_close_matches(key, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
