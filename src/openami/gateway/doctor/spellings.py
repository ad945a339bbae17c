"""Bytes in every type and order side by side, and which of them a meter can have meant. Pure.

Four orders exist in the field. With the bytes of a value from the highest, A, to the lowest: ABCD is as Modbus
says, CDAB has the low word first, BADC and DCBA have the two bytes of each word exchanged. A register map knows the
first two; the others are shown because meters with them exist, and then nothing else explains the value.
"""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Final

# Scales a manual may give; a value is tried with each where the register's own is not known.
SCALES: Final = tuple(map(Decimal, ("1", "0.1", "0.01", "0.001", "10")))
NEAR: Final = Fraction(1, 50)
"""How far a value may be from what the display shows: loads change while one reads and looks."""
TYPICAL: Final[Mapping[str, tuple[float, float]]] = {
    **dict.fromkeys(("32.7.0", "52.7.0", "72.7.0"), (80.0, 300.0)),
    "14.7.0": (45.0, 65.0),
}
"""What a live line has, where the register list allows more; without a map nothing narrower is known."""
RAW_BYTES: Final = (2, 4, 8)
# What no meter measures and still is no zero: a float of other bytes' making.
_TINY = Fraction(1, 1_000_000)


class Order(StrEnum):
    """Which byte stands where, A the highest."""

    ABCD = "ABCD"
    CDAB = "CDAB"
    BADC = "BADC"
    DCBA = "DCBA"

    @property
    def word_order(self) -> str | None:
        """How a register map calls it; None where it cannot say it."""
        return {"ABCD": "big", "CDAB": "little"}.get(self.value)


@dataclass(frozen=True, slots=True)
class Expected:
    """What the value ought to be."""

    what: str
    """The register, for the reason: ``32.7.0``."""
    unit: str = ""
    low: Fraction | None = None
    high: Fraction | None = None
    scales: tuple[Decimal, ...] = SCALES
    """The register's own alone, where a map says it."""
    shown: Fraction | None = None
    """What the meter's display shows."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """One way to read the bytes."""

    type: str
    """As a register map calls it; ``float64``, which no map knows, too."""
    order: Order
    number: Fraction | None
    """None for a float that is no number."""

    @property
    def text(self) -> str:
        """Print the number: an integer whole, a float with the digits it is good for."""
        if self.number is None:
            return "no number"
        if not self.type.startswith("float"):
            return str(int(self.number))
        return (
            f"{float(self.number):.7g}" if self.type == "float32" else f"{float(self.number):.12g}"
        )


@dataclass(frozen=True, slots=True)
class Plausible:
    """A spelling that makes sense, and why."""

    spelling: Spelling
    scale: Decimal
    value: Fraction
    reason: str


def spellings(raw: bytes) -> tuple[Spelling, ...]:
    """Return every way to read one, two or four registers."""
    assert len(raw) in RAW_BYTES
    bits = 8 * len(raw)
    found = []
    for order in Order if len(raw) > 2 else (Order.ABCD, Order.BADC):
        octets = _ordered(raw, order)
        number = int.from_bytes(octets, "big")
        signed = int.from_bytes(octets, "big", signed=True)
        found.append(Spelling(f"u{bits}", order, Fraction(number)))
        found.append(Spelling(f"i{bits}", order, Fraction(signed)))
        if bits > 16:
            value: float = struct.unpack(">f" if bits == 32 else ">d", octets)[0]
            exact = Fraction(value) if math.isfinite(value) else None
            found.append(Spelling(f"float{bits}", order, exact))
    return tuple(found)


def _ordered(raw: bytes, order: Order) -> bytes:
    """Return the bytes highest first, as they would be if this were their order."""
    words = [raw[at : at + 2] for at in range(0, len(raw), 2)]
    if order in (Order.CDAB, Order.DCBA):
        words.reverse()
    if order in (Order.BADC, Order.DCBA):
        words = [word[::-1] for word in words]
    return b"".join(words)


def plausible(read: Sequence[Spelling], expected: Expected) -> tuple[Plausible, ...]:
    """Return what makes sense, the likeliest first: as Modbus says, then floats, then the plainest scale.

    0 makes sense in every spelling and tells nothing, so it is never among them.
    """
    unsigned = {(one.order, one.number) for one in read if one.type.startswith("u")}
    found = [
        good
        for spelling in read
        # Of two that say the same, the unsigned one: what is never negative needs no sign.
        if not (spelling.type.startswith("i") and (spelling.order, spelling.number) in unsigned)
        for good in _good(spelling, expected)
    ]
    return tuple(sorted(found, key=_rank))


def _rank(good: Plausible) -> tuple[int, bool, int]:
    by_order = list(Order).index(good.spelling.order)
    return by_order, not good.spelling.type.startswith("float"), abs(good.scale.adjusted())


def _good(spelling: Spelling, expected: Expected) -> Iterator[Plausible]:
    number = spelling.number
    if number is None or abs(number) < _TINY:
        return
    # A float carries its own point; what it is multiplied by is a unit's prefix at most.
    tried = expected.scales
    if spelling.type.startswith("float") and expected.scales == SCALES:
        tried = (Decimal(1), Decimal("0.001"))
    for scale in tried:
        value = number * Fraction(scale)
        reason = _reason(value, expected)
        if reason:
            yield Plausible(spelling, scale, value, reason)
            return


def _reason(value: Fraction, expected: Expected) -> str:
    unit = f" {expected.unit}" if expected.unit else ""
    told = f"{float(value):.6g}{unit}"
    if expected.shown is not None:
        if abs(value - expected.shown) > abs(expected.shown) * NEAR:
            return ""
        return f"{told} is what the display shows"
    low, high = expected.low, expected.high
    if low is None or high is None or not low <= value <= high:
        return ""
    return f"{told} is within {float(low):g} to {float(high):g} of {expected.what}"
