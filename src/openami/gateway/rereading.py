"""After an outage: the missing billing readings from the meter's load profile, in the time that polls leave over.

What is missing is `outages`' to say, what a row means `late_readings`'. Here is the asking: one stretch at a time,
meters in turn, cut off when the next poll is due. A stretch's readings and the note that it was asked for are one
commit, so a power cut has nothing read twice and nothing left out. It is telemetry like any other, appended
behind the cycle's own.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog
from msgspec.structs import replace

from openami.gateway.driver import DriverError, LoadProfile, Meter, MeterRefused, RawReading
from openami.gateway.entries import Draft, Kind
from openami.gateway.event_types import EventType
from openami.gateway.events import CLOCK, event_envelope, serial_reading
from openami.gateway.late_readings import late_readings
from openami.gateway.meter_clocks import drift_s
from openami.gateway.meter_record import Commit, MeterRecord, Poll, telemetry
from openami.gateway.metrics import GatewayMetrics
from openami.gateway.normalise import METER_CLOCK_DRIFT_S_MAX, to_the_millisecond
from openami.gateway.outages import FAILURES_MAX, Outage, Stretch, finished, next_stretch
from openami.profile import EventState, MeterSerial, Quality, utc_text

# A disturbance is over in minutes; each failure rests twice as long, and the meter's polls go on.
REST_S: Final = 300.0
# A relay's order waits for the line's turn no longer: six hours of rows take some two seconds at 9600 Bd, twelve at
# 1200, and what takes longer is asked for by halves.
STRETCH_READ_S_MAX: Final = 15.0

_log = structlog.get_logger(__name__)


class Rereading:
    """Reads one line's missing intervals."""

    def __init__(
        self,
        *,
        line: str,
        metrics: GatewayMetrics,
        context: Callable[[], Poll],
        commit: Commit,
    ) -> None:
        self._line = line
        self._metrics = metrics
        self._context = context
        self._commit = commit
        self._last: MeterSerial | None = None
        self._rests_until: dict[MeterSerial, float] = {}  # by meter: seconds of this boot

    async def reread(
        self,
        meters: Mapping[MeterSerial, Meter],
        records: Mapping[MeterSerial, MeterRecord],
        *,
        within_s: float,
    ) -> bool:
        """Read one stretch of one meter; return whether there was anything to do."""
        poll = self._context()
        if not poll.clock_trusted:
            return False
        for serial in self._in_turn(records):
            record, meter = records[serial], meters[serial]
            if not (record.answers and isinstance(meter, LoadProfile)):
                continue
            if self._rests_until.get(serial, 0.0) > poll.boottime_s:
                continue
            if done := finished(record.history, poll.instants, poll.now):
                lost, after, drafts = _given_up(record, done, poll)
                if await self._commit(after, drafts):
                    self._metrics.reread.labels(outcome="lost").inc(lost)
            elif stretch := next_stretch(record.history, poll.instants, poll.now):
                await self._read(meter, record, stretch, within_s)
            else:
                continue
            self._last = serial
            return True
        return False

    def _in_turn(self, records: Mapping[MeterSerial, MeterRecord]) -> list[MeterSerial]:
        waiting = [serial for serial, record in records.items() if record.history.outages]
        at = waiting.index(self._last) + 1 if self._last in waiting else 0
        return waiting[at:] + waiting[:at]

    async def _read(
        self,
        meter: Meter,
        record: MeterRecord,
        stretch: Stretch,
        within_s: float,
    ) -> None:
        outage = stretch.outage
        try:
            async with asyncio.timeout(min(within_s, STRETCH_READ_S_MAX)):
                ahead_s = await self._clock_ahead_s(meter, record)
                wrong = ahead_s is not None and abs(ahead_s) > METER_CLOCK_DRIFT_S_MAX
                told = () if wrong else await _profile(meter, stretch)
        except TimeoutError:
            await self._note_failure(record, outage, "it was not done in time")
        except DriverError as error:
            await self._note_failure(record, outage, str(error))
        else:
            if wrong:
                await self._change(record, outage, replace(outage, clock_doubted=True))
            else:
                await self._take(record, stretch, told, compared=ahead_s is not None)

    async def _clock_ahead_s(self, meter: Meter, record: MeterRecord) -> float | None:
        """Return how far the meter's clock is ahead now; None where it tells no time that could be compared."""
        if CLOCK not in record.infos:
            return None
        try:
            told = await meter.read((CLOCK,))
        except MeterRefused:
            return None
        now = self._context().now
        return next((drift_s(each.value, now) for each in told if each.obis == CLOCK), None)

    async def _take(
        self,
        record: MeterRecord,
        stretch: Stretch,
        told: Sequence[RawReading],
        *,
        compared: bool,
    ) -> None:
        poll = self._context()
        late = late_readings(
            stretch,
            told,
            infos=record.infos,
            catalogue=poll.catalogue,
            now=poll.now,
            clock_compared=compared,
        )
        for unusable in late.unusable:
            _log.warning(
                "captured value left out",
                meter=record.serial,
                obis=str(unusable.obis),
                reason=unusable.reason,
            )
        held = late.outage.held - stretch.outage.held
        _log.info(
            "load profile read",
            meter=record.serial,
            line=self._line,
            first=utc_text(stretch.first),
            last=utc_text(stretch.last),
            held=held,
            asked=len(stretch.instants),
        )
        drafts = list(telemetry(record, late.readings, poll.source))
        stored = await self._change(record, stretch.outage, late.outage, drafts)
        if stored:
            self._metrics.reread.labels(outcome="held").inc(held)

    async def _note_failure(
        self,
        record: MeterRecord,
        outage: Outage,
        reason: str,
    ) -> None:
        _log.warning("load profile not read", meter=record.serial, line=self._line, reason=reason)
        failed = replace(outage, failures=outage.failures + 1)
        if failed.failures < FAILURES_MAX:
            self._rest(record.serial, REST_S * 2**outage.failures)
        await self._change(record, outage, failed)

    async def _change(
        self,
        record: MeterRecord,
        outage: Outage,
        changed: Outage,
        drafts: Sequence[Draft] = (),
    ) -> bool:
        history = record.history.with_changed(outage, changed)
        stored = await self._commit(replace(record, history=history), drafts)
        if not stored:
            self._rest(record.serial, REST_S)
        return stored

    def _rest(self, serial: MeterSerial, seconds: float) -> None:
        self._rests_until[serial] = self._context().boottime_s + seconds


