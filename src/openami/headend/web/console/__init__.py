"""The operator's console: pages made by the server, read on a poor link, of use without JavaScript."""

from fastapi import APIRouter

from openami.headend.web.console import signing_in


def console_routes() -> APIRouter:
    """Return every page."""
    router = APIRouter(include_in_schema=False)
    router.include_router(signing_in.router)
    return router
