"""DLMS/COSEM: whether a meter answers at an HDLC or wrapper address, and who it is. Pure.

Only as the public client, without a password, so that no meter counts a failed attempt; only GET of what it is
called by; the link is closed behind us (decision 0060). A meter that refuses us has answered all the same.
"""

from collections.abc import Generator
from contextlib import suppress
from typing import Final, TypeVar

from openami.gateway.drivers.dlms import hdlc
from openami.gateway.drivers.dlms.apdu import Attribute
from openami.gateway.drivers.dlms.association import Association, Credentials
from openami.gateway.drivers.dlms.errors import AssociationRefused, DlmsError
from openami.gateway.drivers.dlms.link import HdlcLink, Link, WrapperLink
from openami.gateway.drivers.dlms.steps import Steps
from openami.gateway.scan.conversation import Ask, Conversation, Pace
from openami.gateway.scan.findings import Address, Finding, Found, PortSetting, Protocol

PUBLIC_CLIENT: Final = 16  # IEC 62056-5-3: reads a little, needs no password
_STEPS_MAX: Final = 2048  # of one dialogue, on a port that hands over one octet at a time
_SERIAL = Attribute(1, bytes((0, 0, 96, 1, 0, 255)), 2)
_DEVICE_NAME = Attribute(1, bytes((0, 0, 42, 0, 0, 255)), 2)
_TEXT_CHARS_MAX = 40  # a logical device name has 16

_T = TypeVar("_T")


class _Silence(Exception):
    """Nothing came in time."""


def look_for_hdlc(
    server: int, physical: int | None, pace: Pace, setting: PortSetting | None, *, size: int = 0
) -> Conversation[tuple[Finding, ...]]:
    """Say whether a meter opens an HDLC link at this address. ``size``: the address's bytes."""
    place = (
        (("server", server),) if physical is None else (("server", server), ("physical", physical))
    )
    if size == 4:
        place = (*place, ("address_bytes", 4))
    link = HdlcLink(
        hdlc.client_address(PUBLIC_CLIENT),
        hdlc.server_address(server, physical, size=size or None),
    )
    return (yield from _met(link, Address(Protocol.DLMS_HDLC, place), pace, setting))


def look_for_wrapper(server: int, pace: Pace) -> Conversation[tuple[Finding, ...]]:
    """Say whether a logical device answers behind this wrapper port."""
    address = Address(Protocol.DLMS_TCP, (("server", server),))
    return (yield from _met(WrapperLink(PUBLIC_CLIENT, server), address, pace, None))


def _met(
    link: Link, address: Address, pace: Pace, setting: PortSetting | None
) -> Conversation[tuple[Finding, ...]]:
    association = Association(link, Credentials())
    linked = False
    try:
        yield from _driven(link.open(), pace)
        linked = isinstance(link, HdlcLink)  # the wrapper says nothing when it is opened
        yield from _driven(association.open(), pace)
    except AssociationRefused as refusal:
        remark = f"answers, and does not let the public client in: {refusal}"
    except (_Silence, DlmsError):
        if not linked:
            return ()
        remark = "opens an HDLC link, and no association with the public client"
    else:
        remark = ""
    if remark:
        yield from _left(link.close(), pace)
        return (Found(address, setting, remarks=(remark,)),)
    serial = yield from _text_of(association, _SERIAL, pace)
    name = yield from _text_of(association, _DEVICE_NAME, pace)
    yield from _left(association.close(), pace)
    return (Found(address, setting, serial=serial or None, says=name),)


def _text_of(association: Association, attribute: Attribute, pace: Pace) -> Conversation[str]:
    try:
        value = yield from _driven(association.get(attribute), pace)
    except (_Silence, DlmsError):
        return ""
    if not isinstance(value, bytes | str | int):
        return ""
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
    return text if text.isprintable() and len(text) <= _TEXT_CHARS_MAX else ""


def _left(steps: Steps[None], pace: Pace) -> Generator[Ask, bytes, None]:
    with suppress(_Silence, DlmsError):  # it may have gone already
        yield from _driven(steps, pace)


def _driven(steps: Steps[_T], pace: Pace) -> Conversation[_T]:
    """Run a dialogue of the driver's; raises _Silence when the meter says nothing more."""
    try:
        to_send = next(steps)
        for _ in range(_STEPS_MAX):
            received = yield Ask(to_send, pace.wait_s if to_send else pace.quiet_s)
            if not received:
                break
            to_send = steps.send(received)
    except StopIteration as end:
        result: _T = end.value
        return result
    steps.close()
    raise _Silence
