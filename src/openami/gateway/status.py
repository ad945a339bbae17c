"""What the gateway tells on its own LAN: one page for a phone, health checks, metrics. Read-only.

The walk of commissioning stands beside it (`commissioning.web`), where ticking costs a sign-in (decision 0062).

    /          the page: meters, what waits, how long the room lasts, clock, broker
    /healthz   200 while the process lives
    /readyz    200 while it can do its work (store readings), else 503; JSON with each check
    /metrics   for Prometheus
    /version   which program this is

The page needs no second host and no sign-in, and shows no secret: what a person beside the pole
can read off the meters, and how the gateway is doing. Everything in it is escaped.
"""

import socket
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from openami import __version__
from openami.gateway.metrics import GatewayMetrics
from openami.gateway.snapshot import CheckState, Snapshot
from openami.gateway.status_page import status_page
from openami.web_server import WebServer

TakeSnapshot = Callable[[], Awaitable[Snapshot]]

# A phone, a scraper, a few browsers of the team; more at once is somebody's loop.
CONNECTIONS_MAX: Final = 32
# A connection that says nothing is closed; phones leave many behind.
KEEP_ALIVE_S: Final = 5
# The end does not wait longer for a phone that reads slowly.
END_TIMEOUT_S: Final = 2
_NO_STORE: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'; form-action 'none'",
}
WALK_HEADERS: Final = {
    **_NO_STORE,
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'; form-action 'self'",
    # Not no-referrer: with it a browser sends no Origin with our own forms, and it is asked for.
    "Referrer-Policy": "same-origin",
}
"""Of the pages a person presses something on."""
_PAGE_HEADERS: Final = {
    **_NO_STORE,
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src data:; frame-ancestors 'none'; form-action 'none'",
}
"""Of the page that renews itself."""
_CACHED: Final = {"Cache-Control": "max-age=3600", "X-Content-Type-Options": "nosniff"}
_SERVICE_UNAVAILABLE = 503


def status_app(
    take_snapshot: TakeSnapshot, metrics: GatewayMetrics, *, more: Sequence[Route] = ()
) -> Starlette:
    """Return the application that answers the paths above, and ``more``."""

    async def page(_: Request) -> Response:
        return Response(
            status_page(await take_snapshot()), media_type="text/html", headers=_PAGE_HEADERS
        )

    files = resources.files("openami.gateway")
    style_sheet = files.joinpath("status.css").read_bytes()
    script_text = files.joinpath("status.js").read_bytes()

    async def style(_: Request) -> Response:
        return Response(style_sheet, media_type="text/css", headers=_CACHED)

    async def script(_: Request) -> Response:
        return Response(script_text, media_type="text/javascript", headers=_CACHED)

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"}, headers=_NO_STORE)

    async def readyz(_: Request) -> Response:
        snapshot = await take_snapshot()
        failed = snapshot.state is CheckState.FAIL
        return JSONResponse(
            _readiness(snapshot),
            status_code=_SERVICE_UNAVAILABLE if failed else 200,
            headers=_NO_STORE,
        )

    async def metrics_text(request: Request) -> Response:
        accept = request.headers.get("accept", "")
        content, content_type = metrics.rendered(await take_snapshot(), accept)
        return Response(content, headers={**_NO_STORE, "Content-Type": content_type})

    async def version(_: Request) -> Response:
        return JSONResponse({"version": __version__}, headers=_NO_STORE)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/style.css", style),
            Route("/status.js", script),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics_text),
            Route("/version", version),
            *more,
        ]
    )


def _readiness(snapshot: Snapshot) -> dict[str, object]:
    return {
        "status": snapshot.state,
        "checks": [
            {"name": check.name, "status": check.state, "detail": check.detail}
            for check in snapshot.checks
        ],
    }


async def serve(app: Starlette, listener: socket.socket) -> None:
    """Answer on a socket that listens already, until cancelled."""
    server = WebServer(
        app, connections_max=CONNECTIONS_MAX, keep_alive_s=KEEP_ALIVE_S, end_s_max=END_TIMEOUT_S
    )
    await server.answer(listener)
