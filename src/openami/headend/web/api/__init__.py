"""The API: what a program may ask of the head-end, under ``/api/v1``.

edge.py      what holds of every route: known parameters, bounded bodies, forms a client accepts
forms.py     how times, names and resources are written and described
paging.py    cursors and pages; etags.py: ETag, If-None-Match, If-Match; scope.py: which feeders
document.py  the OpenAPI document, committed as openami/spec/openapi.json
…            and a file for each resource
"""

from typing import Final

from fastapi import APIRouter

from openami.headend.web.api import (
    assets,
    audit,
    balance,
    bulk,
    commands,
    completeness,
    customers,
    document,
    energy,
    events,
    feeders,
    findings,
    gaps,
    gateways,
    meters,
    poles,
    readings,
    rejected,
    sessions,
    tokens,
    users,
)

# In the order of the OpenAPI document: what stands there, what it said, what is asked of it, what is told of that.
_RESOURCES: Final = (
    *(feeders, poles, meters, customers, gateways, assets),
    *(readings, energy, balance, events, findings, gaps, completeness),
    *(sessions, commands, bulk),
    *(rejected, audit, users, tokens, document),
)


def api_routes() -> APIRouter:
    """Return every route of the API."""
    routes = APIRouter()
    for resource in _RESOURCES:
        routes.include_router(resource.router)
    return routes
