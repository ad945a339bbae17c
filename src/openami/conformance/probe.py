"""Commands that must not move a relay, and those that may: what the kit sends to find out (pure).

The forged ones come in two lots. Those of the first need nothing but the profile: no session was ever offered,
so whatever moves a relay breaks its one sentence about them (OA-SES-002). Those of the second are forged
against a session that is in force, after our reading of what its signature covers; only a gateway that has
accepted such a session is sent them.

A forged order always asks for the other position than the one the relay is in, so that obeying it would show.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from openami.conformance.observation import Act
from openami.profile import CommandTopic, MeterSerial
from openami.sip.actions import ACTIONS, Action
from openami.sip.acts import ActType
from openami.sip.canonical import SIGNATURE, encode_base64url
from openami.sip.compose import command_members, printed, sign
from openami.sip.keys import Signer

# A gateway's clock may be a minute off; the order is looked at within seconds.
NO_NEIGHBOUR: Final = MeterSerial("another-meter")
COMMAND_LIFE: Final = timedelta(minutes=2)
NEVER_OFFERED: Final = "kit-never-offered"
# What the relay's register says, and the order that would change it.
_OTHER: Final[Mapping[str, Action]] = {
    "connected": Action.DISCONNECT,
    "disconnected": Action.RECONNECT,
    "ready_for_reconnection": Action.RECONNECT,
}

Message = tuple[CommandTopic, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """A relay, where it is not to go, and all that somebody who listens at the broker knows."""

    topic: CommandTopic
    action: Action
    now: datetime
    number: int
    signer: Signer
    stranger: Signer
    session_id: str = NEVER_OFFERED
    nonce: str = ""
    neighbour: MeterSerial = NO_NEIGHBOUR


@dataclass(frozen=True, slots=True)
class Forgery:
    """One command that is not to be obeyed, and the purpose under which it is told to the judge."""

    purpose: Act
    what: str
    make: Callable[[Aim], Message]


def other_position(position: str) -> Action | None:
    """Return the order that moves a relay out of this position; None for a position that is none."""
    return _OTHER.get(position)


def wanted_position(action: Action) -> str:
    """Return where an order moves a relay, as its register says it."""
    wanted = ACTIONS[action].relay_state
    assert wanted is not None
    return wanted


def order(aim: Aim) -> Message:
    """Return the honest command: signed, within its session, alive."""
    return aim.topic, printed(_signed(_members(aim), aim.signer, aim))


def _members(aim: Aim, **changed: Any) -> dict[str, Any]:
    how: dict[str, Any] = {
        "session_id": aim.session_id,
        "seq": aim.number,
        "nonce": aim.nonce or encode_base64url(bytes(16)),
        "ts": aim.now,
        "not_after": aim.now.replace(microsecond=0) + COMMAND_LIFE,
        **changed,
    }
    return command_members(aim.topic, aim.action, **how)


def _signed(members: Mapping[str, Any], signer: Signer, aim: Aim) -> dict[str, Any]:
    return sign(members, signer, ActType.COMMAND, iat=int(aim.now.timestamp()))


# --- without any session -------------------------------------------------------------------------


def _bare(aim: Aim) -> Message:
    members = _members(aim)
    for name in ("sessionId", "command"):
        del members[name]
    return aim.topic, printed(members)


def _sessionless(aim: Aim) -> Message:
    members = _members(aim)
    del members["sessionId"]
    return aim.topic, printed(members)


def _never_offered(aim: Aim) -> Message:
    return order(replace(aim, session_id=NEVER_OFFERED, nonce=""))


WITHOUT_SESSION: Final[Sequence[Forgery]] = (
    Forgery(
        Act.COMMAND_WITHOUT_SESSION, "an envelope that states the wanted relay position", _bare
    ),
    Forgery(Act.COMMAND_WITHOUT_SESSION, "a command that names no session", _sessionless),
    Forgery(Act.COMMAND_WITHOUT_SESSION, "a command in a session nobody offered", _never_offered),
)

# --- against a session in force ------------------------------------------------------------------


def _altered(aim: Aim) -> Message:
    """Signed for the safe direction, or the other way round; then turned on its way."""
    turned = {Action.DISCONNECT: Action.RECONNECT, Action.RECONNECT: Action.DISCONNECT}
    honest = _signed(_members(replace(aim, action=turned[aim.action])), aim.signer, aim)
    return aim.topic, printed({**_members(aim), SIGNATURE: honest[SIGNATURE]})


def _unsigned(aim: Aim) -> Message:
    return aim.topic, printed(_members(aim))


def _by_a_stranger(aim: Aim) -> Message:
    return aim.topic, printed(_signed(_members(aim), aim.stranger, aim))


@dataclass(frozen=True, slots=True)
class _Pretender:
    """Signs with its own key under another's name."""

    kid: str
    own: Signer

    def sign(self, data: bytes) -> bytes:
        return self.own.sign(data)


def _in_anothers_name(aim: Aim) -> Message:
    pretender = _Pretender(aim.signer.kid, aim.stranger)
    return aim.topic, printed(_signed(_members(aim), pretender, aim))


def _for_another_meter(aim: Aim) -> Message:
    _, payload = order(replace(aim, topic=replace(aim.topic, meter_serial=aim.neighbour)))
    return aim.topic, payload


IN_SESSION: Final[Sequence[Forgery]] = (
    Forgery(Act.COMMAND_BADLY_SIGNED, "a command without a signature", _unsigned),
    Forgery(Act.COMMAND_BADLY_SIGNED, "a command that was altered after it was signed", _altered),
    Forgery(Act.COMMAND_BADLY_SIGNED, "a command signed by a key nobody knows", _by_a_stranger),
    Forgery(
        Act.COMMAND_BADLY_SIGNED, "a stranger's signature in the head-end's name", _in_anothers_name
    ),
    Forgery(
        Act.COMMAND_FOR_ANOTHER_METER,
        "another meter's command on this meter's topic",
        _for_another_meter,
    ),
)
