"""The circuit breaker of a unit: what a meter that does not answer may cost the others. Pure.

Waiting for a silent meter is time taken from its neighbours. Each unit has an allowance for it, a twentieth
of all time, saved up for at most one cycle (decision 0019). A failed question is paid from it at what it
cost: timeout and drain. Who cannot pay is not asked. After two failures in a row the waits double as well,
so that a meter that is gone for weeks is asked seldom, and one that is back is heard soon.

Seen as states: *closed* (asked when wanted), *open* (not asked before ``probe_at``), and half-open, which
is the first question after that moment.
"""

from dataclasses import dataclass, replace
from typing import Final

COST_SHARE: Final = 0.05
"""The part of a cycle a dead meter may cost."""
FAILURES_TO_OPEN: Final = 2  # one may be a collision; with the retry, two are a silent meter
PROBE_WAIT_S_MIN: Final = 15.0
PROBE_WAIT_S_MAX: Final = 300.0  # a meter that is back is read again within five minutes


@dataclass(frozen=True, slots=True)
class Breaker:
    """One unit's account. Times are monotonic seconds; every change returns a new one."""

    cycle_s: float
    question_s: float
    """What one unanswered question costs: timeout, time on the line, drain."""
    saved_s: float
    saved_at: float
    failures: int = 0
    probe_at: float = 0.0

    @classmethod
    def closed(cls, *, cycle_s: float, question_s: float, now: float) -> "Breaker":
        """Return a breaker that trusts the unit, with a full allowance."""
        return cls(cycle_s, question_s, COST_SHARE * cycle_s, now)

    @property
    def _most_s(self) -> float:
        return COST_SHARE * self.cycle_s

    @property
    def _price_s(self) -> float:
        # In a short cycle one question costs more than may be saved: ask when all is saved, owe the rest.
        return min(self.question_s, self._most_s)

    def _has_s(self, now: float) -> float:
        return min(self._most_s, self.saved_s + COST_SHARE * (now - self.saved_at))

    def can_pay(self, now: float) -> bool:
        """Return whether the unit may be asked (again) now."""
        return now >= self.asks_at(now)

    def asks_at(self, now: float) -> float:
        """Return when the unit may be asked."""
        lacks_s = self._price_s - self._has_s(now)
        return max(self.probe_at, now + lacks_s / COST_SHARE if lacks_s > 0 else now)

    def failed(self, cost_s: float, now: float) -> "Breaker":
        """Return the breaker after a question that cost this and got no answer."""
        failures = self.failures + 1
        rounds = failures - FAILURES_TO_OPEN
        wait_s = 0.0
        if rounds >= 0:
            wait_s = min(PROBE_WAIT_S_MIN * 2.0 ** min(rounds, 16), PROBE_WAIT_S_MAX)
            wait_s *= min(1.0, self.cycle_s / 60.0)  # scaled with the cycle it was chosen for
        return replace(
            self,
            saved_s=self._has_s(now) - cost_s,
            saved_at=now,
            failures=failures,
            probe_at=now + wait_s if rounds >= 0 else self.probe_at,
        )

    def answered(self) -> "Breaker":
        """Return the breaker after an answer: closed. What was spent stays spent."""
        return self if not self.failures else replace(self, failures=0, probe_at=0.0)
