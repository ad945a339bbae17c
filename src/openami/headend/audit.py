"""The audit log: an append-only chain of who did what, why, when, and with what result.

Every entry holds the hash of the one before it, so that a changed, removed, added or moved entry breaks the
chain at that place, and anybody with the exported file can see where; no key and no store is needed for it.
What a chain alone cannot show is that its end was cut off or that all of it was written anew: write the last
number and hash down elsewhere, now and then, and compare (``openami audit verify`` prints them).

Pure: entries in, links out. The store appends in the same transaction as the change that an entry tells.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final

from openami.profile import utc_text

GENESIS: Final = "0" * 64
"""What stands before the first entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing done. ``digest`` names the signed document or act it is about."""

    who: str
    what: str
    why: str = ""
    result: str = ""
    session_id: str = ""
    command_id: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """An entry in its place in the chain."""

    number: int
    at: str
    entry: Entry
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class Break:
    """Where a chain does not hold, and how: ``number`` is that of the first entry not to be believed."""

    number: int
    why: str


def link(entry: Entry, *, number: int, at: datetime, previous: str) -> Link:
    """Return an entry as the ``number``-th of the chain, after the entry whose hash is ``previous``."""
    return _hashed(entry, number, utc_text(at.astimezone(UTC)), previous)


def _hashed(entry: Entry, number: int, at: str, previous: str) -> Link:
    body = {**asdict(entry), "number": number, "at": at, "previous": previous}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return Link(number, at, entry, previous, hashlib.sha256(text.encode()).hexdigest())


def first_break(links: Iterable[Link]) -> Break | None:
    """Return the first place where the chain does not hold; None for a sound one, or none at all."""
    previous = GENESIS
    for number, each in enumerate(links, 1):
        if each.number != number:
            return Break(number, f"entry {number} is missing: {each.number} stands in its place")
        if each.previous != previous:
            return Break(number, "it does not continue the entry before it")
        if _hashed(each.entry, number, each.at, previous).hash != each.hash:
            return Break(number, "its content is not what was written")
        previous = each.hash
    return None


# --- as a file -----------------------------------------------------------------------------------


class AuditFileError(ValueError):
    """A file that holds no audit log; the message says in which line."""


def print_link(each: Link) -> str:
    """Return a link as one line of an exported log."""
    return json.dumps(
        {
            "number": each.number,
            "at": each.at,
            **asdict(each.entry),
            "previous": each.previous,
            "hash": each.hash,
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def read_links(lines: Iterable[str]) -> Iterator[Link]:
    """Read an exported log. Raises AuditFileError for a line that is no entry of one."""
    for line_number, line in enumerate(lines, 1):
        try:
            members = json.loads(line)
            yield _link_of(members)
        except (ValueError, TypeError, KeyError) as error:
            raise AuditFileError(f"line {line_number} is no entry of an audit log") from error


def _link_of(members: object) -> Link:
    if not isinstance(members, dict):
        raise TypeError("an entry is an object")
    number = members.pop("number")
    at, previous, hash_ = (members.pop(name) for name in ("at", "previous", "hash"))
    texts = (at, previous, hash_, *members.values())
    if type(number) is not int or not all(isinstance(text, str) for text in texts):
        raise TypeError("a number and texts")
    return Link(number, at, Entry(**members), previous, hash_)
