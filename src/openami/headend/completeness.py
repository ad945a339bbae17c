"""The account of one meter and one UTC day: what was expected, what came, and why the rest is missing. Pure.

A reading is expected every interval, in step with those that came (decision 0030). Intervals are counted, not
messages: a reading told twice, or an extra one at a restart, fills its interval once.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from itertools import groupby, pairwise
from statistics import median_low
from typing import Annotated, Final

import msgspec

from openami.headend.gap_life import GRACE_S, Gap, GapReason, GapState, Span
from openami.headend.states import METER_SILENT_AFTER_MINUTES
from openami.headend.store.arrivals import Arrival as Arrival
from openami.headend.store.identity import from_ms, to_ms
from openami.profile import Quality

# Until then its gateway is not called silent; what comes later was backlog, or sent again.
LATE_AFTER_MINUTES: Final = METER_SILENT_AFTER_MINUTES
# Fewer than three spacings are a start and a restart, not a habit.
SPACINGS_MIN: Final = 3
# A poll cycle and its way here take a minute; until then an interval is not missing, just not over.
SETTLED_AFTER_S: Final = 120

_DAY: Final = timedelta(days=1)


class CompletenessSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What should come, and when it is asked for; the table ``[completeness]``."""

    grace_s: Annotated[float, msgspec.Meta(gt=0)] = GRACE_S
    """A gap is asked for when its gateway is heard and has filled none for so long."""
    intervals_s: dict[str, Annotated[int, msgspec.Meta(ge=1, le=86_400)]] = {}
    """How often the meters of a feeder report, in seconds, by feeder; learnt from each meter where left out."""


class MissingReason(StrEnum):
    """Why an interval is missing, where no gap by number explains it; otherwise it is the gap's own reason."""

    REJECTED = "rejected"
    """The reading came and was rejected; the message is kept and may be replayed."""
    METER_SILENT = "meter_silent"
    """Its gateway told that it did not answer."""
    THINNED = "thinned"
    """Its gateway told that its outbox was full and such readings went."""
    WITHHELD = "withheld"
    """It waits on its gateway's disk, by the gateway's monthly cap (decision 0076)."""
    GATEWAY_SILENT = "gateway_silent"
    """Nothing of its gateway, of any meter, was measured then."""
    UNKNOWN = "unknown"
    """Nobody has told why."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Intervals one after the other that are missing for the same reason."""

    begin: datetime
    end: datetime
    """The first and the last moment at which a reading was expected."""
    intervals: int
    reason: MissingReason | GapReason


@dataclass(frozen=True, slots=True, kw_only=True)
class DayAccount:
    """One meter's day. ``expected`` is None where the interval is not known: that is not completeness."""

    feeder_id: str
    gateway_id: str
    meter_serial: str
    day: date
    interval_s: int | None
    expected: int | None
    received: int
    late: int = 0
    """Of the received, those that came more than LATE_AFTER_MINUTES after they were measured."""
    suspect: int = 0
    """Of the received, those that nobody vouches for."""
    gaps: tuple[Missing, ...] = ()

    @property
    def missing(self) -> int | None:
        """How many intervals are missing."""
        return None if self.expected is None else sum(gap.intervals for gap in self.gaps)


@dataclass(frozen=True, slots=True)
class Told:
    """What is known around a meter's day that may explain what is missing."""

    silent: Sequence[Span] = ()
    """When its gateway said that it does not answer."""
    thinned: Sequence[Span] = ()
    withheld: Sequence[Span] = ()
    """When readings of its gateway waited by the gateway's cap."""
    rejected: Sequence[datetime] = ()
    """Measured times of kept messages about it that were rejected."""
    gaps: Sequence[Gap] = ()
    """Its gateway's gaps."""
    gateway_ms: Sequence[int] = field(default=())
    """When anything of its gateway was measured, ascending, in milliseconds since 1970."""


def usual_interval(times_ms: Sequence[int]) -> int | None:
    """Return the spacing of ascending times in seconds: the commonest, or the median where none prevails.

    None where there are too few to tell.
    """
    spacings = [round((b - a) / 1000) for a, b in pairwise(times_ms)]
    spacings = [each for each in spacings if each > 0]
    if len(spacings) < SPACINGS_MIN:
        return None
    [(commonest, times_seen)] = Counter(spacings).most_common(1)
    return commonest if 2 * times_seen >= len(spacings) else median_low(spacings)


