"""Looks at the clocks of meters that may be set, and sets one when it may be (decision 0059).

Whether and when is `meter_clocks`' to say. A clock that was set is read back and judged like any reading, so its
doubt ends by what it shows. It is told in an event of the meter, as is a step that a person has to take.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, assert_never

import structlog
from msgspec.structs import replace

from openami.gateway.driver import (
    DriverError,
    LoadProfile,
    Meter,
    MeterClock,
    MeterRefused,
    RawReading,
)
from openami.gateway.entries import Draft, Kind
from openami.gateway.event_types import EventType
from openami.gateway.events import CLOCK, clock_reading, event_envelope
from openami.gateway.meter_clocks import (
    CAPTURE_S_MAX,
    SET_AGAIN_AFTER,
    Later,
    Refusal,
    Step,
    capture_period_s,
    clock_step,
    drift_s,
)
from openami.gateway.meter_record import Commit, MeterRecord, Poll, PollResult, after_answer
from openami.gateway.normalise import to_the_millisecond
from openami.profile import EventState, MeterSerial, Quality

# A crystal drifts less than a second in that time; one attribute of each meter is no load.
LOOK_S: Final = 3600.0
# A driver keeps its own deadlines; this one is for a driver that does not.
SETTING_S_MAX: Final = 60.0
# Two captures of any period that is not taken for the longest: how often a meter captures is seen by their times.
_CAPTURED_LATELY: Final = timedelta(seconds=2 * CAPTURE_S_MAX)

_log = structlog.get_logger(__name__)


class ClockSetting:
    """Keeps the clocks of one line's meters, where its configuration allows it."""

    def __init__(
        self,
        steps_s_max: Mapping[MeterSerial, float],
        *,
        line: str,
        context: Callable[[], Poll],
        commit: Commit,
    ) -> None:
        self._steps_s_max = steps_s_max
        self._line = line
        self._context = context
        self._commit = commit
        # By meter, in seconds of this boot: when it is looked at next, and when a refusal is told again.
        self._look_at: dict[MeterSerial, float] = {}
        self._tell_at: dict[MeterSerial, float] = {}

    async def look(
        self,
        meters: Mapping[MeterSerial, Meter],
        records: Mapping[MeterSerial, MeterRecord],
        *,
        within_s: float,
    ) -> bool:
        """Look at one meter's clock, if one is due, and set it if it may be; return whether there was one.

        A meter whose outages are still being read is left alone: the times of its load profile are compared with
        its clock as it ran.
        """
        poll = self._context()
        if not poll.clock_trusted:
            return False
        for serial, step_s_max in self._steps_s_max.items():
            record, meter = records[serial], meters[serial]
            if not record.answers or CLOCK not in record.infos or record.history.outages:
                continue
            if self._look_at.get(serial, 0.0) > poll.boottime_s:
                continue
            if not isinstance(meter, MeterClock):
                self._look_at[serial] = float("inf")
                _log.warning("meter's clock cannot be set", meter=serial, line=self._line)
                continue
            self._look_at[serial] = poll.boottime_s + LOOK_S
            try:
                async with asyncio.timeout(min(within_s, SETTING_S_MAX)):
                    await self._look(meter, record, step_s_max)
            except (DriverError, TimeoutError) as error:
                _log.warning("meter's clock not looked at", meter=serial, reason=str(error))
            return True
        return False

    async def _look(self, meter: Meter, record: MeterRecord, step_s_max: float) -> None:
        told = await meter.read((CLOCK,))
        poll = self._context()
        ahead_s = _ahead_s(told, poll.now)
        if ahead_s is None:
            return
        decision = clock_step(
            ahead_s,
            now=poll.now,
            step_s_max=step_s_max,
            capture_s=await _capture_s(meter, poll.now),
            set_at=record.clock_set_at,
        )
        match decision:
            case None:
                pass
            case Later():
                self._look_at[record.serial] = 0.0  # with the next cycle: the interval goes on
            case Refusal(reason):
                await self._tell(after_answer(record, told, poll), reason, poll)
            case Step(seconds):
                await self._set(meter, record, seconds)
            case _:
                assert_never(decision)

    async def _set(self, meter: Meter, record: MeterRecord, seconds: float) -> None:
        assert isinstance(meter, MeterClock)
        poll = self._context()
        # Whatever the meter says to it, it may have been done: noted first, so that it is not done twice.
        record = replace(record, clock_set_at=to_the_millisecond(poll.now))
        if not await self._commit(record, ()):
            return
        try:
            await meter.set_clock(poll.now)
        except MeterRefused as refusal:
            reason = f"the meter refuses to have its clock set: {refusal}"
            await self._tell(PollResult(record), reason, poll)
            return
        told = await meter.read((CLOCK,))
        poll = self._context()
        judged = after_answer(record, told, poll)
        ahead_s = _ahead_s(told, poll.now)
        now_shows = "and shows no time" if ahead_s is None else f"and is now {ahead_s:+.0f} s off"
        detail = f"the meter's clock was set by {seconds:+.0f} s {now_shows}"
        event = _event(EventType.CLOCK_ADJUSTED, judged.record, detail, poll)
        await self._commit(judged.record, (event, *judged.drafts))
        _log.info("meter's clock set", meter=record.serial, line=self._line, by_s=round(seconds))

    async def _tell(self, judged: PollResult, reason: str, poll: Poll) -> None:
        """Tell a person, once a day, what the gateway may not do."""
        record = judged.record
        if self._tell_at.get(record.serial, 0.0) > poll.boottime_s:
            return
        _log.warning("meter's clock not set", meter=record.serial, reason=reason)
        event = _event(EventType.CLOCK_NOT_SET, record, reason, poll)
        if await self._commit(record, (event, *judged.drafts)):
            self._tell_at[record.serial] = poll.boottime_s + SET_AGAIN_AFTER.total_seconds()


def _ahead_s(told: Sequence[RawReading], now: datetime) -> float | None:
    return next((drift_s(each.value, now) for each in told if each.obis == CLOCK), None)


async def _capture_s(meter: Meter, now: datetime) -> int:
    if not isinstance(meter, LoadProfile):
        return CAPTURE_S_MAX
    try:
        captured = await meter.read_profile(now - _CAPTURED_LATELY, now)
    except MeterRefused:  # what is not captured cannot be doubled
        return CAPTURE_S_MAX
    return capture_period_s([each.meter_time for each in captured if each.meter_time is not None])


def _event(kind: EventType, record: MeterRecord, detail: str, poll: Poll) -> Draft:
    now = to_the_millisecond(poll.now)
    envelope = event_envelope(
        kind,
        EventState.INSTANT,
        source=poll.source,
        serial=record.serial,
        occurred_at=now,
        registers=(clock_reading(now, Quality.GOOD),),
        ts=now,
        detail=detail,
    )
    return Draft(envelope, Kind.EVENT, boottime_s=poll.boottime_s)
