"""Acts: what the one ``signature`` field holds.

    signature = act *7( SP act )
    act       = BASE64URL(header) ".." BASE64URL(sig)        JWS compact, detached payload
    sig       = Sign(key, BASE64URL(header) "." BASE64URL(canonical bytes))

(RFC 7515 Appendix F.) An act is a statement by one key: **who** (``kid``), **what** (``typ``), **when**
(``iat``). The header is closed: the algorithm belongs to the key and is only named, any other member is
refused, so there is nothing in it for a forger to choose. Every act of a document has to verify, or none
counts; what a verified act *may* do is for the keyring, and then the session, to say.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from openami.profile import is_id
from openami.sip.canonical import (
    SIGNATURE,
    Document,
    decode_base64url,
    encode_base64url,
    read_document,
)
from openami.sip.errors import SipCode, SipError
from openami.sip.keys import ALGORITHM, PublicKey, Signer

ACTS_MAX: Final = 8  # two persons, a market, a head-end and roots in rotation; more is a flood
_NONCE_BYTES = 16  # 128 bits: never met twice
_SIGNATURE_BYTES = 64  # Ed25519 (RFC 8032)
_REASON_CHARS_MAX = 32  # a code, not prose
_IAT_MAX = 253_402_300_799  # the last second of the year 9999, where calendars end


class ActType(StrEnum):
    """What a key states about a document."""

    KEYRING = "sip-keyring"
    OFFER = "sip-offer"
    ACCEPT = "sip-accept"
    REJECT = "sip-reject"
    CLOSE = "sip-close"
    REVOKE = "sip-revoke"
    COMMAND = "sip-command"
    REPORT = "sip-report"
    ENROL = "sip-enrol"
    BACKLOG = "sip-backlog"
    STATEMENT = "sip-statement"
    CERTIFICATE = "sip-certificate"
    CONFORMANCE = "sip-conformance"
    COMMISSIONING = "sip-commissioning"


_WITH_REASON = frozenset({ActType.REJECT, ActType.CLOSE, ActType.REVOKE})


@dataclass(frozen=True, slots=True)
class Act:
    """One statement, as read; it counts only after ``verified_acts``."""

    type: ActType
    kid: str
    iat: int
    nonce: str | None
    reason: str | None
    text: str
    header_text: str
    signature: bytes


def read_acts(document: Document) -> tuple[Act, ...]:
    """Read the acts of a document, in their order. Raises SipError; nothing is verified yet."""
    field = document.members.get(SIGNATURE)
    if field is None or field == "":
        raise SipError(SipCode.NO_SIGNATURE, "the document is not signed")
    if not isinstance(field, str):
        raise SipError(SipCode.BAD_FIELD, "signature is a string")
    texts = field.split(" ")
    if len(texts) > ACTS_MAX:
        raise SipError(SipCode.TOO_MANY_ACTS, f"{len(texts)} acts, at most {ACTS_MAX} are read")
    return tuple(_read_act(text) for text in texts)


def verified_acts(document: Document, keys: Mapping[str, PublicKey]) -> tuple[Act, ...]:
    """Return the document's acts, every one of them verified with a known key. Raises SipError."""
    acts = read_acts(document)
    signers: set[tuple[str, ActType]] = set()
    payload = encode_base64url(document.canonical)
    for act in acts:
        key = keys.get(act.kid)
        if key is None:
            raise SipError(SipCode.UNKNOWN_KEY, f"no known key has the thumbprint {act.kid[:64]}")
        if not key.verify(act.signature, f"{act.header_text}.{payload}".encode()):
            raise SipError(SipCode.BAD_SIGNATURE, f"not what {act.kid} signed")
        if (act.kid, act.type) in signers:
            raise SipError(SipCode.BAD_ENCODING, f"{act.kid} signed twice")
        signers.add((act.kid, act.type))
    return acts


