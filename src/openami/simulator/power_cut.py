"""What a power cut leaves of a file: of all that was written since its last sync, any part.

Every unsynced write is kept, lost, or torn between two sectors, each by itself. No order is drawn: whatever the
order in which a disk writes, cut short it comes to which of the writes are there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

# What a disk writes whole or not at all; of the disks in use the smallest.
SECTOR_BYTES: Final = 512
# Of the writes that are not kept; the others are lost whole.
_TORN_SHARE: Final = 0.5


@dataclass(slots=True)
class CutReport:
    """What a power cut did to what was unsynced."""

    kept: int = 0
    lost: int = 0
    torn: int = 0
    names_lost: int = 0
    """Files created, deleted or replaced, of which nothing is to be seen."""


class Content:
    """One file's content: what is durable, and what has been written since."""

    __slots__ = ("durable", "inode", "unsynced")

    def __init__(self, durable: bytearray, inode: int | None = None) -> None:
        self.durable = durable
        self.inode = inode
        """Which file of the real file system it is; None: not opened twice yet."""
        self.unsynced: list[Change] = []

    def sync(self) -> None:
        for offset, data in self.unsynced:
            _apply(self.durable, offset, data)
        self.unsynced.clear()

    def after_cut(self, random: Random, kept_share: float, report: CutReport) -> bytearray:
        """Return what may be found after a power cut."""
        found = bytearray(self.durable)
        for offset, data in self.unsynced:
            sectors = [] if data is None else list(_sectors(offset, data))
            if random.random() < kept_share:
                report.kept += 1
                _apply(found, offset, data)
            elif len(sectors) > 1 and random.random() < _TORN_SHARE:
                report.torn += 1
                for sector in random.sample(sectors, random.randrange(1, len(sectors))):
                    _apply(found, *sector)
            else:
                report.lost += 1
        return found


# Data at an offset; or, without data, the size a file is cut to.
Change = tuple[int, bytes | None]


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
    missing = offset - len(content)
    if missing > 0:
        content.extend(bytes(missing))
    if data is not None:
        content[offset : offset + len(data)] = data


def _sectors(offset: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Cut a write where the disk's sectors end."""
    at = 0
    while at < len(data):
        end = min(len(data), at + SECTOR_BYTES - (offset + at) % SECTOR_BYTES)
        yield offset + at, data[at:end]
        at = end
