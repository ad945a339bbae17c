"""Which feeders a request is about, of those whoever asks may see.

A feeder out of scope and one that does not exist are the same answer, everywhere.
"""

from http import HTTPStatus

from starlette.requests import Request

from openami.headend.assets import FeederAssets
from openami.headend.store import MeterRow
from openami.headend.web.admission import in_scope, principal_of
from openami.headend.web.problems import Problem
from openami.headend.web.site import Site, site_of


async def feeders_of(request: Request, feeder_id: str | None) -> frozenset[str] | None:
    """Return the feeders to list: the one that is named, or all in scope; None for really all.

    Raises Problem 404 when the one that is named is not theirs, or not there.
    """
    if feeder_id is None:
        return principal_of(request).feeders
    await require_feeder(request, feeder_id)
    return frozenset({feeder_id})


async def require_feeder(request: Request, feeder_id: str) -> None:
    """Raise Problem 404 unless a feeder is there and in scope."""
    in_scope(request, feeder_id)
    if all(each.id != feeder_id for each in await site_of(request).store.feeder_list()):
        raise Problem.not_found(f"there is no feeder {feeder_id}")


async def require_meter(request: Request, feeder_id: str, meter_serial: str) -> MeterRow:
    """Return a meter that was heard of. Raises Problem 404."""
    await require_feeder(request, feeder_id)
    found = await meter_of(site_of(request), feeder_id, meter_serial)
    if found is None:
        raise Problem.not_found(f"there is no meter {meter_serial} on feeder {feeder_id}")
    return found


async def meter_of(site: Site, feeder_id: str, meter_serial: str) -> MeterRow | None:
    """Return a meter that was heard of."""
    rows = await site.store.meters(feeder_id=feeder_id, meter_serial=meter_serial)
    return rows[0] if rows else None


async def assets_of(request: Request, feeder_id: str | None) -> list[FeederAssets]:
    """Return the assets of the feeder that is named, or of all in scope. Raises Problem 404."""
    feeders, store = await feeders_of(request, feeder_id), site_of(request).store
    return [
        await store.assets(each.id)
        for each in await store.feeder_list()
        if feeders is None or each.id in feeders
    ]


def require_whole_site(request: Request, what: str) -> None:
    """Raise Problem 403 for whoever sees some feeders only."""
    if principal_of(request).feeders is not None:
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "scope-too-narrow",
            f"{what} is about every feeder, and you see some of them only",
            remedy="name a command or a session of a feeder you see, or ask an engineer",
        )


async def require_gateway(request: Request, feeder_id: str, gateway_id: str) -> None:
    """Raise Problem 404 unless a gateway was heard of, on a feeder in scope."""
    await require_feeder(request, feeder_id)
    gateways = await site_of(request).store.gateways(feeder_id)
    if all(row.gateway_id != gateway_id for row in gateways):
        raise Problem.not_found(f"there is no gateway {gateway_id} on feeder {feeder_id}")


def require_can_command(request: Request) -> None:
    """Raise Problem 409 where this head-end has no key to command with: what is asked for would only wait."""
    if not site_of(request).can_command:
        raise Problem(
            HTTPStatus.CONFLICT,
            "no-key",
            "this head-end has no key to command with",
            remedy="configure [signing] in its file, as docs/commands.md shows",
        )
