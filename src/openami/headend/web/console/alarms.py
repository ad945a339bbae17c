"""Alarms and events: what a person has to look at, and the log of everything that was told."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from openami.headend.accounts import Principal, Role
from openami.headend.alarm_causes import detail_of
from openami.headend.alarms import Alarm
from openami.headend.assets import FeederAssets
from openami.headend.store.alarms import ACKNOWLEDGED_AT_ONCE_MAX, NOTE_CHARS_MAX
from openami.headend.store.pages import Wanted
from openami.headend.storms import STORM_MORE_THAN, STORM_WITHIN, Storm, fold
from openami.headend.web.admission import declares, in_scope, principal_of
from openami.headend.web.console.paging import next_page, read_key
from openami.headend.web.console.rendering import page
from openami.headend.web.problems import Problem
from openami.headend.web.site import site_of
from openami.profile import Severity

# What a page lists: what a person reads before asking for less.
LISTED_MAX: Final = 100

router = APIRouter(include_in_schema=False)


# --- alarms --------------------------------------------------------------------------------------


@router.get("/alarms")
@declares(Role.VIEWER)
async def alarms(request: Request, feeder: str = "", before: str = "") -> Response:
    """Show what stands and what is over and unseen, storms folded; then what is past."""
    store, principal = site_of(request).store, principal_of(request)
    if feeder:
        in_scope(request, feeder)
    now = site_of(request).clock.now()
    active = seen_by(principal, await store.active_alarms(feeder or None))
    assets = [await store.assets(name) for name in sorted({each.feeder_id for each in active})]
    poles = poles_of(assets, now)
    until = _moment(before)
    past = seen_by(
        principal,
        await store.past_alarms(feeder_id=feeder or None, before=until, at_most=LISTED_MAX),
    )
    return page(
        request,
        "alarms_list.html",
        standing=shown([each for each in active if each.stands], poles),
        over=shown([each for each in active if not each.stands], poles),
        past=past,
        next_page=_next(feeder, past),
        feeder=feeder,
        more_than=STORM_MORE_THAN,
        within=STORM_WITHIN,
    )


@dataclass(frozen=True, slots=True)
class Shown:
    """Alarms as a page shows them: storms, and those that stand alone."""

    storms: Sequence[Storm]
    alone: Sequence[Alarm]

    @property
    def folded(self) -> int:
        """How many alarms the storms hold."""
        return sum(storm.count for storm in self.storms)

    @property
    def count(self) -> int:
        """How many alarms there are, in storms and alone."""
        return self.folded + len(self.alone)


def shown(alarms: Sequence[Alarm], poles: Mapping[tuple[str, str], str]) -> Shown:
    """Fold alarms for a page."""
    folded = fold(alarms, poles=poles)
    return Shown(
        [each for each in folded if isinstance(each, Storm)],
        [each for each in folded if isinstance(each, Alarm)],
    )


def seen_by(principal: Principal, alarms: Iterable[Alarm]) -> list[Alarm]:
    """Return the alarms of a person's feeders."""
    return [each for each in alarms if principal.sees(each.feeder_id)]


def poles_of(assets: Iterable[FeederAssets], now: datetime) -> dict[tuple[str, str], str]:
    """Return the pole of each meter, by feeder and serial, where somebody has entered it."""
    return {
        (each.feeder.id, meter.serial): pole.name
        for each in assets
        for meter in each.meters_at(now)
        if (pole := each.pole(meter.pole_id)) is not None
    }


def _next(feeder: str, past: Sequence[Alarm]) -> str | None:
    if len(past) < LISTED_MAX:
        return None
    return "/alarms?" + urlencode({"feeder": feeder, "before": past[-1].raised_at.isoformat()})


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


@router.get("/alarms/{alarm_id}")
@declares(Role.VIEWER)
async def alarm(request: Request, alarm_id: str) -> Response:
    """Show one alarm, what it means and what to do."""
    found = await site_of(request).store.alarm(alarm_id)
    if found is None or not principal_of(request).sees(found.feeder_id):
        raise Problem.not_found(f"there is no alarm {alarm_id}")
    return page(request, "alarms_one.html", alarm=found, note_max=NOTE_CHARS_MAX)


@router.post("/alarms/acknowledge")
@declares(Role.OPERATOR)
async def acknowledge(
    request: Request,
    alarm_id: Annotated[list[str], Form(max_length=ACKNOWLEDGED_AT_ONCE_MAX)],
    note: Annotated[str, Form(max_length=NOTE_CHARS_MAX)] = "",
) -> Response:
    """Note that the one who is signed in has seen an alarm, or all of a storm."""
    site, principal = site_of(request), principal_of(request)
    for each in alarm_id:
        found = await site.store.alarm(each)
        if found is None or not principal.sees(found.feeder_id):
            raise Problem.not_found(f"there is no alarm {each}")
    await site.store.acknowledge_alarms(
        alarm_id, who=principal.name, note=note.strip(), now=site.clock.now()
    )
    return RedirectResponse("/alarms", status_code=303)


# --- events --------------------------------------------------------------------------------------


@router.get("/events")
@declares(Role.VIEWER)
async def events(
    request: Request,
    feeder: str = "",
    meter: str = "",
    kind: str = "",
    severity: str = "",
    before: str = "",
) -> Response:
    """Show what meters and gateways have told, the last first."""
    store, principal = site_of(request).store, principal_of(request)
    if feeder:
        in_scope(request, feeder)
    found = await store.events_page(
        Wanted(
            feeders=frozenset({feeder}) if feeder else principal.feeders,
            meter_serial=meter or None,
            type=kind or None,
            severity=severity or None,
        ),
        after=read_key(before, int, int),
        at_most=LISTED_MAX,
    )
    filters = {"feeder": feeder, "meter": meter, "kind": kind, "severity": severity}
    return page(
        request,
        "events_list.html",
        rows=[(each.row, detail_of(each.row)) for each in found],
        next_page=next_page("/events", filters, found, LISTED_MAX),
        filters=filters,
        severities=[each.value for each in Severity],
    )
