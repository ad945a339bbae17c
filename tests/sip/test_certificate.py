"""A daily certificate: an honest one beside each forgery, one member away from it."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from tests.headend.village_keys import FEEDER, GATEWAY, ROOTS, keyring, signer

from openami.profile import EventTopic, FeederId, GatewayId, MeterSerial, Obis
from openami.sip.account import MeterDay, begin_of, ms_of
from openami.sip.acts import ActType
from openami.sip.canonical import SIGNATURE, encode_base64url, read_document
from openami.sip.certificate import (
    CERTIFICATE_BYTES_MAX,
    CertificateError,
    CertificateFault,
    Difference,
    certificate,
    chain_of,
    verify_certificate,
    whole_statement,
)
from openami.sip.compose import sign
from openami.sip.errors import SipError
from openami.sip.keyring import Roots
from openami.sip.statements import (
    METERS_PER_PART_MAX,
    Stated,
    event_id_of,
    read_statement,
    statement_members,
)

DAY = date(2026, 7, 1)
OVER = begin_of(DAY) + timedelta(days=1)
STATED_AT = OVER + timedelta(minutes=30)
CERTIFIED_AT = OVER + timedelta(hours=6)
METERS = ("M-1", "M-2", "M-3")
GATEWAY_TOPIC = EventTopic(FeederId(FEEDER), GatewayId(GATEWAY), MeterSerial(GATEWAY))


def account(meter: str, readings: int = 96, day: date = DAY) -> MeterDay:
    counted = MeterDay()
    for number in range(readings):
        ts = begin_of(day) + timedelta(minutes=15 * number)
        counted.add(meter, Obis.parse("1.8.0"), ms_of(ts), 1000 + number / 4, "kWh")
    return counted


def part(
    meters: Sequence[str] = METERS,
    *,
    by: str = GATEWAY,
    day: date = DAY,
    number: int = 1,
    parts: int = 1,
    at: datetime = STATED_AT,
    type_: ActType = ActType.STATEMENT,
    change: Callable[[dict[str, Any]], None] = lambda _: None,
    topic: EventTopic = GATEWAY_TOPIC,
) -> bytes:
    stated = [Stated(meter, account(meter, day=day)) for meter in meters]
    members = statement_members(topic, day, stated, part=number, parts=parts, ts=at)
    change(members)
    return json.dumps(
        sign({**members, "seq": 7}, signer(by), type_, iat=int(at.timestamp()))
    ).encode()


def stored(*, without: int = 0) -> Mapping[str, MeterDay]:
    return {meter: account(meter, 96 - without * (meter == "M-2")) for meter in METERS}


def made(
    *,
    parts: Sequence[bytes] = (),
    has: Mapping[str, MeterDay] | None = None,
    keyrings: Sequence[bytes] = (),
    by: str = "hes-1",
    at: datetime = CERTIFIED_AT,
) -> bytes:
    chain = chain_of(
        keyrings or [keyring(now=begin_of(DAY))], ROOTS, feeder_id=FEEDER, gateway_id=GATEWAY
    )
    return certificate(
        parts or [part()], stored() if has is None else has, chain, signer=signer(by), now=at
    )


def signed_anew(
    payload: bytes, change: Callable[[dict[str, Any]], None], by: str = "hes-1"
) -> bytes:
    """What somebody who has a head-end's key could hand out instead."""
    members = json.loads(payload)
    del members[SIGNATURE]
    change(members)
    iat = int(CERTIFIED_AT.timestamp())
    return json.dumps(sign(members, signer(by), ActType.CERTIFICATE, iat=iat)).encode()


def fault_of(payload: bytes, roots: Roots = ROOTS) -> CertificateFault:
    with pytest.raises(CertificateError) as raised:
        verify_certificate(payload, roots)
    assert raised.value.remedy
    return raised.value.fault


# --- honest --------------------------------------------------------------------------------------


