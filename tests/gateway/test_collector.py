"""meter → driver → normalise → outbox, with a real outbox file and meters that do as the test says."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.gateway.clock_double import ClockDouble
from tests.gateway.scripted_driver import (
    IMPORT,
    POWER,
    VOLTAGE,
    Bench,
    ContractBench,
)

from openami.gateway.collector import (
    LINE_REOPEN_AFTER_CYCLES,
    LineCollector,
    Surroundings,
)
from openami.gateway.config import ConfigError, LineConfig, ScheduleSettings
from openami.gateway.driver import (
    LineSettings,
    MeterRefused,
    MeterSettings,
    PollGroup,
    RegisterInfo,
)
from openami.gateway.driver_contract import CHECKS, Check
from openami.gateway.entries import AppendResult, Draft, OutboxError, Within
from openami.gateway.memory import MeterMemories
from openami.gateway.meter_record import MeterRecord, MeterState
from openami.gateway.metrics import GatewayMetrics
from openami.gateway.normalise import Source
from openami.gateway.outbox import Outbox, OutboxLimits, open_outbox
from openami.gateway.schedule import Schedule
from openami.gateway.timekeeping import ClockSource
from openami.profile import (
    Envelope,
    EventState,
    FeederId,
    GatewayId,
    MeterSerial,
    Obis,
    Quality,
    decode_envelope,
    shipped_catalogue,
)

START = datetime(2026, 7, 1, 12, 0, 30, tzinfo=UTC)
A, B = MeterSerial("METER-A"), MeterSerial("METER-B")
SOURCE = Source(FeederId("feeder-1"), GatewayId("pole-1"))
ENTRIES_MAX = 1_000
SUPPLY_LOST = [("power_fail", EventState.RAISED)]


@dataclass
class Pole:
    """One line with two meters, its outbox, and a clock that runs as fast as the collector asks."""

    bench: Bench
    outbox: Outbox
    clock: ClockDouble
    metrics: GatewayMetrics = field(default_factory=GatewayMetrics)
    clock_steps_s_max: Mapping[MeterSerial, float] = field(default_factory=dict)
    serials: Sequence[MeterSerial] = (A, B)
    collector: LineCollector = field(init=False)
    read_so_far: int = 0
    _until: datetime = START
    _there: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self, boot_id: str = "this boot") -> None:
        """Make a collector, as the gateway does when its process starts."""
        memories = MeterMemories(self.outbox.database, boot_id)
        names = [MeterRecord(serial=serial, line="bus") for serial in self.serials]
        records = await memories.recall(names)
        meters = [MeterSettings(serial) for serial in self.serials]
        self.collector = LineCollector(
            LineConfig(
                "scripted",
                LineSettings("bus", meters),
                clock_steps_s_max=self.clock_steps_s_max,
            ),
            self.bench.driver(),
            {record.serial: record for record in records},
            Surroundings(
                source=SOURCE,
                catalogue=shipped_catalogue(),
                settings=ScheduleSettings(fast_s=60, billing_s=300),
                store=self.outbox,
                memories=memories,
                clock=self.clock,
                clock_trusted=lambda: self.outbox.clock_verdict.trusted,
                metrics=self.metrics,
                sleep=self._sleep,
            ),
        )

    async def run(self, seconds: float) -> None:
        """Let the collector live for so long, from a start of its own to its end."""
        self._until = self.clock.now() + timedelta(seconds=seconds)
        self._there.clear()
        async with asyncio.TaskGroup() as group:
            living = group.create_task(self.collector.run())
            arrived = group.create_task(self._there.wait())
            await asyncio.wait({living, arrived}, return_when=asyncio.FIRST_COMPLETED)
            living.cancel()
            arrived.cancel()

    async def _sleep(self, seconds: float) -> None:
        left = (self._until - self.clock.now()).total_seconds()
        if left <= 0:
            self._there.set()
            await asyncio.Event().wait()
        self.clock.advance(min(seconds, left))
        await asyncio.sleep(0)

    def around(self, **changed: Any) -> None:
        """Change what surrounds the collector."""
        self.collector._around = replace(self.collector._around, **changed)

    async def new(self, serial: MeterSerial = A) -> list[Envelope]:
        """Return a meter's envelopes since the last question, oldest first."""
        entries = await self.outbox.pending(ENTRIES_MAX)
        envelopes = sorted(
            (decode_envelope(entry.payload) for entry in entries), key=lambda e: e.seq or 0
        )
        found = [
            e for e in envelopes if (e.seq or 0) > self.read_so_far and e.meter_serial == serial
        ]
        self.read_so_far = self.outbox.last_seq
        return found

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics._registry.get_sample_value(f"openami_gateway_{name}", labels) or 0.0


