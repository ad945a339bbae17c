"""Logs: one event a line, names that stay, JSON where no person reads along, and no secret."""

import ast
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import openami
from openami.cli.logs import logs_as_json, without_secrets

SOURCE = Path(openami.__file__).parent
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
# People's data that has no place in a log: whoever needs it looks it up in the console, which notes who looked.
PRIVATE = {"customer", "customer_name", "name", "phone", "email", "payload", "latitude"}


@pytest.mark.parametrize(
    ("wanted", "on_terminal", "as_json"),
    [
        ("", True, False),
        ("", False, True),
        ("json", True, True),
        ("text", False, False),
        ("nonsense", False, True),
    ],
)
def test_json_is_for_everything_but_a_terminal(
    wanted: str, on_terminal: bool, as_json: bool
) -> None:
    assert logs_as_json(wanted, on_terminal=on_terminal) is as_json


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("postgresql://openami:hunter2@db/openami", "postgresql://openami:(hidden)@db/openami"),
        ("mqtts://broker.village:8883", "mqtts://broker.village:8883"),
        ("sent oami_3nTqzKkqT-x9_a to it", "sent (hidden) to it"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer (hidden)"),
        (["-----BEGIN PRIVATE KEY-----\nMC4C"], ["(hidden)"]),
        (12, 12),
    ],
)
def test_what_looks_like_a_secret_is_hidden(said: object, kept: object) -> None:
    assert without_secrets(None, "info", {"event": "x", "about": said})["about"] == kept


@pytest.mark.parametrize(
    "name", ["password", "password_hash", "api_token", "totp_secret", "Cookie"]
)
def test_what_is_called_a_secret_is_hidden(name: str) -> None:
    assert without_secrets(None, "info", {name: "hunter2"}) == {name: "(hidden)"}


def test_libraries_speak_the_same_form() -> None:
    program = (
        "import logging, structlog; from openami.cli.logs import configure_logs; configure_logs();"
        "structlog.get_logger('headend').info('connected', url='postgresql://a:hunter2@db/x');"
        "logging.getLogger('driver').warning('meter refuses', extra={'reason': 'exception 2'});"
        "logging.getLogger('driver').info('chatter')"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OPENAMI_LOG"}
    run = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    ours, theirs = (json.loads(line) for line in run.stderr.splitlines())
    assert (ours["event"], ours["level"]) == ("connected", "info")
    assert "hunter2" not in run.stderr
    assert (theirs["event"], theirs["level"]) == ("meter refuses", "warning")
    assert theirs["reason"] == "exception 2"


@cache
def said() -> list[tuple[str, ast.Call]]:
    """Return every call of a logger in the package, with its place."""
    return [
        (f"{path.relative_to(SOURCE)}:{node.lineno}", node)
        for path in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in ("_log", "log", "logger")
        and node.func.attr in LEVELS
    ]


def test_an_events_name_is_a_constant() -> None:
    """What is put together from what happened can neither be counted nor alarmed on."""
    assert len(said()) > 50
    loose = [
        place
        for place, call in said()
        if not (call.args and isinstance(call.args[0], ast.Constant)) or len(call.args) > 1
    ]
    assert not loose


def test_no_log_line_is_told_a_secret_or_whom_it_is_about() -> None:
    told = {
        f"{place}: {keyword.arg}"
        for place, call in said()
        for keyword in call.keywords
        if keyword.arg is not None
        and (
            keyword.arg in PRIVATE
            or without_secrets(None, "", {keyword.arg: ""})[keyword.arg] == "(hidden)"
        )
    }
    assert not told
