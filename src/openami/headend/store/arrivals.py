"""The ArrivalStore port: what came of a gateway's meters on a day, and what it told of their silence.

A page asks for all of them at once: a question for each meter would take a third of a second for 200 of them.
"""

# Statements are put together from this program's own words; every value is bound.
# ruff: noqa: S608

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Final, NamedTuple, Protocol, cast

from openami.headend.store.closed_arrivals import lag_minutes_of
from openami.headend.store.closed_content import CONTENT, arrivals_in
from openami.headend.store.engine import Engine
from openami.headend.store.identity import (
    BUCKET_MS,
    from_ms,
    ms_at,
    place,
    quality_of,
    to_ms,
)
from openami.headend.store.plan import Cell
from openami.headend.store.steps import Row
from openami.profile import Obis, Quality

# The register every meter has to report; its readings tell how often a meter does.
BILLING: Final = Obis.parse("1.8.0")
# The types of the events by which gateways tell of a meter's silence (decision 0007).
SILENT: Final = "comms_lost"
BACK: Final = "comms_restored"
# Two days and two hours either side: what is learnt from is asked for day by day.
ARRIVALS_SPAN_MAX: Final = timedelta(days=2)
# Both engines take thousands of arguments; more meters than that are asked for in parts.
METERS_AT_ONCE_MAX: Final = 500

# The buckets one by one, because the key begins with them: of each the rows of one meter lie together. A range of
# them would have both engines read what all meters of all feeders said. First whose they are: no planner knows how
# many rows a span has, and it would look each row's meter up.
_ARRIVALS: Final = (
    "WITH those AS MATERIALIZED (SELECT s.id, s.meter_serial, s.obis FROM meter m CROSS JOIN series s "
    "WHERE m.feeder_id = ?1 AND m.gateway_id = ?2 AND s.feeder_id = m.feeder_id "
    "AND s.meter_serial = m.meter_serial AND {which} {named}) "
    f"SELECT those.meter_serial, those.obis, r.bucket * CAST({BUCKET_MS} AS bigint) + r.ms, "
    "r.lag_ms, r.flags & 3 FROM those CROSS JOIN reading r "
    "WHERE r.bucket IN ({buckets}) AND r.series = those.id "
    "AND (r.bucket, r.ms) >= (?3, ?4) AND (r.bucket, r.ms) < (?5, ?6)"
)
ARRIVALS_OF_BILLING: Final = _ARRIVALS.replace("{which}", f"s.obis = '{BILLING}'")
_OTHERS: Final = _ARRIVALS.replace("{which}", f"s.obis <> '{BILLING}'")
_OF_SILENCE: Final = f"type IN ('{SILENT}', '{BACK}')"
# Of each meter what was told within the span, and the last thing before it: it says how the span began.
SILENCES: Final = (
    "SELECT m.meter_serial, e.type, e.occurred_at FROM meter m CROSS JOIN event e "
    "WHERE m.feeder_id = ?1 AND m.gateway_id = ?2 AND e.feeder_id = m.feeder_id "
    f"AND e.meter_serial = m.meter_serial AND e.{_OF_SILENCE} AND e.occurred_at < ?4 "
    "AND e.occurred_at >= coalesce((SELECT max(p.occurred_at) FROM event p "
    "WHERE p.feeder_id = m.feeder_id AND p.meter_serial = m.meter_serial "
    f"AND p.{_OF_SILENCE} AND p.occurred_at <= ?3), ?3) "
    "ORDER BY m.meter_serial, e.occurred_at, e.id"
)


# A file itself only where nothing is packed beside it: that would be forty times as much to fetch.
_CLOSED: Final = (
    f"SELECT {CONTENT.replace('c.content', 'CASE WHEN a.content IS NULL THEN c.content END')}, a.content "
    "FROM meter m JOIN closed c ON c.feeder_id = m.feeder_id AND c.meter_serial = m.meter_serial "
    "LEFT JOIN closed_arrivals a ON a.feeder_id = c.feeder_id AND a.meter_serial = c.meter_serial "
    "AND a.first_bucket = c.first_bucket AND a.sha256 = c.sha256 "
    "WHERE m.feeder_id = ?1 AND m.gateway_id = ?2 AND c.first_bucket <= ?4 AND c.last_bucket >= ?3 "
)

