"""The closed table of actions: what a command can ask, which way it is dangerous, who has to sign.

There is no generic "write register". A new action is a new row here and in docs/sip.md, and the seam at which
the normative SIP text will enter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from openami.sip.errors import SipCode, SipError


class Action(StrEnum):
    """What a command asks of a meter."""

    DISCONNECT = "relay.disconnect"
    RECONNECT = "relay.reconnect"
    ARM = "relay.arm"
    CREDIT_TOKEN = "credit.token"  # noqa: S105 - the name of an action
    RESEND = "readings.resend"
    SETTLE = "settlement.commit"


class Role(StrEnum):
    """What an identity of the keyring is."""

    ROOT = "root"
    OPERATOR = "operator"
    HES = "hes"
    GATEWAY = "gateway"
    METER = "meter"
    MARKET = "market"


class Direction(StrEnum):
    """What goes wrong if the command is wrong."""

    UNSAFE = "unsafe"
    """Somebody is cut off."""
    SAFE = "safe"
    """Nobody is harmed; accepted even under an expired keyring."""
    MONEY = "money"


RELAY_STATE_OBIS: Final = "96.11.1"
RELAY_STATE_UNIT: Final = "enum"


@dataclass(frozen=True, slots=True)
class ActionRule:
    """One row: direction, the roles that all have to sign, and the relay state that is asked for."""

    direction: Direction
    quorum: frozenset[Role]
    relay_state: str | None = None
    required_args: frozenset[str] = frozenset()

    @property
    def moves_relay(self) -> bool:
        """Whether a contactor moves."""
        return self.relay_state is not None


ACTIONS: Final[Mapping[Action, ActionRule]] = {
    Action.DISCONNECT: ActionRule(
        Direction.UNSAFE, frozenset({Role.HES}), relay_state="disconnected"
    ),
    Action.RECONNECT: ActionRule(Direction.SAFE, frozenset({Role.HES}), relay_state="connected"),
    Action.ARM: ActionRule(
        Direction.SAFE, frozenset({Role.HES}), relay_state="ready_for_reconnection"
    ),
    Action.CREDIT_TOKEN: ActionRule(
        Direction.SAFE, frozenset({Role.HES}), required_args=frozenset({"token"})
    ),
    Action.RESEND: ActionRule(
        Direction.SAFE, frozenset({Role.HES}), required_args=frozenset({"from", "to"})
    ),
    Action.SETTLE: ActionRule(
        Direction.MONEY,
        frozenset({Role.HES, Role.MARKET}),
        required_args=frozenset(
            {"tradeId", "energyWh", "amountMinor", "currency", "seller", "buyer"}
        ),
    ),
}


def action_of(value: object) -> Action:
    """Return the action a member names. Raises SipError UNKNOWN_ACTION."""
    if isinstance(value, str) and value in Action._value2member_map_:
        return Action(value)
    raise SipError(SipCode.UNKNOWN_ACTION, "no such action; the list is closed")


def quorum_of(action: Action, *, protected: bool) -> frozenset[Role]:
    """Return the roles that all have to sign; a protected meter needs a second person to cut off."""
    rule = ACTIONS[action]
    if protected and rule.direction is Direction.UNSAFE:
        return rule.quorum | {Role.OPERATOR}
    return rule.quorum
