"""What goes when the outbox is full: the rule, stage by stage (pure, decision 0020).

Oldest first within a stage, and a stage begins when the one before has nothing left to give:

1. what was sent and is only kept;
2. telemetry of the fast group, whole hours at a time: the billing registers stay complete;
3. other telemetry to one envelope per meter, poll group and hour;
4. to one per meter, poll group and day;
5. the oldest telemetry.

Events never go. Of an hour or a day the first envelope stays, because polling is aligned: the first is
the one on the boundary, and the energy between two boundaries stays exact.

Everything that goes is counted, and what went unsent is told to the head-end in an event, at most one an
hour: a flood of reports about a lack of room would be a poor joke.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from openami.profile import (
    Envelope,
    Event,
    EventSource,
    EventState,
    FeederId,
    GatewayId,
    MeterSerial,
    Obis,
    Quality,
    RegisterReading,
    Severity,
    utc_text,
)

HOUR_MS = 60 * 60 * 1000
DAY_MS = 24 * HOUR_MS
# One transaction deletes about so many: under a second on a slow card, and bounded room in the log.
ENTRIES_PER_PASS = 10_000
EVENT_INTERVAL_MS = HOUR_MS
EVENT_TYPE = "telemetry_thinned"


class Stage(StrEnum):
    """The stages in their order; ``EXPIRED`` is the age bound, which comes before all."""

    EXPIRED = "expired"
    KEPT = "kept"
    FAST = "fast"
    HOURLY = "hourly"
    DAILY = "daily"
    OLDEST = "oldest"


ORDER: Sequence[Stage] = (Stage.KEPT, Stage.FAST, Stage.HOURLY, Stage.DAILY, Stage.OLDEST)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entry that a stage may take: where it belongs, its measured time, when it was appended."""

    seq: int
    topic_id: int
    group: str | None
    ts_ms: int
    since_ms: int
    bytes: int


def choose(stage: Stage, oldest_first: Iterable[Candidate], need: int) -> list[Candidate]:
    """Return what a stage gives up of its candidates to free ``need`` bytes, or all it can.

    Takes little more than ``need``, save that the fast group ends on a whole hour; and no more than a
    pass should (`ENTRIES_PER_PASS`), so the caller asks again until it has enough or nothing comes.
    """
    match stage:
        case Stage.FAST:
            return _whole_hours(oldest_first, need)
        case Stage.HOURLY:
            return _up_to(need, _all_but_first(oldest_first, HOUR_MS))
        case Stage.DAILY:
            return _up_to(need, _all_but_first(oldest_first, DAY_MS))
        case Stage.KEPT | Stage.OLDEST | Stage.EXPIRED:
            return _up_to(need, oldest_first)


def _up_to(need: int, candidates: Iterable[Candidate]) -> list[Candidate]:
    chosen: list[Candidate] = []
    for candidate in candidates:
        if need <= 0 or len(chosen) >= ENTRIES_PER_PASS:
            break
        chosen.append(candidate)
        need -= candidate.bytes
    return chosen


def _whole_hours(candidates: Iterable[Candidate], need: int) -> list[Candidate]:
    # By the hour of appending, not of measuring: a silent meter's last value keeps its old time.
    chosen: list[Candidate] = []
    hour: int | None = None
    for candidate in candidates:
        candidate_hour = candidate.since_ms // HOUR_MS
        if candidate_hour != hour and (need <= 0 or len(chosen) >= ENTRIES_PER_PASS):
            break
        hour = candidate_hour
        chosen.append(candidate)
        need -= candidate.bytes
    return chosen


def _all_but_first(candidates: Iterable[Candidate], period_ms: int) -> Iterator[Candidate]:
    """Yield those that follow another of the same meter, group and period: bounded by the meters."""
    period_of: dict[tuple[int, str | None], int] = {}
    for candidate in candidates:
        series = (candidate.topic_id, candidate.group)
        period = candidate.ts_ms // period_ms
        if period_of.get(series) == period:
            yield candidate
        period_of[series] = period


@dataclass(frozen=True, slots=True)
class Untold:
    """Telemetry that one stage took and no event has told yet, with its measured times."""

    stage: Stage
    entries: int
    oldest_ts: datetime
    newest_ts: datetime


def is_loss(stage: Stage) -> bool:
    """Return whether a stage takes what was never sent. What was sent has been delivered once."""
    return stage is not Stage.KEPT


def thinned_event(
    untold: Sequence[Untold], *, feeder_id: FeederId, gateway_id: GatewayId, seq: int, now: datetime
) -> Envelope:
    """Return the event that tells the head-end what is gone, as a happening of the gateway itself.

    The gateway stands in the meter's place (``meterSerial`` = gateway id) and tells its serial number:
    the one register of the list that is true of it, since ``registers`` may not be empty.
    """
    told = "; ".join(
        f"{part.stage}: {part.entries} envelopes measured {utc_text(part.oldest_ts)} to "
        f"{utc_text(part.newest_ts)}"
        for part in untold
    )
    serial = RegisterReading(Obis.parse("96.1.0"), gateway_id, "", Quality.GOOD)
    return Envelope(
        ts=now,
        feeder_id=feeder_id,
        gateway_id=gateway_id,
        meter_serial=MeterSerial(gateway_id),
        registers=(serial,),
        event=Event(
            event_id=f"{gateway_id}-{EVENT_TYPE}-{seq}",
            type=EVENT_TYPE,
            state=EventState.INSTANT,
            severity=Severity.MAJOR,
            occurred_at=utc_text(now),
            source=EventSource.GATEWAY,
            detail=f"the outbox was full, unsent telemetry was deleted: {told}",
        ),
    )
