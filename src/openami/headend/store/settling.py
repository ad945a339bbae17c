"""The RestoreStore port: what is done once with a store that was brought back from a backup (decision 0066)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


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
