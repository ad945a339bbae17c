"""What of a meter's events is told: not more than so many in an hour, and the end of what was begun always (pure).

A loose wire raises and clears a condition hundreds of times an hour, and a meter's log may hold thousands of
entries. They would fill the line and hide the neighbours' events. So each meter has a number an hour; above it
events are counted, and one ``event_storm`` says so, and says how many there were when the hour is over. A
condition whose beginning was told has its end told, whatever the number: an alarm may not stand because its end
was one too many (decision 0057).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from msgspec.structs import replace

from openami.gateway.event_types import EVENT_TYPES, EventType
from openami.profile import EventState, Severity

# Between 50 and 200 events an hour is what one meter's loose neutral makes; a house in order has some a day.
EVENTS_PER_HOUR_DEFAULT: Final = 60
_HOUR: Final = timedelta(hours=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Telling(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one meter has told in this hour, and what it has begun to tell and not ended.

    ``open`` are the conditions whose beginning was told, ``withheld`` those whose beginning was one too many.
    Both are bounded by the rules and codes there are.
    """

    hour: int = 0
    told: int = 0
    counted: int = 0
    """How many more there were in this hour."""
    storm: bool = False
    open: frozenset[str] = frozenset()
    withheld: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that could be told.

    ``key`` names what lasts: the type, and the part of the meter it is about.
    """

    type: EventType
    state: EventState
    part: str = ""
    severity: Severity | None = None

    @property
    def key(self) -> str:
        """The name under which it is remembered that it was told."""
        return f"{self.type}/{self.part}" if self.part else self.type.value


@dataclass(frozen=True, slots=True)
class StormTold:
    """That more happened than is told begins, or is over with so many."""

    state: EventState
    counted: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """Which of some happenings are to be told: for each its state, or None."""

    telling: Telling
    states: tuple[EventState | None, ...]
    storms: tuple[StormTold, ...] = ()


def admit(
    before: Telling, happenings: Sequence[Happening], now: datetime, *, per_hour: int
) -> Admitted:
    """Decide of happenings, which are in the order of their time.

    If not all can be told, the graver go first. The end of one part of a condition is told as a moment while
    another part still lasts: the condition is not over.
    """
    telling, storms = _in_this_hour(before, (now - _EPOCH) // _HOUR)
    states: list[EventState | None] = [None] * len(happenings)
    chosen = _chosen(telling, happenings, per_hour)
    for at, happening in enumerate(happenings):
        telling, states[at] = _step(telling, happening, told=at in chosen)
    if telling.counted and not telling.storm:
        telling = replace(telling, storm=True)
        storms = (*storms, StormTold(EventState.RAISED, telling.counted))
    return Admitted(telling, tuple(states), storms)


def key_of(kind: EventType, part: str = "") -> str:
    """Return the name under which it is remembered that a condition was told."""
    return Happening(kind, EventState.RAISED, part).key


def _in_this_hour(before: Telling, hour: int) -> tuple[Telling, tuple[StormTold, ...]]:
    if hour == before.hour:
        return before, ()
    over = (StormTold(EventState.CLEARED, before.counted),) if before.storm else ()
    return replace(before, hour=hour, told=0, counted=0, storm=False), over


def _chosen(telling: Telling, happenings: Sequence[Happening], per_hour: int) -> frozenset[int]:
    """Return which have room: all, or else the gravest and of those the first."""
    room = max(per_hour - telling.told, 0)
    known = telling.open | telling.withheld
    counted = [
        at
        for at, each in enumerate(happenings)
        if not (each.state is EventState.CLEARED and each.key in known)
    ]
    by_gravity = sorted(counted, key=lambda at: (-_gravity(happenings[at]), at))
    return frozenset(by_gravity[:room])


_GRAVITY: Final = {severity: at for at, severity in enumerate(Severity)}


def _gravity(happening: Happening) -> int:
    return _GRAVITY[happening.severity or EVENT_TYPES[happening.type].severity]


def _step(
    telling: Telling, happening: Happening, *, told: bool
) -> tuple[Telling, EventState | None]:
    key = happening.key
    if happening.state is EventState.CLEARED:
        if key in telling.open:
            after = replace(telling, open=telling.open - {key})
            return after, EventState.INSTANT if _lasts(after, happening) else EventState.CLEARED
        if key in telling.withheld:
            return replace(telling, withheld=telling.withheld - {key}), None
    elif happening.state is EventState.RAISED:
        if told:
            telling = replace(telling, open=telling.open | {key}, withheld=telling.withheld - {key})
        elif key in telling.withheld:
            return telling, None  # counted when it began
        elif key not in telling.open:
            telling = replace(telling, withheld=telling.withheld | {key})
    if told:
        return replace(telling, told=telling.told + 1), happening.state
    return replace(telling, counted=telling.counted + 1), None


def _lasts(telling: Telling, happening: Happening) -> bool:
    """Whether another part of the same condition is told and not over."""
    return any(key.partition("/")[0] == happening.type for key in telling.open)


def overdue(telling: Telling, now: datetime) -> bool:
    """Whether a storm is to be told over, though nothing more happens."""
    return telling.storm and (now - _EPOCH) // _HOUR != telling.hour
