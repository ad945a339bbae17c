"""Energy from registers that only count up: exact, additive, never a silent negative. Pure.

Registers are taken to whole watt-hours first and only then subtracted, so every sum of periods is the
difference of two registers, to the watt-hour. A day by UTC is *folded* by itself, from its own readings:
energy by quarter hour, its first and last register, and what was strange. What lies between two days with
readings is joined when it is asked for. So late data touches the one day it belongs to, and the order in
which readings came does not matter (decision 0039).

A register that stands lower than before is named: a rollover, a reset, or simply *went back*. What it hid
is not invented: such energy is a lower bound, and says so.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

from openami.profile import Obis

QUARTER_MS: Final = 900_000
"""The finest energy is told in: the profile's longest billing interval, and a part of every time zone's offset."""
DAY_MS: Final = 86_400_000
QUARTERS: Final = DAY_MS // QUARTER_MS

# Two billing readings that did not come, and some minutes: the same patience as for silence
# (headend/states.py). Energy between readings further apart is spread, and its share is an estimate.
GAP_MS: Final = 35 * 60_000
# More than any village transformer carries (the largest usual has 315 kVA): what would need more did not flow.
POWER_W_MAX: Final = 500_000
# A wild value is followed by sound ones at once; a register that was set anew stays where it is.
WILD_READINGS_MAX: Final = 3
# Registers roll over at a power of ten: four digits of kWh are the shortest sold, nine the profile's longest.
_ROLLOVER_WIDTHS_WH: Final = tuple(10**n * 1000 for n in range(4, 10))
# An unknown width is believed only of a register in the last hundredth before it.
_NEAR_WIDTH: Final = (99, 100)
# Below half of where it stood, a register has begun anew; above, it has been moved back.
_ANEW: Final = 2

# Value groups of an OBIS code: medium, time integral, the first C of abstract objects, the current value.
_ELECTRICITY, _TIME_INTEGRAL, _ABSTRACT, _CURRENT = 1, 8, 94, 255

_WH_PER: Final = {
    **dict.fromkeys(("kwh", "kvarh", "kvah"), 1000),
    **dict.fromkeys(("wh", "varh", "vah"), 1),
    **dict.fromkeys(("mwh", "mvarh", "mvah"), 1_000_000),
}


class Known(IntEnum):
    """How well the energy of a period is known; the worst last."""

    MEASURED = 0
    """The difference of registers read close to the period's ends."""
    SPREAD = 1
    """Measured in sum; this period's share is an estimate: a gap reaches over one of its ends."""
    AT_LEAST = 2
    """A lower bound: a reset, a register that went back or a silence hides a part."""
    NOTHING = 3
    """Nothing is known."""


class BreakKind(StrEnum):
    """What interrupts a register's counting."""

    ROLLOVER = "rollover"
    """It reached its last digit and began at zero; nothing is lost."""
    RESET = "reset"
    """It began anew at zero; what it counted between the last reading and the reset is not known."""
    WENT_BACK = "went_back"
    """It stands lower, and neither a rollover nor a reset explains it: somebody should look."""
    JUMP = "jump"
    """It rose by more than the line can carry; the rise is not counted."""
    WILD = "wild"
    """Single readings far from those before and after them; they are left out."""


class Sample(NamedTuple):
    """A register at a moment, in Wh. ``suspect``: its gateway does not vouch for it."""

    ms: int
    wh: int
    suspect: bool = False


class Break(NamedTuple):
    """A named interruption: between which registers, and what was counted for it."""

    ms: int
    """When it was seen: the later reading's measured time."""
    kind: BreakKind
    before_wh: int
    after_wh: int
    counted_wh: int


class Joined(NamedTuple):
    """What flowed between two readings, and what interrupted it."""

    wh: int
    kind: BreakKind | None


@dataclass(frozen=True, slots=True)
class Limits:
    """What is known of a register; the defaults hold for any."""

    power_w_max: int = POWER_W_MAX
    width_wh: int | None = None
    """Where it rolls over, if that is known; otherwise a power of ten, once it is seen to."""
    gap_ms: int = GAP_MS


ANY_REGISTER: Final = Limits()


