"""The walk's routes: thin, over the view, the presses and the pages (decision 0062).

Reading is open to the LAN as the status page is. Every press is a POST that has to come from our own page and from
a phone that is signed in.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from openami.gateway.commissioning import pages
from openami.gateway.commissioning.door import Door, read_form
from openami.gateway.commissioning.frame import Frame
from openami.gateway.commissioning.hour_page import hour_page
from openami.gateway.commissioning.ledger import LedgerFull, Standing
from openami.gateway.commissioning.presses import Act, Ask, Form, Presses
from openami.gateway.commissioning.view import View
from openami.gateway.database import DatabaseError
from openami.same_origin import comes_from_us
from openami.sip.commissioning import open_points

_SEE_OTHER: Final = 303
_FORBIDDEN: Final = 403
_NOT_FOUND: Final = 404
_TOO_LARGE: Final = 413
_SERVICE_UNAVAILABLE: Final = 503

_log = structlog.get_logger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]


class Walk:
    """The pages, and the forms on them."""

    def __init__(self, view: View, ask: Ask, headers: Mapping[str, str]) -> None:
        self._view = view
        self._presses = Presses(view, ask)
        self._door = Door(view.database, view.clock)
        self._headers = headers
        self._said = ""
        """What the signed-in phone is told next: there is one at a time."""

    @property
    def routes(self) -> list[Route]:
        """The routes, to stand beside the status page's."""
        shown = {
            "/walk": self._list,
            "/walk-meter": self._meter,
            "/walk-hour": self._hour,
            "/walk-sign-in": self._sign_in_form,
        }
        return [
            *(Route(path, self._shown(page), methods=["GET"]) for path, page in shown.items()),
            Route("/walk-sign-in", self._shown(self._of_ours(self._sign_in)), methods=["POST"]),
            *(
                Route(f"/{name}", self._of_ours(self._pressed(act)), methods=["POST"])
                for name, act in self._presses.by_name.items()
            ),
        ]

    # --- what is shown ---------------------------------------------------------------------------

    async def _list(self, request: Request) -> Response:
        standing, meters = await self._view.meters()
        frame = self._frame(request, standing)
        return self._page(pages.list_page(frame, meters, standing.swapped))

    async def _meter(self, request: Request) -> Response:
        standing, meters = await self._view.meters()
        serials = [meter.serial for meter in meters]
        asked = request.query_params.get("meter", "")
        if asked not in serials:
            return self._no("no such meter", _NOT_FOUND)
        at = serials.index(asked)
        following = serials[at + 1] if at + 1 < len(serials) else None
        return self._page(pages.meter_page(self._frame(request, standing), meters[at], following))

    async def _hour(self, request: Request) -> Response:
        standing = await self._view.standing()
        frame = self._frame(request, standing)
        content = await self._view.content(standing, frame.by or "nobody")
        page = hour_page(
            frame,
            began_at=standing.hour_began_at,
            acceptance=content.acceptance,
            still_open=open_points(content),
        )
        return self._page(page)

    async def _sign_in_form(self, request: Request) -> Response:
        standing = await self._view.standing()
        return self._page(pages.sign_in_page(self._frame(request, standing)))

    # --- what is pressed -------------------------------------------------------------------------

    async def _sign_in(self, request: Request, form: Form) -> Response:
        answer = self._see("walk")
        refused = await self._door.let_in(form, answer)
        if not refused:
            return answer
        frame = Frame(
            gateway_id=self._view.gateway_id, now=self._view.clock.now(), by=None, said=refused
        )
        return self._page(pages.sign_in_page(frame))

    def _pressed(self, act: Act) -> Callable[[Request, Form], Awaitable[Response]]:
        """Return what admits the signed-in phone alone, and shows the page that ``act`` names."""

        async def endpoint(request: Request, form: Form) -> Response:
            try:
                by = self._door.who(request, await self._view.standing())
                if by is None:
                    return self._see("walk-sign-in")
                pressed = await act(form, by)
            except (LedgerFull, DatabaseError, OSError) as error:
                _log.error("walk not kept", reason=str(error))
                self._said = f"Not kept: {error}."
                return self._see("walk")
            self._said = pressed.said
            return self._see(pressed.page)

        return endpoint

    def _of_ours(self, endpoint: Callable[[Request, Form], Awaitable[Response]]) -> Endpoint:
        """Return an endpoint that takes our own pages' forms alone."""

        async def guarded(request: Request) -> Response:
            if not comes_from_us(request):
                return self._no("not from our own page", _FORBIDDEN)
            form = await read_form(request)
            if form is None:
                return self._no("longer than any form of ours", _TOO_LARGE)
            return await endpoint(request, form)

        return guarded

    def _shown(self, page: Endpoint) -> Endpoint:
        """Return an endpoint that says what is wrong where the disk or the configuration cannot be read."""

        async def endpoint(request: Request) -> Response:
            try:
                return await page(request)
            except (DatabaseError, OSError) as error:
                _log.error("walk not shown", reason=str(error))
                return self._no(f"not now: {error}", _SERVICE_UNAVAILABLE)

        return endpoint

    # --- answers ---------------------------------------------------------------------------------

    def _frame(self, request: Request, standing: Standing) -> Frame:
        by, said = self._door.who(request, standing), ""
        if by is not None:
            said, self._said = self._said, ""
        now = self._view.clock.now()
        return Frame(gateway_id=self._view.gateway_id, now=now, by=by, said=said)

    def _page(self, text: str) -> Response:
        return Response(text, media_type="text/html", headers=self._headers)

    def _see(self, where: str) -> Response:
        return RedirectResponse(where, status_code=_SEE_OTHER, headers=self._headers)

    def _no(self, why: str, status_code: int) -> Response:
        return Response(why, status_code, self._headers, media_type="text/plain")
