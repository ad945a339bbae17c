"""The ArrivalStore port: what came of a gateway's meters on a day, and what it told of their silence.

A page asks for all of them at once: a question for each meter would take a third of a second for 200 of them.
"""

# Statements are put together from this program's own words; every value is bound.
# ruff: noqa: S608

import asyncio
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol, cast

from openami.headend.store.closed_content import CONTENT, opened
from openami.headend.store.identity import (
    BUCKET_MS,
    from_ms,
    ms_at,
    place,
    quality_of,
    rank_of,
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


_SPAN_ARGUMENTS: Final = 6
_Span = tuple[str, str, int, int, int, int]
"""Feeder, gateway, and from which place of the key to which."""


class Arrival(NamedTuple):
    """One reading of the register that tells the interval, as it lies in the store: a village has 48,000 a day."""

    ms: int
    """When it was measured, in milliseconds since 1970."""
    lag_ms: int
    """How long after that it was received."""
    quality: Quality


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
    ) -> Mapping[str, Sequence[Arrival]]:
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


class ArrivalQueries(ABC):
    """What the ArrivalStore does."""

    @abstractmethod
    async def _rows(self, sql: str, *arguments: Cell) -> list[Row]: ...

    async def arrivals(
        self,
        feeder_id: str,
        gateway_id: str,
        since: datetime,
        until: datetime,
        *,
        meters: Collection[str] | None = None,
    ) -> Mapping[str, Sequence[Arrival]]:
        if until - since > ARRIVALS_SPAN_MAX:
            raise ValueError(f"arrivals are told of {ARRIVALS_SPAN_MAX.days} days at most")
        span = (feeder_id, gateway_id, *place(to_ms(since)), *place(to_ms(until)))
        found: dict[str, Sequence[Arrival]] = {}
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
    ) -> dict[tuple[str, str], list[Arrival]]:
        found: dict[tuple[str, str], list[Arrival]] = {}
        for at in range(0, len(meters), METERS_AT_ONCE_MAX):
            found |= await self._told(sql, span, meters[at : at + METERS_AT_ONCE_MAX])
        return found

    async def _told(
        self, sql: str, span: _Span, meters: Sequence[str] | None
    ) -> dict[tuple[str, str], list[Arrival]]:
        buckets = range(span[2], span[4] + 1)
        cells: list[Cell] = [*span, *buckets, *(meters or ())]
        count = None if meters is None else len(meters)
        live = await self._rows(put_together(sql, len(buckets), count), *cells)
        closed = await self._closed_arrivals(sql is ARRIVALS_OF_BILLING, span, meters)
        # A reading that is both closed and live is one: what came late, and what was told of it since.
        return _by_series({row[:3]: row for row in (*closed, *live)}.values() if closed else live)

    async def _closed_arrivals(
        self, of_billing: bool, span: _Span, meters: Sequence[str] | None
    ) -> list[Row]:
        """Return the same of months that are closed."""
        feeder, gateway, *places = span
        named = "" if meters is None else f"AND m.meter_serial IN ({_places(5, len(meters))})"
        files = await self._rows(
            f"SELECT {CONTENT} FROM meter m JOIN closed c ON c.feeder_id = m.feeder_id "
            "AND c.meter_serial = m.meter_serial WHERE m.feeder_id = ?1 AND m.gateway_id = ?2 "
            f"AND c.first_bucket <= ?4 AND c.last_bucket >= ?3 {named}",
            *(feeder, gateway, places[0], places[2]),
            *(meters or ()),
        )
        if not files:
            return []
        return await asyncio.to_thread(
            lambda: [row for file in files for row in _told_in(file, of_billing, places)]
        )

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


def _told_in(file: Row, of_billing: bool, places: Sequence[int]) -> Iterator[Row]:
    """Yield a file's readings of the billing register, or of all others, as _ARRIVALS tells live ones."""
    begin, end = ms_at(places[0], places[1]), ms_at(places[2], places[3])
    chosen = str(BILLING) if of_billing else None
    for row in opened(file, obis=chosen, since_ms=begin, until_ms=end):
        if of_billing or row.obis != str(BILLING):
            yield file[1], row.obis, ms_at(row.bucket, row.ms), row.lag_ms, rank_of(row.flags)


def _by_series(rows: Iterable[Row]) -> dict[tuple[str, str], list[Arrival]]:
    found: dict[tuple[str, str], list[Arrival]] = defaultdict(list)
    for serial, obis, at, lag_ms, rank in cast(Any, rows):
        found[serial, obis].append(Arrival(at, lag_ms, quality_of(rank)))
    for arrivals in found.values():
        arrivals.sort()  # as they come they are, nearly: that is quicker than to let the engine sort all of them
    return found
