"""The gateway's daily statement: after each UTC day it signs what it has recorded (decision 0032).

Counting goes on all day, a bounded step at a time; a statement is made once the day is over by a clock that is
trusted, everything recorded is counted, and nothing waits for its time to be known. It is stored with the note
that it is made in one transaction, so a power cut makes none twice and leaves none out.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import date, datetime, timedelta
from functools import partial
from typing import Final, TypeVar

import structlog

from openami.clock import Clock
from openami.gateway import day_account
from openami.gateway.database import DatabaseError
from openami.gateway.day_account import Part, Progress
from openami.gateway.entries import OutboxError, Sealed
from openami.gateway.outbox import Outbox
from openami.profile import EventTopic, FeederId, GatewayId, MeterSerial
from openami.sip.account import begin_of
from openami.sip.acts import ActType
from openami.sip.compose import printed, sign
from openami.sip.keys import Signer
from openami.sip.statements import statement_members

# Two billing polls after midnight: what was measured before it is stored by then, retries and all.
GRACE: Final = timedelta(minutes=30)
# A month in a drawer; days before it are not stated any more, so that waking up is not a flood.
DAYS_BACK_MAX: Final = 31
# Minutes of telemetry at a time are written to the account together: flash wears.
LOOK_INTERVAL_S: Final = 300.0
# Between two steps of counting, for collectors and uplink to have the database.
STEP_PAUSE_S: Final = 0.05

_log = structlog.get_logger(__name__)

T = TypeVar("T")


def due_day(known: Progress, now: datetime) -> date | None:
    """Return the day whose statement is to be made now, the oldest first (pure)."""
    assert known.stated_until is not None
    day = known.stated_until + timedelta(days=1)
    return day if now >= begin_of(day) + timedelta(days=1) + GRACE else None


def given_up(known: Progress, now: datetime) -> date | None:
    """Return up to which day no statement will be made any more, if there is such a day (pure)."""
    assert known.stated_until is not None
    last = now.date() - timedelta(days=DAYS_BACK_MAX + 1)
    return last if known.stated_until < last else None


class DayStatements:
    """Counts, and states each day once. Made where the gateway has a key to sign with."""

    def __init__(
        self,
        outbox: Outbox,
        signer: Signer,
        *,
        feeder_id: str,
        gateway_id: str,
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._outbox = outbox
        self._signer = signer
        self._topic = EventTopic(
            FeederId(feeder_id), GatewayId(gateway_id), MeterSerial(gateway_id)
        )
        self._clock = clock
        self._sleep = sleep

    async def run(self) -> None:
        """Look every `LOOK_INTERVAL_S`, for ever; a disk that fails is waited for."""
        while True:
            try:
                await self.look()
            except (DatabaseError, OutboxError) as error:
                _log.error("day not counted", reason=str(error), remedy=error.remedy)
            await self._sleep(LOOK_INTERVAL_S)

    async def look(self) -> None:
        """Count what is new, and state the days that are over. Raises DatabaseError and OutboxError."""
        known = await self._run(day_account.progress)
        if known.stated_until is None:
            if not self._trusted:
                return
            await self._run(partial(day_account.begin, today=self._clock.now().date()))
        while await self._run(day_account.count_some):
            await self._sleep(STEP_PAUSE_S)
        if not self._trusted or await self._run(day_account.waits_for_the_clock):
            return
        await self._state_what_is_due()

    @property
    def _trusted(self) -> bool:
        return self._outbox.clock_verdict.trusted

    async def _state_what_is_due(self) -> None:
        while True:
            known, now = await self._run(day_account.progress), self._clock.now()
            too_old = given_up(known, now)
            if too_old is not None:
                _log.warning("days not stated", until=str(too_old))
                await self._run(partial(day_account.skip_to, stated_until=too_old))
                continue
            day = due_day(known, now)
            if day is None:
                return
            await self._state(await self._run(partial(day_account.next_part, day=day)), now)

    async def _state(self, part: Part, now: datetime) -> None:
        def seal(seq: int) -> bytes:
            members = statement_members(
                self._topic, part.day, part.meters, part=part.part, parts=part.parts, ts=now
            )
            signed = sign(
                {**members, "seq": seq},
                self._signer,
                ActType.STATEMENT,
                iat=int(now.timestamp()),
            )
            return printed(signed)

        def note(connection: sqlite3.Connection, _payload: bytes) -> None:
            day_account.note_stated(connection, part)

        await self._outbox.append_sealed(Sealed(str(self._topic), now, seal), within=note)
        _log.info("day stated", day=str(part.day), part=part.part, parts=part.parts)

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._outbox.database.run(work)
