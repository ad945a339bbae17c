"""Tables read strictly: every key known, every value of its type, and the fault named by its path."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar, cast, get_args, get_origin

import msgspec

from openami.gateway.driver import KeyPath
from openami.profile import Obis, ProfileError, one_line

T = TypeVar("T", bound=msgspec.Struct)


class TableError(ValueError):
    """A table holds something else than it should; ``path`` says where, ``known`` what could stand there."""

    def __init__(self, message: str, *, path: KeyPath, known: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.known = tuple(known)

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.message}{did_you_mean(self.path, self.known)}"


def dotted(path: KeyPath) -> str:
    """Print a path as a person would write it: ``register[2].scale``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{one_line(step)}"
    return text.lstrip(".") or "the file"


def did_you_mean(path: KeyPath, known: Sequence[str]) -> str:
    """Return the tail of an error message that names the nearest known key, or nothing."""
    near = get_close_matches(str(path[-1]), known, n=1) if path and known else []
    return f"; did you mean {near[0]!r}?" if near else ""


def convert(table: object, kind: type[T], path: KeyPath = ()) -> T:
    """Return the table as a ``kind``. Raises TableError."""
    if not isinstance(table, Mapping):
        raise TableError(f"a table is expected, not {type(table).__name__}", path=path)
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for key in table:
        if key not in fields:
            raise TableError(f"unknown key {key!r}", path=(*path, key), known=tuple(fields))
    values: dict[str, object] = {}
    for name, field in fields.items():
        if name in table:
            values[field.name] = _value(table[name], field.type, (*path, name))
        elif field.required:
            raise TableError(f"{name!r} is missing", path=path, known=tuple(fields))
    return kind(**values)


def _value(value: object, kind: Any, path: KeyPath) -> object:
    struct = _struct_in(kind)
    if struct is not None and get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise TableError("a list of tables is expected", path=path)
        return tuple(convert(item, struct, (*path, at)) for at, item in enumerate(value))
    if struct is not None:
        return convert(value, struct, path)
    try:
        return msgspec.convert(value, kind, dec_hook=_obis)
    except (msgspec.ValidationError, ProfileError) as error:
        raise TableError(_plain(error), path=path) from None


def _struct_in(kind: Any) -> type[msgspec.Struct] | None:
    for candidate in (kind, *get_args(kind)):
        if isinstance(candidate, type) and issubclass(candidate, msgspec.Struct):
            return candidate
    return None


def _obis(kind: type, value: object) -> Obis:
    if kind is not Obis:
        raise NotImplementedError(kind)
    if not isinstance(value, str):
        raise TypeError(f"an OBIS code is a text, not {type(value).__name__}")
    return Obis.parse(value)


def _plain(error: Exception) -> str:
    told = error.__cause__ if isinstance(error.__cause__, ProfileError) else error
    return cast(str, getattr(told, "detail", str(told)))