def test_an_honest_one_says_who_signed_what_and_that_nothing_is_missing() -> None:
    verified = verify_certificate(made(), ROOTS)
    assert verified.complete
    assert (verified.feeder_id, verified.gateway_id, verified.day) == (FEEDER, GATEWAY, DAY)
    assert (verified.stated_by.key.kid, verified.stated_at) == (signer(GATEWAY).kid, STATED_AT)
    assert (verified.certified_by.id, verified.certified_at) == ("hes-1", CERTIFIED_AT)
    assert (verified.meters, verified.readings) == (3, 3 * 96)


def test_an_honest_one_of_a_day_with_losses_says_whose_and_how_many() -> None:
    verified = verify_certificate(made(has=stored(without=2)), ROOTS)
    assert not verified.complete
    assert verified.differences == (Difference("M-2", 96, 94, 0),)
    assert verify_certificate(made(has={}), ROOTS).differences[0] == Difference("M-1", 96, 0, 0)


def test_a_statement_in_parts() -> None:
    parts = [part(["M-1"], parts=2), part(["M-2"], number=2, parts=2)]
    assert verify_certificate(made(parts=parts), ROOTS).meters == 2


def test_rotated_roots_are_followed_from_the_old_ones_only() -> None:
    second = _rotating(2)
    third = _under_new_roots(3)
    payload = made(keyrings=[keyring(now=begin_of(DAY)), second, third])
    assert verify_certificate(payload, ROOTS).complete
    new_roots = Roots(1, {signer("root-2").kid: signer("root-2").public})
    assert fault_of(payload, new_roots) is CertificateFault.KEYRING


def _rotating(version: int) -> bytes:
    members = json.loads(keyring(version, now=begin_of(DAY)))
    del members[SIGNATURE]
    members["participants"].append(
        {
            "id": "root-2",
            "role": "root",
            "kid": signer("root-2").kid,
            "key": encode_base64url(signer("root-2").public.raw),
            "can": [],
        }
    )
    iat = int(begin_of(DAY).timestamp())
    for root in ("root", "root-2"):
        members = sign(members, signer(root), ActType.KEYRING, iat=iat)
    return json.dumps(members).encode()


def _under_new_roots(version: int) -> bytes:
    members = json.loads(keyring(version, now=begin_of(DAY)))
    del members[SIGNATURE]
    iat = int(begin_of(DAY).timestamp())
    return json.dumps(sign(members, signer("root-2"), ActType.KEYRING, iat=iat)).encode()


def test_only_the_keyrings_it_takes_are_in_it() -> None:
    versions = [keyring(n, now=begin_of(DAY) - timedelta(days=30 * (4 - n))) for n in range(1, 5)]
    assert verify_certificate(made(keyrings=versions), ROOTS).keyring_versions == (4,)


# --- whose -----------------------------------------------------------------------------------------


def test_other_roots_vouch_for_nobody() -> None:
    others = Roots(1, {signer("mallory").kid: signer("mallory").public})
    assert fault_of(made(), others) is CertificateFault.KEYRING


@pytest.mark.parametrize("who", ["hes-1", "anita", "market-coop", "root", "stranger"])
def test_nobody_else_states_for_the_gateway(who: str) -> None:
    assert fault_of(made(parts=[part(by=who)])) is CertificateFault.GATEWAY


@pytest.mark.parametrize("who", [GATEWAY, "anita", "market-coop", "root", "stranger"])
def test_nobody_else_certifies(who: str) -> None:
    assert fault_of(made(by=who)) is CertificateFault.HEAD_END


@pytest.mark.parametrize("type_", [ActType.REPORT, ActType.CERTIFICATE, ActType.BACKLOG])
def test_an_act_of_another_type_states_no_day(type_: ActType) -> None:
    honest = made()
    forged = signed_anew(honest, lambda m: m.update(statement=[part(type_=type_).decode()]))
    assert fault_of(forged) is CertificateFault.NOT_A_CERTIFICATE


