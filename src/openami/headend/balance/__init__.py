"""The honest balance of a feeder: supplied minus sold, as a range, with who was heard and what is estimated. Pure.

A balance is of hours that are over and in which the head meter is known. What a silent meter may have counted is
a range of its own, so the loss is one too; and why energy is missing is told in the order of how much it
explains. A single meter is named only where `following` is sure (decision 0040, docs/balance.md).

account.py    the range, hour by hour and pole by pole
following.py  which meter the missing energy follows
stopping.py   which meter stopped on the day from which energy is missing
shapes.py     the arithmetic of both
reasons.py    why it is missing, in plain words
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from openami.headend.consumption import Break, Known

# As many days before the period are looked at as a habit needs to show.
HISTORY_DAYS: Final = 30
# A month and a day or two of it in the next; longer ones are added up by who asks.
PERIOD_DAYS_MAX: Final = 62


@dataclass(frozen=True, slots=True)
class Range:
    """Between what and what a quantity lies, in Wh."""

    low: int
    high: int

    def __add__(self, other: "Range") -> "Range":
        return Range(self.low + other.low, self.high + other.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceHours:
    """A place that energy is counted at, over all its meters: a customer, a pole, or the feeder's head."""

    serials: tuple[str, ...]
    """Its meters, the one that hangs there now last."""
    name: str = ""
    pole_id: str | None = None
    phase: str = ""
    wh: tuple[int | None, ...]
    """By hour, history and period together."""
    known: tuple[Known, ...]
    last_at: datetime | None = None
    """The last sound reading."""
    late: bool = False
    """Whether its missing readings are still being asked for."""
    breaks: tuple[Break, ...] = ()
    flows: bool | None = None
    """Whether its latest current says that something flows; None where it does not tell."""
    bypassed_a: float | None = None
    """By how much its neutral's current differs from its phase's, in A; None where it does not tell."""

    @property
    def serial(self) -> str:
        """The meter that hangs there now."""
        return self.serials[-1]


class Silence(StrEnum):
    """Why a part of a meter's hours is not known."""

    NOT_REPORTED = "not_reported"
    LATE = "late"
    """Not there yet: the head-end is still asking for it."""
    NEVER = "never"
    """Nothing of it was ever heard in this time, nor in the weeks before."""


@dataclass(frozen=True, slots=True)
class Unheard:
    """A meter of which hours are not known, and what it may have counted in them."""

    serial: str
    name: str
    why: Silence
    hours: int
    may_be: Range
    last_at: datetime | None


@dataclass(frozen=True, slots=True)
class Estimated:
    """A meter whose energy is in part an estimate, or a lower bound."""

    serial: str
    name: str
    spread_wh: int
    """Measured in sum, shared out over a gap."""
    at_least_wh: int
    """In hours of which it is only a lower bound."""
    breaks: tuple[Break, ...]


@dataclass(frozen=True, slots=True)
class HourBalance:
    """One hour of the strip."""

    begin: datetime
    supplied_wh: int | None
    sold_wh: int
    """Of the meters that are known."""
    unknown: int
    """How many customers' meters are not."""


@dataclass(frozen=True, slots=True)
class PoleBalance:
    """What a pole's own meter counts, and what the customers there were sold."""

    pole_id: str
    supplied_wh: int
    sold: Range
    hours: int
    """Of how many hours its own meter is known."""


class ReasonKind(StrEnum):
    """Why energy is missing, or seems to be."""

    NOT_REPORTED = "not_reported"
    LATE = "late"
    TECHNICAL = "technical"
    BYPASS = "bypass"
    UNMETERED = "unmetered"
    STUCK = "stuck"
    WRONG_FEEDER = "wrong_feeder"
    CLOCK = "clock"
    HEAD_WRONG = "head_wrong"


@dataclass(frozen=True, slots=True)
class Reason:
    """One explanation, and how much of the missing energy it may account for."""

    kind: ReasonKind
    wh: Range
    serials: tuple[str, ...]
    sentence: str
    """In plain English; a page in another language says it by ``kind`` and the figures."""
    accuses: bool = False
    """Whether it names a meter as one that energy passes by. Only beyond the bounds of `following`."""
    sure: float = 0.0
    """How far beyond chance, in standard errors, where it accuses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """One feeder, one period."""

    feeder_id: str
    begin: datetime
    end: datetime
    """Not included. The period ends where the last hour did that is over."""
    supplied_wh: int
    """In the hours in which the head meter is known."""
    sold: Range
    unaccounted: Range
    meters: int
    """Customers' meters."""
    heard: int
    """Of these, how many are known in all hours that count."""
    head_hours: int
    """Hours that count: those in which the head meter is known."""
    hours: tuple[HourBalance, ...]
    unheard: tuple[Unheard, ...]
    estimated: tuple[Estimated, ...]
    poles: tuple[PoleBalance, ...]
    reasons: tuple[Reason, ...]
    """The one that explains most comes first."""
    refusal: str
    """Why nobody could be named whatever the truth: ``no_head``, ``too_short``, ``too_silent``; else empty."""

    @property
    def unaccounted_percent(self) -> tuple[float, float] | None:
        """The range as shares of the supply; None where nothing was supplied."""
        if not self.supplied_wh:
            return None
        low, high = self.unaccounted.low, self.unaccounted.high
        return 100 * low / self.supplied_wh, 100 * high / self.supplied_wh

    @property
    def suspicions(self) -> Sequence[Reason]:
        """The reasons that name a meter as one that energy passes by."""
        return [reason for reason in self.reasons if reason.accuses]
