"""Interlocks: the gateway's own last word, whoever signed.

Reconnecting is always easier than disconnecting. Budgets refill by powered time alone, so neither a clock nor a
reboot refills them. The lock-out beats everything: somebody works on the line.
"""

from dataclasses import dataclass
from typing import Final

from openami.sip.actions import ACTIONS, Action, Direction
from openami.sip.errors import SipCode, SipError
from openami.sip.freshness import TimeFacts
from openami.sip.keyring import Keyring, Limits

DISCONNECT_DWELL_S: Final = 300  # since the last movement, before somebody is cut off (again)
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Budget:
    """A token bucket of disconnects: ``tokens`` at ``powered_s``, seconds this gateway has been powered."""

    tokens: float
    powered_s: float

    def at(self, powered_s: float, *, per_hour: int) -> "Budget":
        """Return the bucket refilled up to a moment; it never holds more than an hour's."""
        refill = max(0.0, powered_s - self.powered_s) * per_hour / _HOUR_S
        return Budget(min(float(per_hour), self.tokens + refill), powered_s)

    def spent(self) -> "Budget":
        """Return the bucket with one disconnect less."""
        return Budget(self.tokens - 1.0, self.powered_s)


@dataclass(frozen=True, slots=True)
class RelayFacts:
    """What the interlocks look at: the meter's last movement, the budget, the lock-out."""

    locked_out: bool
    budget: Budget
    powered_s: float
    last_moved_powered_s: float | None


def check_interlocks(
    action: Action, relay: RelayFacts, *, limits: Limits, keyring: Keyring, time: TimeFacts
) -> None:
    """Check a command that may otherwise run. Raises SipError with the interlock's code."""
    if relay.locked_out:
        raise SipError(SipCode.LOCKOUT, "locked out locally: somebody works on the line")
    rule = ACTIONS[action]
    if not rule.moves_relay:
        return
    since_s = (
        None if relay.last_moved_powered_s is None else relay.powered_s - relay.last_moved_powered_s
    )
    if since_s is not None and since_s < limits.min_dwell_s:
        raise SipError(SipCode.DWELL, f"the relay moved {since_s:.0f} s ago")
    if rule.direction is not Direction.UNSAFE:
        return
    if since_s is not None and since_s < DISCONNECT_DWELL_S:
        raise SipError(SipCode.DWELL, f"the relay moved {since_s:.0f} s ago")
    if keyring.protected_hours:
        now = time.trusted_now
        if now is None or any(span.covers(now) for span in keyring.protected_hours):
            raise SipError(SipCode.PROTECTED_HOURS, "nobody is cut off in these hours")
    budget = relay.budget.at(relay.powered_s, per_hour=limits.disconnects_per_hour)
    if budget.tokens < 1.0:
        raise SipError(SipCode.RATE_LIMIT, "the hour's disconnects are used up")