def account(
    meter: tuple[str, str, str],
    day: date,
    arrivals: Sequence[Arrival],
    *,
    interval_s: int | None,
    known_since: datetime,
    told: Told,
    now: datetime,
) -> DayAccount:
    """Return the account of a meter (feeder, gateway, serial) and a day, from what was measured on it.

    ``arrivals`` ascend and are of this day. The day begins when the meter was first known and ends now.
    """
    feeder_id, gateway_id, meter_serial = meter
    midnight = datetime.combine(day, time(), UTC)
    first_ms, end_ms = to_ms(midnight), to_ms(midnight + _DAY)
    known_ms = to_ms(known_since)
    begin_ms = max(first_ms, min(known_ms, arrivals[0].ms) if arrivals else known_ms)
    over_ms = min(end_ms, to_ms(now - timedelta(seconds=SETTLED_AFTER_S)))
    times = [each.ms for each in arrivals]
    grid = None if interval_s is None else _Grid(interval_s * 1000, times, begin_ms, end_ms)
    filled = _by_interval(arrivals, None if grid is None else grid.numbers(times))
    slots = [] if grid is None else [n for n in grid.until(over_ms) if n not in filled]
    firsts = filled.values()
    return DayAccount(
        feeder_id=feeder_id,
        gateway_id=gateway_id,
        meter_serial=meter_serial,
        day=day,
        interval_s=interval_s,
        expected=None if grid is None else len(filled) + len(slots),
        received=len(filled),
        late=sum(each.lag_minutes > LATE_AFTER_MINUTES for each in firsts),
        suspect=sum(each.quality is not Quality.GOOD for each in firsts),
        gaps=() if grid is None else tuple(_missing(grid, slots, told)),
    )


class _Grid:
    """The moments at which a reading is expected: every interval, in step with what came. All in milliseconds."""

    def __init__(self, interval: int, times: Sequence[int], begin: int, end: int) -> None:
        self._interval = interval
        self._origin = end - _DAY // timedelta(milliseconds=1)
        if times:
            middle = times[len(times) // 2]
            half = interval // 2
            steps = [(each - middle + half) % interval - half for each in times]
            self._origin = middle + median_low(steps)
        self._first = -((self._origin - begin) // interval)
        self._last = -((self._origin - end) // interval) - 1

    def numbers(self, times: Sequence[int]) -> list[int]:
        """Return of ascending moments the intervals of this day that they are nearest to."""
        origin, interval = self._origin, self._interval
        nearest = [round((ms - origin) / interval) for ms in times]
        if nearest and (nearest[0] < self._first or nearest[-1] > self._last):
            return [max(self._first, min(each, self._last)) for each in nearest]
        return nearest

    def at(self, number: int) -> int:
        """Return when a reading is expected."""
        return self._origin + number * self._interval

    def around(self, number: int) -> tuple[int, int]:
        """Return the moments whose readings fill an interval."""
        at, half = self.at(number), self._interval // 2
        return at - half, at + half

    def until(self, ms: int) -> range:
        """Return the intervals whose reading is expected before a moment."""
        return range(self._first, min(self._last + 1, -((self._origin - ms) // self._interval)))


def _by_interval(arrivals: Sequence[Arrival], numbers: Sequence[int] | None) -> dict[int, Arrival]:
    """Return the first arrival of each interval; without numbers, each is its own."""
    if numbers is None:
        return dict(enumerate(arrivals))
    # The last one written stays: so from the last to the first.
    backwards = zip(reversed(numbers), reversed(arrivals), strict=True)
    return dict(backwards)


def _missing(grid: _Grid, slots: Sequence[int], told: Told) -> Iterator[Missing]:
    """Fold missing intervals, ascending, that follow one another and have one reason."""
    reasons = [(number, _reason(grid.around(number), told)) for number in slots]
    folded = groupby(enumerate(reasons), key=lambda each: (each[1][0] - each[0], each[1][1]))
    for (_, reason), group in folded:
        numbers = [number for _, (number, _) in group]
        begin, end = from_ms(grid.at(numbers[0])), from_ms(grid.at(numbers[-1]))
        yield Missing(begin, end, len(numbers), reason)


def _reason(around: tuple[int, int], told: Told) -> MissingReason | GapReason:
    """Return why an interval is missing: the nearest explanation first."""
    if told.rejected or told.silent or told.gaps or told.thinned or told.withheld:
        found = _told_reason(from_ms(around[0]), from_ms(around[1]), told)
        if found is not None:
            return found
    at = bisect_left(told.gateway_ms, around[0])
    if at == len(told.gateway_ms) or told.gateway_ms[at] >= around[1]:
        return MissingReason.GATEWAY_SILENT
    return MissingReason.UNKNOWN


def _told_reason(begin: datetime, end: datetime, told: Told) -> MissingReason | GapReason | None:
    if any(begin <= ts < end for ts in told.rejected):
        return MissingReason.REJECTED
    if any(span.touches(begin, end) for span in told.silent):
        return MissingReason.METER_SILENT
    for gap in told.gaps:
        if gap.state is not GapState.CLOSED and _lies_in(gap, begin, end):
            return GapReason.IN_RESEND if gap.reason is GapReason.ASKED else gap.reason
    if any(span.touches(begin, end) for span in told.thinned):
        return MissingReason.THINNED
    if any(span.touches(begin, end) for span in told.withheld):
        return MissingReason.WITHHELD
    return None


def _lies_in(gap: Gap, begin: datetime, end: datetime) -> bool:
    if gap.measured_from is None or gap.measured_to is None:
        return False
    return Span(gap.measured_from, gap.measured_to).touches(begin, end)
