"""A disk for the simulated village that fails as disks fail: the power goes, it is full, it is slow, it breaks.

The product runs on it unchanged, with real SQLite; only what lies under SQLite is watched (decision 0034):

    with Disk() as disk:
        async with open_outbox(disk.directory / "gateway.db", limits, clock) as outbox:
            ...
            disk.power_cut(random)

What SQLite has written is *unsynced* until it syncs the file, and so is a file's name until its directory is
synced. A power cut takes of both what it likes (`openami.simulator.power_cut`). Not simulated: a disk that
lies about a sync, bits that rot.

Files that are not SQLite's (keys, tickets, the reserve, a lock) are what they are: a power cut takes nothing
from them. They do count against `Disk.bytes_free`.
"""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final, Self

from openami.simulator import sqlite_vfs
from openami.simulator.power_cut import Content, CutReport
from openami.simulator.sqlite_vfs import OK, Opened

# With synchronous=OFF nobody ever syncs a directory; so many files one name may have stood for are enough to
# choose from.
UNSYNCED_NAMES_MAX: Final = 8

_IN_MEMORY: Final = Path("/dev/shm")
_SYNCS_ITS_DIRECTORY: Final = Opened.MAIN_JOURNAL | Opened.SUPER_JOURNAL | Opened.WAL