class DayFold(NamedTuple):
    """One UTC day of one register; a feeder's two months are 30,000 of them, made anew for each answer."""

    day: int
    """Days since 1970."""
    readings: int
    """How many were measured; what a gateway only repeated of a silent meter is none."""
    suspect: int
    first: Sample | None
    last: Sample | None
    """The first and last sound register; None where there is none."""
    counted: "array[int]" = array("q")
    """Wh counted since the first register up to the beginning of each quarter hour, and up to the day's end: 97
    values, so that a period costs two look-ups; empty where nothing flowed."""
    marks: bytes = b""
    """How well each quarter is known, a byte of Known each; empty where all is measured."""
    breaks: tuple[Break, ...] = ()

    @property
    def total_wh(self) -> int:
        """What was counted between the first and the last register."""
        return self.counted[-1] if self.counted else 0

    @property
    def quarters(self) -> tuple[int, ...]:
        """Wh by quarter hour."""
        if not self.counted:
            return (0,) * QUARTERS
        return tuple(after - before for before, after in pairwise(self.counted))


def counts_energy(obis: Obis) -> bool:
    """Return whether a register counts energy: the time integral (D = 8) of an electrical quantity (A = 1)."""
    a, _, c, d, _, f = obis.groups
    return d == _TIME_INTEGRAL and c < _ABSTRACT and a in (None, _ELECTRICITY) and f == _CURRENT


def to_wh(value: object, unit: str) -> int | None:
    """Return a register in whole Wh (or varh, VAh), the nearest; None if it is no number of such a unit."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    scale = _WH_PER.get(unit.lower())
    return None if scale is None else round(value * scale)


def join(earlier: Sample, later: Sample, limits: Limits = ANY_REGISTER) -> Joined:
    """Return the energy between two readings; never negative."""
    most = _most_wh(later.ms - earlier.ms, limits)
    rise = later.wh - earlier.wh
    if rise >= 0:
        return Joined(rise, None) if rise <= most else Joined(0, BreakKind.JUMP)
    for width in _widths(earlier.wh, limits):
        rolled = width + rise
        if earlier.wh < width and 0 <= rolled <= most:
            return Joined(rolled, BreakKind.ROLLOVER)
    if 0 <= later.wh <= most and later.wh * _ANEW < earlier.wh:
        return Joined(later.wh, BreakKind.RESET)
    return Joined(0, BreakKind.WENT_BACK)


def is_plain(earlier: Sample, later: Sample, limits: Limits = ANY_REGISTER) -> bool:
    """Return whether nothing is to be said of what lies between two readings: a rise that could be, and no gap."""
    ms = later.ms - earlier.ms
    return ms <= limits.gap_ms and 0 <= later.wh - earlier.wh <= _most_wh(ms, limits)


def _widths(wh: int, limits: Limits) -> Sequence[int]:
    if limits.width_wh is not None:
        return (limits.width_wh,)
    near, of = _NEAR_WIDTH
    return tuple(width for width in _ROLLOVER_WIDTHS_WH if width * near <= wh * of < width * of)


def _most_wh(ms: int, limits: Limits) -> int:
    """Return the most that can flow in a time; a register's last digit may stand for a whole kWh."""
    return limits.power_w_max * ms // 3_600_000 + 1000


# --- a day ---------------------------------------------------------------------------------------


def fold_day(day: int, samples: Sequence[Sample], limits: Limits = ANY_REGISTER) -> DayFold:
    """Fold one day's readings, in any order; those of other days must not be among them."""
    ordered = sorted(samples)
    knots, breaks = sound(ordered, limits)
    suspect = sum(sample.suspect for sample in ordered)
    if not knots:
        return DayFold(day, len(ordered), suspect, None, None, breaks=tuple(breaks))
    quarters = array("q", bytes(8 * QUARTERS))
    marks = bytearray(QUARTERS)
    origin = day * DAY_MS
    for earlier, later in pairwise(knots):
        joined = join(earlier, later, limits)
        if joined.kind is not None:
            breaks.append(Break(later.ms, joined.kind, earlier.wh, later.wh, joined.wh))
        known = known_of(later.ms - earlier.ms, joined.kind, limits)
        spread(earlier.ms - origin, later.ms - origin, joined.wh, known, quarters, marks)
    return DayFold(
        day,
        len(ordered),
        suspect,
        knots[0],
        knots[-1],
        array("q", accumulate(quarters, initial=0)) if any(quarters) else array("q"),
        bytes(marks) if any(marks) else b"",
        tuple(sorted(breaks)),
    )


