"""A meter's outages: billing instants at which it was not read, and what its load profile is asked next (pure).

An outage lies between two polls that were answered, whatever kept the ones between from it: the meter, its line,
the gateway's own power. Its instants are those of the gateway's schedule, because these are what the head-end
expects; the meter's capture period need not be known (decision 0058). Each instant has a window, half an interval
to either side; windows meet and do not overlap, so whatever the meter holds is asked for once.

Moments of an untrusted clock are kept with the second of the boot and dated later, like readings (decision 0018);
nothing is asked before both ends of an outage are dated.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from msgspec.structs import replace

from openami.gateway.driver import PollGroup
from openami.gateway.normalise import METER_CLOCK_DRIFT_S_MAX, KnownValue, to_the_millisecond
from openami.gateway.schedule import Schedule

# A month, like a gateway's statements: what is older has been billed from the registers, which are totals.
BACK_DAYS_MAX: Final = 31
# Six hours of quarter hours: a kilobyte or two, some two seconds of a 9600 Bd line.
STRETCH_INTERVALS_MAX: Final = 24
# Of one meter; a line that fails and comes back for a day, hour by hour, has fewer.
OUTAGES_MAX: Final = 32
# Each after a longer rest than the one before, an hour and a quarter in all: more is not a disturbance.
FAILURES_MAX: Final = 5

_MS: Final = timedelta(milliseconds=1)
_BACK: Final = timedelta(days=BACK_DAYS_MAX)


@dataclass(frozen=True, slots=True)
class BillingInstants:
    """The schedule's billing instants, and how far from a poll they must be to have been missed by it.

    A poll follows its instant within a cycle. And no believed meter clock is further off than
    `METER_CLOCK_DRIFT_S_MAX`: a captured value that near to a polled one may be the later of the two and bear
    the earlier time, and a counter would seem to go back. So the polled one stands for both.
    """

    interval_s: int
    apart_s: float

    @classmethod
    def of(cls, schedule: Schedule) -> "BillingInstants":
        """Return the instants of a schedule."""
        interval_s = schedule.interval_s(PollGroup.BILLING)
        apart_s = min(max(METER_CLOCK_DRIFT_S_MAX, schedule.fast_s), interval_s / 2)
        return cls(interval_s, apart_s)

    def missed(self, after: datetime, before: datetime) -> range:
        """Return the instants that neither of two polls stands for, in seconds since 1970."""
        first = math.floor((after.timestamp() + self.apart_s) / self.interval_s) + 1
        last = math.ceil((before.timestamp() - self.apart_s) / self.interval_s) - 1
        return range(first * self.interval_s, (last + 1) * self.interval_s, self.interval_s)


class Moment(msgspec.Struct, frozen=True, omit_defaults=True):
    """When a poll was answered; ``boottime_s`` stands beside a time that no trusted clock gave."""

    ts: datetime
    boottime_s: float | None = None


Counters = Mapping[str, KnownValue]
"""What counters stood at, by their codes' full form."""


class Outage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The time between two answered polls in which billing instants were missed."""

    after: Moment
    before: Moment
    floor: Counters = {}
    """What the counters had when it began, or as far as it has been read since."""
    ceiling: Counters = {}
    """What they had when it was over."""
    asked_until: datetime | None = None
    """The last instant that was asked for."""
    held: int = 0
    """How many of the instants asked for the meter had."""
    failures: int = 0
    """How often in a row a stretch could not be read."""
    lost: int = 0
    """Instants of an older outage that was given up for a newer one."""
    clock_doubted: bool = False
    """Whether the meter's clock was found wrong at either end."""

    @property
    def dated(self) -> bool:
        """Whether both ends are known by a trusted clock."""
        return self.after.boottime_s is None and self.before.boottime_s is None

    def missed(self, instants: BillingInstants) -> range:
        """Return all its instants."""
        return instants.missed(self.after.ts, self.before.ts)

    def to_ask(self, instants: BillingInstants, now: datetime) -> range:
        """Return the instants still to be asked for: none that is too long ago."""
        if self.clock_doubted or self.failures >= FAILURES_MAX:
            return range(0)
        missed = self.missed(instants)
        asked = self.after.ts if self.asked_until is None else self.asked_until
        done = max(asked, now - _BACK).timestamp()
        skipped = math.floor((done - missed.start) / missed.step) + 1
        return missed[max(0, skipped) :]


