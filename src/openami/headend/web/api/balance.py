"""``/balance``: what a feeder was supplied with and what was sold, as a range; and why the rest is missing."""

from datetime import timedelta
from http import HTTPStatus

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.accounts import Role
from openami.headend.balance import Balance, Range, ReasonKind, Silence
from openami.headend.consumption import BreakKind
from openami.headend.store.identity import from_ms
from openami.headend.web.admission import declares
from openami.headend.web.api.edge import ApiRoute, may_refuse
from openami.headend.web.api.etags import ETAG_HEADER, NOT_MODIFIED, answer
from openami.headend.web.api.forms import FeederId, IfNoneMatch, Moment, Resource, Since, Until
from openami.headend.web.api.scope import require_feeder
from openami.headend.web.balances import balancing_of
from openami.headend.web.refusals import invalid
from openami.headend.web.site import site_of

router = APIRouter(route_class=ApiRoute, tags=["balance"])


class EnergyRange(Resource):
    """Between what and what a quantity lies, in Wh."""

    low: int = Field(description="In Wh.")
    high: int = Field(description="In Wh.")

    @classmethod
    def of(cls, known: Range) -> "EnergyRange":
        """Return a range as it is told."""
        return cls(low=known.low, high=known.high)


class HourTold(Resource):
    """One hour."""

    begin: Moment
    supplied_wh: int | None = Field(description="In Wh; null where a head meter is not known.")
    sold_wh: int = Field(description="Of the meters that are known, in Wh.")
    unknown: int = Field(description="How many customers' meters are not known.")


class BreakTold(Resource):
    """What interrupted a register's counting."""

    at: Moment
    kind: BreakKind


class UnheardTold(Resource):
    """A meter of which hours are not known."""

    meter_serial: str
    name: str = Field(description="Whose it is; empty where nobody has said.")
    why: Silence
    hours: int
    may_be: EnergyRange = Field(description="What it may have counted in them.")
    last_at: Moment | None


class EstimatedTold(Resource):
    """A meter whose energy is in part an estimate, or a lower bound."""

    meter_serial: str
    name: str
    spread_wh: int = Field(description="Measured in sum, shared out over a gap; in Wh.")
    at_least_wh: int = Field(description="In hours of which it is only a lower bound; in Wh.")
    breaks: list[BreakTold]


class PoleTold(Resource):
    """A pole with a meter of its own."""

    pole_id: str
    supplied_wh: int
    sold: EnergyRange
    hours: int = Field(description="Of how many hours its own meter is known.")


class ReasonTold(Resource):
    """One explanation, and how much of the missing energy it may account for."""

    kind: ReasonKind
    wh: EnergyRange
    meter_serials: list[str]
    sentence: str = Field(description="In plain English.")
    accuses: bool = Field(description="Whether it names a meter as one that energy passes by.")


class BalanceTold(Resource):
    """One feeder, one period. A loss is a range: what a silent meter counted is not known."""

    feeder_id: str
    begin: Moment
    end: Moment = Field(description="Not included: where the last hour that is over ends.")
    supplied_wh: int = Field(description="In the hours in which the head meters are known, in Wh.")
    sold: EnergyRange
    unaccounted: EnergyRange = Field(description="Supplied minus sold.")
    meters: int = Field(description="Customers' meters.")
    heard: int = Field(description="Of these, those that are known in all hours that count.")
    head_hours: int = Field(
        description="Hours that count: those in which the head meters are known."
    )
    hours: list[HourTold]
    unheard: list[UnheardTold]
    estimated: list[EstimatedTold]
    poles: list[PoleTold]
    reasons: list[ReasonTold] = Field(description="The one that explains most comes first.")
    refusal: str = Field(
        description="Why no meter could be named whatever the truth: no_head, too_short, too_silent; else empty."
    )

    @classmethod
    def of(cls, balance: Balance) -> "BalanceTold":
        """Return a balance as it is told."""
        return cls(
            feeder_id=balance.feeder_id,
            begin=balance.begin,
            end=balance.end,
            supplied_wh=balance.supplied_wh,
            sold=EnergyRange.of(balance.sold),
            unaccounted=EnergyRange.of(balance.unaccounted),
            meters=balance.meters,
            heard=balance.heard,
            head_hours=balance.head_hours,
            hours=[
                HourTold(
                    begin=each.begin,
                    supplied_wh=each.supplied_wh,
                    sold_wh=each.sold_wh,
                    unknown=each.unknown,
                )
                for each in balance.hours
            ],
            unheard=[
                UnheardTold(
                    meter_serial=each.serial,
                    name=each.name,
                    why=each.why,
                    hours=each.hours,
                    may_be=EnergyRange.of(each.may_be),
                    last_at=each.last_at,
                )
                for each in balance.unheard
            ],
            estimated=[
                EstimatedTold(
                    meter_serial=each.serial,
                    name=each.name,
                    spread_wh=each.spread_wh,
                    at_least_wh=each.at_least_wh,
                    breaks=[BreakTold(at=from_ms(one.ms), kind=one.kind) for one in each.breaks],
                )
                for each in balance.estimated
            ],
            poles=[
                PoleTold(
                    pole_id=each.pole_id,
                    supplied_wh=each.supplied_wh,
                    sold=EnergyRange.of(each.sold),
                    hours=each.hours,
                )
                for each in balance.poles
            ],
            reasons=[
                ReasonTold(
                    kind=each.kind,
                    wh=EnergyRange.of(each.wh),
                    meter_serials=list(each.serials),
                    sentence=each.sentence,
                    accuses=each.accuses,
                )
                for each in balance.reasons
            ],
            refusal=balance.refusal,
        )


@router.get(
    "/balance/{feederId}",
    response_model=BalanceTold,
    responses={200: {"headers": ETAG_HEADER}, **NOT_MODIFIED, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.VIEWER)
async def show_balance(
    request: Request,
    feeder_id: FeederId,
    since: Since = None,
    until: Until = None,
    _: IfNoneMatch = None,
) -> Response:
    """Show a feeder's balance; of the last week, if you name no time. What was found is kept for ten minutes."""
    await require_feeder(request, feeder_id)
    now = site_of(request).clock.now()
    # Whole hours count, so that everybody who asks within one is told the same.
    end = min(until or now, now).replace(minute=0, second=0, microsecond=0)
    begin = since or end - timedelta(days=7)
    try:
        found = await balancing_of(request).balance(feeder_id, begin, end, now=now)
    except ValueError as error:
        raise invalid([{"in": "query: since", "detail": str(error)}]) from None
    return answer(request, BalanceTold.of(found))
