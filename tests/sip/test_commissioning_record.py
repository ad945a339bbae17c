"""A commissioning record: an honest one beside each forgery, one byte or one member away from it."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.headend.village_keys import FEEDER, GATEWAY, ROOTS, START, keyring, signer

from openami.sip.acts import ActType
from openami.sip.canonical import SIGNATURE
from openami.sip.commissioning import (
    Acceptance,
    Bench,
    BenchFinding,
    BenchVerdict,
    CommissionedMeter,
    Content,
    Deviation,
    Identified,
    Limits,
    LoadTest,
    LoadVerdict,
    Outcome,
    RuleResult,
    RuleVerdict,
    Tick,
    open_points,
)
from openami.sip.commissioning_record import (
    FORMAT,
    RECORD_BYTES_MAX,
    RecordError,
    RecordFault,
    is_record,
    seal,
    sha256_of,
    verify_record,
)
from openami.sip.compose import sign
from openami.sip.keyring import Roots

MADE_AT = START.replace(microsecond=0) + timedelta(hours=3)
DIGEST = "0" * 64


def result(rule: str, verdict: RuleVerdict = RuleVerdict.PASS, meter: str = "") -> RuleResult:
    return RuleResult(rule=rule, verdict=verdict, measured="something", meter=meter)


def tick(meter: str, **changed: Any) -> Tick:
    load = LoadTest(load_w=60, before_w=40.0, after_w=101.5, verdict=LoadVerdict.ROSE, at=MADE_AT)
    whole = Tick(
        meter=meter,
        outcome=Outcome.OK,
        at=MADE_AT,
        by="Asha",
        identified=Identified.TOLD,
        told="1001",
        load=load,
    )
    return replace(whole, **changed)


def meter(serial: str) -> CommissionedMeter:
    return CommissionedMeter(
        serial=serial, line="bus1", driver="modbus", map="sdm120", map_sha256=DIGEST,
        options_sha256=DIGEST,
    )  # fmt: skip


CONTENT = Content(
    feeder_id=FEEDER,
    gateway_id=GATEWAY,
    made_at=MADE_AT,
    made_by="Asha",
    openami="0.1",
    configuration_sha256=DIGEST,
    meters=(meter("M-1"), meter("M-2")),
    bench=Bench(
        at=MADE_AT,
        findings=(
            BenchFinding(line="bus1", address="unit 1", verdict=BenchVerdict.FOUND, meter="M-1"),
        ),
    ),
    walk=(tick("M-1"), tick("M-2")),
    acceptance=Acceptance(
        began_at=MADE_AT - timedelta(hours=1),
        ended_at=MADE_AT,
        judged_at=MADE_AT,
        feeder_meter=None,
        limits=Limits(),
        results=(result("read", meter="M-1"), result("uplink", RuleVerdict.WARN)),
    ),
)


def sealed(content: Content = CONTENT, by: str = GATEWAY, **more: Any) -> bytes:
    return seal(content, signer(by), keyrings=more.get("keyrings", [keyring()]))


def resigned(
    change: Callable[[dict[str, Any]], object],
    *,
    by: str = GATEWAY,
    type_: ActType = ActType.COMMISSIONING,
    at: datetime = MADE_AT,
) -> bytes:
    """Return a record that was changed and signed anew, whole and canonical."""
    members = json.loads(sealed())
    del members[SIGNATURE]
    change(members)
    return rfc8785.dumps(sign(members, signer(by), type_, iat=int(at.timestamp())))


def fault(data: bytes, roots: Roots = ROOTS, **more: Any) -> RecordFault:
    with pytest.raises(RecordError) as caught:
        verify_record(data, roots, **more)
    assert caught.value.remedy
    return caught.value.fault


# --- an honest one -------------------------------------------------------------------------------


def test_a_record_is_proven_by_the_roots_alone() -> None:
    data = sealed()
    verified = verify_record(data, ROOTS)
    assert verified.content == CONTENT
    assert verified.accepted
    assert verified.signed_by.id == GATEWAY
    assert verified.signed_at == MADE_AT
    assert verified.sha256 == sha256_of(data)
    assert is_record(data)
    assert rfc8785.dumps(json.loads(data)) == data, "one file for one record"


def test_a_gateway_that_had_no_network_yet_needs_the_keyring_brought() -> None:
    data = sealed(keyrings=[])
    assert fault(data) is RecordFault.KEYRING
    assert verify_record(data, ROOTS, keyrings=[keyring()]).accepted
    assert verify_record(sealed(), ROOTS, keyrings=[keyring()]).accepted, "twice is no rollback"


# --- forgeries -----------------------------------------------------------------------------------


WHOLE = sealed()


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_wherever_it_is(at: int, flipped: int) -> None:
    with pytest.raises(RecordError):
        verify_record(WHOLE[:at] + bytes([WHOLE[at] ^ flipped]) + WHOLE[at + 1 :], ROOTS)


def test_a_record_cut_off_anywhere_is_refused() -> None:
    for length in range(0, len(WHOLE), 97):
        assert fault(WHOLE[:length]) is RecordFault.NOT_A_RECORD


def test_the_same_words_in_other_bytes_are_another_file() -> None:
    whole = sealed()
    assert fault(json.dumps(json.loads(whole), indent=1).encode()) is RecordFault.REWRITTEN
    assert fault(whole + b"\n") is RecordFault.REWRITTEN


def test_a_member_changed_under_the_old_signature_is_refused() -> None:
    members = json.loads(sealed())
    members["content"]["walk"][0]["by"] = "Somebody Else"
    assert fault(rfc8785.dumps(members)) is RecordFault.GATEWAY


def content(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], object]:
    return lambda members: change(members["content"])


@pytest.mark.parametrize("by", ["hes-1", "anita", "market-coop", "root", "stranger"])
def test_nobody_but_the_gateway_signs_its_record(by: str) -> None:
    expected = RecordFault.KEYRING if by in ("root", "stranger") else RecordFault.GATEWAY
    assert fault(resigned(lambda _: None, by=by)) is expected


@pytest.mark.parametrize("type_", [ActType.BACKLOG, ActType.STATEMENT, ActType.REPORT])
def test_what_the_gateway_signed_for_something_else_is_no_record(type_: ActType) -> None:
    assert fault(resigned(lambda _: None, type_=type_)) is RecordFault.GATEWAY


def test_another_villages_roots_vouch_for_nothing() -> None:
    stranger = signer("stranger")
    assert fault(sealed(), Roots(1, {stranger.kid: stranger.public})) is RecordFault.KEYRING


def test_a_key_counts_only_while_its_keyring_was_in_force() -> None:
    late = MADE_AT + timedelta(days=200)
    data = resigned(
        content(lambda c: c.update(madeAt=late.strftime("%Y-%m-%dT%H:%M:%SZ"))), at=late
    )
    assert fault(data) is RecordFault.KEYRING
    withdrawn = keyring(2, names=("hes-1",), now=START + timedelta(hours=1))
    assert fault(sealed(), keyrings=[withdrawn]) is RecordFault.KEYRING


def test_a_verdict_that_does_not_follow_is_refused() -> None:
    assert (
        fault(resigned(lambda members: members.update(accepted=False))) is RecordFault.CONTRADICTORY
    )
    assert fault(resigned(content(lambda c: c["walk"].pop()))) is RecordFault.CONTRADICTORY


def test_a_record_signed_at_another_time_than_it_says_is_refused() -> None:
    assert fault(resigned(lambda _: None, at=MADE_AT + timedelta(1))) is RecordFault.CONTRADICTORY


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(format="openami-commissioning/2"),
        lambda m: m.update(more=1),
        lambda m: m.pop("accepted"),
        content(lambda c: c.update(more=1)),
        content(lambda c: c.update(madeBy="")),
        content(lambda c: c.update(madeAt="2026-06-22T17:30:05+05:30")),
        content(lambda c: c.update(madeAt="2026-06-22T17:30:05")),
        content(lambda c: c.update(configurationSha256="x")),
        content(lambda c: c["meters"].append(c["meters"][0])),
        content(lambda c: c["walk"][0].update(note="x" * 501)),
        content(lambda c: c["walk"][0].update(outcome="fine")),
        content(lambda c: c["walk"][0]["load"].update(loadW=0)),
    ],
)
def test_a_record_is_a_closed_form(change: Callable[[dict[str, Any]], object]) -> None:
    assert fault(resigned(change)) is RecordFault.NOT_A_RECORD


def test_a_file_larger_than_any_record_is_not_read() -> None:
    assert fault(b" " * (RECORD_BYTES_MAX + 1)) is RecordFault.NOT_A_RECORD
    assert not is_record(b"[" * 100_000)
    assert not is_record(b'{"format": 1}')
    assert is_record(b'{"format": "%s"}' % FORMAT.encode())


# --- what is open --------------------------------------------------------------------------------


OPEN: Mapping[str, tuple[Content, set[tuple[str, str]]]] = {
    "no bench": (replace(CONTENT, bench=None), {("bench", "")}),
    "a stranger on the bench": (
        replace(
            CONTENT,
            bench=Bench(
                at=MADE_AT,
                findings=(
                    BenchFinding(line="bus1", address="unit 9", verdict=BenchVerdict.UNKNOWN),
                ),
            ),
        ),
        {("bench", "bus1/unit 9")},
    ),
    "nobody at a meter": (replace(CONTENT, walk=(tick("M-1"),)), {("walk", "M-2")}),
    "a problem": (
        replace(CONTENT, walk=(tick("M-1"), tick("M-2", outcome=Outcome.PROBLEM, note="loose"))),
        {("walk", "M-2")},
    ),
    "no lamp": (replace(CONTENT, walk=(tick("M-1", load=None), tick("M-2"))), {("load", "M-1")}),
    "nameless": (
        replace(CONTENT, walk=(tick("M-1", identified=Identified.NOT), tick("M-2"))),
        {("identity", "M-1")},
    ),
    "swapped": (replace(CONTENT, swapped=(("M-1", "M-2"),)), {("swap", "M-1")}),
    "no hour": (replace(CONTENT, acceptance=None), {("acceptance", "")}),
}


@pytest.mark.parametrize(("said", "expected"), OPEN.values(), ids=OPEN)
def test_what_is_not_shown_is_open_until_somebody_answers_for_it(
    said: Content, expected: set[tuple[str, str]]
) -> None:
    assert {(point.rule, point.about) for point in open_points(said)} == expected
    assert not verify_record(sealed(said), ROOTS).accepted
    answered = tuple(
        Deviation(rule=rule, about=about, reason="seen and accepted", by="Anita", at=MADE_AT)
        for rule, about in expected
    )
    assert verify_record(sealed(replace(said, deviations=answered)), ROOTS).accepted


def test_a_failed_rule_is_open_and_a_deviation_counts_for_its_own_meter_only() -> None:
    assert CONTENT.acceptance is not None
    failed = tuple(result("voltage", RuleVerdict.FAIL, meter) for meter in ("M-1", "M-2"))
    said = replace(CONTENT, acceptance=replace(CONTENT.acceptance, results=failed))
    deviation = Deviation(rule="voltage", about="M-1", reason="end of line", by="A", at=MADE_AT)
    still_open = open_points(replace(said, deviations=(deviation,)))
    assert [(point.rule, point.about) for point in still_open] == [("voltage", "M-2")]
