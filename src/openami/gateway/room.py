"""How much the outbox may hold, and how long the room lasts (pure, decision 0020)."""

import math
from dataclasses import dataclass
from datetime import timedelta

import msgspec

_MIB = 1024 * 1024
_DAY_S = 24 * 60 * 60

# One part in 16 is left to events: an outbox full of telemetry still takes a tamper alarm.
EVENT_SHARE = 16
# Thinning frees one part in 20 beyond what is needed, so that it runs once in hours, not at every poll.
HEADROOM_SHARE = 20
# SQLite's page, and what of it can hold rows.
_PAGE_BYTES = 4096
_PAGE_ROOM_BYTES = 4084
# A payload's own row header; and the entry's row with its place in the index, at their pages' fill.
_PAYLOAD_HEADER_BYTES = 12
_ENTRY_ROW_BYTES = 100

# The rate of filling is what came in lately: a day back counts 1/e of now.
_RATE_MEMORY_S = _DAY_S
# A longer silence is a gateway that was off, not a village that used less.
_PAUSE_COUNTED_MAX_S = 60 * 60
# Before this the rate is a guess from a poll or two, and no answer is better.
_RATE_KNOWN_AFTER_S = 10 * 60
_ROOM_DAYS_MAX = 36_500.0  # a century: beyond it the number only says "plenty"


class OutboxLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The outbox's bounds; the gateway's table ``[outbox]``."""

    bytes_max: int = 256 * _MIB
    """The whole outbox. Twenty meters at 60 s fill it in twelve days, thinned to 15 min in half a year;
    a quarter of what the smallest memory cards in use have to spare."""
    unsent_days_max: float = 365.0
    """Unsent telemetry older than this goes: nobody bills it, and the registers are totals. Never events."""
    kept_days: float = 7.0
    """How long what was sent can be asked for again (decision 0008): a week covers a head-end that was
    found broken on a Monday."""
    kept_bytes_max: int = 128 * _MIB
    """What was sent and is kept, in bytes; the first to go when room is needed."""


def charged(payload_bytes: int) -> int:
    """Return what an entry takes of the file: its share of a page, not just its own length.

    A payload of 2,100 bytes fills a page alone. A test holds the sum of all charges against the pages of
    the file.
    """
    row = payload_bytes + _PAYLOAD_HEADER_BYTES
    if row > _PAGE_ROOM_BYTES:  # the rest goes to pages of its own
        return (row // _PAGE_ROOM_BYTES + 1) * _PAGE_BYTES + _ENTRY_ROW_BYTES
    return _PAGE_BYTES // (_PAGE_ROOM_BYTES // row) + _ENTRY_ROW_BYTES


@dataclass(frozen=True, slots=True)
class Usage:
    """What the outbox holds, in charged bytes."""

    unsent_events: int
    unsent_telemetry: int
    kept: int

    @property
    def total(self) -> int:
        return self.unsent_events + self.unsent_telemetry + self.kept


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Up to where telemetry and events may fill the outbox, in charged bytes."""

    telemetry: int
    events: int


def ceiling(limits: OutboxLimits, *, file_bytes: int, disk_free: int) -> Ceiling:
    """Return the bounds now: the configured ones, or what the disk still gives if that is less.

    ``file_bytes`` is the file as it lies there, its free pages included: they are filled again.
    """
    events = min(limits.bytes_max, file_bytes + max(0, disk_free))
    return Ceiling(telemetry=events - events // EVENT_SHARE, events=events)


@dataclass(frozen=True, slots=True)
class Shortage:
    """A batch that does not fit: what must go so that it does, and what should go besides."""

    must: int
    headroom: int
    hopeless: bool
    """Whether it would not fit if everything that may go went: then nothing should."""


def shortage(usage: Usage, incoming: int, bound: int) -> Shortage | None:
    """Return what is missing for ``incoming`` bytes under a bound, or None when they fit."""
    must = usage.total + incoming - bound
    if must <= 0:
        return None
    return Shortage(
        must, headroom=bound // HEADROOM_SHARE, hopeless=usage.unsent_events + incoming > bound
    )


@dataclass(frozen=True, slots=True)
class FillRate:
    """How fast the outbox fills: a sum in which older bytes weigh less, and the time it covers."""

    recent_bytes: float = 0.0
    observed_s: float = 0.0

    def after(self, appended: int, elapsed_s: float) -> "FillRate":
        """Return the rate once ``appended`` bytes came, ``elapsed_s`` after the last."""
        elapsed_s = min(max(elapsed_s, 0.0), _PAUSE_COUNTED_MAX_S)
        weight = math.exp(-elapsed_s / _RATE_MEMORY_S)
        return FillRate(self.recent_bytes * weight + appended, self.observed_s + elapsed_s)

    @property
    def bytes_per_day(self) -> float | None:
        """The rate, or None while too little was seen to say."""
        if self.observed_s < _RATE_KNOWN_AFTER_S:
            return None
        # The weights of an endless stream sum to the memory; of a young one, to what of it was lived.
        weighed_s = _RATE_MEMORY_S * -math.expm1(-self.observed_s / _RATE_MEMORY_S)
        return self.recent_bytes / weighed_s * _DAY_S


def room_left(rate: FillRate, usage: Usage, bound: Ceiling) -> timedelta | None:
    """Return how long the outbox can go on without an uplink and without thinning; None: unknown.

    What was sent makes way first, so it does not count against the room.
    """
    per_day = rate.bytes_per_day
    if not per_day:
        return None
    free = max(0, bound.telemetry - usage.unsent_events - usage.unsent_telemetry)
    return timedelta(days=min(free / per_day, _ROOM_DAYS_MAX))
