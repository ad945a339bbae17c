"""The page, served on this machine's port: the checklist, a stream of its changes, and a few buttons.

Whoever is on the same network may look; nobody there can do more than say that something is done. A form of
another site is refused by its origin.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from openami.conformance.checklist import Checklist
from openami.conformance.page import SCRIPT, STYLE, middle, page
from openami.same_origin import comes_from_us
from openami.web_server import WebServer

# The bench's phone and laptop, each in several windows.
VIEWERS_MAX: Final = 20
CONNECTIONS_MAX: Final = 64
# What changes is shown as a person looks: a second is soon enough.
LOOK_S: Final = 1.0
# A stream that says nothing is taken for dead by proxies and phones.
BEAT_S: Final = 15.0
KEEP_ALIVE_S: Final = 5
# A stream is cut when the kit ends; its browser sees it.
END_S_MAX: Final = 1

_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # With no-referrer a browser would hide the origin of our own form as well.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def build_app(
    look: Callable[[], Checklist], buttons: Mapping[str, Callable[[], None]]
) -> Starlette:
    """Return the application; ``buttons`` are what may be said, by the words of the page's forms."""
    viewers = 0

    async def show(_: Request) -> Response:
        return HTMLResponse(page(look()), headers=_HEADERS)

    async def style(_: Request) -> Response:
        return Response(STYLE, media_type="text/css", headers=_HEADERS)

    async def script(_: Request) -> Response:
        return Response(SCRIPT, media_type="text/javascript", headers=_HEADERS)

    async def live(_: Request) -> Response:
        if viewers >= VIEWERS_MAX:
            return Response("too many look on", status_code=503, headers={"Retry-After": "30"})
        return StreamingResponse(changes(), media_type="text/event-stream", headers=_HEADERS)

    async def changes() -> AsyncIterator[bytes]:
        nonlocal viewers
        viewers += 1
        said, quiet_s = "", 0.0
        try:
            while True:
                now = middle(look())
                if now != said:
                    said, quiet_s = now, 0.0
                    lines = "".join(f"data: {line}\n" for line in now.split("\n"))
                    yield f"{lines}\n".encode()
                elif quiet_s >= BEAT_S:
                    quiet_s = 0.0
                    yield b":\n\n"
                await asyncio.sleep(LOOK_S)
                quiet_s += LOOK_S
        finally:
            viewers -= 1

    async def pressed(request: Request) -> Response:
        say = buttons.get(request.path_params["word"])
        if say is None:
            return Response("no such button", status_code=404, headers=_HEADERS)
        return _pressed(request, say)

    return Starlette(
        routes=[
            Route("/", show),
            Route("/style.css", style),
            Route("/live.js", script),
            Route("/live", live),
            Route("/{word}", pressed, methods=["POST"]),
        ]
    )


def _pressed(request: Request, say: Callable[[], None]) -> Response:
    """Take a button's word, if it was pressed on our own page."""
    if not comes_from_us(request):
        return Response("this form is not ours", status_code=403, headers=_HEADERS)
    say()
    return RedirectResponse("/", status_code=303)


async def serve(app: Starlette, listener: socket.socket) -> None:
    """Answer on a socket that listens already, until cancelled."""
    server = WebServer(
        app, connections_max=CONNECTIONS_MAX, keep_alive_s=KEEP_ALIVE_S, end_s_max=END_S_MAX
    )
    await server.answer(listener)
