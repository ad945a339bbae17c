"""The OpenAPI document: made from the routes, committed, and served as it was committed.

``openami spec openapi`` prints it without a head-end. A test compares it with the routes and says how to renew it.
"""

import json
import re
from collections.abc import Iterable
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final

from fastapi import APIRouter
from fastapi.openapi.utils import get_openapi
from fastapi.routing import RouteContext, iter_route_contexts
from starlette.responses import Response
from starlette.routing import BaseRoute

from openami import spec
from openami.headend.accounts import Role
from openami.headend.web.admission import declared, declares
from openami.headend.web.api.edge import DESCRIPTIONS, ApiRoute
from openami.headend.web.api.media import JSON, PROBLEM

router = APIRouter(route_class=ApiRoute)

NAME: Final = "openapi.json"
API_VERSION: Final = "1.0.0"
_INTRODUCTION: Final = """\
What a program may ask of an OpenAMI head-end.

* A token goes into `Authorization: Bearer …`.
* Times are RFC 3339 with a zone; answers are in UTC.
* Long lists come in pages: follow `next` until it is null.
* Every error is an RFC 9457 problem with `code`, `detail` and, where there is one, `remedy`.
* What is out of your scope is not there: 404, and absent from lists.
"""
_PROBLEM: Final[dict[str, Any]] = {
    "title": "Problem",
    "description": "What went wrong (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "description": "Where this kind of problem is explained."},
        "title": {"type": "string"},
        "status": {"type": "integer", "description": "The answer's status, again."},
        "detail": {"type": "string", "description": "What is wrong with this request."},
        "code": {"type": "string", "description": "The kind of problem, for programs; stable."},
        "remedy": {"type": "string", "description": "What to do about it."},
        "errors": {
            "type": "array",
            "description": "Of an invalid request: each fault and where it is.",
            "items": {
                "type": "object",
                "required": ["in", "detail"],
                "properties": {"in": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}
# What pydantic calls a page of something.
_GENERIC: Final = re.compile(r"\bPage(?:_([A-Za-z]+)_|\[([A-Za-z]+)\])")
_ALWAYS: Final = (
    *(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_ACCEPTABLE),
    *(HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.INTERNAL_SERVER_ERROR),
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_WITH_BODY: Final = (
    *(HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
)


# A person reads it in a diff.
_INDENT: Final = 1


@router.get("/openapi.json", include_in_schema=False)
@declares(Role.VIEWER)
async def show_openapi() -> Response:
    """Answer with this document."""
    return Response(published(), media_type=JSON)


def published() -> str:
    """Return the document as it was committed."""
    return files(spec).joinpath(NAME).read_text(encoding="utf-8")


def printed(routes: Iterable[BaseRoute]) -> str:
    """Return the document as it is committed."""
    return json.dumps(document(routes), indent=_INDENT, ensure_ascii=False) + "\n"


def document(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """Return the document that describes an application's routes."""
    routes = tuple(routes)
    raw = get_openapi(
        title="OpenAMI head-end",
        version=API_VERSION,
        openapi_version="3.1.0",
        description=_INTRODUCTION,
        routes=routes,
    )
    made: dict[str, Any] = _untitled(json.loads(_GENERIC.sub(r"\1\2Page", json.dumps(raw))))
    components = made.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = _PROBLEM
    components["securitySchemes"] = {
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "A token made by `openami token create` or on the console.",
        }
    }
    made["security"] = [{"token": []}]
    for context in iter_route_contexts(routes):
        operations = made["paths"].get(context.path_format, {})
        for method in context.methods or ():
            if (operation := operations.get(method.lower())) is not None:
                _finish(operation, context)
    return made


def _untitled(part: Any) -> Any:
    """Leave out the titles pydantic makes of names: they say the name again, in other letters."""
    if isinstance(part, list):
        return [_untitled(each) for each in part]
    if isinstance(part, dict):
        return {
            key: _untitled(value)
            for key, value in part.items()
            if key != "title" or not isinstance(value, str) or "version" in part
        }
    return part


def _finish(operation: dict[str, Any], context: RouteContext) -> None:
    """Declare the refusals every route has, in their own form, and say who may ask."""
    assert context.endpoint is not None
    operation["operationId"] = context.endpoint.__name__
    mark = declared(context.endpoint)
    assert mark is not None
    assert mark.role is not None
    operation["x-openami-role"] = mark.role.word
    responses = operation["responses"]
    refused = [*_ALWAYS, *(_WITH_BODY if "requestBody" in operation else ())]
    for status in refused:
        responses[str(int(status))] = {"description": DESCRIPTIONS[status]}
    for status, response in responses.items():
        if int(status) >= HTTPStatus.BAD_REQUEST:
            response["content"] = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    operation["responses"] = dict(sorted(responses.items()))
    for parameter in operation.get("parameters", ()):
        _never_null(parameter)


def _never_null(parameter: dict[str, Any]) -> None:
    """A query or header is there or it is not; what is there is a text, and never null."""
    choices = parameter["schema"].get("anyOf")
    if choices is not None:
        [only] = [choice for choice in choices if choice != {"type": "null"}]
        rest = {key: value for key, value in parameter["schema"].items() if key != "anyOf"}
        parameter["schema"] = {**only, **rest}