_SPAN_ARGUMENTS: Final = 6
_Span = tuple[str, str, int, int, int, int]
"""Feeder, gateway, and from which place of the key to which."""


class Arrival(NamedTuple):
    """One reading of the register that tells the interval."""

    ms: int
    """When it was measured, in milliseconds since 1970."""
    lag_minutes: int
    """How long after that it was received, in whole minutes rounded up: nobody judges it finer."""
    quality: Quality


@dataclass(frozen=True, slots=True)
class Arrivals:
    """The readings of one register, ascending, in columns.

    A village has 48,000 a day. As objects that live until the page is made, each second page would have the garbage
    collector walk through the whole program, which takes as long as the page.
    """

    ms: Sequence[int]
    lag_minutes: Sequence[int]
    ranks: Sequence[int]
    """How bad the quality is (`identity.rank_of`)."""

    def __len__(self) -> int:
        return len(self.ms)

    def __iter__(self) -> Iterator[Arrival]:
        return map(Arrival, self.ms, self.lag_minutes, map(quality_of, self.ranks))


_Series = tuple[str, str]
"""Meter and register."""
_Live = dict[_Series, list[tuple[int, int, int]]]
_Closed = dict[_Series, list[Arrivals]]
"""A part of each file."""


class ToldOfSilence(NamedTuple):
    """What a gateway told of a meter: that it does not answer, or does again."""

    type: str
    occurred_at: datetime


class ArrivalStore(Protocol):
    """Arrivals as completeness asks for them. Every method raises StoreError."""

    async def arrivals(
        self,
        feeder_id: str,
        gateway_id: str,
        since: datetime,
        until: datetime,
        *,
        meters: Collection[str] | None = None,
    ) -> Mapping[str, Arrivals]:
        """Return what was measured of each meter of a gateway from ``since`` on and before ``until``, ascending.

        Of the billing register; of a meter of which none of that came, the register that came most. A meter of
        which nothing came is left out; with ``meters``, every other one too. Raises ValueError beyond
        ARRIVALS_SPAN_MAX.
        """
        ...

    async def told_of_silence(
        self, feeder_id: str, gateway_id: str, since: datetime, until: datetime
    ) -> Mapping[str, Sequence[ToldOfSilence]]:
        """Return what a gateway told of its meters' silence within a span, by meter and ascending; and the last
        thing it told of each before the span.
        """
        ...


