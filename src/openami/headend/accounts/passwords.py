"""Passwords as argon2id keeps them."""

from dataclasses import dataclass
from typing import Final, Protocol

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

# OWASP's second set: 23 ms on a laptop, a quarter of a second on a Raspberry Pi, and 38 MiB for the two at a
# time that a machine of 512 MB can spare. The library's own default takes 64 MiB and four threads for each.
MEMORY_KIB: Final = 19 * 1024
PASSES: Final = 2
LANES: Final = 1


class Hasher(Protocol):
    """Turns passwords into what is kept, and says whether one fits."""

    def hash(self, password: str) -> str: ...

    def fits(self, password: str, kept: str) -> bool: ...

    def is_dated(self, kept: str) -> bool:
        """Return whether a hash was made with other costs than today's."""
        ...


class Argon2Hasher:
    """argon2id. Takes memory and time on purpose: never on an event loop."""

    def __init__(self) -> None:
        self._argon2 = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)

    def hash(self, password: str) -> str:
        return self._argon2.hash(password)

    def fits(self, password: str, kept: str) -> bool:
        try:
            return self._argon2.verify(kept, password)
        except (VerificationError, InvalidHashError):
            return False

    def is_dated(self, kept: str) -> bool:
        return self._argon2.check_needs_rehash(kept)


@dataclass(frozen=True, slots=True)
class PasswordVerdict:
    """What became of a password that was shown."""

    fits: bool
    rehashed: str | None = None
    """The hash to keep from now on, where the kept one is dated."""


def verify(hasher: Hasher, password: str, kept: str | None, stand_in: str) -> PasswordVerdict:
    """Return whether a password fits what is kept of it.

    Without anything kept the same work is done on ``stand_in``: how long it takes does not tell whether there is
    such an account.
    """
    fits = hasher.fits(password, stand_in if kept is None else kept)
    if kept is None or not fits:
        return PasswordVerdict(False)
    return PasswordVerdict(True, hasher.hash(password) if hasher.is_dated(kept) else None)
