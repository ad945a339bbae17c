"""The console's table of contents: what there is to go to, for whom, and how much waits there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.routing import Match

from openami.headend.accounts import Principal, Role
from openami.headend.store.waiting import Waiting
from openami.headend.web.site import site_of


def _(text: str) -> str:
    """Mark a word to be translated where it is shown."""
    return text


@dataclass(frozen=True, slots=True)
class Place:
    """A page of the first rank."""

    path: str
    name: str
    first: bool = False
    """Whether it stands in the bar; the others are under More."""
    role: Role = Role.VIEWER
    counts: str | None = None
    """Which of `Waiting` is shown beside it."""


PLACES: Final = (
    Place("/feeders", _("Feeders"), first=True),
    Place("/meters", _("Meters"), first=True),
    Place("/alarms", _("Alarms"), first=True, counts="alarms"),
    Place("/commands", _("Commands"), first=True, counts="commands"),
    Place("/gateways", _("Gateways"), first=True),
    Place("/rejected", _("Rejected"), first=True, counts="rejected"),
    Place("/events", _("Events")),
    Place("/balance", _("Balance")),
    Place("/completeness", _("Completeness")),
    Place("/sessions", _("Sessions")),
    Place("/assets", _("Assets")),
    Place("/exports", _("Exports")),
    Place("/audit", _("Audit log")),
    Place("/users", _("Users and tokens"), role=Role.ENGINEER),
    Place("/help", _("Help")),
)


@dataclass(frozen=True, slots=True)
class Item:
    """A place as one page shows it."""

    path: str
    name: str
    first: bool
    here: bool
    waiting: int


async def count_waiting(request: Request) -> None:
    """Count for the bar what waits: a dependency of every page, so that pages are made without asking."""
    principal = getattr(request.state, "principal", None)
    if principal is None or request.method != "GET":
        return
    request.state.waiting = await site_of(request).store.waiting(principal.feeders)


def navigation(request: Request, principal: Principal | None) -> Sequence[Item]:
    """Return the places a person can go to from a page; none for a stranger."""
    if principal is None:
        return ()
    waiting = getattr(request.state, "waiting", Waiting())
    there = _there(request)
    here = max(
        (place.path for place in PLACES if _within(request.url.path, place.path)),
        key=len,
        default="",
    )
    return [
        Item(
            place.path,
            place.name,
            place.first,
            place.path == here,
            getattr(waiting, place.counts) if place.counts else 0,
        )
        for place in PLACES
        if place.path in there and principal.may(place.role)
    ]


def _within(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place}/")


def has_page(request: Request, path: str) -> bool:
    """Return whether this application answers a path with a page."""
    scope = {"type": "http", "method": "GET", "headers": [], "root_path": "", "path": path}
    return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)


def _there(request: Request) -> frozenset[str]:
    """Return the places this application has a page for: looked up once."""
    state = request.app.state
    known = getattr(state, "places", None)
    if known is None:
        known = frozenset(place.path for place in PLACES if has_page(request, place.path))
        state.places = known
    assert isinstance(known, frozenset)
    return known
