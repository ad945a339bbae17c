"""What the AlarmStore does; the engine carries the steps out."""

# Statements are put together from this program's own words; every value is bound.
# ruff: noqa: S608

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, cast

from openami.headend.alarms import Alarm, Origin
from openami.headend.audit import Entry
from openami.headend.store import ROWS_MAX
from openami.headend.store.alarms import (
    ACKNOWLEDGED_AT_ONCE_MAX,
    ACTIVE_MAX,
    ALARMS_KEPT_DAYS,
    EVENTS_AT_ONCE_MAX,
    UNSEEN_KEPT_DAYS,
    NewEvents,
)
from openami.headend.store.engine import Engine
from openami.headend.store.identity import to_ms
from openami.headend.store.ledger import note as noted
from openami.headend.store.ledger_rows import TIME, Form, Rows
from openami.headend.store.queries import EVENT_COLUMNS, event_of
from openami.headend.store.steps import Steps, ask, do
from openami.profile import Severity

_ALARMS: Final = Rows(
    "alarm",
    Alarm,
    {
        "origin": Form(str, Origin),
        "severity": Form(str, Severity),
        **dict.fromkeys(("raised_at", "last_at", "cleared_at", "acknowledged_at"), TIME),
    },
)
# Somebody may acknowledge while a look decides: what he wrote is not its to write.
_PUT: Final = _ALARMS.insert(
    "ON CONFLICT (id) DO UPDATE SET last_at = excluded.last_at, times = excluded.times, "
    "cleared_at = excluded.cleared_at"
)
_ACTIVE: Final = _ALARMS.select(
    "WHERE ?1 IN ('', feeder_id) AND (cleared_at IS NULL OR acknowledged_at IS NULL) "
    "ORDER BY cleared_at IS NOT NULL, raised_at DESC, id LIMIT ?2"
)
_PAST: Final = _ALARMS.select(
    "WHERE ?1 IN ('', feeder_id) AND cleared_at IS NOT NULL AND acknowledged_at IS NOT NULL "
    "AND raised_at < ?2 ORDER BY raised_at DESC, id LIMIT ?3"
)
_NEW_EVENTS: Final = (
    f"SELECT {EVENT_COLUMNS}, id FROM event "
    "WHERE id > (SELECT looked_to FROM alarm_look) ORDER BY id LIMIT ?1"
)
_END_OF_TIME_MS: Final = 2**62  # later than every moment there can be, and within eight bytes


def put_alarms(alarms: Sequence[Alarm], looked_to: int | None) -> Steps[None]:
    """Write alarms, and where the look ended."""
    for alarm in alarms:
        yield from do(_PUT, *_ALARMS.cells(alarm))
    if looked_to is not None:
        yield from do("UPDATE alarm_look SET looked_to = ?1", looked_to)


def acknowledge(alarm_ids: Sequence[str], who: str, note: str, now: datetime) -> Steps[int]:
    """Note who has seen alarms; the entry names the first, and how many there were."""
    seen: list[str] = []
    for alarm_id in alarm_ids[:ACKNOWLEDGED_AT_ONCE_MAX]:
        newly = yield from do(
            "UPDATE alarm SET acknowledged_at = ?1, acknowledged_by = ?2, note = ?3 "
            "WHERE id = ?4 AND acknowledged_at IS NULL",
            *(to_ms(now), who, note, alarm_id),
        )
        seen += [alarm_id] * newly
    if seen:
        [(kind, feeder, gateway, meter)] = yield from ask(
            "SELECT kind, feeder_id, gateway_id, meter_serial FROM alarm WHERE id = ?1", seen[0]
        )
        others = "" if len(seen) == 1 else f", and {len(seen) - 1} more of them"
        what = f"alarm acknowledged: {kind} on {feeder}/{gateway}"
        what += f"/{meter}{others}" if meter else others
        yield from noted(Entry(who=who, what=what, why=note, result="acknowledged"), now)
    return len(seen)


def prune_alarms(now: datetime) -> Steps[int]:
    """Delete what is history for too long."""
    gone = yield from do(
        "DELETE FROM alarm WHERE cleared_at < ?1", to_ms(now - timedelta(days=ALARMS_KEPT_DAYS))
    )
    return gone + (
        yield from do(
            "DELETE FROM alarm WHERE acknowledged_at IS NULL AND cleared_at < ?1",
            to_ms(now - timedelta(days=UNSEEN_KEPT_DAYS)),
        )
    )


class AlarmLedger(Engine):
    """The AlarmStore on top of an engine's questions and transactions."""

    async def active_alarms(self, feeder_id: str | None = None) -> Sequence[Alarm]:
        rows = await self._rows(_ACTIVE, feeder_id or "", ACTIVE_MAX)
        return [_ALARMS.read(row) for row in rows]

    async def past_alarms(
        self,
        *,
        feeder_id: str | None = None,
        before: datetime | None = None,
        at_most: int = 100,
    ) -> Sequence[Alarm]:
        until = _END_OF_TIME_MS if before is None else to_ms(before)
        rows = await self._rows(_PAST, feeder_id or "", until, min(at_most, ROWS_MAX))
        return [_ALARMS.read(row) for row in rows]

    async def alarm(self, alarm_id: str) -> Alarm | None:
        rows = await self._rows(_ALARMS.select("WHERE id = ?1"), alarm_id)
        return _ALARMS.read(rows[0]) if rows else None

    async def new_events(self) -> NewEvents:
        rows = cast(Any, await self._rows(_NEW_EVENTS, EVENTS_AT_ONCE_MAX))
        if not rows:
            [(looked_to,)] = cast(Any, await self._rows("SELECT looked_to FROM alarm_look"))
            return NewEvents((), looked_to)
        return NewEvents([event_of(row[:-1]) for row in rows], rows[-1][-1])

    async def put_alarms(self, alarms: Sequence[Alarm], *, looked_to: int | None = None) -> None:
        if alarms or looked_to is not None:
            await self._write(lambda: put_alarms(alarms, looked_to))

    async def acknowledge_alarms(
        self, alarm_ids: Sequence[str], *, who: str, note: str, now: datetime
    ) -> int:
        return await self._write(lambda: acknowledge(alarm_ids, who, note, now))

    async def prune_alarms(self, now: datetime) -> int:
        return await self._write(lambda: prune_alarms(now))
