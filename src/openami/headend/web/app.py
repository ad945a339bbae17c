"""The application: API, console and health checks under one roof.

It cannot be built with a route nobody has declared a role for.
"""

from collections.abc import Iterable
from typing import Final

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from openami import __version__
from openami.headend.store import StoreError
from openami.headend.web import refusals
from openami.headend.web.admission import admit, declared
from openami.headend.web.api import api_routes
from openami.headend.web.console import console_routes
from openami.headend.web.console.live import looking
from openami.headend.web.console.rendering import problem_page
from openami.headend.web.headers import SecurityHeaders
from openami.headend.web.measuring import Measured, patterns
from openami.headend.web.operations import METRICS, operations_routes
from openami.headend.web.problems import Problem
from openami.headend.web.returning import asking, path_asked
from openami.headend.web.site import Site

API: Final = "/api/v1"
LIVE: Final = "/live/"
# Where a person is asked for what a program is refused for.
_ASKED_AT: Final = {"not-signed-in": "/sign-in", "step-up-needed": "/step-up"}
# An asset sheet of ten thousand meters has a megabyte; forms and API calls have kilobytes.
BODY_BYTES_MAX: Final = 8 * 1024 * 1024
# Below it the header costs more than is saved; and level 6 costs half of level 9 for two hundredths more bytes.
GZIP_FROM_BYTES: Final = 500
GZIP_LEVEL: Final = 6
# FastAPI's own spans and logs hold the values people send, passwords among them; ours (`measuring`) do not.
_NO_TELEMETRY: Final[TelemetryConfig] = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


def build_app(site: Site) -> FastAPI:
    """Return the application. Raises UndeclaredRoute when a route has no declared role."""
    app = FastAPI(
        title="OpenAMI head-end",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        max_body_size=BODY_BYTES_MAX,
        dependencies=[Depends(admit)],
        telemetry=_NO_TELEMETRY,
        lifespan=looking,
    )
    app.state.site = site
    app.add_middleware(GZipMiddleware, minimum_size=GZIP_FROM_BYTES, compresslevel=GZIP_LEVEL)
    app.add_middleware(SecurityHeaders, secure=site.secure)
    app.add_exception_handler(Problem, answer_problem)  # type: ignore[arg-type]
    app.add_exception_handler(StoreError, _answer_store_error)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _answer_http)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _answer_invalid)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _answer_bug)
    app.include_router(api_routes(), prefix=API)
    app.include_router(console_routes())
    app.include_router(operations_routes(site))
    _refuse_undeclared(app.routes)
    app.add_middleware(
        Measured, patterns=patterns(app.routes), metrics=site.metrics, tracing=site.tracing
    )
    return app


class UndeclaredRoute(Exception):
    """A route says not who may use it."""


def _refuse_undeclared(routes: Iterable[BaseRoute]) -> None:
    for context in iter_route_contexts(tuple(routes)):
        route = context.original_route
        if isinstance(route, Mount):
            _refuse_undeclared(route.routes)
        elif not isinstance(route, Route) or declared(route.endpoint) is None:
            raise UndeclaredRoute(f"{context.path or route}: @declares(role) is missing")


async def answer_problem(request: Request, problem: Problem) -> Response:
    """Answer a program with a problem document, a person with a page.

    A page's stream is a program: sent elsewhere with a success it would come again twice a second.
    """
    if request.url.path.startswith((API, LIVE, METRICS)):
        return JSONResponse(
            problem.document(),
            status_code=problem.status,
            media_type="application/problem+json",
            headers=problem.headers,
        )
    if (page := _ASKED_AT.get(problem.code)) is not None:
        return _sent_to(request, asking(page, path_asked(request)))
    return problem_page(request, problem)


def _sent_to(request: Request, address: str) -> Response:
    """Send a browser to a page; where a script of ours has asked, the page itself and not a part of it."""
    if "hx-request" in request.headers:
        return Response(status_code=204, headers={"HX-Redirect": address})
    return RedirectResponse(address, status_code=303)


async def _answer_store_error(request: Request, error: StoreError) -> Response:
    return await answer_problem(request, Problem.store_failed(str(error), error.remedy))


async def _answer_http(request: Request, error: HTTPException) -> Response:
    return await answer_problem(request, refusals.of_http(request, error))


async def _answer_invalid(request: Request, error: RequestValidationError) -> Response:
    return await answer_problem(request, refusals.of_invalid(error))


async def _answer_bug(request: Request, _: Exception) -> Response:
    return await answer_problem(request, refusals.of_bug())
