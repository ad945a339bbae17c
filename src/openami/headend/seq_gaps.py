"""Which of a gateway's numbers have come: runs of `seq`, the holes between them, and cards that were replaced.

Pure, and cheap enough for every batch of the stream (decisions 0008, 0030). Numbers come newest first, are
backfilled, delivered again and sent again; whatever the order, the same numbers make the same runs.

A gateway whose memory card was replaced counts from 1 again: a new *epoch* of numbers. It is recognised by what
cannot be within one epoch. Numbers are given in the order of time, and nothing is measured after it was received;
so once number N has been received at some moment, no number up to N is measured after that moment. One that is
belongs to another count. A redelivery or a resend keeps its measured time and can never look so.

A time of None is one that says nothing of when its number was given: `comms_lost` repeats an old value with its
old time, and of a rejected message nothing but the number is believed.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import msgspec

from openami.headend.ingest import Message
from openami.profile import (
    AHEAD_OF_CLOCK_MAX_S,
    EventTopic,
    ProfileError,
    TelemetryTopic,
    parse_topic,
)
from openami.profile.audit import is_seq

# Runs remembered of one epoch, 40 bytes each: a gateway that loses something every hour fills them in ten days,
# and what is older can no longer be asked for. Beyond that the lowest hole is forgotten, and counted.
RUNS_MAX: Final = 256
# Twice what a gateway's clock may be ahead of ours: until then a number may just be early.
EPOCH_SLACK_MS: Final = 2 * AHEAD_OF_CLOCK_MAX_S * 1000
# What a broker or a stick still holds of the old card comes within a day, or is not waited for.
PREVIOUS_KEPT_MS: Final = 24 * 60 * 60 * 1000


class Numbered(NamedTuple):
    """A number that came, and when its envelope was measured, in milliseconds since 1970."""

    seq: int
    ts_ms: int | None


class Run(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Numbers that have all come, from first to last, with the measured times at its edges."""

    first: int
    last: int
    first_ms: int | None
    last_ms: int | None


class Hole(NamedTuple):
    """Numbers between two runs that have not come, and between which times they were measured."""

    epoch: int
    first: int
    last: int
    from_ms: int | None
    to_ms: int | None

    @property
    def missing(self) -> int:
        """How many numbers it has."""
        return self.last - self.first + 1


class Epoch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One count of a gateway. ``runs`` is never empty, ascending and never adjacent."""

    number: int
    runs: tuple[Run, ...]
    began_ms: int
    """When its first number came."""
    top_received_ms: int
    """When its highest number first came."""
    forgotten: int = 0
    """Missing numbers in holes that were given up for others (RUNS_MAX)."""
    forgotten_until: int = 0
    """The highest of these."""

    @property
    def top(self) -> int:
        """The highest number that came."""
        return self.runs[-1].last

    def holes(self) -> Iterator[Hole]:
        """Yield what is missing, the lowest first. Below the lowest number that came, nothing is."""
        runs = self.runs
        for at in range(1, len(runs)):
            yield Hole(
                self.number,
                runs[at - 1].last + 1,
                runs[at].first - 1,
                _known(t for run in reversed(runs[:at]) for t in (run.last_ms, run.first_ms)),
                _known(t for run in runs[at:] for t in (run.first_ms, run.last_ms)),
            )


class Numbering(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is known of a gateway's numbers: the count in force, and for a day the one before it."""

    current: Epoch
    previous: Epoch | None = None

    def holes(self) -> list[Hole]:
        """Return everything that is missing, the older count first."""
        epochs = (self.previous, self.current)
        return [hole for epoch in epochs if epoch is not None for hole in epoch.holes()]


def merged(
    before: Numbering | None, told: Sequence[Numbered], received_ms: int
) -> Numbering | None:
    """Return the numbering after a batch, received until a moment. None: there has never been a number."""
    if not told:
        return before
    told = sorted(told, key=_by_number)
    if before is None:
        return Numbering(_started(1, told, received_ms))
    current, previous = before.current, before.previous
    if previous is not None and received_ms > current.began_ms + PREVIOUS_KEPT_MS:
        previous = None
    if previous is not None:
        ended_ms = previous.top_received_ms + EPOCH_SLACK_MS
        older = [each for each in told if each.ts_ms is not None and each.ts_ms <= ended_ms]
        if older:
            previous = _extended(previous, older, received_ms)
            told = [each for each in told if each.ts_ms is None or each.ts_ms > ended_ms]
    limit_ms, top = current.top_received_ms + EPOCH_SLACK_MS, current.top
    began_ms = min(
        (ts for seq, ts in told if seq <= top and ts is not None and ts > limit_ms), default=None
    )
    if began_ms is None:
        return Numbering(_extended(current, told, received_ms), previous)
    newer = [each for each in told if each.ts_ms is None or each.ts_ms >= began_ms]
    older = [each for each in told if each.ts_ms is not None and each.ts_ms < began_ms]
    return Numbering(
        _started(current.number + 1, newer, received_ms), _extended(current, older, received_ms)
    )