@asynccontextmanager
async def pole(directory: Path, clock: ClockDouble | None = None) -> AsyncIterator[Pole]:
    clock = clock or ClockDouble(START)
    opening = open_outbox(
        directory / "gateway.db", OutboxLimits(), clock, clock_source=ClockSource.NETWORK
    )
    async with opening as outbox:
        made = Pole(Bench(), outbox, clock)
        await made.start()
        yield made


@pytest.fixture
async def village(tmp_path: Path) -> AsyncIterator[Pole]:
    async with pole(tmp_path) as made:
        yield made


def told(envelopes: Iterable[Envelope]) -> list[tuple[str, EventState]]:
    return [(e.event.type, e.event.state) for e in envelopes if e.event is not None]


def codes(envelope: Envelope) -> set[Obis]:
    return {register.obis for register in envelope.registers}


def qualities(envelope: Envelope) -> set[Quality]:
    return {register.quality for register in envelope.registers}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_the_double_keeps_the_driver_contract(check: Check) -> None:
    await check(ContractBench())


# --- on schedule ---------------------------------------------------------------------------------


async def test_each_group_is_read_at_its_instants_and_stored_with_its_time(village: Pole) -> None:
    await village.run(5 * 60)
    envelopes = await village.new()
    fast = [e.ts for e in envelopes if codes(e) == {VOLTAGE, POWER}]
    billing = [e.ts for e in envelopes if codes(e) == {IMPORT}]
    minute = START + timedelta(seconds=30)
    assert fast == [START, *(minute + timedelta(minutes=n) for n in range(5))]
    assert billing == [START, minute + timedelta(minutes=4)]
    assert [e.seq for e in await village.new(B)] == []
    assert village.metric("readings_total", quality="good") == 2 * (6 * 2 + 2)


async def test_a_cycle_is_one_batch_and_groups_due_together_are_one_question(
    village: Pole,
) -> None:
    await village.run(1)
    assert village.bench.meter(A).asked == [(VOLTAGE, POWER, IMPORT)]
    assert {e.ts for e in await village.new()} == {START}
    assert village.outbox.last_seq == 4  # two meters, two groups


async def test_what_cannot_be_done_in_time_is_skipped_and_counted(village: Pole) -> None:
    await village.run(31)  # 12:01:01
    village.clock.advance(200)  # 12:04:21, the machine slept
    await village.new()
    await village.run(10)
    assert [e.ts.minute for e in await village.new() if codes(e) == {VOLTAGE, POWER}] == [4]
    assert village.metric("missed_polls_total", group="fast") == 2
    assert village.metric("missed_polls_total", group="billing") == 0


async def test_the_length_of_a_cycle_is_told(village: Pole) -> None:
    await village.run(1)
    assert 0 < village.collector.view.load < 0.1
    assert village.metric("cycle_seconds", line="bus") == pytest.approx(
        village.collector.view.load * 60
    )


async def test_a_line_too_slow_for_its_interval_is_said_with_a_remedy(village: Pole) -> None:
    village.around(read_timeout_s=0.6)
    village.collector._schedule = Schedule(fast_s=1, billing_s=5)
    for serial in (A, B):
        village.bench.meter(serial).hangs = True
    with capture_logs() as logs:
        await village.run(0.5)
    assert village.collector.view.load > 1
    (said,) = [entry for entry in logs if entry["event"] == "line overloaded"]
    assert "schedule.fast_s" in said["remedy"]


# --- one meter's failure -------------------------------------------------------------------------


async def test_a_silent_meter_costs_its_neighbour_nothing(village: Pole) -> None:
    village.bench.meter(A).fall_silent()
    await village.run(5 * 60)
    entries = await village.new(B)
    assert len(entries) == 8
    assert all(qualities(e) == {Quality.GOOD} for e in entries)


async def test_a_meter_is_lost_after_three_misses_and_told_once(village: Pole) -> None:
    await village.run(40)  # 12:01:10: read twice
    read = await village.new()
    last = {r.obis: (e.ts, r.value) for e in read for r in e.registers}
    meter = village.bench.meter(A)
    meter.fall_silent()
    await village.run(3 * 60)  # 12:02, 12:03 and 12:04
    envelopes = await village.new()
    assert told(envelopes) == [
        ("comms_lost", EventState.RAISED),
        ("power_fail", EventState.RAISED),  # its neighbour answers
    ]
    assert village.collector.records[A].state is MeterState.METER_SILENT
    lost = [e for e in envelopes if e.event is None]
    assert {r.obis: (e.ts, r.value) for e in lost for r in e.registers} == last
    assert all(qualities(e) == {Quality.COMMS_LOST} for e in envelopes if told([e]) != SUPPLY_LOST)
    event = next(e.event for e in envelopes if e.event)
    assert event.detail == f"{A} does not answer within 1 s"
    assert event.occurred_at == "2026-07-01T12:04:00Z"


