"""The OpenAPI document says what the API does."""

import os
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from tests.headend.web.api.village import Village

import openami
from openami.cli.spec import spec
from openami.headend.web.admission import declared
from openami.headend.web.api import api_routes
from openami.headend.web.api.document import document, printed, published
from openami.headend.web.app import API

COMMITTED = Path(openami.__file__).parent / "spec" / "openapi.json"


def application() -> FastAPI:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.include_router(api_routes(), prefix=API)
    return app


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation)
        for path, methods in document(application().routes)["paths"].items()
        for method, operation in methods.items()
    ]


def test_the_committed_document_is_that_of_the_routes() -> None:
    """RENEW_OPENAPI=1 writes it anew."""
    now = printed(application().routes)
    if os.environ.get("RENEW_OPENAPI"):
        COMMITTED.write_text(now, encoding="utf-8")
    assert COMMITTED.read_text(encoding="utf-8") == now, (
        "the API's routes and src/openami/spec/openapi.json differ; if that is meant, renew it: "
        "RENEW_OPENAPI=1 pytest tests/headend/web/api/test_document.py, and commit it"
    )


async def test_it_is_served_and_printed_as_it_is_committed(village: Village) -> None:
    assert (await village.get("/openapi.json")).text == published()
    assert CliRunner().invoke(spec, ["openapi"]).output == published()


def test_every_error_is_declared_as_a_problem() -> None:
    for method, path, operation in operations():
        refused = {s: r for s, r in operation["responses"].items() if s >= "400"}
        assert {"401", "403", "406", "422", "500", "503"} <= set(refused), path
        if method == "post" and "requestBody" in operation:
            assert {"400", "413", "415"} <= set(refused), path
        for response in refused.values():
            assert list(response["content"]) == ["application/problem+json"], path


def test_every_operation_and_member_is_described() -> None:
    made = document(application().routes)
    for _, path, operation in operations():
        assert operation.get("summary"), path
        assert operation.get("description"), path
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description"), (path, parameter["name"])
    for name, schema in made["components"]["schemas"].items():
        assert name.endswith("Page") or schema.get("description"), name


def test_every_route_of_the_api_declares_its_role() -> None:
    """What moves a relay needs more, which depends on what is ordered: see test_commands."""
    for context in iter_route_contexts(tuple(application().routes)):
        assert context.endpoint is not None
        mark = declared(context.endpoint)
        assert mark is not None
        assert mark.role is not None, context.path
