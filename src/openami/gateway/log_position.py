"""How far a meter's event logs are read, in the meter's own time (pure, decision 0057).

A log is asked for by a span of the meter's time, and the meter's clock may be slow, wrong or set meanwhile. So
what is kept is a pair: the meter's time and ours at one moment. What was logged since lies, if nobody set the
clock, between that time and as much later as has passed for us; if somebody set it, also within as long before
what it says now. Both spans are asked for, and neither is longer than what has passed: however the clock jumps,
the whole history is never read again. What was logged between two settings of the clock that nobody saw is not
found.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec
from msgspec.structs import replace

# How far back the first look goes: a week-end of it may be news, what is older is history (as the head-end has it).
FIRST_LOOK: Final = timedelta(days=7)
# What was not read for longer than this is not read any more: most meters keep some hundred entries.
SPAN_MAX: Final = timedelta(days=30)
# What is asked for at once: a day of a bad line is a hundred entries, two seconds at 9600 Bd.
STRETCH: Final = timedelta(days=1)
# Spans overlap, because a clock that is believed may still be a minute off (`METER_CLOCK_DRIFT_S_MAX`).
OVERLAP: Final = timedelta(seconds=90)
# Ids of entries that are read a second time within an overlap; a storm's are more, and are told twice as one event.
RECENT_IDS_MAX: Final = 32

Span = tuple[datetime, datetime]


class LogPosition(msgspec.Struct, frozen=True, kw_only=True):
    """``meter_time`` was the meter's time at ``at``, and up to then its logs are read, but for ``pending``."""

    meter_time: datetime
    at: datetime
    pending: tuple[Span, ...] = ()
    recent: tuple[str, ...] = ()


def looked(before: LogPosition | None, *, meter_time: datetime, now: datetime) -> LogPosition:
    """Return the position with the spans that have to be read now; none are added while some are pending.

    ``now`` is a trusted time.
    """
    if before is None:
        span = (meter_time - FIRST_LOOK, meter_time + OVERLAP)
        return LogPosition(meter_time=meter_time, at=now, pending=(span,))
    if before.pending:
        return before
    passed = now - before.at
    if passed < timedelta():  # our own clock was set back: the meter's is all that tells
        passed = abs(meter_time - before.meter_time)
    passed = min(passed, SPAN_MAX)
    spans = [
        (before.meter_time - OVERLAP, before.meter_time + passed + OVERLAP),
        (meter_time - passed - OVERLAP, meter_time + OVERLAP),
    ]
    return replace(before, meter_time=meter_time, at=now, pending=_joined(spans))


def stretch(position: LogPosition) -> Span | None:
    """Return the next piece that is to be read, the oldest first; None when all is."""
    if not position.pending:
        return None
    first, last = position.pending[0]
    return first, min(last, first + STRETCH)


def read_up_to(position: LogPosition, until: datetime, ids: Iterable[str]) -> LogPosition:
    """Return the position once a piece has been read; ``ids`` are those of its entries."""
    (first, last), rest = position.pending[0], position.pending[1:]
    assert first <= until <= last
    # Both ends of a span are asked for, so the next piece begins where this one ended.
    pending = rest if until == last else ((until, last), *rest)
    recent = tuple(dict.fromkeys((*position.recent, *ids)))[-RECENT_IDS_MAX:]
    return replace(position, pending=pending, recent=recent)


def _joined(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Return spans in order, those that overlap as one."""
    (first, last), *others = sorted(spans)
    for begin, end in others:
        if begin > last:
            return ((first, last), *_joined(others))
        last = max(last, end)
    return ((first, last),)
