"""A signed document's bytes: read strictly, and canonical form.

What is signed is the RFC 8785 (JCS) form of every member except ``signature``; senders need not send that
form. Two readers that understand one text differently are how signatures are bypassed, so what could be
read twice is refused before anything is looked at: duplicate members, other encodings, NaN, depth.
"""

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Any, Final

import rfc8785

from openami.profile.reader import nested_deeper_than
from openami.sip.errors import SipCode, SipError

# A keyring of about 80 identities is 16 kB; issue one per gateway before raising this.
DOCUMENT_BYTES_MAX: Final = 16 * 1024
# The deepest document, a keyring with limits, needs 4.
DOCUMENT_DEPTH_MAX: Final = 6

SIGNATURE = "signature"


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON object as received: its members, and the bytes and digest that acts sign."""

    members: dict[str, Any]
    canonical: bytes
    digest: str


def read_document(payload: bytes, bytes_max: int = DOCUMENT_BYTES_MAX) -> Document:
    """Read a signed document. Raises SipError TOO_LARGE, BAD_JSON or DUPLICATE_MEMBER.

    ``bytes_max`` is larger for what a person has asked to be read from a file; never for what comes by itself.
    """
    if len(payload) > bytes_max:
        raise SipError(SipCode.TOO_LARGE, f"{len(payload)} bytes, at most {bytes_max} are read")
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise SipError(SipCode.BAD_JSON, f"byte {error.start} is not UTF-8") from None
    if nested_deeper_than(DOCUMENT_DEPTH_MAX, text):
        raise SipError(SipCode.BAD_JSON, f"nested more than {DOCUMENT_DEPTH_MAX} deep")
    try:
        members = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except SipError:
        raise
    except ValueError as error:
        raise SipError(SipCode.BAD_JSON, str(error)) from None
    if not isinstance(members, dict):
        raise SipError(SipCode.BAD_JSON, "a document is a JSON object")
    canonical = canonical_bytes(members)
    return Document(members, canonical, digest_of(canonical))


def canonical_bytes(members: dict[str, Any]) -> bytes:
    """Return what acts sign. Raises SipError BAD_JSON for what RFC 8785 cannot write."""
    unsigned = {name: value for name, value in members.items() if name != SIGNATURE}
    try:
        return rfc8785.dumps(unsigned)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise SipError(SipCode.BAD_JSON, f"no canonical form: {error}") from None


def digest_of(canonical: bytes) -> str:
    """Return a document's digest: base64url of SHA-256 over its canonical bytes."""
    return encode_base64url(hashlib.sha256(canonical).digest())


def encode_base64url(data: bytes) -> str:
    """Return base64url without padding (RFC 7515 §2)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decode_base64url(text: str) -> bytes:
    """Return the bytes; only the one spelling that would be written is read. Raises BAD_ENCODING."""
    try:
        data = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except ValueError:
        raise SipError(SipCode.BAD_ENCODING, "not base64url") from None
    if encode_base64url(data) != text:
        raise SipError(SipCode.BAD_ENCODING, "not the one spelling of its bytes")
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise SipError(SipCode.DUPLICATE_MEMBER, "a member stands twice: readers would differ")
    return members


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