def known_of(ms: int, kind: BreakKind | None, limits: Limits = ANY_REGISTER) -> Known:
    """Return how well the energy between two readings is known, where a boundary lies between them."""
    if kind is not None and kind is not BreakKind.ROLLOVER:
        return Known.AT_LEAST
    return Known.SPREAD if ms > limits.gap_ms else Known.MEASURED


def spread(
    begin_ms: int, end_ms: int, wh: int, known: Known, quarters: "array[int]", marks: bytearray
) -> None:
    """Add energy to the quarters it flowed in, evenly; it adds up to the watt-hour.

    Times are distances from the first quarter's beginning; what lies outside the quarters is left out.
    """
    first, last = begin_ms // QUARTER_MS, (end_ms - 1) // QUARTER_MS
    if first == last:
        if 0 <= first < len(quarters):
            quarters[first] += wh
            if known > marks[first]:
                marks[first] = known
        return
    length = end_ms - begin_ms
    for quarter in range(max(first, 0), min(last + 1, len(quarters))):
        lower = max(quarter * QUARTER_MS, begin_ms) - begin_ms
        upper = min((quarter + 1) * QUARTER_MS, end_ms) - begin_ms
        quarters[quarter] += wh * upper // length - wh * lower // length
        if known > marks[quarter]:
            marks[quarter] = known


# --- which readings are sound ---------------------------------------------------------------------


def sound(
    ordered: Sequence[Sample], limits: Limits = ANY_REGISTER
) -> tuple[list[Sample], list[Break]]:
    """Return the readings that tell of energy, ascending, and the wild ones that were left out.

    A suspect reading is used where it fits between the sound ones around it: it then only says when energy
    flowed, never how much.
    """
    good = [sample for sample in ordered if not sample.suspect]
    knots, breaks = _without_wild(good, limits)
    if len(good) < len(ordered):
        knots = list(_with_fitting(knots, [sample for sample in ordered if sample.suspect]))
    return knots, breaks


def _without_wild(good: Sequence[Sample], limits: Limits) -> tuple[list[Sample], list[Break]]:
    knots: list[Sample] = []
    breaks: list[Break] = []
    at = 0
    while at < len(good):
        sample = good[at]
        if knots and (skipped := _wild(knots[-1], good, at, limits)):
            breaks += (
                Break(wild.ms, BreakKind.WILD, knots[-1].wh, wild.wh, 0)
                for wild in good[at : at + skipped]
            )
            at += skipped
            continue
        knots.append(sample)
        at += 1
    return knots, breaks


def _wild(before: Sample, good: Sequence[Sample], at: int, limits: Limits) -> int:
    """Return how many readings from here on are wild: a few, after which counting goes on as before."""
    here = join(before, good[at], limits)
    if here.kind in (None, BreakKind.ROLLOVER):
        return 0
    for skipped in range(1, WILD_READINGS_MAX + 1):
        if at + skipped >= len(good):
            # A rise nobody confirms is not believed; a fall at the day's end is: what follows tells.
            return skipped if here.kind is BreakKind.JUMP else 0
        after = good[at + skipped]
        if join(before, after, limits).kind is None:
            return skipped
    return 0


def _with_fitting(knots: Sequence[Sample], suspects: Sequence[Sample]) -> Iterator[Sample]:
    """Yield the knots and, between them, the suspect readings that fit there."""
    waiting = list(reversed(suspects))
    for earlier, later in pairwise(knots):
        yield earlier
        least = earlier.wh
        while waiting and waiting[-1].ms < later.ms:
            each = waiting.pop()
            if each.ms > earlier.ms and least <= each.wh <= later.wh:
                least = each.wh
                yield each
    yield from knots[-1:]
