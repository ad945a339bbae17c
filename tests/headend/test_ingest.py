"""The head-end's verdict on a message: every code, and beside each the message one step before the edge."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.headend.messages import (
    EVENT,
    EVENT_TOPIC,
    EXAMPLE,
    RECEIVED,
    ROOT,
    TOPIC,
    message,
    payload,
    register,
)

from openami.headend.ingest import (
    Accepted,
    Kind,
    Message,
    Rejected,
    ingest,
)
from openami.profile import (
    AHEAD_OF_CLOCK_MAX_S,
    FAULTS_KEPT_MAX,
    MESSAGE_BYTES_MAX,
    OLDEST_TS,
    Code,
    RegisterCatalogue,
    decode_envelope,
    shipped_catalogue,
    utc_text,
)

CATALOGUE = shipped_catalogue()


def verdict(body: bytes | None = None, **how: Any) -> Accepted | Rejected:
    return ingest(message(body, **how), catalogue=CATALOGUE)


def accepted(body: bytes | None = None, **how: Any) -> Accepted:
    decision = verdict(body, **how)
    assert isinstance(decision, Accepted), decision
    return decision


def rejected(body: bytes | None = None, **how: Any) -> list[tuple[str, str]]:
    """Return the codes and pointers of a message that must be rejected as a whole."""
    decision = verdict(body, **how)
    assert isinstance(decision, Rejected), decision
    return [(fault.code, fault.path) for fault in decision.errors]


# --- how it came ---------------------------------------------------------------------------------


def test_the_profiles_example_is_accepted_whole() -> None:
    decision = accepted()
    assert decision.kind is Kind.TELEMETRY
    assert decision.envelope == decode_envelope(payload())
    assert decision.message.payload == payload()
    assert not decision.rejected_items
    assert not decision.findings


def test_an_event_is_accepted_as_one() -> None:
    decision = accepted(payload(event=EVENT), topic=EVENT_TOPIC)
    assert decision.kind is Kind.EVENT
    assert decision.envelope.event is not None
    assert decision.envelope.event.event_id == "e-1"


def test_a_retained_message_is_rejected_though_it_is_sound() -> None:
    assert rejected(retain=True) == [(Code.RETAINED, "")]


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        ("", Code.BAD_TOPIC),
        ("sensors/kitchen", Code.BAD_TOPIC),
        (TOPIC + "/", Code.BAD_TOPIC),
        (TOPIC.replace("v1", "v2"), Code.BAD_TOPIC),
        (TOPIC.replace("telemetry", "Telemetry"), Code.BAD_TOPIC),
        (TOPIC.replace("DS1000-88421", ""), Code.BAD_ID),
        (TOPIC.replace("DS1000-88421", "_1"), Code.BAD_ID),
        (TOPIC.replace("DS1000-88421", "D" * 65), Code.BAD_ID),
        (TOPIC.replace("telemetry", "command"), Code.UNEXPECTED_TOPIC),
        (f"{ROOT}/session/sip-7f3a9c2e", Code.UNEXPECTED_TOPIC),
    ],
)
def test_a_topic_that_carries_no_readings(topic: str, code: Code) -> None:
    assert rejected(topic=topic) == [(code, "")]


# --- the body as a whole -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code", "path"),
    [
        (b"", Code.BAD_JSON, ""),
        (payload()[:-1], Code.BAD_JSON, ""),
        (b"[" * 100_000, Code.TOO_LARGE, ""),
        (b"[" * 60_000, Code.TOO_DEEP, ""),
        (b'{"ts":"\xff"}', Code.BAD_UTF8, ""),
        (b"[]", Code.NOT_AN_OBJECT, ""),
        (payload(ts=None), Code.MISSING_MEMBER, "/ts"),
        (payload(registers=None), Code.MISSING_MEMBER, "/registers"),
        (payload(ts=1782138600), Code.WRONG_TYPE, "/ts"),
        (payload(ts="2026-06-22 14:30:00Z"), Code.BAD_TIME, "/ts"),
        (payload(ts="2026-06-22T14:30:00"), Code.BAD_TIME, "/ts"),
        (payload(meterSerial="a/b"), Code.BAD_ID, "/meterSerial"),
        (payload(registers=[]), Code.EMPTY_REGISTERS, "/registers"),
        (payload(schemaVersion="1.0"), Code.UNKNOWN_VERSION, "/schemaVersion"),
    ],
)
def test_an_unsound_message_is_rejected_whole(body: bytes, code: Code, path: str) -> None:
    assert (code, path) in rejected(body)


def test_all_faults_of_an_unsound_message_are_named() -> None:
    faults = rejected(payload(ts="yesterday", registers=[register(unit=None)]))
    assert faults == [(Code.BAD_TIME, "/ts"), (Code.MISSING_MEMBER, "/registers/0/unit")]


def test_a_later_minor_version_is_read() -> None:
    assert accepted(payload(schemaVersion="0.2")).envelope.schema_version == "0.2"


@pytest.mark.parametrize("member", ["feederId", "gatewayId", "meterSerial"])
def test_topic_and_body_must_agree(member: str) -> None:
    assert rejected(payload(**{member: "other"})) == [(Code.TOPIC_MISMATCH, f"/{member}")]


def test_every_disagreement_of_topic_and_body_is_named() -> None:
    assert rejected(payload(feederId="f", gatewayId="g", meterSerial="m")) == [
        (Code.TOPIC_MISMATCH, "/feederId"),
        (Code.TOPIC_MISMATCH, "/gatewayId"),
        (Code.TOPIC_MISMATCH, "/meterSerial"),
    ]


# --- time ----------------------------------------------------------------------------------------

AHEAD = RECEIVED + timedelta(seconds=AHEAD_OF_CLOCK_MAX_S)
A_STEP = timedelta(milliseconds=1)


def test_five_minutes_ahead_of_the_clock_is_the_edge() -> None:
    assert accepted(payload(ts=utc_text(AHEAD))).envelope.ts == AHEAD
    assert rejected(payload(ts=utc_text(AHEAD + A_STEP))) == [(Code.TIME_IN_FUTURE, "/ts")]


def test_the_year_2020_is_the_edge() -> None:
    assert accepted(payload(ts=utc_text(OLDEST_TS))).envelope.ts == OLDEST_TS
    assert rejected(payload(ts=utc_text(OLDEST_TS - A_STEP))) == [(Code.TIME_TOO_OLD, "/ts")]


def test_a_replay_judges_by_the_current_clock_and_keeps_the_time_of_receipt() -> None:
    early = message(payload(ts=utc_text(AHEAD + A_STEP)))
    later = ingest(early, catalogue=CATALOGUE, now=RECEIVED + A_STEP)
    assert isinstance(later, Accepted)
    assert later.message.received_at == RECEIVED


def test_a_zone_does_not_move_the_window() -> None:
    assert accepted(payload(ts="2026-06-22T20:00:00+05:30")).envelope.ts == datetime(
        2026, 6, 22, 14, 30, tzinfo=UTC
    )


# --- registers -----------------------------------------------------------------------------------

GOOD = EXAMPLE["registers"]


@pytest.mark.parametrize(
    ("bad", "code", "member"),
    [
        (register(unit=None), Code.MISSING_MEMBER, "/unit"),
        (register(value=[]), Code.WRONG_TYPE, "/value"),
        (register(value=2**53), Code.BAD_NUMBER, "/value"),
        (register(obis="1.8"), Code.BAD_OBIS, "/obis"),
        (register(quality="fine"), Code.BAD_QUALITY, "/quality"),
        (register(unit="k\0Wh"), Code.BAD_STRING, "/unit"),
        (register(unit="Wh"), Code.WRONG_UNIT, "/unit"),
        (register(unit=""), Code.WRONG_UNIT, "/unit"),
        (register(value="1842.5"), Code.WRONG_VALUE_TYPE, "/value"),
        (register(value=True), Code.WRONG_VALUE_TYPE, "/value"),
        (register(obis="96.11.1", value=1, unit="enum"), Code.WRONG_VALUE_TYPE, "/value"),
        (17, Code.WRONG_TYPE, ""),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 3])
def test_one_bad_register_does_not_cost_the_others(
    bad: object, code: Code, member: str, place: int
) -> None:
    items = [*GOOD[:place], bad, *GOOD[place:]]
    decision = accepted(payload(registers=items))
    assert decision.envelope.registers == decode_envelope(payload()).registers
    assert [(fault.code, fault.path) for fault in decision.rejected_items] == [
        (code, f"/registers/{place}{member}")
    ]
    assert rejected(payload(registers=[bad])) == [(code, f"/registers/0{member}")]


def test_the_places_are_right_when_both_judges_find_something() -> None:
    items = [register(quality="x"), GOOD[0], register(unit="Wh"), register(obis="z"), GOOD[1]]
    decision = accepted(payload(registers=items))
    assert [str(r.obis) for r in decision.envelope.registers] == ["1.8.0", "96.8.0"]
    assert {(fault.code, fault.path) for fault in decision.rejected_items} == {
        (Code.BAD_QUALITY, "/registers/0/quality"),
        (Code.WRONG_UNIT, "/registers/2/unit"),
        (Code.BAD_OBIS, "/registers/3/obis"),
    }


@pytest.mark.parametrize("unit", ["kWh", "KWH", "kwh"])
def test_the_case_of_a_unit_does_not_count(unit: str) -> None:
    assert not accepted(payload(registers=[register(unit=unit)])).rejected_items


def test_a_register_without_a_unit_in_the_list_takes_any() -> None:
    serial = register(obis="96.1.0", value="DS1000-88421", unit="text")
    assert not accepted(payload(registers=[serial])).rejected_items


def test_a_register_outside_the_list_may_hold_anything() -> None:
    strange = register(obis="1-0:99.98.97*255", value=False, unit="furlong")
    assert not accepted(payload(registers=[strange])).rejected_items


def test_another_register_list_judges_differently() -> None:
    own = RegisterCatalogue.decode(
        b'{"registers":[{"obis":"1.8.0","name":"n","unit":"Wh","certainty":"A"}]}'
    )
    whole = ingest(message(payload(registers=[register(unit="Wh")])), catalogue=own)
    assert isinstance(whole, Accepted)
    # Without a type in the list, none is asked for.
    text = ingest(message(payload(registers=[register(unit="Wh", value="x")])), catalogue=own)
    assert isinstance(text, Accepted)
    kwh = ingest(message(payload(registers=[register()])), catalogue=own)
    assert isinstance(kwh, Rejected)


# --- bounds --------------------------------------------------------------------------------------


def test_what_is_kept_of_a_vendors_faults_is_bounded() -> None:
    at_bound = rejected(payload(registers=[17] * FAULTS_KEPT_MAX))
    beyond = rejected(payload(registers=[17] * (FAULTS_KEPT_MAX + 1)))
    assert len(at_bound) == len(beyond) == FAULTS_KEPT_MAX
    partly = accepted(payload(registers=[*GOOD, *[register(unit="Wh")] * (FAULTS_KEPT_MAX + 1)]))
    assert len(partly.rejected_items) == FAULTS_KEPT_MAX


def test_the_size_of_a_message_is_bounded() -> None:
    body = payload() + b" " * (MESSAGE_BYTES_MAX - len(payload()))
    assert accepted(body).message.payload == body
    assert rejected(body + b" ") == [(Code.TOO_LARGE, "")]


# --- properties ----------------------------------------------------------------------------------

_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_json = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)
_members = st.fixed_dictionaries(
    {},
    optional={
        "obis": st.sampled_from(["1.8.0", "1-0:1.8.0*255", "96.11.1", "9.9.9", "x"]) | _json,
        "value": _json,
        "unit": st.sampled_from(["kWh", "Wh", "enum", ""]) | _json,
        "quality": st.sampled_from(["good", "suspect", "comms_lost"]) | _json,
        "extra": _json,
    },
)
_registers = st.lists(_members | st.sampled_from(GOOD) | _json, max_size=6)
_topics = st.sampled_from([TOPIC, EVENT_TOPIC, f"{ROOT}/session/s", "a/b"]) | st.text(max_size=60)


@given(topic=_topics, body=st.binary(max_size=200), retain=st.booleans())
def test_whatever_comes_the_answer_is_a_decision(topic: str, body: bytes, retain: bool) -> None:
    decision = ingest(Message(topic, body, RECEIVED, retain), catalogue=CATALOGUE)
    assert isinstance(decision, Rejected)
    assert decision.errors


@given(registers=_registers)
def test_a_decision_accounts_for_every_register(registers: list[Any]) -> None:
    """Each register that came is either in the envelope or among the faults, and never both."""
    body = json.dumps({**EXAMPLE, "registers": registers}).encode()
    decision = ingest(message(body), catalogue=CATALOGUE)
    if isinstance(decision, Rejected):
        assert decision.errors
        return
    bad = {int(fault.path.split("/")[2]) for fault in decision.rejected_items}
    good = [item for place, item in enumerate(registers) if place not in bad]
    assert decision.envelope.registers == decode_envelope(payload(registers=good)).registers


@given(members=st.dictionaries(st.sampled_from([*EXAMPLE, "seq", "event", "x"]), _json, max_size=4))
def test_whatever_a_member_holds_the_answer_is_a_decision(members: dict[str, Any]) -> None:
    body = json.dumps({**EXAMPLE, **members}).encode()
    decision = ingest(message(body), catalogue=CATALOGUE)
    assert isinstance(decision, Accepted) or decision.errors
