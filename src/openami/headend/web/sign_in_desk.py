"""Where people show who they are: passwords and codes are judged, sign-ins handed out, exchanged and ended.

Hashing takes memory and time on purpose. It runs on HASHES_AT_ONCE_MAX threads of its own, and what has to wait
too long is turned away: who sends a thousand passwords keeps others out of the sign-in form, never out of the
console, and never the head-end from its broker.
"""

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeVar

import structlog
from starlette.requests import Request
from starlette.responses import Response

from openami.clock import Clock
from openami.headend.accounts.backoff import Attempts, counted_address, is_worth_noting
from openami.headend.accounts.credentials import (
    AGENT_CHARS_MAX,
    SIGN_IN_DAYS,
    Kind,
    SignIn,
    digest_of,
    new_secret,
)
from openami.headend.accounts.passwords import Hasher, verify
from openami.headend.accounts.second_factor import recovery_digest, step_of
from openami.headend.accounts.users import (
    NAME_CHARS_MAX,
    PASSWORD_CHARS_MAX,
    User,
)
from openami.headend.audit import Entry
from openami.headend.store.commands import HeadEndStore
from openami.headend.web.doorkeeper import AccountsDoorkeeper

T = TypeVar("T")

# 19 MiB each, and a core each: what a small machine can spare beside its work.
HASHES_AT_ONCE_MAX: Final = 2
# At a quarter of a second each and two at once, the last of them waits two seconds.
HASHES_WAITING_MAX: Final = 16
_DAY_S: Final = 86_400
_NOBODY: Final = "nobody-has-this-password"  # what is hashed for who has no account

_log = structlog.get_logger("headend.web")


class Refused(StrEnum):
    """Why somebody was not believed. To them, a wrong name, password and code are all one."""

    WRONG = "wrong"
    WAIT = "wait"
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class Refusal:
    """They were not believed."""

    why: Refused
    until: datetime | None = None
    """From when on the next attempt is judged."""


class Busy(Exception):
    """Too many passwords wait to be hashed."""


class SignInDesk:
    """One head-end's desk. ``close`` ends its threads."""

    def __init__(
        self,
        store: HeadEndStore,
        clock: Clock,
        door: AccountsDoorkeeper,
        hasher: Hasher,
        *,
        refused: Callable[[], None] = lambda: None,
    ) -> None:
        """``refused`` is called for each attempt that was not believed."""
        self.door = door
        self._store = store
        self._clock = clock
        self._refused = refused
        self._hasher = hasher
        self._stand_in = hasher.hash(_NOBODY)
        self._threads = ThreadPoolExecutor(HASHES_AT_ONCE_MAX, "openami-password")
        self.waiting = 0
        """Passwords that are being hashed, or wait for it."""

    def close(self) -> None:
        """End the threads; what they work on is finished."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def hash(self, password: str) -> str:
        """Return what is kept of a password. Raises Busy."""
        return await self._worked(lambda: self._hasher.hash(password))

    async def prove(self, name: str, password: str, code: str, address: str) -> User | Refusal:
        """Judge a password and, where there is a second factor, a code. Raises StoreError."""
        now = self._clock.now()
        name, address = name.strip().lower()[:NAME_CHARS_MAX], counted_address(address)
        counted = await self._store.count_attempt(name, address, now)
        if isinstance(counted, datetime):
            self._refused()
            return Refusal(Refused.WAIT, counted)
        user = await self._store.user(name)
        kept = user.password if user is not None and user.can_sign_in else None
        try:
            verdict = await self._worked(
                lambda: verify(self._hasher, password[:PASSWORD_CHARS_MAX], kept, self._stand_in)
            )
        except Busy:
            return Refusal(Refused.BUSY)
        if user is None or not verdict.fits or not await self._has_code(user, code, now):
            self._refused()
            await self._note_failure(user, counted, address, now)
            return Refusal(Refused.WRONG)
        if verdict.rehashed is not None:
            assert kept is not None
            await self._store.keep_hash(name, kept, verdict.rehashed)
        await self._store.forget_attempts(name, address)
        return user

    async def hand_out(
        self, request: Request, response: Response, user_name: str, what: str = "signed in"
    ) -> None:
        """Give a browser a sign-in of its own, in the place of the one it has. Raises StoreError.

        The secret is always a new one, so one that was known before (stolen, or put there) opens nothing. How long
        the presence may last is counted from its beginning if it is the same person's.
        """
        now = self._clock.now()
        old = await self.door.sign_in_of(request)
        secret = new_secret(secrets.token_bytes)
        address = self.door.address(request)
        new = SignIn(
            digest=digest_of(Kind.SIGN_IN, secret),
            user_name=user_name,
            created_at=old.created_at if old is not None and old.user_name == user_name else now,
            seen_at=now,
            proved_at=now,
            address=address,
            agent=_printable(request.headers.get("user-agent", ""))[:AGENT_CHARS_MAX],
        )
        entry = Entry(who=user_name, what=what, why=f"from {address}, {new.id}", result="done")
        await self._store.add_sign_in(new, entry, now, replaces=None if old is None else old.digest)
        response.set_cookie(
            self.door.cookie,
            secret,
            max_age=SIGN_IN_DAYS * _DAY_S,
            path="/",
            secure=self.door.secure,
            httponly=True,
            samesite="strict",
        )

    async def take_back(self, request: Request, response: Response) -> None:
        """End a browser's sign-in, if it has one. Raises StoreError."""
        now = self._clock.now()
        if (old := await self.door.sign_in_of(request)) is not None:
            entry = Entry(who=old.user_name, what="signed out", why=old.id, result="done")
            await self._store.end_sign_in(old.id, old.user_name, entry, now)
        response.delete_cookie(
            self.door.cookie,
            path="/",
            secure=self.door.secure,
            httponly=True,
            samesite="strict",
        )

    # --- judging ---------------------------------------------------------------------------------

    async def _has_code(self, user: User, code: str, now: datetime) -> bool:
        if user.totp_secret is None:
            return True
        step = step_of(user.totp_secret, code, after=user.totp_step, now=now)
        if step is not None:
            return await self._store.spend_step(user.name, step)
        entry = Entry(who=user.name, what="recovery code used", result="done")
        return await self._store.spend_recovery(user.name, recovery_digest(code), entry, now)

    async def _note_failure(
        self, user: User | None, attempts: Attempts, address: str, now: datetime
    ) -> None:
        if not is_worth_noting(attempts):
            return
        _log.warning("sign-ins are refused", address=address, attempts=attempts.count)
        if user is not None:
            entry = Entry(
                who=user.name,
                what="sign-in refused",
                why=f"{attempts.count} attempts from {address}",
                result="refused",
            )
            await self._store.note(entry, now)

    async def _worked(self, work: Callable[[], T]) -> T:
        if self.waiting >= HASHES_WAITING_MAX:
            raise Busy
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self.waiting -= 1


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
