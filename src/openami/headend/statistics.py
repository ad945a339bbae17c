"""What the stream has done since the head-end started, in numbers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from openami.headend.ingest import Accepted, Decision
from openami.headend.store import Tally


@dataclass(slots=True)
class Statistics:
    """Counters of one run; they only grow. The keys of the two tables are codes, so both are bounded."""

    batches: int = 0
    largest_batch: int = 0
    broker_connects: int = 0
    broker_losses: int = 0
    sessions_lost: int = 0
    """How often the broker had forgotten us, and what waited for us with it."""
    store_losses: int = 0
    pruned: int = 0
    tally: Tally = field(default_factory=Tally)
    faults: Counter[str] = field(default_factory=Counter)
    """Rejected messages by their first fault, and rejected registers by theirs."""
    findings: Counter[str] = field(default_factory=Counter)

    def committed(self, batch: Sequence[Decision], tally: Tally) -> None:
        """Count a batch that the store has, and what the store says became of it."""
        self.batches += 1
        self.largest_batch = max(self.largest_batch, len(batch))
        self.tally += tally
        for decision in batch:
            if not isinstance(decision, Accepted):
                self.faults[decision.errors[0].code] += 1
            elif decision.rejected_items or decision.findings:
                self.faults.update(str(fault.code) for fault in decision.rejected_items)
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
        }
        return {name: count for name, count in everything.items() if count}
