"""Energy by period in a feeder's own time zone, from days folded by UTC. Pure.

A day is 23, 24 or 25 hours long, an hour always begins on the local hour, and the sum of the hours is the day:
everything is put together from the same quarter hours, which are a part of every zone's offset.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from itertools import chain
from operator import itemgetter, sub
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
    is_plain,
    join,
    known_of,
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
        return sum(filter(None, self.wh))


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
    """Edges of periods, ascending and each on a quarter hour."""

    def __init__(self, edges_ms: Sequence[int]) -> None:
        self.edges_ms = edges_ms
        self.quarters = [edge % DAY_MS // QUARTER_MS for edge in edges_ms]
        """Which quarter of its UTC day each edge begins."""
        self.days = range(edges_ms[0] // DAY_MS, (edges_ms[-1] - 1) // DAY_MS + 1)
        self._takers: dict[tuple[int, int], Callable[[Sequence[int]], tuple[int, ...]]] = {}

    def take(self, begin: int, end: int, counted: Sequence[int]) -> tuple[int, ...]:
        """Return what a day had counted at some of its edges.

        500 meters have the same edges on the same days: which quarters those are is put together once.
        """
        taker = self._takers.get((begin, end))
        if taker is None:
            taker = self._takers[begin, end] = _taker(self.quarters[begin:end])
        return taker(counted)


def _taker(quarters: Sequence[int]) -> Callable[[Sequence[int]], tuple[int, ...]]:
    if len(quarters) == 1:  # of one place it takes the thing itself, and no tuple
        [only] = quarters
        return lambda counted: (counted[only],)
    return itemgetter(*quarters)


def course(grid: Grid, folds: Sequence[DayFold], limits: Limits = ANY_REGISTER) -> Course:
    """Return a register's energy by period.

    ``folds`` ascend; they are the days the periods touch and the nearest ones with sound readings before
    and after: what lies between two days is joined here.
    """
    tally = _Tally(grid)
    sound = [fold for fold in folds if fold.first is not None]
    for fold in sound:
        tally.add(fold, limits)
    wh, known = tally.periods()
    begin, end = grid.edges_ms[0], grid.edges_ms[-1]
    within = [fold for fold in folds if fold.day in grid.days]
    return Course(
        wh,
        known,
        sound[0].first if sound else None,
        tally.last,
        tuple(sorted(each for each in tally.breaks if begin <= each.ms <= end)),
        sum(fold.readings for fold in within),
        sum(fold.suspect for fold in within),
    )


class _Tally:
    """What was counted up to each edge, day by day from the first sound register on."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._counted = [0] * len(grid.edges_ms)
        self._at = 0
        """The first edge that is not reached yet."""
        self._sum = 0
        self._in_gap: set[int] = set()
        """Edges that a gap reaches over."""
        self._hiding: set[int] = set()
        """Periods in which something is hidden."""
        self.first: Sample | None = None
        self.last: Sample | None = None
        self.breaks: list[Break] = []

    def add(self, fold: DayFold, limits: Limits) -> None:
        """Add a day, and what lies between it and the one before."""
        first, last, edges = fold.first, fold.last, self._grid.edges_ms
        assert first is not None
        assert last is not None
        if self.last is None:
            self.first = first
            self._at = bisect_left(edges, first.ms)
        else:
            self._join(self.last, first, limits)
        begin, end = self._at, bisect_left(edges, last.ms, self._at)
        before, counted = self._sum, fold.counted
        if begin < end and counted:
            self._counted[begin:end] = map(before.__add__, self._grid.take(begin, end, counted))
        elif begin < end:
            self._counted[begin:end] = [before] * (end - begin)
        self._sum += fold.total_wh
        if fold.marks:
            self._mark(fold, range(begin, end))
        self._at, self.last = end, last
        self.breaks += fold.breaks

    def _join(self, before: Sample, after: Sample, limits: Limits) -> None:
        edges = self._grid.edges_ms
        end = bisect_left(edges, after.ms, self._at)
        if end == self._at and is_plain(before, after, limits):  # as most nights of most meters are
            self._sum += after.wh - before.wh
            return
        joined = join(before, after, limits)
        if joined.kind is not None:
            self.breaks.append(Break(after.ms, joined.kind, before.wh, after.wh, joined.wh))
        known = known_of(after.ms - before.ms, joined.kind, limits)
        for at in range(self._at, end):
            since = edges[at] - before.ms
            self._counted[at] = self._sum + joined.wh * since // (after.ms - before.ms)
            if known and since:
                self._in_gap.add(at)
        if known is Known.AT_LEAST:
            first = bisect_right(edges, before.ms) - 1
            self._hiding.update(range(max(first, 0), end))
        self._at = end
        self._sum += joined.wh

    def _mark(self, fold: DayFold, edges: range) -> None:
        """Note which edges of a day lie in a gap, and which periods hide something."""
        for at in edges:
            quarter = self._grid.quarters[at]
            if quarter and fold.marks[quarter - 1] and fold.marks[quarter]:
                self._in_gap.add(at)
        for quarter, mark in enumerate(fold.marks):
            if mark == Known.AT_LEAST:
                begin = fold.day * DAY_MS + quarter * QUARTER_MS
                self._hiding.add(bisect_right(self._grid.edges_ms, begin) - 1)

    def periods(self) -> tuple[tuple[int | None, ...], tuple[Known, ...]]:
        """Return the energy of each period, and how well it is known."""
        edges, first, last = self._grid.edges_ms, self.first, self.last
        count = len(edges) - 1
        if first is None or last is None:
            return (None,) * count, (Known.NOTHING,) * count
        self._counted[self._at :] = [self._sum] * (len(edges) - self._at)
        told: list[int | None] = list(map(sub, self._counted[1:], self._counted))
        known = [Known.MEASURED] * count
        for edge in self._in_gap:
            for period in (edge - 1, edge):
                if 0 <= period < count:
                    known[period] = Known.SPREAD
        for period in self._hiding:
            if 0 <= period < count:
                known[period] = Known.AT_LEAST
        # Only periods that begin before the first reading, or end after the last one, are less than known.
        early = min(bisect_left(edges, first.ms - EDGE_MS), count)
        late = max(bisect_right(edges, last.ms + EDGE_MS) - 1, early)
        for number in chain(range(early), range(late, count)):
            if edges[number + 1] <= first.ms or edges[number] >= last.ms:
                told[number], known[number] = None, Known.NOTHING
            else:
                known[number] = Known.AT_LEAST
        return tuple(told), tuple(known)


def register_at(moment_ms: int, folds: Sequence[DayFold]) -> tuple[int, Known] | None:
    """Return a register at a moment and how well it is known; None before the first sound reading.

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
    wh = fold.first.wh
    if fold.counted:
        begin, end = fold.counted[quarter], fold.counted[quarter + 1]
        wh += begin + (end - begin) * beyond // QUARTER_MS
    known = Known(max(fold.marks[max(quarter - 1, 0) : quarter + 1], default=0))
    for each in fold.breaks:
        if each.ms <= moment_ms and each.kind is not BreakKind.WILD:
            wh, known = each.after_wh, Known.AT_LEAST
    return wh, known


def _between(before: Sample, after: Sample | None, moment_ms: int) -> tuple[int, Known]:
    if moment_ms == before.ms:
        return before.wh, Known.MEASURED
    if after is None or after.wh < before.wh:
        return before.wh, Known.AT_LEAST
    length = after.ms - before.ms
    risen = (after.wh - before.wh) * (moment_ms - before.ms) // length
    return before.wh + risen, known_of(length, None)
