"""The runbook is held to the program: each alarm and each grave log line is in it, none is stale."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import openami
from openami.bridge import events as bridge_events
from openami.gateway.event_types import EVENT_TYPES
from openami.headend.alarm_causes import ALWAYS, SAID_BY_STATE, SERIOUS
from openami.headend.alarms import StateKind

SOURCE = Path(openami.__file__).parent
RUNBOOK = (SOURCE.parents[1] / "docs/runbook.md").read_text()
GRAVE = {"warning", "error", "exception", "critical"}
# Told by other parts of the gateway than its table of events; what its severity is stands beside it there.
TOLD_ELSEWHERE = {"telemetry_thinned": SOURCE / "gateway/thinning.py"}


def section(heading: str) -> set[str]:
    """Return what stands in the first column of a section's table, in code."""
    text = RUNBOOK.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))


def lines_of(*parts: str) -> Iterator[tuple[str, str]]:
    """Yield where and how each grave line of a program's log is called."""
    for part in parts:
        for path in sorted((SOURCE / part).rglob("*.py")):
            for call in ast.walk(ast.parse(path.read_text())):
                if isinstance(call, ast.Call) and is_grave(call.func):
                    [name, *_] = call.args
                    where = f"{path.name}:{call.lineno}"
                    assert isinstance(name, ast.Constant), f"{where}: no constant"
                    assert isinstance(name.value, str)
                    yield where, name.value


def is_grave(function: ast.expr) -> bool:
    return (
        isinstance(function, ast.Attribute)
        and function.attr in GRAVE
        and isinstance(function.value, ast.Name)
        and function.value.id == "_log"
    ) or (isinstance(function, ast.Name) and function.id == "say")  # where the level is chosen


@pytest.mark.parametrize("program", ["headend", "gateway", "bridge"])
def test_every_grave_line_of_a_log_is_explained_and_none_is_stale(program: str) -> None:
    lines = dict(lines_of(program))
    missing = {where: name for where, name in lines.items() if name not in section_of(program)}
    assert not missing, "say in docs/runbook.md what to do"
    assert not section_of(program) - set(lines.values()), "nothing says this any more"


def section_of(program: str) -> set[str]:
    name = "head-end" if program == "headend" else program
    return section(f"The {name}'s log")


def test_every_alarm_is_explained_and_none_is_stale() -> None:
    for name, file in TOLD_ELSEWHERE.items():
        assert f'"{name}"' in file.read_text()
        assert "severity=Severity.MAJOR" in file.read_text()
    severities = {kind.value: told.severity for kind, told in EVENT_TYPES.items()}
    severities |= {kind.value: severity for kind, severity in bridge_events._SEVERITY.items()}
    told = {kind for kind, severity in severities.items() if severity in SERIOUS or kind in ALWAYS}
    kinds = {kind.value for kind in StateKind} | (told - SAID_BY_STATE) | set(TOLD_ELSEWHERE)
    assert section("Alarms") == kinds


def test_the_console_has_a_word_for_each_of_our_alarms() -> None:
    words = (SOURCE / "headend/web/console/templates/alarms_words.html").read_text()
    spoken = set(re.findall(r'kind == "([\w.]+)"', words))
    assert section("Alarms") - spoken <= {"cabinet_open"}  # the bridge's, told as it is called
