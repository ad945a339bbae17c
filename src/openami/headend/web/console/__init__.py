"""The operator's console: pages made by the server, read on a poor link, of use without JavaScript."""

from fastapi import APIRouter, Depends

from openami.headend.web.console import (
    alarms,
    assets,
    audit,
    balance,
    bulk,
    commands,
    completeness,
    exports,
    feeders,
    gateways,
    help,
    live,
    meters,
    own_account,
    preferences,
    rejected,
    sessions,
    signing_in,
    static,
    users,
)
from openami.headend.web.console.navigation import count_waiting


def console_routes() -> APIRouter:
    """Return every page."""
    router = APIRouter(include_in_schema=False, dependencies=[Depends(count_waiting)])
    router.include_router(static.router)
    router.include_router(preferences.router)
    router.include_router(feeders.router)
    router.include_router(meters.router)
    router.include_router(live.router)
    router.include_router(signing_in.router)
    router.include_router(own_account.router)
    router.include_router(users.router)
    for each in (
        alarms,
        audit,
        balance,
        bulk,
        commands,
        completeness,
        gateways,
        help,
        rejected,
        sessions,
    ):
        router.include_router(each.router)
    router.include_router(assets.router)
    router.include_router(exports.router)
    return router
