"""What the store knows by heart: the numbers of series and units, and each series' latest moment.

A bounded memory of what the database holds. It is true because numbers are never given twice and latest
moments only advance: what another process has added meanwhile makes it incomplete, never wrong. After a
transaction that failed it is emptied, because it may remember what was rolled back.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from openami.headend.store.identity import flags_of, in_own_unit
from openami.profile import Envelope, Obis, Quality

# About 200 bytes each: 13 MB. 65,536 series are 5,000 meters with 12 registers; beyond that the meters
# known longest are looked up again when they next speak.
SERIES_REMEMBERED_MAX: Final = 65_536
# A village has ten units. A sender that invents them only makes us look them up.
UNITS_REMEMBERED_MAX: Final = 4_096

# Days that wait to be folded, about 100 bytes each: 7 MB. Beyond that they are only written down once more.
DAYS_REMEMBERED_MAX: Final = 65_536

MeterKey = tuple[str, str]
"""Feeder and serial: a serial number is unique within its feeder only."""
SeriesKey = tuple[str, str, Obis]


class Series:
    """One register of one meter: its number and unit, its latest moment and the worst told of that."""

    __slots__ = ("counts_energy", "id", "latest_ms", "rank", "unit_id")

    def __init__(
        self, series_id: int, unit_id: int, latest_ms: int, rank: int, *, counts_energy: bool
    ) -> None:
        self.counts_energy = counts_energy
        self.id = series_id
        self.unit_id = unit_id
        self.latest_ms = latest_ms
        self.rank = rank


# Of a meter nobody has heard a register of; an event let in from an archive has none.
NO_SERIES: Final[Mapping[Obis, Series]] = {}


class Directory:
    """Numbers by name. Owned by one transaction at a time."""

    def __init__(self, *, folds: bool) -> None:
        """``folds``: whether this process is the one that folds days, so that it knows which are due."""
        self._folds = folds
        self.due: set[tuple[int, int]] = set()
        self.meters: dict[MeterKey, dict[Obis, Series]] = {}
        self.units: dict[str, int] = {}
        self._series = 0
        self._flags: dict[tuple[int, type, Quality, str], int] = {}

    def clear(self) -> None:
        """Forget everything."""
        self.meters.clear()
        self.units.clear()
        self._flags.clear()
        self.due.clear()
        self._series = 0

    def keep_bounds(self) -> None:
        """Forget what is too much; between transactions, for one must find all it has resolved."""
        while self._series > SERIES_REMEMBERED_MAX:
            self._series -= len(self.meters.pop(next(iter(self.meters))))
        if len(self.units) > UNITS_REMEMBERED_MAX or len(self._flags) > UNITS_REMEMBERED_MAX:
            self.units.clear()
            self._flags.clear()
        if len(self.due) > DAYS_REMEMBERED_MAX:
            self.due.clear()

    def newly_due(self, days: set[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return the days, by series, that are not known to be due; from now on they are."""
        new = sorted(days - self.due)
        if self._folds:
            self.due |= days
        return new

    def unknown(self, envelopes: Iterable[Envelope]) -> tuple[dict[SeriesKey, str], list[str]]:
        """Return what has to be looked up: series with the unit first told of them, and units."""
        series: dict[SeriesKey, str] = {}
        units: dict[str, None] = {}
        known_units = self.units
        for envelope in envelopes:
            known = self.meters.get((envelope.feeder_id, envelope.meter_serial), NO_SERIES)
            for reading in envelope.registers:
                if reading.obis not in known:
                    key = (envelope.feeder_id, envelope.meter_serial, reading.obis)
                    series.setdefault(key, reading.unit)
                if reading.unit not in known_units:
                    units[reading.unit] = None
        return series, list(units)

    def learn(self, key: SeriesKey, series: Series) -> None:
        """Remember a series."""
        feeder_id, meter_serial, obis = key
        known = self.meters.setdefault((feeder_id, meter_serial), {})
        self._series += obis not in known
        known[obis] = series

    def flags(self, own_unit: int, kind: type, quality: Quality, unit: str) -> int:
        """Return the flags of a reading whose unit is known, of a series that usually has ``own_unit``."""
        key = (own_unit, kind, quality, unit)
        flags = self._flags.get(key)
        if flags is None:
            told = flags_of(kind, quality, self.units[unit])
            flags = self._flags[key] = in_own_unit(told, own_unit)
        return flags
