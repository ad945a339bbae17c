"""A SQLite store copied while it is written, and put in its place again."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from openami.headend.backups.file_form import BackupError, TableContent
from openami.headend.store.marks import CREATE, Mark
from openami.headend.store.migrations import APPLIED
from openami.headend.store.sqlite import FILE_MODE
from openami.private_files import sync_directory


def copy_store(source: Path, to: Path) -> tuple[int, dict[str, TableContent]]:
    """Copy a store as it is at one moment; return its schema's number and what its tables hold.

    The whole copy is one reading transaction, which keeps nobody from writing; meanwhile the write-ahead log grows
    by what is written. Raises BackupError for a store that is not there or not whole, and sqlite3.Error.
    """
    if not source.exists():
        raise BackupError(
            f"there is no store at {source}", remedy="name the head-end's own --store"
        )
    with closing(_connect(source, "ro")) as store, closing(_connect(to, "rw")) as copy:
        store.backup(copy, pages=-1)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, that needs none beside it
        _refuse_damaged(copy, source)
        return _content(copy)


def check_copy(path: Path) -> tuple[int, dict[str, TableContent]]:
    """Return the schema's number and the tables of a copy that is whole. Raises BackupError, sqlite3.Error."""
    with closing(_connect(path, "ro")) as copy:
        _refuse_damaged(copy, path)
        return _content(copy)


def mark_unsettled(path: Path, taken_at: str) -> None:
    """Mark a copy, so that no head-end runs on it before it is settled."""
    with closing(_connect(path, "rw")) as copy:
        copy.execute("PRAGMA synchronous = FULL")
        copy.execute("BEGIN IMMEDIATE")
        copy.execute(CREATE[Mark.UNSETTLED])
        copy.execute("INSERT INTO unsettled VALUES (?)", (taken_at,))
        copy.execute("COMMIT")


def refuse_live(target: Path) -> None:
    """Raise BackupError where a store is already, or what is left of one."""
    for name in (target, *(target.with_name(target.name + end) for end in ("-wal", "-journal"))):
        if name.exists():
            raise BackupError(
                f"{name} is there: a store is never overwritten",
                remedy="stop the head-end and move that file away, or name another store",
            )


def put_in_place(copy: Path, target: Path) -> None:
    """Give a finished copy its name, durably. Raises BackupError if the name was taken meanwhile."""
    copy.chmod(FILE_MODE)
    try:
        os.link(copy, target)  # unlike a rename, it never replaces what is there
    except FileExistsError:
        refuse_live(target)
        raise
    sync_directory(target.parent)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode={mode}", uri=True, isolation_level=None)


def _refuse_damaged(copy: sqlite3.Connection, path: Path) -> None:
    try:
        found = [text for (text,) in copy.execute("PRAGMA quick_check(1)")]
    except sqlite3.DatabaseError as error:
        found = [str(error)]
    if found != ["ok"]:
        raise BackupError(
            f"{path} is damaged: {found[0]}",
            remedy="look at the disk; restore an earlier backup, or `sqlite3 FILE .recover`",
        )


def _content(copy: sqlite3.Connection) -> tuple[int, dict[str, TableContent]]:
    names = [
        name
        for (name,) in copy.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' "
            "ORDER BY name"
        )
    ]
    if "migration" not in names:
        raise BackupError("it is not a head-end's store", remedy="name the head-end's own --store")
    [schema] = copy.execute(APPLIED).fetchone()
    counted = (
        copy.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]  # noqa: S608 - its own tables
        for name in names
    )
    return schema, {
        name: TableContent(rows=rows) for name, rows in zip(names, counted, strict=True)
    }
