"""Who a person or a program is to the head-end, and what it may do.

A *sign-in* is a person's presence at the console; a *session* is a SIP session with a gateway. The two words are
never exchanged for one another.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Final

# What was proved five minutes ago is still the same person at the keyboard.
STEP_UP_VALID: Final = timedelta(minutes=5)


class Role(IntEnum):
    """What an account may do; each may do what the one before may."""

    VIEWER = 1
    """Sees."""
    OPERATOR = 2
    """Orders relays within policy, opens sessions, replays rejected messages, acknowledges alarms."""
    ENGINEER = 3
    """Changes assets, users, tokens, keys and settings."""

    @property
    def word(self) -> str:
        """Return the role as it is written everywhere."""
        return self.name.lower()


class Means(StrEnum):
    """How somebody has shown who they are."""

    SIGN_IN = "sign-in"
    TOKEN = "token"  # noqa: S105 - a means, not a secret
    PROXY = "proxy"


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever makes a request, after they have shown who they are."""

    name: str
    role: Role
    means: Means
    feeders: frozenset[str] | None = None
    """The feeders they may see and touch; None for all."""
    proved_at: datetime | None = None
    """When they last proved it with a password (and a code, where they have one); a token proves nothing."""
    language: str | None = None
    """The language they chose; None for what their browser asks for."""
    means_id: str = ""
    """Which sign-in or token it is, as the audit log names it; never the secret."""
    relays: bool = False
    """Whether it is a token that was made, by an engineer who proved themselves, to order relays."""
    accounts: bool = False
    """Whether it is a token that was made in the same way to change accounts."""
    maker: str = ""
    """Who made the token; empty for a person."""

    @property
    def person(self) -> str:
        """Return the person who answers for what is asked: of a token, whoever made it."""
        return self.maker or self.name

    def sees(self, feeder_id: str) -> bool:
        """Return whether a feeder is within their scope."""
        return self.feeders is None or feeder_id in self.feeders

    def may(self, role: Role) -> bool:
        """Return whether they have this role or a greater one."""
        return self.role >= role

    def may_order_relays(self, now: datetime) -> bool:
        """Return whether they have the role, and stepped up or were made for it: for a program's orders only."""
        return self.may(Role.OPERATOR) and (self.relays or self.stepped_up(now))

    def may_change_accounts(self, now: datetime) -> bool:
        """Return whether they are an engineer of every feeder, and stepped up or were made for it."""
        may = self.may(Role.ENGINEER) and self.feeders is None
        return may and (self.accounts or self.stepped_up(now))

    def stepped_up(self, now: datetime) -> bool:
        """Return whether they proved themselves so lately that they may move a relay or change a key."""
        return self.proved_at is not None and now - self.proved_at <= STEP_UP_VALID
