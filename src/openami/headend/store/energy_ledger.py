"""What the EnergyStore does; the engine carries the steps out."""

# Statements are put together from this program's own words; every value is bound.
# ruff: noqa: S608

import asyncio
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import chain
from typing import Any, Final, NamedTuple, cast

from openami.headend.consumption import DAY_MS, GAP_MS, DayFold, Sample, fold_day
from openami.headend.periods import Course, Grid, Step, boundaries, course, register_at
from openami.headend.store import MeterRow, Reading, StoreError
from openami.headend.store.closed_chart import Window, chart_points, charted_files, gaps
from openami.headend.store.closed_content import OF_METER, closed_days, with_live
from openami.headend.store.closed_reading import asked, closed_spans
from openami.headend.store.directory import Directory
from openami.headend.store.energy import (
    ACTIVE_IMPORT,
    FEEDER_DAYS_MAX,
    FOLDS_AT_ONCE_MAX,
    METER_DAYS_MAX,
    OVERVIEW_REGISTERS,
    PERIODS_MAX,
    ChartPoint,
    MeterToday,
    SeriesEnergy,
)
from openami.headend.store.energy_rows import DAY_COLUMNS, day_cells, read_day, sample_of
from openami.headend.store.engine import Engine
from openami.headend.store.identity import BUCKET_MS, from_ms, ms_at, place, to_ms
from openami.headend.store.queries import reading_of
from openami.headend.store.steps import Row, Steps, ask, change, insert, look
from openami.headend.store.tables import ENERGY_DAY, ENERGY_DUE, ENERGY_FOLDED, ENERGY_READINGS
from openami.profile import Obis

# Folded for one answer: two days of a thousand meters, half a second. More is due only for minutes after an
# upgrade or a large import, and then an answer would not be exact.
FOLDS_FOR_AN_ANSWER_MAX: Final = 2_000
# A day's readings lie in these buckets, counted from six times the day (store/identity.py): the last one
# begins two hours before midnight.
_BUCKETS_A_DAY: Final = DAY_MS // BUCKET_MS
_LATE_MS: Final = GAP_MS
_LAST_DAY: Final = 2**31 - 1

# The window, and the nearest day with a sound register on either side of it: what lies between two such days is
# joined when it is asked for. In three parts, because no planner can estimate a range that differs by meter.
_A_DAY: Final = (
    f"SELECT span.id, span.meter_serial, {DAY_COLUMNS} FROM span CROSS JOIN energy_day e "
)
DAYS: Final = (
    "WITH span AS MATERIALIZED (SELECT s.id, s.meter_serial, "
    "(SELECT max(p.day) FROM energy_day p "
    "WHERE p.series = s.id AND p.day < ?4 AND p.first_ms IS NOT NULL) AS before, "
    "(SELECT min(n.day) FROM energy_day n "
    "WHERE n.series = s.id AND n.day > ?5 AND n.first_ms IS NOT NULL) AS after "
    "FROM series s WHERE s.feeder_id = ?1 AND s.obis = ?2 AND ?3 IN ('', s.meter_serial)) "
    f"{_A_DAY} WHERE e.series = span.id AND e.day >= ?4 AND e.day <= ?5 "
    f"UNION ALL {_A_DAY} WHERE e.series = span.id AND e.day = span.before "
    f"UNION ALL {_A_DAY} WHERE e.series = span.id AND e.day = span.after "
    "ORDER BY 2, 3"
)
_DUE: Final = (
    "SELECT s.id, s.meter_serial, d.day FROM series s CROSS JOIN energy_due d "
    "WHERE s.feeder_id = ?1 AND s.obis = ?2 AND ?3 IN ('', s.meter_serial) AND d.series = s.id "
    "ORDER BY s.meter_serial, d.day"
)
_DUE_READINGS: Final = (
    "WITH RECURSIVE slot (number) AS (SELECT 0 UNION ALL SELECT number + 1 FROM slot "
    f"WHERE number < {_BUCKETS_A_DAY}) "
    "SELECT d.series, d.day, r.bucket, r.ms, {value}, r.flags, u.text FROM series s "
    "CROSS JOIN energy_due d CROSS JOIN slot CROSS JOIN reading r CROSS JOIN unit u "
    "WHERE s.feeder_id = ?1 AND s.obis = ?2 AND ?3 IN ('', s.meter_serial) "
    f"AND d.series = s.id AND d.day >= ?4 AND d.day <= ?5 AND r.bucket = d.day * {_BUCKETS_A_DAY} "
    "+ slot.number AND r.series = s.id AND u.id = coalesce(nullif(r.flags >> 4, 0), s.unit) "
    f"AND r.bucket >= ?4 * {_BUCKETS_A_DAY} AND r.bucket <= (?5 + 1) * {_BUCKETS_A_DAY}"
)
_LATEST_FROM: Final = (
    "SELECT s.meter_serial, r.bucket, r.ms, {value}, r.flags, r.lag_ms, u.text, s.obis, l.quality "
    "FROM series s JOIN latest l ON l.series = s.id "
    "JOIN {table} r ON r.bucket = l.bucket AND r.series = l.series AND r.ms = l.ms "
    "JOIN unit u ON u.id = coalesce(nullif(r.flags >> 4, 0), s.unit) "
    "WHERE s.feeder_id = ?1 AND s.obis IN ({registers})"
)
_LATEST: Final = " UNION ALL ".join(
    _LATEST_FROM.replace("{table}", table) for table in ("reading", "latest_kept")
)
# From one bucket that exists to the next, as a page of readings goes; numbers only.
_CHART: Final = (
    "WITH RECURSIVE slot (bucket) AS ("
    "SELECT (SELECT min(bucket) FROM reading WHERE bucket >= ?1 AND bucket <= ?2) "
    "UNION ALL SELECT (SELECT min(bucket) FROM reading "
    "WHERE bucket > slot.bucket AND bucket >= ?1 AND bucket <= ?2) "
    "FROM slot WHERE slot.bucket < ?2), told AS ("
    "SELECT r.bucket * CAST(14400000 AS bigint) + r.ms AS ms, {number} AS value, r.flags & 3 AS quality, "
    "r.lag_ms FROM slot CROSS JOIN series s CROSS JOIN {reading ?1 ?2} "
    "WHERE s.feeder_id = ?3 AND s.meter_serial = ?4 AND s.obis = ?5 "
    "AND r.bucket = slot.bucket AND r.series = s.id AND ((r.flags >> 2) & 3) < 2) "
    "SELECT (ms - ?6) / ?8 AS step, count(*), min(value), avg(value), max(value), "
    "sum(CASE quality WHEN 1 THEN 1 ELSE 0 END), sum(CASE quality WHEN 2 THEN 1 ELSE 0 END), "
    "sum(CASE WHEN lag_ms > ?9 THEN 1 ELSE 0 END), max(ms) FROM told WHERE ms >= ?6 AND ms < ?7 "
    "GROUP BY step ORDER BY step"
)

