"""The order an attacker would write: right in everything, in force, and signed with another key.

Whoever has the broker hears each session's nonce and each command's number, and knows the profile. All that is
missing is the head-end's key, so that is all that stands between this order and a contactor.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from openami.profile import CommandTopic, parse_topic
from openami.simulator.eavesdropper import Recording
from openami.sip.actions import Action
from openami.sip.acts import ActType, read_acts
from openami.sip.canonical import read_document
from openami.sip.command import read_command
from openami.sip.compose import command_members, sign
from openami.sip.keys import Signer

# Beyond every number the head-end will give.
SEQ_AHEAD: Final = 1_000
# Well within what a command may live.
LIFE: Final = timedelta(minutes=2)
_OTHER: Final = {Action.DISCONNECT: Action.RECONNECT, Action.RECONNECT: Action.DISCONNECT}


@dataclass(frozen=True, slots=True)
class Pretender:
    """Signs with a key of its own under somebody else's name."""

    kid: str
    own: Signer

    def sign(self, data: bytes) -> bytes:
        """Return a signature that is not this name's."""
        return self.own.sign(data)


def forged_order(
    commands: Sequence[Recording], sessions: Sequence[Recording], own: Signer, now: datetime
) -> tuple[CommandTopic, bytes] | None:
    """Turn the newest relay command that was heard around, and write it anew for now; None without one."""
    for heard in reversed(commands):
        topic, document = parse_topic(heard.topic), read_document(heard.payload)
        assert isinstance(topic, CommandTopic)
        command = read_command(document, topic)
        nonce = _nonce_in_force(str(command.session_id), sessions)
        if nonce is None or command.action not in _OTHER:
            continue
        members = command_members(
            topic,
            _OTHER[command.action],
            session_id=str(command.session_id),
            seq=(command.seq or 0) + SEQ_AHEAD + int(now.timestamp()) % SEQ_AHEAD,
            nonce=nonce,
            ts=now,
            not_after=now.replace(microsecond=0) + LIFE,
        )
        pretender = Pretender(read_acts(document)[0].kid, own)
        signed = sign(members, pretender, ActType.COMMAND, iat=int(now.timestamp()))
        return topic, json.dumps(signed).encode()
    return None


def _nonce_in_force(session_id: str, sessions: Sequence[Recording]) -> str | None:
    """Return the nonce of the last accept of this session that was heard."""
    for heard in reversed(sessions):
        if not heard.topic.endswith(f"/session/{session_id}"):
            continue
        for act in reversed(read_acts(read_document(heard.payload))):
            if act.type is ActType.ACCEPT and act.nonce is not None:
                return act.nonce
    return None
