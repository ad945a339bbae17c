"""From what was measured to how many meters a machine serves. Pure; the formula is decision 0070's.

    by intake      intake_per_s · MARGIN · interval_s
    by commits     BATCH_MESSAGES_MAX / commit_p99_s · MARGIN · interval_s
    by room        free · ROOM_SHARE / (keep_days · 86,400 / interval_s · registers · bytes_per_reading)

The smallest of the three is served, and its name is the first limit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from openami.headend.uplink import BATCH_MESSAGES_MAX

# What may be used of the measured rate: six tenths of it is left when MQTT is added, which is not measured and was
# a third of a head-end's work and all of a broker's; half of that, so that a backlog is caught up in no longer
# than it took to grow, while pages are drawn and days folded.
MARGIN: Final = 0.3
# What readings may take of the room that is free: the broker's queue, logs, write-ahead logs and the week between
# the alert and the full disk need the rest.
ROOM_SHARE: Final = 0.7
# Readings do not expire by themselves (decision 0067); a year is when somebody looks after the disk at the latest.
KEEP_DAYS: Final = 365

_DAY_S: Final = 86_400


class Limit(StrEnum):
    """What a machine runs out of."""

    INTAKE = "intake"
    """Judging and storing, whatever it waits for."""
    COMMITS = "commits"
    """The disk's slowest syncs, each with the largest batch."""
    ROOM = "room"
    """A year of readings."""


@dataclass(frozen=True, slots=True, order=True)
class Load:
    """What every meter of a village sends: so many registers, in one message, so often."""

    interval_s: int
    registers: int

    @property
    def readings_per_day(self) -> float:
        """How many readings a meter makes a day."""
        return _DAY_S / self.interval_s * self.registers


@dataclass(frozen=True, slots=True)
class Room:
    """What a store may grow into, in bytes; and what it takes for each reading."""

    free_bytes: int
    bytes_per_reading: float

    def days(self, meters: int, load: Load) -> float:
        """Return for how many days the readings of so many meters fit."""
        return (
            self.free_bytes * ROOM_SHARE / (meters * load.readings_per_day * self.bytes_per_reading)
        )


@dataclass(frozen=True, slots=True)
class Reach:
    """How many meters are served under a load: the least of what each limit allows."""

    load: Load
    by: Mapping[Limit, int]

    @property
    def first_limit(self) -> Limit:
        """What is reached first."""
        return min(self.by, key=lambda limit: self.by[limit])

    @property
    def meters(self) -> int:
        """How many meters that are."""
        return self.by[self.first_limit]


def reach(load: Load, *, intake_per_s: float, commit_p99_s: float, room: Room | None) -> Reach:
    """Reckon how many meters are served.

    ``intake_per_s``: messages of this load's registers, judged and durably committed. ``commit_p99_s``: what a
    commit takes, but for one in a hundred. ``room`` is None where nobody knows it: on a database server.
    """
    commits_per_s = BATCH_MESSAGES_MAX / commit_p99_s
    by = {
        Limit.INTAKE: int(intake_per_s * MARGIN * load.interval_s),
        Limit.COMMITS: int(commits_per_s * MARGIN * load.interval_s),
    }
    if room is not None:
        by[Limit.ROOM] = int(room.days(1, load) / KEEP_DAYS)
    return Reach(load, by)
