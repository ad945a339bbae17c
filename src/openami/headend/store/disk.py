"""How much room the disk of a store has, where the store is a file of this machine."""

import os
from pathlib import Path

from openami.headend.store.open import file_of


def free_bytes(url: str) -> int | None:
    """Return what the store's disk has left; None for a database server's. Raises OSError."""
    path = file_of(url)
    if path is None:
        return None
    disk = os.statvfs(Path(path).resolve().parent)
    return disk.f_bavail * disk.f_frsize
