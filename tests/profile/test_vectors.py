"""The vectors hold for our own decoder, audit and head-end; and they are fit to judge others."""

import json
from collections.abc import Callable
from datetime import datetime

import pytest
from tests.cases import in_one_test
from tests.profile.vectors import Vector, vectors

from openami import spec
from openami.headend.ingest import Accepted, Message, Rejected, ingest
from openami.profile import (
    Code,
    Envelope,
    EventTopic,
    ProfileError,
    SessionTopic,
    TelemetryTopic,
    audit_envelope,
    decode_envelope,
    judge_register,
    parse_topic,
    pointer,
    requirements,
    shipped_catalogue,
)

USUAL_CLOCK = "2026-06-22T14:31:00Z"
MESSAGES = ("telemetry", "event")


def each(
    *kinds: str, verdict: str = ""
) -> Callable[[Callable[[Vector], None]], Callable[[], None]]:
    return in_one_test(vectors(*kinds, verdict=verdict), name=lambda v: f"{v.kind}/{v.name}")


def received(vector: Vector) -> Message:
    """The vector as a delivery, at the moment the vector says."""
    received_at = datetime.fromisoformat(vector.content.get("received_at", USUAL_CLOCK))
    return Message(
        vector.topic, vector.payload, received_at, retain=bool(vector.content.get("retain", False))
    )


# --- topics --------------------------------------------------------------------------------------


@each("topic", verdict="y_")
def test_a_good_topic_is_read_and_printed_back(vector: Vector) -> None:
    topic = parse_topic(vector.topic)
    if isinstance(topic, SessionTopic):
        last = {"kind": "session", "sessionId": topic.session_id}
    else:
        last = {"kind": topic.leaf, "meterSerial": topic.meter_serial}
    found = {"feederId": topic.feeder_id, "gatewayId": topic.gateway_id, **last}
    assert found == vector.result["parsed"]
    assert str(topic) == vector.topic


@each("topic", verdict="n_")
def test_a_bad_topic_is_refused_with_its_code(vector: Vector) -> None:
    with pytest.raises(ProfileError) as caught:
        parse_topic(vector.topic)
    assert caught.value.code == vector.result["code"]
    assert caught.value.requirement == vector.result["requirement"]
    assert caught.value.path == ""


# --- messages ------------------------------------------------------------------------------------


@each(*MESSAGES, verdict="y_")
def test_a_good_message_is_read(vector: Vector) -> None:
    envelope = decode_envelope(vector.payload)
    audit = audit_envelope(vector.payload)
    assert audit.envelope == envelope
    assert not audit.errors
    assert list(audit.places) == list(range(len(envelope.registers)))
    if "reads_as" in vector.result:
        assert same(decode_envelope(vector.result["reads_as"].encode()), envelope)


def same(one: Envelope, other: Envelope) -> bool:
    """Two messages mean the same: what was ignored in one of them means nothing."""
    return one.encode() == other.encode()


@each(*MESSAGES, verdict="y_")
def test_the_head_end_accepts_a_good_message_whole(vector: Vector) -> None:
    decision = ingest(received(vector), catalogue=shipped_catalogue())
    assert isinstance(decision, Accepted), decision
    assert not decision.rejected_items


@each(*MESSAGES, verdict="n_")
def test_a_bad_message_is_refused_with_its_code_and_place(vector: Vector) -> None:
    fault = first_fault(vector)
    expected = vector.result
    assert (fault.code, fault.requirement, fault.path) == (
        expected["code"],
        expected["requirement"],
        expected["path"],
    )


def first_fault(vector: Vector) -> ProfileError:
    """Ask whoever the vector says can see it."""
    match vector.result["judged"]:
        case "message":
            with pytest.raises(ProfileError) as caught:
                decode_envelope(vector.payload)
            return caught.value
        case "register list":
            readings = decode_envelope(vector.payload).registers
            judged = (
                judge_register(reading, register, path=pointer("registers", index))
                for index, reading in enumerate(readings)
                if (register := shipped_catalogue().get(reading.obis)) is not None
            )
            return next(fault for fault in judged if fault is not None)
        case _:
            decode_envelope(vector.payload)
            decision = ingest(received(vector), catalogue=shipped_catalogue())
            assert isinstance(decision, Rejected)
            return decision.errors[0]


