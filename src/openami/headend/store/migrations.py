"""The schema's numbered files: which of them a database still lacks.

Each is applied in one transaction together with the note that it was, so a crash leaves a schema that is
whole. Files are read in order and never edited.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from openami.headend.store import StoreError

SCHEMA: Final = Path(__file__).parent / "schema"

NOTE_TABLE: Final = (
    "CREATE TABLE migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL, "
    "applied_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)"
)
NOTE: Final = "INSERT INTO migration (number, name) VALUES (?1, ?2)"
APPLIED: Final = "SELECT coalesce(max(number), 0) FROM migration"

_name = re.compile(r"(\d{4})_(\w+)\.sql", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True, order=True)
class Migration:
    """One step of the schema."""

    number: int
    name: str
    script: str


def migrations(directory: Path) -> list[Migration]:
    """Return a folder's steps in order: 1, 2, 3 … without a gap."""
    found = sorted(
        Migration(int(name[1]), file.name, file.read_text("utf-8"))
        for file in directory.iterdir()
        if (name := _name(file.name))
    )
    assert [step.number for step in found] == list(range(1, len(found) + 1)), directory
    return found


def pending(steps: list[Migration], applied: int, *, where: str) -> list[Migration]:
    """Return the steps a database lacks. Raises StoreError when it is ahead of this program."""
    if applied > len(steps):
        raise StoreError(
            f"{where} has schema {applied}, and this program knows up to {len(steps)}",
            remedy="a newer openami has written it: install that version, or name another store",
            permanent=True,
        )
    return steps[applied:]


def refuse_pending(steps: list[Migration], applied: int, *, where: str) -> None:
    """Raise StoreError unless the schema is this program's own: only the head-end changes it."""
    if pending(steps, applied, where=where):
        raise StoreError(
            f"{where} has schema {applied}, and this program needs {len(steps)}",
            remedy="start the head-end of this version once: it brings the store up to date",
            permanent=True,
        )
