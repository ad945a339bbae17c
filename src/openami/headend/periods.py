"""Energy by period in a feeder's own time zone, from days folded by UTC. Pure.

A day is 23, 24 or 25 hours long, an hour always begins on the local hour, and the sum of the hours is the day:
everything is put together from the same quarter hours, which are a part of every zone's offset.
"""

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from itertools import accumulate, pairwise
from typing import Final

from openami.headend.consumption import (
    ANY_REGISTER,
    DAY_MS,
    QUARTER_MS,
    Break,
    BreakKind,
    DayFold,
    Known,
    Limits,
    Sample,
    join,
    known_of,
    spread,
)

# A poll cycle and its way (headend/completeness.py): a period whose last reading is so near its end is covered.
EDGE_MS: Final = 120_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_QUARTER: Final = timedelta(milliseconds=QUARTER_MS)
_DECEMBER: Final = 12


class Step(StrEnum):
    """How long a period is."""

    QUARTER = "15m"
    HOUR = "1h"
    DAY = "1d"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Course:
    """One register's energy by period."""

    wh: tuple[int | None, ...]
    """None where nothing is known; never a silent zero."""
    known: tuple[Known, ...]
    first: Sample | None
    last: Sample | None
    """The outermost sound readings that the periods rest on; they may lie outside of them."""
    breaks: tuple[Break, ...]
    readings: int
    suspect: int

    @property
    def total_wh(self) -> int:
        """The sum of what is known."""
        return sum(wh for wh in self.wh if wh is not None)


def boundaries(since: datetime, until: datetime, step: Step, zone: tzinfo) -> list[datetime]:
    """Return where the periods from ``since`` to ``until`` begin, and where the last one ends, in UTC.

    ``since`` goes back to a boundary and ``until`` forward to one; there is at least one period.
    """
    found = [_floor(since.astimezone(UTC), step, zone)]
    end = max(until.astimezone(UTC), found[0] + timedelta.resolution)
    while found[-1] < end:
        found.append(_next(found[-1], step, zone))
    return found


def _floor(moment: datetime, step: Step, zone: tzinfo) -> datetime:
    local = moment.astimezone(zone)
    match step:
        case Step.QUARTER:
            return _EPOCH + (moment - _EPOCH) // _QUARTER * _QUARTER
        case Step.HOUR:
            return _on_a_quarter(moment - timedelta(minutes=local.minute, seconds=local.second))
        case Step.DAY:
            return _midnight(local.date(), zone)
        case Step.MONTH:
            return _midnight(local.date().replace(day=1), zone)


def _next(begin: datetime, step: Step, zone: tzinfo) -> datetime:
    match step:
        case Step.QUARTER:
            return begin + _QUARTER
        case Step.HOUR:  # where the clocks go by half an hour, one hour is as short as that
            after = _floor(begin + _HOUR, step, zone)
            return after if after > begin else begin + _HOUR
        case Step.DAY:
            return _midnight(begin.astimezone(zone).date() + _DAY, zone)
        case Step.MONTH:
            local = begin.astimezone(zone).date()
            year, month = divmod(local.year * _DECEMBER + local.month, _DECEMBER)
            return _midnight(date(year, month + 1, 1), zone)


def _midnight(day: date, zone: tzinfo) -> datetime:
    """Return when a local day begins; where its midnight is left out, when the clocks go forward."""
    return _on_a_quarter(datetime.combine(day, time(), zone).astimezone(UTC))


def _on_a_quarter(moment: datetime) -> datetime:
    return _EPOCH + (moment - _EPOCH) // _QUARTER * _QUARTER


# --- from days to periods ------------------------------------------------------------------------


