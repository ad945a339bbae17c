"""The circuit breaker of a unit: what a meter that does not answer may cost the others. Pure.

Waiting for a silent meter is time taken from its neighbours. Each unit has an allowance for it, a twentieth
of all time, saved up for at most one cycle (decision 0019). A question without an answer is paid from it at
what it cost: timeout and drain. Who cannot pay is not asked. After two failures in a row the waits double as
well, so that a meter that is gone for weeks is asked seldom, and one that is back is heard soon.

Seen as states: *closed* (asked when wanted), *open* (not asked before ``asks_at``), and half-open, which is
the first question after that moment.
"""

from dataclasses import dataclass, replace
from typing import Final

from openami.gateway.driver import MeterRefused, MeterSilent

SILENT_SHARE: Final = 0.05
"""The part of a cycle a dead meter may cost, unless the line's options say otherwise."""
FAILURES_TO_OPEN: Final = 2  # one may be a collision; with the retry, two are a silent meter
PROBE_WAIT_S_MAX: Final = 300.0  # a meter that is back is read again within five minutes
_DOUBLINGS_MAX = 16  # keeps the power small; the wait is bounded long before


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """One unit's account. Times are monotonic seconds; every change returns a new one."""

    share: float
    cycle_s: float
    question_s: float
    """What one unanswered question costs: timeout, time on the line, drain."""
    saved_s: float
    saved_at: float
    failures: int = 0
    probe_at: float = 0.0

    @classmethod
    def closed(
        cls, *, cycle_s: float, question_s: float, now: float, share: float = SILENT_SHARE
    ) -> "Breaker":
        """Return a breaker that trusts the unit, with a full allowance."""
        return cls(
            share=share,
            cycle_s=cycle_s,
            question_s=question_s,
            saved_s=share * cycle_s,
            saved_at=now,
        )

    def asks_at(self, now: float) -> float:
        """Return when the unit may be asked: ``now``, or later."""
        # In a short cycle one question costs more than may be saved: ask when all is saved, owe the rest.
        price_s = min(self.question_s, self._most_s)
        lacks_s = price_s - self._has_s(now)
        return max(now, self.probe_at, now + lacks_s / self.share)

    def failed(self, cost_s: float, now: float) -> "Breaker":
        """Return the breaker after a question that cost this and got no answer."""
        failures = self.failures + 1
        return replace(
            self,
            saved_s=self._has_s(now) - cost_s,
            saved_at=now,
            failures=failures,
            probe_at=now + self._wait_s(failures - FAILURES_TO_OPEN),
        )

    def answered(self) -> "Breaker":
        """Return the breaker after an answer: closed. What was spent stays spent."""
        return replace(self, failures=0, probe_at=0.0) if self.failures else self

    def check(self, unit: object, place: str, now: float, *, refused: str = "") -> None:
        """Raise MeterSilent while the unit may not be asked; MeterRefused, if it had ``refused`` for a reason."""
        wait_s = self.asks_at(now) - now
        if wait_s <= 0:
            return
        if refused:
            raise MeterRefused(f"{refused}; it is asked again in {wait_s:.0f} s")
        raise MeterSilent(
            f"{unit} on {place} has not answered; it is asked again in {wait_s:.0f} s, "
            "so that it does not hold up the others"
        )

    @property
    def _most_s(self) -> float:
        return self.share * self.cycle_s

    def _has_s(self, now: float) -> float:
        return min(self._most_s, self.saved_s + self.share * (now - self.saved_at))

    def _wait_s(self, doublings: int) -> float:
        if doublings < 0:
            return 0.0
        earned_s = self.question_s / self.share  # in which the unit earns its next question
        longest_s = max(earned_s, PROBE_WAIT_S_MAX)
        return min(earned_s * 2.0 ** min(doublings, _DOUBLINGS_MAX), longest_s)