def make_act(
    signer: Signer,
    document: Document,
    type_: ActType,
    *,
    iat: int,
    nonce: bytes | None = None,
    reason: str | None = None,
) -> str:
    """Return the text of one act over a document, to be appended to its ``signature``."""
    header: dict[str, object] = {"alg": ALGORITHM, "iat": iat, "kid": signer.kid}
    if nonce is not None:
        header["nonce"] = encode_base64url(nonce)
    if reason is not None:
        header["rsn"] = reason
    header["typ"] = type_.value
    head = encode_base64url(json.dumps(header, separators=(",", ":"), sort_keys=True).encode())
    signature = signer.sign(f"{head}.{encode_base64url(document.canonical)}".encode())
    text = f"{head}..{encode_base64url(signature)}"
    _read_act(text)  # one judge for both directions
    return text


def signed(members: Mapping[str, Any], acts: Sequence[str]) -> dict[str, Any]:
    """Return the document with these acts as its signature."""
    return {**members, SIGNATURE: " ".join(acts)}


def _read_act(text: str) -> Act:
    parts = text.split(".")
    if len(parts) != 3 or parts[1]:
        raise SipError(SipCode.BAD_ENCODING, "an act is HEADER..SIGNATURE")
    header = _read_header(decode_base64url(parts[0]))
    signature = decode_base64url(parts[2])
    if len(signature) != _SIGNATURE_BYTES:
        raise SipError(SipCode.BAD_SIGNATURE, f"a signature has {_SIGNATURE_BYTES} bytes")
    return Act(
        type=header.type,
        kid=header.kid,
        iat=header.iat,
        nonce=header.nonce,
        reason=header.reason,
        text=text,
        header_text=parts[0],
        signature=signature,
    )


@dataclass(frozen=True, slots=True)
class _Header:
    type: ActType
    kid: str
    iat: int
    nonce: str | None
    reason: str | None


def _read_header(data: bytes) -> _Header:
    members = _header_members(data)
    unknown = set(members) - {"alg", "iat", "kid", "nonce", "rsn", "typ"}
    if unknown:
        raise SipError(SipCode.BAD_HEADER, f"unknown header members: {sorted(unknown)}")
    if members.get("alg") != ALGORITHM:
        raise SipError(SipCode.BAD_ALG, f"the algorithm of an act is {ALGORITHM}")
    type_ = _type(members.get("typ"))
    kid, iat = members.get("kid"), members.get("iat")
    if not isinstance(kid, str):
        raise SipError(SipCode.BAD_HEADER, "kid is a string")
    if type(iat) is not int or not 0 <= iat <= _IAT_MAX:
        raise SipError(SipCode.BAD_HEADER, "iat is a whole number of seconds")
    return _Header(type_, kid, iat, _nonce(members, type_), _reason(members, type_))


def _header_members(data: bytes) -> Mapping[str, Any]:
    """A header is read as strictly as a document; whatever is wrong with it is BAD_HEADER."""
    try:
        return read_document(data).members
    except SipError as error:
        raise SipError(SipCode.BAD_HEADER, error.detail) from None


def _type(value: object) -> ActType:
    # By `str` first: a list or an object is not hashable and would end the program, not the act.
    if not isinstance(value, str) or value not in ActType._value2member_map_:
        raise SipError(SipCode.BAD_TYPE, "not a type of act")
    return ActType(value)


def _nonce(members: Mapping[str, Any], type_: ActType) -> str | None:
    if ("nonce" in members) != (type_ is ActType.ACCEPT):
        raise SipError(SipCode.BAD_HEADER, "a nonce stands in an accept, always and only")
    if type_ is not ActType.ACCEPT:
        return None
    nonce = members["nonce"]
    if not isinstance(nonce, str) or len(decode_base64url(nonce)) != _NONCE_BYTES:
        raise SipError(SipCode.BAD_HEADER, f"a nonce has {_NONCE_BYTES} bytes")
    return nonce


def _reason(members: Mapping[str, Any], type_: ActType) -> str | None:
    if ("rsn" in members) != (type_ in _WITH_REASON):
        raise SipError(SipCode.BAD_HEADER, "a reason stands in reject, close and revoke")
    if type_ not in _WITH_REASON:
        return None
    reason = members["rsn"]
    if not isinstance(reason, str) or len(reason) > _REASON_CHARS_MAX or not is_id(reason):
        raise SipError(SipCode.BAD_HEADER, "a reason is a short code, of an id's characters")
    return reason
