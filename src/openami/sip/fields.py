"""Members of signed documents, read one by one with a fixed type each.

Signed documents are small and read rarely, so they are read by hand: a closed set of members, one type per
member, no coercion. What does not fit is BAD_FIELD, with the member's name.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

from openami.profile import Quality, is_id, utc_text
from openami.sip.errors import SipCode, SipError

_TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
_MEASURED_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"
_is_time = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII).fullmatch
_is_measured = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z", re.ASCII).fullmatch

_OBIS_CHARS_MAX = 32  # A-B:C.D.E.F with three digits each, and room
_UNIT_CHARS_MAX = 16  # the longest of the register list has 8
_QUALITIES = frozenset(quality.value for quality in Quality)

T = TypeVar("T")


def bad(name: str, wanted: str) -> SipError:
    """Return the error for a member that is not what it has to be."""
    return SipError(SipCode.BAD_FIELD, f"{name}: {wanted}")


def closed(
    members: object, place: str, *, required: Sequence[str], optional: Sequence[str] = ()
) -> Mapping[str, Any]:
    """Return the object if it has all required members and none but these. Raises BAD_FIELD."""
    if not isinstance(members, dict):
        raise bad(place, "an object is asked for")
    missing = [name for name in required if name not in members]
    if missing:
        raise bad(f"{place}/{missing[0]}", "missing")
    unknown = sorted(set(members) - {*required, *optional})
    if unknown:
        raise bad(f"{place}/{unknown[0]}", "no such member")
    return members


def identifier(value: object, place: str) -> str:
    """Return an id. Raises BAD_FIELD."""
    if not isinstance(value, str) or not is_id(value):
        raise bad(place, "an id is asked for")
    return value


def text(value: object, place: str, *, chars_max: int) -> str:
    """Return a non-empty string of bounded length. Raises BAD_FIELD."""
    if not isinstance(value, str) or not 0 < len(value) <= chars_max:
        raise bad(place, f"a string of 1 to {chars_max} characters is asked for")
    return value


def whole_number(value: object, place: str, *, least: int, most: int) -> int:
    """Return an int within bounds; true and 1.0 are not whole numbers here. Raises BAD_FIELD."""
    if type(value) is not int or not least <= value <= most:
        raise bad(place, f"a whole number from {least} to {most} is asked for")
    return value


def register(value: object, place: str) -> Mapping[str, Any]:
    """Return a register of an envelope: its four members, each of its type. Raises BAD_FIELD."""
    members = closed(value, place, required=("obis", "value", "unit", "quality"))
    text(members["obis"], f"{place}/obis", chars_max=_OBIS_CHARS_MAX)
    if not isinstance(members["value"], str | bool | int | float):
        raise bad(f"{place}/value", "a number, string or boolean is asked for")
    if members["unit"] != "":
        text(members["unit"], f"{place}/unit", chars_max=_UNIT_CHARS_MAX)
    if not isinstance(members["quality"], str) or members["quality"] not in _QUALITIES:
        raise bad(f"{place}/quality", "not a quality")
    return members


def moment(value: object, place: str) -> datetime:
    """Return a time of the one form ``YYYY-MM-DDThh:mm:ssZ``. Raises BAD_FIELD."""
    if isinstance(value, str) and _is_time(value):
        with suppress(ValueError):
            return datetime.strptime(value, _TIME_FORMAT).replace(tzinfo=UTC)
    raise bad(place, "a time YYYY-MM-DDThh:mm:ssZ is asked for")


def measured(value: object, place: str) -> datetime:
    """Return when something was measured: as ``moment``, or with one to six decimals. Raises BAD_FIELD."""
    if isinstance(value, str) and _is_measured(value):
        with suppress(ValueError):
            return datetime.strptime(value, _MEASURED_FORMAT).replace(tzinfo=UTC)
    return moment(value, place)


def print_moment(value: datetime) -> str:
    """Print a time as ``moment`` reads it; a fraction of a second is dropped."""
    return value.astimezone(UTC).strftime(_TIME_FORMAT)


def print_measured(value: datetime) -> str:
    """Print a time as ``measured`` reads it, to the millisecond, which is what a reading is known by."""
    return utc_text(value.replace(microsecond=value.microsecond // 1000 * 1000))


def listed(
    value: object, place: str, item: Callable[[object, str], T], *, least: int, most: int
) -> tuple[T, ...]:
    """Return a list of items, each read by ``item``. Raises BAD_FIELD."""
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise bad(place, f"a list of {least} to {most} items is asked for")
    return tuple(item(entry, f"{place}/{index}") for index, entry in enumerate(value))


def distinct(items: Sequence[T], place: str) -> tuple[T, ...]:
    """Return the items if no two are equal. Raises BAD_FIELD."""
    if len(set(items)) != len(items):
        raise bad(place, "an item stands twice")
    return tuple(items)
