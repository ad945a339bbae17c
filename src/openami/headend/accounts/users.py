"""A person's account: who they are, what they may do, and what may be changed of it. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from openami.headend.accounts import Role
from openami.headend.audit import Entry
from openami.profile import is_id

# Long enough that no list of known passwords helps, short enough for a thumb (NIST SP 800-63B asks for 8).
PASSWORD_CHARS_MIN: Final = 10
# argon2 hashes whatever it is given; a megabyte of password is somebody's experiment.
PASSWORD_CHARS_MAX: Final = 256
# Stands in the audit log and in every list; an e-mail address fits.
NAME_CHARS_MAX: Final = 64
# A village has ten people who sign in, a utility a few hundred.
USERS_MAX: Final = 1_000
# The languages the console has catalogues for.
LANGUAGES: Final = {"en": "English", "fr": "Français", "sw": "Kiswahili", "hi": "हिन्दी"}

_is_name = re.compile(r"[a-z0-9][a-z0-9._@+-]*", re.ASCII).fullmatch


class AccountError(ValueError):
    """What was asked cannot be done to an account; ``remedy`` says what can."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One account as the store keeps it."""

    name: str
    role: Role
    feeders: frozenset[str] | None = None
    """The feeders they may see and touch; None for all."""
    password: str | None = None
    """The argon2id hash; None while they have chosen none, and then they cannot sign in."""
    language: str | None = None
    totp_secret: str | None = None
    """Base32; None without a second factor."""
    totp_pending: str | None = None
    """A secret that was shown and not yet confirmed by a code from it."""
    totp_step: int = 0
    """The last half-minute a code was used of: no code works twice."""
    recovery: tuple[str, ...] = ()
    """Digests of the recovery codes that are left."""
    created_at: datetime
    created_by: str
    disabled_at: datetime | None = None

    @property
    def can_sign_in(self) -> bool:
        """Return whether there is a password, and the account is in force."""
        return self.password is not None and self.disabled_at is None


def checked_name(text: str) -> str:
    """Return a name as accounts have it, in small letters. Raises AccountError."""
    name = text.strip().lower()
    if not _is_name(name) or len(name) > NAME_CHARS_MAX:
        raise AccountError(
            f"{text[:NAME_CHARS_MAX]!r} is no name for an account",
            f"use letters, digits and . _ @ + -, {NAME_CHARS_MAX} at most",
        )
    return name


def checked_password(text: str, *, name: str) -> str:
    """Return a password that may be chosen. Raises AccountError."""
    if len(text) < PASSWORD_CHARS_MIN:
        raise AccountError(
            f"the password has {len(text)} characters",
            f"choose one of {PASSWORD_CHARS_MIN} at least; four words are easier to remember than signs",
        )
    if len(text) > PASSWORD_CHARS_MAX:
        raise AccountError(f"a password has {PASSWORD_CHARS_MAX} characters at most")
    if len(set(text)) < 4 or name in text.lower():
        raise AccountError(
            "the password is easy to guess", "leave your name out of it, and do not repeat one sign"
        )
    return text


def checked_feeders(names: Iterable[str]) -> frozenset[str] | None:
    """Return a scope from what was typed: nothing at all means every feeder. Raises AccountError."""
    feeders = frozenset(name.strip() for name in names if name.strip())
    for name in sorted(feeders):
        if not is_id(name):
            raise AccountError(
                f"{name!r} is no feeder's name", "give names as `feeder list` has them"
            )
    return feeders or None


def chosen_scope(scope: str, feeders: Iterable[str]) -> frozenset[str] | None:
    """Return a scope from a form: ``all``, or ``some`` and which. Raises AccountError.

    Every feeder has to be said: who forgets to name one must not have given all away.
    """
    if scope == "all":
        return None
    chosen = checked_feeders(feeders)
    if chosen is None:
        raise AccountError("no feeder is chosen", "choose some, or say every feeder")
    return chosen


def role_named(word: str) -> Role:
    """Return a role by its word. Raises AccountError."""
    for role in Role:
        if role.word == word:
            return role
    known = ", ".join(role.word for role in Role)
    raise AccountError(f"{word!r} is no role", f"give one of {known}")


# --- what may be changed -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UserChange:
    """What follows of a decision on an account."""

    user: User
    entry: Entry
    ends_sign_ins: bool = False
    """Whether every sign-in of theirs ends with it."""


