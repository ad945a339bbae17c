"""The EnergyStore port: energy by quarter hour, hour and day; registers at a moment; today, for a whole feeder.

Energy is whole Wh and adds up: the sum of a meter's periods is the difference of its registers. ``None`` is
energy of which nothing is known, never zero. Every answer is exact at once: what a late reading touches is
folded anew before it is told. Behind it lie days folded ahead (``fold_energy``), so that a year of a village
is read as a few thousand rows.

Steps are counted in the feeder's time zone: a day there may have 23 or 25 hours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Final, Protocol

from openami.headend.consumption import Break, Known
from openami.headend.periods import Step
from openami.headend.store import MeterRow, Reading
from openami.profile import Obis

ACTIVE_IMPORT: Final = Obis.parse("1.8.0")
# What the overview shows of each meter.
OVERVIEW_REGISTERS: Final = (
    ACTIVE_IMPORT,
    Obis.parse("96.8.0"),
    Obis.parse("96.11.1"),
    Obis.parse("1.7.0"),
)

# A year and a month by the day, three months by the hour, ten days by the quarter hour: a thousand columns are
# more than a chart has room for, and 500 meters × 1,000 periods are still one answer.
PERIODS_MAX: Final = 2_400
# 500 meters of 92 days are 46,000 folded days, a quarter of a second to read; a meter alone may be asked for more.
FEEDER_DAYS_MAX: Final = 95
METER_DAYS_MAX: Final = 400
# Folded in one transaction: some 20 ms during which no message is committed.
FOLDS_AT_ONCE_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class SeriesEnergy:
    """One meter's energy by period."""

    feeder_id: str
    meter_serial: str
    obis: Obis
    since: tuple[datetime, ...]
    """When each period begins, in UTC; the last entry is where the last one ends."""
    wh: tuple[int | None, ...]
    known: tuple[Known, ...]
    total_wh: int
    """What is known of all periods together: their sum."""
    readings: int
    """How many readings were measured on the UTC days the periods touch."""
    suspect: int
    first_at: datetime | None
    last_at: datetime | None
    """The first and the last sound reading within, or the nearest that reach into, the periods."""
    first_wh: int | None
    last_wh: int | None
    """The registers they told."""
    breaks: tuple[Break, ...]


@dataclass(frozen=True, slots=True)
class MeterToday:
    """A meter as the overview shows it."""

    meter: MeterRow
    latest: Mapping[Obis, Reading]
    """The latest values of the registers asked for."""
    wh: int | None
    """What it counted since the start asked for; None if that is not known."""
    known: Known
    """MEASURED, or AT_LEAST where a silence or a break hides a part."""
    start_wh: int | None
    """The register at the start."""


@dataclass(frozen=True, slots=True)
class ChartPoint:
    """What was measured of one register in one period of a chart."""

    begin: datetime
    last_at: datetime
    """When the last of them was measured."""
    count: int
    least: float
    mean: float
    greatest: float
    suspect: int
    """How many of them nobody vouches for."""
    lost: int
    """How many only repeat an old value, because the meter was silent."""
    late: int
    """How many came more than 35 minutes after they were measured."""


class EnergyStore(Protocol):
    """Energy as the console, the API and the balance ask for it. Every method raises StoreError."""

    async def energy(
        self,
        feeder_id: str,
        since: datetime,
        until: datetime,
        step: Step,
        *,
        zone: tzinfo = UTC,
        obis: Obis = ACTIVE_IMPORT,
        meter_serial: str | None = None,
    ) -> Sequence[SeriesEnergy]:
        """Return energy by period of every meter of a feeder that has the register, by serial; or of one meter.

        ``since`` goes back and ``until`` forward to a period's boundary. Raises ValueError beyond PERIODS_MAX,
        FEEDER_DAYS_MAX or METER_DAYS_MAX.
        """
        ...

    async def today(
        self,
        feeder_id: str,
        since: datetime,
        *,
        obis: Obis = ACTIVE_IMPORT,
        registers: Sequence[Obis] = OVERVIEW_REGISTERS,
    ) -> Sequence[MeterToday]:
        """Return all meters of a feeder with their latest values and what each counted since a moment."""
        ...

    async def chart(
        self,
        feeder_id: str,
        meter_serial: str,
        obis: Obis,
        since: datetime,
        until: datetime,
        step_s: int,
    ) -> Sequence[ChartPoint]:
        """Return what was measured of any register, numbers only, by steps of so many seconds from ``since`` on.

        Steps in which nothing was measured are left out. Raises ValueError beyond PERIODS_MAX.
        """
        ...

    async def fold_energy(self, at_most: int = FOLDS_AT_ONCE_MAX) -> int:
        """Fold days that readings have touched since; return how many were. Call it until it returns 0."""
        ...
