"""The audit log's chain in the store: taken in turn, and appended to within the transaction of what is told."""

# Statements are put together from this program's own words; every value is bound.
# ruff: noqa: S608

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, cast

from openami.headend.audit import Entry, Link, link
from openami.headend.store.plan import Cell
from openami.headend.store.steps import Row, Steps, ask, do

LINK_COLUMNS: Final = (
    "number, at, who, what, why, result, session_id, command_id, digest, previous, hash"
)


def in_turn() -> Steps[None]:
    """Take the end of the log: until this transaction ends, no other one changes anything here."""
    yield from do("UPDATE audit_end SET number = number")


def append(entries: Sequence[Entry], now: datetime) -> Steps[list[Link]]:
    """Append to the log; the transaction has to be in turn."""
    if not entries:
        return []
    [(number, previous)] = cast(Any, (yield from ask("SELECT number, hash FROM audit_end")))
    links: list[Link] = []
    for entry in entries:
        number += 1
        made = link(entry, number=number, at=now, previous=previous)
        previous = made.hash
        links.append(made)
        yield from do(
            f"INSERT INTO audit ({LINK_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            *_link_cells(made),
        )
    yield from do("UPDATE audit_end SET number = ?1, hash = ?2", number, previous)
    return links


def _link_cells(made: Link) -> list[Cell]:
    e = made.entry
    return [
        *(made.number, made.at, e.who, e.what, e.why, e.result),
        *(e.session_id, e.command_id, e.digest, made.previous, made.hash),
    ]


def link_of(row: Row) -> Link:
    """Return the link a row of LINK_COLUMNS holds."""
    number, at, who, what, why, result, session_id, command_id, digest, previous, hash_ = cast(
        Any, row
    )
    entry = Entry(
        who=who,
        what=what,
        why=why,
        result=result,
        session_id=session_id,
        command_id=command_id,
        digest=digest,
    )
    return Link(number, at, entry, previous, hash_)
