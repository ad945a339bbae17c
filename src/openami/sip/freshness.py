"""Freshness without a clock: how old a command can be, whatever any clock says.

A gateway on a pole may wake in 1970 or in the hour of its last shutdown. So a command's age is bounded by two
things a wall clock has no part in: it echoes a nonce that lives only in the gateway's memory, and the time since
that nonce was made is counted by the machine since boot. Signed before the nonce was made it cannot be; so it is
younger than the nonce. The wall clock may only make things stricter, and only when two witnesses agree on it.

``lo`` is the latest moment known to have passed: build time, the signing of the keyring, of commands that echoed a
nonce (capped at the keyring's end, so that a head-end with a wrong clock cannot carry it into the future), plus
the time since. It is never taken from NTP. ``hi`` bounds from above, from this boot's commands alone.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

CLOCK_SLACK: Final = timedelta(seconds=60)  # a head-end may be a minute off, either way
NONCE_GRACE_S: Final = 60  # commands in flight when a nonce is renewed; the same boot only


@dataclass(frozen=True, slots=True)
class TimeFacts:
    """What the gateway knows of time at one moment."""

    boottime_s: float
    wall: datetime
    synchronised: bool
    lo: datetime
    hi: datetime | None = None

    @property
    def trusted_now(self) -> datetime | None:
        """The wall clock's time if the kernel and the signed bounds both vouch for it, else None."""
        if not self.synchronised or self.wall < self.lo - CLOCK_SLACK:
            return None
        if self.hi is not None and self.wall > self.hi + CLOCK_SLACK:
            return None
        return self.wall


@dataclass(frozen=True, slots=True)
class Nonce:
    """A session's challenge: made in this boot, kept in memory only."""

    text: str
    made_at_boottime_s: float

    def age_s(self, boottime_s: float) -> float:
        """Return how long ago it was made."""
        return boottime_s - self.made_at_boottime_s


@dataclass(frozen=True, slots=True)
class Nonces:
    """The nonce in force, and the one before it for its grace."""

    current: Nonce
    previous: Nonce | None = None

    def renewed(self, nonce: Nonce) -> "Nonces":
        """Return the nonces after a renewal."""
        return Nonces(current=nonce, previous=self.current)

    def matching(self, text: str, *, boottime_s: float, life_s: int) -> Nonce | None:
        """Return the nonce a command echoes, if it may still: None means a stale one."""
        if text == self.current.text:
            return self.current if self.current.age_s(boottime_s) <= life_s else None
        previous = self.previous
        if (
            previous is not None
            and text == previous.text
            and self.current.age_s(boottime_s) <= NONCE_GRACE_S
            and previous.age_s(boottime_s) <= life_s
        ):
            return previous
        return None


def raised_floor(lo: datetime, signed_at: datetime, *, keyring_valid_to: datetime) -> datetime:
    """Return ``lo`` after a signed statement that echoed a nonce: never beyond the keyring's end."""
    return max(lo, min(signed_at, keyring_valid_to))