class ArrivalQueries(Engine):
    """What the ArrivalStore does."""

    async def arrivals(
        self,
        feeder_id: str,
        gateway_id: str,
        since: datetime,
        until: datetime,
        *,
        meters: Collection[str] | None = None,
    ) -> Mapping[str, Arrivals]:
        if until - since > ARRIVALS_SPAN_MAX:
            raise ValueError(f"arrivals are told of {ARRIVALS_SPAN_MAX.days} days at most")
        span = (feeder_id, gateway_id, *place(to_ms(since)), *place(to_ms(until)))
        found: dict[str, Arrivals] = {}
        if meters is None:
            told = await self._told(ARRIVALS_OF_BILLING, span, None)
            meters = await self._behind(feeder_id, gateway_id)
        else:
            told = await self._of_these(ARRIVALS_OF_BILLING, span, sorted(meters))
        for (serial, _), arrivals in told.items():
            found[serial] = arrivals
        rest = [serial for serial in sorted(meters) if serial not in found]
        for (serial, _), arrivals in (await self._of_these(_OTHERS, span, rest)).items():
            if len(arrivals) > len(found.get(serial, ())):
                found[serial] = arrivals
        return found

    async def _of_these(
        self, sql: str, span: _Span, meters: Sequence[str]
    ) -> dict[_Series, Arrivals]:
        found: dict[_Series, Arrivals] = {}
        for at in range(0, len(meters), METERS_AT_ONCE_MAX):
            found |= await self._told(sql, span, meters[at : at + METERS_AT_ONCE_MAX])
        return found

    async def _told(
        self, sql: str, span: _Span, meters: Sequence[str] | None
    ) -> dict[_Series, Arrivals]:
        buckets = range(span[2], span[4] + 1)
        cells: list[Cell] = [*span, *buckets, *(meters or ())]
        count = None if meters is None else len(meters)
        live = _by_series(await self._rows(put_together(sql, len(buckets), count), *cells))
        return _together(
            await self._closed_arrivals(sql is ARRIVALS_OF_BILLING, span, meters), live
        )

    async def _closed_arrivals(
        self, of_billing: bool, span: _Span, meters: Sequence[str] | None
    ) -> _Closed:
        """Return the same of months that are closed. Raises ClosedDamaged."""
        feeder, gateway, *places = span
        named = "" if meters is None else f"AND m.meter_serial IN ({_places(5, len(meters))})"
        files = await self._rows(
            _CLOSED + named, feeder, gateway, places[0], places[2], *(meters or ())
        )
        if not files:
            return {}
        begin, end = ms_at(places[0], places[1]), ms_at(places[2], places[3])
        return await asyncio.to_thread(_of_files, files, begin, end, of_billing=of_billing)

    async def _behind(self, feeder_id: str, gateway_id: str) -> list[str]:
        rows = await self._rows(
            "SELECT meter_serial FROM meter WHERE feeder_id = ?1 AND gateway_id = ?2 "
            "ORDER BY meter_serial",
            *(feeder_id, gateway_id),
        )
        return [cast(str, serial) for (serial,) in rows]

    async def told_of_silence(
        self, feeder_id: str, gateway_id: str, since: datetime, until: datetime
    ) -> Mapping[str, Sequence[ToldOfSilence]]:
        rows = await self._rows(SILENCES, feeder_id, gateway_id, to_ms(since), to_ms(until))
        found: dict[str, list[ToldOfSilence]] = defaultdict(list)
        for serial, kind, occurred_at in cast(Any, rows):
            found[serial].append(ToldOfSilence(kind, from_ms(occurred_at)))
        return found


def put_together(sql: str, buckets: int, meters: int | None) -> str:
    """Return the statement for a span of so many buckets, of so many named meters or of all."""
    first = _SPAN_ARGUMENTS + 1
    named = "" if meters is None else f"AND m.meter_serial IN ({_places(first + buckets, meters)}) "
    return sql.replace("{buckets}", _places(first, buckets)).replace("{named}", named)


def _places(first: int, count: int) -> str:
    return ", ".join(f"?{number}" for number in range(first, first + count))


def _of_files(files: Iterable[Row], begin_ms: int, end_ms: int, *, of_billing: bool) -> _Closed:
    """Return what came of the billing register, or of all others, of rows of _CLOSED."""
    found: _Closed = defaultdict(list)
    for file in files:
        for registers, *columns in arrivals_in(file, begin_ms, end_ms):
            for obis in registers:
                if (obis == str(BILLING)) is of_billing:
                    found[cast(str, file[1]), obis].append(Arrivals(*columns))
    return found


def _by_series(rows: Iterable[Row]) -> _Live:
    found: _Live = defaultdict(list)
    for serial, obis, at, lag_ms, rank in cast(Any, rows):
        found[serial, obis].append((at, lag_minutes_of(lag_ms), rank))
    return found


def _together(closed: _Closed, live: _Live) -> dict[_Series, Arrivals]:
    """Return both, by meter and register, for the engines tell them as they come."""
    return {
        series: _one(closed.get(series, ()), live.get(series, ()))
        for series in sorted({*closed, *live})
    }


def _one(parts: Sequence[Arrivals], live: Sequence[tuple[int, int, int]]) -> Arrivals:
    """Return what several files, where a month ends within the time, and the live table tell of a register.

    A reading that is both closed and live is one: what came late, and what was told of it since.
    """
    if len(parts) == 1 and not live:
        return parts[0]
    closed = chain.from_iterable(
        zip(part.ms, part.lag_minutes, part.ranks, strict=True) for part in parts
    )
    told = {row[0]: row for row in chain(closed, live)}
    return Arrivals(*map(list, zip(*sorted(told.values()), strict=True)))
