"""What holds of every route of the API, before its own code runs.

A query parameter nobody knows is refused: a filter with a slip in its name would answer with everything. A body is
read within its bound, by those only who have shown who they are.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from http import HTTPStatus
from typing import Any, Final, TypeVar

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.web.api.media import JSON, chosen, offered
from openami.headend.web.problems import Problem
from openami.headend.web.refusals import invalid
from openami.headend.web.site import site_of

# The largest thing there is to say, where an endpoint does not say more, is an act with its signature.
BODY_BYTES_MAX: Final = 64 * 1024
_SHOWN_CHARS_MAX: Final = 40  # of a name somebody mistyped

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def may_refuse(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Return the declaration of refusals; those that every route has are declared in `document`."""
    return {int(status): {"description": DESCRIPTIONS[status]} for status in statuses}


DESCRIPTIONS: Final = {
    HTTPStatus.BAD_REQUEST: "The body cannot be read.",
    HTTPStatus.UNAUTHORIZED: "Nobody is signed in.",
    HTTPStatus.FORBIDDEN: "It needs another role, a step-up, or a wider scope.",
    HTTPStatus.NOT_FOUND: "There is no such thing, or it is out of your scope: which of the two is not told.",
    HTTPStatus.NOT_ACCEPTABLE: "It is not answered in any form you accept.",
    HTTPStatus.CONFLICT: "As things stand it cannot be done; `detail` says why.",
    HTTPStatus.PRECONDITION_FAILED: "It is no longer as your If-Match says.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is not JSON, or does not say so.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "A parameter or member is not as declared; `errors` names each.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "The head-end has a fault.",
    HTTPStatus.NOT_IMPLEMENTED: "This head-end was installed without what this needs.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The store cannot be reached now; nothing was changed.",
}


def reads_up_to(body_bytes: int) -> Callable[[Endpoint], Endpoint]:
    """Mark an endpoint as one whose body may have more than BODY_BYTES_MAX."""

    def mark(endpoint: Endpoint) -> Endpoint:
        endpoint.__openami_body_bytes__ = body_bytes  # type: ignore[attr-defined]
        return endpoint

    return mark


class BoundedRequest(Request):
    """A request whose body is not read beyond its bound. Raises Problem 413."""

    body_bytes_max = BODY_BYTES_MAX

    async def stream(self) -> AsyncIterator[bytes]:  # type: ignore[override]  # as Starlette's own, a generator
        size = 0
        async for chunk in super().stream():
            size += len(chunk)
            if size > self.body_bytes_max:
                raise Problem(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    "body-too-large",
                    f"the body has more than {self.body_bytes_max} bytes",
                    remedy="send less",
                )
            yield chunk


class ApiRoute(APIRoute):
    """A route of the API."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()
        known = frozenset(field.alias for field in self.dependant.query_params)
        offer = offered(self.endpoint)
        has_body = self.body_field is not None
        most = getattr(self.endpoint, "__openami_body_bytes__", BODY_BYTES_MAX)

        async def handle(request: Request) -> Response:
            if await site_of(request).doorkeeper.principal(request) is None:
                raise Problem.not_signed_in()
            _refuse_parameters(request.query_params.multi_items(), known)
            if (
                len(offer) == 1
            ):  # a route with a choice makes it itself: its parameters may overrule Accept
                chosen(request.headers.get("accept"), offer)
            if has_body:
                _refuse_media_type(request.headers.get("content-type"))
                request = bounded = BoundedRequest(request.scope, request.receive)
                bounded.body_bytes_max = most
                await bounded.body()
            return await answer(request)

        return handle


def _refuse_parameters(told: Iterable[tuple[str, str]], known: frozenset[str]) -> None:
    """Raise Problem for a parameter that is unknown, or told twice."""
    seen: set[str] = set()
    errors = []
    for name, _ in told:
        if name not in known:
            choice = f"there are {', '.join(sorted(known))}" if known else "this takes none"
            errors.append(
                {"in": f"query: {name[:_SHOWN_CHARS_MAX]}", "detail": f"unknown: {choice}"}
            )
        elif name in seen:
            errors.append({"in": f"query: {name}", "detail": "told more than once"})
        seen.add(name)
    if errors:
        raise invalid(errors)


def _refuse_media_type(content_type: str | None) -> None:
    if content_type is None or content_type.partition(";")[0].strip().lower() != JSON:
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "the body has to be JSON, and to say so",
            remedy=f"send Content-Type: {JSON}",
        )
