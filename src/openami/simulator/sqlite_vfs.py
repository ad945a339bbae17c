"""What lies under SQLite, watched: a VFS in the library that Python's own ``sqlite3`` module uses.

Product code opens its database as ever; only for files that a `Watcher` claims do four of SQLite's calls into
the operating system (write, truncate, sync, close) pass through here first. Reading, locking and shared memory
go straight to SQLite's own Unix VFS, and so does every file that nobody claims (decision 0034).

SQLite's source calls the parts by these names: https://www.sqlite.org/vfs.html
"""

import atexit
import functools
import sqlite3
from ctypes import POINTER, addressof, c_int, c_void_p, cast, string_at
from enum import IntFlag
from typing import Final, Protocol

from openami.simulator.sqlite_library import (
    CloseCall,
    DeleteCall,
    DirectWriteCall,
    Methods,
    OpenCall,
    SyncCall,
    TruncateCall,
    Vfs,
    WriteCall,
    library,
)

OK: Final = sqlite3.SQLITE_OK


class Opened(IntFlag):
    """How SQLite opens a file (sqlite3.h, SQLITE_OPEN_…)."""

    CREATE = 0x00000004
    DELETE_ON_CLOSE = 0x00000008
    MAIN_JOURNAL = 0x00000800
    SUPER_JOURNAL = 0x00004000
    WAL = 0x00080000


class WatchedFile(Protocol):
    """One open file. Each call comes before the real one and returns OK, or the code SQLite is to see instead."""

    def written(self, offset: int, data: bytes) -> int: ...

    def truncated(self, size: int) -> int: ...

    def synced(self) -> int:
        """Take the place of the real sync: what is durable is the watcher's to say."""
        ...


class Watcher(Protocol):
    """Who claims files by their absolute path."""

    def claims(self, path: str) -> bool: ...

    def opened(self, path: str, how: Opened) -> WatchedFile | int:
        """Return who watches the file, or the code SQLite is to see instead of an open file."""
        ...

    def deleted(self, path: str, *, directory_synced: bool) -> int:
        """Come before the file's name is removed."""
        ...


def watch(watcher: Watcher) -> None:
    """Ask a watcher about every database that is opened from now on."""
    shim = _shim()
    if not shim.watchers:
        shim.become_default()
    shim.watchers.append(watcher)


def unwatch(watcher: Watcher) -> None:
    """Ask it no more; with the last one gone, SQLite opens files as if this module did not exist.

    Raises what a watcher has raised meanwhile: SQLite saw a failing disk in its place.
    """
    shim = _shim()
    shim.watchers.remove(watcher)
    if not shim.watchers:
        shim.resign()
    shim.raise_error()


def disconnect(watcher: Watcher) -> None:
    """Let every further use of its open files fail with SQLITE_IOERR, and write nothing; they can be closed."""
    _shim().disconnect(watcher)


# Of a file that is disconnected. The other calls still answer: letting go of it needs them.
_REFUSED_WHEN_DISCONNECTED: Final = (
    *("xRead", "xWrite", "xTruncate", "xSync", "xFileSize", "xLock", "xCheckReservedLock"),
    *("xShmMap", "xShmLock", "xFetch"),
)


class _OpenFile:
    """A file SQLite has open: who watches it, and the method tables it may point to."""

    __slots__ = ("tables", "watched", "watcher")

    def __init__(self, watcher: Watcher, watched: WatchedFile, tables: "_Tables") -> None:
        self.watcher = watcher
        self.watched = watched
        self.tables = tables


class _Tables:
    """Three tables of methods for one kind of file: SQLite's own, the watched, the disconnected."""

    def __init__(self, original: int, shim: "_Shim") -> None:
        self.original = original
        real = Methods.from_address(original)
        if real.iVersion != 3:
            raise OSError(f"SQLite's methods are of version {real.iVersion}, not 3 as since 3.7.17")
        write = DirectWriteCall(real.xWrite)
        truncate = TruncateCall(real.xTruncate)
        close = CloseCall(real.xClose)
        files = shim.files

        # A simulated day writes some 100,000 pages: this one is short for speed.
        def on_write(address: int, data: int, amount: int, offset: int) -> int:
            try:
                refused = files[address].watched.written(offset, string_at(data, amount))
                return refused or write(address, data, amount, offset)
            except BaseException as error:  # C cannot pass it on: kept, and raised outside SQLite
                shim.keep(error)
                return sqlite3.SQLITE_IOERR

        def on_truncate(address: int, size: int) -> int:
            with shim:
                return files[address].watched.truncated(size) or truncate(address, size)
            return sqlite3.SQLITE_IOERR

        def on_sync(address: int, _flags: int) -> int:
            with shim:
                return files[address].watched.synced()
            return sqlite3.SQLITE_IOERR

        def on_close(address: int) -> int:
            files.pop(address, None)
            return int(close(address))

        def refuse(_address: int) -> int:
            return sqlite3.SQLITE_IOERR

        self._kept = (
            WriteCall(on_write),
            TruncateCall(on_truncate),
            SyncCall(on_sync),
            CloseCall(on_close),
            # In the C calling convention a function may leave arguments it was given unread.
            CloseCall(refuse),
        )
        on = [cast(callback, c_void_p).value for callback in self._kept]
        self.watched = Methods.from_buffer_copy(real)
        (
            self.watched.xWrite,
            self.watched.xTruncate,
            self.watched.xSync,
            self.watched.xClose,
            refusal,
        ) = on
        self.disconnected = Methods.from_buffer_copy(self.watched)
        for name in _REFUSED_WHEN_DISCONNECTED:
            setattr(self.disconnected, name, refusal)


