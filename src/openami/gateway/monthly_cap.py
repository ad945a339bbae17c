"""What a gateway gives up, and in which order, so that a month's bytes stay under a cap (pure, decision 0076).

Commands, their answers and events always go. Of telemetry the mildest stage is chosen whose rest of the month still
fits: so what is too much is taken from every day a little, and not from the last ones everything.

Harsher at once, milder once a day and with room to spare: a stage is told to people, and may not flicker.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from openami.link_cost import DAY_S

# Of the cap, for what nobody can foretell: commands and their answers, sessions, daily statements, what the
# head-end asks for again, handshakes of a link that breaks.
RESERVED_SHARE: Final = 0.1
# A milder stage has to fit into this share of what is left.
EASED_SHARE: Final = 0.9
# What waits goes while so much is left beyond what is foretold: a look's worth of it is less.
BACKLOG_SLACK_SHARE: Final = 0.01


class CapStage(StrEnum):
    """How much telemetry is sent, from everything to nothing."""

    FULL = "full"
    """As configured."""
    SLOWER = "slower"
    """What no bill is made of, a quarter-hourly; what a bill is made of as configured."""
    HOURLY = "hourly"
    """One of each meter and poll group an hour."""
    DAILY = "daily"
    """One of each meter and poll group a day."""
    ESSENTIAL = "essential"
    """None: events, commands and their answers only."""

    @property
    def withholds(self) -> bool:
        """Whether readings a bill is made of wait in the outbox."""
        return _FIRST_OF_S[self] is not None


ORDER: Final = tuple(CapStage)

# The groups that are told on change (`on_change`) are told at these heartbeats and not between them.
HEARTBEAT_S: Final[Mapping[CapStage, int | None]] = {
    CapStage.FULL: None,
    CapStage.SLOWER: 900,
    CapStage.HOURLY: 3_600,
    CapStage.DAILY: DAY_S,
    CapStage.ESSENTIAL: DAY_S,
}
# Of so many seconds the first envelope goes, which is the one on the boundary; 0: none. As in thinning, the energy
# between two of them stays exact.
_FIRST_OF_S: Final[Mapping[CapStage, int | None]] = {
    CapStage.FULL: None,
    CapStage.SLOWER: None,
    CapStage.HOURLY: 3_600,
    CapStage.DAILY: DAY_S,
    CapStage.ESSENTIAL: 0,
}


def period_began(stage: CapStage, now: datetime) -> datetime | None:
    """Return since when the first envelope of each meter and group may go; None where none may, or all."""
    length_s = _FIRST_OF_S[stage]
    if not length_s:
        return None
    return now - timedelta(seconds=(now - _EPOCH).total_seconds() % length_s)


@dataclass(frozen=True, slots=True)
class Month:
    """A month as the contract counts it, at midnights in UTC; its end is the next one's begin."""

    begin: datetime
    end: datetime

    @classmethod
    def of(cls, now: datetime, first_day: int) -> "Month":
        """Return the month of a moment. ``first_day`` is at most 28: each month has it."""
        this = datetime(now.year, now.month, first_day, tzinfo=UTC)
        if now >= this:
            return cls(this, _first(this + timedelta(days=31), first_day))
        return cls(_first(this - timedelta(days=28), first_day), this)

    def left_days(self, now: datetime) -> float:
        """Return how much of it is to come."""
        return max(0.0, (self.end - now) / timedelta(days=1))


def _first(within: datetime, day: int) -> datetime:
    return within.replace(day=day)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Balance:
    """Where a month stands: bytes it may have, bytes it has had, and what each stage costs a day from here."""

    cap_bytes: int
    used_bytes: int
    left_days: float
    per_day: Mapping[CapStage, float]
    """All that the link carries at a stage, the connection and a usual day's events among it."""

    @property
    def available_bytes(self) -> float:
        """What may still be planned with."""
        return self.cap_bytes * (1 - RESERVED_SHARE) - self.used_bytes

    def left_over(self, stage: CapStage) -> float:
        """Return what is available beyond a stage's rest of the month; below 0 it does not fit."""
        return self.available_bytes - self.per_day[stage] * self.left_days


def stage_after(before: CapStage, balance: Balance, *, may_ease: bool) -> CapStage:
    """Return the stage after a look: harsher at once, milder only where it may and leaves room."""
    fits = next((s for s in ORDER if balance.left_over(s) >= 0), CapStage.ESSENTIAL)
    if ORDER.index(fits) >= ORDER.index(before) or not may_ease:
        return max(fits, before, key=ORDER.index)
    spare = balance.available_bytes * (1 - EASED_SHARE)
    return next(
        (s for s in ORDER[: ORDER.index(before)] if balance.left_over(s) >= spare >= 0), before
    )


def backlog_may_go(stage: CapStage, balance: Balance) -> bool:
    """Return whether there is room for what waits, beyond what is still to be read this month."""
    slack = balance.cap_bytes * BACKLOG_SLACK_SHARE
    return not stage.withholds and balance.left_over(stage) >= slack


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a gateway stands in its month, as it is remembered across a restart."""

    month_began: datetime | None = None
    """None before the first look at a clock that is trusted."""
    used_bytes: int = 0
    stage: CapStage = CapStage.FULL
    withheld_at: datetime | None = None
    """When it was told last that readings wait; None where none does."""


def after_look(
    before: Standing, balance: Balance, now: datetime, *, may_ease: bool, waiting: bool
) -> Standing:
    """Return where the gateway stands after a look.

    ``now`` is to the millisecond, as it will be told; ``waiting``: whether readings have waited for longer than a
    poll and its sending take. Once told, it is told over only when none does.
    """
    stage = stage_after(before.stage, balance, may_ease=may_ease)
    withheld_at = before.withheld_at
    was_told = withheld_at is not None
    if not stage.withholds and not (waiting and (was_told or not backlog_may_go(stage, balance))):
        withheld_at = None
    elif not was_told or (stage.withholds and stage is not before.stage):
        withheld_at = now
    return replace(before, used_bytes=balance.used_bytes, stage=stage, withheld_at=withheld_at)


class Lived(msgspec.Struct, frozen=True, rename="camel"):
    """A stage, for how many days of a foretold month, and the bytes of the month up to its end."""

    stage: CapStage
    days: float
    used_bytes: int


def lived(cap_bytes: int, per_day: Mapping[CapStage, float], month_days: int) -> Iterator[Lived]:
    """Yield the stages of a month in which everything goes as foretold, hour by hour."""
    stage, used, since = CapStage.FULL, 0.0, 0
    hours = month_days * 24
    for hour in range(hours):
        balance = Balance(cap_bytes, round(used), (hours - hour) / 24, per_day)
        after = stage_after(stage, balance, may_ease=hour % 24 == 0)
        if after is not stage and hour > since:
            yield Lived(stage, (hour - since) / 24, round(used))
            since = hour
        stage = after
        used += per_day[stage] / 24
    yield Lived(stage, (hours - since) / 24, round(used))
