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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import mul
from typing import Final

from openami.headend.balance.shapes import (
    HOURS_A_DAY,
    Frame,
    Vector,
    about_the_hour,
    clipped,
    dot,
    filled,
    groups,
    loss_shapes,
    seasons,
    votes_of,
    without,
)
from openami.headend.balance.stopping import stops

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
# When people are at home in the dark, and lamps and televisions are what is on.
HALF_DAY: Final = 12
DAWN: Final = 6
NIGHT: Final = frozenset((*range(18, 24), *range(6)))
# Whoever is named must stay clear when each of the next best suspects is taken to explain all it can first.
RIVALS_MAX: Final = 6
RIVAL_VOTES_MIN: Final = 3.5
# A meter of class 1 errs by 1 %, its service cable loses 3 %, an old one creeps: a fifth is nobody's error.
SHARE_MIN: Final = 0.2
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
        known = len(supplied) - list(supplied).count(None)
        return Attribution((), days, "too_silent" if known >= WINDOW_MIN else "too_short")
    world = _World(supplied, meters, hours, phases)
    followed: list[Followed] = []
    while len(followed) < NAMED_MAX:
        found = world.next_followed()
        if found is None:
            break
        followed.append(found)
    followed += world.stopped()
    return Attribution(tuple(sorted(followed, key=lambda each: -each.votes)), days)


def _usable(supplied: Hours, meters: Sequence[Hours]) -> list[int]:
    """Return the hours in which the supply and nearly all meters are known, by the hour of the day."""
    unknown_max = UNKNOWN_SHARE_MAX * len(meters)
    unknown = [0] * len(supplied)
    for meter in meters:
        for hour, wh in enumerate(meter):
            if wh is None:
                unknown[hour] += 1
    # A meter of which nothing is known at all is missing in every hour alike, and disturbs none.
    dark = sum(all(wh is None for wh in meter) for meter in meters)
    usable = (
        hour
        for hour, wh in enumerate(supplied)
        if wh is not None and unknown[hour] - dark <= unknown_max
    )
    return sorted(usable, key=lambda hour: (hour % HOURS_A_DAY, hour))


