"""ETags: an answer's name by its content, so that nobody fetches twice, or changes what they have not seen."""

import hashlib
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from openami.headend.web.api.forms import Resource
from openami.headend.web.api.media import JSON
from openami.headend.web.problems import Problem

# Of SHA-256: no two states of one resource will ever share it.
_HEX_CHARS: Final = 32

ETAG_HEADER: Final[dict[str, Any]] = {
    "ETag": {
        "description": "Names this state of it; for If-None-Match and If-Match.",
        "schema": {"type": "string"},
        "required": True,
    }
}
NOT_MODIFIED: Final[dict[int | str, dict[str, Any]]] = {
    304: {"description": "It is still as its ETag says.", "headers": ETAG_HEADER}
}


def etag_of(resource: Resource) -> str:
    """Return the ETag of a resource as it is now."""
    content = resource.model_dump_json().encode()
    return f'"{hashlib.sha256(content).hexdigest()[:_HEX_CHARS]}"'


def answer(
    request: Request,
    resource: Resource,
    *,
    status: HTTPStatus = HTTPStatus.OK,
    location: str | None = None,
) -> Response:
    """Answer with one resource and its ETag; 304 where a GET's If-None-Match has it."""
    tag = etag_of(resource)
    headers = {"ETag": tag, **({} if location is None else {"Location": location})}
    wanted = request.headers.get("if-none-match")
    if request.method == "GET" and wanted is not None and _names(wanted, tag, weakly=True):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(
        resource.model_dump_json(), status_code=status, media_type=JSON, headers=headers
    )


def check_unchanged(if_match: str | None, resource: Resource) -> None:
    """Raise Problem 412 when a resource is no longer as whoever wants to change it has seen it."""
    if if_match is not None and not _names(if_match, etag_of(resource), weakly=False):
        raise Problem(
            HTTPStatus.PRECONDITION_FAILED,
            "changed-meanwhile",
            "it is no longer as it was when you looked: its ETag is another",
            remedy="look at it again, then decide",
        )


def _names(header: str, tag: str, *, weakly: bool) -> bool:
    """Return whether a list of ETags has this one; ``*`` has every one."""
    told = [text.strip() for text in header.split(",")]
    if weakly:
        told = [text.removeprefix("W/") for text in told]
    return "*" in told or tag in told
