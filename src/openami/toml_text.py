"""TOML as an operator writes it, read without surprises (pure).

tomllib lets more out than it says: a number of thousands of digits is a ValueError, arrays that nest a
thousand deep are a RecursionError, and ``\\u0000`` is a text like any other until a file of that name is
opened. Here all of them are one error, with one line to say.
"""

import tomllib
from collections.abc import Callable, Iterator
from typing import Any

from openami.profile import one_line


class TomlError(ValueError):
    """A text is no TOML that can be used; one line says why."""


def read_toml(text: str, *, parse_float: Callable[[str], Any] = float) -> dict[str, Any]:
    """Return the tables of a text. Raises TomlError."""
    try:
        tables = tomllib.loads(text, parse_float=parse_float)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise TomlError(f"is not TOML: {one_line(str(error))}") from None
    for name in _names_with_nul(tables):
        raise TomlError(f"{one_line(name)}: holds a NUL character, which no name and no text may")
    return tables


def _names_with_nul(tables: dict[str, Any]) -> Iterator[str]:
    """Yield the key of each text with a NUL; iterative, as dotted keys nest as deep as a line is long."""
    to_visit: list[tuple[str, object]] = list(tables.items())
    while to_visit:
        name, value = to_visit.pop()
        if "\0" in name or (isinstance(value, str) and "\0" in value):
            yield name
        elif isinstance(value, dict):
            to_visit.extend(value.items())
        elif isinstance(value, list):
            to_visit.extend((name, item) for item in value)
