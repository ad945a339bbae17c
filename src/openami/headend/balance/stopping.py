"""A meter that stopped, and whose load is missing from that very day on. Pure.

It has no ups and downs left that missing energy could follow. But somebody moves away in every village, so the
energy must begin to be missing on the day the meter stopped, in about the size of what it used to count.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from openami.headend.balance.shapes import (
    HOURS_A_DAY,
    STEP_WH,
    about_the_hour,
    clipped,
    dot,
    groups,
    votes_of,
)

# So long before and after are looked at, of which at least a week each must be known.
STOP_WINDOW_HOURS: Final = 14 * HOURS_A_DAY
STOP_HOURS_MIN: Final = 7 * HOURS_A_DAY
# Less than a lamp's evening is not worth a walk.
STOP_WH_A_DAY_MIN: Final = 200.0
# What is missing is about what the meter counted: a household changes, its half does not vanish.
STOP_SHARE_MIN: Final = 0.5
STOP_SHARE_MAX: Final = 1.6
# The missing energy's own beginning is sought on so many days to either side.
STOP_LOOK_DAYS: Final = 5
# Two that stopped within a day and a half cannot be told apart.
TOGETHER_HOURS: Final = 36


class Stop(NamedTuple):
    """A meter that stopped, and what is missing since."""

    number: int
    at: int
    """The hour from which on it counts nothing, by its place among the hours."""
    votes: float
    share: float
    missing_wh: float


def stops(
    hours: Sequence[int],
    missing: Sequence[float],
    meters: Sequence[tuple[int, Sequence[float]]],
    votes_min: float,
) -> list[Stop]:
    """Return the meters (number and hours) that stopped when energy began to be missing; all by time."""
    seen = [
        stop
        for number, raw in meters
        if (stop := _stop(number, raw, hours, missing, votes_min)) is not None
    ]
    return [
        stop
        for stop in seen
        if all(abs(stop.at - other.at) > TOGETHER_HOURS or other is stop for other in seen)
    ]


def _stop(
    number: int,
    raw: Sequence[float],
    hours: Sequence[int],
    missing: Sequence[float],
    votes_min: float,
) -> Stop | None:
    at = max((n for n, wh in enumerate(raw) if wh > STEP_WH), default=-1) + 1
    before, after = max(0, at - STOP_WINDOW_HOURS), min(len(raw), at + STOP_WINDOW_HOURS)
    if at - before < STOP_HOURS_MIN or after - at < STOP_HOURS_MIN:
        return None
    usual = [0.0] * HOURS_A_DAY
    for n in range(before, at):
        usual[hours[n] % HOURS_A_DAY] += raw[n] * HOURS_A_DAY / (at - before)
    if sum(usual) < STOP_WH_A_DAY_MIN:
        return None
    votes, share = _step(usual, at, hours, missing)
    if votes < votes_min or not STOP_SHARE_MIN <= share <= STOP_SHARE_MAX:
        return None
    days = range(-STOP_LOOK_DAYS, STOP_LOOK_DAYS + 1)
    by_day = {day: _step(usual, at + day * HOURS_A_DAY, hours, missing)[0] for day in days}
    if max(by_day, key=lambda day: by_day[day]) not in (-1, 0, 1):
        return None
    since = sum(usual[hour % HOURS_A_DAY] for hour in hours[at:])
    return Stop(number, at, votes, share, share * since)


def _step(
    usual: Sequence[float], at: int, hours: Sequence[int], missing: Sequence[float]
) -> tuple[float, float]:
    """Return how far the days around a moment agree that a load is missing since then, and its share."""
    begin, end = max(0, at - STOP_WINDOW_HOURS), min(len(hours), at + STOP_WINDOW_HOURS)
    around = hours[begin:end]
    load = [usual[hour % HOURS_A_DAY] if n >= at else 0.0 for n, hour in enumerate(around, begin)]
    shape = about_the_hour(load, around)
    left = about_the_hour(missing[begin:end], around)
    size = dot(shape, shape)
    if not size:
        return 0.0, 0.0
    by_day = groups(hour // HOURS_A_DAY for hour in around)
    return votes_of(shape, clipped(left), by_day), dot(shape, left) / size
