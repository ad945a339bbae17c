"""A head-end's web over the simulated village, as a process of its own: what a browser is pointed at.

    python -m tests.headend.web.serving_village STORE PORT [BEAT_S]

Its clock begins at the village's NOW and runs on. Everybody who comes is asha, who may see all.
"""

import asyncio
import os
import sys
from datetime import datetime, timedelta

import uvicorn
from starlette.requests import HTTPConnection
from tests.headend.web.village import NOW

from openami.clock import SystemClock
from openami.headend.accounts import Means, Principal, Role
from openami.headend.store.open import open_store
from openami.headend.web.app import build_app
from openami.headend.web.console.live import BEAT_S, LOOK_EVERY_S, Hub
from openami.headend.web.site import BrokerLink, Site
from openami.profile import shipped_catalogue


class VillageClock(SystemClock):
    """The system's clock, moved to the village's day."""

    def __init__(self) -> None:
        self._ahead = NOW - super().now()

    def now(self) -> datetime:
        return super().now() + self._ahead


class Everybody:
    """A door that is open."""

    async def principal(self, request: HTTPConnection) -> Principal | None:
        return Principal("asha", Role.OPERATOR, Means.SIGN_IN)


async def serve(path: str, port: int, beat_s: float) -> None:
    clock = VillageClock()
    async with open_store(f"sqlite:///{path}") as store:
        site = Site(
            store=store,
            clock=clock,
            catalogue=shipped_catalogue(),
            doorkeeper=Everybody(),
            link=lambda: BrokerLink(
                heard="OPENAMI_TEST_LOST" not in os.environ, since=NOW - timedelta(minutes=9)
            ),
            can_command=True,
        )
        app = build_app(site)
        app.state.hub = Hub(site, beat_s=beat_s, look_every_s=min(LOOK_EVERY_S, beat_s / 2))
        config = uvicorn.Config(
            app, host="127.0.0.1", port=port, log_level="info", timeout_graceful_shutdown=1
        )
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    given = sys.argv[1:]
    asyncio.run(serve(given[0], int(given[1]), float(given[2]) if given[2:] else BEAT_S))