class History(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When a meter's billing registers were last read, and the outages whose readings are still to be had."""

    billed: Moment | None = None
    outages: tuple[Outage, ...] = ()

    def without(self, outage: Outage) -> "History":
        """Return the history once an outage is done with."""
        return replace(self, outages=tuple(each for each in self.outages if each != outage))

    def with_changed(self, outage: Outage, changed: Outage) -> "History":
        """Return the history with an outage as it now is."""
        return replace(
            self, outages=tuple(changed if each == outage else each for each in self.outages)
        )


@dataclass(frozen=True, slots=True)
class Stretch:
    """What is asked for in one go: instants that follow one another, and the span of their windows."""

    outage: Outage
    instants: range
    first: datetime
    last: datetime


def polled(
    history: History,
    at: Moment,
    *,
    instants: BillingInstants,
    floor: Counters,
    ceiling: Counters,
    clock_doubted: bool,
) -> History:
    """Note that the billing registers were read, and the outage that ended with it, if one did."""
    last, after = history.billed, replace(history, billed=at)
    if last is None:
        return after  # what a meter measured before it was ours is not ours
    outage = Outage(
        after=last,
        before=at,
        floor=floor,
        # A counter that began anew meanwhile, by rollover or by exchange, has no ceiling.
        ceiling={code: top for code, top in ceiling.items() if _has_grown(floor.get(code), top)},
        clock_doubted=clock_doubted,
    )
    if not _may_miss(outage, instants):
        return after
    outages = (*history.outages, outage)
    if len(outages) > OUTAGES_MAX:
        given_up, heir, *rest = outages
        lost = heir.lost + given_up.lost + len(given_up.missed(instants)) - given_up.held
        outages = (replace(heir, lost=lost), *rest)
    return replace(after, outages=outages)


def _may_miss(outage: Outage, instants: BillingInstants) -> bool:
    if outage.dated:
        return bool(outage.missed(instants))
    began, ended = outage.after.boottime_s, outage.before.boottime_s
    # With one end undated nobody knows; with both, this boot's own seconds tell.
    return began is None or ended is None or ended - began > instants.interval_s


def _has_grown(floor: KnownValue | None, top: KnownValue) -> bool:
    if floor is None or isinstance(floor.value, str) or isinstance(top.value, str):
        return False
    return top.value >= floor.value


def next_stretch(history: History, instants: BillingInstants, now: datetime) -> Stretch | None:
    """Return what is to be asked for next: the oldest first, for the meter overwrites it first."""
    for outage in history.outages:
        if outage.dated and (to_ask := outage.to_ask(instants, now)):
            # What was too much at once is asked for by halves.
            some = to_ask[: max(1, STRETCH_INTERVALS_MAX >> outage.failures)]
            half = timedelta(seconds=instants.interval_s) / 2
            return Stretch(
                outage, some, moment_of(some[0]) - half, moment_of(some[-1]) + half - _MS
            )
    return None


def finished(history: History, instants: BillingInstants, now: datetime) -> Outage | None:
    """Return an outage of which nothing is to be asked for any more."""
    for outage in history.outages:
        if outage.dated and not outage.to_ask(instants, now):
            return outage
    return None


def moment_of(instant: int) -> datetime:
    """Return an instant as a time."""
    return datetime.fromtimestamp(instant, UTC)


# --- an untrusted clock --------------------------------------------------------------------------


def dated(history: History, boot_moment: datetime, instants: BillingInstants) -> History:
    """Return the history with this boot's moments dated, its clock now being trusted."""
    outages = (
        replace(
            outage,
            after=_dated(outage.after, boot_moment),
            before=_dated(outage.before, boot_moment),
        )
        for outage in history.outages
    )
    return History(
        billed=None if history.billed is None else _dated(history.billed, boot_moment),
        outages=tuple(outage for outage in outages if outage.missed(instants) or outage.lost),
    )


def is_dated(history: History) -> bool:
    """Whether no moment of it waits for the clock."""
    billed = history.billed
    return (billed is None or billed.boottime_s is None) and all(
        outage.dated for outage in history.outages
    )


def _dated(moment: Moment, boot_moment: datetime) -> Moment:
    if moment.boottime_s is None:
        return moment
    return Moment(to_the_millisecond(boot_moment + timedelta(seconds=moment.boottime_s)))


def of_earlier_boot(history: History) -> History:
    """Return what can be used of it: from the first moment whose time was never known, all is one outage."""
    known: list[Outage] = []
    for outage in history.outages:
        if outage.after.boottime_s is not None:
            break
        if outage.before.boottime_s is not None:
            return History(billed=outage.after, outages=tuple(known))
        known.append(outage)
    billed = history.billed
    return History(
        billed=None if billed is None or billed.boottime_s is not None else billed,
        outages=tuple(known),
    )
