"""The documents of the known answers, and the judge of the vectors."""

from datetime import UTC, datetime
from typing import Any

from tests.profile.vectors import Vector
from tests.sip.village import FEEDER, GATEWAY, HES, METER, POLE

from openami.profile import CommandTopic, SessionId, SessionTopic, parse_topic
from openami.sip.actions import Action, Role
from openami.sip.acts import ActType, verified_acts
from openami.sip.canonical import read_document
from openami.sip.command import read_command
from openami.sip.compose import command_members, session_members
from openami.sip.errors import SipCode, SipError
from openami.sip.keys import PublicKey
from openami.sip.session_document import Participant, read_session

NONCE = bytes(range(16))
COMMANDS = {ActType.COMMAND}
SESSIONS = {ActType.OFFER, ActType.ACCEPT, ActType.REJECT, ActType.CLOSE, ActType.REVOKE}


def at(hour: int, minute: int, second: int, *, day: int = 22) -> datetime:
    return datetime(2026, 6, day, hour, minute, second, tzinfo=UTC)


def session() -> dict[str, Any]:
    rights = frozenset({Action.DISCONNECT, Action.RECONNECT})
    return session_members(
        "sip-7f3a9c2e",
        [
            Participant("hes-1", Role.HES, HES.kid, rights),
            Participant(GATEWAY, Role.GATEWAY, POLE.kid, frozenset()),
        ],
        feeder_id=FEEDER,
        gateway_id=GATEWAY,
        meters=["*"],
        valid_from=at(14, 0, 0),
        valid_to=at(14, 0, 0, day=23),
    )


def command() -> dict[str, Any]:
    return command_members(
        CommandTopic(FEEDER, GATEWAY, METER),
        Action.DISCONNECT,
        session_id="sip-7f3a9c2e",
        seq=1,
        nonce="AAECAwQFBgcICQoLDA0ODw",
        ts=at(14, 30, 5),
        not_after=at(14, 35, 5),
    )


def judged(vector: Vector) -> list[dict[str, Any]]:
    """Read and verify a vector with nothing but the keys it brings; return its acts as the vector tells them."""
    topic = parse_topic(vector.topic)
    document = read_document(vector.payload)
    keys = {kid: PublicKey.parse(text) for kid, text in vector.content["keys"].items()}
    if isinstance(topic, CommandTopic):
        read_command(document, topic)
    else:
        assert isinstance(topic, SessionTopic)
        if read_session(document).session_id != SessionId(topic.session_id):
            raise SipError(SipCode.TOPIC_MISMATCH, "another session's topic")
    acts = verified_acts(document, keys)
    for act in acts:
        if act.type not in (COMMANDS if isinstance(topic, CommandTopic) else SESSIONS):
            raise SipError(SipCode.WRONG_TYPE, "an act of another kind of document")
    return [
        {"typ": a.type.value, "kid": a.kid, "iat": a.iat, **({"nonce": a.nonce} if a.nonce else {})}
        for a in acts
    ]
