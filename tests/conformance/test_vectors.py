"""The verdict on an implementation's answers, and `openami conformance vectors`."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
import xmlschema
from click.testing import CliRunner, Result
from tests.cases import in_one_test
from tests.profile.vectors import vectors as read_vectors

from openami.cli import main
from openami.conformance.adapter_contract import Answer, Silence
from openami.conformance.our_reader import answer
from openami.conformance.vectors import (
    KINDS,
    USUAL_CLOCK,
    Vector,
    by_flag,
    flags,
    judged,
    shipped_vectors,
)
from openami.profile import requirements

SCHEMA = xmlschema.XMLSchema(str(Path(__file__).parent / "report/junit.xsd"))
VECTORS = {vector.id: vector for vector in shipped_vectors()}
OURS = f"{sys.executable} -m openami.conformance.our_reader"
# Takes everything: what a gateway does that parses JSON and never looks.
YES = (
    f"{sys.executable} -c 'import json, sys\n"
    'for line in sys.stdin: print(json.dumps({"case": json.loads(line)["case"],'
    ' "verdict": "accept"}), flush=True)\''
)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["conformance", "vectors", *arguments])


# --- the corpus ----------------------------------------------------------------------------------


def test_the_corpus_is_the_files() -> None:
    files = [each for kind in KINDS for each in read_vectors(kind)]
    assert [each.content["id"] for each in files] == list(VECTORS)
    for each in files:
        vector = VECTORS[each.content["id"]]
        assert vector.payload == (None if each.kind == "topic" else each.payload)
        assert vector.received_at == each.content.get("received_at", USUAL_CLOCK)


def test_every_case_says_whose_word_it_holds() -> None:
    for vector in VECTORS.values():
        if vector.expected != "either":
            assert vector.source == "profile" or vector.source.startswith("decision ")
        if vector.requirement:
            assert vector.source == requirements()[vector.requirement].source


# --- the verdict ---------------------------------------------------------------------------------


@in_one_test(VECTORS)
def test_our_own_library_is_right(id_: str) -> None:
    outcome = judged(VECTORS[id_], answer(VECTORS[id_].question(1)))
    assert (outcome.result, outcome.verdict) == ("right", "passed"), outcome


def vector(source: str, expected: str) -> Vector:
    return next(v for v in VECTORS.values() if v.source == source and v.expected == expected)


@pytest.mark.parametrize(
    ("source", "verdict"), [("profile", "failed"), ("decision 0005", "warning")]
)
@pytest.mark.parametrize(
    ("expected", "said", "words"),
    [
        ("accept", "reject", "must be accepted, was rejected"),
        ("reject", "accept", "must be rejected, was accepted"),
    ],
)
def test_a_wrong_answer_fails_by_the_profile_and_warns_by_a_decision(
    source: str, verdict: str, expected: str, said: str, words: str
) -> None:
    case = vector(source, expected)
    outcome = judged(case, Answer(1, said, reason="it said why"))  # type: ignore[arg-type]
    assert (outcome.result, outcome.verdict) == ("wrong", verdict)
    assert outcome.detail == f"{words}: it said why"
    assert (outcome.comment, outcome.flags) == (case.comment, case.flags)
    text = requirements()[case.requirement].text
    assert outcome.remedy == f"{expected.capitalize()} it: {text}"


@pytest.mark.parametrize("said", ["accept", "reject"])
def test_a_free_case_is_answered_either_way(said: str) -> None:
    free = VECTORS["telemetry/i_minus_zero"]
    assert judged(free, Answer(1, said)).verdict == "passed"  # type: ignore[arg-type]


def test_silence_fails_whosever_word_it_was() -> None:
    for id_ in ("telemetry/i_minus_zero", "telemetry/n_depth_100000", "telemetry/y_example"):
        outcome = judged(VECTORS[id_], Silence("crashed", "ended by SIGSEGV"))
        assert (outcome.result, outcome.verdict) == ("wrong", "failed")
        assert (outcome.answered, outcome.detail) == ("crashed", "ended by SIGSEGV")


def test_declining_is_neither_right_nor_wrong() -> None:
    outcome = judged(VECTORS["command/n_alg_none"], Answer(1, "decline", reason="no commands yet"))
    assert (outcome.result, outcome.verdict, outcome.detail) == (
        "declined",
        "declined",
        "no commands yet",
    )


def test_accepted_and_misread_is_wrong_where_the_adapter_tells_what_it_read() -> None:
    signed = VECTORS["session/y_offer"]
    assert judged(signed, Answer(1, "accept", digest=signed.digest)).result == "right"
    assert judged(signed, Answer(1, "accept", digest="A" * 43)).result == "wrong"
    topic = VECTORS["topic/y_id_named_like_a_level"]
    assert judged(topic, Answer(1, "accept", parsed=topic.parsed)).result == "right"
    assert judged(topic, Answer(1, "accept", parsed={"kind": "event"})).result == "wrong"


def test_flags_are_counted_with_the_worst_first() -> None:
    outcomes = [judged(v, Answer(1, "accept")) for v in VECTORS.values()]
    rows = by_flag(outcomes)
    assert {row.flag for row in rows} == set(flags())
    assert [row.wrong for row in rows] == sorted((row.wrong for row in rows), reverse=True)
    basic = next(row for row in rows if row.flag == "Basic")
    assert (basic.wrong, basic.declined) == (0, 0)
    assert basic.right == sum("Basic" in v.flags for v in VECTORS.values())


# --- the command ---------------------------------------------------------------------------------


def test_without_an_adapter_our_own_library_is_judged() -> None:
    result = run()
    assert result.exit_code == 0
    assert f"{len(VECTORS)} cases: {len(VECTORS)} right, 0 wrong" in result.stderr
    assert "FAILED" not in result.stdout


def test_on_a_bare_install_signed_documents_are_declined_and_the_rest_is_judged() -> None:
    bare = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from openami.cli import main; main(['conformance', 'vectors'])"
    )
    run_bare = subprocess.run(
        [sys.executable, "-c", bare], capture_output=True, text=True, timeout=60
    )
    signed = sum(vector.kind in ("session", "command") for vector in VECTORS.values())
    assert f"{len(VECTORS) - signed} right, 0 wrong" in run_bare.stderr
    assert f"{signed} declined" in run_bare.stderr
    assert run_bare.returncode == 0


def test_behind_a_process_it_is_as_right() -> None:
    result = run("--adapter", OURS, "--json")
    assert result.exit_code == 0
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["id"] for row in rows] == list(VECTORS)
    assert {row["verdict"] for row in rows} == {"passed"}


def test_who_takes_everything_is_told_what_he_let_through(tmp_path: Path) -> None:
    junit = tmp_path / "junit.xml"
    result = run("--adapter", YES, "--only", "telemetry, topic", "--junit", str(junit))
    assert result.exit_code == 1
    rejected = [
        v for v in VECTORS.values() if v.expected == "reject" and v.kind in ("telemetry", "topic")
    ]
    failed = [v for v in rejected if v.source == "profile"]
    assert f"{len(failed)} failed, {len(rejected) - len(failed)} warnings" in result.stderr
    lines = result.stdout.splitlines()
    at = lines.index("warning  telemetry/n_ts_without_zone: must be rejected, was accepted")
    assert lines[at + 1] == "    Whose half past two? [Time]"
    assert lines[at + 2].startswith("    OA-ENV-008 (decision 0005) Reject it: ts is RFC 3339")
    assert "FAILED  telemetry/n_json_comment: must be rejected, was accepted" in lines
    SCHEMA.validate(str(junit))
    root = ElementTree.fromstring(junit.read_bytes())  # noqa: S314 - written a moment ago
    assert [suite.get("failures") for suite in root] == [str(len(failed))]
    cases = root.findall("testsuite/testcase")
    assert {case.get("classname") for case in cases} == {"vectors.telemetry", "vectors.topic"}
    assert len(root.findall("testsuite/testcase/failure")) == len(failed)
    warned = root.findall("testsuite/testcase/skipped")
    assert len(warned) == len(rejected) - len(failed)
    assert all(each.get("message", "").startswith("warning (decision ") for each in warned)


def test_a_warning_alone_is_no_failure() -> None:
    lenient = (
        f"{sys.executable} -c 'from openami.conformance.our_reader import *\n"
        "import msgspec\n"
        "for line in sys.stdin.buffer:\n"
        " said = answer(read_question(line))\n"
        ' if "OA-ENV-008" in said.reason: said = msgspec.structs.replace(said, verdict="accept")\n'
        " sys.stdout.buffer.write(said.line()); sys.stdout.flush()'"
    )
    result = run("--adapter", lenient, "--only", "telemetry")
    assert result.exit_code == 0
    assert "(0 failed, " in result.stderr
    assert "(0 failed, 0 warnings)" not in result.stderr


def test_interrupted_it_ends_with_its_adapter(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    deaf = (
        f"{sys.executable} -c 'import os, time; "
        f'open("{mark}", "w").write(str(os.getpid())); time.sleep(600)\''
    )
    command = [sys.executable, "-m", "openami", "conformance", "vectors", "--adapter", deaf]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as judge:
        deadline = time.monotonic() + 20  # noqa: TID251 - of a test, not of the program
        while not (mark.exists() and mark.read_text()):
            assert time.monotonic() < deadline  # noqa: TID251
            time.sleep(0.05)
        judge.send_signal(signal.SIGINT)
        assert judge.wait(timeout=20) == 130
    assert not Path(f"/proc/{mark.read_text()}").exists()


def test_who_declines_everything_has_shown_nothing() -> None:
    result = run("--adapter", YES.replace("accept", "decline"), "--only", "session")
    assert result.exit_code == 1
    assert "declined every case" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--adapter", "/no/such/adapter"], "/no/such/adapter cannot be started"),
        (["--adapter", "'"], "is no command"),
        (["--adapter", " "], "it is empty"),
        (["--only", "telemetry,readings"], "'readings' is none of telemetry, topic, event"),
        (["--timeout", "0"], "0.01"),
        (["--junit", "/no/such/folder/junit.xml", "--only", "topic"], "cannot be written"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], words: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr
