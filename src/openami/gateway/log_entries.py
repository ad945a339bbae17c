"""From entries of a meter's event log to what would be told of them (pure, decision 0057)."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from openami.gateway.driver import LoggedEvent
from openami.gateway.event_codes import Certainty, Meaning, meanings
from openami.gateway.event_drafts import Candidate
from openami.gateway.event_types import EVENT_CODE, EventType
from openami.gateway.events import LoggedCode, event_id
from openami.gateway.normalise import METER_CLOCK_DRIFT_S_MAX, to_the_millisecond
from openami.gateway.telling import Happening, Telling
from openami.profile import EventState, MeterSerial, Quality, RegisterReading
from openami.profile.event import EVENT_NAME_PATTERN

EVENT_CODE_UNIT: Final = "code"
# Before it no meter of ours was made: a clock that says so has lost the time (decision 0005).
EARLIEST: Final = datetime(2020, 1, 1, tzinfo=UTC)
# What JSON readers agree on; a larger code is noise on the line.
_CODE_MAX: Final = 2**53 - 1
_is_name = re.compile(EVENT_NAME_PATTERN).fullmatch
LOG_PART: Final = "log"
"""Conditions of a log are not those of the rules: each has its own end, and the two together are one alarm."""
# A driver of somebody else's may call its numbering what no event may be called.
UNNAMED: Final = "unnamed"


@dataclass(frozen=True, slots=True)
class Entries:
    """What a piece of a log gives rise to; ``ids`` are those of all its entries, told before or not."""

    candidates: tuple[Candidate, ...]
    ids: tuple[str, ...]


def entries(
    found: Iterable[LoggedEvent],
    *,
    serial: MeterSerial,
    recent: Sequence[str],
    telling: Telling,
    now: datetime,
    boottime_s: float,
) -> Entries:
    """Return what is new among entries that were in hand at ``now``, a trusted time.

    Each is stamped a millisecond after the one before it: two codes at one time would be two values of one reading
    (decision 0006).
    """
    new: dict[str, LoggedEvent] = {}
    ids: dict[str, None] = {}
    for entry in sorted(found, key=lambda each: (each.at, each.log, each.code)):
        if not 0 <= entry.code <= _CODE_MAX:
            continue
        code = _code(entry)
        name = event_id(serial, *code.identity)
        ids[name] = None
        if name not in recent:
            new[name] = entry
    observed = to_the_millisecond(now)
    candidates: list[Candidate] = []
    open_now = set(telling.open)
    for entry in new.values():
        for meaning in _told(entry, open_now):
            at = len(candidates)
            second = boottime_s + at / 1000
            moment = observed + timedelta(milliseconds=at)
            candidates.append(_candidate(entry, meaning, moment, second))
            _follow(open_now, candidates[-1].happening)
    return Entries(tuple(candidates), tuple(ids))


def _told(entry: LoggedEvent, open_now: set[str]) -> tuple[Meaning, ...]:
    """Return what an entry tells; a code that ends two things ends the one that was begun, if it was told."""
    found = meanings(entry.code_system, entry.code)
    ended = tuple(
        meaning
        for meaning in found
        if meaning.state is EventState.CLEARED and _happening(meaning).key in open_now
    )
    return ended or found


def _happening(meaning: Meaning) -> Happening:
    part = f"{LOG_PART} {meaning.part}".rstrip()
    return Happening(meaning.type, meaning.state, part, meaning.severity)


def _follow(open_now: set[str], happening: Happening) -> None:
    if happening.state is EventState.RAISED:
        open_now.add(happening.key)
    elif happening.state is EventState.CLEARED:
        open_now.discard(happening.key)


def _candidate(
    entry: LoggedEvent, meaning: Meaning, observed: datetime, boottime_s: float
) -> Candidate:
    believed = entry.at_believed and EARLIEST <= entry.at <= observed + timedelta(
        seconds=METER_CLOCK_DRIFT_S_MAX
    )
    quality = Quality.GOOD if believed else Quality.SUSPECT
    return Candidate(
        happening=_happening(meaning),
        detail="; ".join(_words(entry, meaning, believed=believed)),
        ts=observed,
        # What is not believed cannot put a beginning and its end in order: it is told in words instead.
        occurred_at=to_the_millisecond(entry.at) if believed else observed,
        registers=(
            RegisterReading(
                obis=EVENT_CODE, value=entry.code, unit=EVENT_CODE_UNIT, quality=quality
            ),
        ),
        boottime_s=boottime_s,
        logged=_code(entry),
    )


def _words(entry: LoggedEvent, meaning: Meaning, *, believed: bool) -> Iterator[str]:
    if meaning.part or meaning.words:
        yield " ".join(part for part in (meaning.part, meaning.words) if part)
    if meaning.type is EventType.METER_LOG_ENTRY:
        yield f"code {entry.code} of {entry.code_system} is not one we know"
    elif meaning.certainty is Certainty.UNVERIFIED:
        yield "the meaning of this code is unverified: compare it with the maker's list"
    if not believed:
        yield f"the meter's own time for it, {entry.at.isoformat()}, is not believed"
    yield f"log {entry.log}"


def _code(entry: LoggedEvent) -> LoggedCode:
    system = entry.code_system if _is_name(entry.code_system) else UNNAMED
    return LoggedCode(entry.log, entry.at, system, entry.code)