@dataclass(slots=True)
class _Suspect:
    """One shape of one meter: its whole days, or its nights."""

    number: int
    plain: Vector
    size: float
    """The square of what is its own."""


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
        self._frame = Frame(hours)
        self._half_days = groups((hour - DAWN) // HALF_DAY for hour in hours)
        self._raw = [filled([meter[hour] for hour in hours], hours) for meter in meters]
        supply = [supplied[hour] or 0.0 for hour in hours]
        sold = [sum(column) for column in zip(*self._raw, strict=True)] or [0.0] * len(hours)
        self._balance = [s - m for s, m in zip(supply, sold, strict=True)]
        losses = loss_shapes(sold, self._raw, phases)
        self._without_losses = self._left(losses)
        self._frame.weigh(self._without_losses)
        self._missing = self._frame.own(clipped(self._left([*seasons(hours), *losses])))
        self._judged = [
            sum(meter[hour] is not None for hour in hours) >= KNOWN_SHARE_MIN * len(hours)
            for meter in meters
        ]
        self._suspects = list(self._all_suspects())
        self._taken: set[int] = set()

    def _left(self, shapes: Sequence[Sequence[float]]) -> Vector:
        """Take shapes out of all; return what is left of the missing energy."""
        for shape in shapes:
            self._frame.take_out(self._frame.plain(shape))
        return self._frame.own(self._frame.plain(self._balance))

    def _all_suspects(self) -> Iterator[_Suspect]:
        at_night = [hour % HOURS_A_DAY in NIGHT for hour in self._hours]
        for number, (raw, judged) in enumerate(zip(self._raw, self._judged, strict=True)):
            if judged:
                for shape in (raw, list(map(mul, raw, at_night))):
                    plain = self._frame.plain(shape)
                    yield _Suspect(number, plain, self._frame.size(plain))

    def next_followed(self) -> Followed | None:
        """Return the meter that the missing energy follows most clearly, and take what it explains out."""
        scored = [
            (dot(self._missing, each.plain) ** 2 / each.size, at)
            for at, each in enumerate(self._suspects)
            if each.number not in self._taken and each.size
        ]
        closest = [self._suspects[at] for _, at in sorted(scored, reverse=True)[: RIVALS_MAX + 1]]
        owns = [(each.number, self._frame.own(each.plain)) for each in closest]
        for number, own in owns:
            votes = votes_of(own, self._missing, self._frame.by_day)
            share = dot(self._missing, own) / dot(own, own)
            if abs(votes) < VOTES_MIN or abs(share) < SHARE_MIN:
                continue
            if all(self._clear_of(own, rival) for its, rival in owns if its != number):
                self._taken.add(number)
                found = self._shifted(number, own, votes)
                return found or self._bypassed(number, own, votes, share)
        return None

    def _clear_of(self, own: Sequence[float], rival: Sequence[float]) -> bool:
        """Return whether the days still agree on a meter when another one explains all it can first."""
        left, missing = without(own, rival), without(self._missing, rival)
        return abs(votes_of(left, missing, self._frame.by_day)) >= RIVAL_VOTES_MIN

    def _bypassed(self, number: int, own: Sequence[float], votes: float, share: float) -> Followed:
        self._explain(own)
        raw = self._raw[number]
        if share > 0:
            return Followed(number, Trace.PART, votes, share, share * sum(raw))
        if not self._is_switched(raw):
            return Followed(number, Trace.ELSEWHERE, -votes, -share, 0.0)
        usual = _usual(raw, self._hours)
        lacking = sum(max(0.0, u - r) for u, r in zip(usual, raw, strict=True))
        return Followed(number, Trace.SWITCHED, -votes, -share, -share * lacking)

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
        hours = [self._hours[at] for at in within]
        own = about_the_hour([raw[at] for at in within], hours)
        missing = about_the_hour([self._balance[at] for at in within], hours)
        size = dot(own, own)
        return dot(own, missing) / size if size else 0.0

    def _shifted(self, number: int, own: Sequence[float], votes: float) -> Followed | None:
        """Return the meter as one whose clock is wrong, if that explains nearly what a bypass does."""
        best = SHIFT_AHEAD_MIN * dot(self._missing, own) ** 2 / dot(own, own)
        best_shift, best_shape = 0, None
        for shift in (*range(-SHIFT_HOURS_MAX, 0), *range(1, SHIFT_HOURS_MAX + 1)):
            shape = self._frame.plain(self._moved(number, shift))
            size, along = self._frame.size(shape), dot(self._missing, shape)
            if along > 0 and size and along * along / size > best:
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
        direction = self._frame.take_out(shape)
        if direction is None:
            return
        self._missing = without(self._missing, direction)
        for each in self._suspects:
            each.size = max(0.0, each.size - dot(each.plain, direction) ** 2)

    def stopped(self) -> list[Followed]:
        """Return the meters that stopped on the day from which their load is missing."""
        by_time = sorted(range(len(self._hours)), key=self._hours.__getitem__)
        meters = [
            (number, [raw[at] for at in by_time])
            for number, (raw, judged) in enumerate(zip(self._raw, self._judged, strict=True))
            if judged and number not in self._taken
        ]
        hours = [self._hours[at] for at in by_time]
        missing = [self._without_losses[at] for at in by_time]
        return [
            Followed(stop.number, Trace.STOPPED, stop.votes, stop.share, stop.missing_wh)
            for stop in stops(hours, missing, meters, VOTES_MIN)
        ]


def _usual(raw: Sequence[float], hours: Sequence[int]) -> list[float]:
    """Return what a meter counts at each hour on its better days: the upper quartile."""
    usual = [0.0] * len(raw)
    for group in groups(hour % HOURS_A_DAY for hour in hours):
        told = sorted(raw[at] for at in group)
        for at in group:
            usual[at] = told[len(told) * 3 // 4]
    return usual
