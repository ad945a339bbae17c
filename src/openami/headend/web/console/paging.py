"""From one page of a list to the next: where it begins, as an address has it. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from openami.headend.store.pages import Key, Placed

# A key is two or three words; what is longer was not made here.
KEY_CHARS_MAX: Final = 300
# Beyond it a database has no numbers; PostgreSQL says so with an error.
_NUMBER_MAX: Final = 2**63 - 1


def write_key(key: Key) -> str:
    """Return a key for an address: numbers as they are, words behind an apostrophe."""
    return "~".join(str(each) if isinstance(each, int) else f"'{each}" for each in key)


def read_key(text: str, *kinds: type) -> Key | None:
    """Return the key an address has, of members of these kinds; None for none, and for one nobody was given."""
    if not text or len(text) > KEY_CHARS_MAX:
        return None
    key = tuple(_member(part) for part in text.split("~"))
    fits = tuple(type(each) for each in key) == kinds
    return tuple(each for each in key if each is not None) if fits else None


def _member(part: str) -> int | str | None:
    if part.startswith("'"):
        return part[1:]
    if part.isascii() and part.removeprefix("-").isdecimal() and abs(int(part)) <= _NUMBER_MAX:
        return int(part)
    return None


def next_page(
    path: str, filters: Mapping[str, str], rows: Sequence[Placed[Any]], listed_max: int
) -> str | None:
    """Return the address of the page after these rows; None where they are the last."""
    if len(rows) < listed_max:
        return None
    return f"{path}?{urlencode({**filters, 'before': write_key(rows[-1].key)})}"
