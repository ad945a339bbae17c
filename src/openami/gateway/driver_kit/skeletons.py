"""What a new register map and a new driver begin as. Pure: a name in, files out.

A map begins as ``new_map.toml``; a driver in Python as the example ``examples/driver-python`` under another name,
so that it works and is tested before its author has changed a line.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

NAME_CHARS_MAX: Final = 40  # it becomes a package's, a module's and a class's name
_is_name = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", re.ASCII).fullmatch
_EXAMPLE: Final = "pulse-counter"


class NameRefused(ValueError):
    """A name that can be no map's and no driver's; the message says what can."""


def check_name(name: str) -> str:
    """Return the name. Raises NameRefused."""
    if len(name) > NAME_CHARS_MAX or not _is_name(name):
        raise NameRefused(
            f"{name!r} is no name: small letters, digits and single hyphens, at most {NAME_CHARS_MAX}, e.g. sm-1"
        )
    return name


def new_map(name: str, template: str) -> str:
    """Return the text of a new register map. Raises NameRefused."""
    return template.replace("{name}", check_name(name)).replace("{file}", f"{name}.toml")


def new_driver(name: str, example: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Return a driver package's files by path: the example's, renamed. Raises NameRefused."""
    check_name(name)
    changes = {spelled(_EXAMPLE): spelled(name) for spelled in _SPELLINGS}

    def renamed(text: str) -> str:
        for old, new in changes.items():
            text = text.replace(old, new)
        return text

    return {renamed(path): renamed(text) for path, text in example}


def _hyphened(name: str) -> str:
    return name


def _underscored(name: str) -> str:
    return name.replace("-", "_")


def _capitalised(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))


_SPELLINGS: Final = (_hyphened, _underscored, _capitalised)
