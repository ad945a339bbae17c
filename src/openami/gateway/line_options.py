"""A line's options, for every driver: what is wrong with them is said in one way."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

import msgspec

from openami.gateway.driver import KeyPath, OptionsError
from openami.gateway.strict import TableError, convert, did_you_mean

T = TypeVar("T", bound=msgspec.Struct)
K = TypeVar("K", bound=StrEnum)


def converted(table: object, kind: type[T], path: KeyPath = ()) -> T:
    """Convert a table strictly; ``path`` is where it stands. Raises OptionsError."""
    try:
        return convert(table, kind)
    except TableError as error:
        raise OptionsError(
            error.message + did_you_mean(error.path, error.known),
            path=(*path, *error.path),
            known=error.known,
        ) from None


def check_endpoint(
    table: Mapping[str, object],
    transport: K,
    keys_of: Mapping[K, Sequence[str]],
) -> None:
    """Check that a line names its transport's endpoint, whose first key is required, and no other's.

    Raises OptionsError.
    """
    endpoint = keys_of[transport]
    for keys in keys_of.values():
        for key in keys:
            if key in table and key not in endpoint:
                raise OptionsError(
                    f"{key!r} does not go with transport {transport.value!r}",
                    path=(key,),
                    known=endpoint,
                )
    if table.get(endpoint[0]) is None:
        raise OptionsError(
            f"transport {transport.value!r} needs {endpoint[0]!r}",
            path=(endpoint[0],),
            known=endpoint,
        )
