"""A meter's day in a few numbers: how many readings, and a digest of the set they are (decision 0032).

Gateway and head-end each make one of what they have. Equal numbers mean equal sets, whatever the order in which
the readings came; unequal ones say that something is missing, and the counts say how much.

Counted are measured values: not ``comms_lost``, which repeats an older one, and not the registers of the meter
itself (OBIS group C from 96 on: its number, its relay), which events and reports tell beside telemetry.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final

import rfc8785

from openami.profile import Obis, Quality, Value
from openami.sip.canonical import decode_base64url, encode_base64url

DIGEST_BYTES: Final = 32  # SHA-256, and the modulus of the sum
_MODULUS: Final = 1 << 8 * DIGEST_BYTES
_ENERGY: Final = Obis.parse("1.8.0")
# IEC 62056-6-1: from here on, objects of the meter and not of what it measures.
_GENERAL_C: Final = 96
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
# Whole doubles below it print as integers in RFC 8785, as Python's integers do.
_PLAIN_MAX: Final = 2**53
# Meters, codes and units of a village, again and again; a flood of others pushes them over, it does not grow.
_CACHED_TEXTS_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the energy register stood, and when."""

    ts_ms: int
    value: int | float


@dataclass(slots=True)
class MeterDay:
    """What was counted of one meter on one day."""

    readings: int = 0
    digest: int = 0
    """Sum of the readings' SHA-256 modulo 2**256: no order, and what stands twice does not cancel out."""
    first: Standing | None = None
    last: Standing | None = None

    def add(self, meter: str, obis: Obis, ts_ms: int, value: Value, unit: str) -> None:
        """Count one reading."""
        self.readings += 1
        self.digest = (self.digest + element(meter, obis, ts_ms, value, unit)) % _MODULUS
        if obis != _ENERGY or isinstance(value, str | bool):
            return
        if self.first is None or ts_ms < self.first.ts_ms:
            self.first = Standing(ts_ms, value)
        if self.last is None or ts_ms >= self.last.ts_ms:
            self.last = Standing(ts_ms, value)

    @property
    def digest_text(self) -> str:
        """The digest as documents have it."""
        return encode_base64url(self.digest.to_bytes(DIGEST_BYTES, "big"))


def digest_from(text: str) -> int:
    """Return the digest a document tells. Raises SipError BAD_ENCODING."""
    return int.from_bytes(decode_base64url(text), "big")


def is_counted(obis: Obis, quality: Quality) -> bool:
    """Return whether a reading is of what was measured."""
    return quality is not Quality.COMMS_LOST and obis.groups[2] < _GENERAL_C


def element(meter: str, obis: Obis, ts_ms: int, value: Value, unit: str) -> int:
    """Return one reading's part of the digest: SHA-256 of ``["M-1","1.8.0",1782138600000,7,"kWh"]``.

    The text is canonical (RFC 8785), so 7 and 7.0 are the same value; the unit is part of it.
    """
    told = f"[{_text(meter)},{_text(str(obis))},{ts_ms},{_value(value)},{_text(unit)}]"
    return int.from_bytes(hashlib.sha256(told.encode()).digest(), "big")


@lru_cache(maxsize=_CACHED_TEXTS_MAX)
def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _value(value: Value) -> str:
    if isinstance(value, str):
        return _text(value)
    if not isinstance(value, bool) and value == int(value) and abs(value) < _PLAIN_MAX:
        return str(int(value))
    return rfc8785.dumps(value).decode()


def ms_of(moment: datetime) -> int:
    """Return the milliseconds since 1970, what is less than one dropped: the identity of a reading."""
    return (moment - _EPOCH) // _MS


def moment_of(ms: int) -> datetime:
    """Return the moment of so many milliseconds since 1970."""
    return _EPOCH + ms * _MS


def day_of(ts_ms: int) -> date:
    """Return the UTC day of a measured time."""
    return moment_of(ts_ms).date()


def begin_of(day: date) -> datetime:
    """Return a UTC day's first moment."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
