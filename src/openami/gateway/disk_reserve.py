"""A piece of the disk set aside, so that a disk that others have filled can still be thinned.

Deleting from a database needs room: the change is written to the log before the old pages become free,
and the log is copied into a file that may have to grow first. On a disk filled to the last byte nothing
could be deleted and nothing stored, until a person comes. So a few megabytes lie beside the database in a
file of nothing; given back to the disk, they are the room in which to make room.
"""

import os
from pathlib import Path
from typing import Final

# The write-ahead log (4 MiB, database.WAL_PAGES) once for itself and once for the file it is copied to.
RESERVE_BYTES: Final = 8 * 1024 * 1024


class DiskReserve:
    """The file of nothing beside the database. Losing it is not an error; it comes back by itself."""

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(database.name + "-reserve")

    @property
    def held(self) -> bool:
        """Whether it lies there whole."""
        try:
            return self.path.stat().st_size >= RESERVE_BYTES
        except OSError:
            return False

    def take(self) -> None:
        """Set the bytes aside if the disk has twice as many; otherwise leave it for another time."""
        if self.held or self._disk_free() < 2 * RESERVE_BYTES:
            return
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            finally:
                os.close(descriptor)
        except OSError:  # somebody was faster
            self.release()

    def release(self) -> None:
        """Give the bytes back to the disk."""
        self.path.unlink(missing_ok=True)

    def free_bytes(self) -> int:
        """Return what the outbox may take of the disk: what is free, less the reserve if it is not held."""
        return max(0, self._disk_free() - (0 if self.held else RESERVE_BYTES))

    def _disk_free(self) -> int:
        disk = os.statvfs(self.path.parent)
        return disk.f_bavail * disk.f_frsize
