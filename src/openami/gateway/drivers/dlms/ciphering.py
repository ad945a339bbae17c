"""Ciphering of security suite 0 (IEC 62056-5-3, clause 5): AES-128-GCM with a 12-byte tag. Pure.

The nonce is the sender's system title and its invocation counter: a counter value used twice under one key
gives the key's secrets away. So counters come from `invocation`, which keeps them on disk, and never from
here.
"""

import hmac
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import GCM

from openami.gateway.drivers.dlms.axdr import Reader, octets_of
from openami.gateway.drivers.dlms.errors import CipherError, UnfitAnswer

KEY_BYTES: Final = 16  # of AES-128
TITLE_BYTES: Final = 8  # IEC 62056-5-3, clause 4.3.4
COUNTER_MAX: Final = 0xFFFF_FFFF  # four bytes of the nonce; after that the keys are used up
_TAG_BYTES: Final = 12  # suite 0 cuts the 16 bytes of a GCM tag
_AUTHENTICATED: Final = 0x10
_SEALED: Final = 0x30
"""Security control: authenticated and encrypted, suite 0, the unicast key."""


@dataclass(frozen=True, slots=True)
class Keys:
    """A meter's two keys; they are in no message, no log and no error."""

    encryption: bytes = field(repr=False)
    authentication: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.encryption) != KEY_BYTES or len(self.authentication) != KEY_BYTES:
            raise ValueError(f"a key of suite 0 has {KEY_BYTES} bytes")


def seal(keys: Keys, title: bytes, counter: int, message: bytes) -> bytes:
    """Return security header, ciphertext and tag: with the tag of its kind before it, a ciphered message."""
    sealing = _gcm(keys, title, counter).encryptor()
    sealing.authenticate_additional_data(bytes((_SEALED,)) + keys.authentication)
    ciphertext = sealing.update(message) + sealing.finalize()
    return _header(_SEALED, counter) + ciphertext + sealing.tag[:_TAG_BYTES]


def unseal(keys: Keys, title: bytes, sealed: bytes) -> tuple[int, bytes]:
    """Return the sender's counter and its message. Raises CipherError."""
    reader = Reader(sealed)
    try:
        control, counter = reader.byte(), reader.number(4)
        ciphertext, tag = reader.take(reader.left - _TAG_BYTES), reader.rest()
    except UnfitAnswer:
        raise CipherError("a ciphered message that is too short") from None
    if control != _SEALED:
        raise CipherError(
            f"security control {control:#04x} where authenticated and encrypted is due"
        )
    opening = _gcm(keys, title, counter, tag).decryptor()
    opening.authenticate_additional_data(bytes((_SEALED,)) + keys.authentication)
    try:
        return counter, opening.update(ciphertext) + opening.finalize()
    except InvalidTag:
        raise CipherError(
            "a ciphered message that our keys do not open: are they the meter's?"
        ) from None


def read_sealed(apdu: bytes, tag: int) -> bytes:
    """Return what a ciphered message of this kind seals. Raises UnfitAnswer."""
    reader = Reader(apdu)
    found = reader.byte()
    if found != tag:
        raise UnfitAnswer(f"a message of type {found:#04x} where {tag:#04x} was due")
    sealed = reader.octets()
    reader.end()
    return sealed


def proof(keys: Keys, title: bytes, counter: int, challenge: bytes) -> bytes:
    """Return the answer to a challenge: security control, counter, and GMAC over them, key and challenge."""
    sealing = _gcm(keys, title, counter).encryptor()
    sealing.authenticate_additional_data(bytes((_AUTHENTICATED,)) + keys.authentication + challenge)
    sealing.finalize()
    return _header(_AUTHENTICATED, counter) + sealing.tag[:_TAG_BYTES]


def check_proof(keys: Keys, title: bytes, challenge: bytes, given: bytes) -> None:
    """Raise CipherError unless this is the other side's answer to our challenge."""
    if len(given) != 1 + 4 + _TAG_BYTES:
        raise CipherError("the meter's answer to our challenge has another length")
    counter = int.from_bytes(given[1:5], "big")
    if not hmac.compare_digest(given, proof(keys, title, counter, challenge)):
        raise CipherError("the meter's answer to our challenge is wrong: are our keys the meter's?")


def opaque(tag: int, sealed: bytes) -> bytes:
    """Return a ciphered message: the tag of its kind, and what is sealed with its length before it."""
    return bytes((tag,)) + octets_of(sealed)


def _header(control: int, counter: int) -> bytes:
    return bytes((control,)) + counter.to_bytes(4, "big")


def _gcm(keys: Keys, title: bytes, counter: int, tag: bytes | None = None) -> Cipher[GCM]:
    assert len(title) == TITLE_BYTES
    nonce = title + counter.to_bytes(4, "big")
    return Cipher(AES128(keys.encryption), GCM(nonce, tag, min_tag_length=_TAG_BYTES))
