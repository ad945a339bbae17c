"""``/customers``: who is supplied, and through which meters."""

from http import HTTPStatus

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.accounts import Role
from openami.headend.assets import Customer as Described
from openami.headend.assets import FeederAssets
from openami.headend.web.admission import declares
from openami.headend.web.api.edge import ApiRoute, may_refuse
from openami.headend.web.api.etags import ETAG_HEADER, NOT_MODIFIED, answer
from openami.headend.web.api.forms import (
    LIMIT_DEFAULT,
    Cursor,
    CustomerId,
    FeederFilter,
    FeederId,
    IfNoneMatch,
    Limit,
    Moment,
    Resource,
)
from openami.headend.web.api.paging import NEXT_LINK, Page, in_memory, key_of, page_answer
from openami.headend.web.api.scope import assets_of, require_feeder
from openami.headend.web.problems import Problem
from openami.headend.web.site import site_of

router = APIRouter(route_class=ApiRoute, tags=["customers"])


class Placement(Resource):
    """A meter that counts, or counted, for a customer. A swap ends one and begins the next."""

    meter_serial: str
    pole_id: str | None
    phase: str = Field(description="A, B, C or several of them; empty where nobody has said.")
    protected: bool = Field(description="Whether it takes a second person to cut it off.")
    valid_from: Moment = Field(description="1970 where nobody wrote down when.")
    valid_to: Moment | None = Field(description="Null while it hangs there.")
    opening_kwh: float | None = Field(description="Its register when it was put up, in kWh.")
    closing_kwh: float | None = Field(description="Its register when it was taken down, in kWh.")


class Customer(Resource):
    """Somebody who is supplied."""

    feeder_id: str
    customer_id: str
    name: str
    placements: list[Placement] = Field(description="Their meters, past ones too, by time.")

    @classmethod
    def of(cls, customer: Described, assets: FeederAssets) -> "Customer":
        """Return a customer with the meters they have and had."""
        own = [meter for meter in assets.meters if meter.customer_id == customer.id]
        return cls(
            feeder_id=customer.feeder_id,
            customer_id=customer.id,
            name=customer.name,
            placements=[
                Placement(
                    meter_serial=meter.serial,
                    pole_id=meter.pole_id,
                    phase=meter.phase,
                    protected=meter.protected,
                    valid_from=meter.valid_from,
                    valid_to=meter.valid_to,
                    opening_kwh=meter.opening_kwh,
                    closing_kwh=meter.closing_kwh,
                )
                for meter in sorted(own, key=lambda meter: (meter.valid_from, meter.serial))
            ],
        )


@router.get(
    "/customers",
    response_model=Page[Customer],
    responses={200: {"headers": NEXT_LINK}, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.VIEWER)
async def list_customers(
    request: Request,
    feeder_id: FeederFilter = None,
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
) -> Response:
    """List customers by feeder and id."""
    after = key_of("customers", cursor, (str, str))
    keyed = [
        ((customer.feeder_id, customer.id), (customer, assets))
        for assets in await assets_of(request, feeder_id)
        for customer in assets.customers
    ]
    page, last = in_memory(keyed, after, limit)
    items = [Customer.of(customer, assets) for customer, assets in page]
    return page_answer(request, "customers", items, last)


@router.get(
    "/customers/{feederId}/{customerId}",
    response_model=Customer,
    responses={200: {"headers": ETAG_HEADER}, **NOT_MODIFIED, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.VIEWER)
async def show_customer(
    request: Request, feeder_id: FeederId, customer_id: CustomerId, _: IfNoneMatch = None
) -> Response:
    """Show one customer."""
    await require_feeder(request, feeder_id)
    assets = await site_of(request).store.assets(feeder_id)
    customer = assets.customer(customer_id)
    if customer is None:
        raise Problem.not_found(f"there is no customer {customer_id} on feeder {feeder_id}")
    return answer(request, Customer.of(customer, assets))
