"""What a fuzz target is: a surface, what must hold whatever the bytes, and sound bytes to start from."""

import atexit
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.in_memory import directory_in_memory


@dataclass(frozen=True)
class Target:
    """One surface under fuzz.

    ``run`` takes any bytes, checks its invariant by assertions, and lets no exception out but those: whatever
    else leaves it is a fault. ``examples`` is how many are drawn in `make check`, by what one costs.
    """

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    examples: int


@cache
def directory(name: str) -> Path:
    """Return a private directory of this process, in memory where there is such a place."""
    made = directory_in_memory(f"fuzz-{name}")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made
