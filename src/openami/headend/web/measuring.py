"""Counts and times every request, and gives each its span: around everything else that answers."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openami.headend.metrics import HeadendMetrics
from openami.headend.tracing import Tracing

# Whatever a stranger writes where the method stands, the series are these.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Whatever answers: a function, or a mounted application.
Endpoint = Any
_NO_ROUTE: Final = "none"
_INTERNAL_ERROR: Final = 500


def patterns(routes: Sequence[BaseRoute]) -> dict[Endpoint, str]:
    """Return each endpoint's path as it was declared, with the prefixes of the routers around it."""
    return {
        context.original_route.endpoint: context.path
        for context in iter_route_contexts(routes)
        if isinstance(context.original_route, Route) and context.path is not None
    }


class Measured:
    """ASGI middleware. Routes are told by their pattern: a path has serials and ids in it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        patterns: Mapping[Endpoint, str],
        metrics: HeadendMetrics,
        tracing: Tracing,
    ) -> None:
        self._app = app
        self._patterns = patterns
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
                route = self._patterns.get(scope.get("endpoint"), _NO_ROUTE)
                # A live stream has answered when it begins, not when the page is closed.
                ended_s = clock() if answered_s is None else answered_s
                self._metrics.web_seconds.labels(route=route).observe(ended_s - began_s)
                self._metrics.web_requests.labels(route, method, str(status)).inc()
                span.name(f"{method} {route}")
                span.tell({"http.route": route, "http.response.status_code": status})
