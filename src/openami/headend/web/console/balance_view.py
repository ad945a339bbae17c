"""A balance as a person reads it: a strip of hours by days, and days as a table. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from itertools import groupby
from typing import Final

from openami.headend.balance import Balance, HourBalance

# Shares of an hour's supply that is missing, from which on a cell is one shade darker.
SHADES: Final = (0.05, 0.10, 0.20, 0.40)
HOURS: Final = 24
CELL_WIDTH, CELL_HEIGHT = 40, 14
LEFT, TOP = 72, 18


@dataclass(frozen=True, slots=True)
class Cell:
    """One hour of the strip."""

    x: int
    y: int
    begin: datetime
    shade: int | None
    """How dark it is, 0 to len(SHADES); None where the head meter is not known."""
    unknown: int
    """How many customers' meters are not known: what is missing may be theirs."""
    missing_wh: int
    supplied_wh: int | None


@dataclass(frozen=True, slots=True)
class Strip:
    """Hours by days, by the feeder's own clock; when that is set back, two hours are in one place."""

    days: Sequence[tuple[date, int]]
    """Each day and where its row lies."""
    cells: Sequence[Cell]
    width: int
    height: int


def strip_of(balance: Balance, zone: tzinfo) -> Strip:
    """Return the strip of a balance, from the day on of which something is known."""
    rows: dict[date, int] = {}
    cells: list[Cell] = []
    for hour in balance.hours:
        if not cells and hour.supplied_wh is None:
            continue
        local = hour.begin.astimezone(zone)
        y = rows.setdefault(local.date(), TOP + len(rows) * CELL_HEIGHT)
        missing = (hour.supplied_wh or 0) - hour.sold_wh
        cells.append(
            Cell(
                x=LEFT + local.hour * CELL_WIDTH,
                y=y,
                begin=hour.begin,
                shade=shade_of(hour),
                unknown=hour.unknown,
                missing_wh=missing,
                supplied_wh=hour.supplied_wh,
            )
        )
    height = TOP + len(rows) * CELL_HEIGHT
    return Strip(list(rows.items()), cells, LEFT + HOURS * CELL_WIDTH, height)


def shade_of(hour: HourBalance) -> int | None:
    """Return how dark an hour is: how much of its supply was not sold to a meter that is known."""
    if hour.supplied_wh is None:
        return None
    if hour.supplied_wh <= 0:
        return 0
    missing = (hour.supplied_wh - hour.sold_wh) / hour.supplied_wh
    return sum(missing >= each for each in SHADES)


@dataclass(frozen=True, slots=True)
class DayBalance:
    """One day of the table: sums over the hours in which the head meter is known."""

    day: date
    supplied_wh: int
    sold_wh: int
    """Of the meters that are known: a lower bound where some are not."""
    hours: int
    unknown_hours: int
    """Hours of single meters that are not known."""


def days_of(balance: Balance, zone: tzinfo) -> list[DayBalance]:
    """Return the days of a balance, the last first."""
    days = []
    for day, group in groupby(balance.hours, lambda hour: hour.begin.astimezone(zone).date()):
        known = [(hour.supplied_wh, hour) for hour in group if hour.supplied_wh is not None]
        days.append(
            DayBalance(
                day,
                sum(supplied for supplied, _ in known),
                sum(hour.sold_wh for _, hour in known),
                len(known),
                sum(hour.unknown for _, hour in known),
            )
        )
    return days[::-1]
