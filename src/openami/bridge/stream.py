"""A stream: one meter's messages one after the other, and what is remembered between two (pure).

The firmware stamps a failed poll as fresh and repeats its last values for ever. So what it repeats is
doubted: a meter's voltage and frequency move, and values that are all the same for a quarter of an hour are
suspect, for an hour lost. If the stamp itself stands still, the poll has stopped, and they are suspect at
once. Where nothing comes at all the meter is lost after three rounds.

    FRESH → DOUBTED   unchanged for `doubt_after`, or not polled
    FRESH, DOUBTED → LOST   unchanged for `lost_after`, or silent
    DOUBTED, LOST → FRESH   something changed, or a silence was shorter than either
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import groupby
from typing import Final

from openami.bridge.registers import Counters
from openami.profile import Obis, Quality, RegisterReading, Value

# The firmware polls every ten seconds and publishes every 30 s at the most: what comes faster is a repetition
# or somebody else, and would fill the line north.
SPACING_S_MIN: Final = 5.0


class Hearing(StrEnum):
    """How far a stream's values can be taken for new ones."""

    FRESH = "fresh"
    DOUBTED = "doubted"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long values may stay the same, and how long a pole may be silent."""

    doubt_after: timedelta
    lost_after: timedelta
    silent_after: timedelta


@dataclass(frozen=True, slots=True)
class Known:
    """The last value of a register that was vouched for, and when it was measured."""

    ts: datetime
    value: Value
    unit: str


@dataclass(frozen=True, slots=True)
class Stream:
    """What is remembered of one meter, panel or cabinet."""

    content: object = None
    """What the last message measured, whatever its stamp."""
    uptime_ms: int | None = None
    """The last message's stamp."""
    ts: datetime | None = None
    """When that was measured, as published."""
    changed_at: datetime | None = None
    """When it began to be as it is, by the time of arrival."""
    carried_at: datetime | None = None
    """When the last message came that was not turned away."""
    hearing: Hearing = Hearing.FRESH
    known: Mapping[Obis, Known] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    named_on: date | None = None
    """The UTC day on which a nameplate was last published."""


def is_too_soon(stream: Stream, at: datetime) -> bool:
    """Return whether a message comes sooner after the last one than the firmware can measure."""
    if stream.carried_at is None:
        return False
    since = (at - stream.carried_at).total_seconds()
    return 0 <= since < SPACING_S_MIN  # a clock that was set back turns nothing away


def heard(
    stream: Stream, content: object, uptime_ms: int | None, at: datetime, patience: Patience
) -> Stream:
    """Return the stream after a message: how long its content has been the same, and what that makes of it."""
    if content != stream.content or stream.changed_at is None or stream.changed_at > at:
        return replace(
            stream,
            content=content,
            uptime_ms=uptime_ms,
            changed_at=at,
            carried_at=at,
            hearing=Hearing.FRESH,
        )
    unchanged = at - stream.changed_at
    hearing = Hearing.FRESH
    if unchanged >= patience.lost_after:
        hearing = Hearing.LOST
    elif unchanged >= patience.doubt_after or is_not_polled(stream, content, uptime_ms):
        hearing = Hearing.DOUBTED
    return replace(stream, uptime_ms=uptime_ms, carried_at=at, hearing=hearing)


def is_not_polled(stream: Stream, content: object, uptime_ms: int | None) -> bool:
    """Return whether a message is the last one again, stamp included: nothing was measured between."""
    return uptime_ms is not None and uptime_ms == stream.uptime_ms and content == stream.content


def is_silent(stream: Stream, now: datetime, patience: Patience) -> bool:
    """Return whether a stream that was heard has not been for too long, and nobody has said so."""
    return (
        stream.carried_at is not None
        and stream.hearing is not Hearing.LOST
        and now - stream.carried_at >= patience.silent_after
    )


def vouched(stream: Stream, ts: datetime, readings: Iterable[RegisterReading]) -> Stream:
    """Return the stream with the good ones among these readings remembered."""
    known = dict(stream.known)  # bounded by the register list: no other code is ever made
    for reading in readings:
        if reading.quality is Quality.GOOD:
            known[reading.obis] = Known(ts, reading.value, reading.unit)
    return replace(stream, known=known)


def last_known(stream: Stream) -> list[tuple[datetime, tuple[RegisterReading, ...]]]:
    """Return the last values that were vouched for, by measured time, with the quality comms_lost."""
    in_order = sorted(stream.known.items(), key=lambda item: (item[1].ts, item[0]))
    return [
        (
            ts,
            tuple(
                RegisterReading(
                    obis=obis, value=known.value, unit=known.unit, quality=Quality.COMMS_LOST
                )
                for obis, known in same_time
            ),
        )
        for ts, same_time in groupby(in_order, key=lambda item: item[1].ts)
    ]
