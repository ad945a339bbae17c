"""Load shapes: what a class of customer draws, minute by minute (``loads/README.md`` says whence)."""

import csv
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from io import StringIO

MINUTES_PER_DAY = 1440
_DAYS_PER_WEEK = 7
_SUNDAY_OFFSET = 4  # day 0, 1 January 1970, was a Thursday: day 3 was the first Sunday


class LoadClass(StrEnum):
    """Who lives or works there; the value names the file in ``loads``."""

    LIGHTING = "lighting"
    TELEVISION = "television"
    FRIDGE = "fridge"
    SHOP = "shop"
    MILL = "mill"
    CLINIC = "clinic"


@dataclass(frozen=True, slots=True)
class LoadShape:
    """One customer's days: mean power in W for each minute of the day, local time."""

    weekdays: tuple[tuple[int, ...], ...]
    sundays: tuple[tuple[int, ...], ...]

    def power_w(self, local_minute: int) -> int:
        """Return the mean power in the minute counted from 1970-01-01 00:00 local time.

        Weekdays follow one another and begin again; the village works six days a week.
        """
        day, minute = divmod(local_minute, MINUTES_PER_DAY)
        sunday = (day + _SUNDAY_OFFSET) % _DAYS_PER_WEEK == 0
        days = self.sundays if sunday else self.weekdays
        return days[day % len(days)][minute]


@cache
def load_shapes(load_class: LoadClass) -> tuple[LoadShape, ...]:
    """Return the variants of a class that ship with the product."""
    content = files(__package__).joinpath("loads", f"{load_class}.csv").read_text()
    return parse_shapes(content)


def parse_shapes(content: str) -> tuple[LoadShape, ...]:
    """Read a load file: column ``2wd3`` is variant 2, third weekday, ``2we1`` its first Sunday.

    Raises ValueError when a day has not 1440 minutes or a variant lacks a kind of day.
    """
    heading, *rows = csv.reader(StringIO(content))
    if [int(row[0]) for row in rows] != list(range(MINUTES_PER_DAY)):
        raise ValueError(f"a load file has one row for each of the day's {MINUTES_PER_DAY} minutes")
    columns = {
        name: tuple(int(row[index]) for row in rows)
        for index, name in enumerate(heading)
        if name != "minute"
    }
    variants = sorted({name[0] for name in columns})
    shapes = tuple(
        LoadShape(
            weekdays=tuple(day for name, day in columns.items() if name.startswith(f"{v}wd")),
            sundays=tuple(day for name, day in columns.items() if name.startswith(f"{v}we")),
        )
        for v in variants
    )
    if not shapes or not all(shape.weekdays and shape.sundays for shape in shapes):
        raise ValueError("a load file has weekdays and Sundays for each variant")
    return shapes
