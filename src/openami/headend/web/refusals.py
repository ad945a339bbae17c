"""What the framework refuses by itself, and what nobody foresaw: said as problems like everything else."""

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import BaseRoute, Match

from openami.headend.web.problems import Problem

# A body with a thousand faults is told its first ones; the rest is seen when these are mended.
ERRORS_TOLD_MAX: Final = 20
# What a person typed is shown again so that they find it, not in full.
_SHOWN_CHARS_MAX: Final = 80  # one line


def of_http(request: Request, error: HTTPException) -> Problem:
    """Return the problem for a path, a method or a body the framework would not take."""
    status = HTTPStatus(error.status_code)
    match status:
        case HTTPStatus.NOT_FOUND:
            return Problem.not_found(f"there is nothing at {request.url.path[:_SHOWN_CHARS_MAX]}")
        case HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = ", ".join(sorted(_methods_at(request.app.routes, request)))
            return Problem(
                status,
                "method-not-allowed",
                f"{request.method} is not possible here",
                remedy=f"use {allowed}",
                headers={"Allow": allowed},
            )
        case HTTPStatus.BAD_REQUEST:
            return unreadable_body("the body cannot be read as JSON")
        case _:
            return Problem(
                status,
                status.phrase.lower().replace(" ", "-"),
                str(error.detail),
                headers=dict(error.headers or {}),
            )


def _methods_at(routes: Iterable[BaseRoute], request: Request) -> set[str]:
    """Return every method that some route would take at a request's path."""
    methods: set[str] = set()
    for context in iter_route_contexts(tuple(routes)):
        for method in context.methods or ():
            asked = {**request.scope, "method": method}
            if context.matches(asked)[0] is Match.FULL:
                methods.add(method)
    return methods


def of_invalid(error: RequestValidationError) -> Problem:
    """Return the problem for parameters or a body that are not as declared."""
    faults = error.errors()
    if any(fault["type"] == "json_invalid" for fault in faults):
        place = next(fault["loc"][-1] for fault in faults if fault["type"] == "json_invalid")
        return unreadable_body(f"the body is not JSON: look at character {place}")
    return invalid(
        [{"in": _place(fault["loc"]), "detail": str(fault["msg"])} for fault in faults],
    )


def invalid(errors: Sequence[dict[str, Any]]) -> Problem:
    """Return the problem for a request of which ``errors`` say what is wrong, each ``in`` its place."""
    first = errors[0]
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid",
        f"{first['in']}: {first['detail']}",
        remedy="mend what `errors` names, and ask again",
        errors=list(errors[:ERRORS_TOLD_MAX]),
    )


def unreadable_body(detail: str) -> Problem:
    """Return the problem for a body that is no JSON."""
    return Problem(HTTPStatus.BAD_REQUEST, "unreadable-body", detail, remedy="send one JSON object")


def of_bug() -> Problem:
    """Return the problem for what we did not foresee; what it was stands in the head-end's log, not here."""
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "server-fault",
        "the head-end has a fault and could not answer",
        remedy="look into the head-end's log, and report it",
    )


def _place(loc: Sequence[int | str]) -> str:
    """Return where a fault is, as a person writes it: ``query: since``, ``body: args/token``."""
    where, *path = (str(step) for step in loc)
    return f"{where}: {'/'.join(path)}" if path else where
