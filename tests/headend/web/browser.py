"""A head-end's web in one process over a real store, and the browsers and programs that visit it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from tests.headend.web.lent_app import lent_app

from openami.headend.accounts import Role
from openami.headend.accounts.passwords import Hasher
from openami.headend.accounts.proxy import ProxyRules
from openami.headend.accounts.users import User
from openami.headend.audit import Entry
from openami.headend.broker_link import BrokerLink
from openami.headend.store.commands import HeadEndStore
from openami.headend.web.doorkeeper import AccountsDoorkeeper
from openami.headend.web.sign_in_desk import SignInDesk
from openami.headend.web.site import Site
from openami.profile import shipped_catalogue

NOW = datetime(2026, 6, 22, 8, 0, tzinfo=UTC)
HOST = "head-end.test"
PASSWORD = "correct horse battery"
HOME = "/account"
"""A page that everybody who is signed in may see."""


@dataclass
class Hand:
    """A clock that a test turns."""

    at: datetime = NOW

    def now(self) -> datetime:
        return self.at

    def boottime(self) -> float:
        return self.at.timestamp()

    def synchronised(self) -> bool:
        return True

    def turn(self, **by: float) -> None:
        self.at += timedelta(**by)


@dataclass
class QuickHasher:
    """Keeps passwords as argon2 would, in no time, and counts its work."""

    worked: list[str] = field(default_factory=list)
    dated: set[str] = field(default_factory=set)

    def hash(self, password: str) -> str:
        return f"hash of {password}"

    def fits(self, password: str, kept: str) -> bool:
        self.worked.append(kept)
        return kept in (f"hash of {password}", f"old hash of {password}")

    def is_dated(self, kept: str) -> bool:
        return kept.startswith("old ")


@dataclass
class Premises:
    """The web under test and what it stands on."""

    store: HeadEndStore
    clock: Hand
    hasher: Hasher
    door: AccountsDoorkeeper
    desk: SignInDesk
    site: Site
    app: Any

    def browser(self, *, address: str = "10.0.0.7", **headers: str) -> "Browser":
        return Browser(self, address, headers)

    async def has_user(self, name: str = "ada", role: Role = Role.ENGINEER, **members: Any) -> User:
        """Make an account whose password is PASSWORD."""
        made = {
            "password": f"hash of {PASSWORD}",
            "created_at": self.clock.now(),
            "created_by": "test",
        }
        user = User(name=name, role=role, **{**made, **members})
        assert await self.store.add_user(user, Entry(who="test", what=f"user {name} added"))
        return user

    async def audited(self) -> list[str]:
        return [f"{link.entry.who}: {link.entry.what}" for link in await self.store.audit_links()]


class Browser:
    """One browser at one address: it keeps cookies, and says with every form where it comes from."""

    def __init__(self, premises: Premises, address: str, headers: Mapping[str, str]) -> None:
        self._premises = premises
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(premises.app, client=(address, 4711)),
            base_url=f"http://{HOST}",
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )

    async def get(self, path: str, **more: Any) -> httpx.Response:
        return await self.client.get(path, **more)

    async def post(self, path: str, *, origin: str | None = f"http://{HOST}", **form: str) -> Any:
        headers = {} if origin is None else {"origin": origin}
        return await self.client.post(path, data=form, headers=headers)

    async def sign_in(self, name: str = "ada", password: str = PASSWORD, **more: str) -> Any:
        return await self.post("/sign-in", name=name, password=password, **more)

    @property
    def secret(self) -> str:
        """The sign-in it has, as a thief would copy it."""
        return self.client.cookies.get(self._premises.door.cookie) or ""

    @secret.setter
    def secret(self, value: str) -> None:
        self.client.cookies.clear()
        self.client.cookies.set(self._premises.door.cookie, value, domain=HOST.split(":")[0])

    async def is_in(self) -> bool:
        return (await self.get(HOME)).status_code == 200


@asynccontextmanager
async def premises(
    store: HeadEndStore,
    *,
    hasher: Hasher | None = None,
    proxy: ProxyRules | None = None,
    secure: bool = False,
) -> AsyncIterator[Premises]:
    clock, hasher = Hand(), hasher or QuickHasher()
    door = AccountsDoorkeeper(store, clock, secure=secure, proxy=proxy, proxy_host=HOST)
    desk = SignInDesk(store, clock, door, hasher)
    site = Site(
        store=store,
        clock=clock,
        catalogue=shipped_catalogue(),
        doorkeeper=door,
        link=lambda: BrokerLink(True, NOW),
        can_command=True,
        secure=secure,
        desk=desk,
    )
    try:
        with lent_app(site) as app:
            yield Premises(store, clock, hasher, door, desk, site, app)
    finally:
        desk.close()
