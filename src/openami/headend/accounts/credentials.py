"""What is shown as proof: a sign-in's cookie, an API token, a one-time link. Pure.

Each is 256 bits of chance, so its SHA-256 can be kept in its place: who reads the store cannot sign in with
what it says, and there is nothing to be slow about, as there is with a password.
"""

import zlib
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Final

from openami.headend.accounts import Role
from openami.headend.accounts.users import AccountError, User
from openami.headend.audit import Entry

SECRET_BYTES: Final = 32  # 256 bits: beyond all guessing
TOKEN_PREFIX: Final = "oami_"  # noqa: S105 - what a scanner for leaked secrets looks for
# A shift and the way home; a phone in a drawer is signed out the next morning.
SIGN_IN_IDLE_HOURS: Final = 12
# Once a week everybody shows the password again, however busy they are.
SIGN_IN_DAYS: Final = 7
# A row is not written for every page: within 12 hours, five minutes are exact enough.
SEEN_EVERY_MINUTES: Final = 5
# A browser that says more of itself is cut: it is for a person to recognise.
AGENT_CHARS_MAX: Final = 160
# A token somebody forgot stops working within a year and a day; most are asked for a quarter.
TOKEN_DAYS_MAX: Final = 366
TOKEN_DAYS: Final = 90
# What tells one token from another in a list.
LABEL_CHARS_MAX: Final = 60
# From the terminal that printed it to the browser beside it.
FIRST_LINK_HOURS: Final = 1
# Sent to a colleague who opens it tomorrow.
INVITE_HOURS: Final = 48

RandomBytes = Callable[[int], bytes]


class Kind(StrEnum):
    """What a secret opens. It goes into the digest: a token is no cookie, whatever its letters."""

    SIGN_IN = "sign-in"
    TOKEN = "token"  # noqa: S105 - a kind, not a secret
    LINK = "link"


def new_secret(random: RandomBytes) -> str:
    """Return a new secret's text: 43 letters that stand in a cookie and in a URL."""
    return urlsafe_b64encode(random(SECRET_BYTES)).rstrip(b"=").decode()


def new_token(random: RandomBytes) -> str:
    """Return a new API token: prefix, secret, checksum."""
    body = new_secret(random)
    return f"{TOKEN_PREFIX}{body}{_checksum(body)}"


def is_token(text: str) -> bool:
    """Return whether a text can be a token: a mistyped one is told without asking the store."""
    body, checksum = text[len(TOKEN_PREFIX) : -8], text[-8:]
    return text.startswith(TOKEN_PREFIX) and text.isascii() and _checksum(body) == checksum


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"


def digest_of(kind: Kind, secret: str) -> str:
    """Return what the store keeps in the place of a secret."""
    return sha256(f"{kind}\0{secret}".encode("utf-8", "surrogatepass")).hexdigest()


# --- sign-ins ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """A person's presence at the console, in one browser."""

    digest: str
    user_name: str
    created_at: datetime
    """When this presence began; it survives the exchange of its secret."""
    seen_at: datetime
    proved_at: datetime
    """When the password was last shown."""
    address: str
    agent: str

    @property
    def id(self) -> str:
        """Return what it is called in lists and in the audit log: not enough to be it."""
        return self.digest[:12]

    def holds(self, now: datetime) -> bool:
        """Return whether it is still in force."""
        return now - self.seen_at <= timedelta(
            hours=SIGN_IN_IDLE_HOURS
        ) and now - self.created_at <= timedelta(days=SIGN_IN_DAYS)

    def wants_noting(self, now: datetime) -> bool:
        """Return whether it is time to write down that they are still there."""
        return now - self.seen_at >= timedelta(minutes=SEEN_EVERY_MINUTES)


