"""The chart of a feeder's day: supplied and sold as lines, and how many meters were not known. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from openami.headend.web.console.charts import Frame, TimeTick, line, room_for, steps
from openami.headend.web.console.feeder_view import BalanceDay

# A chart of one quarter hour is a dot; the morning's is drawn as wide as four hours.
_SHORTEST: Final = timedelta(hours=4)


@dataclass(frozen=True, slots=True)
class EnergyChart:
    """What is drawn."""

    frame: Frame
    times: Sequence[TimeTick]
    supplied: str
    sold: str
    missing: str
    """Empty when no meter was missing."""
    missing_top: float


def energy_chart(day: BalanceDay) -> EnergyChart | None:
    """Return a day's chart; None before its first quarter hour has closed."""
    if not day.sold:
        return None
    since, until = day.at[0], max(day.at[-1], day.at[0] + _SHORTEST)
    frame = Frame(since, until, room_for([*day.supplied, *day.sold]))
    # A quarter's energy is drawn at its middle.
    middles = [begin + (end - begin) / 2 for begin, end in zip(day.at, day.at[1:], strict=False)]
    # Missing meters stay low in the chart: they are beside the matter as long as they are few.
    missing_top = room_for([2 * max(day.missing), 10])
    return EnergyChart(
        frame,
        frame.times(since),
        line(frame, middles, day.supplied),
        line(frame, middles, day.sold),
        steps(frame, day.at, day.missing, missing_top) if any(day.missing) else "",
        missing_top,
    )
