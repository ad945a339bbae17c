"""The Store port: what the head-end keeps, behind one narrow door with two engines.

``commit`` is one durable transaction for a whole batch: when it returns, everything in it survives a
power cut, and the uplink may acknowledge. It is idempotent: the same batch again changes nothing but the
count of duplicates (decision 0006).

Errors: a store lets only StoreError out.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from openami.headend.ingest import Decision
from openami.profile import Obis, Quality, Value

# What a person may list in one answer; more is paged or streamed.
ROWS_MAX = 10_000
# Rejected messages are evidence and are replayable; 30 days covers a vendor's answer (profile
# interpretation, decision 0006). The bytes bound holds against a flood.
REJECTED_KEPT_DAYS = 30
REJECTED_KEPT_BYTES_MAX = 256 * 1024 * 1024


class StoreError(Exception):
    """The database cannot be reached or written; what was handed over is not committed.

    ``remedy`` says in one sentence what a person can do about it. ``permanent``: waiting will not help
    (an unwritable directory, a wrong password, a schema newer than this program).
    """

    def __init__(self, message: str, *, remedy: str = "", permanent: bool = False) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the readings and messages of one or more commits."""

    messages: int = 0
    stored: int = 0
    duplicates: int = 0
    conflicts: int = 0
    rejected_messages: int = 0
    rejected_items: int = 0
    events: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.messages + other.messages,
            self.stored + other.stored,
            self.duplicates + other.duplicates,
            self.conflicts + other.conflicts,
            self.rejected_messages + other.rejected_messages,
            self.rejected_items + other.rejected_items,
            self.events + other.events,
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """One stored register value; measured and received time apart, always."""

    feeder_id: str
    meter_serial: str
    obis: Obis
    ts: datetime
    value: Value
    unit: str
    quality: Quality
    received_at: datetime


@dataclass(frozen=True, slots=True)
class FeederRow:
    """A feeder as the stream has shown it."""

    feeder_id: str
    gateways: int
    meters: int
    first_seen: datetime
    last_seen: datetime


@dataclass(frozen=True, slots=True)
class GatewayRow:
    """A gateway: when it last spoke, and the highest number it gave an envelope."""

    feeder_id: str
    gateway_id: str
    first_seen: datetime
    last_seen: datetime
    last_seq: int | None


@dataclass(frozen=True, slots=True)
class MeterRow:
    """A meter: through which gateway it last spoke, when that was received and measured."""

    feeder_id: str
    meter_serial: str
    gateway_id: str
    first_seen: datetime
    last_seen: datetime
    last_ts: datetime
    worst_quality: Quality
    """The worst quality among its latest readings."""
    latest_good_ts: datetime | None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event, as told by its first delivery."""

    feeder_id: str
    meter_serial: str
    gateway_id: str
    event_id: str
    type: str
    state: str
    severity: str
    occurred_at: datetime
    ts: datetime
    received_at: datetime
    payload: bytes


@dataclass(frozen=True, slots=True)
class StoredFinding:
    """A finding, folded per day, meter, register and code."""

    day: str
    feeder_id: str
    meter_serial: str
    obis: str
    code: str
    count: int
    detail: str
    last_seen: datetime


@dataclass(frozen=True, slots=True)
class Conflict:
    """A second value for an identity that already had one; the first stays in force."""

    kept: Reading
    other: Reading


class RejectStatus(StrEnum):
    """What became of a rejected message."""

    OPEN = "open"
    REPLAYED = "replayed"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Reject:
    """A kept message and its first fault; ``partial`` when its good registers were stored.

    ``count`` folds identical messages (same topic, same bytes).
    """

    id: int
    received_at: datetime
    topic: str
    payload: bytes
    code: str
    requirement: str
    path: str
    detail: str
    partial: bool
    status: RejectStatus
    count: int


class Store(Protocol):
    """What the head-end keeps. Open it with ``open_store``."""

    async def commit(self, batch: Sequence[Decision]) -> Tally:
        """Commit a batch durably, in one transaction. Raises StoreError; then nothing of it is."""
        ...

    async def totals(self) -> Tally:
        """Return the tally of all commits since the store was made."""
        ...

    async def feeders(self) -> Sequence[FeederRow]: ...

    async def gateways(self, feeder_id: str | None = None) -> Sequence[GatewayRow]: ...

    async def meters(
        self, *, feeder_id: str | None = None, meter_serial: str | None = None
    ) -> Sequence[MeterRow]: ...

    async def latest(self, feeder_id: str, meter_serial: str) -> Sequence[Reading]:
        """Return each register's value of the latest measured time."""
        ...

    def readings(
        self,
        feeder_id: str,
        meter_serial: str,
        *,
        obis: Obis | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncIterator[Reading]:
        """Stream readings by measured time, then register; ``since`` included, ``until`` not."""
        ...

    async def conflicts(self, feeder_id: str, meter_serial: str) -> Sequence[Conflict]: ...

    async def events(
        self, *, feeder_id: str | None = None, meter_serial: str | None = None, at_most: int = 100
    ) -> Sequence[StoredEvent]: ...

    async def findings(
        self, *, feeder_id: str | None = None, meter_serial: str | None = None, at_most: int = 100
    ) -> Sequence[StoredFinding]: ...

    async def rejects(
        self, *, status: RejectStatus | None = None, at_most: int = 100
    ) -> Sequence[Reject]:
        """Return kept messages, newest first."""
        ...

    async def reject(self, reject_id: int) -> Reject | None: ...

    async def replay(self, reject_id: int, decision: Decision) -> Tally:
        """Commit a kept message's new verdict, and mark it replayed if nothing is left rejected.

        The message keeps its original time of receipt. One transaction. Raises StoreError.
        """
        ...

    async def drop(self, reject_id: int) -> bool:
        """Mark a kept message dropped; its bytes go with the next prune. False if unknown."""
        ...

    async def prune(self, now: datetime) -> int:
        """Delete rejected messages beyond their bounds; return how many went."""
        ...


class StoreFactory(Protocol):
    """``sqlite:///path`` or ``postgresql://…`` to an open store, its schema migrated."""

    def __call__(self, url: str) -> AbstractAsyncContextManager[Store]: ...
