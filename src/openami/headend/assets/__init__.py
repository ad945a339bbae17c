"""What stands in the village: feeder, poles, meters, customers, tariff. Pure.

The stream shows which serials speak; only a person knows where they hang. A `Meter` is a *placement*: this serial,
at this place, from then on. When a meter is swapped its placement ends with a closing register and the new one
begins with an opening register, so what the place has consumed can be added up across the swap (`meters_of`).

__init__.py     the things themselves
changes.py      what may be done to them: swap, protect, settings of a feeder
tables.py       the columns of a sheet, and what a cell may say
drafts.py       rows into drafts, with the faults of each row
importing.py    drafts beside what is known: what changes, or why not
spreadsheet.py  CSV and XLSX as rows
geojson.py      GeoJSON as rows, and back
files.py        a file of any kind into drafts
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

SINCE_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""When a placement began of which nobody wrote down when."""

# The energy register a swap closes and opens, in kWh: total import (register list).
SWAP_OBIS: Final = "1.8.0"

# A bill may be due on any day every month has.
BILLING_DAY_MAX: Final = 28


class MeterRole(StrEnum):
    """What a meter measures."""

    HEAD = "head"
    """What the feeder is supplied with; several add up."""
    POLE = "pole"
    """All that hangs on a pole: a sub-meter."""
    CUSTOMER = "customer"
    """What one customer is sold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feeder:
    """A feeder as its operator describes it; one that was only heard of is named by its id."""

    id: str
    name: str
    time_zone: str = "UTC"
    """By its IANA name: bills and days follow it."""
    billing_day: int = 1
    """The day of the month a bill begins on, 1 to BILLING_DAY_MAX, in the feeder's time zone."""
    tariff_id: str | None = None

    @property
    def zone(self) -> ZoneInfo:
        """The time zone."""
        return ZoneInfo(self.time_zone)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pole:
    """A pole on the line. ``number`` orders the poles along the line; ``parent`` is the one before it."""

    feeder_id: str
    id: str
    name: str
    number: int = 0
    parent: str | None = None
    longitude: float | None = None
    latitude: float | None = None
    """Degrees, WGS 84."""
    phases: str = ""
    """The phases that reach it: ``A``, ``B``, ``C`` or several of them; empty when nobody said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """A serial at a place, for a time."""

    feeder_id: str
    serial: str
    role: MeterRole = MeterRole.CUSTOMER
    pole_id: str | None = None
    phase: str = ""
    customer_id: str | None = None
    protected: bool = False
    """A critical customer's: nobody is cut off here unless an engineer says why."""
    valid_from: datetime = SINCE_EVER
    valid_to: datetime | None = None
    """None while it hangs there; not included."""
    opening_kwh: float | None = None
    """What its register said when it began to count here; None when nobody wrote it down."""
    closing_kwh: float | None = None
    """What its register said when it was taken down."""

    @property
    def place(self) -> "Place":
        """What it counts for."""
        match self.role:
            case MeterRole.HEAD:
                return Place(self.role)
            case MeterRole.POLE:
                return Place(self.role, self.pole_id or "")
            case MeterRole.CUSTOMER:
                return Place(self.role, self.customer_id or "")

    def counts_at(self, moment: datetime) -> bool:
        """Return whether it hangs there at a moment."""
        return self.valid_from <= moment and (self.valid_to is None or moment < self.valid_to)


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """Somebody who is supplied."""

    feeder_id: str
    id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """A price and from when it holds. One id has a row for every change of its price."""

    id: str
    price_per_kwh: Decimal
    currency: str
    """By ISO 4217: ``KES``."""
    valid_from: datetime = SINCE_EVER


@dataclass(frozen=True, slots=True)
class Place:
    """What a meter counts for: the head of the feeder, a pole by its id, or a customer by its id."""

    role: MeterRole
    id: str = ""


