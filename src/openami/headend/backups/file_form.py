"""The backup file: a manifest and the store's copy in one tar; written whole or not at all, read with suspicion."""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Annotated, Final, Literal

import msgspec

from openami.private_files import PRIVATE_FILE_MODE, sync_directory

FORMAT: Final = "openami-backup"
VERSION: Final = 1
MANIFEST: Final = "manifest.json"
STORE: Final = "store"
# Copied and hashed at a time.
COPY_BYTES: Final = 1024 * 1024
# Some fifty tables, a line each; a larger one is no manifest.
MANIFEST_BYTES_MAX: Final = 64 * 1024

Engine = Literal["sqlite", "postgresql"]
Count = Annotated[int, msgspec.Meta(ge=0)]
Digest = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class BackupError(Exception):
    """A backup cannot be made, read or brought back; ``remedy`` says what a person can do."""

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


class TableContent(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """What one table held."""

    rows: Count
    digest: str | None = None
    """Of PostgreSQL: a sum over all rows, whatever their order. A SQLite file is proved by its bytes."""


class Manifest(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """What a backup is."""

    format: Literal["openami-backup"] = FORMAT
    version: Literal[1] = VERSION
    program: str
    engine: Engine
    db_schema: Annotated[int, msgspec.Meta(ge=1, le=9999)] = msgspec.field(name="schema")
    taken_at: datetime
    bytes: Count
    sha256: Digest
    tables: dict[str, TableContent]


def read_manifest(content: bytes) -> Manifest:
    """Return what the bytes of a manifest say. Raises BackupError."""
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BackupError(
            f"its manifest is none this program knows: {str(error)[:200]!r}",
            remedy="is it a file of `openami headend backup`, and of this version or an older one?",
        ) from None
    if manifest.taken_at.tzinfo is None:
        raise BackupError("its manifest tells a time without a zone", remedy="make another backup")
    return manifest


def hashed(path: Path) -> tuple[int, str]:
    """Return a file's size and SHA-256."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(COPY_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


@contextmanager
def scratch(target: Path) -> Iterator[Path]:
    """Yield a name beside a file for what is only half done; what is left under it in the end is deleted.

    Raises BackupError if somebody else's attempt is there, or the place cannot be written.
    """
    path = target.with_name(f"{target.name}.part")
    try:
        os.close(
            os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, PRIVATE_FILE_MODE)
        )
    except FileExistsError:
        raise BackupError(
            f"{path} is there: another run of this command is at work, or was killed",
            remedy="wait for it; if nobody is at work, delete that file",
        ) from None
    except OSError as error:
        raise BackupError(
            f"{path} cannot be written: {error.strerror}",
            remedy="name a file in a directory that you may write to",
        ) from None
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def write_backup(target: Path, manifest: Manifest, copy: Path) -> None:
    """Write manifest and copy as one file, durable under its name when this returns. Raises OSError."""
    with scratch(target) as part:
        with part.open("wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
            told = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
            tar.addfile(_member(MANIFEST, len(told), manifest.taken_at), io.BytesIO(told))
            with copy.open("rb") as content:
                tar.addfile(_member(STORE, manifest.bytes, manifest.taken_at), content)
            tar.close()
            file.flush()
            os.fsync(file.fileno())
        part.rename(target)
    sync_directory(target.parent)


def _member(name: str, size: int, at: datetime) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, PRIVATE_FILE_MODE, int(at.timestamp())
    return member


@contextmanager
def opened_backup(path: Path) -> Iterator[tuple[Manifest, IO[bytes]]]:
    """Yield what a backup says it is, and its store's bytes: not proved yet. Raises BackupError."""
    try:
        with tarfile.open(path, "r:") as tar:
            manifest = read_manifest(_next(tar, MANIFEST).read(MANIFEST_BYTES_MAX))
            content = _next(tar, STORE, size=manifest.bytes)
            yield manifest, content
    except tarfile.TarError as error:
        raise BackupError(
            f"{path} is no backup, or only a part of one: {error}",
            remedy="copy it again, or take an earlier one",
        ) from None
    except OSError as error:
        raise BackupError(
            f"{path} cannot be read: {error.strerror or error}",
            remedy="look at its name, its rights and its disk",
        ) from None


def _next(tar: tarfile.TarFile, name: str, *, size: int | None = None) -> IO[bytes]:
    member = tar.next()
    if member is None or member.name != name or not member.isreg():
        raise tarfile.ReadError(f"{name} is not where it should be")
    if (size is None and member.size > MANIFEST_BYTES_MAX) or size not in (None, member.size):
        raise tarfile.ReadError(f"{name} has {member.size} bytes")
    content = tar.extractfile(member)
    assert content is not None  # a regular file
    return content


def extract(manifest: Manifest, content: IO[bytes], to: Path) -> None:
    """Write the store's bytes to a file, durable, and prove them. Raises BackupError, OSError."""
    digest, size = hashlib.sha256(), 0
    with to.open("wb") as file:
        while chunk := content.read(COPY_BYTES):
            digest.update(chunk)
            size += len(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if (size, digest.hexdigest()) != (manifest.bytes, manifest.sha256):
        raise BackupError(
            "what it holds is not what was backed up: it was cut short, changed or damaged",
            remedy="copy it again, or take an earlier one; nothing was restored",
        )
