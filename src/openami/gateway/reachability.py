"""Whether a meter can be reached: how many polls failed, and what the head-end has been told (pure).

One failed poll can be a disturbance; after ``misses_max`` in a row the meter is told lost, once, and told
restored with its first answer. A foreign meter at its address is told at once: nothing of it may be
published, and nobody but a person can put it right.
"""

from dataclasses import dataclass, replace

from openami.gateway.event_types import EventType
from openami.profile import EventState

Told = tuple[EventType, EventState]


@dataclass(frozen=True, slots=True)
class Reachability:
    """What is known of the way to one meter; ``lost`` and ``clashing`` are what has been told."""

    misses: int = 0
    lost: bool = False
    clashing: bool = False


def answered(before: Reachability) -> tuple[Reachability, tuple[Told, ...]]:
    """The meter answered, as itself."""
    told: list[Told] = []
    if before.lost:
        told.append((EventType.COMMS_RESTORED, EventState.CLEARED))
    if before.clashing:
        told.append((EventType.ADDRESS_CLASH, EventState.CLEARED))
    return Reachability(), tuple(told)


def missed(before: Reachability, *, misses_max: int) -> tuple[Reachability, tuple[Told, ...]]:
    """The meter did not answer, or not with an answer."""
    assert misses_max >= 1
    after = replace(before, misses=min(before.misses + 1, misses_max))
    if after.lost or after.misses < misses_max:
        return after, ()
    return replace(after, lost=True), ((EventType.COMMS_LOST, EventState.RAISED),)


def clashed(before: Reachability) -> tuple[Reachability, tuple[Told, ...]]:
    """Another meter answered at this one's address."""
    after = replace(before, misses=0, clashing=True)
    if before.clashing:
        return after, ()
    return after, ((EventType.ADDRESS_CLASH, EventState.RAISED),)
