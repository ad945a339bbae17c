"""Counts and times every request, and gives each its span: around everything else that answers."""

import asyncio
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openami.headend.metrics import HeadendMetrics
from openami.headend.tracing import Tracing

# Whatever a stranger writes where the method stands, the series are these.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_NO_ROUTE: Final = "none"
_INTERNAL_ERROR: Final = 500


class Measured:
    """ASGI middleware. Routes are told by their pattern: a path has serials and ids in it."""

    def __init__(self, app: ASGIApp, *, metrics: HeadendMetrics, tracing: Tracing) -> None:
        self._app = app
        self._metrics = metrics
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "other"
        status = _INTERNAL_ERROR
        clock = asyncio.get_running_loop().time
        began_s = clock()
        answered_s: float | None = None

        async def sending(message: Message) -> None:
            nonlocal status, answered_s
            if message["type"] == "http.response.start":
                status = message["status"]
                answered_s = clock()
            await send(message)

        with (
            self._metrics.web_in_progress.track_inprogress(),
            self._tracing.span(method, {"http.request.method": method}, kind="server") as span,
        ):
            try:
                await self._app(scope, receive, sending)
            finally:
                route = _route(scope)
                # A live stream has answered when it begins, not when the page is closed.
                ended_s = clock() if answered_s is None else answered_s
                self._metrics.web_seconds.labels(route=route).observe(ended_s - began_s)
                self._metrics.web_requests.labels(route, method, str(status)).inc()
                span.name(f"{method} {route}")
                span.tell({"http.route": route, "http.response.status_code": status})


def _route(scope: Scope) -> str:
    """Return the pattern of the route that was found; one name for all that lead nowhere."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else _NO_ROUTE
