"""Backups made and brought back: which steps, in which order, and what is refused."""

import asyncio
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from openami import __version__
from openami.headend.backups import sqlite_copy
from openami.headend.backups.file_form import (
    BackupError,
    Engine,
    Manifest,
    TableContent,
    extract,
    hashed,
    opened_backup,
    scratch,
    write_backup,
)
from openami.headend.store import Access
from openami.headend.store.marks import Mark
from openami.headend.store.migrations import SCHEMA, migrations
from openami.headend.store.open import file_of, open_store, path_of
from openami.headend.store.settling import Settled
from openami.profile import utc_text

# The copy and the file it goes into, for a moment both.
_COPIES: Final = 2
# A store that was moved is a state of the past, too, once somebody comes back to it.
_SETTLED_AWAY: Final = (Mark.UNSETTLED, Mark.MOVED)


def back_up(url: str, target: Path, *, now: datetime) -> Manifest:
    """Write a backup of a store beside whoever works with it. Raises BackupError and StoreError.

    ``now`` is told as when it was taken: nothing that was committed before it is missing.
    """
    if target.exists():
        raise BackupError(f"{target} is there already", remedy="name a new file for each backup")
    with _explained(target), scratch(target.with_name(f"{target.name}.copy")) as copy:
        schema, tables = _copied(url, copy)
        size, sha256 = hashed(copy)
        manifest = Manifest(
            program=__version__,
            engine="sqlite" if file_of(url) is not None else "postgresql",
            db_schema=schema,
            taken_at=now,
            bytes=size,
            sha256=sha256,
            tables=tables,
        )
        write_backup(target, manifest, copy)
    return manifest


def _copied(url: str, copy: Path) -> tuple[int, dict[str, TableContent]]:
    if file_of(url) is None:
        from openami.headend.backups import postgres_copy

        return asyncio.run(postgres_copy.copy_store(url, copy))
    source = Path(path_of(url))
    if source.exists():
        _refuse_small_disk(copy.parent, _COPIES * source.stat().st_size)
    return sqlite_copy.copy_store(source, copy)


def proved(backup: Path, copy: Path, *, engine: Engine) -> Manifest:
    """Write a backup's store to a file, prove it to the last byte, and return what it is.

    Raises BackupError and OSError.
    """
    with opened_backup(backup) as (manifest, content):
        _refuse_newer(manifest)
        _refuse_other_engine(manifest, engine)
        _refuse_small_disk(copy.parent, manifest.bytes)
        extract(manifest, content, copy)
    if engine == "sqlite" and sqlite_copy.check_copy(copy) != (manifest.db_schema, manifest.tables):
        raise BackupError(
            f"{backup} does not hold what its manifest says", remedy="take an earlier backup"
        )
    return manifest


def restore(backup: Path, url: str, *, who: str, now: datetime) -> tuple[Manifest, Settled]:
    """Bring a store back where there is none, and settle it. Raises BackupError and StoreError.

    Killed at any moment there is no store yet, or one that is unsettled: no head-end runs on it until `settled`.
    """
    if file_of(url) is None:
        manifest = _into_postgres(backup, url)
    else:
        manifest = _into_sqlite(backup, Path(path_of(url)))
    return manifest, settled(url, taken_at=manifest.taken_at, who=who, now=now)


def _into_sqlite(backup: Path, target: Path) -> Manifest:
    with _explained(target):
        refuse_root(target.parent)
        sqlite_copy.refuse_live(target)
        with scratch(target) as copy:
            manifest = proved(backup, copy, engine="sqlite")
            sqlite_copy.mark_unsettled(copy, utc_text(manifest.taken_at))
            sqlite_copy.put_in_place(copy, target)
    return manifest


def _into_postgres(backup: Path, url: str) -> Manifest:
    from openami.headend.backups import postgres_copy

    with _explained(backup), tempfile.TemporaryDirectory(prefix="openami-restore-") as directory:
        asyncio.run(postgres_copy.refuse_live(url))
        dump = Path(directory) / "dump"
        manifest = proved(backup, dump, engine="postgresql")
        taken_at = utc_text(manifest.taken_at)
        asyncio.run(postgres_copy.bring_back(url, dump, taken_at, manifest.tables))
    return manifest


def settled(url: str, *, taken_at: datetime, who: str, now: datetime) -> Settled:
    """Settle a store that was brought back: its schema is brought up to date, and what was open ends.

    Raises BackupError and StoreError.
    """
    if file_of(url) is not None:
        path = Path(path_of(url))
        with _explained(path):
            refuse_root(path.parent)

    async def settle() -> Settled:
        async with open_store(url, Access.OWN, despite=_SETTLED_AWAY) as store:
            return await store.settle(taken_at=taken_at, who=who, now=now)

    return asyncio.run(settle())


def refuse_root(directory: Path) -> None:
    """Raise BackupError where root would make files that the head-end's own user cannot write."""
    owner = directory.stat().st_uid
    if os.geteuid() == 0 and owner != 0:
        raise BackupError(
            f"{directory} belongs to another user, who could not write what root puts there",
            remedy=f"run it as the head-end's user: sudo -u '#{owner}' openami …",
        )


def _refuse_newer(manifest: Manifest) -> None:
    engine = "sqlite" if manifest.engine == "sqlite" else "postgres"
    known = len(migrations(SCHEMA / engine))
    if manifest.db_schema > known:
        raise BackupError(
            f"the backup has schema {manifest.db_schema}, and this program knows up to {known}",
            remedy=f"it was made by openami {manifest.program}: install that version or a newer one",
        )


def _refuse_other_engine(manifest: Manifest, engine: Engine) -> None:
    if manifest.engine != engine:
        raise BackupError(
            f"it is a backup of a {manifest.engine} store, and the store named is {engine}",
            remedy="restore it into its own kind of store",
        )


def _refuse_small_disk(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise BackupError(
            f"{directory} has {free >> 20} MiB left, and {needed >> 20} MiB are needed",
            remedy="make room, or use another disk",
        )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise BackupError(
            f"SQLite fails: {error}", remedy="look at the rights of the store and at its disk"
        ) from error
    except OSError as error:
        what = os.strerror(error.errno) if error.errno else str(error)
        raise BackupError(
            f"{error.filename or path}: {what}", remedy="look at its disk and its rights"
        ) from error