def test_a_head_ends_command_is_no_certificate() -> None:
    members = json.loads(made())
    del members[SIGNATURE]
    other = sign(members, signer("hes-1"), ActType.COMMAND, iat=int(CERTIFIED_AT.timestamp()))
    assert fault_of(json.dumps(other).encode()) is CertificateFault.HEAD_END


# --- when ------------------------------------------------------------------------------------------


def test_stated_when_the_day_is_over_and_not_before() -> None:
    assert verify_certificate(made(parts=[part(at=OVER)]), ROOTS).complete
    early = part(at=OVER - timedelta(seconds=1))
    assert fault_of(made(parts=[early])) is CertificateFault.GATEWAY


def test_a_keyring_counts_to_its_end_and_not_a_second_longer() -> None:
    # It begins a day before `now` and holds ninety days after it.
    ending = keyring(now=STATED_AT - timedelta(days=90))
    assert fault_of(made(keyrings=[ending])) is CertificateFault.HEAD_END  # the gateway was in time
    just = keyring(now=CERTIFIED_AT - timedelta(days=90))
    assert verify_certificate(made(keyrings=[just]), ROOTS).complete
    ended = keyring(now=STATED_AT - timedelta(days=90, seconds=1))
    assert fault_of(made(keyrings=[ended])) is CertificateFault.GATEWAY


def test_a_key_that_was_taken_out_before_states_nothing() -> None:
    out = keyring(2, names=("hes-1", "anita"), now=STATED_AT)  # in force a day before `now`
    assert fault_of(made(keyrings=[keyring(now=begin_of(DAY)), out])) is CertificateFault.GATEWAY
    later = keyring(2, names=("hes-1", "anita"), now=CERTIFIED_AT + timedelta(days=1))
    assert verify_certificate(made(keyrings=[keyring(now=begin_of(DAY)), later]), ROOTS).complete


# --- what ------------------------------------------------------------------------------------------


def edit_statement(members: dict[str, Any], old: str, new: str) -> None:
    (text,) = members["statement"]
    assert old in text
    members["statement"] = [text.replace(old, new, 1)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"readings": 96', '"readings": 95'),
        ('"thinned": 0', '"thinned": 5'),
        ('"value": 1000', '"value": 1100'),
        ('"meter": "M-1"', '"meter": "M-9"'),
        ('"seq": 7', '"seq": 8'),
        ("part 1 of 1", "part 1 of 2"),
    ],
)
def test_a_head_end_cannot_change_a_word_of_the_statement(old: str, new: str) -> None:
    forged = signed_anew(made(), lambda members: edit_statement(members, old, new))
    assert fault_of(forged) is CertificateFault.GATEWAY


def test_another_days_statement_is_not_this_days() -> None:
    other = part(day=DAY - timedelta(days=1))
    forged = signed_anew(made(), lambda members: members.update(statement=[other.decode()]))
    assert fault_of(forged) is CertificateFault.CONTRADICTORY


def test_another_gateways_statement_is_not_this_ones() -> None:
    topic = EventTopic(FeederId(FEEDER), GatewayId("pole-7"), MeterSerial("pole-7"))
    forged = signed_anew(made(), lambda m: m.update(statement=[part(topic=topic).decode()]))
    assert fault_of(forged) is CertificateFault.CONTRADICTORY
    as_theirs = signed_anew(forged, lambda m: m.update(gatewayId="pole-7"))
    assert fault_of(as_theirs) is CertificateFault.KEYRING


def test_a_verdict_has_to_follow_from_the_accounts() -> None:
    lossy = made(has=stored(without=1))
    assert not verify_certificate(lossy, ROOTS).complete
    lies: Sequence[Mapping[str, object]] = ({"verdict": "complete"}, {"differences": []})
    for lie in lies:
        assert fault_of(signed_anew(lossy, updating(lie))) is CertificateFault.CONTRADICTORY