def with_role(
    user: User, role: Role, feeders: frozenset[str] | None, *, others: int, who: str
) -> UserChange | None:
    """Give another role or scope; None when that is what they have. Their sign-ins end.

    ``others`` is how many other engineers could sign in. Raises AccountError.
    """
    if (role, feeders) == (user.role, user.feeders):
        return None
    if role is not Role.ENGINEER or feeders is not None:
        _refuse_to_lose_the_last(user, others)
    scope = "every feeder" if feeders is None else ", ".join(sorted(feeders))
    entry = Entry(
        who=who,
        what=f"user {user.name} changed",
        why=f"{user.role.word} → {role.word}, {scope}",
        result="done",
    )
    return UserChange(replace(user, role=role, feeders=feeders), entry, ends_sign_ins=True)


def disabled(user: User, *, others: int, now: datetime, who: str) -> UserChange | None:
    """Put an account out of force; None when it is. Their sign-ins end. Raises AccountError."""
    if user.disabled_at is not None:
        return None
    _refuse_to_lose_the_last(user, others)
    entry = Entry(who=who, what=f"user {user.name} disabled", result="done")
    return UserChange(replace(user, disabled_at=now), entry, ends_sign_ins=True)


def enabled(user: User, *, who: str) -> UserChange | None:
    """Put an account into force again; None when it is."""
    if user.disabled_at is None:
        return None
    entry = Entry(who=who, what=f"user {user.name} enabled", result="done")
    return UserChange(replace(user, disabled_at=None), entry)


def with_password(user: User, hashed: str, *, who: str) -> UserChange:
    """Give another password. Every sign-in ends: whoever had the old one is out."""
    entry = Entry(who=who, what=f"password of {user.name} changed", result="done")
    return UserChange(replace(user, password=hashed), entry, ends_sign_ins=True)


def with_language(user: User, language: str | None, *, who: str) -> UserChange | None:
    """Choose a language, or None for the browser's. Raises AccountError."""
    if language == user.language:
        return None
    if language is not None and language not in LANGUAGES:
        raise AccountError(
            f"there is no language {language!r}", f"choose of {', '.join(LANGUAGES)}"
        )
    entry = Entry(who=who, what=f"language of {user.name} changed", result=language or "browser's")
    return UserChange(replace(user, language=language), entry)


def with_totp_pending(user: User, secret: str) -> UserChange:
    """Show a second factor's secret; nothing is asked for until a code from it has come."""
    entry = Entry(who=user.name, what="second factor begun")
    return UserChange(replace(user, totp_pending=secret), entry)


def with_second_factor(
    user: User, secret: str, *, step: int, recovery: tuple[str, ...]
) -> UserChange | None:
    """Put a second factor into force; None when another secret was shown meanwhile."""
    if user.totp_pending != secret:
        return None
    after = replace(user, totp_secret=secret, totp_pending=None, totp_step=step, recovery=recovery)
    return UserChange(after, Entry(who=user.name, what="second factor in force", result="done"))


def without_second_factor(user: User, *, who: str) -> UserChange | None:
    """Take the second factor away; None when there is none."""
    if user.totp_secret is None and user.totp_pending is None:
        return None
    after = replace(user, totp_secret=None, totp_pending=None, recovery=())
    entry = Entry(who=who, what=f"second factor of {user.name} removed", result="done")
    return UserChange(after, entry)


def _refuse_to_lose_the_last(user: User, others: int) -> None:
    if user.role is Role.ENGINEER and user.feeders is None and user.can_sign_in and others == 0:
        raise AccountError(
            f"{user.name} is the last engineer: nobody could make or change an account afterwards",
            "make another engineer of every feeder first",
        )


# --- what follows of a one-time link -------------------------------------------------------------


def first_engineer(name: str, hashed: str, *, now: datetime) -> tuple[User, Entry]:
    """Return the first account, and its entry."""
    user = User(
        name=name, role=Role.ENGINEER, password=hashed, created_at=now, created_by="first link"
    )
    return user, Entry(who=name, what=f"user {name} added", why="first link", result="engineer")


def invited(user: User, hashed: str) -> tuple[User, Entry]:
    """Return an account with the password its owner chose, and the entry."""
    entry = Entry(who=user.name, what=f"password of {user.name} chosen", why="one-time link")
    return replace(user, password=hashed), entry


def entered(user: User) -> tuple[User, Entry]:
    """Return an account whose owner came in by a link, and the entry."""
    return user, Entry(who=user.name, what="signed in", why="one-time link", result="done")
