"""The tables of a register map as TOML."""

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final

Value = str | int | bool | Decimal | Sequence["Value"] | Mapping[str, "Value"]
_DIGITS_MAX: Final = 20  # a longer number is written with its exponent

Table = Mapping[str, "Value | None"]


def map_text(head: Table, tables: Sequence[tuple[str, Table]], comments: Sequence[str]) -> str:
    """Return a file: comments, the head's keys, and behind them the tables (``[[register]]``, ``[limits]``)."""
    lines = [f"# {comment}" for comment in comments]
    lines += ["", *_keys(head)]
    for heading, table in tables:
        if keys := tuple(_keys(table)):
            lines += ["", heading, *keys]
    return "\n".join(lines) + "\n"


def _keys(table: Table) -> Iterator[str]:
    """Yield a table's lines; what is None or an empty list or table is left out."""
    for key, value in table.items():
        is_empty = (
            isinstance(value, Sequence | Mapping) and not isinstance(value, str) and not value
        )
        if value is not None and not is_empty:
            yield f"{key} = {_spelled(value)}"


def _spelled(value: Value) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _text(value)
        case int():
            return str(value)
        case Decimal():
            return _number(value)
        case Mapping():
            parts = (f"{_text(key)} = {_spelled(part)}" for key, part in value.items())
            return "{ " + ", ".join(parts) + " }"
        case _:
            return "[" + ", ".join(_spelled(part) for part in value) + "]"


def _number(value: Decimal) -> str:
    if value.as_tuple().exponent == 0:
        return str(value)
    # Quoted, so that nobody reads it as a double; in digits, unless they had no end.
    return f'"{value:f}"' if abs(value.adjusted()) <= _DIGITS_MAX else f'"{value}"'


def _text(value: str) -> str:
    # A TOML basic string is a JSON string, but for the one control character JSON lets through.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
