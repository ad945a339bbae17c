"""The RetentionStore port: how long readings are kept, and how those that are not go (decision 0074).

First ``keep_since`` says from when on readings are kept; from that moment nothing measured before it is stored, so
what is removed then, little at a time, stays removed. What was folded of it, the value each register said last, and
findings and events remain; a conflict goes with its reading.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple, Protocol

from openami.headend.audit import Entry


class Partition(NamedTuple):
    """A month, or several, as a table of its own; only PostgreSQL has them."""

    table: str
    first: int
    last: int
    """The buckets it takes, both included."""
    readings: int
    """As the server estimates; -1 where it has not looked yet."""
    bytes: int


@dataclass(frozen=True, slots=True)
class Removed:
    """What one step has removed; all zero when nothing is left to remove."""

    readings: int = 0
    """Of a table that was dropped, as the server estimated."""
    conflicts: int = 0
    tables: tuple[str, ...] = ()
    """Those that were dropped."""

    def __add__(self, other: "Removed") -> "Removed":
        return Removed(
            self.readings + other.readings,
            self.conflicts + other.conflicts,
            self.tables + other.tables,
        )

    def __bool__(self) -> bool:
        return bool(self.readings or self.conflicts or self.tables)


class RetentionStore(Protocol):
    """What is kept, and removing the rest. Every method raises StoreError."""

    async def make_months(self, now: datetime) -> Sequence[str]:
        """Make room for what will be measured this month and in the MONTHS_AHEAD after it; return what was made.

        Nothing where an engine needs none. A commit makes what it lacks all the same.
        """
        ...

    async def partitions(self) -> Sequence[Partition]:
        """Return the tables readings lie in, in order of time; none where an engine has one for all."""
        ...

    async def newest_months(self, at_most: int) -> Sequence[int]:
        """Return the months that have readings, the newest first (`months`)."""
        ...

    async def readings_in(self, first: int, last: int) -> int:
        """Count the readings of buckets, both included: a second for each ten million or so."""
        ...

    async def unfolded_days(self, before: date) -> int:
        """Return of how many series and days before a day the energy has still to be folded."""
        ...

    async def keep_since(self, moment: datetime, entry: Entry, now: datetime) -> bool:
        """Keep readings from a moment on, a UTC midnight, and write that into the audit log.

        It only moves on; False, and no entry, if it is there or beyond already.
        """
        ...

    async def remove_some(self, first: int, last: int) -> Removed:
        """Remove a bounded part of what lies in buckets, both included, in one durable transaction.

        To be called until it removes nothing: a partition that lies wholly within is dropped at once, of others go
        some thousand rows at a time. Whoever calls has seen to it that nothing is added to these buckets any more,
        and that the energy of their days is folded. Raises StoreError, too, when somebody holds the table.
        """
        ...
