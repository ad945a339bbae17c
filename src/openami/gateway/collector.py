"""meter → driver → normalise → outbox: one task for each line.

The collector keeps the line's turns and the clock's instants, and decides nothing: when is `schedule`'s,
what a poll means is `meter_record`'s. Each cycle ends with one batch in the outbox, which is one commit.

A meter's failure is that meter's: its neighbours are read as if it were not there. A line that is down is
every meter's of that line. A disk that takes no more is said and counted, and the next cycle tries again:
to stop reading would lose the counters' history too, and help nobody.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from itertools import chain
from typing import Protocol

import structlog

from openami.clock import Clock
from openami.gateway.clock_setting import ClockSetting
from openami.gateway.config import ConfigError, LineConfig, ScheduleSettings
from openami.gateway.database import DatabaseError
from openami.gateway.driver import (
    Driver,
    DriverError,
    IdentityMismatch,
    Line,
    LineDown,
    LoadProfile,
    Meter,
    MeterSilent,
    PollGroup,
    RawReading,
)
from openami.gateway.entries import AppendResult, Draft, OutboxError, OutboxFull, Within
from openami.gateway.event_logs import LogReader
from openami.gateway.event_types import EventType
from openami.gateway.meter_record import (
    MeterRecord,
    Poll,
    PollResult,
    after_answer,
    after_clash,
    after_miss,
    after_silent_poll,
)
from openami.gateway.metrics import GatewayMetrics
from openami.gateway.normalise import Source, unit_faults
from openami.gateway.on_change import OnChange
from openami.gateway.outages import BillingInstants
from openami.gateway.outbox import APPEND_ENTRIES_MAX
from openami.gateway.relay_orders import RelayOrders
from openami.gateway.rereading import Rereading
from openami.gateway.schedule import LINE_LOAD_HIGH, Polled, due, next_due
from openami.gateway.snapshot import LineView
from openami.profile import EventState, MeterSerial, Obis, RegisterCatalogue

# A driver keeps its own deadlines; this one is for a driver that does not. Forty reads of a slow line.
METER_READ_TIMEOUT_S = 60.0
# The longest sleep between two looks at the clock, so that a clock set by hand or by NTP is noticed.
CLOCK_LOOK_S = 10.0
# A line that has been down for so many cycles is opened anew: some ports come back only then.
LINE_REOPEN_AFTER_CYCLES = 5
# The collector is alive if it has shown so within this time: a meter's read, a commit, some patience.
ALIVE_WITHIN_S = METER_READ_TIMEOUT_S + 30.0
# Of a cycle, together a day of one meter's quarter hours: live readings that come next wait on a slow uplink for
# some thirty kilobytes of late ones, and no longer.
SPARE_TURNS_MAX = 4
# Less than this share of the interval is left to itself: of a minute, what a stretch may take on a slow line.
SPARE_SHARE_MIN = 0.1
# Last values are written at the end; a disk that hangs must not hold up the end for ever.
LAST_SAVE_TIMEOUT_S = 5.0

_log = structlog.get_logger(__name__)


class Store(Protocol):
    """Where a cycle's drafts go: the outbox."""

    async def append(
        self, drafts: Sequence[Draft], *, within: Within | None = None
    ) -> AppendResult:
        """Store a batch durably, with other work in the same transaction. Raises OutboxError."""
        ...


class Memories(Protocol):
    """Where meters are remembered across a restart."""

    async def save(self, records: Iterable[MeterRecord]) -> None:
        """Remember these meters. Raises DatabaseError."""
        ...

    def keeping(self, records: Iterable[MeterRecord]) -> Within:
        """Return the work of remembering these meters, for the transaction that tells of them."""
        ...