class Grid:
    """Edges of periods, ascending and each on a quarter hour, and where they are among the quarters."""

    def __init__(self, edges_ms: Sequence[int]) -> None:
        self.edges_ms = edges_ms
        # A quarter more on either side tells whether a gap reaches over the outermost edges.
        self.origin = edges_ms[0] - QUARTER_MS
        self.count = (edges_ms[-1] - self.origin) // QUARTER_MS + 1
        self.at = [(edge - self.origin) // QUARTER_MS for edge in edges_ms]
        self.days = range(edges_ms[0] // DAY_MS, (edges_ms[-1] - 1) // DAY_MS + 1)


def course(grid: Grid, folds: Sequence[DayFold], limits: Limits = ANY_REGISTER) -> Course:
    """Return a register's energy by period.

    ``folds`` ascend; they are the days the periods touch and the nearest ones with sound readings before
    and after: what lies between two days is joined here.
    """
    origin, edges_ms = grid.origin, grid.edges_ms
    quarters, marks = array("q", bytes(8 * grid.count)), bytearray(grid.count)
    breaks: list[Break] = []
    sound = [fold for fold in folds if fold.first is not None]
    for fold in sound:
        _lay(fold, (fold.day * DAY_MS - origin) // QUARTER_MS, quarters, marks)
        breaks += fold.breaks
    for before, after in pairwise(sound):
        assert before.last is not None
        assert after.first is not None
        joined = join(before.last, after.first, limits)
        if joined.kind is not None:
            at = after.first
            breaks.append(Break(at.ms, joined.kind, before.last.wh, at.wh, joined.wh))
        known = known_of(after.first.ms - before.last.ms, joined.kind, limits)
        begin, end = before.last.ms - origin, after.first.ms - origin
        spread(begin, end, joined.wh, known, quarters, marks)
    first = sound[0].first if sound else None
    last = sound[-1].last if sound else None
    wh, known_by_period = _periods(grid, quarters, marks, first, last)
    return Course(
        wh,
        known_by_period,
        first,
        last,
        tuple(sorted(each for each in breaks if edges_ms[0] <= each.ms <= edges_ms[-1])),
        sum(fold.readings for fold in folds if fold.day in grid.days),
        sum(fold.suspect for fold in folds if fold.day in grid.days),
    )


def _lay(fold: DayFold, at: int, quarters: "array[int]", marks: bytearray) -> None:
    """Put a day's quarters in their place; what lies outside is left out."""
    for source, target in ((fold.quarters, quarters), (fold.marks, marks)):
        if source:
            begin, end = max(at, 0), min(at + len(source), len(target))
            if begin < end:
                target[begin:end] = source[begin - at : end - at]  # type: ignore[assignment]


def _periods(
    grid: Grid,
    quarters: "array[int]",
    marks: bytearray,
    first: Sample | None,
    last: Sample | None,
) -> tuple[tuple[int | None, ...], tuple[Known, ...]]:
    edges_ms, at = grid.edges_ms, grid.at
    periods = len(at) - 1
    if first is None or last is None:
        return (None,) * periods, (Known.NOTHING,) * periods
    sums = [0, *accumulate(quarters)]
    summed = [sums[end] - sums[begin] for begin, end in pairwise(at)]
    whole = first.ms <= edges_ms[0] + EDGE_MS and last.ms >= edges_ms[-1] - EDGE_MS
    if whole and marks.count(0) == len(marks):
        return tuple(summed), (Known.MEASURED,) * periods
    known = [_known(begin, end, marks) for begin, end in pairwise(at)]
    told: list[int | None] = list(summed)
    for number, (begin, end) in enumerate(pairwise(edges_ms)):
        if end <= first.ms or begin >= last.ms:
            told[number], known[number] = None, Known.NOTHING
        elif first.ms > begin + EDGE_MS or last.ms < end - EDGE_MS:
            known[number] = Known.AT_LEAST
    return tuple(told), tuple(known)


def _known(begin: int, end: int, marks: bytearray) -> Known:
    """Return how well a period of quarters is known: a gap that lies within it hides nothing of its sum."""
    if Known.AT_LEAST in marks[begin:end]:
        return Known.AT_LEAST
    for edge in (begin, end):
        if marks[edge - 1] and marks[edge]:
            return Known.SPREAD
    return Known.MEASURED


def register_at(moment_ms: int, folds: Sequence[DayFold]) -> tuple[int, Known, int] | None:
    """Return a register at a moment, how well it is known, and when it was last read before; or None.

    ``folds`` ascend and have sound readings; within a day that was interrupted, the register after the
    break stands for what followed it: a lower bound.
    """
    at = bisect_right([fold.first.ms for fold in folds if fold.first], moment_ms) - 1
    if at < 0:
        return None
    fold = folds[at]
    assert fold.first is not None
    assert fold.last is not None
    if moment_ms >= fold.last.ms:
        after = folds[at + 1].first if at + 1 < len(folds) else None
        return _between(fold.last, after, moment_ms)
    quarter, beyond = divmod(moment_ms - fold.day * DAY_MS, QUARTER_MS)
    within = fold.quarters[:quarter] if fold.quarters else ()
    wh = fold.first.wh + sum(within)
    if fold.quarters and beyond:
        wh += fold.quarters[quarter] * beyond // QUARTER_MS
    known = Known(max(fold.marks[max(quarter - 1, 0) : quarter + 1], default=0))
    for each in fold.breaks:
        if each.ms <= moment_ms and each.kind is not BreakKind.WILD:
            wh, known = each.after_wh, Known.AT_LEAST
    return wh, known, max(fold.first.ms, fold.day * DAY_MS + quarter * QUARTER_MS)


def _between(before: Sample, after: Sample | None, moment_ms: int) -> tuple[int, Known, int]:
    if moment_ms == before.ms:
        return before.wh, Known.MEASURED, before.ms
    if after is None or after.wh < before.wh:
        return before.wh, Known.AT_LEAST, before.ms
    length = after.ms - before.ms
    risen = (after.wh - before.wh) * (moment_ms - before.ms) // length
    return before.wh + risen, known_of(length, None), before.ms
