"""Directories in memory, for tests of which nothing depends on a disk: else its syncs would rule them."""

import tempfile
from pathlib import Path

_MEMORY = Path("/dev/shm")


def directory_in_memory(name: str) -> Path:
    """Make a directory, in memory where there is such a place; the caller takes it away."""
    within = _MEMORY if _MEMORY.is_dir() else None
    return Path(tempfile.mkdtemp(prefix=f"openami-{name}-", dir=within))