class PollOutcome(StrEnum):
    """How a poll of one meter ended."""

    ANSWER = "answer"
    MISS = "miss"
    CLASH = "clash"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all lines of a gateway share."""

    source: Source
    catalogue: RegisterCatalogue
    settings: ScheduleSettings
    store: Store
    memories: Memories
    clock: Clock
    clock_trusted: Callable[[], bool]
    metrics: GatewayMetrics
    orders: RelayOrders = field(default_factory=RelayOrders)
    on_change: Callable[[], OnChange] = field(default_factory=lambda: partial(OnChange, {}))
    """The rule as it stands at a poll."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    """How to wait; a clock that obeys a test has its own way."""
    read_timeout_s: float = METER_READ_TIMEOUT_S
    clock_look_s: float = CLOCK_LOOK_S


class LineCollector:
    """Polls the meters of one line, for ever."""

    def __init__(
        self,
        line: LineConfig,
        driver: type[Driver],
        records: Mapping[MeterSerial, MeterRecord],
        around: Surroundings,
    ) -> None:
        self._line = line
        self._driver = driver
        self._around = around
        self._schedule = around.settings.schedule
        self._instants = BillingInstants.of(self._schedule)
        self._polled: Mapping[PollGroup, Polled] = {}
        self._logs = LogReader(
            around.source, around.clock, around.clock_trusted, self._schedule.billing_s
        )
        self.records = dict(records)
        self._stored = dict(records)
        """The records as they were when what they tell had been stored."""
        self.view = LineView(line.settings.name)
        self.open_meters: Mapping[MeterSerial, Meter] = {}
        """The line's meters while it is open: the downlink orders relays between the polls' turns."""

        self._rereading = Rereading(
            line=line.settings.name,
            metrics=around.metrics,
            context=self._context,
            commit=self._commit,
        )
        self._clock_setting = ClockSetting(
            line.clock_steps_s_max,
            line=line.settings.name,
            context=self._context,
            commit=self._commit,
        )

    def _close_meters(self) -> None:
        self.open_meters = {}

    async def run(self) -> None:
        """Poll until cancelled; what is remembered of the meters is saved at the end.

        Raises ConfigError when a meter's map contradicts the register list.
        """
        try:
            while True:
                async with AsyncExitStack() as stack:
                    # Before the first instant, because a relay may have to be moved before a poll is due.
                    line = await self._open(stack)
                    groups = await self._due()
                    if isinstance(line, DriverError):
                        line = await self._open(stack)
                    if isinstance(line, DriverError):
                        await self._cycle_of_misses(groups, line)
                    else:
                        await self._poll(line, groups)
        finally:
            await self._save_at_end()

    async def _open(self, stack: AsyncExitStack) -> Line | DriverError:
        """Open the line until the stack ends; return what is wrong with it if it does not open."""
        try:
            line = await stack.enter_async_context(self._driver.open(self._line.settings))
        except DriverError as error:
            return error
        self._learn_registers(line)
        self.open_meters = line.meters
        stack.callback(self._close_meters)
        return line

    async def _poll(self, line: Line, groups: frozenset[PollGroup]) -> None:
        """Poll an open line until it has been down for too long."""
        cycles_down = 0
        while True:
            is_up = await self._cycle(line, groups)
            cycles_down = 0 if is_up else cycles_down + 1
            if cycles_down >= LINE_REOPEN_AFTER_CYCLES:
                return
            await self._use_spare_time(line)
            groups = await self._due()

    def _learn_registers(self, line: Line) -> None:
        for serial, meter in line.meters.items():
            faults = unit_faults(meter.registers, self._around.catalogue)
            if faults:
                raise ConfigError(
                    f"line {self.view.name!r}", f"meter {serial}", faults[0], "correct the map"
                )
            self.records[serial] = self.records[serial].with_registers(
                meter.registers, keeps_profile=isinstance(meter, LoadProfile)
            )

    # --- waiting ---------------------------------------------------------------------------------

    async def _due(self) -> frozenset[PollGroup]:
        """Wait until a group is due."""
        clock, metrics = self._around.clock, self._around.metrics
        while True:
            self._beat()
            now = clock.now()
            found = due(self._schedule, self._polled, now=now, boottime=clock.boottime())
            self._polled = found.polled
            for group, count in found.missed.items():
                metrics.missed_polls.labels(group=group).inc(count)
            if found.groups:
                return found.groups
            at = next_due(self._schedule, self._polled)
            assert at is not None
            wait_s = min((at - now).total_seconds(), self._around.clock_look_s)
            await self._around.sleep(max(wait_s, 0.001))

    async def _use_spare_time(self, line: Line) -> None:
        """Read what is missing, and look at clocks, until the next poll is due: that waits for nothing."""
        for _ in range(SPARE_TURNS_MAX):
            at = next_due(self._schedule, self._polled)
            spare_s = 0.0 if at is None else (at - self._around.clock.now()).total_seconds()
            if spare_s < SPARE_SHARE_MIN * self._schedule.fast_s:
                return
            self._beat()
            if not (
                await self._rereading.reread(line.meters, self.records, within_s=spare_s)
                or await self._clock_setting.look(line.meters, self.records, within_s=spare_s)
            ):
                return

    def _beat(self) -> None:
        self.view.beat_at = asyncio.get_running_loop().time()

    # --- one cycle -------------------------------------------------------------------------------

    async def _cycle(self, line: Line, groups: frozenset[PollGroup]) -> bool:
        """Poll every meter once and store what came of it; return whether the line is up."""
        began_at = asyncio.get_running_loop().time()
        drafts: list[Draft] = []
        silent: list[MeterSerial] = []
        answered = 0
        down: LineDown | None = None
        for serial, record in self.records.items():
            wanted = record.wanted(groups)
            if not wanted:
                continue
            self._beat()
            outcome: Sequence[RawReading] | DriverError
            try:
                outcome = down or await self._read(line.meters[serial], wanted)
            except LineDown as error:
                outcome = down = error
            except DriverError as error:
                outcome = error
            drafts += self._conclude(serial, outcome, groups)
            if isinstance(outcome, MeterSilent):
                silent.append(serial)
            elif not isinstance(outcome, DriverError):
                answered += 1
        drafts += self._silences(silent, answered, groups)
        self._note_line(down)
        await self._store(drafts)
        await self._save(groups)
        self._note_load(asyncio.get_running_loop().time() - began_at)
        if down is None:
            await self._read_logs(line)
        return down is None

    def _silences(
        self, silent: Sequence[MeterSerial], answered: int, groups: frozenset[PollGroup]
    ) -> Sequence[Draft]:
        """Take into the records who was silent while others answered; return what is to be stored."""
        drafts: list[Draft] = []
        for serial in silent:
            poll = self._context(groups, serial)
            result = after_silent_poll(self.records[serial], answered, poll)
            self.records[serial] = result.record
            drafts += result.drafts
        return drafts

    async def _read_logs(self, line: Line) -> None:
        """Read on in the meters' event logs, as far as there is time before the next poll."""
        self._beat()
        at = next_due(self._schedule, self._polled)
        left_s = 0.0 if at is None else (at - self._around.clock.now()).total_seconds()
        await self._store(await self._logs.read(line.meters, self.records, left_s))

    async def _read(self, meter: Meter, wanted: Sequence[Obis]) -> Sequence[RawReading]:
        timeout_s = self._around.read_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await meter.read(wanted)
        except TimeoutError:
            raise MeterSilent(f"{meter.serial} did not answer within {timeout_s:g} s") from None

    async def _cycle_of_misses(self, groups: frozenset[PollGroup], error: DriverError) -> None:
        """The line does not open: none of its meters can answer."""
        drafts: list[Draft] = []
        for serial in self.records:
            drafts += self._conclude(serial, error, groups)
        self._note_line(error)
        await self._store(drafts)
        await self._save(groups)

    def _conclude(
        self,
        serial: MeterSerial,
        outcome: Sequence[RawReading] | DriverError,
        groups: frozenset[PollGroup],
    ) -> Sequence[Draft]:
        """Take what a poll brought into the meter's record; return what is to be stored."""
        poll = self._context(groups, serial)
        record = self.records[serial]
        match outcome:
            case IdentityMismatch():
                result, how = after_clash(record, outcome, poll), PollOutcome.CLASH
            case DriverError():
                result, how = after_miss(record, str(outcome), poll), PollOutcome.MISS
            case _:
                result, how = after_answer(record, outcome, poll), PollOutcome.ANSWER
        self.records[serial] = result.record
        self._count(result, how)
        return result.drafts

    def _context(
        self, groups: frozenset[PollGroup] = frozenset(), serial: MeterSerial | None = None
    ) -> Poll:
        around = self._around
        return Poll(
            source=around.source,
            catalogue=around.catalogue,
            groups=groups,
            now=around.clock.now(),
            boottime_s=around.clock.boottime(),
            clock_trusted=around.clock_trusted(),
            misses_max=around.settings.comms_lost_after_misses,
            instants=self._instants,
            on_change=around.on_change(),
            order=None if serial is None else around.orders.last(serial),
        )

    # --- storing ---------------------------------------------------------------------------------

    async def _store(self, drafts: Sequence[Draft]) -> None:
        self._count_told(drafts)
        fault = remedy = ""
        # What is told is remembered in the same commit: nothing is told twice after a power cut, and no end is
        # lost.
        told = any(draft.envelope.event for draft in drafts)
        keep = self._around.memories.keeping(self.records.values()) if told else None
        for start in range(0, len(drafts), APPEND_ENTRIES_MAX):
            batch = drafts[start : start + APPEND_ENTRIES_MAX]
            is_last = start + APPEND_ENTRIES_MAX >= len(drafts)
            try:
                # Not where a batch before was refused: what it tells is not told.
                within = keep if is_last and not fault else None
                self._note_unfit(await self._around.store.append(batch, within=within))
            except OutboxFull as full:
                fault, remedy = str(full), full.remedy
                self._around.metrics.unstored.inc(full.refused)
                self._note_unfit(full.result)
            except OutboxError as error:
                fault, remedy = str(error), error.remedy
                self._around.metrics.unstored.inc(len(batch))
        if drafts:
            self._note_store_fault(fault, remedy)
        if told and fault:
            # Nobody has it: what still holds at the next poll is told then.
            for serial, record in self.records.items():
                self.records[serial] = record.with_told(self._stored[serial])
        if fault:
            for serial, record in self.records.items():
                self.records[serial] = record.with_nothing_reported()
        self._stored = dict(self.records)

    async def _commit(self, record: MeterRecord, drafts: Sequence[Draft]) -> bool:
        """Store what came of a meter beside its polls, and what is then known of it; return whether it was done."""
        within = self._around.memories.keeping([record])
        try:
            self._note_unfit(await self._around.store.append(drafts, within=within))
        except OutboxError as error:
            self._note_store_fault(str(error), error.remedy)
            return False
        self.records[record.serial] = self._stored[record.serial] = record
        self._count_told(drafts)
        return True

    def _note_unfit(self, result: AppendResult) -> None:
        self._around.metrics.unstored.inc(len(result.unfit))
        for unfit in result.unfit:
            _log.error("envelope unfit", line=self.view.name, error=str(unfit.error))

    async def _save(self, groups: frozenset[PollGroup]) -> None:
        """Remember the meters where counters were read; what was told is remembered as it is told."""
        if PollGroup.BILLING not in groups:
            return
        try:
            await self._around.memories.save(self.records.values())
        except DatabaseError as error:
            self._note_store_fault(str(error), error.remedy)

    async def _save_at_end(self) -> None:
        try:
            async with asyncio.timeout(LAST_SAVE_TIMEOUT_S):
                await asyncio.shield(self._around.memories.save(self.records.values()))
        except (DatabaseError, TimeoutError) as error:
            _log.warning("last values not saved", line=self.view.name, error=str(error))

    # --- telling ---------------------------------------------------------------------------------

    def _count(self, result: PollResult, how: PollOutcome) -> None:
        metrics, record = self._around.metrics, result.record
        metrics.polls.labels(outcome=how).inc()
        for kind, state in result.told:
            _tell(kind, state, record)
        for unusable in result.unusable:
            _log.warning(
                "value left out",
                meter=record.serial,
                obis=str(unusable.obis),
                reason=unusable.reason,
            )

    def _count_told(self, drafts: Sequence[Draft]) -> None:
        """Count a cycle's events and readings; once for all, because to find a label takes its time."""
        metrics = self._around.metrics
        envelopes = [draft.envelope for draft in drafts]
        for type_, count in Counter(e.event.type for e in envelopes if e.event).items():
            metrics.events.labels(type=type_).inc(count)
        registers = chain.from_iterable(e.registers for e in envelopes if not e.event)
        for quality, count in Counter(register.quality for register in registers).items():
            metrics.readings.labels(quality=quality).inc(count)

    def _note_line(self, error: DriverError | None) -> None:
        fault = "" if error is None else str(error)
        if bool(fault) != bool(self.view.fault):
            if fault:
                _log.warning("line down", line=self.view.name, reason=fault)
            else:
                _log.info("line up", line=self.view.name)
        self.view.fault = fault

    def _note_store_fault(self, fault: str, remedy: str) -> None:
        if bool(fault) != bool(self.view.store_fault):
            if fault:
                _log.error("readings not stored", line=self.view.name, reason=fault, remedy=remedy)
            else:
                _log.info("readings are stored again", line=self.view.name)
        self.view.store_fault = fault

    def _note_load(self, cycle_s: float) -> None:
        before, self.view.load = self.view.load, cycle_s / self._schedule.fast_s
        self._around.metrics.cycle_seconds.labels(line=self.view.name).set(cycle_s)
        if self.view.load > LINE_LOAD_HIGH >= before:
            _log.warning(
                "line overloaded",
                line=self.view.name,
                cycle_s=round(cycle_s, 1),
                interval_s=self._schedule.fast_s,
                remedy="raise schedule.fast_s, or move meters to another line",
            )


def _tell(kind: EventType, state: EventState, record: MeterRecord) -> None:
    serious = state is EventState.RAISED
    say = _log.warning if serious else _log.info
    say(
        "meter event",
        type=kind.value,
        state=state.value,
        meter=record.serial,
        line=record.line,
        reason=record.fault,
    )
