"""``openami check --verdicts``: a capture is judged as a whole, by the kit's rules."""

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.conformance.mutants import GATEWAYS
from tests.conformance.streams import Stream, good_gateway, ordinary
from tests.conftest import StartMosquitto
from tests.tools import require_tool

from openami.cli import main
from openami.conformance.observation import Published
from openami.mqtt.settings import parse_url
from openami.profile import utc_text


def published(stream: Stream) -> list[Published]:
    return [each for each in stream.observations if isinstance(each, Published)]


def captured(messages: Sequence[Published], **changed: Any) -> bytes:
    """Return a capture as `openami watch --json --raw` writes it, with the QoS that mosquitto_sub adds."""
    lines = [
        {
            "receivedAt": utc_text(each.at),
            "topic": each.topic,
            "qos": each.qos,
            "retain": each.retain,
            "payload": each.payload.decode(errors="replace"),
            **changed,
        }
        for each in messages
    ]
    return "\n".join(map(json.dumps, lines)).encode()


def run(capture: bytes, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["check", "--verdicts", *arguments, "-"], input=capture)


def verdicts(result: Result) -> dict[str, str]:
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    return {row["requirement"]: row["verdict"] for row in rows if row["row"] == "finding"}


def test_a_good_capture_conforms() -> None:
    result = run(captured(published(good_gateway())), "--json", "--lines")
    assert result.exit_code == 0, result.output
    told = verdicts(result)
    assert told["OA-QOS-001"] == told["OA-ENV-013"] == told["OA-REG-015"] == "passed"
    assert told["OA-TLS-001"] == told["OA-DEL-001"] == told["OA-SEQ-001"] == "not exercised"


@pytest.mark.parametrize("number", ["OA-ENV-005", "OA-REG-015", "OA-SEQ-001", "OA-EVT-003"])
def test_what_needs_the_messages_before_is_judged_too(number: str) -> None:
    result = run(captured(published(GATEWAYS[number]())), "--json", "--lines")
    told = verdicts(result)
    assert [each for each, verdict in told.items() if verdict in ("failed", "warning")] == [number]


def test_who_subscribed_with_qos_0_knows_nothing_of_qos() -> None:
    result = run(captured(published(ordinary()), qos=0), "--json", "--lines")
    assert verdicts(result)["OA-QOS-001"] == "not exercised"
    assert result.exit_code == 1
    result = run(captured(published(ordinary()), qos=None), "--json", "--lines")
    assert verdicts(result)["OA-QOS-001"] == "not exercised"


def test_messages_without_a_topic_are_said_to_be_left_out() -> None:
    messages = published(ordinary())
    result = run(captured(messages) + b"\n" + messages[0].payload, "--lines")
    assert result.exit_code == 0
    assert "1 inputs have no topic beside them" in result.stderr
    alone = run(messages[0].payload)
    assert alone.exit_code == 2
    assert "mosquitto_sub -q 1 -F '%J'" in alone.stderr


def test_a_head_end_can_be_judged_from_a_capture() -> None:
    told = verdicts(run(captured(published(ordinary())), "--json", "--lines", "--of", "headend"))
    assert told["OA-CMD-007"] == "not exercised"
    assert "OA-REG-001" not in told


@pytest.mark.broker
def test_what_mosquitto_sub_captures_is_judged(mosquitto: StartMosquitto, tmp_path: Path) -> None:
    broker = mosquitto()
    where = parse_url(broker.url)
    address = ("-h", where.host, "-p", str(where.port))
    file = tmp_path / "capture.jsonl"
    messages = published(ordinary())
    with file.open("wb") as out:
        subscriber = subprocess.Popen(
            [
                *(require_tool("mosquitto_sub"), *address, "-q", "1"),
                *("-t", "openami/#", "-F", "%J", "-C", str(len(messages)), "-W", "20"),
            ],
            stdout=out,
        )
        while "openami/#" not in broker.log():
            time.sleep(0.02)
        for each in messages:
            publish = (require_tool("mosquitto_pub"), *address, "-t", each.topic, "-q", "1", "-s")
            subprocess.run(publish, input=each.payload, check=True, timeout=20)
        assert subscriber.wait(20) == 0
    result = CliRunner().invoke(main, ["check", "--verdicts", "--json", str(file)])
    told = verdicts(result)
    assert result.exit_code == 0, result.output
    assert told["OA-QOS-001"] == told["OA-ENV-011"] == "passed"