# --- tokens --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A program's permission to use the API."""

    id: str
    """What it is called in lists and in the audit log."""
    digest: str
    label: str
    role: Role
    feeders: frozenset[str] | None
    created_at: datetime
    created_by: str
    expires_at: datetime
    used_at: datetime | None = None
    revoked_at: datetime | None = None
    relays: bool = False
    """Whether it may order relays: its making was the step-up that each order of a person's needs."""
    accounts: bool = False
    """Whether it may make and change accounts and tokens below an engineer's (decision 0051)."""

    def holds(self, now: datetime) -> bool:
        """Return whether it is in force."""
        return self.revoked_at is None and now < self.expires_at

    def entry_of_making(self) -> Entry:
        """Return what the audit log says of its making."""
        scope = "every feeder" if self.feeders is None else ", ".join(sorted(self.feeders))
        relays = ", may order relays" if self.relays else ""
        accounts = ", may change accounts" if self.accounts else ""
        return Entry(
            who=self.created_by,
            what=f"{self.id} made for {self.label}",
            why=f"{self.role.word}{relays}{accounts}, {scope}, until {self.expires_at:%Y-%m-%d}",
            result="done",
        )

    def wants_noting(self, now: datetime) -> bool:
        """Return whether it is time to write down that it is used."""
        return self.used_at is None or now - self.used_at >= timedelta(minutes=SEEN_EVERY_MINUTES)


def made_token(
    random: RandomBytes,
    *,
    label: str,
    role: Role,
    feeders: frozenset[str] | None,
    life: timedelta,
    now: datetime,
    who: str,
    relays: bool = False,
    accounts: bool = False,
) -> tuple[Token, str]:
    """Return a new token and its text, which is shown once and kept nowhere. Raises AccountError."""
    label = label.strip()
    if not label or len(label) > LABEL_CHARS_MAX or not label.isprintable():
        raise AccountError(
            "a token needs a label", f"say what uses it, in {LABEL_CHARS_MAX} characters at most"
        )
    if not timedelta(0) < life <= timedelta(days=TOKEN_DAYS_MAX):
        raise AccountError(f"a token holds {TOKEN_DAYS_MAX} days at most")
    if relays and role < Role.OPERATOR:
        raise AccountError("a viewer's token orders no relays", "make it an operator's")
    if accounts and (role < Role.ENGINEER or feeders is not None):
        raise AccountError(
            "accounts are for engineers of every feeder", "make it an engineer's, for every feeder"
        )
    text = new_token(random)
    digest = digest_of(Kind.TOKEN, text)
    token = Token(
        id=f"token-{digest[:12]}",
        digest=digest,
        label=label,
        role=role,
        feeders=feeders,
        created_at=now,
        created_by=who,
        expires_at=now + life,
        relays=relays,
        accounts=accounts,
    )
    return token, text


# --- one-time links ------------------------------------------------------------------------------


class LinkKind(StrEnum):
    """What a link is for."""

    FIRST = "first"
    """Makes the first engineer; dead as soon as there is an account."""
    INVITE = "invite"
    """Lets a named user choose a password."""
    ENTER = "enter"
    """Signs a named user in; the demo's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A one-time link as the store keeps it."""

    digest: str
    kind: LinkKind
    user_name: str | None
    made_at: datetime
    made_by: str
    expires_at: datetime
    used_at: datetime | None = None


_LINK_LIFE: Final = {
    LinkKind.FIRST: timedelta(hours=FIRST_LINK_HOURS),
    LinkKind.INVITE: timedelta(hours=INVITE_HOURS),
    LinkKind.ENTER: timedelta(hours=FIRST_LINK_HOURS),
}


def made_link(
    random: RandomBytes, kind: LinkKind, *, user_name: str | None, now: datetime, who: str
) -> tuple[Link, str]:
    """Return a new link and its secret, which is shown once and kept nowhere."""
    assert (user_name is None) == (kind is LinkKind.FIRST)
    secret = new_secret(random)
    link = Link(
        digest=digest_of(Kind.LINK, secret),
        kind=kind,
        user_name=user_name,
        made_at=now,
        made_by=who,
        expires_at=now + _LINK_LIFE[kind],
    )
    return link, secret


def why_dead(link: Link | None, user: User | None, users: int, now: datetime) -> str | None:
    """Return why a link opens nothing, in one sentence; None when it opens.

    ``user`` is whom it names, ``users`` how many accounts there are.
    """
    if link is None:
        return "there is no such link"
    if link.used_at is not None:
        return "this link has been used: each opens once"
    if now >= link.expires_at:
        return "this link is too old"
    if link.kind is LinkKind.FIRST:
        return "there is an account already: sign in" if users else None
    if user is None or user.disabled_at is not None:
        return "the account of this link is not in force"
    return None


def link_path(secret: str) -> str:
    """Return where the console opens a link."""
    return f"/first/{secret}"
