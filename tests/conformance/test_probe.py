"""The forged commands are forged in exactly one thing, and the honest one in nothing."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from openami.conformance.observation import Act
from openami.conformance.operator import HES_ID, Operator
from openami.conformance.probe import (
    IN_SESSION,
    WITHOUT_SESSION,
    Aim,
    Forgery,
    order,
    other_position,
    wanted_position,
)
from openami.pki.names import GatewayName
from openami.profile import CommandTopic, FeederId, GatewayId, MeterSerial, audit_envelope
from openami.sip.acts import verified_acts
from openami.sip.canonical import SIGNATURE, encode_base64url, read_document
from openami.sip.command import check_agreement, read_command
from openami.sip.errors import SipError
from openami.sip.keys import KeySigner
from openami.sip.session_document import admit_offer, read_session

NOW = datetime(2026, 6, 22, 8, 0, 0, 500_000, tzinfo=UTC)
NAME = GatewayName(FeederId("f"), GatewayId("g"))
TOPIC = CommandTopic(NAME.feeder_id, NAME.gateway_id, MeterSerial("M-1"))


def key(seed: int) -> KeySigner:
    return KeySigner(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


OPERATOR = Operator(root=key(1), hes=key(2))
GATEWAY, STRANGER = key(3), key(4)


def aim(position: str = "connected") -> Aim:
    action = other_position(position)
    assert action is not None
    return Aim(
        topic=TOPIC,
        action=action,
        now=NOW,
        number=5,
        signer=OPERATOR.hes,
        stranger=STRANGER,
        session_id="kit-1",
        nonce=encode_base64url(bytes(range(16))),
        neighbour=MeterSerial("M-2"),
    )


@pytest.mark.parametrize("position", ["connected", "disconnected", "ready_for_reconnection"])
def test_the_honest_order_is_one_a_gateway_takes(position: str) -> None:
    topic, payload = order(aim(position))
    document = read_document(payload)
    command = read_command(document, topic)
    check_agreement(command)
    [act] = verified_acts(document, {OPERATOR.hes.kid: OPERATOR.hes.public})
    assert act.kid == OPERATOR.hes.kid
    assert wanted_position(command.action) != position
    assert other_position("somewhere") is None


@pytest.mark.parametrize("forgery", [*WITHOUT_SESSION, *IN_SESSION], ids=lambda f: f.what)
@pytest.mark.parametrize("position", ["connected", "disconnected"])
def test_a_forged_order_is_an_envelope_that_asks_for_the_other_position(
    forgery: Forgery, position: str
) -> None:
    """Who knows only the profile understands it, so who does not look further obeys."""
    topic, payload = forgery.make(aim(position))
    assert topic == TOPIC
    audit = audit_envelope(payload)
    assert audit.envelope is not None
    [register] = audit.envelope.registers
    assert str(register.obis) == "96.11.1"
    assert register.value not in (position, None)


@pytest.mark.parametrize("forgery", WITHOUT_SESSION, ids=lambda f: f.what)
def test_without_a_session_none_is_named_that_exists(forgery: Forgery) -> None:
    assert forgery.purpose is Act.COMMAND_WITHOUT_SESSION
    named = json.loads(forgery.make(aim())[1]).get("sessionId")
    assert named in (None, "kit-never-offered")


@pytest.mark.parametrize("forgery", IN_SESSION, ids=lambda f: f.what)
def test_in_a_session_each_is_wrong_in_one_thing(forgery: Forgery) -> None:
    topic, payload = forgery.make(aim())
    document = read_document(payload)
    keys = {OPERATOR.hes.kid: OPERATOR.hes.public}
    if forgery.purpose is Act.COMMAND_FOR_ANOTHER_METER:
        assert verified_acts(document, keys), "its signature is good"
        with pytest.raises(SipError, match="TOPIC_MISMATCH"):
            read_command(document, topic)
        return
    assert forgery.purpose is Act.COMMAND_BADLY_SIGNED
    command = read_command(document, topic)
    check_agreement(command)
    honest = json.loads(order(aim())[1])
    assert document.members | {SIGNATURE: ""} == honest | {SIGNATURE: ""}
    with pytest.raises(SipError):
        verified_acts(document, keys)


def test_an_enrolled_gateway_takes_the_offer_and_the_answer() -> None:
    keyring = OPERATOR.admitted(OPERATOR.keyring(NAME, GATEWAY.public, now=NOW), NAME)
    session = OPERATOR.session(NAME, "kit-1", GATEWAY.public, now=NOW)
    document = read_document(OPERATOR.offer(session, now=NOW))
    assert set(document.members) == {
        "sessionId", "participants", "feederScope", "validFrom", "validTo", "signature",
    }  # fmt: skip
    acts = verified_acts(document, keyring.keys)
    admit_offer(
        read_session(document),
        acts,
        keyring,
        gateway_kid=GATEWAY.kid,
        feeder_id=NAME.feeder_id,
        gateway_id=NAME.gateway_id,
    )
    assert {i.id for i in keyring.identities.values()} == {HES_ID, NAME.gateway_id}


def test_a_gateway_that_is_not_enrolled_is_offered_all_six_fields_too() -> None:
    session = OPERATOR.session(NAME, "kit-1", None, now=NOW)
    document = read_document(OPERATOR.offer(session, now=NOW))
    assert {p["id"] for p in document.members["participants"]} == {HES_ID, "g"}
    assert len(document.members) == 6


def test_numbers_and_nonces_are_the_callers() -> None:
    first, second = (order(replace(aim(), number=number))[1] for number in (1, 2))
    assert json.loads(first)["command"] != json.loads(second)["command"]
