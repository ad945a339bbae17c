"""The second factor: codes by time (RFC 6238), and what helps when the phone is gone. Pure.

Codes work offline and without HTTPS. A code works once: the half-minute it belongs to is kept, and none of
that or before is taken again.
"""

import hmac
from base64 import b32encode
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final

import pyotp

from openami.headend.accounts.credentials import RandomBytes

STEP_S: Final = 30  # RFC 6238's own, and the only one every authenticator knows
# A phone's clock and a village's may be half a minute apart, either way.
DRIFT_STEPS: Final = 1
# Written on paper once; two go with a lost phone and its replacement.
RECOVERY_CODES: Final = 8
_SECRET_BYTES: Final = 20  # 160 bits, as RFC 4226 asks for
_RECOVERY_BYTES: Final = 10  # 80 bits: as a digest beyond guessing, and still to be typed
_ISSUER: Final = "OpenAMI"
_CODE_DIGITS: Final = 6


def new_totp_secret(random: RandomBytes) -> str:
    """Return a new secret, in base32."""
    return b32encode(random(_SECRET_BYTES)).decode()


def totp_uri(secret: str, name: str, place: str) -> str:
    """Return what an authenticator reads from the square; ``place`` is the head-end's address."""
    return pyotp.TOTP(secret).provisioning_uri(name=f"{name} ({place})", issuer_name=_ISSUER)


def step_of(secret: str, code: str, *, after: int, now: datetime) -> int | None:
    """Return which half-minute a code belongs to; None for a wrong, a far or a used one."""
    code = "".join(code.split())
    if len(code) != _CODE_DIGITS or not (code.isascii() and code.isdigit()):
        return None
    totp = pyotp.TOTP(secret)
    current = int(now.timestamp()) // STEP_S
    fitting = [
        step
        for step in range(current - DRIFT_STEPS, current + DRIFT_STEPS + 1)
        if hmac.compare_digest(totp.generate_otp(step), code) and step > after
    ]
    return fitting[0] if fitting else None


def new_recovery_codes(random: RandomBytes) -> tuple[str, ...]:
    """Return fresh recovery codes, as a person writes them down."""
    return tuple(
        _grouped(b32encode(random(_RECOVERY_BYTES)).decode()) for _ in range(RECOVERY_CODES)
    )


def recovery_digest(code: str) -> str:
    """Return what is kept of a recovery code, however it was typed."""
    typed = "".join(c for c in code.upper() if c.isalnum())
    return sha256(f"recovery\0{typed}".encode()).hexdigest()


def recovery_digests(codes: Sequence[str]) -> tuple[str, ...]:
    """Return what is kept of recovery codes."""
    return tuple(recovery_digest(code) for code in codes)


def _grouped(text: str) -> str:
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4))
