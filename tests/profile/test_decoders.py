"""Properties of the two decoders: one verdict, no other exception, paths that lead somewhere."""

import json
import random
import re
import sys

import msgspec
import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from tests.profile.messages import (
    EXAMPLE,
    TOKENS,
    as_bytes,
    envelopes,
    spoil_bytes,
    spoil_tokens,
    spoilt_messages,
)

from openami.profile import (
    FAULTS_KEPT_MAX,
    Audit,
    Envelope,
    ProfileError,
    audit_envelope,
    decode_envelope,
    requirements,
)
from openami.profile.codec import _decode_fast, _has_nothing_else

MESSAGE = as_bytes(EXAMPLE)


def verdict_of(payload: bytes) -> Envelope | ProfileError:
    try:
        return decode_envelope(payload)
    except ProfileError as error:
        return error


def fast(payload: bytes) -> Envelope | None:
    try:
        return _decode_fast(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def holds(payload: bytes) -> Audit:
    """Check every promise about one message; return the audit."""
    verdict = verdict_of(payload)
    audit = audit_envelope(payload)
    assert len(audit.errors) == min(audit.faults, FAULTS_KEPT_MAX)
    quickly = fast(payload)
    if isinstance(verdict, ProfileError):
        assert quickly is None, "the fast decoder lets through what the audit refuses"
        assert str(audit.errors[0]) == str(verdict)
    else:
        assert audit.errors == ()
        assert exactly(audit.envelope) == exactly(verdict)
        if quickly is not None:
            assert exactly(quickly) == exactly(verdict)
        else:
            # All it refuses too much: a number no double holds, in an extension member.
            assert re.search(rb'"(seq|event)"', payload)
    for error in audit.errors:
        assert error.requirement in requirements()
        assert error.code in requirements()[error.requirement].codes
        assert leads_somewhere(error.path, payload)
    assert (audit.envelope is None) == (audit.places == ())
    return audit


def exactly(envelope: Envelope | None) -> str:
    """An envelope with the types of its values: 1, 1.0 and true are equal in Python."""
    return repr(envelope)


def leads_somewhere(path: str, payload: bytes) -> bool:
    """Whether a JSON pointer resolves in a message, or names a member that is missing in an object."""
    if path == "":
        return True
    place = json.loads(payload)
    *parents, last = (p.replace("~1", "/").replace("~0", "~") for p in path[1:].split("/"))
    for part in parents:
        place = place[int(part) if isinstance(place, list) else part]
    return isinstance(place, dict) or (isinstance(place, list) and int(last) < len(place))


@settings(max_examples=600)
@given(spoilt_messages)
def test_fast_decoder_and_audit_have_one_verdict_on_spoilt_messages(payload: bytes) -> None:
    audit = holds(payload)
    event(audit.errors[0].code if audit.errors else "accepted")


def test_fast_decoder_and_audit_have_one_verdict_on_ten_thousand_spoilt_examples() -> None:
    """Simple, seeded and quick where Hypothesis is thorough."""
    chance = random.Random(1)
    accepted = 0
    for _ in range(10_000):
        payload = MESSAGE
        for _ in range(chance.randint(1, 2)):
            payload = spoil_tokens(payload, chance.choice(TOKENS), chance)
        if chance.random() < 0.1:
            payload = spoil_bytes(payload, chance)
        accepted += not holds(payload).errors
    assert 1_000 < accepted < 9_000, "the spoilt messages are all good or all bad"


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xef\xbb\xbf{}")
@example(b"[" * 100_000)
@example(b'{"a":' * 12_000)
@example(b"[]," * 20_000)
@example(b'"' + b"\\" * 65_000)
@example(b"9" * 65_536)
@example(b"{" + b'"a":0,' * 10_000 + b'"a":0}')
def test_any_bytes_are_an_envelope_or_a_profile_error(payload: bytes) -> None:
    holds(payload)


@given(st.text(max_size=100))
def test_any_text_is_an_envelope_or_a_profile_error(text: str) -> None:
    holds(text.encode("utf-8", "surrogatepass"))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from([*EXAMPLE, "x"]), inner, max_size=7)
        ),
        max_leaves=20,
    )
)
def test_any_json_is_an_envelope_or_a_profile_error(document: object) -> None:
    holds(json.dumps(document).encode())


@given(envelopes)
def test_decode_undoes_encode(envelope: Envelope) -> None:
    payload = envelope.encode()
    assert decode_envelope(payload) == envelope
    types = [type(register.value) for register in envelope.registers]
    assert [type(register.value) for register in decode_envelope(payload).registers] == types
    assert holds(payload).envelope == envelope
    assert decode_envelope(payload).encode() == payload


@pytest.mark.parametrize("indent", [None, 2])
def test_a_message_cut_off_anywhere_is_refused(indent: int | None) -> None:
    payload = json.dumps(EXAMPLE, indent=indent).encode()
    assert decode_envelope(payload)
    for length in range(len(payload)):
        assert holds(payload[:length]).errors, payload[:length]


def test_every_byte_of_the_example_replaced_by_every_other_has_one_verdict() -> None:
    """Some 3,000 of all 97,000, the same each time."""
    chance = random.Random(2)
    for at in range(len(MESSAGE)):
        for byte in chance.sample(range(256), 8):
            holds(MESSAGE[:at] + bytes([byte]) + MESSAGE[at + 1 :])


