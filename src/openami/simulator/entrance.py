"""The demo's engineer: an account for the hour, and a link that lets whoever started the demo in.

The link signs in and counts as the password shown, so that a house can be switched at once. It opens once, like
every other; who comes back with another browser, or later than the step-up holds, has the password.
"""

import secrets
import socket
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from openami.headend.accounts import Role
from openami.headend.accounts.passwords import Argon2Hasher
from openami.headend.accounts.users import User, UserChange, disabled, enabled, with_password
from openami.headend.audit import Entry
from openami.headend.links import new_entrance
from openami.headend.store import Access
from openami.headend.store.open import open_store

_WHO: Final = "demo"
# Twelve letters of base64 to type, once: 72 bits.
_PASSWORD_BYTES: Final = 9
_LOOPBACK: Final = "127.0.0.1"
# Linux gives clients their ports from 32768 on: one of those could be gone when the head-end comes to take it.
_PORTS: Final = range(20_000, 32_768)
# Two or three programs listen there; whoever meets as many of them takes what the system gives.
_PORTS_TRIED_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Entrance:
    """How a person gets into the demo's console."""

    url: str
    name: str
    password: str

    @property
    def lines(self) -> tuple[str, str]:
        """Return what the person is told; the link by itself, as 80 columns have just room for it."""
        return (
            self.url,
            f"↑ open this in a browser; it opens once. Later: {self.name}, password {self.password}",
        )


def free_address() -> str:
    """Return a loopback address nothing listens on; the head-end takes it, and takes it again after its kill."""
    for _ in range(_PORTS_TRIED_MAX):
        port = secrets.choice(_PORTS)
        with suppress(OSError), socket.create_server((_LOOPBACK, port)):
            return f"{_LOOPBACK}:{port}"
    with socket.create_server((_LOOPBACK, 0)) as found:
        return f"{_LOOPBACK}:{found.getsockname()[1]}"


async def let_in(store_url: str, address: str, *, now: datetime) -> Entrance:
    """Make the account and the link. Raises StoreError."""
    password = secrets.token_urlsafe(_PASSWORD_BYTES)
    hashed = Argon2Hasher().hash(password)
    user = User(
        name=_WHO, role=Role.ENGINEER, password=hashed, created_at=now, created_by="the demo"
    )
    entry = Entry(who=_WHO, what=f"user {_WHO} added", why="the demo", result=user.role.word)
    async with open_store(store_url, Access.EDIT) as store:
        if not await store.add_user(user, entry):
            # A store that was kept from an earlier demo.
            await store.change_user(_WHO, lambda found, _: enabled(found, who=_WHO), now)
            await store.change_user(
                _WHO, lambda found, _: with_password(found, hashed, who=_WHO), now
            )
        path = await new_entrance(store, _WHO, who=_WHO, now=now)
    return Entrance(f"http://{address}{path}", _WHO, password)


async def shut_out(store_url: str, *, now: datetime) -> None:
    """Put the account out of force, in a store that outlives the demo. Raises StoreError."""

    def decide(found: User, _: int) -> UserChange | None:
        # The last engineer or not: it was never meant to stay.
        return disabled(found, others=1, now=now, who=_WHO)

    async with open_store(store_url, Access.EDIT) as store:
        await store.change_user(_WHO, decide, now)
