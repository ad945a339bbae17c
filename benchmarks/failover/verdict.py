"""What a run comes to (pure): what is missing of what was acknowledged, and how long nothing was."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from benchmarks.failover.load import REGISTERS, readings_of, seq_of

Row = tuple[str, datetime, int, int, float | None]
"""Of one meter and measured time: how many readings, how many registers, the value of the counter."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a primary holds, by the envelope it came with."""

    whole: Collection[int]
    doubled: int
    changed: int


def stored(rows: Iterable[Row]) -> Stored:
    """Sort what was found: an envelope is whole with each of its registers."""
    whole: set[int] = set()
    doubled = changed = 0
    for meter, ts, readings, registers, counter in rows:
        seq = seq_of(meter, ts)
        if registers == REGISTERS:
            whole.add(seq)
        doubled += readings - registers
        changed += counter is not None and abs(counter - readings_of(seq)[2]) > 1e-9
    return Stored(whole, doubled, changed)


def lost(acknowledged: Collection[int], found: Stored) -> int:
    """Count what the broker was told to forget and the store does not hold."""
    return len(set(acknowledged) - set(found.whole))


def longest_silence_s(acknowledged: Mapping[int, float], since: float, until: float) -> float:
    """Return the longest time without an acknowledgement between two moments."""
    moments = sorted(at for at in acknowledged.values() if since <= at <= until)
    return max((b - a for a, b in pairwise([since, *moments, until])), default=0.0)
