"""The attacker's best order: right in everything but the key."""

import json
from datetime import timedelta

import pytest
from tests.sip.village import FEEDER, GATEWAY, HES, METER, POLE, START, STRANGER

from openami.profile import CommandTopic, SessionId, SessionTopic
from openami.simulator.eavesdropper import Recording
from openami.simulator.forged_order import SEQ_AHEAD, forged_order
from openami.sip.actions import Action, Role
from openami.sip.acts import ActType, verified_acts
from openami.sip.canonical import encode_base64url, read_document
from openami.sip.command import read_command
from openami.sip.compose import command_members, session_members, sign
from openami.sip.errors import SipCode, SipError
from openami.sip.session_document import Participant

SESSION = SessionId("s-1")
TOPIC = CommandTopic(FEEDER, GATEWAY, METER)
NOW, IAT = START + timedelta(seconds=90), int(START.timestamp())
FIRST, SECOND = b"1" * 16, b"2" * 16


def a_command(action: Action = Action.DISCONNECT, session_id: str = SESSION) -> Recording:
    members = command_members(
        TOPIC,
        action,
        session_id=session_id,
        seq=7,
        nonce=encode_base64url(FIRST),
        ts=START,
        not_after=START + timedelta(minutes=5),
    )
    signed = sign(members, HES, ActType.COMMAND, iat=IAT)
    return Recording("hes", str(TOPIC), json.dumps(signed).encode())


def a_session(*nonces: bytes) -> Recording:
    """Return a session's document as its gateway publishes it, accepted with each of these nonces in turn."""
    members = session_members(
        SESSION,
        [Participant("hes-1", Role.HES, HES.kid, frozenset({Action.DISCONNECT}))],
        feeder_id=FEEDER,
        gateway_id=GATEWAY,
        meters=[METER],
        valid_from=START,
        valid_to=START + timedelta(hours=1),
    )
    members = sign(members, HES, ActType.OFFER, iat=IAT)
    for nonce in nonces:
        members = sign(members, POLE, ActType.ACCEPT, iat=IAT, nonce=nonce)
    topic = SessionTopic(FEEDER, GATEWAY, SESSION)
    return Recording("gw", str(topic), json.dumps(members).encode())


def test_it_turns_the_order_around_in_force_and_under_the_right_name() -> None:
    forged = forged_order([a_command()], [a_session(FIRST), a_session(SECOND)], STRANGER, NOW)
    assert forged is not None
    topic, payload = forged
    document = read_document(payload)
    command = read_command(document, topic)
    assert command.action is Action.RECONNECT
    assert command.nonce == encode_base64url(SECOND)
    assert command.seq is not None
    assert command.seq >= 7 + SEQ_AHEAD
    assert command.not_after > NOW
    with pytest.raises(SipError) as refused:
        verified_acts(document, {HES.kid: HES.public})
    assert refused.value.code is SipCode.BAD_SIGNATURE
    # The twin that the same door lets in: the name's own key.
    assert verified_acts(document, {HES.kid: STRANGER.public})


def test_nothing_to_turn_around() -> None:
    assert forged_order([], [a_session(FIRST)], STRANGER, NOW) is None
    assert forged_order([a_command()], [], STRANGER, NOW) is None
    assert forged_order([a_command(session_id="s-2")], [a_session(FIRST)], STRANGER, NOW) is None