def updating(lie: Mapping[str, object]) -> Callable[[dict[str, Any]], None]:
    return lambda members: members.update(lie)


def test_a_part_left_out_told_twice_or_moved_is_no_statement() -> None:
    one, two = part(["M-1"], parts=2), part(["M-2"], number=2, parts=2)
    whole_statement([one, two])
    for parts in ([one], [two], [two, one], [one, one], [one, two, two], [one, part(["M-3"])]):
        with pytest.raises(SipError):
            whole_statement(parts)
    with pytest.raises(SipError):  # a meter that stands in two parts would count twice
        whole_statement([one, part(["M-1"], number=2, parts=2)])


def test_every_byte_of_it_is_signed_or_means_nothing() -> None:
    payload = made()
    honest = verify_certificate(payload, ROOTS)
    for at in range(0, len(payload), 7):
        flipped = bytearray(payload)
        flipped[at] ^= 0x01
        try:
            assert verify_certificate(bytes(flipped), ROOTS) == honest
        except CertificateError:
            continue
        # Spaces between members are JSON's own, and no part of what it says.
        assert payload[at : at + 1].isspace()


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"\x1f\x8b", b'{"format":"openami-certificate/2"}', b"x" * 100]
)
def test_another_file_is_no_certificate(data: bytes) -> None:
    assert fault_of(data) is CertificateFault.NOT_A_CERTIFICATE


def test_cut_anywhere_it_is_no_certificate() -> None:
    payload = made()
    for end in range(0, len(payload), 11):
        assert fault_of(payload[:end]) is CertificateFault.NOT_A_CERTIFICATE


def test_a_huge_file_is_not_read() -> None:
    assert fault_of(b" " * (CERTIFICATE_BYTES_MAX + 1)) is CertificateFault.NOT_A_CERTIFICATE


# --- the statement as a document ---------------------------------------------------------------------


def test_a_statement_is_read_as_it_was_made() -> None:
    read = read_statement(read_document(part()))
    assert [stated.account for stated in read.meters] == [account(meter) for meter in METERS]
    assert event_id_of(GATEWAY, DAY, 1) in part().decode()


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("day", "2026-07-32"),
        ("day", "20260701"),
        ("day", 20260701),
        ("part", 0),
        ("part", 2),
        ("parts", 26),
        ("parts", True),
        ("meters", "M-1"),
        ("meters", [{"meter": "M-1"}]),
        ("more", 1),
    ],
)
def test_a_statement_of_another_form_is_refused(member: str, value: object) -> None:
    def change(members: dict[str, Any]) -> None:
        members["report"][member] = value

    with pytest.raises(SipError):
        read_statement(read_document(part(change=change)))


@pytest.mark.parametrize(
    ("member", "value"),
    [("readings", -1), ("readings", 1.0), ("digest", "AA"), ("digest", "!"), ("thinned", -1),
     ("first", {"ts": "2026-07-02T00:00:00Z", "value": 1}), ("last", {"ts": "now", "value": 1}),
     ("last", {"ts": "2026-07-01T00:00:00Z", "value": True})],
)  # fmt: skip
def test_a_meters_day_of_another_form_is_refused(member: str, value: object) -> None:
    def change(members: dict[str, Any]) -> None:
        members["report"]["meters"][0][member] = value

    with pytest.raises(SipError):
        read_statement(read_document(part(change=change)))


def test_more_meters_than_a_part_has_are_refused() -> None:
    most = [f"M-{number}" for number in range(METERS_PER_PART_MAX)]
    assert len(read_statement(read_document(part(most))).meters) == METERS_PER_PART_MAX

    def one_more(members: dict[str, Any]) -> None:
        entry = members["report"]["meters"][0]
        members["report"]["meters"].append({**entry, "meter": "one-more"})

    with pytest.raises(SipError):
        read_statement(read_document(part(most, change=one_more)))
