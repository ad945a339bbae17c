"""Security suite 0 from a meter's side (IEC 62056-5-3, clause 5): AES-128-GCM, a 12-byte tag. Pure.

A nonce is used once: system title and invocation counter. A simulated meter lives no longer than its keys, so
its counter needs no disk.
"""

from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import GCM

from openami.simulator.dlms.data import Malformed, Octets

_TAG_BYTES: Final = 12  # suite 0 cuts the 16 bytes of a GCM tag
_SEALED: Final = b"\x30"  # security control: authenticated and encrypted
_PROVEN: Final = b"\x10"  # authenticated only


@dataclass(frozen=True, slots=True)
class Keys:
    """The two keys a meter shares with one client."""

    encryption: bytes = field(repr=False)
    authentication: bytes = field(repr=False)

    def seal(self, title: bytes, counter: int, message: bytes) -> bytes:
        """Return security header, ciphertext and tag."""
        number = counter.to_bytes(4, "big")
        sealing = Cipher(AES128(self.encryption), GCM(title + number)).encryptor()
        sealing.authenticate_additional_data(_SEALED + self.authentication)
        ciphertext = sealing.update(message) + sealing.finalize()
        return _SEALED + number + ciphertext + sealing.tag[:_TAG_BYTES]

    def open(self, title: bytes, envelope: bytes) -> tuple[int, bytes]:
        """Return the sender's counter and its message. Raises Malformed."""
        octets = Octets(envelope)
        control, number = octets.take(1), octets.take(4)
        if control != _SEALED or len(octets) < _TAG_BYTES:
            raise Malformed("not sealed as suite 0 seals")
        ciphertext, tag = octets.take(len(octets) - _TAG_BYTES), octets.rest()
        mode = GCM(title + number, tag, min_tag_length=_TAG_BYTES)
        opening = Cipher(AES128(self.encryption), mode).decryptor()
        opening.authenticate_additional_data(_SEALED + self.authentication)
        try:
            message = opening.update(ciphertext) + opening.finalize()
        except InvalidTag:
            raise Malformed("not sealed with these keys") from None
        return int.from_bytes(number, "big"), message

    def prove(self, title: bytes, counter: int, challenge: bytes) -> bytes:
        """Return the answer to a challenge: security header and GMAC."""
        number = counter.to_bytes(4, "big")
        sealing = Cipher(AES128(self.encryption), GCM(title + number)).encryptor()
        sealing.authenticate_additional_data(_PROVEN + self.authentication + challenge)
        sealing.finalize()
        return _PROVEN + number + sealing.tag[:_TAG_BYTES]
