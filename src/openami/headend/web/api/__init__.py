"""The API: what a program may ask of the head-end, under ``/api/v1``."""

from fastapi import APIRouter


def api_routes() -> APIRouter:
    """Return every route of the API."""
    return APIRouter()
