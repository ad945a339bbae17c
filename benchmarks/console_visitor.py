"""A visitor of the console, in one process with it: whole pages, from the request to the last byte.

Everything a page needs is asked, reckoned and written as in the field, by the real application over the given
store; but there is no network, the door lets everybody in, and the clock stands.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import httpx
from starlette.requests import HTTPConnection

from openami.headend.accounts import Means, Principal, Role
from openami.headend.broker_link import BrokerLink
from openami.headend.store.commands import HeadEndStore
from openami.headend.web.app import build_app
from openami.headend.web.console.live import Hub
from openami.headend.web.site import Site
from openami.profile import shipped_catalogue

VISITOR = Principal("bench", Role.OPERATOR, Means.SIGN_IN)


@dataclass(frozen=True, slots=True)
class StandingClock:
    """A clock at the end of the year that is in the store."""

    at: datetime

    def now(self) -> datetime:
        return self.at

    def boottime(self) -> float:
        return self.at.timestamp()

    def synchronised(self) -> bool:
        return True


class OpenDoor:
    """Everybody is the visitor."""

    async def principal(self, request: HTTPConnection) -> Principal | None:
        return VISITOR


def paths(feeder: str, meter: str) -> Mapping[str, str]:
    """Return the pages by name."""
    return {
        "feeder": f"/feeders/{feeder}",
        "meters": f"/meters?feeder={feeder}",
        "meter": f"/meters/{feeder}/{meter}",
        "readings": f"/meters/{feeder}/{meter}/readings",
        "completeness": f"/completeness?feeder={feeder}",
        "alarms": "/alarms",
    }


@asynccontextmanager
async def visiting(store: HeadEndStore, at: datetime) -> AsyncIterator[httpx.AsyncClient]:
    """Yield what asks for pages of a store at a moment."""
    site = Site(
        store=store,
        clock=StandingClock(at),
        catalogue=shipped_catalogue(),
        doorkeeper=OpenDoor(),
        link=lambda: BrokerLink(True, at),
        can_command=False,
    )
    app = build_app(site)
    app.state.hub = Hub(site)
    transport = httpx.ASGITransport(app)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client
    finally:
        app.state.hub.close()
