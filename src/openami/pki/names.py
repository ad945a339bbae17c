"""Common names: what a certificate calls its holder, and so what the broker lets it do (pure).

The broker takes the common name for the user name, and its access rules are made of it: a gateway's
``feederId/gatewayId`` becomes the two levels of its own part of the topic tree. A name with ``+`` or ``#``
would widen such a rule, and a gateway called as the head-end is would be the head-end, so the authority signs
no other names than these.
"""

import re
from dataclasses import dataclass
from typing import Final, NewType

from openami.profile import (
    ID_PATTERN,
    FeederId,
    GatewayId,
    ProfileError,
    check_gateway_name,
    is_id,
)

HEADEND_PREFIX: Final = "hes-"

CommonName = NewType("CommonName", str)

_is_gateway_name = re.compile(rf"({ID_PATTERN})/({ID_PATTERN})", re.ASCII).fullmatch
_is_headend_name = re.compile(rf"{HEADEND_PREFIX}[A-Za-z0-9._-]+", re.ASCII).fullmatch


class BadName(ValueError):
    """A name no certificate may carry; the message says what it has to be like."""


@dataclass(frozen=True, slots=True)
class GatewayName:
    """A gateway, by its feeder and its own id."""

    feeder_id: FeederId
    gateway_id: GatewayId

    def __str__(self) -> str:
        return f"{self.feeder_id}/{self.gateway_id}"

    @property
    def common_name(self) -> CommonName:
        """What its certificate calls it."""
        return CommonName(str(self))

    @classmethod
    def parse(cls, text: str) -> "GatewayName":
        """Read ``feederId/gatewayId``. Raises BadName."""
        found = _is_gateway_name(text)
        if found is None:
            raise BadName(f"{text[:80]!r} is not FEEDER/GATEWAY, each an id")
        if found[2].lower().startswith(HEADEND_PREFIX):
            # In a keyring it would stand where the head-end stands.
            raise BadName(f"{found[2][:80]!r} is a head-end's name, so it cannot be a gateway's")
        try:
            check_gateway_name(found[1], found[2], path="")
        except ProfileError as error:
            raise BadName(error.detail) from None
        return cls(FeederId(found[1]), GatewayId(found[2]))


def headend_name(text: str) -> CommonName:
    """Return a head-end's common name: ``hes-`` and more. Raises BadName."""
    if _is_headend_name(text) is None or not is_id(text):
        raise BadName(
            f"{text[:80]!r} is no head-end's name: {HEADEND_PREFIX} and letters, digits, . _ -, "
            f"e.g. {HEADEND_PREFIX}1"
        )
    return CommonName(text)
