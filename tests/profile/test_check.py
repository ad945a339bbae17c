"""`openami check`: one verdict for each input, with reason and remedy; exit 0, 1 or 2."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.profile.messages import EXAMPLE, as_bytes, example, register
from tests.profile.vectors import vectors

from openami.cli import main
from openami.cli.check import FILE_BYTES_MAX, LINE_BYTES_MAX, _bounded_lines
from openami.profile import MESSAGE_BYTES_MAX

GOOD = as_bytes(EXAMPLE)
BAD = register(obis="energy")
TOPIC = "openami/v1/feeder-north-paravur-01/pole-ems-0042/meter/DS1000-88421/telemetry"


def run(*arguments: str | Path, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(main, ["check", *map(str, arguments)], input=stdin)


def rows(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def write(content: bytes, name: str = "message.json") -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


def test_a_good_message_is_ok(file: Any) -> None:
    path = file(GOOD)
    result = run(path)
    assert (result.stdout, result.stderr, result.exit_code) == (f"{path}: ok\n", "", 0)


def test_a_bad_message_is_rejected_with_code_place_requirement_and_remedy(file: Any) -> None:
    path = file(BAD)
    result = run(path)
    assert result.exit_code == 1
    (line,) = result.stdout.splitlines()
    assert line.startswith(f"{path}: REJECTED BAD_OBIS at /registers/0/obis: 'energy' is not")
    assert line.endswith("(OA-REG-002, profile; Write the code as the register list does, "
                         "e.g. 1.8.0: openami spec registers.)")  # fmt: skip


def test_all_faults_of_a_message_are_told(file: Any) -> None:
    path = file(example(ts="today", registers=[{"obis": "1.8.0", "value": None}]))
    lines = run(path).stdout.splitlines()
    assert "REJECTED BAD_TIME" in lines[0]
    assert [line.split()[1] for line in lines[1:]] == [
        *("MISSING_MEMBER", "MISSING_MEMBER", "WRONG_TYPE")
    ]


def test_as_json_a_verdict_is_one_object(file: Any) -> None:
    path = file(register(unit="Wh"))
    (row,) = rows(run("--json", path))
    assert row["input"] == str(path)
    assert row["ok"] is False
    (error,) = row["errors"]
    assert error["code"] == "WRONG_UNIT"
    assert error["path"] == "/registers/0/unit"
    assert (error["requirement"], error["source"]) == ("OA-REG-008", "decision 0015")
    assert error["remedy"]


def test_several_files_are_several_verdicts(file: Any) -> None:
    result = run(file(GOOD, "a.json"), file(BAD, "b.json"), file(GOOD, "c.json"), "--json")
    assert [row["ok"] for row in rows(result)] == [True, False, True]
    assert result.exit_code == 1


def test_standard_input_is_one_message_or_one_a_line() -> None:
    assert rows(run("-", "--json", stdin=GOOD))[0]["input"] == "standard input"
    indented = json.dumps(EXAMPLE, indent=2).encode() + b"\n"
    assert [row["ok"] for row in rows(run("-", "--json", stdin=indented))] == [True]
    lines = rows(run("-", "--json", stdin=GOOD + b"\n\n" + BAD + b"\nnot json\r\n"))
    assert [(row["input"][-1], row["ok"]) for row in lines] == [
        *(("1", True), ("3", False), ("4", False))
    ]


def test_with_lines_a_garbage_line_is_one_verdict_and_the_stream_goes_on() -> None:
    result = run("-", "--lines", "--json", stdin=b"garbage\n" + GOOD + b"\n")
    assert [row["ok"] for row in rows(result)] == [False, True]


def test_a_file_of_lines_is_known_by_its_name(file: Any) -> None:
    result = run("--json", file(b"garbage\n" + GOOD, "capture.jsonl"))
    assert [row["ok"] for row in rows(result)] == [False, True]


def test_a_broken_message_of_several_lines_is_one_verdict(file: Any) -> None:
    path = file(json.dumps(EXAMPLE, indent=2).encode()[:-2])
    (row,) = rows(run("--json", path))
    assert [error["code"] for error in row["errors"]] == ["BAD_JSON"]


def capture(**members: object) -> bytes:
    """As `mosquitto_sub -F %J` prints it."""
    whole = {"tst": "2026-06-22T14:30:01Z", "topic": TOPIC, "qos": 1, "retain": 0} | members
    return as_bytes({"payload": EXAMPLE} | whole)


def codes_of(content: bytes) -> list[str]:
    (row,) = rows(run("-", "--json", stdin=content))
    return [error["code"] for error in row["errors"]]


def test_a_captured_message_is_judged_with_its_topic() -> None:
    assert codes_of(capture()) == []
    assert codes_of(capture(topic=TOPIC.replace("DS1000-88421", "DS1000-88422"))) == [
        "TOPIC_MISMATCH"
    ]
    assert codes_of(capture(topic=TOPIC.replace("telemetry", "event"))) == []
    assert codes_of(capture(topic=TOPIC.replace("telemetry", "command"))) == ["UNEXPECTED_TOPIC"]
    assert codes_of(capture(topic="meters/1")) == ["BAD_TOPIC"]
    assert codes_of(capture(retain=1)) == ["RETAINED"]
    assert codes_of(capture(payload="not json")) == ["BAD_JSON"]
    assert codes_of(capture(payload=GOOD.decode())) == []
    assert codes_of(capture(payload=None)) == ["NOT_AN_OBJECT"]
    assert codes_of(capture(payload=EXAMPLE | {"ts": 1})) == ["WRONG_TYPE"]


def test_what_openami_watch_prints_is_judged_too() -> None:
    row = {"receivedAt": EXAMPLE["ts"], "topic": TOPIC, "verdict": "accepted", "registers": []}
    assert codes_of(as_bytes(row | {"payload": GOOD.decode()})) == []
    assert codes_of(as_bytes(row | {"payload": BAD.decode()})) == ["BAD_OBIS"]
    latin = base64.b64encode(b'{"unit":"\xb0C"}').decode()
    assert codes_of(as_bytes(row | {"payloadBase64": latin})) == ["BAD_UTF8"]
    assert "MISSING_MEMBER" in codes_of(as_bytes(row | {"payloadBase64": "?"}))
    assert "MISSING_MEMBER" in codes_of(as_bytes(row))


def test_an_envelope_with_members_topic_and_payload_is_an_envelope() -> None:
    assert codes_of(example(topic="x", payload=1)) == []


def test_a_capture_that_is_no_text_is_judged_as_it_stands() -> None:
    broken = capture(payload="@").replace(b"@", b"\\ud800")
    assert codes_of(broken) == ["BAD_JSON"]


def remarks_of(content: bytes) -> list[tuple[str, str]]:
    (row,) = rows(run("-", "--json", stdin=content))
    assert row["ok"]
    return [(remark["code"], remark["path"]) for remark in row["warnings"]]


def test_what_is_let_through_and_looks_wrong_is_told() -> None:
    assert remarks_of(GOOD) == []
    assert remarks_of(register(obis="1-0:99.99.99*255")) == [("UNKNOWN_REGISTER", "/registers/0")]
    assert remarks_of(register(value=-1)) == [("IMPLAUSIBLE_VALUE", "/registers/0/value")]
    assert remarks_of(example(schemaVersion="0.2")) == [("NEWER_VERSION", "/schemaVersion")]
    assert remarks_of(example(seq="a")) == [("EXTENSION_IGNORED", "/seq")]
    assert remarks_of(example(sessionid="x")) == [("UNKNOWN_MEMBER", "/sessionid")]
    assert remarks_of(register(Unit="kWh")) == [("UNKNOWN_MEMBER", "/registers/0/Unit")]
    twice = example(registers=EXAMPLE["registers"][:1] * 2)
    assert remarks_of(twice) == [("REPEATED_REGISTER", "/registers/1")]


def test_a_warning_is_a_line_under_its_verdict(file: Any) -> None:
    path = file(example(sessionid="x"))
    assert run(path).stdout.splitlines()[1].startswith("  warning: UNKNOWN_MEMBER at /sessionid: ")


def test_one_bad_register_does_not_hide_what_is_wrong_with_another() -> None:
    listed = [0, EXAMPLE["registers"][0] | {"unit": "Wh"}]
    assert codes_of(example(registers=listed)) == ["WRONG_TYPE", "WRONG_UNIT"]


def test_faults_beyond_the_bound_are_counted(file: Any) -> None:
    path = file(example(registers=[0] * 300))
    assert run(path).stdout.splitlines()[-1] == "  and 44 more"


def test_another_register_list_can_be_used(file: Any) -> None:
    entry = {"obis": "1.8.0", "name": "Energy", "unit": "Wh", "certainty": "A"}
    listed = file(json.dumps({"registers": [entry]}).encode(), "list.json")
    (row,) = rows(run("-", "--json", "--registers", listed, stdin=register()))
    assert [error["code"] for error in row["errors"]] == ["WRONG_UNIT"]


@pytest.mark.parametrize("content", [None, b"{}"])
def test_a_register_list_that_cannot_be_used_is_one_sentence(
    file: Any, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "absent.json" if content is None else file(content)
    result = run("-", "--registers", path, stdin=GOOD)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"openami: {path}")
    assert len(result.stderr.splitlines()) == 1


def test_a_file_that_cannot_be_read_is_a_sentence_and_the_others_are_judged(
    file: Any, tmp_path: Path
) -> None:
    path = file(BAD)
    result = run(tmp_path / "absent.json", tmp_path, path)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 2
    assert "absent.json cannot be read: No such file" in result.stderr
    assert result.stdout.startswith(f"{path}: REJECTED")


def test_a_file_that_is_no_message_by_its_size_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(FILE_BYTES_MAX + 1)
    result = run(path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "use --lines" in result.stderr


def test_no_message_at_all_is_not_a_success() -> None:
    result = run("-", "--lines", stdin=b"\n\n")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no message" in result.stderr
    assert codes_of(b"") == ["BAD_JSON"]


def test_a_line_feed_at_the_end_does_not_count_in_the_size(file: Any) -> None:
    fill = b" " * (MESSAGE_BYTES_MAX - len(GOOD))
    assert run(file(GOOD + fill + b"\n")).exit_code == 0
    assert codes_of(GOOD + fill + b" \n") == ["TOO_LARGE"]


def test_a_line_without_end_is_cut_and_the_next_is_read() -> None:
    long = b"x" * (3 * LINE_BYTES_MAX)
    read = list(_bounded_lines(io.BytesIO(long + b"\n" + GOOD + b"\n").readline))
    assert [len(line) for line in read] == [LINE_BYTES_MAX, len(GOOD) + 1]
    result = run("-", "--lines", "--json", stdin=long + b"\n" + GOOD)
    assert [row["ok"] for row in rows(result)] == [False, True]


def test_no_vector_breaks_the_command() -> None:
    """Every vector as a capture where it is text, as a file of its own where it is not."""
    for vector in vectors("telemetry", "event"):
        if vector.result.get("judged") == "ingest":
            continue
        result = run("-", "--json", stdin=vector.payload)
        assert result.exception is None or isinstance(result.exception, SystemExit), vector.name
        if vector.name[:2] == "n_":
            first = rows(result)[0]["errors"][0]
            assert (first["code"], first["path"]) == (vector.result["code"], vector.result["path"])
        elif vector.name[:2] == "y_":
            assert result.exit_code == 0, vector.name