class Disk:
    """One machine's disk: a directory, of whose SQLite files it is known what would survive.

    With ``record=False`` it is a directory and nothing else: nothing is intercepted, nothing can be asked of it.
    """

    def __init__(self, *, record: bool = True) -> None:
        self.failing = False
        """Every write and sync fails with SQLITE_IOERR; what is there can be read."""
        self.sync_delay_s = 0.0
        """What a sync costs; nobody waits for it, `take_cost_s` tells."""
        self.cut_after_writes: int | None = None
        """The power fails at so many writes from now, counting down; then the disk is `dead`."""
        self.capacity: int | None = None
        """How many bytes its files may have; None: without end. See `bytes_free`."""
        self.dead = False
        """Nothing works, until `power_cut` or `process_killed` says what it was and the machine is back."""
        self.writes = 0
        """Writes so far."""
        self.directory: Path
        """The machine's data directory; it is there while the disk is entered."""
        self._record = record
        self._in_flight: Content | None = None
        self._cost_s = 0.0
        self._names: dict[str, list[Content | None]] = {}

    def __enter__(self) -> Self:
        at = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else None
        self.directory = Path(tempfile.mkdtemp(prefix="openami-disk-", dir=at)).resolve()
        self._prefix = f"{self.directory}/"
        if self._record:
            sqlite_vfs.watch(self)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._record:
                sqlite_vfs.disconnect(self)
                sqlite_vfs.unwatch(self)
        finally:
            shutil.rmtree(self.directory)

    @property
    def unsynced(self) -> int:
        """Writes that a power cut now could take; none: all that was acknowledged is durable."""
        assert self._record
        return sum(len(content.unsynced) for content in self._contents())

    @property
    def bytes_free(self) -> int | None:
        """By how much its files may grow before SQLITE_FULL; None: without end. All files there count."""
        return None if self.capacity is None else self.capacity - self._used()

    @bytes_free.setter
    def bytes_free(self, free: int | None) -> None:
        assert self._record
        self.capacity = None if free is None else self._used() + free

    def take_cost_s(self) -> float:
        """Return what the syncs since the last call cost, in seconds."""
        cost, self._cost_s = self._cost_s, 0.0
        return cost

    def power_cut(self, random: Random) -> CutReport:
        """Let the power fail and come back: the directory then holds what the machine finds.

        Connections that were open are dead: what is done with them fails and writes nothing. The same
        random gives the same result.
        """
        assert self._record
        sqlite_vfs.disconnect(self)
        report = CutReport()
        # Some cuts take nearly all, some nearly nothing, most some.
        kept_share = random.random()
        for path, possible in list(self._names.items()):
            found = random.choice(possible)
            report.names_lost += found is not possible[-1]
            if found is None:
                del self._names[path]
                Path(path).unlink(missing_ok=True)
            else:
                content = Content(found.after_cut(random, kept_share, report))
                self._names[path] = [content]
                Path(path).write_bytes(content.durable)
        self._come_back()
        return report

    def process_killed(self) -> None:
        """Let the process die and the machine live: what was written stays, synced or not.

        Connections that were open are dead, as after `power_cut`.
        """
        assert self._record
        sqlite_vfs.disconnect(self)
        if self._in_flight:
            self._in_flight.unsynced.pop()  # it never came as far as the page cache
        self._come_back()

    # --- what SQLite does ------------------------------------------------------------------------

    def claims(self, path: str) -> bool:
        return path.startswith(self._prefix)

    def opened(self, path: str, how: Opened) -> "_DiskFile | int":
        if self.dead:
            return sqlite3.SQLITE_IOERR
        syncs_directory = bool(how & Opened.CREATE and how & _SYNCS_ITS_DIRECTORY)
        return _DiskFile(self, path, self._content(path, how), syncs_directory=syncs_directory)

    def deleted(self, path: str, *, directory_synced: bool) -> int:
        if self.dead or self.failing:
            return sqlite3.SQLITE_IOERR
        if Path(path).exists():
            self._content(path, Opened(0))
            self._name(path, None)
        if directory_synced:
            self.directory_synced(Path(path).parent)
        return OK

    def directory_synced(self, directory: Path) -> None:
        """Make the names there durable, as they are now."""
        for path, possible in list(self._names.items()):
            if Path(path).parent == directory:
                del possible[:-1]
                if possible == [None]:
                    del self._names[path]

    def refuses(self, grows_to: int, path: str) -> int:
        """Return what keeps a write from being made, or OK."""
        if self.failing:
            return sqlite3.SQLITE_IOERR
        if self.capacity is not None:
            growth = grows_to - Path(path).stat().st_size
            if growth > 0 and self._used() + growth > self.capacity:
                return sqlite3.SQLITE_FULL
        return OK

    def counted_down(self, content: Content) -> int:
        """Count a write that is being made; return OK, or SQLITE_IOERR if the power failed at it."""
        assert self.cut_after_writes is not None
        self.cut_after_writes -= 1
        if self.cut_after_writes > 0:
            return OK
        self.cut_after_writes = None
        self._in_flight = content
        self.dead = True
        sqlite_vfs.disconnect(self)
        return sqlite3.SQLITE_IOERR

    def synced(self) -> int:
        self._cost_s += self.sync_delay_s
        return sqlite3.SQLITE_IOERR if self.failing else OK

    # --- what is there ---------------------------------------------------------------------------

    def _content(self, path: str, how: Opened) -> Content:
        """Return what is known of a file that is about to be opened or deleted."""
        possible = self._names.get(path, [None])
        known = possible[-1]
        try:
            inode = os.stat(path).st_ino  # noqa: PTH116
        except FileNotFoundError:
            content = Content(bytearray())
            if how & Opened.CREATE:
                self._name(path, content)
            return content
        if known is not None and known.inode in (None, inode):
            known.inode = inode
            return known
        # Made by somebody else than SQLite, who is taken to have synced file and directory.
        content = Content(bytearray(Path(path).read_bytes()), inode)
        self._names[path] = [content]
        return content

    def _name(self, path: str, content: Content | None) -> None:
        possible = self._names.setdefault(path, [None])
        possible.append(content)
        if len(possible) > UNSYNCED_NAMES_MAX:
            del possible[1]

    def _contents(self) -> Iterator[Content]:
        return (c for possible in self._names.values() for c in possible[-1:] if c is not None)

    def _files(self) -> Iterator[Path]:
        return (file for file in self.directory.rglob("*") if file.is_file())

    def _used(self) -> int:
        return sum(f.stat().st_size for f in self._files() if not f.name.endswith("-shm"))

    def _come_back(self) -> None:
        self._renew_files()
        self._in_flight = None
        self.cut_after_writes = None
        self.dead = False

    def _renew_files(self) -> None:
        """Put each file's content into another file: locks of the dead are held on the old one."""
        for file in list(self._files()):
            file_before = file.stat().st_ino
            if file.name.endswith("-shm"):
                file.unlink()
                continue
            copy = Path(shutil.copy2(file, file.with_name(f"{file.name}~")))
            copy.replace(file)
            known = self._names.get(str(file), [None])[-1]
            if known is not None and known.inode in (None, file_before):
                known.inode = file.stat().st_ino


class _DiskFile:
    """A file SQLite has open on the disk."""

    __slots__ = ("_content", "_disk", "_path", "_syncs_directory", "_unsynced")

    def __init__(self, disk: Disk, path: str, content: Content, *, syncs_directory: bool) -> None:
        self._disk = disk
        self._path = path
        self._content = content
        self._unsynced = content.unsynced
        # SQLite's Unix VFS syncs the directory with the first sync of a log or journal it may have made.
        self._syncs_directory = syncs_directory

    def written(self, offset: int, data: bytes) -> int:
        disk = self._disk
        disk.writes += 1
        if disk.failing or disk.capacity is not None:
            refused = disk.refuses(offset + len(data), self._path)
            if refused:
                return refused
        self._unsynced.append((offset, data))
        return OK if disk.cut_after_writes is None else disk.counted_down(self._content)

    def truncated(self, size: int) -> int:
        refused = self._disk.refuses(0, self._path)
        if not refused:
            self._content.unsynced.append((size, None))
        return refused

    def synced(self) -> int:
        refused = self._disk.synced()
        if not refused:
            self._content.sync()
            if self._syncs_directory:
                self._syncs_directory = False
                self._disk.directory_synced(Path(self._path).parent)
        return refused
