"""SQLite's own library, as far as the simulated disk speaks to it: two structures and six calls.

Names as in SQLite's source (sqlite3.h; https://www.sqlite.org/vfs.html).
"""

import _sqlite3
import ctypes
import sqlite3
import sys
from ctypes import CFUNCTYPE, PYFUNCTYPE, Structure, c_char_p, c_int, c_int64, c_void_p


def library() -> ctypes.CDLL:
    """Return the library the ``sqlite3`` module itself uses, found through that module."""
    file = getattr(_sqlite3, "__file__", None)  # None: the module is part of the interpreter
    reached = ctypes.CDLL(file)
    try:
        reached.sqlite3_libversion.restype = c_char_p
        version = reached.sqlite3_libversion().decode()
        reached.sqlite3_vfs_register  # noqa: B018 – looked up when it is named
    except AttributeError:
        version = None
    if version != sqlite3.sqlite_version:
        raise OSError(
            f"the SQLite {sqlite3.sqlite_version} under this Python ({file or sys.executable}) cannot be "
            "reached: it is linked in without its public names. Simulate with a Python that uses the "
            "system's libsqlite3, as those of Debian, Fedora and pyenv do"
        )
    return reached


class Vfs(Structure):
    """sqlite3_vfs, version 3."""

    _fields_ = (
        ("iVersion", c_int),
        ("szOsFile", c_int),
        ("mxPathname", c_int),
        ("pNext", c_void_p),
        ("zName", c_char_p),
        ("pAppData", c_void_p),
        *((name, c_void_p) for name in ("xOpen", "xDelete", "xAccess", "xFullPathname")),
        *((name, c_void_p) for name in ("xDlOpen", "xDlError", "xDlSym", "xDlClose")),
        *((name, c_void_p) for name in ("xRandomness", "xSleep", "xCurrentTime", "xGetLastError")),
        ("xCurrentTimeInt64", c_void_p),
        *((name, c_void_p) for name in ("xSetSystemCall", "xGetSystemCall", "xNextSystemCall")),
    )


class Methods(Structure):
    """sqlite3_io_methods, version 3."""

    _fields_ = (
        ("iVersion", c_int),
        *((name, c_void_p) for name in ("xClose", "xRead", "xWrite", "xTruncate", "xSync")),
        *((name, c_void_p) for name in ("xFileSize", "xLock", "xUnlock", "xCheckReservedLock")),
        *((name, c_void_p) for name in ("xFileControl", "xSectorSize", "xDeviceCharacteristics")),
        *((name, c_void_p) for name in ("xShmMap", "xShmLock", "xShmBarrier", "xShmUnmap")),
        *((name, c_void_p) for name in ("xFetch", "xUnfetch")),
    )


OpenCall = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
DeleteCall = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int)
_write_arguments = (c_int, c_void_p, c_void_p, c_int, c_int64)
WriteCall = CFUNCTYPE(*_write_arguments)
# Keeps the interpreter's lock: a write to memory is done sooner than the lock is won back, and SQLite takes
# none of its own for it that another thread could hold.
DirectWriteCall = PYFUNCTYPE(*_write_arguments)
TruncateCall = CFUNCTYPE(c_int, c_void_p, c_int64)
SyncCall = CFUNCTYPE(c_int, c_void_p, c_int)
CloseCall = CFUNCTYPE(c_int, c_void_p)