async def test_two_misses_are_no_loss(village: Pole) -> None:
    await village.run(40)
    await village.new()
    village.bench.meter(A).fall_silent()
    await village.run(2 * 60)
    assert await village.new() == []
    assert village.collector.records[A].state is MeterState.REPORTING
    assert village.metric("polls_total", outcome="miss") == 2


async def test_a_lost_meter_is_told_again_with_each_billing_poll(village: Pole) -> None:
    await village.run(40)
    village.bench.meter(A).fall_silent()
    await village.run(3 * 60)
    await village.new()
    await village.run(10 * 60)  # billing at 12:05 and 12:10
    envelopes = await village.new()
    assert told(envelopes) == []
    assert len({e.ts for e in envelopes}) == 2
    assert sum(codes(e) == {IMPORT} for e in envelopes) == 2


async def test_a_meter_that_answers_again_is_told_restored(village: Pole) -> None:
    await village.run(40)
    meter = village.bench.meter(A)
    meter.fall_silent()
    await village.run(3 * 60)
    await village.new()
    meter.recover()
    await village.run(60)
    envelopes = await village.new()
    assert told(envelopes) == [
        ("comms_restored", EventState.CLEARED),
        ("power_fail", EventState.CLEARED),
    ]
    assert all(qualities(e) == {Quality.GOOD} for e in envelopes)
    assert village.collector.records[A].fault == ""


async def test_a_counter_whose_instant_was_missed_is_read_with_the_next_answer(
    village: Pole,
) -> None:
    await village.run(4 * 60)  # 12:04:30
    village.bench.meter(A).fall_silent()
    await village.run(60)  # 12:05 misses the billing instant
    village.bench.meter(A).recover()
    await village.new()
    await village.run(2 * 60)
    times = [e.ts for e in await village.new() if codes(e) == {IMPORT}]
    assert times == [START + timedelta(minutes=5, seconds=30)]


async def test_a_meter_that_was_never_read_is_told_by_its_serial_number(village: Pole) -> None:
    village.bench.meter(A).fault = MeterRefused("is the map the right one?")
    await village.run(3 * 60)
    (envelope,) = await village.new()
    assert told([envelope]) == [("comms_lost", EventState.RAISED)]
    (register,) = envelope.registers
    assert (str(register.obis), register.value) == ("96.1.0", A)
    assert register.quality is Quality.COMMS_LOST


async def test_a_driver_that_never_returns_is_a_silent_meter(village: Pole) -> None:
    village.around(read_timeout_s=0.02)
    village.bench.meter(B).hangs = True
    await village.run(60)
    assert village.collector.records[B].fault == f"{B} did not answer within 0.02 s"
    assert village.collector.records[A].state is MeterState.REPORTING


# --- another meter at the address ----------------------------------------------------------------


async def test_nothing_of_a_foreign_meter_is_published(village: Pole) -> None:
    await village.run(40)
    await village.new()
    village.bench.meter(A).be_exchanged()
    await village.run(10 * 60)
    (envelope,) = await village.new()
    assert told([envelope]) == [("address_clash", EventState.RAISED)]
    (register,) = envelope.registers
    assert (str(register.obis), register.value) == ("96.1.0", "SOMEBODY-ELSE")
    assert register.quality is Quality.SUSPECT
    assert village.collector.records[A].state is MeterState.ADDRESS_CLASH
    assert village.metric("polls_total", outcome="clash") == 10


async def test_the_right_meter_back_ends_the_clash(village: Pole) -> None:
    village.bench.meter(A).be_exchanged()
    await village.run(60)
    village.bench.meter(A).recover()
    await village.new()
    await village.run(60)
    assert told(await village.new()) == [("address_clash", EventState.CLEARED)]


# --- values --------------------------------------------------------------------------------------


async def test_a_counter_that_goes_back_is_told_beside_its_suspect_reading(village: Pole) -> None:
    await village.run(1)
    await village.new()
    village.bench.meter(A).values[IMPORT] = Decimal(12)
    await village.run(5 * 60)
    event, *telemetry = [e for e in await village.new() if IMPORT in codes(e)]
    assert told([event]) == [("register_rollback", EventState.RAISED)]
    assert event.event is not None
    assert event.event.detail == "1.8.0: 12.0 after 1842.5 kWh"
    assert {qualities(e).pop() for e in telemetry} == {Quality.SUSPECT}
    assert village.collector.records[A].state is MeterState.SUSPECT