# Beside a file lies little: one row of each silence, each conflict, and what came late.
_LIVE_OF: Final = (
    "WITH RECURSIVE slot (bucket) AS ("
    "SELECT (SELECT min(bucket) FROM reading WHERE bucket >= ?4 AND bucket <= ?5) "
    "UNION ALL SELECT (SELECT min(bucket) FROM reading "
    "WHERE bucket > slot.bucket AND bucket >= ?4 AND bucket <= ?5) "
    "FROM slot WHERE slot.bucket < ?5) "
    "SELECT r.bucket, r.ms, {value}, r.flags, r.lag_ms FROM slot CROSS JOIN series s CROSS JOIN {reading ?4 ?5} "
    "WHERE s.feeder_id = ?1 AND s.meter_serial = ?2 AND s.obis = ?3 "
    "AND r.bucket = slot.bucket AND r.series = s.id"
)
# A month is closed in a quarter of a second, and the next one a second later.
_LOOKS_MAX: Final = 3


class _Of(NamedTuple):
    """Which series are meant."""

    feeder_id: str
    obis: str
    meter_serial: str
    """Empty for all."""


def fold_due(directory: Directory, at_most: int) -> Steps[int]:
    """Fold days that are due; return how many were."""
    due = cast(
        list[tuple[int, int]],
        (
            yield from ask(
                "SELECT series, day FROM energy_due ORDER BY series, day LIMIT ?1", at_most
            )
        ),
    )
    # In the order of the key, in which every writer takes them: two that meet wait for one another and never cross.
    yield from insert(ENERGY_DUE, list(chain.from_iterable(due)))
    # Taken first: readings that another writer commits from now on make their day due again.
    yield from change(ENERGY_FOLDED, list(chain.from_iterable(due)))
    directory.due.difference_update(due)
    buckets = chain.from_iterable(
        (series, day, day * _BUCKETS_A_DAY + number)
        for series, day in due
        for number in range(_BUCKETS_A_DAY + 1)
    )
    rows = yield from look(ENERGY_READINGS, list(buckets))
    folds = _folded(due, with_live((yield from closed_days(due)), rows))
    yield from insert(
        ENERGY_DAY,
        list(chain.from_iterable(day_cells(series, fold) for (series, _), fold in folds.items())),
    )
    return len(due)


