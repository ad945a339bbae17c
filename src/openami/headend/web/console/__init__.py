"""The operator's console: pages made by the server, read on a poor link, of use without JavaScript."""

from fastapi import APIRouter


def console_routes() -> APIRouter:
    """Return every page."""
    return APIRouter(include_in_schema=False)