async def test_a_value_of_another_type_is_left_out(village: Pole) -> None:
    village.bench.meter(A).values[VOLTAGE] = "230"
    await village.run(60)
    fast = [e for e in await village.new() if POWER in codes(e)]
    assert [codes(e) for e in fast] == [{POWER}, {POWER}]
    assert village.collector.records[A].unusable == {VOLTAGE}


async def test_a_map_that_contradicts_the_register_list_ends_the_start(village: Pole) -> None:
    village.bench.meter(A).registers = [RegisterInfo(IMPORT, "Wh", PollGroup.BILLING)]
    with pytest.raises(ExceptionGroup) as caught:
        await village.run(1)
    (error,) = caught.value.exceptions
    assert isinstance(error, ConfigError)
    assert str(error).startswith("line 'bus': meter METER-A: 1.8.0 (Active energy import, total)")


# --- the line ------------------------------------------------------------------------------------


async def test_a_line_that_does_not_open_loses_its_meters_and_finds_them_again(
    village: Pole,
) -> None:
    village.bench.go_down()
    await village.run(3 * 60)
    assert told(await village.new()) == [("comms_lost", EventState.RAISED)]
    assert village.collector.view.fault == "/dev/ttyUSB0 is not there"
    village.bench.broken = None
    await village.run(60)
    assert told(await village.new()) == [("comms_restored", EventState.CLEARED)]
    assert village.collector.view.fault == ""


async def test_a_line_that_breaks_is_asked_once_a_cycle_and_opened_anew_after_some(
    village: Pole,
) -> None:
    village.bench.opened = 0

    async def cut_and_mend(seconds: float) -> None:
        if village.bench.broken is None and village.bench.opened == 1:
            village.bench.go_down()
        if len(village.bench.meter(A).asked) > LINE_REOPEN_AFTER_CYCLES:
            village.bench.broken = None
        await village._sleep(seconds)

    village.around(sleep=cut_and_mend)
    await village.run((LINE_REOPEN_AFTER_CYCLES + 2) * 60)
    assert village.bench.opened == 2
    asked = {serial: len(village.bench.meter(serial).asked) for serial in (A, B)}
    assert asked[A] == asked[B] + LINE_REOPEN_AFTER_CYCLES


# --- restarts and disks --------------------------------------------------------------------------


async def test_last_values_and_what_was_told_survive_a_restart(village: Pole) -> None:
    await village.run(1)
    village.bench.meter(A).fall_silent()
    await village.run(3 * 60)
    before = village.collector.records[A]
    await village.new()
    await village.start()
    assert village.collector.records[A].memory == before.memory
    await village.run(10)
    envelopes = await village.new()
    assert told(envelopes) == []  # lost it was, and lost it is
    assert {qualities(e).pop() for e in envelopes} == {Quality.COMMS_LOST}
    village.bench.meter(A).recover()
    await village.run(60)
    assert told(await village.new()) == [
        ("comms_restored", EventState.CLEARED),
        ("power_fail", EventState.CLEARED),
    ]


async def test_a_rollback_is_seen_across_a_restart(village: Pole) -> None:
    await village.run(1)
    await village.start()
    village.bench.meter(A).values[IMPORT] = Decimal(3)
    await village.new()
    await village.run(1)
    assert told(await village.new()) == [("register_rollback", EventState.RAISED)]


class FullStore:
    """An outbox whose disk is full until it is not."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.full = True

    async def append(
        self, drafts: Sequence[Draft], *, within: Within | None = None
    ) -> AppendResult:
        if self.full:
            raise OutboxError("the disk is full", remedy="free some space", permanent=False)
        return await self.outbox.append(drafts, within=within)


async def test_a_disk_that_takes_no_more_is_said_and_counted_and_tried_again(
    village: Pole,
) -> None:
    store = FullStore(village.outbox)
    village.around(store=store)
    await village.run(60)
    assert village.collector.view.store_fault == "the disk is full"
    assert village.metric("unstored_messages_total") == 2 * (2 + 1)
    store.full = False
    await village.run(60)
    assert village.collector.view.store_fault == ""
    assert {e.ts.minute for e in await village.new()} == {2}


async def test_last_values_dated_by_a_wrong_clock_are_told_with_their_true_time(
    tmp_path: Path,
) -> None:
    clock = ClockDouble(datetime(1970, 1, 1, 0, 1, tzinfo=UTC), boottime_s=60, synchronised=False)
    async with pole(tmp_path, clock) as village:
        await village.run(1)
        assert await village.new() == []  # held
        clock.set(START + timedelta(seconds=1), synchronised=True)
        village.bench.meter(A).fall_silent()
        await village.run(3 * 60)
        lost = [e for e in await village.new() if qualities(e) == {Quality.COMMS_LOST}]
        assert {e.ts for e in lost} == {START}
