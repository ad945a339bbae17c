"""Completeness by day: what should have come, what did, and why the rest is missing."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.accounting import day_accounts
from openami.headend.accounts import Role
from openami.headend.completeness import DayAccount
from openami.headend.store import GatewayRow
from openami.headend.store.commands import HeadEndStore
from openami.headend.web.admission import declares, in_scope, principal_of
from openami.headend.web.certificates import certificate_answer
from openami.headend.web.console.rendering import page
from openami.headend.web.problems import Problem
from openami.headend.web.site import site_of
from openami.sip.statements import event_id_of

# Days one can go back to from a page: as long as gaps are told of.
DAYS_BACK_MAX: Final = 60

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class DayTotal:
    """A gateway's day over all its meters. Meters whose interval is not known are counted, and not in the sums."""

    expected: int
    received: int
    late: int
    suspect: int
    missing: int
    of_unknown_interval: int
    reasons: Sequence[tuple[str, int]]
    """Why what is missing is missing, the commonest first."""

    @property
    def ratio(self) -> float | None:
        """How much of what should have come did; None where nothing should have."""
        return None if self.expected == 0 else self.received / self.expected


def total_of(accounts: Sequence[DayAccount]) -> DayTotal:
    """Add accounts up."""
    known = [each for each in accounts if each.expected is not None]
    reasons: Counter[str] = Counter()
    for each in known:
        for gap in each.gaps:
            reasons[gap.reason.value] += gap.intervals
    return DayTotal(
        expected=sum(each.expected or 0 for each in known),
        received=sum(each.received for each in known),
        late=sum(each.late for each in known),
        suspect=sum(each.suspect for each in known),
        missing=sum(each.missing or 0 for each in known),
        of_unknown_interval=len(accounts) - len(known),
        reasons=sorted(reasons.items(), key=lambda each: (-each[1], each[0])),
    )


def worst_first(accounts: Sequence[DayAccount]) -> list[DayAccount]:
    """Return accounts, the ones that miss most first."""
    return sorted(accounts, key=lambda each: (-(each.missing or 0), each.meter_serial))


@router.get("/completeness")
@declares(Role.VIEWER)
async def completeness(
    request: Request, feeder: str = "", gateway: str = "", day: str = "", show: str = ""
) -> Response:
    """Show one gateway's day, by meter; of all gateways of one's feeders one is chosen."""
    site, principal = site_of(request), principal_of(request)
    now = site.clock.now()
    if feeder:
        in_scope(request, feeder)
    gateways = [
        each for each in await site.store.gateways(feeder or None) if principal.sees(each.feeder_id)
    ]
    chosen = _chosen(gateways, gateway)
    when = _day(day, now)
    accounts: list[DayAccount] = []
    stated = False
    if chosen is not None:
        accounts = [
            each
            async for each in day_accounts(
                site.store, chosen.feeder_id, [when], now=now, gateway_id=chosen.gateway_id
            )
        ]
        stated = await _is_stated(site.store, chosen, when)
    return page(
        request,
        "completeness.html",
        gateways=gateways,
        chosen=chosen,
        day=when,
        today=now.date(),
        earlier=when - timedelta(days=1) if when > oldest_day(now) else None,
        later=when + timedelta(days=1) if when < now.date() else None,
        accounts=[each for each in worst_first(accounts) if show == "all" or each.missing != 0],
        complete=sum(each.missing == 0 for each in accounts),
        show=show,
        total=total_of(accounts),
        stated=stated,
        can_certify=site.certificate is not None,
        oldest=oldest_day(now),
    )


@router.get("/completeness/certificate")
@declares(Role.VIEWER)
async def certificate(request: Request, feeder: str, gateway: str, day: str) -> Response:
    """Return a day's certificate: what the gateway states it recorded, beside what is here, signed by both."""
    in_scope(request, feeder)
    when = _day(day, site_of(request).clock.now())
    return await certificate_answer(request, feeder, gateway, when)


def oldest_day(now: datetime) -> date:
    """Return the oldest day a page shows."""
    return now.date() - timedelta(days=DAYS_BACK_MAX)


def _day(text: str, now: datetime) -> date:
    """Return the UTC day asked for; today where none is. Raises Problem for one that cannot be shown."""
    if not text:
        return now.date()
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise Problem.not_found(f"{text} is no day: write it as {now.date()}") from None
    if not oldest_day(now) <= found <= now.date():
        raise Problem.not_found(f"{found} is not within the last {DAYS_BACK_MAX} days")
    return found


def _chosen(gateways: Sequence[GatewayRow], gateway_id: str) -> GatewayRow | None:
    if not gateway_id:
        return gateways[0] if gateways else None
    return next((each for each in gateways if each.gateway_id == gateway_id), None)


async def _is_stated(store: HeadEndStore, gateway: GatewayRow, day: date) -> bool:
    """Whether a gateway has stated what it recorded that day, so that the day can be certified."""
    events = await store.events(
        feeder_id=gateway.feeder_id,
        meter_serial=gateway.gateway_id,
        event_id=event_id_of(gateway.gateway_id, day, 1),
    )
    return bool(events)
