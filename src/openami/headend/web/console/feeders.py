"""The feeders, and one feeder's overview."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from openami.headend.accounts import Principal, Role
from openami.headend.states import MeterState, states_of
from openami.headend.web.admission import declares, in_scope, principal_of
from openami.headend.web.console.energy_chart import energy_chart
from openami.headend.web.console.houses import House, Show
from openami.headend.web.console.line_diagram import line_diagram
from openami.headend.web.console.live import hub_of
from openami.headend.web.console.rendering import page
from openami.headend.web.console.village_map import village_map
from openami.headend.web.site import Site, site_of

# Those who need somebody come first; each row costs 26 bytes of the 10 KB a page may have.
ROWS_PER_PAGE_MAX: Final = 150
# Nobody types more to find a meter.
SEARCH_CHARS_MAX: Final = 100

router = APIRouter(include_in_schema=False)

Words = Annotated[str, Query(max_length=SEARCH_CHARS_MAX)]
Start = Annotated[int, Query(ge=0)]


class Drawn(StrEnum):
    """How the feeder is drawn."""

    LINE = "line"
    MAP = "map"


@dataclass(frozen=True, slots=True)
class FeederLine:
    """A feeder in the list of feeders."""

    id: str
    name: str
    states: Mapping[MeterState, int]
    meters: int
    last_seen: datetime | None

    @property
    def silent(self) -> int:
        """Return how many of its meters are not heard."""
        return self.meters - self.states[MeterState.REPORTING] - self.states[MeterState.SUSPECT]


@router.get("/")
@declares(Role.VIEWER)
async def start(request: Request) -> Response:
    """Show the feeder, where there is only one; or the list."""
    lines = await feeder_lines(site_of(request), principal_of(request))
    if len(lines) == 1:
        return RedirectResponse(f"/feeders/{lines[0].id}", status_code=303)
    return page(request, "feeders.html", lines=lines)


@router.get("/feeders")
@declares(Role.VIEWER)
async def feeders(request: Request) -> Response:
    """Show the feeders within the person's scope, those with trouble first."""
    lines = await feeder_lines(site_of(request), principal_of(request))
    return page(request, "feeders.html", lines=lines)


async def feeder_lines(site: Site, principal: Principal) -> Sequence[FeederLine]:
    """Return the feeders a principal sees, those with silent meters first."""
    link, now = site.link(), site.clock.now()
    known_until = now if link.heard else min(now, link.since)
    gateways, meters = await site.store.gateways(), await site.store.meters()
    counted: dict[str, Counter[MeterState]] = {}
    heard: dict[str, datetime] = {}
    for meter, state in states_of(meters, gateways, now=known_until):
        counted.setdefault(meter.feeder_id, Counter())[state] += 1
        heard[meter.feeder_id] = max(heard.get(meter.feeder_id, meter.last_seen), meter.last_seen)
    lines = [
        FeederLine(feeder.id, feeder.name, states, states.total(), heard.get(feeder.id))
        for feeder in await site.store.feeder_list()
        if principal.sees(feeder.id)
        for states in (counted.get(feeder.id, Counter()),)
    ]
    return sorted(lines, key=lambda line: (-line.silent, -line.states[MeterState.SUSPECT], line.id))


@router.get("/feeders/{feeder_id}")
@declares(Role.VIEWER)
async def overview(
    request: Request,
    feeder_id: str,
    show: Show = Show.ALL,
    drawn: Drawn = Drawn.LINE,
    table: bool = False,
    q: Words = "",
    start: Start = 0,
) -> Response:
    """Show a feeder: what it gives and loses, which meter needs somebody."""
    in_scope(request, feeder_id)
    view, position = await hub_of(request).looked(feeder_id)
    matching = [house for house in view.houses if house.shown(show) and house.found_by(q)]
    plan = village_map(view.assets, view.houses)
    address = Address(feeder_id, show, drawn, table, q)
    return page(
        request,
        "overview.html",
        view=view,
        position=position,
        zone=view.assets.feeder.zone,
        chart=energy_chart(view.day),
        drawing=line_diagram(view.assets, view.houses) if drawn is Drawn.LINE or not plan else None,
        map=plan,
        houses=matching[start : start + ROWS_PER_PAGE_MAX],
        matching=len(matching),
        following=_following(address, matching, start),
        address=address,
        beat_s=hub_of(request).beat_s,
        Show=Show,
        balance=f"/balance?feeder={feeder_id}&days=1",
    )


@dataclass(frozen=True, slots=True)
class Address:
    """What an overview was asked for, and how one asks for something else."""

    feeder_id: str
    show: Show
    drawn: Drawn
    table: bool
    q: str

    def with_(self, at: str = "", **other: object) -> str:
        """Return the address of this page with something else; ``at`` is the part to look at."""
        asked = {"show": self.show, "drawn": self.drawn, "table": self.table, "q": self.q} | other
        said = {
            name: str(int(value) if isinstance(value, bool) else value)
            for name, value in asked.items()
            if value and value not in (Show.ALL, Drawn.LINE)
        }
        query = f"?{urlencode(said)}" if said else ""
        return f"/feeders/{self.feeder_id}{query}{at and '#' + at}"


def _following(address: Address, matching: Sequence[House], start: int) -> str | None:
    following = start + ROWS_PER_PAGE_MAX
    return address.with_("meters", start=following) if following < len(matching) else None
