"""Where in a TOML file a key stands (pure): tomllib reads the values and forgets the lines.

Only for texts that tomllib has read without complaint, so the scanner need not judge, only follow. A key
inside an inline table has the line of the value that holds it.
"""

import re
import tomllib
from collections.abc import Mapping
from typing import cast

from openami.gateway.driver import KeyPath

_KEY = r"""(?:"(?:\\.|[^"\\])*"|'[^']*'|[^"'=#\[\]])+"""
_header = re.compile(rf"\s*(\[\[?)({_KEY})\]").match
_assignment = re.compile(rf"\s*({_KEY})=").match
# What changes the scanner's state inside a value: quotes, brackets, a comment.
_token = re.compile(r"\"{3}|'{3}|\"(?:\\.|[^\"\\])*\"|'[^']*'|[\[\]{}#]")


class KeyLines:
    """The line of each key of a TOML text, by its path: ``("line", 0, "meter", 2, "serial")``."""

    def __init__(self, text: str) -> None:
        self._lines = _scan(text)

    def __contains__(self, path: KeyPath) -> bool:
        return path in self._lines

    def __getitem__(self, path: KeyPath) -> int:
        """Return the key's line; that of the nearest table around it when it is not there."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._lines:
                return self._lines[path[:length]]
        return 1


def _scan(text: str) -> Mapping[KeyPath, int]:
    lines: dict[KeyPath, int] = {}
    sizes: dict[KeyPath, int] = {}  # of each array of tables, so far
    table: KeyPath = ()
    value = _Value()
    for number, line in enumerate(text.split("\n"), 1):
        if value.is_open:
            value.follow(line)
        elif header := _header(line):
            table = _table(header[1], _parts(header[2]), sizes)
            lines.setdefault(table, number)
        elif assignment := _assignment(line):
            lines[table + _parts(assignment[1])] = number
            value.follow(line[assignment.end() :])
    return lines


def _parts(dotted: str) -> tuple[str, ...]:
    """Split a dotted key as TOML does, quotes and escapes included."""
    parts: list[str] = []
    place: object = tomllib.loads(f"{dotted} = 0")
    while isinstance(place, dict):
        ((part, place),) = cast("dict[str, object]", place).items()
        parts.append(part)
    return tuple(parts)


def _table(brackets: str, parts: tuple[str, ...], sizes: dict[KeyPath, int]) -> KeyPath:
    """Return a header's path; each array of tables on the way stands for its newest table."""
    path: KeyPath = ()
    for part in parts[:-1]:
        path += (part,)
        if path in sizes:
            path += (sizes[path] - 1,)
    path += (parts[-1],)
    if brackets == "[[":
        sizes[path] = sizes.get(path, 0) + 1
        path += (sizes[path] - 1,)
    return path


class _Value:
    """Follows a value that may go on over several lines."""

    def __init__(self) -> None:
        self._depth = 0
        self._quotes = ""

    @property
    def is_open(self) -> bool:
        return self._depth > 0 or bool(self._quotes)

    def follow(self, line: str) -> None:
        at = 0
        while at < len(line):
            if self._quotes:
                end = self._end_of_text(line, at)
                if end < 0:
                    return
                at, self._quotes = end, ""
                continue
            found = _token.search(line, at)
            if found is None or found[0] == "#":
                return
            at = found.end()
            if found[0] in ('"""', "'''"):
                self._quotes = found[0]
            else:
                self._depth += (found[0] in "[{") - (found[0] in "]}")

    def _end_of_text(self, line: str, at: int) -> int:
        """Return where the open multi-line text ends in this line; -1 when it goes on."""
        if self._quotes == "'''":
            end = line.find("'''", at)
            return end if end < 0 else end + 3
        ending = re.compile(r'(?:\\.|[^"\\]|"(?!""))*"""').match(line, at)
        return -1 if ending is None else ending.end()
