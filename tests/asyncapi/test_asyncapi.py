"""The AsyncAPI document: valid by its initiative's own parser, and true by ours."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from tests.profile.vectors import Vector, vectors
from tests.tools import require_tool
from tools.make_asyncapi import SCHEMAS, SCHEMAS_OF_MESSAGES, rendered

from openami import spec
from openami.profile import (
    CommandTopic,
    EventTopic,
    SessionTopic,
    TelemetryTopic,
    decode_envelope,
    judge_topic,
    parse_topic,
)
from openami.sip.acts import verified_acts
from openami.sip.canonical import read_document
from openami.sip.command import read_command
from openami.sip.keys import PublicKey
from openami.sip.session_document import read_session

HERE = Path(__file__).parent
DOCUMENT = json.loads(spec.load("asyncapi.json"))
PROFILE = json.loads(spec.load("profile-v0.1.json"))
MESSAGES = DOCUMENT["components"]["messages"]


def test_the_file_is_the_one_that_is_made() -> None:
    """If this fails: python -m tools.make_asyncapi"""
    assert spec.load("asyncapi.json").decode() == rendered()


# --- by the initiative's parser ------------------------------------------------------------------


def parsed(path: Path) -> tuple[int, list[dict[str, Any]]]:
    node = require_tool("node")
    if not (HERE / "node_modules").exists():
        reason = "npm ci --prefix tests/asyncapi has not been run: .ci/run does it"
        if os.environ.get("OPENAMI_REQUIRE_TOOLS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    run = subprocess.run(
        [node, HERE / "check.mjs", path], capture_output=True, text=True, timeout=60
    )
    assert not run.stderr, run.stderr
    return run.returncode, [json.loads(line) for line in run.stdout.splitlines()]


def test_the_parser_takes_it_and_sees_all_of_it() -> None:
    code, lines = parsed(Path(str(HERE / "../../src/openami/spec/asyncapi.json")))
    *remarks, seen = lines
    assert code == 0
    # There is a 3.1.0; what it adds is not needed, and readers of 3.0 are more.
    assert [remark["code"] for remark in remarks] == ["asyncapi-latest-version"]
    assert seen["version"] == "3.0.0"
    assert seen["channels"] == list(PROFILE["mqtt"]["topics"].values())
    assert seen["messages"] == list(MESSAGES)
    assert len(seen["operations"]) == len(DOCUMENT["operations"])


@pytest.mark.parametrize(
    ("place", "value", "code"),
    [
        (("channels", "telemetry", "parameters", "pole"), {}, "asyncapi3-channel-parameters"),
        (("operations", "gatewaySendsEvents", "action"), "publish", "asyncapi-document-resolved"),
        (
            ("components", "messages", "event", "payload", "$ref"),
            "#/components/schemas/Evnet",
            "invalid-ref",
        ),
    ],
)
def test_the_parser_would_see_a_fault(
    place: tuple[str, ...], value: object, code: str, tmp_path: Path
) -> None:
    broken = json.loads(spec.load("asyncapi.json"))
    node = broken
    for name in place[:-1]:
        node = node[name]
    node[place[-1]] = value
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(broken))
    exit_code, lines = parsed(path)
    assert exit_code == 1
    assert code in {line.get("code") for line in lines if line.get("severity") == 0}


# --- by our own tests ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_one_of_2020_12_with_a_stable_name(name: str) -> None:
    schema = json.loads(spec.load(f"schema/{name}.json"))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:openami:village-northbound:0.1:{name}"
    jsonschema_rs.Draft202012Validator(schema)
    assert jsonschema_rs.meta.is_valid(schema)
    assert DOCUMENT["components"]["schemas"][name]["$id"] == schema["$id"]


@pytest.mark.parametrize("name", DOCUMENT["components"]["schemas"])
def test_every_schema_in_the_document_is_one_too(name: str) -> None:
    assert jsonschema_rs.meta.is_valid(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **DOCUMENT["components"]["schemas"][name],
        }
    )


def test_every_reference_leads_somewhere() -> None:
    places = list(references(DOCUMENT))
    assert len(places) > 50
    for place in places:
        node: Any = DOCUMENT
        for part in place.removeprefix("#/").split("/"):
            node = node[part]


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_channels_and_qos_are_the_profiles() -> None:
    topics = PROFILE["mqtt"]["topics"]
    assert {name: channel["address"] for name, channel in DOCUMENT["channels"].items()} == topics
    for name, operation in DOCUMENT["operations"].items():
        binding = DOCUMENT["components"]["operationBindings"][
            operation["bindings"]["$ref"].rpartition("/")[2]
        ]["mqtt"]
        assert binding["qos"] == 1, name
        assert binding.get("retain", False) is False
        assert ("retain" in binding) == (operation["action"] == "send")


@pytest.mark.parametrize(
    ("channel", "topic"),
    [
        ("telemetry", TelemetryTopic),
        ("event", EventTopic),
        ("command", CommandTopic),
        ("session", SessionTopic),
    ],
)
def test_an_address_with_its_parameters_filled_in_is_our_topic(channel: str, topic: type) -> None:
    found = DOCUMENT["channels"][channel]
    filled = found["address"].format_map({name: f"{name}-1" for name in found["parameters"]})
    assert isinstance(parse_topic(filled), topic)
    assert str(parse_topic(filled)) == filled


@pytest.mark.parametrize(
    "vector", [pytest.param(v, id=v.name) for v in vectors("topic") if v.name.startswith("y_")]
)
def test_a_good_topic_is_of_one_channel(vector: Vector) -> None:
    assert channels_of(vector.topic) == [vector.result["parsed"]["kind"]]


@pytest.mark.parametrize(
    "vector",
    [
        pytest.param(v, id=v.name)
        for v in vectors("topic")
        if v.result.get("code") == "BAD_TOPIC" and v.topic
    ],
)
def test_a_foreign_topic_is_of_none(vector: Vector) -> None:
    assert channels_of(vector.topic) == []


def channels_of(topic: str) -> list[str]:
    return [
        name
        for name, channel in DOCUMENT["channels"].items()
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", channel["address"]), topic)
    ]


def examples() -> list[Any]:
    return [
        pytest.param(name, example["payload"], id=f"{name}-{example['name']}")
        for name, message in MESSAGES.items()
        for example in message.get("examples", ())
    ]


def test_every_message_but_the_keyring_has_an_example() -> None:
    assert {param.values[0] for param in examples()} == set(MESSAGES) - {"keyring"}


@pytest.mark.parametrize(("message", "payload"), examples())
def test_an_example_fits_its_schema_and_no_decoder_refuses_it(
    message: str, payload: dict[str, Any]
) -> None:
    schema = json.loads(spec.load(f"schema/{SCHEMAS_OF_MESSAGES[message][0]}.json"))
    jsonschema_rs.Draft202012Validator(schema).validate(payload)
    sent = json.dumps(payload).encode()
    match message:
        case "session":
            read_session(read_document(sent))
        case "command":
            topic = parse_topic(f"{PREFIX}/meter/{payload['meterSerial']}/command")
            assert isinstance(topic, CommandTopic)
            read_command(read_document(sent), topic)
        case _:
            envelope = decode_envelope(sent)
            leaf = "telemetry" if message == "telemetry" else "event"
            topic = parse_topic(f"{PREFIX}/meter/{payload['meterSerial']}/{leaf}")
            assert isinstance(topic, TelemetryTopic | EventTopic)
            assert not judge_topic(envelope, topic)
            assert not envelope.ignored


PREFIX = "openami/v1/feeder-north-paravur-01/pole-ems-0042"


@pytest.mark.parametrize(
    ("message", "payload"), [p for p in examples() if "signature" in p.values[1]]
)
def test_a_signed_example_verifies(message: str, payload: dict[str, Any]) -> None:
    (offer,) = [v for v in vectors("session") if v.name == "y_offer"]
    keys = {kid: PublicKey.parse(text) for kid, text in offer.content["keys"].items()}
    acts = verified_acts(read_document(json.dumps(payload).encode()), keys)
    assert acts
    assert all(act.type.value.startswith("sip-") for act in acts)
