"""The RestoreStore port: what is done once with a store that was brought back from a backup (decision 0066).

The table ``unsettled`` is put there in the moment of restoring. While it is there, nothing but a reader opens the
store.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from openami.headend.store import StoreError

UNSETTLED: Final = "unsettled"
MARK: Final = f"CREATE TABLE {UNSETTLED} (taken_at TEXT NOT NULL)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What of a restored store was put out of force."""

    commands: int
    sessions: int
    bulks: int
    sign_ins: int
    links: int
    tokens: tuple[str, ...]
    """The labels of the tokens that could order relays or make accounts."""


class RestoreStore(Protocol):
    """What the head-end does once with a store that was brought back. Raises StoreError."""

    async def settle(self, *, taken_at: datetime, who: str, now: datetime) -> Settled:
        """End what was open when the backup was taken, in one transaction with the audit entry that says so."""
        ...


def refuse_unsettled(is_marked: bool, *, where: str) -> None:
    """Raise StoreError for a store whose restore was not finished."""
    if is_marked:
        raise StoreError(
            f"{where} was restored from a backup and is not settled: it could repeat old commands",
            remedy="run `openami headend settle` on it once",
            permanent=True,
        )
