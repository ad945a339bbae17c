"""What the stream has done since the head-end started, in numbers."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from openami.headend.closing import ClosingSeen
from openami.headend.ingest import Accepted, Decision
from openami.headend.store import Tally

# From a reading that came at once, past the two intervals after which it counts as late, to a backlog of a week.
LAG_CLASSES_S: Final = (1, 5, 15, 60, 300, 900, 2_100, 3_600, 21_600, 86_400, 604_800)


@dataclass(slots=True)
class Lags:
    """How long after it was measured a message was received, counted in classes."""

    by_class: list[int] = field(default_factory=lambda: [0] * (len(LAG_CLASSES_S) + 1))
    """How many had at most a class's seconds and more than the class before; the last had more than all."""
    total_s: float = 0.0

    def add(self, lag_s: float) -> None:
        """Count one message; a clock that is ahead has no lag."""
        lag_s = max(0.0, lag_s)
        self.by_class[bisect_left(LAG_CLASSES_S, lag_s)] += 1
        self.total_s += lag_s


@dataclass(slots=True)
class Statistics:
    """Counters of one run; they only grow. The keys of the tables are codes, so all are bounded."""

    batches: int = 0
    largest_batch: int = 0
    broker_connects: int = 0
    broker_losses: int = 0
    sessions_lost: int = 0
    """How often the broker had forgotten us, and what waited for us with it."""
    store_losses: int = 0
    pruned: int = 0
    closing: Callable[[], ClosingSeen] = ClosingSeen
    """What closing months has found (decision 0075)."""
    readings_removed: int = 0
    """Because of their age (decision 0074)."""
    left_to_slices: int = 0
    """Messages of feeders that another slice stores (decision 0073)."""
    slices_claimed: int = 0
    slices_lost: int = 0
    """Slices that another worker had taken, or that could not be served."""
    tally: Tally = field(default_factory=Tally)
    faults: Counter[str] = field(default_factory=Counter)
    """Rejected messages, by their first fault."""
    register_faults: Counter[str] = field(default_factory=Counter)
    """Registers left out of accepted messages, by their fault."""
    findings: Counter[str] = field(default_factory=Counter)
    lags: Lags = field(default_factory=Lags)

    def committed(self, batch: Sequence[Decision], tally: Tally) -> None:
        """Count a batch that the store has, and what the store says became of it."""
        self.batches += 1
        self.largest_batch = max(self.largest_batch, len(batch))
        self.tally += tally
        for decision in batch:
            if not isinstance(decision, Accepted):
                self.faults[decision.errors[0].code] += 1
                continue
            lag = decision.message.received_at - decision.envelope.ts
            self.lags.add(lag.total_seconds())
            if decision.rejected_items or decision.findings:
                self.register_faults.update(str(fault.code) for fault in decision.rejected_items)
                self.findings.update(str(finding.code) for finding in decision.findings)

    def line(self) -> dict[str, int]:
        """Return what an operator reads once a minute; what did not happen is left out."""
        everything = {
            "messages": self.tally.messages,
            "stored": self.tally.stored,
            "duplicates": self.tally.duplicates,
            "conflicts": self.tally.conflicts,
            "events": self.tally.events,
            "rejected_messages": self.tally.rejected_messages,
            "rejected_registers": self.tally.rejected_items,
            "findings": self.findings.total(),
            "batches": self.batches,
            "broker_connects": self.broker_connects,
            "broker_losses": self.broker_losses,
            "sessions_lost": self.sessions_lost,
            "store_losses": self.store_losses,
            "rejects_pruned": self.pruned,
            "left_to_slices": self.left_to_slices,
        }
        return {name: count for name, count in everything.items() if count}
