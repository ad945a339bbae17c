"""Gateways: who is heard, how much of theirs is missing, what they said of their clock and certificate."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from openami.headend.accounts import Role
from openami.headend.alarms import Alarm
from openami.headend.bandwidth import NEAR_SHARE, BudgetRefused, budget_entry, checked_budget
from openami.headend.gap_life import Gap
from openami.headend.sessions import LedgerSession
from openami.headend.states import GatewayState, MeterState, gateway_state, states_of
from openami.headend.store import GatewayRow, MeterRow
from openami.headend.store.commands import KeyringDelivery
from openami.headend.store.traffic import DayTraffic
from openami.headend.web.admission import declares, in_scope, principal_of
from openami.headend.web.console.rendering import page
from openami.headend.web.problems import Problem
from openami.headend.web.site import site_of

# Of a gateway's own events: what a person reads to see how it has been.
EVENTS_SHOWN_MAX: Final = 20
# Gaps shown one by one; all are counted.
GAPS_SHOWN_MAX: Final = 50

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayView:
    """What this head-end knows of one gateway. What only the gateway knows is on its own status page."""

    row: GatewayRow
    state: GatewayState
    meters: int
    silent_meters: int
    newest_measured: datetime | None
    """The newest moment that anything of it was measured."""
    gaps: tuple[Gap, ...]
    """What is still waited for."""
    alarms: tuple[Alarm, ...]
    """Its own that stand, or are over and unseen."""
    keyring: int | None
    """The version it was last sent."""
    keyring_accepted: int | None
    """The version it last accepted."""
    session: LedgerSession | None
    today_bytes: int
    """What it has sent this UTC day, and in its month so far."""
    month_bytes: int
    budget_bytes: int | None
    """What it may send in a month; None where nobody has set that."""

    @property
    def budget_ratio(self) -> float | None:
        """How much of its budget is used; None where there is none."""
        return None if self.budget_bytes is None else self.month_bytes / self.budget_bytes

    @property
    def missing(self) -> int:
        """How many envelopes, or intervals where it does not number them, are waited for."""
        return sum(gap.missing for gap in self.gaps)

    def alarm(self, *kinds: str) -> Alarm | None:
        """Return its own alarm of one of these kinds."""
        return next((each for each in self.alarms if each.kind in kinds), None)


def gateway_views(
    gateways: Sequence[GatewayRow],
    meters: Sequence[MeterRow],
    *,
    gaps: Sequence[Gap],
    alarms: Sequence[Alarm],
    deliveries: Sequence[KeyringDelivery],
    sessions: Sequence[LedgerSession],
    traffic: Sequence[DayTraffic],
    budgets: Mapping[tuple[str, str], int],
    now: datetime,
) -> list[GatewayView]:
    """Return the gateways, those that need somebody first."""
    behind: Counter[tuple[str, str]] = Counter()
    silent: Counter[tuple[str, str]] = Counter()
    measured: dict[tuple[str, str], datetime] = {}
    for meter, state in states_of(meters, gateways, now=now):
        key = (meter.feeder_id, meter.gateway_id)
        measured[key] = max(meter.last_ts, measured.get(key, meter.last_ts))
        if meter.meter_serial != meter.gateway_id:
            behind[key] += 1
            silent[key] += state is MeterState.METER_SILENT
    today, month = str(now.date()), str(now.date())[:7]
    views = []
    for row in gateways:
        key = (row.feeder_id, row.gateway_id)
        sent = [each for each in deliveries if (each.feeder_id, each.gateway_id) == key]
        views.append(
            GatewayView(
                row=row,
                state=gateway_state(row, now),
                meters=behind[key],
                silent_meters=silent[key],
                newest_measured=measured.get(key),
                gaps=tuple(gap for gap in gaps if gap.gateway == key and gap.lives),
                alarms=tuple(
                    each
                    for each in alarms
                    if (each.feeder_id, each.gateway_id, each.meter_serial) == (*key, "")
                ),
                keyring=max((each.version for each in sent), default=None),
                keyring_accepted=max(
                    (each.version for each in sent if each.accepted_at is not None), default=None
                ),
                session=next(
                    (
                        each
                        for each in sessions
                        if (each.feeder_id, each.gateway_id) == key and each.is_usable(now)
                    ),
                    None,
                ),
                today_bytes=sum(
                    each.bytes
                    for each in traffic
                    if (each.feeder_id, each.gateway_id, each.day) == (*key, today)
                ),
                month_bytes=sum(
                    each.bytes
                    for each in traffic
                    if (each.feeder_id, each.gateway_id, each.day[:7]) == (*key, month)
                ),
                budget_bytes=budgets.get(key),
            )
        )
    return sorted(views, key=_urgency)


def _urgency(view: GatewayView) -> tuple[bool, int, int, str, str]:
    return (
        view.state is GatewayState.REPORTING,
        -len([each for each in view.alarms if each.stands]),
        -view.missing,
        view.row.feeder_id,
        view.row.gateway_id,
    )


@router.get("/gateways")
@declares(Role.VIEWER)
async def gateways(request: Request, feeder: str = "") -> Response:
    """List gateways, those that need somebody first."""
    if feeder:
        in_scope(request, feeder)
    return page(
        request,
        "gateways_list.html",
        views=await _views(request, feeder or None),
        feeder=feeder,
        near=NEAR_SHARE,
    )


@router.get("/gateways/{feeder_id}/{gateway_id}")
@declares(Role.VIEWER)
async def gateway(request: Request, feeder_id: str, gateway_id: str, show: str = "") -> Response:
    """Show one gateway; of the meters behind it those that need somebody, or all."""
    return await _gateway_page(request, feeder_id, gateway_id, show)


@router.post("/gateways/{feeder_id}/{gateway_id}/budget")
@declares(Role.ENGINEER)
async def set_budget(
    request: Request, feeder_id: str, gateway_id: str, month_mb: Annotated[str, Form()] = ""
) -> Response:
    """Set what a gateway may send in a month; empty: as much as it likes."""
    in_scope(request, feeder_id)
    site, who = site_of(request), principal_of(request).name
    if all(row.gateway_id != gateway_id for row in await site.store.gateways(feeder_id)):
        raise Problem.not_found(f"no gateway {gateway_id} was ever heard of on feeder {feeder_id}")
    try:
        most = _bytes_of(month_mb)
    except BudgetRefused as refused:
        return await _gateway_page(request, feeder_id, gateway_id, "", refused=refused)
    entry = budget_entry(gateway_id, most, who=who)
    await site.store.set_budget(feeder_id, gateway_id, most, entry, site.clock.now())
    return RedirectResponse(f"/gateways/{feeder_id}/{gateway_id}", status_code=303)


def _bytes_of(month_mb: str) -> int | None:
    """Return a form's megabytes in bytes; None for an empty field. Raises BudgetRefused."""
    text = month_mb.strip().replace(",", ".")
    if not text:
        return None
    try:
        return checked_budget(round(float(text) * 1_000_000))
    except (ValueError, OverflowError) as error:
        if isinstance(error, BudgetRefused):
            raise
        raise BudgetRefused(f"{text[:40]!r} is no number of megabytes") from None


