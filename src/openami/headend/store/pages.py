"""The PageStore port: long lists a page at a time, newest first, from a place that stays where it is.

A page begins behind a *key*, what the last row before it is ordered by, and not at a number of rows: what is
added meanwhile moves no row to another page, and the thousandth page costs what the first does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from openami.headend.bulk import Bulk
from openami.headend.commands import LedgerCommand
from openami.headend.sessions import LedgerSession
from openami.headend.store import RejectStatus, StoredEvent, StoredFinding
from openami.profile import TelemetryTopic

T = TypeVar("T")

# A page is one answer held in memory: of commands, each with its signed document, four megabytes.
PAGE_MAX = 1_000

Key = tuple[int | str, ...]
"""What a row is ordered by. Whoever asks for the next page hands back the one they were given."""


@dataclass(frozen=True, slots=True)
class Placed(Generic[T]):
    """A row and its key."""

    key: Key
    row: T


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which rows are wanted; None means whatever. Not every list has every one of these."""

    feeders: frozenset[str] | None = None
    gateway_id: str | None = None
    meter_serial: str | None = None
    obis: str | None = None
    code: str | None = None
    type: str | None = None
    severity: str | None = None
    state: str | None = None
    status: str | None = None
    since: datetime | None = None
    """This moment included, by the time the list is ordered by."""
    until: datetime | None = None
    """Not included."""
    only_open: bool = False


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """A rejected message without its bytes, of which there may be a hundred thousand in each."""

    id: int
    received_at: datetime
    last_received_at: datetime
    topic: str
    code: str
    requirement: str
    path: str
    detail: str
    partial: bool
    status: RejectStatus
    count: int


def topics_begin(feeder_id: str) -> str:
    """Return what every topic of a feeder begins with, and no other topic."""
    return TelemetryTopic.filter(feeder_id).partition("+")[0]


class PageStore(Protocol):
    """Pages of at most PAGE_MAX rows, and one more that tells whether another follows.

    Every method raises StoreError.
    """

    async def events_page(
        self, wanted: Wanted, *, after: Key | None, at_most: int
    ) -> Sequence[Placed[StoredEvent]]:
        """Return events by their ``ts``."""
        ...

    async def findings_page(
        self, wanted: Wanted, *, after: Key | None, at_most: int
    ) -> Sequence[Placed[StoredFinding]]:
        """Return findings by when they were last seen."""
        ...

    async def rejects_page(
        self, wanted: Wanted, *, after: Key | None, at_most: int
    ) -> Sequence[Placed[KeptMessage]]:
        """Return rejected messages by when each first came; with feeders, those whose topic names one."""
        ...

    async def commands_page(
        self, wanted: Wanted, *, after: Key | None, at_most: int
    ) -> Sequence[Placed[LedgerCommand]]:
        """Return commands by when they were requested."""
        ...

    async def sessions_page(
        self, wanted: Wanted, *, after: Key | None, at_most: int
    ) -> Sequence[Placed[LedgerSession]]:
        """Return sessions by when they were requested."""
        ...

    async def bulks_page(
        self, wanted: Wanted, *, after: Key | None, at_most: int
    ) -> Sequence[Placed[Bulk]]:
        """Return bulk disconnections by when they were requested."""
        ...
