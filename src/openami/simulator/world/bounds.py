"""Promise 6, watched from outside: files on disk, attempts to connect, messages beside the outbox.

What grows without bound is seen where it has to go in the end: into a file, or onto the air. What the programs say
of themselves is not asked.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from openami.gateway.database import WAL_PAGES
from openami.simulator.world.witness import PromiseBroken

_PAGE_BYTES: Final = 4096  # SQLite's, of every database made by its default
_MIB: Final = 1024 * 1024
# The log is copied into the file at WAL_PAGES; a transaction that is longer than what is left goes beyond.
LOG_BYTES_MAX: Final = 2 * WAL_PAGES * _PAGE_BYTES
# Beside the outbox: the journal of 8,000 commands, some hundred meters' memory, free pages of a thinning.
FILE_BEYOND_OUTBOX_BYTES_MAX: Final = 16 * _MIB
# A broker that is away is asked about once a minute; a bad link begins anew with each break.
ATTEMPTS_PER_HOUR_MAX: Final = 600
# Eight sessions renewed every half minute, at the most; and all of them at each connection.
ACTS_PER_HOUR_MAX: Final = 2_000


@dataclass(slots=True)
class GatewayBounds:
    """What one gateway has done in the hour that runs."""

    name: str
    worst: Counter[str] = field(default_factory=Counter)
    """The most there ever was of each, for whoever sets the bounds."""
    _hour: int = -1
    _counts: Counter[str] = field(default_factory=Counter)

    def attempted(self, now_s: float) -> None:
        """It has tried to connect. Raises PromiseBroken."""
        self._count("attempts to connect", ATTEMPTS_PER_HOUR_MAX, now_s)

    def acted(self, now_s: float) -> None:
        """It has published on a session's topic. Raises PromiseBroken."""
        self._count("session documents", ACTS_PER_HOUR_MAX, now_s)

    def check_files(self, database: Path, *, outbox_bytes_max: int) -> None:
        """Hold its file and the log beside it against their bounds. Raises PromiseBroken."""
        log = database.with_name(f"{database.name}-wal")
        self._measure("bytes of log", log, LOG_BYTES_MAX)
        self._measure("bytes of file", database, outbox_bytes_max + FILE_BEYOND_OUTBOX_BYTES_MAX)

    def _count(self, what: str, most: int, now_s: float) -> None:
        hour = int(now_s // 3600)
        if hour != self._hour:
            self._hour = hour
            self._counts.clear()
        self._counts[what] += 1
        self._hold(f"{what} in an hour", self._counts[what], most)

    def _measure(self, what: str, file: Path, most: int) -> None:
        if file.exists():
            self._hold(what, file.stat().st_size, most)

    def _hold(self, what: str, value: int, most: int) -> None:
        self.worst[what] = max(self.worst[what], value)
        if value > most:
            raise PromiseBroken(6, f"{self.name}: {value} {what} where {most} is the most")
