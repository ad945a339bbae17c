"""Backoff: how long to wait before the next attempt."""

from collections.abc import Callable
from dataclasses import dataclass, field

# After a village's power cut every gateway is back at the same second; the broker must not meet them
# all at the same second too, again and again.
FIRST_S = 1.0
# A link that is back is used within a minute; a broker that is away costs a gateway 30 attempts an
# hour at most on average, about 10 kB of TLS handshakes each.
CEILING_S = 120.0
# A connection that held so long has proved itself, whatever it was used for: a broker that throws its clients
# out does it in seconds, and so do two clients of one name.
PROVEN_AFTER_S = 60.0
# Losses in a row that begin anew though the connection had not held so long, because a message was acknowledged
# on it: the nodes of a small cluster that go down one after the other. A broker that acknowledges and throws
# out at once is back at the ceiling after as many.
QUICK_RETURNS_MAX = 3
# 2 ** 32 would already be centuries; the bound keeps the power a small number for ever.
_DOUBLINGS_MAX = 32


@dataclass(slots=True)
class Backoff:
    """Exponential back-off with full jitter and a ceiling.

    Each delay is drawn evenly between zero and a bound that doubles from ``first_s`` to ``ceiling_s``;
    of the usual jitters it spreads a crowd best for the same number of attempts (M. Brooker, AWS
    Architecture Blog, 2015). ``random`` returns numbers in [0, 1): ``random.Random(seed).random``.
    """

    random: Callable[[], float]
    first_s: float = FIRST_S
    ceiling_s: float = CEILING_S
    _attempts: int = field(default=0, init=False)
    _quick_returns: int = field(default=QUICK_RETURNS_MAX, init=False)

    def __post_init__(self) -> None:
        if not 0 < self.first_s <= self.ceiling_s:
            raise ValueError(
                f"first_s {self.first_s} must be above 0 and not above ceiling_s {self.ceiling_s}"
            )

    def next_s(self) -> float:
        """Return how many seconds to wait now; the bound of the next wait is twice as long."""
        bound_s = min(self.ceiling_s, self.first_s * 2.0**self._attempts)
        self._attempts = min(self._attempts + 1, _DOUBLINGS_MAX)
        return self.random() * bound_s

    def connection_lost(self, *, held_s: float, acknowledged: bool) -> None:
        """Take into account how a connection went that was open and has ended: the next failure may be a new one.

        ``held_s`` is how long it held, ``acknowledged`` whether a message was on it, by whichever side. Opening
        alone proves nothing: a broker that accepts and throws out at once would be asked every second.
        """
        if held_s >= PROVEN_AFTER_S:
            self.reset()
        elif acknowledged and self._quick_returns:
            self._quick_returns -= 1
            self._attempts = 0

    def reset(self) -> None:
        """Begin again at ``first_s``: what was waited for is there, and has proved itself."""
        self._attempts, self._quick_returns = 0, QUICK_RETURNS_MAX
