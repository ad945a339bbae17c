"""Live pages: one stream for each page, every change rendered once in each language and sent to all who look.

The store is looked at while somebody watches, whichever process writes it. A viewer has a position in a short
list of changes and no queue of its own: one that is too slow, or was away, is told everything instead. Nobody's
slowness costs memory, and a viewer that takes nothing is let go.
"""

import asyncio
import secrets
import zlib
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, FastAPI, Header
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from openami.headend.accounts import Role
from openami.headend.assets import FeederAssets
from openami.headend.balance import Balance
from openami.headend.balancing import Balancing
from openami.headend.store import Tally
from openami.headend.web.admission import declares, in_scope
from openami.headend.web.balances import balancing_of
from openami.headend.web.console.energy_chart import energy_chart
from openami.headend.web.console.feeder_view import FeederView, hours_over, look
from openami.headend.web.console.houses import House
from openami.headend.web.console.line_diagram import line_diagram
from openami.headend.web.console.rendering import environment, saves_data, speech_of
from openami.headend.web.console.village_map import village_map
from openami.headend.web.problems import Problem
from openami.headend.web.site import Site, site_of

# A reading is 15 minutes old when it comes; five seconds more are nothing, and cost a query and no more.
LOOK_EVERY_S: Final = 5.0
# What turns without any message: a meter that falls silent, a quarter hour that closes.
LOOK_ANYWAY_S: Final = 60.0
# A page shows what somebody else was shown a moment ago, but what a person has just changed is there.
PAGE_OLD_S: Final = 1.0
# A small village's balance is there at once; a large one's comes by the stream, or with the next page.
BALANCE_WAITED_S: Final = 0.1
# A page says "not live" after two and a half of them. A beat is 15 bytes.
BEAT_S: Final = 15.0
# Five minutes of a village of 200 meters; who was away longer is told everything: 8 KB.
CHANGES_KEPT_MAX: Final = 64
# Feeders of which a view is kept: 500 meters are some 300 KB.
FEEDERS_KEPT_MAX: Final = 32
# Each viewer has a connection, 64 KB of socket buffer and 40 KB of compressor: 5 MB in all.
VIEWERS_MAX: Final = 50
# A stream is joined anew by its page, so that nothing of it grows for days.
STREAM_LASTS_S: Final = 900.0
# Whoever is disabled, signs out or loses the feeder sees no more of it after that: two questions by key a minute.
ADMITTED_AGAIN_S: Final = 30.0
# A phone that takes nothing for so long is out of reach; it joins again when it can.
SEND_S_MAX: Final = 30.0
# A window of 4 KB finds what rows have in common; zlib's own 32 KB would cost eight times the memory.
_WINDOW_BITS: Final = 16 + 12
_MEMORY_LEVEL: Final = 5
_GZIP_LEVEL: Final = 6

router = APIRouter(include_in_schema=False)


@dataclass(slots=True)
class Told:
    """One change, or everything: made into bytes when the first viewer of a language takes it."""

    number: int
    view: FeederView
    houses: Sequence[House]
    sections: frozenset[str]
    bytes_by_language: dict[str, bytes] = field(default_factory=dict)

    def said(self, language: str, boot: str) -> bytes:
        """Return it as an event of the stream."""
        known = self.bytes_by_language.get(language)
        if known is None:
            text = (
                environment(language)
                .get_template("live_feeder.html")
                .render(
                    view=self.view,
                    zone=self.view.assets.feeder.zone,
                    now=self.view.looked_at,
                    houses=self.houses,
                    sections=self.sections,
                    chart=energy_chart(self.view.day) if "energy" in self.sections else None,
                    drawing=line_diagram(self.view.assets, self.view.houses)
                    if "diagram" in self.sections
                    else None,
                    map=village_map(self.view.assets, self.view.houses)
                    if "diagram" in self.sections
                    else None,
                )
            )
            lines = (line.strip() for line in text.splitlines())
            data = "\n".join(f"data: {line}" for line in lines if line)
            known = f"id: {boot}-{self.number}\n{data}\n\n".encode()
            self.bytes_by_language[language] = known
        return known


ALL_SECTIONS: Final = frozenset({"figures", "diagram", "energy", "chips", "broker"})
_BEAT: Final = b"event: beat\ndata:\n\n"


