"""OBIS codes: parse, print and compare (IEC 62056-6-1; reduced form: IEC 62056-21).

A code has six value groups, ``A-B:C.D.E*F``. Displays and the profile write the reduced form ``C.D.E``,
which loses A: ``1.0.0`` is the clock with A=0 and a power value with A=1. So a reduced code is
completed from a table, the register list, and never by arithmetic (decision 0003):

* a code of the list is the same Obis in either spelling, and prints short: ``1-0:1.8.0*255`` → ``1.8.0``;
* a reduced code outside the list keeps its unknown groups unknown, and prints as it came;
* anything else, historical sets (F ≠ 255) among them, prints in full.

``&F`` (a set closed by hand) names the same historical set as ``*F``. Displays write C and D 96 to 99
as the letters C, F, L, P; after a letter, E may be missing (``F.F``) and is 0.
"""

import re
from collections.abc import Mapping
from functools import cache, lru_cache, total_ordering
from typing import Final, final

import msgspec

from openami import spec
from openami.profile.errors import Code, ProfileError

_LETTERS = {"C": 96, "F": 97, "L": 98, "P": 99}
_CURRENT_SET = 255
_GROUP_MAX = 255  # a group is one byte of the logical name
_TEXT_CHARS_MAX = len("255-255:255.255.255*255")  # longer texts need not be looked at, nor hashed

_GROUP = r"(25[0-5]|2[0-4][0-9]|[01]?[0-9]?[0-9])"
_GROUP_OR_LETTER = r"(25[0-5]|2[0-4][0-9]|[01]?[0-9]?[0-9]|[CFLP])"
OBIS_PATTERN: Final = (
    rf"(?:{_GROUP}-{_GROUP}:)?"
    rf"(?:{_GROUP}\.{_GROUP_OR_LETTER}\.{_GROUP}|([CFLP])\.{_GROUP_OR_LETTER}(?:\.{_GROUP})?)"
    rf"(?:[*&]{_GROUP})?"
)
_match = re.compile(OBIS_PATTERN).fullmatch

# A meter has tens of codes; a flood of invented ones pushes the cache over, it does not grow it.
_CACHED_CODES_MAX = 4096

_CDE = tuple[int, int, int]
_Groups = tuple[int | None, int | None, int, int, int, int]


@final
@total_ordering
class Obis:
    """One OBIS code. Compare and hash it by what it means; ``str()`` gives the canonical text.

    A and B are None where a reduced code did not tell them; F is 255 for the current value.
    """

    # Not a dataclass: the JSON decoder would take one for an object. Text and hash are made once,
    # because every reading of the stream is looked up by its code.
    __slots__ = ("_hash", "_text", "groups", "in_list")

    _hash: int
    _text: str
    groups: _Groups
    in_list: bool
    """Whether the code is one of the register list, and so prints in its short form."""

    def __init__(self, groups: _Groups) -> None:
        """Make a code of its groups; of a reduced one, A and B are looked up in the register list.

        Raises ProfileError BAD_OBIS for a group that is not 0 to 255, or one of A and B without the other.
        """
        a, b, c, d, e, f = groups
        if a is None and b is None:
            a, b = _listed().get((c, d, e), (None, None))
        groups = (a, b, c, d, e, f)
        if (a is None) != (b is None) or any(
            group is not None and not 0 <= group <= _GROUP_MAX for group in groups
        ):
            raise _bad(".".join(str(group) for group in groups))
        object.__setattr__(self, "groups", groups)
        object.__setattr__(
            self, "in_list", f == _CURRENT_SET and _listed().get((c, d, e)) == (a, b)
        )
        object.__setattr__(self, "_text", f"{c}.{d}.{e}" if self.in_list else self.full)
        object.__setattr__(self, "_hash", hash(groups))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("an Obis does not change")

    @staticmethod
    def parse(text: str) -> "Obis":
        """Return the code a text spells. Raises ProfileError BAD_OBIS."""
        return _parse(text)

    @property
    def full(self) -> str:
        """``A-B:C.D.E*F``, or as much of it as is known."""
        a, b, c, d, e, f = self.groups
        prefix = "" if a is None else f"{a}-{b}:"
        suffix = "" if a is None and f == _CURRENT_SET else f"*{f}"
        return f"{prefix}{c}.{d}.{e}{suffix}"

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"Obis({self._text!r})"

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self.groups == other.groups if isinstance(other, Obis) else NotImplemented

    def __lt__(self, other: "Obis") -> bool:
        return self._sort_key() < other._sort_key()

    def _sort_key(self) -> tuple[int, ...]:
        a, b, c, d, e, f = self.groups
        return (c, d, e, -1 if a is None else a, -1 if b is None else b, f)

    def __reduce__(self) -> tuple[object, ...]:
        return (Obis, (self.groups,))


@lru_cache(maxsize=_CACHED_CODES_MAX)
def _parse(text: str) -> Obis:
    found = _match(text) if len(text) <= _TEXT_CHARS_MAX else None
    if found is None:
        raise _bad(text)
    a, b, c, d, e, letter, d_after_letter, e_after_letter, f = found.groups()
    return Obis(
        (
            None if a is None else int(a),
            None if b is None else int(b),
            _number(letter or c),
            _number(d_after_letter or d),
            int(e_after_letter or e or 0),
            _CURRENT_SET if f is None else int(f),
        )
    )


def _number(group: str) -> int:
    return _LETTERS.get(group) or int(group)


def _bad(text: str) -> ProfileError:
    return ProfileError(
        Code.BAD_OBIS,
        "OA-REG-002",
        "",
        f"{text[:80]!r} is not an OBIS code: C.D.E or A-B:C.D.E, groups 0 to 255, "
        "optionally followed by *F",
    )


class _ListedRegister(msgspec.Struct):
    obis: str
    full: str


class _RegisterList(msgspec.Struct):
    registers: list[_ListedRegister]


@cache
def _listed() -> Mapping[_CDE, tuple[int, int]]:
    """Return A and B of the register list's codes, by the three groups of their short form."""
    table: dict[_CDE, tuple[int, int]] = {}
    for register in msgspec.json.decode(
        spec.load("vmrs-registers.json"), type=_RegisterList
    ).registers:
        full = _match(register.full)
        assert full is not None, f"vmrs-registers.json: {register.full!r} is not a full code"
        a, b, c, d, e = (int(group) for group in full.groups()[:5])
        table[c, d, e] = (a, b)
    return table
