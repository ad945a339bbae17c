"""Public keys and signers: thumbprints, keys too weak to sign anything, and the Signer port.

A ``kid`` is the key's RFC 7638 thumbprint, so a name cannot be made to point at another key. OpenSSL accepts
forged signatures under the eight Ed25519 points of small order, and two spellings of some points; both are
refused when a key enters the system, not when it is used.
"""

import hashlib
import json
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from openami.sip.canonical import decode_base64url, encode_base64url
from openami.sip.errors import SipCode, SipError

ALGORITHM: Final = "Ed25519"  # RFC 9864; the polymorphic "EdDSA" is deprecated
_KEY_BYTES = 32  # an Ed25519 point (RFC 8032)
_FIELD_PRIME = 2**255 - 19
_SIGN_BIT = 1 << 255

# y of the points of order 1, 2, 4 and 8 (RFC 7748's curve in Edwards form). With the sign bit, all eight.
_SMALL_ORDER_Y: Final = frozenset(
    {
        0,
        1,
        _FIELD_PRIME - 1,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    }
)


class Signer(Protocol):
    """Something that can sign: a key in a file, in a token, or behind a service."""

    @property
    def kid(self) -> str: ...

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature (RFC 8032)."""
        ...


class PublicKey:
    """A key that may verify; never a weak one. Immutable."""

    __slots__ = ("_key", "kid", "raw")

    def __init__(self, raw: bytes) -> None:
        """Take 32 raw bytes. Raises SipError WEAK_KEY or BAD_FIELD."""
        if len(raw) != _KEY_BYTES:
            raise SipError(SipCode.BAD_FIELD, f"a key has {_KEY_BYTES} bytes, this one {len(raw)}")
        y = int.from_bytes(raw, "little") & ~_SIGN_BIT
        if y >= _FIELD_PRIME:
            raise SipError(SipCode.WEAK_KEY, "the key is a second spelling of a point")
        if y in _SMALL_ORDER_Y:
            raise SipError(SipCode.WEAK_KEY, "a point of small order signs anything")
        self.raw = raw
        self.kid = thumbprint(raw)
        self._key = Ed25519PublicKey.from_public_bytes(raw)

    @classmethod
    def parse(cls, text: str) -> "PublicKey":
        """Read a key as a keyring has it: base64url of its raw bytes. Raises SipError."""
        return cls(decode_base64url(text))

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Return whether the signature is this key's over the data."""
        try:
            self._key.verify(signature, data)
        except InvalidSignature:
            return False
        return True


class KeySigner:
    """A signer with its private key in memory."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = PublicKey(private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    @property
    def kid(self) -> str:
        return self.public.kid

    def sign(self, data: bytes) -> bytes:
        return self._private.sign(data)


def thumbprint(raw: bytes) -> str:
    """Return a key's RFC 7638 thumbprint (members as RFC 8037 §2 has them)."""
    jwk = {"crv": "Ed25519", "kty": "OKP", "x": encode_base64url(raw)}
    return encode_base64url(
        hashlib.sha256(json.dumps(jwk, separators=(",", ":")).encode()).digest()
    )
