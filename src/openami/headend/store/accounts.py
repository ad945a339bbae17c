"""The AccountStore port: users, their sign-ins, tokens and one-time links, in the same database as the rest.

What a person changes is written in one transaction with its entry in the audit log. Decisions are pure functions
that are called within the transaction, as in ``store.commands``; what they raise ends it without a trace.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from openami.headend.accounts.backoff import Attempts
from openami.headend.accounts.credentials import Link, SignIn, Token
from openami.headend.accounts.users import User, UserChange
from openami.headend.audit import Entry

DecideUser = Callable[[User, int], UserChange | None]
"""Of a user, and how many other engineers of every feeder could sign in."""


@dataclass(frozen=True, slots=True)
class LinkUse:
    """What follows of a one-time link: it is spent, and this is the user from now on."""

    user: User
    entry: Entry


DecideLink = Callable[[Link | None, User | None, int], LinkUse | None]
"""Of a link, whom it names, and how many users there are."""


class AccountStore(Protocol):
    """What the head-end keeps of accounts. Every method raises StoreError."""

    # users
    async def users(self) -> Sequence[User]:
        """Return every account, by name."""
        ...

    async def user(self, name: str) -> User | None: ...

    async def add_user(self, user: User, entry: Entry) -> bool:
        """Keep a new account; False when there is one of that name, or USERS_MAX of them."""
        ...

    async def change_user(self, name: str, decide: DecideUser, now: datetime) -> User | None:
        """Decide on an account and write what follows; return it as it is then, None if there is none."""
        ...

    async def keep_hash(self, name: str, old: str, new: str) -> None:
        """Keep a password's hash of today's cost in the place of the dated one."""
        ...

    async def spend_step(self, name: str, step: int) -> bool:
        """Mark a code's half-minute used; False when it, or a later one, was."""
        ...

    async def spend_recovery(self, name: str, digest: str, entry: Entry, now: datetime) -> bool:
        """Use a recovery code up; False when there is no such one left."""
        ...

    # attempts
    async def count_attempt(self, name: str, address: str, now: datetime) -> Attempts | datetime:
        """Count an attempt that may be judged now, and return the count; or from when on the next may be."""
        ...

    async def forget_attempts(self, name: str, address: str) -> None: ...

    # sign-ins
    async def add_sign_in(
        self, new: SignIn, entry: Entry, now: datetime, *, replaces: str | None = None
    ) -> None:
        """Keep a sign-in; the one whose digest it replaces ends in the same transaction."""
        ...

    async def sign_in(self, digest: str) -> tuple[SignIn, User] | None:
        """Return a sign-in and whose it is, as they are now."""
        ...

    async def sign_ins(self, user_name: str) -> Sequence[SignIn]:
        """Return a user's sign-ins, the latest first."""
        ...

    async def see_sign_in(self, digest: str, now: datetime) -> None: ...

    async def end_sign_in(
        self, sign_in_id: str, user_name: str, entry: Entry, now: datetime
    ) -> bool:
        """End a user's sign-in by its id; False if there is none."""
        ...

    # tokens
    async def add_token(self, token: Token, entry: Entry) -> None: ...

    async def token(self, digest: str) -> Token | None: ...

    async def tokens(self) -> Sequence[Token]:
        """Return every token that was not pruned, the newest first."""
        ...

    async def see_token(self, token_id: str, now: datetime) -> None: ...

    async def revoke_token(self, token_id: str, entry: Entry, now: datetime) -> bool:
        """Put a token out of force; False if there is none that is in force."""
        ...

    # one-time links
    async def add_link(self, link: Link, entry: Entry) -> None:
        """Keep a link; those of its kind and user that were not used are void with it."""
        ...

    async def look_at_link(self, digest: str) -> tuple[Link | None, User | None, int]:
        """Return a link, whom it names, and how many users there are."""
        ...

    async def use_link(self, digest: str, decide: DecideLink, now: datetime) -> User | None:
        """Decide on a link, spend it and write the user; None when the decision was None."""
        ...

    async def prune_accounts(self, now: datetime) -> int:
        """Delete sign-ins, links, tokens and attempts that have ended; return how many went."""
        ...
