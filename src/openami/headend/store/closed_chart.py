"""A chart of a register over closed and live months. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, cast

from openami.headend.consumption import GAP_MS
from openami.headend.store.closed import Span
from openami.headend.store.closed_content import charted, opened
from openami.headend.store.energy import ChartPoint
from openami.headend.store.identity import (
    COMMS_LOST_RANK,
    SUSPECT_RANK,
    from_ms,
    is_number,
    ms_at,
    rank_of,
)
from openami.headend.store.steps import Row


@dataclass(frozen=True, slots=True)
class Window:
    """The time of a chart and its steps, in milliseconds."""

    begin: int
    end: int
    step_ms: int


@dataclass(slots=True)
class _Step:
    count: int = 0
    least: float = float("inf")
    total: float = 0.0
    greatest: float = float("-inf")
    doubts: list[int] = field(default_factory=lambda: [0, 0, 0])
    """How many are suspect, lost and late."""
    last_ms: int = 0


def gaps(within: Span, spans: Sequence[Span]) -> Iterator[Span]:
    """Yield what spans in their order leave out of a time."""
    first, last = within
    for begin, end in spans:
        if first < begin:
            yield first, begin - 1
        first = max(first, end + 1)
    if first <= last:
        yield first, last


def charted_files(
    window: Window, files: Sequence[Row], live: Sequence[Row], obis: str
) -> Iterator[Row]:
    """Yield the steps of files, each with what lies live in its time; of a reading in both, the live one stands.

    Raises ClosedDamaged.
    """
    for file in files:
        beside = [row for row in live if cast(Any, file)[2] <= row[0] <= cast(Any, file)[3]]
        if beside:
            yield from _one_by_one(window, file, beside, obis)
        else:
            yield from charted(
                file, obis, window.begin, window.end, step_ms=window.step_ms, late_ms=GAP_MS
            )


def _one_by_one(
    window: Window, file: Row, beside: Sequence[Row], obis: str
) -> Iterator[tuple[Any, ...]]:
    told: dict[int, tuple[Any, int, int]] = {
        ms_at(each.bucket, each.ms): (each.value, each.flags, each.lag_ms)
        for each in opened(file, obis=obis)
    }
    for bucket, ms, number, text, flags, lag_ms in cast(Any, beside):
        told[ms_at(bucket, ms)] = (number if text is None else text, flags, lag_ms)
    for at, (value, flags, lag_ms) in told.items():
        if is_number(flags) and window.begin <= at < window.end:
            rank = rank_of(flags)
            doubts = (rank == SUSPECT_RANK, rank == COMMS_LOST_RANK, lag_ms > GAP_MS)
            yield ((at - window.begin) // window.step_ms, 1, value, value, value, *doubts, at)


def chart_points(window: Window, *parts: Iterable[Row]) -> Sequence[ChartPoint]:
    """Return the points of a chart from what is known of its steps: of one step perhaps in several parts."""
    steps: dict[int, _Step] = {}
    for number, count, least, mean, greatest, *doubts, last_ms in cast(Any, chain(*parts)):
        step = steps.setdefault(number, _Step())
        step.count += count
        step.least, step.greatest = min(step.least, least), max(step.greatest, greatest)
        step.total += mean * count
        step.doubts = [n + more for n, more in zip(step.doubts, doubts, strict=True)]
        step.last_ms = max(step.last_ms, last_ms)
    return [_point(window, number, step) for number, step in sorted(steps.items())]


def _point(window: Window, number: int, step: _Step) -> ChartPoint:
    begin, last_at = from_ms(window.begin + number * window.step_ms), from_ms(step.last_ms)
    mean = step.total / step.count
    return ChartPoint(begin, last_at, step.count, step.least, mean, step.greatest, *step.doubts)
