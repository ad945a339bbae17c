"""The console in one process, over a given store, for a given person."""

import weakref
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.requests import HTTPConnection
from tests.headend.web.browser import Hand
from tests.headend.web.lent_app import lent_app
from tests.headend.web.village import NOW

from openami.headend.accounts import Means, Principal, Role
from openami.headend.store.commands import HeadEndStore
from openami.headend.web.console.live import Hub
from openami.headend.web.site import BrokerLink, Site
from openami.profile import shipped_catalogue

ASHA = Principal("asha", Role.OPERATOR, Means.SIGN_IN)


@dataclass
class Bench:
    """Pages under test: whoever comes is `who`."""

    store: HeadEndStore
    who: Principal | None = ASHA
    clock: Hand = field(default_factory=lambda: Hand(NOW))
    link: BrokerLink = field(default_factory=lambda: BrokerLink(heard=True, since=NOW))
    app: Any = None

    def __post_init__(self) -> None:
        # Weakly, so that the application is lent on as soon as the bench is let go of.
        me: Bench = weakref.proxy(self)
        link: Callable[[], BrokerLink] = lambda: me.link  # noqa: E731
        self.site = Site(
            store=self.store,
            clock=self.clock,
            catalogue=shipped_catalogue(),
            doorkeeper=me,
            link=link,
            can_command=True,
        )
        lending = ExitStack()
        self.app = lending.enter_context(lent_app(self.site))
        weakref.finalize(self, lending.close)
        # However busy the machine that tests: the balance is there.
        self.app.state.hub = Hub(self.site, balance_waited_s=10)

    async def principal(self, request: HTTPConnection) -> Principal | None:
        return self.who

    async def get(self, path: str, *, host: str = "localhost", **headers: str) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return await client.get(path, headers=named)
