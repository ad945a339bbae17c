"""Reading the event logs meters keep: after the polls, a piece at a time (decision 0057).

What is read here has waited in its meter and can wait on; telemetry cannot. So a log gets what time is left before
the next poll, a meter's log is asked for one piece in a cycle, and one that does not answer is asked ever more
rarely, without its meter being held for silent.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog

from openami.clock import Clock
from openami.gateway.driver import DriverError, EventLog, LoggedEvent, Meter
from openami.gateway.entries import Draft
from openami.gateway.event_drafts import Teller
from openami.gateway.events import CLOCK
from openami.gateway.log_entries import entries
from openami.gateway.log_position import LogPosition, looked, read_up_to, stretch
from openami.gateway.meter_record import MeterRecord
from openami.gateway.normalise import Source
from openami.profile import MeterSerial

# One piece of a log: a hundred entries in segments at 2400 Bd take ten seconds.
LOG_READ_TIMEOUT_S: Final = 20.0
# Of the time that is left before the next poll, logs take this part: a poll must not begin late.
TIME_SHARE: Final = 0.5
# A log that does not answer is asked after two intervals, four …, and at least once a day: it may be mended.
RETRY_INTERVALS_MAX: Final = 96
# A clock outside these years is none, and spans around it might not be dates.
_YEARS: Final = range(1971, 2200)

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Turn:
    """When a meter's log was asked last and may be asked again, in seconds of this boot."""

    asked_at_s: float = float("-inf")
    again_at_s: float = float("-inf")
    failures: int = 0


@dataclass(slots=True)
class LogReader:
    """Reads the logs of one line's meters. ``interval_s``: how often a log that is read to its end is looked at."""

    source: Source
    clock: Clock
    clock_trusted: Callable[[], bool]
    interval_s: float
    timeout_s: float = LOG_READ_TIMEOUT_S
    _turns: dict[MeterSerial, _Turn] = field(default_factory=dict)

    async def read(
        self,
        meters: Mapping[MeterSerial, Meter],
        records: dict[MeterSerial, MeterRecord],
        time_left_s: float,
    ) -> list[Draft]:
        """Read a piece of the logs that are due, and return what is told of them.

        The positions go into ``records``. One log is read however little time is left, so that a busy line has its
        events too.
        """
        drafts: list[Draft] = []
        if not self.clock_trusted():
            return drafts  # what is new is asked for by time, and a log can wait
        loop = asyncio.get_running_loop()
        until = loop.time() + time_left_s * TIME_SHARE
        for serial in self._due(meters, records):
            meter, record = meters[serial], records[serial]
            assert isinstance(meter, EventLog)
            try:
                async with asyncio.timeout(self.timeout_s):
                    position = await self._position(meter, record)
                    found = await self._piece(meter, position)
            except (DriverError, TimeoutError) as error:
                self._failed(serial, error)
            else:
                records[serial], told = self._told(record, position, found)
                drafts += told
                self._succeeded(serial)
            if loop.time() >= until:
                break
        return drafts

    def _due(
        self, meters: Mapping[MeterSerial, Meter], records: Mapping[MeterSerial, MeterRecord]
    ) -> list[MeterSerial]:
        """Return whose log is to be read, the one that has waited longest first."""
        now_s, now = self.clock.boottime(), self.clock.now()
        due = [
            serial
            for serial, record in records.items()
            if isinstance(meters.get(serial), EventLog)
            and record.answers
            and self._turn(serial).again_at_s <= now_s
            and _is_due(record.log, now, self.interval_s)
        ]
        return sorted(due, key=lambda serial: self._turn(serial).asked_at_s)

    def _turn(self, serial: MeterSerial) -> _Turn:
        return self._turns.setdefault(serial, _Turn())

    async def _position(self, meter: Meter, record: MeterRecord) -> LogPosition:
        if record.log is not None and record.log.pending:
            return record.log
        now = self.clock.now()
        told = await _meter_time(meter, record)
        return looked(record.log, meter_time=told or now, now=now)

    async def _piece(self, meter: EventLog, position: LogPosition) -> list[LoggedEvent]:
        span = stretch(position)
        assert span is not None, "a look always leaves something to read"
        first, last = span
        return [each for each in await meter.read_events(first, last) if first <= each.at <= last]

    def _told(
        self, record: MeterRecord, position: LogPosition, found: list[LoggedEvent]
    ) -> tuple[MeterRecord, list[Draft]]:
        span = stretch(position)
        assert span is not None
        now, boottime_s = self.clock.now(), self.clock.boottime()
        new = entries(
            found,
            serial=record.serial,
            recent=position.recent,
            telling=record.telling,
            now=now,
            boottime_s=boottime_s,
        )
        teller = Teller(
            source=self.source,
            serial=record.serial,
            now=now,
            boottime_s=boottime_s,
            per_hour=record.limits.per_hour,
        )
        telling, drafts = teller.drafts(record.telling, new.candidates)
        return record.with_log(read_up_to(position, span[1], new.ids), telling), drafts

    def _failed(self, serial: MeterSerial, error: DriverError | TimeoutError) -> None:
        turn = self._turn(serial)
        turn.failures += 1
        turn.asked_at_s = self.clock.boottime()
        intervals = min(2**turn.failures, RETRY_INTERVALS_MAX)
        turn.again_at_s = turn.asked_at_s + intervals * self.interval_s
        reason = str(error) or f"no answer within {self.timeout_s:g} s"
        if turn.failures == 1:
            _log.warning("event log not read", meter=serial, reason=reason)

    def _succeeded(self, serial: MeterSerial) -> None:
        if self._turn(serial).failures:
            _log.info("event log is read again", meter=serial)
        self._turns[serial] = _Turn(asked_at_s=self.clock.boottime())


def _is_due(position: LogPosition | None, now: datetime, interval_s: float) -> bool:
    if position is None or position.pending:
        return True
    return abs((now - position.at).total_seconds()) >= interval_s


async def _meter_time(meter: Meter, record: MeterRecord) -> datetime | None:
    """Ask a meter what time it is; None where it has no clock to ask, or one that tells no zone."""
    if CLOCK not in record.infos:
        return None
    for reading in await meter.read([CLOCK]):
        try:
            told = datetime.fromisoformat(str(reading.value))
        except ValueError:
            return None
        if told.tzinfo is not None and told.year in _YEARS:
            return told
    return None
