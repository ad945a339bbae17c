"""AARQ, AARE, RLRQ: the messages that open and close an association (IEC 62056-5-3, BER). Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from openami.gateway.drivers.dlms.axdr import Reader, octets_of
from openami.gateway.drivers.dlms.errors import AssociationRefused, UnfitAnswer

_AARQ, _AARE, _RLRQ, _RLRE = 0x60, 0x61, 0x62, 0x63
# 2.16.756.5.8.1.n application context, 2.16.756.5.8.2.n mechanism.
_CONTEXT: Final = bytes.fromhex("60857405 0801")
_MECHANISM: Final = bytes.fromhex("60857405 0802")
_PLAIN, _CIPHERED = 1, 3
_AUTHENTICATION_WANTED: Final = bytes.fromhex("8a020780")
_DIAGNOSTICS: Final[Mapping[int, str]] = {
    1: "no reason given",
    2: "application context not supported",
    11: "authentication mechanism not recognised",
    12: "authentication mechanism required",
    13: "authentication failure",
    14: "authentication required",
}


class Mechanism(IntEnum):
    """How a client proves who it is."""

    NONE = 0
    LLS = 1
    """A password, sent as it is."""
    HLS_GMAC = 5
    """Keys that are never sent, a challenge each way, and every message ciphered."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """What an AARE that accepts us carries."""

    user_information: bytes
    title: bytes = b""
    challenge: bytes = b""
    to_be_proven: bool = False
    """Accepted so far; the meter waits for our answer to its challenge."""


def associate_request(
    mechanism: Mechanism,
    user_information: bytes,
    *,
    authentication: bytes = b"",
    title: bytes = b"",
) -> bytes:
    """Return an AARQ. ``authentication`` is the password, or our challenge."""
    ciphered = mechanism is Mechanism.HLS_GMAC
    context = _CONTEXT + bytes((_CIPHERED if ciphered else _PLAIN,))
    body = _tagged(0xA1, _tagged(0x06, context))
    if ciphered:
        body += _tagged(0xA6, _tagged(0x04, title))
    if mechanism is not Mechanism.NONE:
        body += _AUTHENTICATION_WANTED
        body += _tagged(0x8B, _MECHANISM + bytes((mechanism,)))
        body += _tagged(0xAC, _tagged(0x80, authentication))
    body += _tagged(0xBE, _tagged(0x04, user_information))
    return _tagged(_AARQ, body)


def read_associate_response(apdu: bytes) -> Accepted:
    """Return what an AARE carries. Raises AssociationRefused, UnfitAnswer."""
    reader = Reader(apdu)
    if reader.byte() != _AARE:
        raise UnfitAnswer("no AARE where one was due")
    body = Reader(reader.octets())
    reader.end()
    fields: dict[int, bytes] = {}
    while body.left:
        tag = body.byte()
        if tag in fields:
            raise UnfitAnswer("a field of the AARE stands twice")
        fields[tag] = body.octets()
    result = _whole_number(fields.get(0xA2, b""))
    diagnostic = _diagnostic(fields.get(0xA3, b""))
    if result != 0:
        raise AssociationRefused(
            f"the meter refuses the association: {_DIAGNOSTICS.get(diagnostic, diagnostic)}"
        )
    return Accepted(
        user_information=_inner(fields.get(0xBE, b""), 0x04),
        title=_inner(fields[0xA4], 0x04) if 0xA4 in fields else b"",
        challenge=_inner(fields[0xAA], 0x80) if 0xAA in fields else b"",
        to_be_proven=diagnostic == 14,
    )


def release_request(user_information: bytes = b"") -> bytes:
    """Return an RLRQ: normal, with the user information where the association is ciphered."""
    body = _tagged(0x80, b"\x00")
    if user_information:
        body += _tagged(0xBE, _tagged(0x04, user_information))
    return _tagged(_RLRQ, body)


def is_release_response(apdu: bytes) -> bool:
    return apdu[:1] == bytes((_RLRE,))


def _tagged(tag: int, content: bytes) -> bytes:
    return bytes((tag,)) + octets_of(content)


def _inner(field: bytes, tag: int) -> bytes:
    reader = Reader(field)
    if reader.byte() != tag:
        raise UnfitAnswer("a field of the AARE is of another kind")
    return reader.octets()


def _whole_number(field: bytes) -> int:
    return int.from_bytes(_inner(field, 0x02), "big")


def _diagnostic(field: bytes) -> int:
    """Return what the service user says (A1); the provider's own (A2) are negative here."""
    reader = Reader(field)
    source = reader.byte()
    number = _whole_number(reader.octets())
    return number if source == 0xA1 else -number
