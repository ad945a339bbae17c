"""The Store port: what the head-end keeps, behind one narrow door with two engines.

``commit`` is one durable transaction for a whole batch: when it returns, everything in it survives a
power cut, and the uplink may acknowledge. It is idempotent: the same batch again changes nothing but the
count of duplicates (decision 0006).

Two deliveries under one identity (feeder, meter, register, measured time to the millisecond):

* the same value is a duplicate, counted and not stored; equal numbers are the same value, 1 and 1.0 among
  them, and the first one's JSON type stays; ``true`` is no number, and the unit is part of the value;
* another value is a conflict: the first stays in force, the other is kept beside it, up to
  CONFLICTS_KEPT_PER_READING_MAX, and a finding CONFLICT_FINDING is raised;
* the same value with another quality is a duplicate too, and the two qualities are settled without
  regard to which came first, because a gateway sends the newest first and backfills later:

  - the *stored reading* says what is known of the measurement. ``comms_lost`` repeats an old value to
    say that the meter is silent now; it says nothing about the measurement, so it never replaces
    ``good`` or ``suspect`` and gives way to them. Between these two, ``suspect`` stays: never raised.
  - the *latest* reading says what is known of the meter. It shows the worst quality told at the latest
    measured time, until a newer measured time arrives.

Errors: a store lets only StoreError out.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from openami.headend.audit import Entry
from openami.headend.ingest import Decision
from openami.profile import Obis, Quality, Value, utc_text

# What a person may list in one answer; more is paged or streamed.
ROWS_MAX = 10_000
# Rejected messages are evidence and are replayable; 30 days covers a vendor's answer (profile
# interpretation, decision 0006). The bytes bound holds against a flood.
REJECTED_KEPT_DAYS = 30
REJECTED_KEPT_BYTES_MAX = 256 * 1024 * 1024
# Twice what a message may have (decision 0016): a larger one could never be accepted, and one giant must
# not push all other evidence out. Of a larger message the beginning is kept, and the detail says so.
REJECT_PAYLOAD_BYTES_MAX = 128 * 1024
# A year and a month of findings: this month beside the same month of last year.
FINDINGS_KEPT_DAYS = 400
# A second and third opinion on one reading are evidence; a hundredth is a flood, and is only counted.
CONFLICTS_KEPT_PER_READING_MAX = 8

CONFLICT_FINDING = "CONFLICT"
"""The code of the finding a store raises when it keeps a second value for one identity."""


class StoreError(Exception):
    """The database cannot be reached or written; what was handed over is not committed.

    ``remedy`` says in one sentence what a person can do about it. ``permanent``: waiting will not help
    (an unwritable directory, a wrong password, a schema newer than this program).
    """

    def __init__(self, message: str, *, remedy: str = "", permanent: bool = False) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.permanent = permanent


class BeyondRetentionError(StoreError):
    """A batch holds readings from before those that are kept; nothing of it is committed."""

    def __init__(self, kept_since: datetime) -> None:
        super().__init__(
            f"readings measured before {utc_text(kept_since)} are kept no longer",
            remedy="[retention] of the head-end's configuration said so; they are in its backups and exports",
            permanent=True,
        )
        self.kept_since = kept_since


class LeaseLost(StoreError):
    """The slice that was to be written for is held by another head-end (decision 0073); nothing was written."""

    def __init__(self, number: int, term: int) -> None:
        super().__init__(
            f"slice {number} is not held in term {term} any more: another worker has it"
        )


class Access(StrEnum):
    """What a process wants of the store."""

    OWN = "own"
    """The head-end itself: makes the store and migrates its schema. In SQLite it is alone in having it open so."""
    EDIT = "edit"
    """A short command beside a running head-end: may replay and drop, never migrates."""
    READ = "read"
    """Reads only; needs no write permission."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the readings and messages of one or more commits.

    ``conflicts`` counts each conflicting value the first time it is told, and every one beyond the
    number kept. ``rejects_pruned`` are kept messages that had to go because of their bounds.
    """

    messages: int = 0
    stored: int = 0
    duplicates: int = 0
    conflicts: int = 0
    rejected_messages: int = 0
    rejected_items: int = 0
    events: int = 0
    rejects_pruned: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.messages + other.messages,
            self.stored + other.stored,
            self.duplicates + other.duplicates,
            self.conflicts + other.conflicts,
            self.rejected_messages + other.rejected_messages,
            self.rejected_items + other.rejected_items,
            self.events + other.events,
            self.rejects_pruned + other.rejects_pruned,
        )


# A Struct is made in a fifth of the time of a dataclass, and a month of one register is three thousand of these.
class Reading(Struct, frozen=True):
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
    withholds: bool = False
    """Whether it tells that readings wait by its monthly cap: an alarm that stands."""


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
        """Commit a batch durably, in one transaction.

        Raises BeyondRetentionError for readings from before `kept_since`, and StoreError; then nothing of it is.
        """
        ...

    async def kept_since(self) -> datetime | None:
        """Return from when on readings are kept, by measured time; None where all are."""
        ...

    async def prove_writable(self) -> None:
        """Return when a transaction that changes nothing has been committed durably. Raises StoreError."""
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
        """Stream readings by measured time, then register; ``since`` included, ``until`` not.

        Memory and locks are held for one page at a time: a slow reader never stops the head-end.
        """
        ...

    async def conflicts(self, feeder_id: str, meter_serial: str) -> Sequence[Conflict]: ...

    async def events(
        self,
        *,
        feeder_id: str | None = None,
        meter_serial: str | None = None,
        event_id: str | None = None,
        at_most: int = 100,
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

    async def replay(
        self, reject_id: int, decision: Decision, entry: Callable[[Tally], Entry], now: datetime
    ) -> Tally:
        """Commit a kept message's new verdict, and mark it replayed if nothing is left rejected.

        The message keeps its original time of receipt. One transaction, in which ``entry`` says of the tally
        what the audit log keeps. The tally tells the verdict; to the totals it adds only what was stored,
        because the message was counted when it came. Raises StoreError.
        """
        ...

    async def drop(self, reject_id: int, entry: Entry, now: datetime) -> bool:
        """Mark a kept message dropped, and note it; its bytes go with the next prune. False if unknown."""
        ...

    async def prune(self, now: datetime) -> int:
        """Delete dropped messages and what is beyond its bounds; return how many messages went."""
        ...
