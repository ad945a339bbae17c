"""Until when a certificate is valid (pure).

Only that: verifying is TLS's. Twenty lines of DER spare the gateway a library of 15 MB that it needs for
nothing else (ITU-T X.690; RFC 5280, section 4.1).
"""

import ssl
from datetime import UTC, datetime
from typing import Final

_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17
_LONG_FORM: Final = 0x80
_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_END: Final = "-----END CERTIFICATE-----"


def valid_until(pem: str) -> datetime | None:
    """Return the end of validity of the first certificate in a PEM text; None if there is none."""
    begin = pem.find(_BEGIN)
    end = pem.find(_END, begin)
    if begin < 0 or end < 0:
        return None
    try:
        return _not_after(ssl.PEM_cert_to_DER_cert(pem[begin : end + len(_END)]))
    except (ValueError, IndexError):
        return None


def _not_after(der: bytes) -> datetime:
    certificate = _content(der, 0)
    body = _content(certificate, 0)
    at = _after(body, 0) if body[0] == _VERSION else 0
    for _ in range(3):  # serial number, signature algorithm, issuer
        at = _after(body, at)
    validity = _content(body, at)
    at = _after(validity, 0)
    digits = _content(validity, at).decode("ascii").removesuffix("Z")
    if validity[at] == _UTC_TIME:
        # Two digits of year: RFC 5280 has them mean 1950 to 2049.
        digits = ("19" if digits[:2] >= "50" else "20") + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC)


def _content(der: bytes, at: int) -> bytes:
    start, end = _bounds(der, at)
    return der[start:end]


def _after(der: bytes, at: int) -> int:
    return _bounds(der, at)[1]


def _bounds(der: bytes, at: int) -> tuple[int, int]:
    """Return where the content of the element at ``at`` begins and ends."""
    length, start = der[at + 1], at + 2
    if length >= _LONG_FORM:
        size = length - _LONG_FORM
        length, start = int.from_bytes(der[start : start + size]), start + size
    if start + length > len(der):
        raise ValueError("an element is longer than what holds it")
    return start, start + length