def rejected_number(message: Message) -> tuple[str, str, int] | None:
    """Return whose number a message has that was rejected as a whole: feeder, gateway, number.

    None where it cannot be read, or where message and topic do not agree on the gateway.
    """
    if message.retain:
        return None
    try:
        topic = parse_topic(message.topic)
        header = msgspec.json.decode(message.payload, type=_Header)
    except (ProfileError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(topic, TelemetryTopic | EventTopic) or not is_seq(header.seq):
        return None
    named = (header.feeder_id, header.gateway_id)
    return (*named, header.seq) if named == (topic.feeder_id, topic.gateway_id) else None


class _Header(msgspec.Struct, rename="camel"):
    feeder_id: str
    gateway_id: str
    seq: object


def _by_number(told: Numbered) -> int:
    return told.seq


def _started(number: int, told: Sequence[Numbered], received_ms: int) -> Epoch:
    return _bounded(Epoch(number, tuple(_runs_of(told)), received_ms, received_ms))


def _extended(epoch: Epoch, told: Sequence[Numbered], received_ms: int) -> Epoch:
    """Return the epoch with more numbers, ascending."""
    if not told:
        return epoch
    runs = tuple(_joined(epoch.runs, _runs_of(told)))
    top_received_ms = received_ms if told[-1].seq > epoch.top else epoch.top_received_ms
    return _bounded(msgspec.structs.replace(epoch, runs=runs, top_received_ms=top_received_ms))


def _runs_of(told: Sequence[Numbered]) -> list[Run]:
    runs: list[Run] = []
    first, first_ms = told[0]
    last, last_ms = first, first_ms
    for seq, ts_ms in told:
        if seq > last + 1:
            runs.append(Run(first, last, first_ms, last_ms))
            first, first_ms, last_ms = seq, ts_ms, ts_ms
        last = seq
        if ts_ms is not None:
            last_ms = ts_ms
            if first_ms is None:
                first_ms = ts_ms
    runs.append(Run(first, last, first_ms, last_ms))
    return runs


def _joined(known: Sequence[Run], new: Sequence[Run]) -> list[Run]:
    """Merge two ascending lists of runs."""
    joined: list[Run] = []
    for run in sorted((*known, *new), key=_by_first):
        if joined and run.first <= joined[-1].last + 1:
            joined[-1] = _one(joined[-1], run)
        else:
            joined.append(run)
    return joined


def _by_first(run: Run) -> tuple[int, bool]:
    return run.first, run.first_ms is None


def _one(lower: Run, upper: Run) -> Run:
    """Join two runs that touch or overlap, the one that begins lower first."""
    first_ms = upper.first_ms if lower.first_ms is None else lower.first_ms
    high, low = (upper, lower) if upper.last > lower.last else (lower, upper)
    last_ms = low.last_ms if high.last_ms is None else high.last_ms
    return Run(lower.first, high.last, first_ms, last_ms)


def _bounded(epoch: Epoch) -> Epoch:
    """Give up the lowest holes where there are too many: they are the oldest, and asked for longest."""
    excess = len(epoch.runs) - RUNS_MAX
    if excess <= 0:
        return epoch
    given_up, kept = epoch.runs[: excess + 1], epoch.runs[excess + 1 :]
    lowest = given_up[0]
    for run in given_up[1:]:
        lowest = _one(lowest, run)
    missing = sum(b.first - a.last - 1 for a, b in pairwise(given_up))
    return msgspec.structs.replace(
        epoch,
        runs=(lowest, *kept),
        forgotten=epoch.forgotten + missing,
        forgotten_until=given_up[-1].first - 1,
    )


def _known(times: Iterator[int | None]) -> int | None:
    """Return the first time that is known."""
    return next((time for time in times if time is not None), None)
