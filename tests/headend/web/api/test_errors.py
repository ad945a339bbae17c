"""Every error is a problem document (RFC 9457), whoever finds it: our code, the framework or the store."""

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.headend.web.api.conftest import STORE_NAME
from tests.headend.web.api.village import FEEDER, METER, Village

from openami.headend.web.api.edge import BODY_BYTES_MAX
from openami.headend.web.api.media import PROBLEM


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The village's store, as it lies on the disk."""
    return tmp_path / STORE_NAME


def check_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is a problem of this kind; return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    told: dict[str, Any] = answer.json()
    assert (told["status"], told["code"]) == (status, code)
    assert told["type"] == f"/help/problems#{code}"
    assert told["title"]
    assert told["detail"]
    return told


async def send(village: Village, method: str, path: str, **told: Any) -> httpx.Response:
    headers = {"Authorization": "Bearer relays", **told.pop("headers", {})}
    return await village.client.request(method, f"/api/v1{path}", headers=headers, **told)


@pytest.mark.parametrize(
    "path", ["/feeders", "/feeders/none", "/readings?format=csv", "/openapi.json", "/meters?no=1"]
)
async def test_a_stranger_is_told_to_sign_in_and_nothing_else(village: Village, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer guessed"}, {"Cookie": "openami=guessed"}):
        answer = await village.client.get(f"/api/v1{path}", headers=headers)
        told = check_problem(answer, 401, "not-signed-in")
        assert answer.headers["www-authenticate"] == 'Bearer realm="openami"'
        assert "remedy" in told
    answer = await village.client.post("/api/v1/commands", content=b"{")
    check_problem(answer, 401, "not-signed-in")


async def test_what_the_framework_refuses(village: Village) -> None:
    check_problem(await send(village, "GET", "/nothing"), 404, "not-found")
    refused = await send(village, "PUT", "/sessions")
    check_problem(refused, 405, "method-not-allowed")
    assert refused.headers["allow"] == "GET, POST"
    assert (await send(village, "POST", "/feeders")).headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{", 400, "unreadable-body"),
        (b"", 422, "invalid"),
        (b"\xff\xfe", 400, "unreadable-body"),
        (b"[" * 20_000, 400, "unreadable-body"),
        (b'{"days": ' + b"9" * 5_000 + b"}", 400, "unreadable-body"),
        (b"null", 422, "invalid"),
        (b"[]", 422, "invalid"),
        (b'{"reason": "\\u0000"}', 422, "invalid"),
        (b'{"reason": "\\ud800"}', 422, "invalid"),
        (b'{"days": NaN}', 422, "invalid"),
        (b" " * (BODY_BYTES_MAX + 1), 413, "body-too-large"),
    ],
)
async def test_a_body_that_is_none(
    village: Village, content: bytes, status: int, code: str
) -> None:
    as_json = {"Content-Type": "application/json"}
    answer = await send(village, "POST", "/sessions", content=content, headers=as_json)
    told = check_problem(answer, status, code)
    assert json.dumps(told)


async def test_a_body_that_does_not_say_what_it_is(village: Village) -> None:
    for kind in ({"Content-Type": "text/plain"}, {}):
        answer = await send(village, "POST", "/sessions", content=b"{}", headers=kind)
        check_problem(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize(
    ("accept", "path", "status"),
    [
        ("text/html", "/feeders", 406),
        ("application/json;q=0, */*", "/feeders", 406),
        ("text/csv", "/feeders", 406),
        ("application/*", "/feeders", 200),
        ("*/*;q=0.1", "/feeders", 200),
        ("image/png, text/csv;q=0.5", "/readings", 200),
        ("image/png", "/readings", 406),
        ("image/png", "/readings?format=csv", 200),
    ],
)
async def test_what_a_client_accepts(village: Village, accept: str, path: str, status: int) -> None:
    answer = await send(village, "GET", path, headers={"Accept": accept})
    if status == 406:
        check_problem(answer, 406, "not-acceptable")
    else:
        assert answer.status_code == status


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("since=0", "query: since"),
        ("since=2026-06-22", "query: since"),
        ("since=2026-06-22T14:30:00", "query: since"),
        ("since=2026-02-31T14:30:00Z", "query: since"),
        ("until=1782138600", "query: until"),
        ("since=9999-12-31T23:59:59Z", "query: since"),
        ("limit=0", "query: limit"),
        ("limit=all", "query: limit"),
        ("meter=M%2F1", "query: meter"),
        ("obis=1.8", "query: obis"),
        ("metre=M-1", "query: metre"),
        ("meter=M-1&meter=M-2", "query: meter"),
        ("cursor=%2B", "query: cursor"),
        ("cursor=WyJldmVudHMiLDEsMl0", "query: cursor"),
        ("cursor=bnVsbA", "query: cursor"),
        ("format=xml", "query: format"),
    ],
)
async def test_a_parameter_that_means_nothing(village: Village, query: str, place: str) -> None:
    told = check_problem(await send(village, "GET", f"/readings?{query}"), 422, "invalid")
    assert told["errors"][0]["in"] == place
    assert told["detail"].startswith(place)


async def test_a_store_that_fails_is_said_with_what_to_do(village: Village, file: Path) -> None:
    os.truncate(file, 4096)  # what a card does that forgets
    told = check_problem(await send(village, "GET", "/feeders"), 503, "store-failed")
    assert told["remedy"]
    readings = await send(village, "GET", f"/readings?format=csv&feeder={FEEDER}&meter={METER}")
    check_problem(readings, 503, "store-failed")


async def test_a_fault_of_ours_is_not_shown(village: Village, file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DROP TABLE asset_feeder")
    answer = await send(village, "GET", "/feeders")
    check_problem(answer, 500, "server-fault")
    assert "asset_feeder" not in answer.text
