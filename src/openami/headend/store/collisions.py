"""Two deliveries under one identity: duplicate, conflict or another quality. Pure.

Asked only about rows that differ from what is stored; equal ones are duplicates without a question.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from openami.headend.store import CONFLICTS_KEPT_PER_READING_MAX
from openami.headend.store.identity import Stored, same_value, settled
from openami.headend.store.plan import Key, conflict_digest


@dataclass(frozen=True, slots=True)
class Told:
    """A row of the batch, and the stored row under its identity, which differs from it."""

    key: Key
    value: Stored
    flags: int
    lag_ms: int
    kept_value: Stored
    kept_flags: int


@dataclass(frozen=True, slots=True)
class NewConflict:
    """A second value to keep beside the first."""

    told: Told
    digest: bytes


@dataclass(slots=True)
class Verdict:
    """What follows from the differing rows of a batch."""

    conflicts: list[NewConflict] = field(default_factory=list)
    qualities: dict[Key, int] = field(default_factory=dict)
    """New flags of stored readings."""
    conflicting: int = 0
    """Conflicts to count: those to keep, and those beyond the number kept."""


def differing_values(told: Sequence[Told]) -> list[Told]:
    """Return the rows that tell another value, not just another quality."""
    return [t for t in told if not same_value(t.value, t.flags, t.kept_value, t.kept_flags)]


def judge(told: Iterable[Told], known: Mapping[Key, set[bytes]]) -> Verdict:
    """Judge differing rows in the order they came; ``known`` are the conflicts already kept."""
    verdict = Verdict()
    kept = {key: set(digests) for key, digests in known.items()}
    for row in told:
        if same_value(row.value, row.flags, row.kept_value, row.kept_flags):
            flags = verdict.qualities.get(row.key, row.kept_flags)
            if settled(flags, row.flags) != flags:
                verdict.qualities[row.key] = settled(flags, row.flags)
            continue
        digests = kept.setdefault(row.key, set())
        digest = conflict_digest(row.value, row.flags)
        if digest in digests:
            continue
        verdict.conflicting += 1
        if len(digests) < CONFLICTS_KEPT_PER_READING_MAX:
            digests.add(digest)
            verdict.conflicts.append(NewConflict(row, digest))
    return verdict