@dataclass(frozen=True, slots=True)
class Counted:
    """A serial that counted at a place during a part of the time that was asked for."""

    serial: str
    begin: datetime
    end: datetime
    """Not included."""
    opening_kwh: float | None
    """Its register at ``begin``, where it was put up within the time asked for; None otherwise, or unknown."""
    closing_kwh: float | None
    """Its register at ``end``, where it was taken down within the time asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeederAssets:
    """All that is known of one feeder's assets."""

    feeder: Feeder
    poles: tuple[Pole, ...] = ()
    """In their order along the line."""
    meters: tuple[Meter, ...] = ()
    """Every placement, past ones too, by serial and then by time."""
    customers: tuple[Customer, ...] = ()
    tariffs: tuple[Tariff, ...] = ()
    """The prices of the feeder's tariff, the oldest first."""

    def meters_at(self, moment: datetime) -> tuple[Meter, ...]:
        """Return the meters that hang there at a moment."""
        return tuple(meter for meter in self.meters if meter.counts_at(moment))

    def head_meters(self, moment: datetime) -> tuple[str, ...]:
        """Return the serials that together measure what the feeder is supplied with."""
        return tuple(m.serial for m in self.meters_at(moment) if m.role is MeterRole.HEAD)

    def meter(self, serial: str, moment: datetime) -> Meter | None:
        """Return where a serial hangs at a moment; None when nobody has said."""
        return next((m for m in self.meters_at(moment) if m.serial == serial), None)

    def pole(self, pole_id: str | None) -> Pole | None:
        """Return a pole by its id."""
        return next((pole for pole in self.poles if pole.id == pole_id), None)

    def customer(self, customer_id: str | None) -> Customer | None:
        """Return a customer by the id."""
        return next((each for each in self.customers if each.id == customer_id), None)

    def customer_of(self, serial: str, moment: datetime) -> Customer | None:
        """Return whom a meter supplies at a moment."""
        meter = self.meter(serial, moment)
        return None if meter is None else self.customer(meter.customer_id)

    def tariff_at(self, moment: datetime) -> Tariff | None:
        """Return the price in force at a moment; None before the first."""
        in_force = [each for each in self.tariffs if each.valid_from <= moment]
        return in_force[-1] if in_force else None

    def places(self) -> tuple[Place, ...]:
        """Return every place that has or had a meter, in the order of the meters."""
        return tuple(dict.fromkeys(meter.place for meter in self.meters))

    def meters_of(self, place: Place, begin: datetime, end: datetime) -> tuple[Counted, ...]:
        """Return which serials counted at a place between two moments; `meters_of` says how."""
        return meters_of(self.meters, place, begin, end)

    def successions(self, begin: datetime, end: datetime) -> tuple[tuple[Counted, ...], ...]:
        """Return who followed whom between two moments, over all places; `successions_of` says how."""
        found = (successions_of(self.meters_of(place, begin, end)) for place in self.places())
        return tuple(each for successions in found for each in successions)


def meters_of(
    meters: Sequence[Meter], place: Place, begin: datetime, end: datetime
) -> tuple[Counted, ...]:
    """Return which serials counted at a place from ``begin`` to ``end``, by time.

    Spans follow one another where a meter was swapped, and overlap where a place has several meters: either way
    what the place has consumed is the sum over all of them. A register is told only where its moment lies within
    the time asked for: elsewhere the meter's own readings tell.
    """
    found = [
        Counted(
            meter.serial,
            max(begin, meter.valid_from),
            end if meter.valid_to is None else min(end, meter.valid_to),
            meter.opening_kwh if begin <= meter.valid_from else None,
            meter.closing_kwh if meter.valid_to is not None and meter.valid_to <= end else None,
        )
        for meter in meters
        if meter.place == place
    ]
    counted = (each for each in found if each.begin < each.end)
    return tuple(sorted(counted, key=lambda each: (each.begin, each.serial)))


def successions_of(counted: Sequence[Counted]) -> tuple[tuple[Counted, ...], ...]:
    """Return the serials of one place as they followed one another; those that count side by side stay apart.

    A meter follows the one that was taken down last before it, or at that very moment.
    """
    found: list[list[Counted]] = []
    for each in counted:
        over = [those for those in found if those[-1].end <= each.begin]
        if over:
            max(over, key=lambda those: those[-1].end).append(each)
        else:
            found.append([each])
    return tuple(tuple(those) for those in found)
