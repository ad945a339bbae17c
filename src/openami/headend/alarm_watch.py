"""Alarms watched: looks through what came and at what lasts, and keeps what follows; one task of the head-end."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from openami.clock import Clock
from openami.headend.alarm_causes import by_events, silences
from openami.headend.alarms import StateKind, by_states, unknown_ends
from openami.headend.bandwidth import over_budget
from openami.headend.broker_link import BrokerLink
from openami.headend.states import GATEWAY_SILENT_AFTER_MINUTES
from openami.headend.store import StoreError
from openami.headend.store.alarms import EVENTS_AT_ONCE_MAX
from openami.headend.store.commands import HeadEndStore

# A person is told within half a minute; each look is five queries, and a write only where something changed.
LOOK_S: Final = 30.0
# Commands that ended, as far back as a month of a large village; the older ones were alarms before.
COMMANDS_LOOKED_AT_MAX: Final = 500
# After the head-end was away itself, what it has not heard meanwhile says nothing of who was silent.
HEARD_FOR: Final = timedelta(minutes=GATEWAY_SILENT_AFTER_MINUTES)
SILENCE: Final = frozenset({StateKind.GATEWAY_SILENT, StateKind.METER_SILENT})

_log = structlog.get_logger("headend.alarms")


class AlarmWatch:
    """Looks every LOOK_S. The store's failures are the stream's to deal with: here they are only waited out."""

    def __init__(self, store: HeadEndStore, clock: Clock, link: Callable[[], BrokerLink]) -> None:
        self._store = store
        self._clock = clock
        self._link = link

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self.look()
                await self._store.prune_alarms(self._clock.now())
            except StoreError as error:
                _log.warning("alarms were not looked at", reason=str(error), remedy=error.remedy)
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Take up everything that came since the last look, then judge the states. Raises StoreError."""
        while await self._look_at_events() == EVENTS_AT_ONCE_MAX:
            pass
        await self._look_at_states()

    async def _look_at_events(self) -> int:
        new = await self._store.new_events()
        if new.events:
            active = await self._store.active_alarms()
            changed = by_events(active, new.events, self._clock.now())
            await self._store.put_alarms(changed, looked_to=new.looked_to)
        return len(new.events)

    async def _look_at_states(self) -> None:
        now = self._clock.now()
        conditions = unknown_ends(await self._store.commands(at_most=COMMANDS_LOOKED_AT_MAX))
        if budgets := await self._store.budgets():
            month = await self._store.traffic(now.date().replace(day=1))
            conditions += over_budget(budgets, month, now)
        judged = frozenset(StateKind)
        if self._hears_for_long(now):
            conditions += silences(await self._store.meters(), await self._store.gateways(), now)
        else:
            judged -= SILENCE
        active = await self._store.active_alarms()
        await self._store.put_alarms(by_states(active, conditions, now, judged=judged))

    def _hears_for_long(self, now: datetime) -> bool:
        link = self._link()
        return link.heard and now - link.since >= HEARD_FOR
