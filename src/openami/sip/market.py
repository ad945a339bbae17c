"""A market participant's part: shown a settlement, check that it says what was agreed, and sign that.

Pure, and small enough to be read by whoever is to trust it. The head-end hands over the document as it signed it
(``openami command show ID --document``); the participant compares it with its own book, never with what it was told
beside it, and gives back one act (``openami command approve ID --act FILE``). One act means: these bytes, once.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from openami.profile import CommandTopic, FeederId, GatewayId, MeterSerial, ProfileError
from openami.sip.actions import Action, Role
from openami.sip.acts import ActType, make_act, verified_acts
from openami.sip.canonical import read_document
from openami.sip.command import Command, read_command
from openami.sip.errors import SipError
from openami.sip.freshness import CLOCK_SLACK
from openami.sip.keyring import Keyring
from openami.sip.keys import Signer

_IDS: Final = ("feederId", "gatewayId", "meterSerial")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What was agreed, from the participant's own book."""

    trade_id: str
    feeder_id: str
    meter_serial: str
    energy_wh: int
    amount_minor: int
    """In the currency's smallest unit: paise, cents."""
    currency: str
    seller: str
    buyer: str


class NotAgreed(ValueError):
    """The document is not to be signed; the message says what in it is not as agreed."""


def settlement_act(
    payload: bytes, agreed: Settlement, *, keyring: Keyring, signer: Signer, now: datetime
) -> str:
    """Return the participant's act over a settlement that says what was agreed. Raises NotAgreed."""
    command = _read(payload)
    _check_terms(command, agreed)
    _check_time(command, now)
    try:
        acts = verified_acts(command.document, keyring.keys)
    except SipError as error:
        raise NotAgreed(f"it is not signed by a head-end of the keyring: {error}") from None
    if any(act.kid == signer.kid for act in acts):
        raise NotAgreed("it has our act already")
    roles = {keyring.identities[act.kid].role for act in acts if act.type is ActType.COMMAND}
    if Role.HES not in roles:
        raise NotAgreed("no head-end has signed it")
    own = keyring.identities.get(signer.kid)
    if own is None or own.role is not Role.MARKET or Action.SETTLE not in own.can:
        raise NotAgreed("the keyring gives our key no right to settle")
    return make_act(signer, command.document, ActType.COMMAND, iat=int(now.timestamp()))


def _read(payload: bytes) -> Command:
    try:
        document = read_document(payload)
        feeder_id, gateway_id, meter_serial = (_text(document.members, name) for name in _IDS)
        topic = CommandTopic(FeederId(feeder_id), GatewayId(gateway_id), MeterSerial(meter_serial))
        command = read_command(document, topic)
    except (SipError, ProfileError) as error:
        raise NotAgreed(f"it is no command: {error}") from None
    if command.action is not Action.SETTLE:
        raise NotAgreed(f"it is a {command.action}, not a settlement")
    return command


def _text(members: dict[str, Any], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str):
        raise NotAgreed(f"it is no command: {name} is missing")
    return value


def _check_terms(command: Command, agreed: Settlement) -> None:
    said = {
        "feederId": command.feeder_id,
        "meterSerial": command.meter_serial,
        **dict(command.args),
    }
    wanted = {
        "feederId": agreed.feeder_id,
        "meterSerial": agreed.meter_serial,
        "tradeId": agreed.trade_id,
        "energyWh": agreed.energy_wh,
        "amountMinor": agreed.amount_minor,
        "currency": agreed.currency,
        "seller": agreed.seller,
        "buyer": agreed.buyer,
    }
    for name in sorted(said.keys() | wanted.keys()):
        if said.get(name) != wanted.get(name):
            raise NotAgreed(f"{name}: it says {said.get(name)!r}, agreed was {wanted.get(name)!r}")


def _check_time(command: Command, now: datetime) -> None:
    if now.astimezone(UTC) > command.not_after + CLOCK_SLACK:
        raise NotAgreed(f"its time has passed: {command.not_after:%Y-%m-%dT%H:%M:%SZ}")