class Watched:
    """A feeder somebody looks at: its latest view, and what changed of it lately."""

    def __init__(
        self, site: Site, balancing: Balancing, feeder_id: str, *, balance_waited_s: float
    ) -> None:
        self._site = site
        self._balancing = balancing
        self._balance_waited_s = balance_waited_s
        self._feeder_id = feeder_id
        self._turn = asyncio.Lock()
        self._view: FeederView | None = None
        self._looked_at = self._day_at = 0.0
        self._tally: Tally | None = None
        self._changes: deque[Told] = deque(maxlen=CHANGES_KEPT_MAX)
        self._whole: Told | None = None
        self._reckoning: asyncio.Task[Balance] | None = None
        self._balance: Balance | None = None
        self.number = 0

    async def look(self, *, at_most_old_s: float, unless_told: bool = True) -> FeederView:
        """Return the feeder as it was at most so many seconds ago, and keep what changed.

        ``unless_told``: as long as no message comes, LOOK_ANYWAY_S ago is soon enough.
        """
        async with self._turn:
            now = self._site.clock.boottime()
            age = now - self._looked_at
            if self._view is not None and age < at_most_old_s:
                return self._view
            tally = await self._site.store.totals()
            reckoned = self._reckoning is not None and self._reckoning.done()
            untold = unless_told and tally == self._tally and age < LOOK_ANYWAY_S and not reckoned
            if self._view is not None and untold:
                return self._view
            day = self._view.day if self._view and now - self._day_at < LOOK_ANYWAY_S else None
            view = await look(self._site, self._feeder_id, day=day, balance_of=self._reckoned)
            if view.day is not day:
                self._day_at = now
            self._tally, self._looked_at = tally, now
            if self._view is not None:
                self._keep(self._view, view)
            self._view = view
            return view

    async def _reckoned(self, assets: FeederAssets, now: datetime) -> Balance | None:
        """Return today's balance; while a new one is being drawn up, the one before.

        It takes a second or two for a large village: no page waits for that, the stream brings it.
        """
        if self._reckoning is None and (span := hours_over(assets, now)) is not None:
            drawn_up = self._balancing.balance(self._feeder_id, *span, now=now)
            self._reckoning = asyncio.create_task(drawn_up, name=f"balance of {self._feeder_id}")
        if self._reckoning is not None:
            await asyncio.wait({self._reckoning}, timeout=self._balance_waited_s)
            if self._reckoning.done():
                reckoning, self._reckoning = self._reckoning, None
                self._balance = reckoning.result()
        return self._balance

    def close(self) -> None:
        """Give up what is being drawn up."""
        if self._reckoning is not None:
            self._reckoning.cancel()

    def _keep(self, before: FeederView, view: FeederView) -> None:
        houses = view.changed_since(before)
        changed = {
            "figures": view.figures != before.figures,
            "chips": view.counts != before.counts,
            "energy": view.day != before.day,
            "diagram": view.redraws(before),
            "broker": view.link != before.link,
        }
        sections = frozenset(name for name, true in changed.items() if true)
        if houses or sections:
            self.number += 1
            self._changes.append(Told(self.number, view, houses, sections))

    def since(self, number: int | None) -> Sequence[Told]:
        """Return what changed after a number; everything, where that is not known any more."""
        assert self._view is not None
        if number == self.number:
            return ()
        if (
            number is not None
            and self._changes
            and self._changes[0].number - 1 <= number < self.number
        ):
            return [told for told in self._changes if told.number > number]
        if self._whole is None or self._whole.view is not self._view:
            self._whole = Told(self.number, self._view, self._view.houses, ALL_SECTIONS)
        return (self._whole,)


