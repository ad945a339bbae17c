"""`openami spec` prints the contract."""

import json

import pytest
from click.testing import CliRunner, Result

from openami import spec
from openami.cli import main
from openami.profile import requirements, shipped_catalogue

SCHEMAS = (
    "command", "envelope", "event", "keyring", "registers", "report", "session", "statement",
)  # fmt: skip


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["spec", *arguments])


def test_a_schema_is_printed_as_its_file() -> None:
    for name in SCHEMAS:
        assert run("schema", name).stdout_bytes == spec.load(f"schema/{name}.json")
        assert json.loads(run("schema", name, "--json").stdout) == json.loads(
            spec.load(f"schema/{name}.json")
        )


def test_schemas_are_listed() -> None:
    assert [json.loads(line)["name"] for line in run("schema", "--json").stdout.splitlines()] == [
        *SCHEMAS
    ]
    assert "envelope" in run("schema").stdout


def test_the_asyncapi_document_is_printed_as_its_file() -> None:
    assert run("asyncapi").stdout_bytes == spec.load("asyncapi.json")


def test_the_four_topics_are_listed_with_their_qos() -> None:
    rows = [json.loads(line) for line in run("topics", "--json").stdout.splitlines()]
    assert [(row["kind"], row["qos"]) for row in rows] == [
        *(("telemetry", 1), ("event", 1), ("command", 1), ("session", None))
    ]
    assert "openami/v1/{feederId}/{gatewayId}/session/{sessionId}" in run("topics").stdout


def test_rules_are_listed_and_one_is_told_with_its_remedy() -> None:
    assert len(run("rules", "--json").stdout.splitlines()) == len(requirements())
    assert len(run("rules").stdout.splitlines()) == len(requirements())
    told = run("rules", "OA-REG-004").stdout
    assert "profile" in told
    assert requirements()["OA-REG-004"].remedy in told


def test_registers_are_listed() -> None:
    assert len(run("registers", "--json").stdout.splitlines()) == len(shipped_catalogue())
    assert len(run("registers").stdout.splitlines()) == len(shipped_catalogue()) + 1
    proposals = [
        json.loads(line)
        for line in run("registers", "--certainty", "C", "--json").stdout.split("\n")
        if line
    ]
    assert {"96.8.0", "96.11.1"} <= {row["obis"] for row in proposals}


@pytest.mark.parametrize("arguments", [("schema", "x"), ("rules", "OA-XXX-000")])
def test_what_is_not_there_is_one_sentence(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
