"""What goes into the outbox and what comes out of it."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import msgspec

from openami.gateway.driver import PollGroup
from openami.profile import Envelope, ProfileError


class Kind(StrEnum):
    """Which of the two topics an envelope is for. Events go first and are never thinned."""

    EVENT = "event"
    TELEMETRY = "telemetry"


class State(StrEnum):
    """Where an entry stands on its way north."""

    PENDING = "pending"
    SENT = "sent"
    """Acknowledged by the broker, and kept for a while: a PUBACK is not proof (decision 0008)."""
    HELD = "held"
    """Measured by an untrusted clock; not published before its time is known (decision 0018)."""
    REFUSED = "refused"
    """The broker refused it; it is offered again later."""


class Draft(msgspec.Struct, frozen=True):
    """An envelope to be sent; the outbox gives it its ``seq``.

    ``boottime_s`` is the second of this boot at which ``envelope.ts`` was (``Clock.boottime``), where that
    time was taken from the gateway's clock: with it a clock that is found wrong is corrected. None where the
    time is another's: the meter's own, or an earlier reading's that was dated by a trusted clock.
    """

    envelope: Envelope
    kind: Kind = Kind.TELEMETRY
    group: PollGroup | None = None
    boottime_s: float | None = None


@dataclass(frozen=True, slots=True)
class Sealed:
    """An event whose bytes are fixed once they are signed: a command's report.

    ``seal`` is given the number and returns the payload, so that what is signed holds it too and the head-end
    sees no gap. It runs on the database's thread.
    """

    topic: str
    ts: datetime
    seal: Callable[[int], bytes]


Within = Callable[[sqlite3.Connection], None]
"""Other work that is to be in the same transaction as what is done to the outbox."""
WithinSealed = Callable[[sqlite3.Connection, bytes], None]
"""The same beside a sealed event; it is given the event's payload."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An envelope as it will be published, byte for byte, however often."""

    seq: int
    kind: Kind
    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Unfit:
    """An envelope no head-end could accept: it was not stored. The error says why."""

    envelope: Envelope
    error: ProfileError


@dataclass(frozen=True, slots=True)
class AppendResult:
    """What became of a batch: durable, each under its number, when this is returned."""

    seqs: tuple[int, ...] = ()
    last_seq: int = 0
    """The highest number given so far; the outbox may have had something of its own to say."""
    held: bool = False
    """Whether the clock is not trusted, so that they wait for their time to be known."""
    unfit: tuple[Unfit, ...] = field(default=())
    overdue: bool = False
    """Whether a bound in time, or on what is kept, has more to delete than one pass takes."""


@dataclass(frozen=True, slots=True)
class Resent:
    """How many sent envelopes are pending again, and whether the range holds more than a call takes."""

    entries: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Thinned:
    """What a stage of thinning has taken since the file was made, with its measured times."""

    entries: int
    bytes: int
    oldest_ts: datetime
    newest_ts: datetime
    last: datetime


class OutboxError(Exception):
    """The outbox cannot store or read; what was handed over is not in it, what was in it still is.

    ``remedy`` says in one sentence what a person can do. ``permanent``: waiting will not help.
    """

    def __init__(self, message: str, *, remedy: str, permanent: bool) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.permanent = permanent


class OutboxFull(OutboxError):
    """Nothing is left that may be thinned: ``refused`` drafts of the batch were not stored.

    ``result`` tells what of it was: events have room that telemetry may not take.
    """

    def __init__(self, message: str, *, remedy: str, refused: int, result: AppendResult) -> None:
        super().__init__(message, remedy=remedy, permanent=False)
        self.refused = refused
        self.result = result