class Hub:
    """Everybody who looks at this head-end."""

    def __init__(
        self,
        site: Site,
        *,
        beat_s: float = BEAT_S,
        look_every_s: float = LOOK_EVERY_S,
        balance_waited_s: float = BALANCE_WAITED_S,
        balancing: Balancing | None = None,
    ) -> None:
        """``balancing`` finds the balances; without it, one of the hub's own does."""
        self._site = site
        self._balance_waited_s = balance_waited_s
        self.beat_s = beat_s
        self.look_every_s = look_every_s
        # A position of another run of this program is worth nothing.
        self.boot = secrets.token_hex(4)
        self._watched: OrderedDict[str, Watched] = OrderedDict()
        self.viewers = 0
        self.balancing = balancing or Balancing(site.store)

    def watched(self, feeder_id: str) -> Watched:
        """Return a feeder's watch; the one nobody asked for longest is forgotten."""
        watched = self._watched.get(feeder_id)
        if watched is None:
            watched = self._watched[feeder_id] = Watched(
                self._site,
                self.balancing,
                feeder_id,
                balance_waited_s=self._balance_waited_s,
            )
        self._watched.move_to_end(feeder_id)
        while len(self._watched) > FEEDERS_KEPT_MAX:
            self._watched.popitem(last=False)[1].close()
        return watched

    def close(self) -> None:
        """Give up what is being worked at; the program ends."""
        for watched in self._watched.values():
            watched.close()

    async def looked(self, feeder_id: str) -> tuple[FeederView, str]:
        """Return a feeder as it is now, and the position a page made of it has in the stream."""
        watched = self.watched(feeder_id)
        try:
            view = await watched.look(at_most_old_s=PAGE_OLD_S, unless_told=False)
        except Problem:
            self._watched.pop(feeder_id, None)
            raise
        return view, f"{self.boot}-{watched.number}"

    def position(self, text: str) -> int | None:
        """Read a position; None for one of another run, or what is none."""
        boot, _, number = text.partition("-")
        return int(number) if boot == self.boot and number.isascii() and number.isdigit() else None

    async def stream(
        self,
        feeder_id: str,
        language: str,
        position: int | None,
        gone: "asyncio.Future[None]",
        *,
        may_look: Callable[[], Awaitable[bool]],
    ) -> AsyncIterator[bytes]:
        """Yield what is said to one viewer until they go, or may no longer look: asked every ADMITTED_AGAIN_S."""
        watched = self.watched(feeder_id)
        clock = self._site.clock
        began = beaten = admitted = clock.boottime()
        yield _BEAT
        while not gone.done() and clock.boottime() - began < STREAM_LASTS_S:
            if clock.boottime() - admitted >= ADMITTED_AGAIN_S:
                admitted = clock.boottime()
                if not await may_look():
                    return
            await watched.look(at_most_old_s=self.look_every_s * 0.9)
            for told in watched.since(position):
                yield told.said(language, self.boot)
            position = watched.number
            if clock.boottime() - beaten >= self.beat_s:
                beaten = clock.boottime()
                yield _BEAT
            await asyncio.wait({gone}, timeout=self.look_every_s)


def hub_of(request: HTTPConnection) -> Hub:
    """Return the application's hub, made when the first page is asked for."""
    hub = getattr(request.app.state, "hub", None)
    if hub is None:
        hub = Hub(site_of(request), balancing=balancing_of(request))
        request.app.state.hub = hub
    assert isinstance(hub, Hub)
    return hub


@asynccontextmanager
async def looking(app: FastAPI) -> AsyncIterator[None]:
    """Let nothing of the hub outlive the application."""
    try:
        yield
    finally:
        if (hub := getattr(app.state, "hub", None)) is not None:
            hub.close()


class EventStream(Response):
    """An answer that goes on: compressed event by event, and given up when nobody takes it."""

    media_type = "text/event-stream"

    def __init__(
        self,
        hub: Hub,
        events: Callable[["asyncio.Future[None]"], AsyncIterator[bytes]],
        *,
        compressed: bool,
    ) -> None:
        super().__init__(
            headers={
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
                **({"Content-Encoding": "gzip"} if compressed else {}),
            }
        )
        del MutableHeaders(raw=self.raw_headers)["content-length"]
        self._hub = hub
        self._events = events
        self._compressed = compressed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the viewer goes, takes nothing, or is asked to join again."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        gone = asyncio.ensure_future(_left(receive))
        packed = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL)
        self._hub.viewers += 1
        try:
            async for event in self._events(gone):
                body = event
                if self._compressed:
                    body = packed.compress(event) + packed.flush(zlib.Z_SYNC_FLUSH)
                if not await _taken(
                    send({"type": "http.response.body", "body": body, "more_body": True})
                ):
                    return
            tail = packed.flush() if self._compressed else b""
            await _taken(send({"type": "http.response.body", "body": tail, "more_body": False}))
        finally:
            self._hub.viewers -= 1
            gone.cancel()


async def _taken(sending: Awaitable[None]) -> bool:
    try:
        async with asyncio.timeout(SEND_S_MAX):
            await sending
    except TimeoutError:
        return False
    return True


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@router.get("/live/feeders/{feeder_id}")
@declares(Role.VIEWER)
async def live_feeder(
    request: Request,
    feeder_id: str,
    at: str = "",
    last_event_id: Annotated[str, Header()] = "",
    accept_encoding: Annotated[str, Header()] = "",
) -> Response:
    """Stream what changes of a feeder, from the position a page has."""
    in_scope(request, feeder_id)
    hub = hub_of(request)
    if saves_data(request):
        return Response(status_code=204)
    if hub.viewers >= VIEWERS_MAX:
        return Response(status_code=503, headers={"Retry-After": "60"})
    await hub.watched(feeder_id).look(at_most_old_s=hub.look_every_s)
    position = hub.position(last_event_id or at)
    language = speech_of(request).language

    async def may_look() -> bool:
        principal = await site_of(request).doorkeeper.principal(request)
        return principal is not None and principal.may(Role.VIEWER) and principal.sees(feeder_id)

    return EventStream(
        hub,
        lambda gone: hub.stream(feeder_id, language, position, gone, may_look=may_look),
        compressed="gzip" in accept_encoding,
    )
