"""A chart of a register over closed and live months. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from openami.headend.consumption import GAP_MS
from openami.headend.store.closed import Span
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

if TYPE_CHECKING:
    from openami.headend.store.closed_file import ClosedReading


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
    suspect: int = 0
    lost: int = 0
    late: int = 0
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


def chart_points(
    window: Window, charted: Iterable[Row], closed: Iterable["ClosedReading"], live: Iterable[Row]
) -> Sequence[ChartPoint]:
    """Return the points of a chart: of what the engine has charted, and of readings one by one.

    Where a reading is both closed and live, the live one stands.
    """
    steps: dict[int, _Step] = {}
    for number, count, least, mean, greatest, suspect, lost, late, last_ms in cast(Any, charted):
        step = steps.setdefault(number, _Step())
        step.count += count
        step.least, step.greatest = min(step.least, least), max(step.greatest, greatest)
        step.total += mean * count
        step.suspect, step.lost, step.late = (
            step.suspect + suspect,
            step.lost + lost,
            step.late + late,
        )
        step.last_ms = max(step.last_ms, last_ms)
    told: dict[int, tuple[Any, int, int]] = {
        ms_at(each.bucket, each.ms): (each.value, each.flags, each.lag_ms) for each in closed
    }
    for bucket, ms, number, text, flags, lag_ms in cast(Any, live):
        told[ms_at(bucket, ms)] = (number if text is None else text, flags, lag_ms)
    for at, (value, flags, lag_ms) in told.items():
        if is_number(flags) and window.begin <= at < window.end:
            _add(
                steps.setdefault((at - window.begin) // window.step_ms, _Step()),
                at,
                value,
                flags,
                lag_ms,
            )
    return [
        ChartPoint(
            *(from_ms(window.begin + number * window.step_ms), from_ms(step.last_ms), step.count),
            *(step.least, step.total / step.count, step.greatest),
            *(step.suspect, step.lost, step.late),
        )
        for number, step in sorted(steps.items())
    ]


def _add(step: _Step, at: int, value: float, flags: int, lag_ms: int) -> None:
    step.count += 1
    step.least, step.greatest = min(step.least, value), max(step.greatest, value)
    step.total += value
    rank = rank_of(flags)
    step.suspect += rank == SUSPECT_RANK
    step.lost += rank == COMMS_LOST_RANK
    step.late += lag_ms > GAP_MS
    step.last_ms = max(step.last_ms, at)