def test_the_plain_message_is_not_read_twice() -> None:
    """What the fast decoder is fast at: it refuses nothing that is sound, and audits nothing plain."""
    assert fast(MESSAGE) is not None
    assert fast(json.dumps(EXAMPLE, indent=2).encode()) is not None
    assert fast(as_bytes(EXAMPLE | {"seq": 7})) is not None


@pytest.mark.parametrize(
    ("payload", "plain"),
    [
        (MESSAGE, True),
        (MESSAGE.replace(b'"1.8.0"', b'"1-0:1.8.0*255"'), True),
        (MESSAGE.replace(b"14:30:00Z", b"20:00:00+05:30"), True),
        (MESSAGE[:-1] + b',"seq":7}', True),
        (MESSAGE[:-1] + b',"x":7}', False),
        (MESSAGE[:-1] + b',"ts" :"2026-06-22T14:30:00Z"}', False),
        (MESSAGE[:-1] + b',"x":"1-0:"}', False),
        (MESSAGE.replace(b'"connected"', b'"a:b"'), False),
        (MESSAGE.replace(b'"connected"', b'"1-0:x"'), True),
        (MESSAGE.replace(b'"connected"', b'"\\u0031"'), False),
        (MESSAGE.replace(b'"1.8.0"', b'"1-0:1.8.0*255"').replace(b'"12.4"', b'"a:b"'), True),
    ],
)
def test_what_may_hold_more_than_was_read_is_read_again(payload: bytes, plain: bool) -> None:
    wire = msgspec.json.decode(payload, type=dict[str, object])
    registers = wire["registers"]
    assert isinstance(registers, list)
    known = sum(name in wire for name in (*EXAMPLE, "seq")) + 4 * len(registers)
    assert _has_nothing_else(payload, members=known, ts=str(wire["ts"])) == plain
    assert holds(payload)


def called_from_depth(frames: int, payload: bytes) -> Envelope | ProfileError:
    if frames:
        return called_from_depth(frames - 1, payload)
    return verdict_of(payload)


@pytest.mark.parametrize(
    "payload",
    [
        MESSAGE,
        as_bytes(EXAMPLE | {"x": [[[[[[[[[[[[[[1]]]]]]]]]]]]]]}),
        MESSAGE[:-1] + b',"x":' + b"[" * 15 + b"]" * 15 + b"}",
        MESSAGE[:-1] + b',"seq":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        MESSAGE[:-1] + b',"event":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}",
        MESSAGE[:-1] + b',"x":' + b"[" * 500 + b"]" * 500 + b"}",
    ],
    ids=["example", "deep list", "deepest", "20,000 deep", "event 900 deep", "500 deep"],
)
def test_the_verdict_is_the_same_from_deep_in_the_callers_stack(payload: bytes) -> None:
    """A message cannot choose how deep our stack is; 100 frames are enough for any."""
    expected = verdict_of(payload)
    room = sys.getrecursionlimit() - depth_here()
    for left in (100, 120, 200, 500):
        assert str(called_from_depth(room - left, payload)) == str(expected)


def depth_here() -> int:
    frame, depth = sys._getframe(), 0
    while frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
    return depth


def test_faults_are_told_up_to_a_bound_and_counted_beyond() -> None:
    def audit(faults: int) -> Audit:
        return audit_envelope(as_bytes(EXAMPLE | {"registers": [0] * faults}))

    assert len(audit(FAULTS_KEPT_MAX).errors) == FAULTS_KEPT_MAX
    beyond = audit(FAULTS_KEPT_MAX + 1)
    assert (len(beyond.errors), beyond.faults) == (FAULTS_KEPT_MAX, FAULTS_KEPT_MAX + 1)


def test_good_registers_are_kept_with_their_places_beside_bad_ones() -> None:
    good = EXAMPLE["registers"][0]
    audit = audit_envelope(
        as_bytes(EXAMPLE | {"registers": [0, good, good | {"unit": None}, good, {}]})
    )
    assert audit.places == (1, 3)
    assert audit.envelope is not None
    assert len(audit.envelope.registers) == 2
    assert {error.path.split("/")[2] for error in audit.errors} == {"0", "2", "4"}


def test_a_bad_header_spoils_the_good_registers_too() -> None:
    audit = audit_envelope(as_bytes(EXAMPLE | {"ts": "today"}))
    assert audit.envelope is None
    assert audit.places == ()
    assert [error.path for error in audit.errors] == ["/ts"]


def test_a_member_twice_in_a_register_costs_that_register() -> None:
    payload = MESSAGE.replace(b'"unit":"kWh"', b'"unit":"kWh","unit":"kWh"', 1)
    audit = audit_envelope(payload)
    assert audit.places == (1, 2)
    assert [error.path for error in audit.errors] == ["/registers/0/unit"]


def test_a_member_twice_in_the_header_costs_the_message() -> None:
    audit = audit_envelope(MESSAGE[:-1] + b',"ts":"2026-06-22T14:30:00Z"}')
    assert audit.envelope is None
    assert [error.path for error in audit.errors] == ["/ts"]


def test_members_twice_in_registers_that_are_no_array_do_not_hide_the_fault() -> None:
    document = b'{"registers":{"a":1,"a":2},' + MESSAGE[1:].split(b',"registers"')[0] + b"}"
    assert [str(error.code) for error in audit_envelope(document).errors] == ["WRONG_TYPE"]
