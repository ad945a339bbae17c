"""A strict reader of JSON: what two parsers might read differently is refused, not guessed.

It is slower than the stream's decoder and sees what that one does not look at: members it skips, and
members that are there twice.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from openami.profile.errors import Code, ProfileError, pointer
from openami.profile.telemetry import INTEGER_MAX

# Decision 0016: 170 registers fit; brokers of small villages bound messages at the same size.
MESSAGE_BYTES_MAX: Final = 64 * 1024
# Decision 0016: the envelope needs 3 (object, registers, item); the rest is for unknown members.
MESSAGE_DEPTH_MAX: Final = 16

_NUMBER_CHARS_MAX = 400  # int() is quadratic and refuses beyond 4,300 digits; a double needs 17


class JsonObject(dict[str, object]):
    """A JSON object that remembers which of its members were there more than once."""

    duplicates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NumberBeyondDouble:
    """A number no double holds: its text, or the beginning of it."""

    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """A message as JSON."""

    root: object
    has_duplicates: bool


def read_document(payload: bytes) -> Document:
    """Parse strictly: bounded size and depth, UTF-8, no NaN, no lone surrogate.

    Duplicate members and numbers that do not fit are kept as such, to be reported with their place.
    Raises ProfileError: TOO_LARGE, BAD_UTF8, TOO_DEEP, BAD_JSON.
    """
    if len(payload) > MESSAGE_BYTES_MAX:
        raise ProfileError(
            Code.TOO_LARGE,
            "OA-ENV-001",
            "",
            f"the message has {len(payload)} bytes, at most {MESSAGE_BYTES_MAX} are accepted",
        )
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise ProfileError(
            Code.BAD_UTF8, "OA-ENV-003", "", f"byte {error.start} is not UTF-8"
        ) from None
    if nested_deeper_than(MESSAGE_DEPTH_MAX, text):
        raise ProfileError(
            Code.TOO_DEEP,
            "OA-ENV-002",
            "",
            f"objects and arrays are nested more than {MESSAGE_DEPTH_MAX} deep",
        )
    with_duplicates: list[JsonObject] = []

    def read_object(pairs: list[tuple[str, object]]) -> JsonObject:
        members = JsonObject(pairs)
        if len(members) != len(pairs):
            counts = Counter(name for name, _ in pairs)
            members.duplicates = tuple(name for name, count in counts.items() if count > 1)
            with_duplicates.append(members)
        return members

    try:
        root: object = json.loads(
            text,
            object_pairs_hook=read_object,
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_refuse_constant,
        )
    except ValueError as error:
        raise _not_json(str(error)) from None
    if _surrogate_escape.search(text) is not None:
        _check_surrogates(root)
    return Document(root, bool(with_duplicates))


def duplicates_in(place: object, *parts: str | int) -> Iterator[str]:
    """Yield a pointer to every member below a place that is there more than once.

    Iterative, because a message must not be able to choose how deep our stack is.
    """
    to_visit: list[tuple[object, tuple[str | int, ...]]] = [(place, parts)]
    while to_visit:
        place, parts = to_visit.pop()
        if isinstance(place, JsonObject):
            yield from (pointer(*parts, name) for name in place.duplicates)
            to_visit.extend((child, (*parts, name)) for name, child in place.items())
        elif isinstance(place, list):
            to_visit.extend((child, (*parts, index)) for index, child in enumerate(place))


def _not_json(reason: str) -> ProfileError:
    return ProfileError(Code.BAD_JSON, "OA-ENV-003", "", f"the message is not JSON: {reason}")


_string_or_bracket = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[\]}]', re.DOTALL)


def nested_deeper_than(depth_max: int, text: str) -> bool:
    """Return whether objects and arrays nest deeper; to be asked before any recursive parser.

    Depth costs stack, not bytes.
    """
    if text.count("{") + text.count("[") <= depth_max:
        return False
    depth = 0
    for found in _string_or_bracket.finditer(text):
        match found.group()[0]:
            case "{" | "[":
                depth += 1
                if depth > depth_max:
                    return True
            case "}" | "]":
                depth -= 1
    return False


def _integer(text: str) -> object:
    if len(text) > _NUMBER_CHARS_MAX:
        return NumberBeyondDouble(text[:40])
    value = int(text)
    return value if -INTEGER_MAX <= value <= INTEGER_MAX else NumberBeyondDouble(text[:40])


def _number(text: str) -> object:
    value = float(text)
    return value if math.isfinite(value) else NumberBeyondDouble(text[:40])


def _refuse_constant(text: str) -> object:
    raise ValueError(f"{text} is not a JSON number")


_surrogate_escape = re.compile(r"\\u[dD][89a-fA-F]")


def _check_surrogates(root: object) -> None:
    to_visit: list[object] = [root]
    while to_visit:
        place = to_visit.pop()
        if isinstance(place, dict):
            to_visit.extend(place)
            to_visit.extend(place.values())
        elif isinstance(place, list):
            to_visit.extend(place)
        elif isinstance(place, str):
            try:
                place.encode()
            except UnicodeEncodeError:
                raise _not_json("a string holds half a surrogate pair") from None
