"""The invocation counter of a key: kept on disk ahead of its use, so that no value is given twice.

The file holds the first value that nobody was given yet. A block of values is taken by writing the value behind
it, durably, before the first of them is used; what is left of a block when the power goes is lost, and nothing
else is (decision 0052). Several programs may take blocks of one file: a lock lies beside it.

A file that is not there is not made: a counter that starts again under old keys repeats its nonces, which
gives the keys' secrets away. Who installs new keys makes it: ``echo 0 > meter.counter``.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from openami.gateway.drivers.dlms.ciphering import COUNTER_MAX
from openami.gateway.drivers.dlms.errors import CipherError
from openami.private_files import PRIVATE_FILE_MODE, KeyFileError, read_private, write_private

BLOCK: Final = 1000
"""Values taken at once. One write in 1,000 messages; and with a restart each minute the four bytes last
eight years."""
LOW: Final = 256
"""How few may be left before the next block is taken: more than one meter's turn uses."""


class InvocationCounter:
    """Gives each value once. Blocking where it says so: `reserve` waits for the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = 0
        self._end = 0

    @property
    def low(self) -> bool:
        """Whether it is time to `reserve`."""
        return self._end - self._next < LOW

    def next(self) -> int:
        """Return the next value; takes a block, and waits for the disk, only where none is left.

        Raises CipherError.
        """
        if self._next == self._end:
            self.reserve()
        value = self._next
        self._next += 1
        return value

    def reserve(self) -> None:
        """Take the next block, durably. What is left of the last one is used up first if it borders on it.

        Raises CipherError.
        """
        try:
            with _locked(self._path.with_suffix(".lock")):
                first = read_counter(self._path)
                if first < self._end:
                    raise CipherError(
                        f"{self._path} went back to {first}: was an old copy restored?"
                    )
                end = min(first + BLOCK, COUNTER_MAX + 1)
                if first == end:
                    raise CipherError(
                        f"{self._path}: all values are used; the meter needs new keys"
                    )
                write_private(self._path, f"{end}\n".encode())
        except KeyFileError as error:
            raise CipherError(f"{error}; {error.remedy}") from None
        if first != self._end:
            self._next = first
        self._end = end


def read_counter(path: Path) -> int:
    """Return the first value nobody was given yet. Raises KeyFileError."""
    if not path.exists():
        raise KeyFileError(
            f"{path}, the invocation counter, is not there",
            f"for keys never used before: umask 077; echo 0 > {path}; else put the last value "
            "used, and some thousands, into it",
        )
    text = read_private(path).strip()
    if not (text.isdigit() and len(text) <= len(str(COUNTER_MAX)) and int(text) <= COUNTER_MAX + 1):
        raise KeyFileError(
            f"{path} holds no invocation counter",
            f"a whole number up to {COUNTER_MAX}, above all that were used under these keys",
        )
    return int(text)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, PRIVATE_FILE_MODE)
    except OSError as error:
        raise KeyFileError(
            f"cannot lock {path}: {error.strerror}", "check the path and the user this runs as"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
