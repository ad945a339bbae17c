"""What SQLite's errors mean to a person, and whether waiting helps."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from openami.headend.store import StoreError

_PRIMARY_CODE_MASK: Final = 0xFF


class _Explanation(NamedTuple):
    sentence: str
    remedy: str
    permanent: bool


_EXPLANATIONS: Final = {
    sqlite3.SQLITE_FULL: _Explanation(
        "the disk is full",
        "free some space; nothing was acknowledged, and the head-end goes on by itself",
        False,
    ),
    sqlite3.SQLITE_IOERR: _Explanation(
        "the disk failed",
        "look for disk errors in the kernel's log (dmesg)",
        False,
    ),
    sqlite3.SQLITE_BUSY: _Explanation(
        "another program holds the database",
        "close the other program, or wait for it",
        False,
    ),
    sqlite3.SQLITE_PROTOCOL: _Explanation(
        "the database's locks are in disorder",
        "wait: another program is just opening or closing it",
        False,
    ),
    sqlite3.SQLITE_NOMEM: _Explanation(
        "there is no memory left",
        "look which program takes it; the head-end itself needs less than 100 MB",
        False,
    ),
    sqlite3.SQLITE_READONLY: _Explanation(
        "the database may only be read",
        "run this as the user the head-end runs as, or while the head-end runs; mount the disk writable",
        True,
    ),
    sqlite3.SQLITE_CANTOPEN: _Explanation(
        "the database cannot be opened",
        "make its folder, and run this as the user the head-end runs as: "
        "files beside it must be writable too",
        True,
    ),
    sqlite3.SQLITE_PERM: _Explanation(
        "the database must not be opened",
        "run this as the user the head-end runs as",
        True,
    ),
    sqlite3.SQLITE_CORRUPT: _Explanation(
        "the database is damaged",
        "stop the head-end, keep the file for `sqlite3 FILE .recover`, and restore a backup",
        True,
    ),
    sqlite3.SQLITE_NOTADB: _Explanation(
        "the file is not a SQLite database",
        "name another file, or restore a backup",
        True,
    ),
}


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn what the world did to the database into a StoreError; our own bugs pass as they are."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        known = None if code is None else _EXPLANATIONS.get(code & _PRIMARY_CODE_MASK)
        if known is None:
            raise
        raise StoreError(
            f"{path}: {known.sentence} ({error})", remedy=known.remedy, permanent=known.permanent
        ) from error


def cannot_write(error: OSError, path: str) -> StoreError:
    """Return the error for a folder in which the head-end can make no file."""
    return StoreError(
        f"{path} cannot be opened for writing: {error.strerror}",
        remedy="make its folder, and give it to the user the head-end runs as",
        permanent=True,
    )