async def _profile(meter: Meter, stretch: Stretch) -> Sequence[RawReading]:
    assert isinstance(meter, LoadProfile), "only meters that keep one have outages"
    return await meter.read_profile(stretch.first, stretch.last)


def _given_up(
    record: MeterRecord, done: Outage, poll: Poll
) -> tuple[int, MeterRecord, Sequence[Draft]]:
    """Return what is lost of an outage, the record without it, and the event that tells it once."""
    after = replace(record, history=record.history.without(done))
    missed = done.missed(poll.instants)
    lost = done.lost + len(missed) - done.held
    if not lost:
        return 0, after, ()
    now = to_the_millisecond(poll.now)
    envelope = event_envelope(
        EventType.INTERVALS_LOST,
        EventState.INSTANT,
        source=poll.source,
        serial=record.serial,
        occurred_at=now,
        registers=(serial_reading(record.serial, Quality.GOOD),),
        ts=now,
        detail=f"{lost} billing intervals between {utc_text(done.after.ts)} and "
        f"{utc_text(done.before.ts)} are lost: {_why(done)}",
    )
    return lost, after, (Draft(envelope, Kind.EVENT, boottime_s=poll.boottime_s),)


def _why(done: Outage) -> str:
    if done.clock_doubted:
        return "the meter's clock was wrong, so the times of its load profile are not believed"
    if done.failures >= FAILURES_MAX:
        return "its load profile could not be read"
    return "its load profile does not hold them"