async def _gateway_page(
    request: Request,
    feeder_id: str,
    gateway_id: str,
    show: str,
    *,
    refused: BudgetRefused | None = None,
) -> Response:
    in_scope(request, feeder_id)
    store = site_of(request).store
    found = [view for view in await _views(request, feeder_id) if view.row.gateway_id == gateway_id]
    if not found:
        raise Problem.not_found(f"no gateway {gateway_id} was ever heard of on feeder {feeder_id}")
    events = await store.events(
        feeder_id=feeder_id, meter_serial=gateway_id, at_most=EVENTS_SHOWN_MAX
    )
    now = site_of(request).clock.now()
    meters = [
        (meter, state)
        for meter, state in states_of(
            await store.meters(feeder_id=feeder_id), await store.gateways(feeder_id), now=now
        )
        if meter.gateway_id == gateway_id and meter.meter_serial != gateway_id
    ]
    return page(
        request,
        "gateways_one.html",
        status=200 if refused is None else 422,
        refused=refused,
        may=principal_of(request).may(Role.ENGINEER),
        near=NEAR_SHARE,
        view=found[0],
        events=events,
        meters=[
            each
            for each in sorted(meters, key=lambda each: each[0].meter_serial)
            if show == "all" or each[1] is not MeterState.REPORTING
        ],
        well=sum(state is MeterState.REPORTING for _, state in meters),
        show=show,
        gaps=found[0].gaps[:GAPS_SHOWN_MAX],
        deliveries=await store.deliveries(feeder_id=feeder_id, gateway_id=gateway_id),
    )


async def _views(request: Request, feeder_id: str | None) -> list[GatewayView]:
    store, principal = site_of(request).store, principal_of(request)
    now = site_of(request).clock.now()
    views = gateway_views(
        await store.gateways(feeder_id),
        await store.meters(feeder_id=feeder_id),
        gaps=await store.gaps(feeder_id=feeder_id, closed=False),
        alarms=await store.active_alarms(feeder_id),
        deliveries=await store.deliveries(feeder_id=feeder_id),
        sessions=await store.sessions(feeder_id=feeder_id, only_open=True),
        traffic=await store.traffic(now.date().replace(day=1), feeder_id),
        budgets=await store.budgets(),
        now=now,
    )
    return [view for view in views if principal.sees(view.row.feeder_id)]
