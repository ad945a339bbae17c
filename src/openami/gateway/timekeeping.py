"""Whether the gateway's wall clock is to be believed, and what becomes of readings when it is not.

A gateway without a battery-backed clock wakes from a power cut in 1970, or in the hour its system last
noted. A wrong time cannot be taken back once it is published: it becomes part of the reading's identity.
So (decision 0018) the clock is believed when one of these holds, and the reason is part of the verdict:

* the kernel says it follows a time source, and it is not before this program was written;
* it was believed for that reason earlier in this boot, and was not set since: a crystal drifts
  seconds in a day, and a village is offline for weeks;
* the machine keeps time without power (a battery-backed clock that set the system's time, or a virtual
  machine's host), it is not behind the latest time a source has vouched for, and not years ahead of it.

The *floor* is that latest time, stored with the outbox. Only a time source raises it, and a time source
may lower it again: a lying server must not lock the gateway out of the present for good.

While the clock is not believed, readings are stored with the boot and the second of it in which they
were measured, and the uplink does not see them. When the clock is believed in the same boot, their time
is ``now - (boottime_now - boottime_then)``, exact to the drift. If the power fails before, it can never be
known: they go out as ``suspect``, with the best lower bound there is: the floor, and what has passed since
it was the time. That bound is the next boot's floor, so that two dark boots do not tell the same times.

`judge` and the functions on times are pure; the last two functions ask the machine.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

# No clock that is right shows a time before this program was written.
WRITTEN: Final = datetime(2026, 6, 1, tzinfo=UTC)
# Between two looks wall clock and boot time may part by the slewing of a time daemon (500 ppm, some
# tenths of a second in a poll cycle); more is a step.
JUMP_TOLERANCE_S: Final = 5.0
# A gateway lies in a store room for a year or two, a failed battery-backed clock says 2099.
AHEAD_OF_FLOOR_MAX: Final = timedelta(days=5 * 365)
# A floor a few minutes old serves as well as a fresh one, and it rides in a commit that happens anyway.
FLOOR_STORED_EVERY: Final = timedelta(minutes=10)


class ClockSource(StrEnum):
    """What the operator says of the machine's clock; the gateway's setting ``clock``."""

    AUTO = "auto"
    """Find out: see `machine_keeps_time`."""
    NETWORK = "network"
    """Right only once the kernel follows a time source."""
    RTC = "rtc"
    """Right after a power cut too: a battery-backed clock, or a host that keeps the time."""


class Reason(StrEnum):
    """Why the clock is believed, or why not."""

    SYNCHRONISED = "synchronised"
    CARRIED = "carried"
    """It was synchronised earlier in this boot and has not been set since."""
    MACHINE = "machine"
    """The machine keeps time without power, and the time is plausible."""
    NOT_SYNCHRONISED = "not_synchronised"
    BEHIND = "behind"
    """Behind what was already known: the clock has been reset."""
    AHEAD = "ahead"
    """Years ahead of what was already known, and nobody vouches for it."""


_BELIEVED: Final = frozenset({Reason.SYNCHRONISED, Reason.CARRIED, Reason.MACHINE})


@dataclass(frozen=True, slots=True)
class Facts:
    """One look at the machine's clocks."""

    wall: datetime
    boottime_s: float
    synchronised: bool

    @property
    def boot_moment(self) -> datetime:
        """When the machine booted, if the wall clock is right."""
        return self.wall - timedelta(seconds=self.boottime_s)


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What is known of the time before the next look."""

    floor: datetime = WRITTEN
    floor_at_s: float = 0.0
    """The second of this boot at which the floor was the time; 0 for a floor that was known before it."""
    last: Facts | None = None
    """The last look of this boot."""
    followed: bool = False
    """Whether the clock can be traced to a time source in this boot, without a step."""
    stepped_at_s: float = float("-inf")
    """Second of this boot at which the wall clock was last seen to have been set."""

    def lower_bound(self, boottime_s: float) -> datetime:
        """Return the best that can be said of a second of this boot, whatever the wall clock says: not before."""
        return self.floor + timedelta(seconds=round(max(0.0, boottime_s - self.floor_at_s), 3))


@dataclass(frozen=True, slots=True)
class Floor:
    """A floor as it is stored: ``moment`` was the time at that second of that boot.

    Without a boot, it was known before the present one began.
    """

    moment: datetime = WRITTEN
    boot_id: str = ""
    at_s: float = 0.0

    def known_in(self, boot_id: str) -> Knowledge:
        """Return what a program knows that starts in a boot, be it at its beginning or in the middle of it."""
        at_s = self.at_s if self.boot_id == boot_id else 0.0
        return Knowledge(max(WRITTEN, self.moment), at_s)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the wall clock is believed, and why."""

    reason: Reason

    @property
    def trusted(self) -> bool:
        return self.reason in _BELIEVED


def judge(facts: Facts, known: Knowledge, *, keeps_time: bool) -> tuple[Verdict, Knowledge]:
    """Return the verdict on a look at the clocks, and what is known after it."""
    stepped = known.last is not None and has_stepped(known.last, facts)
    followed = facts.synchronised or (known.followed and not stepped)
    reason = _reason(facts, known, followed=followed, keeps_time=keeps_time)
    floor, floor_at_s = known.floor, known.floor_at_s
    if reason is Reason.SYNCHRONISED or (reason is Reason.CARRIED and facts.wall > floor):
        floor, floor_at_s = facts.wall, facts.boottime_s
    stepped_at_s = facts.boottime_s if stepped else known.stepped_at_s
    return Verdict(reason), Knowledge(floor, floor_at_s, facts, followed, stepped_at_s)


def has_stepped(before: Facts, after: Facts) -> bool:
    """Return whether the wall clock was set between two looks: the boot seems to have moved."""
    step = after.boot_moment - before.boot_moment
    return abs(step) > timedelta(seconds=JUMP_TOLERANCE_S)


def _reason(facts: Facts, known: Knowledge, *, followed: bool, keeps_time: bool) -> Reason:
    if facts.wall < WRITTEN:
        return Reason.BEHIND
    if facts.synchronised:
        return Reason.SYNCHRONISED
    if facts.wall < known.floor - timedelta(seconds=JUMP_TOLERANCE_S):
        return Reason.BEHIND
    if followed:
        return Reason.CARRIED
    if not keeps_time:
        return Reason.NOT_SYNCHRONISED
    if facts.wall > known.floor + AHEAD_OF_FLOOR_MAX:
        return Reason.AHEAD
    return Reason.MACHINE


def corrected(boottime_s: float, facts: Facts) -> datetime:
    """Return the time at a second of this boot, by a wall clock that is believed."""
    return facts.boot_moment + timedelta(seconds=round(boottime_s, 3))


def dated(ts: datetime, boottime_s: float, facts: Facts) -> datetime:
    """Return the time of a reading that was dated before a believed clock was set.

    What the step has not touched keeps its own time: it may have been published already.
    """
    moment = corrected(boottime_s, facts)
    return moment if abs(ts - moment) > timedelta(seconds=JUMP_TOLERANCE_S) else ts


def read_boot_id() -> str:
    """Return the kernel's name for this boot; another after every start of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def machine_keeps_time() -> bool:
    """Return whether the system's time after a start comes from something that ran on without power.

    The kernel says so of a battery-backed clock (``hctosys``); a virtual machine takes its host's time.
    """
    for clock in Path("/sys/class/rtc").glob("rtc*/hctosys"):
        if clock.read_text("ascii").strip() == "1":
            return True
    cpu = Path("/proc/cpuinfo")
    return cpu.exists() and " hypervisor" in cpu.read_text("utf-8", "replace")
