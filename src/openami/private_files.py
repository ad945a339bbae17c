"""Files that nobody but the running user can read or change: keys, pins, and what guards them.

Directories are 0700, files 0600, both of the user who runs the program. What is wider, somebody else's, or a
symbolic link is refused with the remedy: whoever can change the directory can put another file there.

Every write is atomic and durable: a power cut leaves the old file or the new one, never half of one.
"""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

PRIVATE_DIRECTORY_MODE: Final = 0o700
PRIVATE_FILE_MODE: Final = 0o600
PUBLIC_FILE_MODE: Final = 0o644  # certificates and documents that prove themselves
_OTHERS: Final = 0o077
# The largest of these files, a database of certificates for a village, is far below; a device or a log
# named by mistake is not read into memory.
FILE_BYTES_MAX: Final = 1024 * 1024


class KeyFileError(Exception):
    """A key file that is not there, not ours alone, or not a key; ``remedy`` says what to do."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


def ensure_private_directory(path: Path) -> None:
    """Make the directory for its owner alone, or check that it is. Raises KeyFileError."""
    try:
        path.mkdir(mode=PRIVATE_DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot("make", path, error) from None
    _check_directory(path)


def check_private(path: Path) -> None:
    """Raise KeyFileError unless the file and its directory are the running user's alone."""
    _check_directory(path.parent)
    os.close(_open_private(path))


def read_private(path: Path) -> bytes:
    """Return a file's bytes, if it and its directory are the running user's alone. Raises KeyFileError."""
    _check_directory(path.parent)
    descriptor = _open_private(path)
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise KeyFileError(f"{path} has more than {FILE_BYTES_MAX} bytes", "name another file")
    return data


def write_private(path: Path, data: bytes) -> None:
    """Put the bytes in a 0600 file, in place of what was there; durable. Raises KeyFileError."""
    ensure_private_directory(path.parent)
    _replace(path, data, PRIVATE_FILE_MODE)


def write_new_private(path: Path, data: bytes) -> None:
    """Put the bytes in a 0600 file that must not be there yet. Raises KeyFileError."""
    ensure_private_directory(path.parent)
    _create(path, data, PRIVATE_FILE_MODE)


def write_public(path: Path, data: bytes) -> None:
    """Put the bytes in a 0644 file, in place of what was there; durable. Raises KeyFileError."""
    _replace(path, data, PUBLIC_FILE_MODE)


def _check_directory(path: Path) -> None:
    try:
        found = path.lstat()
    except OSError as error:
        raise _cannot("look at", path, error) from None
    if stat.S_ISLNK(found.st_mode):
        raise _symlink(path)
    if not stat.S_ISDIR(found.st_mode):
        raise KeyFileError(f"{path} is not a directory", "name another one")
    _check_rights(path, found, PRIVATE_DIRECTORY_MODE)


def _open_private(path: Path) -> int:
    """Open, then look at what was opened: between a look and an opening a file can be exchanged."""
    try:
        # Not blocking, because a named pipe would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if path.is_symlink():
            raise _symlink(path) from None
        raise _cannot("read", path, error) from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise KeyFileError(f"{path} is not a file", "name another one")
        _check_rights(path, found, PRIVATE_FILE_MODE)
    except KeyFileError:
        os.close(descriptor)
        raise
    return descriptor


def _check_rights(path: Path, found: os.stat_result, wanted: int) -> None:
    if found.st_uid != os.geteuid():
        raise KeyFileError(
            f"{path} belongs to user {found.st_uid}, not to the one running this, {os.geteuid()}",
            f"run it as that user, or: chown {os.geteuid()} {path}",
        )
    if found.st_mode & _OTHERS:
        raise KeyFileError(
            f"{path} is open to other users (mode {stat.S_IMODE(found.st_mode):04o})",
            f"chmod {wanted:04o} {path}; if others use this machine, make a new key as well",
        )


def _replace(path: Path, data: bytes, mode: int) -> None:
    if path.is_symlink():
        raise _symlink(path)
    try:
        temporary = _written(path, data, mode)
        try:
            temporary.replace(path)
        except OSError:
            temporary.unlink()
            raise
        sync_directory(path.parent)
    except OSError as error:
        raise _cannot("write", path, error) from None


def _create(path: Path, data: bytes, mode: int) -> None:
    """Link, not rename: of two programs that make the same key, one must be told."""
    try:
        temporary = _written(path, data, mode)
        try:
            path.hardlink_to(temporary)
        finally:
            temporary.unlink()
        sync_directory(path.parent)
    except FileExistsError:
        raise KeyFileError(
            f"{path} is there already and is not overwritten",
            "name another directory, or move it away",
        ) from None
    except OSError as error:
        raise _cannot("write", path, error) from None


def _written(path: Path, data: bytes, mode: int) -> Path:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)  # whatever the umask takes away
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    return temporary


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable: syncing a new file does not sync the folder it is in."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _symlink(path: Path) -> KeyFileError:
    return KeyFileError(
        f"{path} is a symbolic link: where it points can be changed by others",
        "name the file itself",
    )


def _cannot(what: str, path: Path, error: OSError) -> KeyFileError:
    return KeyFileError(
        f"cannot {what} {path}: {error.strerror}",
        "check the path and the user this runs as",
    )
