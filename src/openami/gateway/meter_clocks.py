"""Whether a meter's clock is right, and whether the gateway may set it now (pure, decision 0059).

A clock is set by small steps, at most once a day, by a gateway whose own clock is trusted, and only while the
meter's time and ours lie in the same capture interval: the meter then captures each interval once, whichever way
it is set. A step that is too big is a person's to take.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

# Meters tell whole seconds, and a read takes up to two: less is not known to be wrong.
SET_FROM_S: Final = 10.0
# Between the decision and the meter's own setting: a question, its retry, an association opened anew.
SETTING_TAKES_S: Final = 10.0
# A crystal drifts seconds in a day: who needs it sooner has a failing battery, and needs a person.
SET_AGAIN_AFTER: Final = timedelta(hours=24)
# The shortest capture period in general use is five minutes; the usual quarter of an hour bounds what is assumed.
CAPTURE_S_MAX: Final = 900


@dataclass(frozen=True, slots=True)
class Step:
    """Set it, by so many seconds: positive where the meter was behind."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """It must not be set from here; a person is told why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Later:
    """Not at this moment."""


def drift_s(told: object, now: datetime) -> float | None:
    """Return by how much a told clock is ahead of ours; None where it told no time with a zone."""
    if not isinstance(told, str):
        return None
    try:
        at = datetime.fromisoformat(told)
    except ValueError:
        return None
    return None if at.tzinfo is None else (at - now).total_seconds()


def clock_step(
    ahead_s: float,
    *,
    now: datetime,
    step_s_max: float,
    capture_s: int,
    set_at: datetime | None,
) -> Step | Refusal | Later | None:
    """Return what is to be done about a meter's clock; None where it is right enough."""
    if abs(ahead_s) < SET_FROM_S:
        return None
    side = "ahead" if ahead_s > 0 else "behind"
    if abs(ahead_s) > step_s_max:
        return Refusal(
            f"the meter's clock is {abs(ahead_s):.0f} s {side}: at most {step_s_max:.0f} s are set "
            "from here; set it by hand, and look at its battery"
        )
    if set_at is not None and now - set_at < SET_AGAIN_AFTER:
        return Refusal(
            f"the meter's clock is {abs(ahead_s):.0f} s {side}, and was set within the last "
            f"{SET_AGAIN_AFTER / timedelta(hours=1):.0f} hours: look at its battery"
        )
    if abs(ahead_s) + 2 * SETTING_TAKES_S >= capture_s:
        return Refusal(
            f"the meter's clock is {abs(ahead_s):.0f} s {side} and captures every {capture_s} s: "
            "an interval would be doubled or lost; set it by hand"
        )
    ours, meters = now.timestamp(), now.timestamp() + ahead_s
    first, last = min(ours, meters), max(ours, meters) + SETTING_TAKES_S
    # Captures follow the local clock; it differs from UTC by quarter hours, which every period divides.
    if first // capture_s != last // capture_s or first % capture_s < SETTING_TAKES_S:
        return Later()
    return Step(-ahead_s)


def capture_period_s(captured: Sequence[datetime]) -> int:
    """Return how often a meter captures, by the times of what it captured lately."""
    times = sorted(set(captured))
    spacings = ((later - earlier).total_seconds() for earlier, later in pairwise(times))
    return int(min([CAPTURE_S_MAX, *(each for each in spacings if each >= 1)]))
