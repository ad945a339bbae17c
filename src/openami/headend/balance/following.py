"""Which meter does the feeder's missing energy follow? Pure.

What a feeder is supplied with, less what its meters sold, is hour by hour a sum of technical losses, unmetered
loads, and what flows past single meters. The last leaves a trace of its own: it moves with *one* meter's ups and
downs and with nobody else's (decision 0040, docs/balance.md):

* part of a load past its meter: the missing energy is large when this meter counts much;
* a bypass that is opened and closed: the missing energy is large when this meter counts less than it used to;
* a wrong clock: what this meter counts is missing some hours before, and too much some hours after.

So what houses have in common is taken out first: the hour of the day, the feeder's load and its square. What is
left of the missing energy is compared with what is left of each meter, day by day: each day is one vote, weighted
by how much there was to see, and the votes of many days have to agree far beyond chance before a meter is named.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import cos, pi, sqrt
from operator import mul
from statistics import median
from typing import Final, NamedTuple

HOURS_A_DAY: Final = 24
# Two weeks: with fewer days, votes that agree by chance are too many among hundreds of meters.
DAYS_MIN: Final = 14
WINDOW_MIN: Final = DAYS_MIN * HOURS_A_DAY
# An hour in which more meters than these are unknown says more about them than about the others.
UNKNOWN_SHARE_MAX: Final = 0.15
# A meter that is known for fewer of the hours cannot be judged.
KNOWN_SHARE_MIN: Final = 0.6
# Votes agree this many standard errors beyond chance. With 60 days that happens to an innocent meter once in
# 30,000 (t, 59 degrees of freedom, both sides), and then it must stay clear of its rivals too: what comes of it
# is measured (benchmarks/bench_theft.py).
VOTES_MIN: Final = 4.5
# Slower than this, everything in a village changes with everything else.
SEASON_DAYS: Final = 10
# When people are at home in the dark, and lamps and televisions are what is on.
HALF_DAY: Final = 12
DAWN: Final = 6
NIGHT: Final = frozenset((*range(18, 24), *range(6)))
# A meter that stopped: so long before and after, at least a week of each; what it used to count was worth a look;
# and what is missing since is about that.
STOP_WINDOW_HOURS: Final = 14 * HOURS_A_DAY
STOP_HOURS_MIN: Final = 7 * HOURS_A_DAY
STOP_WH_A_DAY_MIN: Final = 200.0
STOP_SHARE_MIN: Final = 0.5
STOP_SHARE_MAX: Final = 1.6
# Somebody moves away in every village: the energy must be missing from that very day on, not from one near it.
STOP_LOOK_DAYS: Final = 5
TOGETHER_HOURS: Final = 36
# Registers go by 10 Wh: no hour is known better.
STEP_WH: Final = 10.0
# Of a normal spread, so many standard deviations are in the median's distance; beyond four it is not normal.
_SIGMAS_OF_THE_MEDIAN: Final = 1.4826
CLIPPED_AT: Final = 4.0
# Whoever is named must stay clear when each of the next best suspects is taken to explain all it can first.
RIVALS_MAX: Final = 6
RIVAL_VOTES_MIN: Final = 3.5
# A meter of class 1 errs by 1 %, its service cable loses 3 %: what is smaller is a poor meter, not a bypass.
SHARE_MIN: Final = 0.15
# Clocks that are wrong are so by a zone, a summer time or a few hours.
SHIFT_HOURS_MAX: Final = 13
# Where a wrong clock explains nearly as much as a bypass does, it is taken for one: nobody is accused of a clock.
SHIFT_AHEAD_MIN: Final = 0.9
# A bypass that is opened and closed leaves days or nights at nearly nothing, at least so many; a meter that never
# shows one counts what another feeder supplies.
EMPTY_DAYS_MIN: Final = 3
EMPTY_SHARE: Final = 0.1
ORDINARY_SHARE: Final = 0.3
ALWAYS_SHARE: Final = 0.5
# More meters than these at once is not theft but something about all of them.
NAMED_MAX: Final = 12


class Trace(StrEnum):
    """How the missing energy follows a meter."""

    PART = "part"
    """With it: a fixed part of the load flows past."""
    SWITCHED = "switched"
    """Against it: at times the load flows past."""
    STOPPED = "stopped"
    """Since a certain day: the meter counts nothing any more, and its load is missing since."""
    ELSEWHERE = "elsewhere"
    """Against it, always: what it counts is not supplied by this feeder."""
    SHIFTED = "shifted"
    """Against it and with it some hours away: nothing is missing in sum, its clock is wrong."""


@dataclass(frozen=True, slots=True)
class Followed:
    """A meter that the missing energy follows."""

    number: int
    """Which of the meters that were given."""
    trace: Trace
    votes: float
    """How far beyond chance the days agree, in standard errors."""
    share: float
    """Missing Wh for each Wh the meter counts (PART), or counts less than usual (SWITCHED)."""
    missing_wh: float
    """About how much flowed past it; 0 for a wrong clock."""
    shift_hours: int = 0


@dataclass(frozen=True, slots=True)
class Attribution:
    """What was found, or why nothing could be."""

    followed: tuple[Followed, ...]
    days: int
    """Days that had a vote."""
    refusal: str = ""
    """Why nobody can be named: ``too_short`` or ``too_silent``; empty where one could be."""


Hours = Sequence[float | None]
"""Wh by hour, from midnight on; None where it is not known."""


def attribute(supplied: Hours, meters: Sequence[Hours], phases: Sequence[str] = ()) -> Attribution:
    """Return which meters the energy missing from ``supplied`` follows, the surest first.

    ``phases``: which phase each meter hangs on, where that is known; losses follow the squares of their loads.
    """
    hours = _usable(supplied, meters)
    days = len({hour // HOURS_A_DAY for hour in hours})
    if days < DAYS_MIN:
        return Attribution((), days, "too_silent" if len(supplied) >= WINDOW_MIN else "too_short")
    world = _World(supplied, meters, hours, phases)
    followed: list[Followed] = []
    while len(followed) < NAMED_MAX:
        found = world.next_followed()
        if found is None:
            break
        followed.append(found)
    known = {each.number for each in followed}
    followed += (each for each in world.stopped() if each.number not in known)
    return Attribution(tuple(sorted(followed, key=lambda each: -each.votes)), days)


def _usable(supplied: Hours, meters: Sequence[Hours]) -> list[int]:
    """Return the hours in which the supply and nearly all meters are known."""
    unknown_max = UNKNOWN_SHARE_MAX * len(meters)
    unknown = [0] * len(supplied)
    for meter in meters:
        for hour, wh in enumerate(meter):
            if wh is None:
                unknown[hour] += 1
    # A meter of which nothing is known at all is missing in every hour alike, and disturbs none.
    dark = sum(all(wh is None for wh in meter) for meter in meters)
    return [
        hour
        for hour, wh in enumerate(supplied)
        if wh is not None and unknown[hour] - dark <= unknown_max
    ]


class _World:
    """The usable hours with what all have in common taken out; shrinks by each meter that is followed."""

    def __init__(
        self,
        supplied: Hours,
        meters: Sequence[Hours],
        hours: Sequence[int],
        phases: Sequence[str],
    ) -> None:
        self._hours = hours
        self._by_hour = _groups(hour % HOURS_A_DAY for hour in hours)
        self._by_day = _groups(hour // HOURS_A_DAY for hour in hours)
        self._half_days = _groups((hour - DAWN) // HALF_DAY for hour in hours)
        self._raw = [_filled([meter[hour] for hour in hours], self._by_hour) for meter in meters]
        supply = [supplied[hour] or 0.0 for hour in hours]
        sold = [sum(column) for column in zip(*self._raw, strict=True)] or [0.0] * len(hours)
        self._balance = [s - m for s, m in zip(supply, sold, strict=True)]
        shapes = _loss_shapes(sold, self._raw, phases)
        self._weights = [1.0] * len(hours)
        self._common: list[list[float]] = []
        self._take(shapes)
        self._without_losses = self._own(self._balance)
        self._weights = _weights(self._without_losses, self._by_hour)
        self._take([*_seasons(hours), *shapes])
        self._missing = _clipped(self._own(self._balance))
        self._judged = [
            sum(meter[hour] is not None for hour in hours) >= KNOWN_SHARE_MIN * len(hours)
            for meter in meters
        ]
        self._shapes = list(self._own_shapes())
        self._taken: set[int] = set()

    def _own_shapes(self) -> Iterator[tuple[int, list[float]]]:
        """Yield what is each meter's own, of whole days and of the nights alone."""
        for number, (raw, judged) in enumerate(zip(self._raw, self._judged, strict=True)):
            if judged:
                at_night = [
                    wh if hour % HOURS_A_DAY in NIGHT else 0.0
                    for hour, wh in zip(self._hours, raw, strict=True)
                ]
                for shape in (self._own(raw), self._own(at_night)):
                    if _dot(shape, shape) > 0:
                        yield number, shape

    def _take(self, shapes: Sequence[Sequence[float]]) -> None:
        self._common = []
        for shape in shapes:
            self._common.append(self._own(shape))

    def _own(self, shape: Sequence[float]) -> list[float]:
        """Return what is left of a shape without the hour of the day and what was taken out before."""
        left = list(shape)
        for group in self._by_hour:
            mean = sum(left[at] for at in group) / len(group)
            for at in group:
                left[at] = (left[at] - mean) * self._weights[at]
        for common in self._common:
            _take_out(left, common)
        return left

    def next_followed(self) -> Followed | None:
        """Return the meter that the missing energy follows most clearly, and take what it explains out."""
        scored = sorted(
            (
                (self._gain(shape), at)
                for at, (number, shape) in enumerate(self._shapes)
                if number not in self._taken and _dot(shape, shape) > 0
            ),
            reverse=True,
        )
        suspects = [self._shapes[at] for _, at in scored[: RIVALS_MAX + 1]]
        for number, shape in suspects:
            votes = self._votes(shape)
            share = _dot(self._missing, shape) / _dot(shape, shape)
            if abs(votes) < VOTES_MIN or abs(share) < SHARE_MIN:
                continue
            rivals = [other for its, other in suspects if its != number]
            if all(self._clear_of(shape, rival) for rival in rivals):
                self._taken.add(number)
                found = self._shifted(number, shape, votes)
                return found or self._bypassed(number, shape, votes, share)
        return None

    def _gain(self, shape: Sequence[float]) -> float:
        """Return how much of the variance that is left a shape explains."""
        along = _dot(self._missing, shape)
        return along * along / _dot(shape, shape)

    def _clear_of(self, shape: Sequence[float], rival: Sequence[float]) -> bool:
        """Return whether the days still agree on a meter when another one explains all it can first."""
        own, missing = list(shape), list(self._missing)
        for left in (own, missing):
            _take_out(left, rival)
        return abs(self._votes(own, missing)) >= RIVAL_VOTES_MIN

    def _votes(self, shape: Sequence[float], missing: Sequence[float] | None = None) -> float:
        """Return how far the days agree that the missing energy moves with a shape, in standard errors."""
        return _votes(shape, self._missing if missing is None else missing, self._by_day)

    def _bypassed(
        self, number: int, shape: Sequence[float], votes: float, share: float
    ) -> Followed:
        raw = self._raw[number]
        if share > 0:
            found = Followed(number, Trace.PART, votes, share, share * sum(raw))
        else:
            usual = _usual(raw, self._by_hour)
            lacking = sum(max(0.0, u - r) for u, r in zip(usual, raw, strict=True))
            switched = self._is_switched(raw)
            found = Followed(
                number,
                Trace.SWITCHED if switched else Trace.ELSEWHERE,
                -votes,
                -share,
                -share * lacking if switched else 0.0,
            )
        self._explain(shape)
        return found

    def _is_switched(self, raw: Sequence[float]) -> bool:
        """Return whether a meter is now and then empty, and the missing energy is of those days or nights alone.

        What another feeder supplies is missing always, in the ordinary hours as well.
        """
        ordinary: list[int] = []
        empty = 0
        for half in (0, 1):
            blocks = [
                block
                for block in self._half_days
                if (self._hours[block[0]] - DAWN) // HALF_DAY % 2 == half
            ]
            sums = [sum(raw[at] for at in block) for block in blocks]
            usual = sorted(sums)[len(sums) * 3 // 4]
            empty = max(empty, sum(each < EMPTY_SHARE * usual for each in sums))
            for block, each in zip(blocks, sums, strict=True):
                if each >= ORDINARY_SHARE * usual:
                    ordinary += block
        return empty >= EMPTY_DAYS_MIN and self._share_of(raw, ordinary) > -ALWAYS_SHARE

    def _share_of(self, raw: Sequence[float], within: Sequence[int]) -> float:
        """Return how much is missing for each Wh a meter counts, in some of the hours."""
        groups = _groups(self._hours[at] % HOURS_A_DAY for at in within)
        own, missing = [raw[at] for at in within], [self._balance[at] for at in within]
        for left in (own, missing):
            for group in groups:
                mean = sum(left[n] for n in group) / len(group)
                for n in group:
                    left[n] -= mean
        size = _dot(own, own)
        return _dot(own, missing) / size if size else 0.0

    def _shifted(self, number: int, own: Sequence[float], votes: float) -> Followed | None:
        """Return the meter as one whose clock is wrong, if that explains more than a bypass does."""
        best, best_shift, best_shape = self._gain(own), 0, None
        for shift in (*range(-SHIFT_HOURS_MAX, 0), *range(1, SHIFT_HOURS_MAX + 1)):
            shape = self._own(self._moved(number, shift))
            size = _dot(shape, shape)
            along = _dot(self._missing, shape)
            if along > 0 and size and along * along / size > best * SHIFT_AHEAD_MIN:
                best, best_shift, best_shape = along * along / size, shift, shape
        if best_shape is None:
            return None
        self._explain(best_shape)
        return Followed(number, Trace.SHIFTED, abs(votes), 1.0, 0.0, best_shift)

    def _moved(self, number: int, shift: int) -> list[float]:
        """Return what a meter would count with its clock put right, less what it counted."""
        raw = dict(zip(self._hours, self._raw[number], strict=True))
        return [raw.get(hour + shift, raw[hour]) - raw[hour] for hour in self._hours]

    def _explain(self, shape: Sequence[float]) -> None:
        explained = list(shape)
        _take_out(self._missing, explained)
        for _, own in self._shapes:
            _take_out(own, explained)

    def stopped(self) -> list[Followed]:
        """Return the meters that stopped on the day from which their load is missing."""
        seen = [
            stop
            for number, judged in enumerate(self._judged)
            if judged and (stop := self._stop(number)) is not None
        ]
        # Two that stopped together cannot be told apart, so neither is named.
        return [
            stop.followed
            for stop in seen
            if all(abs(stop.at - other.at) > TOGETHER_HOURS or other is stop for other in seen)
        ]

    def _stop(self, number: int) -> "_Stop | None":
        raw = self._raw[number]
        at = max((n for n, wh in enumerate(raw) if wh > STEP_WH), default=-1) + 1
        before, after = max(0, at - STOP_WINDOW_HOURS), min(len(raw), at + STOP_WINDOW_HOURS)
        if at - before < STOP_HOURS_MIN or after - at < STOP_HOURS_MIN:
            return None
        usual = [0.0] * HOURS_A_DAY
        for n in range(before, at):
            usual[self._hours[n] % HOURS_A_DAY] += raw[n] * HOURS_A_DAY / (at - before)
        if sum(usual) < STOP_WH_A_DAY_MIN:
            return None
        votes, share = self._step(usual, at)
        if votes < VOTES_MIN or not STOP_SHARE_MIN <= share <= STOP_SHARE_MAX:
            return None
        days = range(-STOP_LOOK_DAYS, STOP_LOOK_DAYS + 1)
        by_day = {day: self._step(usual, at + day * HOURS_A_DAY)[0] for day in days}
        if max(by_day, key=lambda day: by_day[day]) not in (-1, 0, 1):
            return None
        missing_wh = share * sum(usual[hour % HOURS_A_DAY] for hour in self._hours[at:])
        return _Stop(at, Followed(number, Trace.STOPPED, votes, share, missing_wh))

    def _step(self, usual: Sequence[float], at: int) -> tuple[float, float]:
        """Return how far the days around a moment agree that a load is missing since then, and its share."""
        begin, end = max(0, at - STOP_WINDOW_HOURS), min(len(self._hours), at + STOP_WINDOW_HOURS)
        shape = [usual[self._hours[n] % HOURS_A_DAY] if n >= at else 0.0 for n in range(begin, end)]
        missing = list(self._without_losses[begin:end])
        by_hour = _groups(self._hours[n] % HOURS_A_DAY for n in range(begin, end))
        for left in (shape, missing):
            for group in by_hour:
                mean = sum(left[n] for n in group) / len(group)
                for n in group:
                    left[n] -= mean
        size = _dot(shape, shape)
        if not size:
            return 0.0, 0.0
        by_day = _groups(self._hours[n] // HOURS_A_DAY for n in range(begin, end))
        return _votes(shape, _clipped(missing), by_day), _dot(shape, missing) / size


class _Stop(NamedTuple):
    at: int
    followed: Followed


def _votes(
    shape: Sequence[float], missing: Sequence[float], by_day: Sequence[Sequence[int]]
) -> float:
    product = list(map(mul, missing, shape))
    votes = [sum(product[at] for at in day) for day in by_day]
    days, total = len(votes), sum(votes)
    variance = (_dot(votes, votes) - total * total / days) / (days - 1)
    return total / sqrt(days * variance) if variance > 0 else 0.0


def _weights(missing: Sequence[float], by_hour: Sequence[Sequence[int]]) -> list[float]:
    """Return how much each hour says: a quiet night shows a small theft that a busy evening hides."""
    weights = [0.0] * len(missing)
    for group in by_hour:
        spread = _spread([missing[at] for at in group])
        for at in group:
            weights[at] = 1 / spread
    return weights


def _spread(values: Sequence[float]) -> float:
    """Return a standard deviation that single wild values do not raise; never less than a register's step."""
    return max(median(map(abs, values)) * _SIGMAS_OF_THE_MEDIAN, STEP_WH)


def _clipped(missing: Sequence[float]) -> list[float]:
    """Return the missing energy with its wildest hours held back: one such hour is no more than a vote."""
    most = CLIPPED_AT * median(map(abs, missing)) * _SIGMAS_OF_THE_MEDIAN
    return [max(-most, min(each, most)) for each in missing]


def _seasons(hours: Sequence[int]) -> list[list[float]]:
    """Return slow waves: two things that change with the weeks go together by chance, and prove nothing."""
    length = hours[-1] - hours[0] + 1
    waves = length // (HOURS_A_DAY * SEASON_DAYS)
    return [
        [cos(pi * wave * (hour - hours[0]) / length) for hour in hours]
        for wave in range(1, waves + 1)
    ]


def _loss_shapes(
    sold: Sequence[float], meters: Sequence[Sequence[float]], phases: Sequence[str]
) -> list[list[float]]:
    """Return what technical losses follow: squares of the line's load, of each phase's, of each cable's.

    Of the load that was sold, not of the supply: that has the missing energy in it, and taking out its shape
    would make every honest meter look as if it counted too little.
    """
    shapes = [[each * each for each in sold]]
    if meters:
        shapes.append([sum(map(mul, hour, hour)) for hour in zip(*meters, strict=True)])
    for phase in sorted({phase for phase in phases if phase}):
        hung = [meter for meter, its in zip(meters, phases, strict=True) if its == phase]
        shapes.append([sum(hour) ** 2 for hour in zip(*hung, strict=True)])
    return shapes


def _filled(known: Sequence[float | None], by_hour: Sequence[Sequence[int]]) -> list[float]:
    """Return hours with those unknown filled in by what the meter usually counts at that hour."""
    filled = [0.0 if wh is None else float(wh) for wh in known]
    if None in known:
        for group in by_hour:
            told = [filled[at] for at in group if known[at] is not None]
            usual = sum(told) / len(told) if told else 0.0
            for at in group:
                if known[at] is None:
                    filled[at] = usual
    return filled


def _usual(raw: Sequence[float], by_hour: Sequence[Sequence[int]]) -> list[float]:
    """Return what a meter counts at each hour on its better days: the upper quartile."""
    usual = [0.0] * len(raw)
    for group in by_hour:
        told = sorted(raw[at] for at in group)
        for at in group:
            usual[at] = told[len(told) * 3 // 4]
    return usual


def _groups(keys: Iterable[int]) -> list[list[int]]:
    groups: dict[int, list[int]] = {}
    for at, key in enumerate(keys):
        groups.setdefault(key, []).append(at)
    return list(groups.values())


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return float(sum(map(mul, one, other)))


def _take_out(left: list[float], shape: Sequence[float]) -> None:
    """Take out of a shape what it has of another one."""
    size = _dot(shape, shape)
    if size:
        part = _dot(left, shape) / size
        left[:] = [each - part * of for each, of in zip(left, shape, strict=True)]
