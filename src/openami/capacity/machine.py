"""What the kernel tells of the machine: who used it, and which disk a directory is on."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from openami.capacity.doubts import Conditions

_MOUNTS = Path("/proc/self/mountinfo")
_CPU = Path("/proc/stat")


@dataclass(frozen=True, slots=True)
class Usage:
    """The cores' time so far, in seconds; and what this process had of it."""

    total_s: float
    idle_s: float
    steal_s: float
    own_s: float

    @classmethod
    def now(cls) -> Self | None:
        """Return what the kernel has counted, where it counts as Linux does."""
        try:
            fields = [int(field) for field in _CPU.read_text().split("\n", 1)[0].split()[1:9]]
        except (OSError, ValueError):
            return None
        tick_s = 1 / os.sysconf("SC_CLK_TCK")
        _, _, _, idle, waiting, _, _, steal = fields
        return cls(
            sum(fields) * tick_s, (idle + waiting) * tick_s, steal * tick_s, time.process_time()
        )


def conditions(
    directory: Path, before: Usage | None, load_before: float | None, *, alone: bool
) -> Conditions:
    """Return under which conditions a measurement was made that began at ``before`` and ends now.

    ``alone``: whether this process did all of it, so that what else was used is others'.
    """
    others = steal = None
    after = Usage.now()
    if before is not None and after is not None and after.total_s > before.total_s:
        total = after.total_s - before.total_s
        stolen = after.steal_s - before.steal_s
        used = total - (after.idle_s - before.idle_s) - stolen - (after.own_s - before.own_s)
        others = max(0.0, used / total) if alone else None
        steal = stolen / total
    return Conditions(filesystem_of(directory), os.cpu_count() or 1, load_before, others, steal)


def load_average() -> float | None:
    """Return how many threads were runnable over the last minute."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def filesystem_of(directory: Path) -> str | None:
    """Return the kind of file system a directory is on; None where the kernel names it otherwise."""
    device = directory.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = _MOUNTS.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        place, _, kind = line.partition(" - ")
        if place.split()[2] == wanted:
            return kind.split()[0]
    return None
