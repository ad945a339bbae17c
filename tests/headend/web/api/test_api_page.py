"""docs/api.md: what it says is there, and its examples run."""

import asyncio
import json
import os
import re
import shutil
import socket
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import uvicorn
from tests.headend.web.api.village import Village

import openami
from openami.headend.web.api.document import published

PAGE = (Path(openami.__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
DOCUMENT: dict[str, Any] = json.loads(published())
PREFIX = "/api/v1"


def schema_of(reference: dict[str, Any]) -> dict[str, Any]:
    name = reference["$ref"].rsplit("/", 1)[1]
    found: dict[str, Any] = DOCUMENT["components"]["schemas"][name]
    return found


def members_of(path: str) -> list[str]:
    """Return the members of what a GET answers with; of a list, those of its items."""
    content = DOCUMENT["paths"][PREFIX + path]["get"]["responses"]["200"]["content"]
    schema = schema_of(content["application/json"]["schema"])
    if "items" in schema["properties"]:
        schema = schema_of(schema["properties"]["items"]["items"])
    return list(schema["properties"])


def rows() -> list[tuple[str, str]]:
    table = PAGE.split("## Resources", 1)[1]
    return re.findall(r"^\| `(/[^`]+)` \| (.+) \|$", table, re.MULTILINE)


@pytest.mark.parametrize(("path", "cell"), rows(), ids=[path for path, _ in rows()])
def test_the_members_that_are_named_are_those_there_are(path: str, cell: str) -> None:
    named = re.findall(r"`(\w+)`", cell)
    if cell.startswith("the same"):
        named = members_of(path.partition("/{")[0]) + named
    assert sorted(named) == sorted(members_of(path))


def test_every_resource_and_every_change_is_named() -> None:
    named = {path for path, _ in rows()}
    for path, methods in DOCUMENT["paths"].items():
        short = path.removeprefix(PREFIX)
        assert short in named or short.partition("/{")[0] in named or f"`{short}`" in PAGE, short
        if not methods.keys().isdisjoint(("post", "put")):
            assert f"`{short}`" in PAGE or f"`POST {short}`" in PAGE, short


def test_every_parameter_and_member_in_the_text_exists() -> None:
    """What is spelled like a member of JSON, anywhere on the page, is one."""
    known = set(re.findall(r'"(\w+)"', published()))
    spelled = set(re.findall(r"`([a-z]+[A-Z]\w*)`", PAGE))
    assert len(spelled) > 40
    assert spelled <= known, spelled - known


async def test_the_examples_run(village: Village, tmp_path: Path) -> None:
    """Against a server, with curl, in the order of the page."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(village.app, log_level="error", lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            script = "set -eu\n" + "\n".join(
                re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
            )
            port = listening.getsockname()[1]
            process = await asyncio.create_subprocess_exec(
                *("sh", "-c", script),
                cwd=tmp_path,
                env={
                    "PATH": os.environ["PATH"],
                    "API": f"http://127.0.0.1:{port}{PREFIX}",
                    "TOKEN": "relays",
                },
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, err = await asyncio.wait_for(process.communicate(), 30)
        finally:
            server.should_exit = True
            await serving
    assert process.returncode == 0, err.decode()
    assert len((tmp_path / "june.csv").read_text().splitlines()) > 10
    assert pq.read_table(tmp_path / "june.parquet").num_rows > 10
    assert out.decode().endswith('"endedAt":"2026-06-22T14:30:00Z"}')
