"""A clock that obeys the test: it advances, steps, loses its time source, and reboots."""

from datetime import UTC, datetime, timedelta

from openami.clock import Clock

START = datetime(2026, 7, 1, 12, tzinfo=UTC)


class ClockDouble:
    """Wall time and boot time run together unless the test steps the one or restarts the other."""

    def __init__(
        self, wall: datetime = START, *, boottime_s: float = 1_000.0, synchronised: bool = True
    ) -> None:
        self.wall = wall
        self.boottime_s = boottime_s
        self.is_synchronised = synchronised

    def now(self) -> datetime:
        return self.wall

    def boottime(self) -> float:
        return self.boottime_s

    def synchronised(self) -> bool:
        return self.is_synchronised

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        assert seconds >= 0
        self.wall += timedelta(seconds=seconds)
        self.boottime_s += seconds

    def set(self, wall: datetime, *, synchronised: bool) -> None:
        """Step the wall clock, as a time daemon or a person does."""
        self.wall = wall
        self.is_synchronised = synchronised

    def reboot(self, wall: datetime) -> None:
        """Come up after a power cut with whatever the wall clock then says."""
        self.wall = wall
        self.boottime_s = 20.0
        self.is_synchronised = False


def _obeys_the_port(clock: ClockDouble) -> Clock:
    return clock
