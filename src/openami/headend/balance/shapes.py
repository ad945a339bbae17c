"""What moves with what: hours as vectors, without what all of them share, and days as jurors. Pure."""

from collections.abc import Iterable, Sequence
from math import cos, pi, sqrt
from operator import mul
from statistics import median
from typing import Final

HOURS_A_DAY: Final = 24
# Slower than this, everything in a village changes with everything else.
SEASON_DAYS: Final = 10
# Registers go by 10 Wh: no hour is known better.
STEP_WH: Final = 10.0
# Of a normal spread, so many standard deviations are in the median's distance; beyond four it is not normal.
_SIGMAS_OF_THE_MEDIAN: Final = 1.4826
CLIPPED_AT: Final = 4.0
# What is left of a shape by less than this share of it is rounding.
_NOTHING_LEFT: Final = 1e-9

Vector = list[float]


class Frame:
    """Hours in the order of the hour of the day, and what is taken out of every shape: an orthonormal basis."""

    def __init__(self, hours: Sequence[int]) -> None:
        """``hours`` come by the hour of the day, and within it by time."""
        self.hours = hours
        self.by_day = groups(hour // HOURS_A_DAY for hour in hours)
        self._by_hour = groups(hour % HOURS_A_DAY for hour in hours)
        self._weights = [1.0] * len(self._by_hour)
        self._basis: list[Vector] = []

    def weigh(self, missing: Sequence[float]) -> None:
        """Let each hour of the day count by how quiet it is: a quiet night shows what an evening hides.

        Forgets what was taken out before.
        """
        self._weights = [1 / _spread([missing[at] for at in group]) for group in self._by_hour]
        self._basis = []

    def plain(self, shape: Sequence[float]) -> Vector:
        """Return a shape about the mean of each hour of the day, weighted."""
        left: Vector = []
        for group, weight in zip(self._by_hour, self._weights, strict=True):
            part = shape[group[0] : group[-1] + 1]
            mean = sum(part) / len(part)
            left += [(each - mean) * weight for each in part]
        return left

    def own(self, plain: Sequence[float]) -> Vector:
        """Return what is left of a plain shape without what is taken out."""
        left = list(plain)
        for common in self._basis:
            left = without(left, common)
        return left

    def size(self, plain: Sequence[float]) -> float:
        """Return the square of what is left of a plain shape; 0 where that is nothing."""
        whole = dot(plain, plain)
        left = whole - sum(dot(plain, common) ** 2 for common in self._basis)
        return left if left > _NOTHING_LEFT * whole else 0.0

    def take_out(self, plain: Sequence[float]) -> Vector | None:
        """Take one more shape out of all; return its direction, or None if there is nothing left of it."""
        if not self.size(plain):
            return None
        own = self.own(plain)
        length = sqrt(dot(own, own))
        direction = [each / length for each in own]
        self._basis.append(direction)
        return direction


def votes_of(
    shape: Sequence[float], missing: Sequence[float], by_day: Sequence[Sequence[int]]
) -> float:
    """Return how far the days agree that the missing energy moves with a shape, in standard errors."""
    product = list(map(mul, missing, shape))
    votes = [sum(product[at] for at in day) for day in by_day]
    days, total = len(votes), sum(votes)
    variance = (dot(votes, votes) - total * total / days) / (days - 1)
    return total / sqrt(days * variance) if variance > 0 else 0.0


def _spread(values: Sequence[float]) -> float:
    """Return a standard deviation that single wild values do not raise; never less than a register's step."""
    return max(median(map(abs, values)) * _SIGMAS_OF_THE_MEDIAN, STEP_WH)


def clipped(missing: Sequence[float]) -> list[float]:
    """Return the missing energy with its wildest hours held back: one such hour is no more than a vote."""
    most = CLIPPED_AT * median(map(abs, missing)) * _SIGMAS_OF_THE_MEDIAN
    return [max(-most, min(each, most)) for each in missing]


def seasons(hours: Sequence[int]) -> list[Vector]:
    """Return slow waves: two things that change with the weeks go together by chance, and prove nothing."""
    first = min(hours)
    length = max(hours) - first + 1
    waves = length // (HOURS_A_DAY * SEASON_DAYS)
    return [
        [cos(pi * wave * (hour - first) / length) for hour in hours] for wave in range(1, waves + 1)
    ]


def loss_shapes(
    sold: Sequence[float], meters: Sequence[Sequence[float]], phases: Sequence[str]
) -> list[Vector]:
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


def filled(known: Sequence[float | None], hours: Sequence[int]) -> Vector:
    """Return hours with those unknown filled in by what the meter usually counts at that hour of the day."""
    told = [0.0 if wh is None else float(wh) for wh in known]
    if None in known:
        for group in groups(hour % HOURS_A_DAY for hour in hours):
            here = [told[at] for at in group if known[at] is not None]
            usual = sum(here) / len(here) if here else 0.0
            for at in group:
                if known[at] is None:
                    told[at] = usual
    return told


def groups(keys: Iterable[int]) -> list[list[int]]:
    """Return where each key stands, by key in the order they first appear."""
    found: dict[int, list[int]] = {}
    for at, key in enumerate(keys):
        found.setdefault(key, []).append(at)
    return list(found.values())


def dot(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the product of two shapes."""
    return float(sum(map(mul, one, other)))


def without(shape: Sequence[float], other: Sequence[float]) -> Vector:
    """Return what is left of a shape without what it has of another one."""
    part = dot(shape, other) / dot(other, other)
    return [each - part * of for each, of in zip(shape, other, strict=True)]


def about_the_hour(values: Sequence[float], hours: Sequence[int]) -> Vector:
    """Return values about the mean of their hour of the day, in their order."""
    left = list(values)
    for group in groups(hour % HOURS_A_DAY for hour in hours):
        mean = sum(left[at] for at in group) / len(group)
        for at in group:
            left[at] -= mean
    return left