class _Shim:
    """The VFS itself: a copy of SQLite's default one, with opening and deleting its own."""

    def __init__(self) -> None:
        self.watchers: list[Watcher] = []
        self.files: dict[int, _OpenFile] = {}
        self._error: BaseException | None = None
        self._tables: dict[int, _Tables] = {}
        reached = library()
        self._register = reached.sqlite3_vfs_register
        self._register.argtypes = (c_void_p, c_int)
        self._unregister = reached.sqlite3_vfs_unregister
        self._unregister.argtypes = (c_void_p,)
        reached.sqlite3_vfs_find.restype = POINTER(Vfs)
        real = reached.sqlite3_vfs_find(None).contents
        self._real_open = OpenCall(real.xOpen)
        self._real_delete = DeleteCall(real.xDelete)
        self._real = real
        self._kept = (OpenCall(self._on_open), DeleteCall(self._on_delete))
        self._vfs = Vfs.from_buffer_copy(real)
        self._vfs.pNext = None
        self._vfs.zName = b"openami-simulated-disk"
        self._vfs.xOpen, self._vfs.xDelete = (cast(c, c_void_p).value for c in self._kept)
        atexit.register(self._let_go)

    def become_default(self) -> None:
        self._register(addressof(self._vfs), 1)

    def resign(self) -> None:
        """Connections that are open keep it; it stays in memory for them."""
        self._unregister(addressof(self._vfs))

    def __enter__(self) -> None:
        """Begin what SQLite has called us for."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if error:
            self.keep(error)
        return True

    def keep(self, error: BaseException) -> None:
        """Keep an error for `raise_error`: through SQLite, which is C, it cannot pass."""
        self._error = self._error or error

    def raise_error(self) -> None:
        error, self._error = self._error, None
        if error:
            raise error

    def disconnect(self, watcher: Watcher) -> None:
        # The keys alone: taking pairs may collect garbage, and garbage may be a connection that closes files.
        for address in list(self.files):
            opened = self.files.get(address)
            if opened and opened.watcher is watcher:
                _point(address, addressof(opened.tables.disconnected))

    def _on_open(self, _vfs: int, name: int | None, address: int, flags: int, out: int) -> int:
        with self:
            watcher, path = self._claimed(name, flags)
            if watcher is None:
                return int(self._real_open(addressof(self._real), name, address, flags, out))
            watched = watcher.opened(path, Opened(flags))
            if isinstance(watched, int):
                _point(address, None)
                return watched
            code: int = self._real_open(addressof(self._real), name, address, flags, out)
            if code == OK:
                original = c_void_p.from_address(address).value
                assert original is not None
                tables = self._tables.get(original) or _Tables(original, self)
                self._tables[original] = tables
                self.files[address] = _OpenFile(watcher, watched, tables)
                _point(address, addressof(tables.watched))
            return code
        _point(address, None)
        return sqlite3.SQLITE_IOERR

    def _claimed(self, name: int | None, flags: int) -> tuple[Watcher | None, str]:
        if not name or flags & Opened.DELETE_ON_CLOSE:
            return None, ""
        path = string_at(name).decode()
        return next((w for w in self.watchers if w.claims(path)), None), path

    def _on_delete(self, _vfs: int, name: bytes, sync_directory: int) -> int:
        with self:
            path = name.decode()
            for watcher in self.watchers:
                if watcher.claims(path):
                    refused = watcher.deleted(path, directory_synced=bool(sync_directory))
                    return refused or int(self._real_delete(addressof(self._real), name, 0))
            return int(self._real_delete(addressof(self._real), name, sync_directory))
        return sqlite3.SQLITE_IOERR

    def _let_go(self) -> None:
        """Connections may be closed after the interpreter is gone: they must not call into it."""
        for address in list(self.files):
            _point(address, self.files[address].tables.original)
        self._vfs.xOpen, self._vfs.xDelete = self._real.xOpen, self._real.xDelete


def _point(address: int, methods: int | None) -> None:
    """Let an open file (sqlite3_file, whose only public member this is) have these methods."""
    c_void_p.from_address(address).value = methods


@functools.cache
def _shim() -> _Shim:
    return _Shim()