def _folded(due: Iterable[tuple[int, int]], rows: Iterable[Row]) -> dict[tuple[int, int], DayFold]:
    """Fold days from the rows of their buckets, of which the outermost reach into the days beside."""
    samples: dict[tuple[int, int], list[Sample]] = {key: [] for key in due}
    for series, day, *told in cast(Any, rows):
        sample = sample_of(told)
        if sample is not None and sample.ms // DAY_MS == day:
            samples[series, day].append(sample)
    return {(series, day): fold_day(day, each) for (series, day), each in samples.items()}


class EnergyLedger(Engine):
    """The EnergyStore on top of an engine's questions and transactions."""

    _directory: Directory

    @abstractmethod
    async def meters(
        self, *, feeder_id: str | None = None, meter_serial: str | None = None
    ) -> Sequence[MeterRow]: ...

    async def fold_energy(self, at_most: int = FOLDS_AT_ONCE_MAX) -> int:
        return await self._write(lambda: fold_due(self._directory, at_most))

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
        days_max = FEEDER_DAYS_MAX if meter_serial is None else METER_DAYS_MAX
        _refuse_too_long(since, until, days_max)
        edges = boundaries(since, until, step, zone)
        if len(edges) > PERIODS_MAX + 1:
            raise ValueError(f"{len(edges) - 1} periods were asked for, at most {PERIODS_MAX}")
        grid = Grid([to_ms(edge) for edge in edges])
        of = _Of(feeder_id, str(obis), meter_serial or "")
        folds = await self._folds(of, grid.days[0], grid.days[-1])
        # A feeder's month is a fifth of a second of reckoning: the stream goes on meanwhile.
        return await asyncio.to_thread(
            lambda: [
                _series_energy(feeder_id, serial, obis, edges, course(grid, each))
                for serial, each in folds.items()
            ]
        )

    async def today(
        self,
        feeder_id: str,
        since: datetime,
        *,
        obis: Obis = ACTIVE_IMPORT,
        registers: Sequence[Obis] = OVERVIEW_REGISTERS,
    ) -> Sequence[MeterToday]:
        meters = await self.meters(feeder_id=feeder_id)
        latest = await self._latest_of(feeder_id, registers)
        since_ms = to_ms(since)
        # Up to the day after the last one that anything was measured on: until now, whatever the clock says.
        last_ms = max((to_ms(meter.last_ts) for meter in meters), default=since_ms)
        days = min(max(last_ms - since_ms, 0) // DAY_MS + 1, FEEDER_DAYS_MAX)
        end_ms = (since_ms // DAY_MS + days + 1) * DAY_MS
        folds = await self._folds(
            _Of(feeder_id, str(obis), ""), since_ms // DAY_MS, end_ms // DAY_MS - 1
        )
        return [
            _meter_today(
                meter,
                latest.get(meter.meter_serial, {}),
                folds.get(meter.meter_serial, []),
                Grid((since_ms, end_ms)),
                last_ms,
            )
            for meter in meters
        ]

    async def chart(
        self,
        feeder_id: str,
        meter_serial: str,
        obis: Obis,
        since: datetime,
        until: datetime,
        step_s: int,
    ) -> Sequence[ChartPoint]:
        begin, end, step_ms = to_ms(since), to_ms(until), step_s * 1000
        if step_s < 1 or (end - begin) > PERIODS_MAX * step_ms:
            raise ValueError(f"a chart has 1 to {PERIODS_MAX} steps of a second or more")
        window = Window(begin, end, step_ms)
        of = (feeder_id, meter_serial, str(obis))
        for _ in range(_LOOKS_MAX):
            first, last = place(begin)[0], place(end - 1)[0]
            spans = await closed_spans(self._rows, feeder_id, meter_serial, first, last)
            told = [await self._charted(of, window, *gap) for gap in gaps((first, last), spans)]
            beside = await self._rows(_LIVE_OF, *of, spans[0][0], spans[-1][1]) if spans else []
            files = cast(Any, await self._rows(OF_METER, feeder_id, meter_serial, first, last))
            if [(file[2], file[3]) for file in files] == spans:
                break
        else:
            raise StoreError(
                f"{feeder_id} {meter_serial} is being closed just now", remedy="ask again"
            )
        return await asyncio.to_thread(
            lambda: chart_points(window, *told, charted_files(window, files, beside, str(obis)))
        )

    async def _charted(
        self, of: tuple[str, str, str], window: Window, first: int, last: int
    ) -> list[Row]:
        """Return what lies live in buckets of which there is no file, by step."""
        end = min(window.end, ms_at(last + 1, 0) - BUCKET_MS // 2)
        return await self._rows(
            _CHART, first, last, *of, window.begin, end, window.step_ms, _LATE_MS
        )

    async def _folds(self, of: _Of, first: int, last: int) -> dict[str, list[DayFold]]:
        """Return the days of a window and their sound neighbours, by serial; those that are due folded anew."""
        due = cast(list[tuple[int, str, int]], await self._rows(_DUE, *of))
        rows = await self._rows(DAYS, *of, first, last)
        told: dict[str, list[DayFold]] = defaultdict(list)
        for row in cast(Any, rows):
            told[row[1]].append(read_day(row[2:]))
        if (
            not due
        ):  # as nearly always, a minute after the last reading: the rows are in their order already
            return told
        folds = defaultdict(
            dict, {serial: {each.day: each for each in days} for serial, days in told.items()}
        )
        wanted = _that_matter(due, folds, first, last)
        if not wanted:
            return told
        if len(wanted) > FOLDS_FOR_AN_ANSWER_MAX:
            raise StoreError(
                f"the energy of {len(wanted)} days of meters is still being put together",
                remedy="after an upgrade or a large import this takes minutes: ask again",
            )
        days = [day for _, _, day in wanted]
        rows = await self._rows(_DUE_READINGS, *of, min(days), max(days))
        keys = {(series, day): serial for series, serial, day in wanted}
        # After the live ones: what is closed meanwhile is then told twice, and not left out.
        closed = await asked(self._rows, closed_days(keys))
        fresh = _folded(keys, with_live(closed, [row for row in rows if row[:2] in keys]))
        for (series, day), fold in fresh.items():
            folds[keys[series, day]][day] = fold
        return {
            serial: [days[day] for day in sorted(days)] for serial, days in sorted(folds.items())
        }

    async def _latest_of(
        self, feeder_id: str, registers: Sequence[Obis]
    ) -> dict[str, dict[Obis, Reading]]:
        places = ", ".join(f"?{number}" for number in range(2, len(registers) + 2))
        rows = await self._rows(
            _LATEST.replace("{registers}", places), feeder_id, *map(str, registers)
        )
        latest: dict[str, dict[Obis, Reading]] = defaultdict(dict)
        for serial, *told, quality in cast(Any, rows):
            reading = reading_of(feeder_id, serial, told, quality)
            latest[serial][reading.obis] = reading
        return latest


def _refuse_too_long(since: datetime, until: datetime, days_max: int) -> None:
    if until - since > timedelta(days=days_max):
        raise ValueError(f"{(until - since).days} days were asked for, at most {days_max}")


def _that_matter(
    due: Sequence[tuple[int, str, int]],
    folds: Mapping[str, Mapping[int, DayFold]],
    first: int,
    last: int,
) -> list[tuple[int, str, int]]:
    """Return the due days of a window, or between it and its sound neighbours."""
    found = []
    for series, serial, day in due:
        days = folds.get(serial, {})
        sound = [each for each, fold in days.items() if fold.first is not None]
        before = max((each for each in sound if each < first), default=-_LAST_DAY)
        after = min((each for each in sound if each > last), default=_LAST_DAY)
        if before <= day <= after:
            found.append((series, serial, day))
    return found


def _series_energy(
    feeder_id: str, serial: str, obis: Obis, edges: Sequence[datetime], told: Course
) -> SeriesEnergy:
    return SeriesEnergy(
        feeder_id,
        serial,
        obis,
        tuple(edges),
        told.wh,
        told.known,
        told.total_wh,
        told.readings,
        told.suspect,
        None if told.first is None else from_ms(told.first.ms),
        None if told.last is None else from_ms(told.last.ms),
        None if told.first is None else told.first.wh,
        None if told.last is None else told.last.wh,
        told.breaks,
    )


def _meter_today(
    meter: MeterRow,
    latest: Mapping[Obis, Reading],
    folds: Sequence[DayFold],
    day: Grid,
    now_ms: int,
) -> MeterToday:
    told = course(day, folds)
    start = register_at(day.edges_ms[0], [fold for fold in folds if fold.first is not None])
    wh, known = told.wh[0], told.known[0]
    fresh = told.last is not None and now_ms - told.last.ms <= GAP_MS
    if wh is not None and fresh and not told.breaks and start is not None:
        known = start[1]  # only the day's end is open, as it is for everybody
    return MeterToday(meter, latest, wh, known, None if start is None else start[0])
