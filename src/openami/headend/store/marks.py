"""Marks: tables that say why nothing but a reader opens a store (decisions 0066, 0068).

A mark is put there in the transaction that makes it true, and taken away in the one that makes it false.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Final, assert_never

from openami.headend.store import StoreError
from openami.headend.store.steps import Row


class Mark(StrEnum):
    """Why a store must not act, by the name of the table that says so."""

    UNSETTLED = "unsettled"
    """It came from a backup, and what was open in it could act again."""
    UNFINISHED = "unfinished"
    """A store is being moved into it; not everything is there."""
    MOVED = "moved"
    """Its state goes on in another place: ``place``, since ``moved_at``."""


CREATE: Final = {
    Mark.UNSETTLED: f"CREATE TABLE {Mark.UNSETTLED} (taken_at TEXT NOT NULL)",
    Mark.UNFINISHED: f"CREATE TABLE {Mark.UNFINISHED} (begun_at TEXT NOT NULL)",
    Mark.MOVED: f"CREATE TABLE {Mark.MOVED} (place TEXT NOT NULL, moved_at TEXT NOT NULL)",
}

Found = Mapping[Mark, Row | None]
"""The marks of a store, each with its row."""


def refuse_marked(found: Found, *, where: str, despite: Collection[Mark] = ()) -> None:
    """Raise StoreError for a store that has a mark, but for those that are no obstacle to who opens it."""
    for mark, row in found.items():
        if mark not in despite:
            raise _refusal(mark, row, where)


def _refusal(mark: Mark, row: Row | None, where: str) -> StoreError:
    match mark:
        case Mark.UNSETTLED:
            return StoreError(
                f"{where} was restored from a backup and is not settled: it could repeat old commands",
                remedy="run `openami headend settle` on it once",
                permanent=True,
            )
        case Mark.UNFINISHED:
            return StoreError(
                f"{where} is the target of a move that is not finished: it does not hold everything",
                remedy="run `openami headend migrate-store` once more, from the same source; that one is whole",
                permanent=True,
            )
        case Mark.MOVED:
            place, moved_at = row or ("another place", "an unknown time")
            return StoreError(
                f"{where} was moved to {place} at {moved_at}: two head-ends with one state could both act on it",
                remedy="name the new store; to come back to this one, stop the other for good and run "
                f"`openami headend settle --taken-at {moved_at}` on this one",
                permanent=True,
            )
        case _:
            assert_never(mark)
