"""The API: what a program may ask of the head-end, under ``/api/v1``.

edge.py      what holds of every route: known parameters, bounded bodies, forms a client accepts
forms.py     how times, names and resources are written and described
paging.py    cursors and pages; etags.py: ETag, If-None-Match, If-Match; scope.py: which feeders
document.py  the OpenAPI document, committed as openami/spec/openapi.json
…            and a file for each resource
"""

from fastapi import APIRouter

from openami.headend.web.api import (
    audit,
    commands,
    completeness,
    document,
    events,
    feeders,
    findings,
    gaps,
    gateways,
    meters,
    readings,
    rejected,
    sessions,
)


def api_routes() -> APIRouter:
    """Return every route of the API."""
    routes = APIRouter()
    for resource in (
        *(feeders, gateways, meters, readings, events, findings, gaps, completeness),
        *(sessions, commands, rejected, audit, document),
    ):
        routes.include_router(resource.router)
    return routes
