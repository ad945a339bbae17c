"""How fast the uplink may go, and how long it leaves alone what was refused (pure; times are seconds)."""

from typing import Final

# The backlog may catch up so much of its pace after the window was full or the machine was busy.
BACKFILL_BURST_S: Final = 0.2
# A topic whose message was refused rests so long, twice as long each time, up to an hour.
REST_S_MIN: Final = 60.0
REST_S_MAX: Final = 3600.0


class Pace:
    """How fast the backlog may go: one each 1/rate seconds, a little lateness made good."""

    def __init__(self, per_s: float) -> None:
        self._interval_s = 1 / per_s if per_s else 0.0
        self._next_s = 0.0

    def wait_s(self, now_s: float) -> float:
        """Return how long the next must wait; 0 or less: it may go."""
        return self._next_s - now_s if self._interval_s else 0.0

    def took_one(self, now_s: float) -> None:
        """Note that one has gone."""
        self._next_s = max(self._next_s, now_s - BACKFILL_BURST_S) + self._interval_s


class Rest:
    """A topic's rest after a refusal: longer each time it is refused again after one."""

    def __init__(self) -> None:
        self.until_s = 0.0
        self._length_s = REST_S_MIN / 2

    def begin(self, now_s: float) -> None:
        """Begin a rest. What was under way beside the refused one, and is refused too, changes nothing."""
        if now_s < self.until_s:
            return
        self._length_s = min(2 * self._length_s, REST_S_MAX)
        self.until_s = now_s + self._length_s
