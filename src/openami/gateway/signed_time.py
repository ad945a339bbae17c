"""What the gateway knows of time from signed statements alone, and how long it has been powered (pure).

``lo`` is the latest moment known to have passed, ``hi`` an upper bound that lasts for this boot; both go on with
the machine's own count of seconds, never with the wall clock (see `openami.sip.freshness`). Powered seconds refill
budgets and measure dwell: after a restart they go on from where they were last stored, so what a power cut takes
of them makes the interlocks stricter.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from openami.gateway.timekeeping import WRITTEN, Facts
from openami.sip.freshness import TimeFacts, raised_floor
from openami.sip.keyring import Keyring


@dataclass(frozen=True, slots=True)
class SignedTime:
    """``lo`` at second ``at_s`` of this boot; ``hi_at_boot``: the latest this boot can have begun."""

    lo: datetime
    at_s: float
    powered_s: float
    hi_at_boot: datetime | None = None

    @classmethod
    def recalled(cls, lo: datetime, powered_s: float, *, boottime_s: float) -> "SignedTime":
        """Return what is known at the start of the program."""
        return cls(max(lo, WRITTEN), boottime_s, powered_s)

    def at(self, boottime_s: float) -> "SignedTime":
        """Return the same, at a later second of this boot."""
        passed_s = max(0.0, boottime_s - self.at_s)
        return replace(
            self,
            lo=self.lo + timedelta(seconds=passed_s),
            at_s=max(self.at_s, boottime_s),
            powered_s=self.powered_s + passed_s,
        )

    def facts(self, now: Facts) -> TimeFacts:
        """Return what a decision looks at."""
        known = self.at(now.boottime_s)
        hi = self.hi_at_boot
        return TimeFacts(
            boottime_s=now.boottime_s,
            wall=now.wall,
            synchronised=now.synchronised,
            lo=known.lo,
            hi=None if hi is None else hi + timedelta(seconds=now.boottime_s),
        )

    def after_keyring(self, keyring: Keyring) -> "SignedTime":
        """Return what is known once a keyring was admitted: its signing has passed."""
        signed_at = datetime.fromtimestamp(keyring.signed_at, UTC)
        return replace(self, lo=raised_floor(self.lo, signed_at, keyring_valid_to=keyring.valid_to))

    def after_command(
        self, signed_at: datetime, *, nonce_made_at_s: float, keyring: Keyring
    ) -> "SignedTime":
        """Return what is known once a command that echoed a nonce was permitted.

        It was signed after the nonce was made, so by its signer's clock it is now at most the signing plus
        the nonce's age.
        """
        return replace(
            self,
            lo=raised_floor(self.lo, signed_at, keyring_valid_to=keyring.valid_to),
            hi_at_boot=signed_at - timedelta(seconds=nonce_made_at_s),
        )