@each(*MESSAGES, verdict="n_")
def test_the_head_end_keeps_what_is_good_and_no_more(vector: Vector) -> None:
    decision = ingest(received(vector), catalogue=shipped_catalogue())
    if "kept" not in vector.result:
        assert isinstance(decision, Rejected)
        return
    assert list(audit_envelope(vector.payload).places) == vector.result["kept"]
    assert isinstance(decision, Accepted)
    assert len(decision.envelope.registers) == len(vector.result["kept"])
    assert [fault.code for fault in decision.rejected_items] == [vector.result["code"]]


@each(*MESSAGES, verdict="i_")
def test_a_free_message_is_answered_one_way_or_the_other(vector: Vector) -> None:
    assert vector.result == {}
    try:
        envelope = decode_envelope(vector.payload)
    except ProfileError:
        assert audit_envelope(vector.payload).errors
    else:
        assert audit_envelope(vector.payload).envelope == envelope


# --- the vectors themselves ----------------------------------------------------------------------


@each("topic", *MESSAGES)
def test_a_vector_is_well_formed(vector: Vector) -> None:
    content = vector.content
    assert content["id"] == f"{vector.kind}/{vector.name}"
    assert content["comment"].endswith((".", "?", "!")), content["comment"]
    assert content["flags"]
    assert set(content) <= {
        "id",
        "comment",
        "flags",
        "topic",
        "retain",
        "received_at",
        "result",
    } | {
        "payload",
        "payload_base64",
        "payload_pieces",
    }
    verdict = vector.name[:2]
    assert content["result"].get("accept") is {"y_": True, "n_": False, "i_": None}[verdict]
    if verdict == "y_":
        assert content["result"]["requirement"] in requirements()
    if verdict == "n_":
        requirement = requirements()[content["result"]["requirement"]]
        assert content["result"]["code"] in requirement.codes
        assert (
            requirement.judged == content["result"]["judged"]
            or (
                requirement.judged in ("topic", "message")
                and content["result"]["judged"] == "ingest"
            )
            or (requirement.judged == "message" and content["result"]["judged"] == "topic")
        )


def test_there_is_a_vector_for_every_code() -> None:
    codes = {vector.result.get("code") for vector in vectors("topic", *MESSAGES, verdict="n_")}
    # What a database refuses no message can show beforehand: a bug of ours, with a code of its own; and what an
    # operator keeps no longer.
    assert codes == set(Code) - {Code.UNSTORABLE, Code.BEYOND_RETENTION}


def test_every_topic_of_a_message_is_one_a_gateway_publishes_on_or_the_fault() -> None:
    for vector in vectors(*MESSAGES):
        if vector.result.get("judged") != "ingest":
            kind = TelemetryTopic if vector.kind == "telemetry" else EventTopic
            assert isinstance(parse_topic(vector.topic), kind), vector.name


def test_there_are_enough_of_them() -> None:
    assert len(vectors("topic", *MESSAGES)) >= 80


def test_every_flag_says_which_bug_it_catches() -> None:
    """In the file that programs read, and in the table of the README."""
    used = {
        flag
        for v in vectors("topic", *MESSAGES, "session", "command")
        for flag in v.content["flags"]
    }
    meanings: dict[str, str] = json.loads(spec.load("vectors/flags.json"))
    assert set(meanings) == used
    readme = spec.load("vectors/README.md").decode()
    for flag, catches in meanings.items():
        assert f"| `{flag}` | {catches} |" in readme


def test_the_readme_counts_them() -> None:
    readme = spec.load("vectors/README.md").decode()
    for kind in ("topic", *MESSAGES, "session", "command"):
        y, n, i = (len(vectors(kind, verdict=verdict)) for verdict in ("y_", "n_", "i_"))
        assert f"| `{kind}/` | {y} | {n} | {i} |" in readme
