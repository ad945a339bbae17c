"""What can be asked of a meter: one form for each action, so that each says what it needs."""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from openami.headend.commands import TTL_DEFAULT_S
from openami.headend.web.api.forms import AS_WHOLE, Asked, Id, Moment, Reason
from openami.sip.actions import ACTIONS, Action, Direction
from openami.sip.command import ARG_CHARS_MAX
from openami.sip.fields import print_moment
from openami.sip.keyring import COMMAND_TTL_S_MAX

# The largest whole number that every reader of JSON has (RFC 8259, 6).
WHOLE_MAX: Final = 2**53 - 1


def needs_step_up(action: Action) -> bool:
    """Return whether an order moves a relay or money: then its role alone is not enough.

    Credit may be loaded and readings asked for again by whoever has the role: nobody is cut off by them.
    """
    rule = ACTIONS[action]
    return rule.moves_relay or rule.direction is not Direction.SAFE


class _Ordered(Asked):
    feeder_id: Id
    meter_serial: Id
    reason: Reason = ""
    valid_for_s: Annotated[int, Field(ge=1, le=COMMAND_TTL_S_MAX), AS_WHOLE] = Field(
        default=TTL_DEFAULT_S,
        alias="validForS",
        description="It never acts later than so many seconds from now.",
    )
    session_id: Id | None = Field(default=None, description="In this session and no other.")


class RelayOrder(_Ordered):
    """Move a meter's relay. Needs a step-up, or a token that may order relays."""

    action: Literal["relay.disconnect", "relay.reconnect", "relay.arm"]


class CreditArgs(Asked):
    """The token a vendor has sold."""

    token: Annotated[str, Field(pattern=r"^[ -~]+$", min_length=1, max_length=ARG_CHARS_MAX)]


class CreditOrder(_Ordered):
    """Load credit into a prepaid meter."""

    action: Literal["credit.token"]
    args: CreditArgs


class ResendArgs(Asked):
    """Which readings to send again, by when they were measured; whole seconds."""

    begin: Moment = Field(alias="from")
    end: Moment = Field(alias="to", description="Not before `from`.")


class ResendOrder(_Ordered):
    """Have a gateway send readings of a meter again, as far as it still has them."""

    action: Literal["readings.resend"]
    args: ResendArgs


_Amount = Annotated[int, Field(ge=0, le=WHOLE_MAX), AS_WHOLE]


class SettlementArgs(Asked):
    """A trade between two neighbours."""

    trade_id: Id
    energy_wh: _Amount = Field(alias="energyWh", description="In watt hours.")
    amount_minor: _Amount = Field(description="In the smallest unit of the currency.")
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$", description="ISO 4217: KES, INR …")]
    seller: Id
    buyer: Id


class SettlementOrder(_Ordered):
    """Settle a trade at a meter; the market signs too. Needs a step-up, or a token that may order relays."""

    action: Literal["settlement.commit"]
    args: SettlementArgs


NewCommand = Annotated[
    RelayOrder | CreditOrder | ResendOrder | SettlementOrder, Field(discriminator="action")
]


def args_of(order: RelayOrder | CreditOrder | ResendOrder | SettlementOrder) -> dict[str, Any]:
    """Return an order's arguments as its document has them."""
    match order:
        case RelayOrder():
            return {}
        case ResendOrder(args=args):
            return {"from": print_moment(args.begin), "to": print_moment(args.end)}
        case CreditOrder(args=args):
            return args.model_dump(by_alias=True)
        case SettlementOrder(args=args):
            return args.model_dump(by_alias=True)
