"""Who may tick (pure, decision 0062).

The status page is open to the whole LAN and stays read-only. A tick needs a *sign-in*, which costs a PIN that was
printed on the gateway itself, works once and ends by itself. A PIN is six digits because it is typed with gloves
on; what makes it safe is that few can be tried.
"""

import hashlib
import hmac
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from unicodedata import decimal

PIN_DIGITS: Final = 6
# Five of a million: a guesser has one chance in 200,000, and whoever mistypes has four more.
PIN_TRIES_MAX: Final = 5
# Printed in the office the evening before; not a key under the mat for weeks.
PIN_LIFE: Final = timedelta(hours=36)
# A day's work; a phone that is lost after it opens nothing.
SIGN_IN_LIFE: Final = timedelta(hours=12)
# 256 bits: nobody guesses it, so its digest needs no slow hash.
SIGN_IN_SECRET_BYTES: Final = 32


class SignInRefusal(StrEnum):
    """Why a PIN opens nothing."""

    NONE_ISSUED = "none_issued"
    WRONG = "wrong"
    USED = "used"
    EXPIRED = "expired"
    SPENT = "spent"
    """Too many wrong ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """One PIN and what became of it. Neither the PIN nor the secret is in it."""

    salt: bytes
    pin_sha256: bytes
    issued_at: datetime
    tries: int = 0
    """Counted before they are judged, so that a hundred at once are a hundred."""
    secret_sha256: bytes | None = None
    """Of the sign-in that the PIN was exchanged for."""
    signed_in_at: datetime | None = None
    by: str = ""


def issue(pin: str, salt: bytes, now: datetime) -> Permit:
    """Return a permit for a PIN. Both are the caller's to draw from a good source."""
    assert len(pin) == PIN_DIGITS
    assert pin.isdecimal()
    return Permit(salt=salt, pin_sha256=_digest(salt, pin), issued_at=now)


def sign_in(
    permit: Permit | None, pin: str, *, secret: str, by: str, now: datetime
) -> tuple[Permit | None, SignInRefusal | None]:
    """Return the permit after a try, and why it opens nothing; no refusal: ``secret`` is signed in.

    Spaces in the PIN are forgiven, it is printed with one; and a phone's own digits are digits (٤ is 4).
    """
    if permit is None:
        return None, SignInRefusal.NONE_ISSUED
    if permit.signed_in_at is not None:
        return permit, SignInRefusal.USED
    if not timedelta(0) <= now - permit.issued_at < PIN_LIFE:
        return permit, SignInRefusal.EXPIRED
    if permit.tries >= PIN_TRIES_MAX:
        return permit, SignInRefusal.SPENT
    tried = replace(permit, tries=permit.tries + 1)
    if not hmac.compare_digest(_digest(permit.salt, _digits(pin)), permit.pin_sha256):
        spent = tried.tries >= PIN_TRIES_MAX
        return tried, SignInRefusal.SPENT if spent else SignInRefusal.WRONG
    signed_in = replace(tried, secret_sha256=_digest(permit.salt, secret), signed_in_at=now, by=by)
    return signed_in, None


def signed_in_as(permit: Permit | None, secret: str, now: datetime) -> str | None:
    """Return the name of who is signed in with this secret; None for a stranger, or when it is over."""
    if permit is None or permit.secret_sha256 is None or permit.signed_in_at is None:
        return None
    if not timedelta(0) <= now - permit.signed_in_at < SIGN_IN_LIFE:
        return None
    holds = hmac.compare_digest(_digest(permit.salt, secret), permit.secret_sha256)
    return permit.by if holds else None


def _digits(pin: str) -> str:
    return "".join(str(decimal(sign, sign)) for sign in pin if not sign.isspace())


def _digest(salt: bytes, text: str) -> bytes:
    return hashlib.sha256(salt + text.encode("utf-8", "replace")).digest()
