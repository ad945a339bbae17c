"""When which registers are due: polling aligned to the clock (pure, decision 0019).

Every interval divides the UTC day from midnight, so that all gateways of a feeder read at the same
instants and their sum can be compared with the feeder's own meter. An instant that was missed (the line
was busy, the machine slept) is skipped and counted: a reading cannot be taken in the past, and two
polls in a row tell nothing that one does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta

from openami.gateway.driver import PollGroup

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_S = 24 * 60 * 60

# Above this share of the interval a line has no room left for a retry or another meter.
LINE_LOAD_HIGH = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How often each group is read. ``fast_s`` and ``billing_s`` divide a day; ``daily_at`` is UTC."""

    fast_s: int = 60
    billing_s: int = 900
    daily_at: time = time(0)

    def interval_s(self, group: PollGroup) -> int:
        """Return the seconds between two readings of a group."""
        match group:
            case PollGroup.FAST:
                return self.fast_s
            case PollGroup.BILLING:
                return self.billing_s
            case PollGroup.DAILY:
                return _DAY_S

    def slot(self, group: PollGroup, moment: datetime) -> int:
        """Return the number of the interval a moment lies in; it grows by one at each due instant."""
        since = moment - _EPOCH - self._offset(group)
        return since // timedelta(seconds=self.interval_s(group))

    def slot_start(self, group: PollGroup, slot: int) -> datetime:
        """Return the instant at which an interval begins."""
        return _EPOCH + self._offset(group) + timedelta(seconds=slot * self.interval_s(group))

    def _offset(self, group: PollGroup) -> timedelta:
        if group is not PollGroup.DAILY:
            return timedelta()
        at = self.daily_at
        return timedelta(hours=at.hour, minutes=at.minute, seconds=at.second)


@dataclass(frozen=True, slots=True)
class Polled:
    """The interval in which a group was last polled, and the boot-time second of that poll."""

    slot: int
    at_boottime: float


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be polled now; ``missed`` counts the instants that passed without a poll."""

    groups: frozenset[PollGroup]
    polled: Mapping[PollGroup, Polled]
    missed: Mapping[PollGroup, int] = field(default_factory=dict)


def due(
    schedule: Schedule,
    polled: Mapping[PollGroup, Polled],
    *,
    now: datetime,
    boottime: float,
) -> Due:
    """Return the groups due at ``now``, given when each was last polled.

    A group never polled is due at once: a gateway that starts should not keep its village waiting for
    the daily instant. When the wall clock is set back, the next instant is simply the next one of the
    new time; when it is set forward, what it jumped over was not missed, because no time passed: the
    boot-time clock tells.
    """
    groups: set[PollGroup] = set()
    missed: dict[PollGroup, int] = {}
    after: dict[PollGroup, Polled] = dict(polled)
    for group in PollGroup:
        slot = schedule.slot(group, now)
        last = polled.get(group)
        if last is not None and slot == last.slot:
            continue
        if last is not None and slot < last.slot:
            after[group] = Polled(slot, boottime)
            continue
        groups.add(group)
        after[group] = Polled(slot, boottime)
        if last is not None:
            passed = int((boottime - last.at_boottime) // schedule.interval_s(group))
            skipped = min(slot - last.slot - 1, passed)
            if skipped > 0:
                missed[group] = skipped
    return Due(frozenset(groups), after, missed)


def next_due(schedule: Schedule, polled: Mapping[PollGroup, Polled]) -> datetime | None:
    """Return the next instant at which a group is due; None when one is due at once."""
    if len(polled) < len(PollGroup):
        return None
    return min(schedule.slot_start(group, last.slot + 1) for group, last in polled.items())
