"""The WaitingStore port: how much waits for somebody, counted for the bar over every page."""

# Statements are put together from this program's own words; every value is bound.
# ruff: noqa: S608

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Protocol, cast

from openami.headend.store.engine import Engine
from openami.headend.store.plan import Cell

# Of what waits nobody counts further: a page shows 99+.
WAITING_COUNTED_MAX: Final = 100
# SQLite and PostgreSQL take thousands of arguments; a longer scope than this is counted in parts.
FEEDERS_AT_ONCE_MAX: Final = 500

_OPEN: Final = "ended_at IS NULL"
_PROPOSED: Final = "state = 'proposed'"
_STANDS: Final = "cleared_at IS NULL AND acknowledged_at IS NULL"


@dataclass(frozen=True, slots=True)
class Waiting:
    """How much waits, each counted up to WAITING_COUNTED_MAX."""

    commands: int = 0
    """Commands that have not ended, and bulk disconnections that wait for a second person."""
    alarms: int = 0
    """Alarms that stand and that nobody has acknowledged."""
    rejected: int = 0
    """Rejected messages that nobody has replayed or dropped. They belong to no feeder: counted only for all."""


class WaitingStore(Protocol):
    """Counts for the bar. Every method raises StoreError."""

    async def waiting(self, feeders: Collection[str] | None = None) -> Waiting:
        """Count what waits on these feeders, or on all."""
        ...


class WaitingQueries(Engine):
    """What the WaitingStore does."""

    async def waiting(self, feeders: Collection[str] | None = None) -> Waiting:
        if feeders is None:
            commands = await self._count("command", _OPEN)
            commands += await self._count("bulk", _PROPOSED)
            return Waiting(
                min(commands, WAITING_COUNTED_MAX),
                await self._count("alarm", _STANDS),
                await self._count("rejected", "status = 'open'"),
            )
        named = sorted(feeders)
        commands = alarms = 0
        for at in range(0, len(named), FEEDERS_AT_ONCE_MAX):
            some = named[at : at + FEEDERS_AT_ONCE_MAX]
            within = ", ".join(f"?{number}" for number in range(2, 2 + len(some)))
            commands += await self._count("command", f"{_OPEN} AND feeder_id IN ({within})", *some)
            commands += await self._count("bulk", f"{_PROPOSED} AND feeder_id IN ({within})", *some)
            alarms += await self._count("alarm", f"{_STANDS} AND feeder_id IN ({within})", *some)
        return Waiting(min(commands, WAITING_COUNTED_MAX), min(alarms, WAITING_COUNTED_MAX))

    async def _count(self, table: str, where: str, *arguments: Cell) -> int:
        rows = await self._rows(
            f"SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {where} LIMIT ?1) AS counted",
            WAITING_COUNTED_MAX,
            *arguments,
        )
        return cast(int, rows[0][0])
