"""Event logs of meters, from the driver's port to the outbox: after the polls, once, and with harm to nobody."""

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.gateway.clock_double import ClockDouble
from tests.gateway.scripted_driver import IMPORT, POWER, VOLTAGE, LoggingMeter
from tests.gateway.test_collector import START, A, B, FullStore, Pole, codes, pole, told

from openami.gateway.driver import (
    EventLog,
    LoggedEvent,
    MeterRefused,
    MeterSilent,
    PollGroup,
    RegisterInfo,
)
from openami.gateway.entries import AppendResult, Draft, Within
from openami.gateway.event_limits import EventLimits
from openami.gateway.event_logs import LOG_READ_TIMEOUT_S
from openami.gateway.log_position import FIRST_LOOK, OVERLAP
from openami.gateway.meter_record import MeterState
from openami.profile import Envelope, EventSource, EventState, Obis, Quality

CLOCK = Obis.parse("1.0.0")
FRAUD_LOG = "0-0:99.98.1"
RAISED, CLEARED, INSTANT = EventState.RAISED, EventState.CLEARED, EventState.INSTANT


def entry(code: int, minutes: float, system: str = "idis", *, believed: bool = True) -> LoggedEvent:
    return LoggedEvent(START + timedelta(minutes=minutes), believed, FRAUD_LOG, code, system)


def ids(envelopes: Iterable[Envelope]) -> list[str]:
    return [envelope.event.event_id for envelope in envelopes if envelope.event is not None]


@pytest.fixture
async def village(tmp_path: Path) -> AsyncIterator[Pole]:
    async with pole(tmp_path) as made:
        yield made


@pytest.fixture
def meter(village: Pole) -> LoggingMeter:
    return village.bench.logging_meter(A)


async def read_up(village: Pole) -> list[Envelope]:
    """Let the collector read all that a first look goes back to; billing every five minutes."""
    await village.run((FIRST_LOOK.days + 5) * 60)
    return await village.new()


def test_the_double_is_a_meter_with_a_log(meter: LoggingMeter, village: Pole) -> None:
    assert isinstance(meter, EventLog)
    assert not isinstance(village.bench.meter(B), EventLog)


async def test_an_entry_is_told_with_its_code_its_numbering_and_its_own_time(
    village: Pole, meter: LoggingMeter
) -> None:
    meter.log = [entry(44, -60), entry(45, -50)]
    envelopes = [e for e in await read_up(village) if e.event]
    assert told(envelopes) == [("meter_cover_open", RAISED), ("meter_cover_open", CLEARED)]
    event = envelopes[0].event
    assert event is not None
    assert event.source is EventSource.METER
    assert (event.code_system, event.code) == ("idis", 44)
    assert event.occurred_at == "2026-07-01T11:00:30Z"
    [register] = envelopes[0].registers
    assert (str(register.obis), register.value, register.unit) == ("96.11.0", 44, "code")
    assert len(set(ids(envelopes))) == 2


async def test_a_code_nobody_knows_is_told_as_it_stands(village: Pole, meter: LoggingMeter) -> None:
    meter.log = [entry(44, -60, "hexing-7")]
    envelopes = [e for e in await read_up(village) if e.event]
    assert told(envelopes) == [("meter_log_entry", INSTANT)]
    assert envelopes[0].event is not None
    assert (envelopes[0].event.code_system, envelopes[0].event.code) == ("hexing-7", 44)


async def test_a_log_is_read_after_the_polls_a_day_at_a_time(
    village: Pole, meter: LoggingMeter
) -> None:
    await village.run(1)
    assert len(meter.spans) == 1
    assert meter.spans[0] == (START - FIRST_LOOK, START - FIRST_LOOK + timedelta(days=1))
    assert meter.asked == [(VOLTAGE, POWER, IMPORT)], "its clock is not asked: it has none"
    await read_up(village)
    assert max(last - first for first, last in meter.spans) <= timedelta(days=1)
    assert meter.spans[-1][1] > START


async def test_what_is_new_is_told_once_however_often_it_is_in_a_span(
    village: Pole, meter: LoggingMeter
) -> None:
    await read_up(village)
    now = (village.clock.now() - START) / timedelta(minutes=1)
    meter.log = [entry(44, now + 1)]
    await village.run(30 * 60)
    assert told(await village.new()) == [("meter_cover_open", RAISED)]
    spans = [span for span in meter.spans if span[0] <= meter.log[0].at <= span[1]]
    assert spans


async def test_a_restart_reads_on_and_repeats_nothing(village: Pole, meter: LoggingMeter) -> None:
    meter.log = [entry(44, -60)]
    first = await read_up(village)
    await village.start()
    meter.spans.clear()
    now = (village.clock.now() - START) / timedelta(minutes=1)
    meter.log.append(entry(45, now - 0.5))
    await village.run(10 * 60)
    assert told(e for e in first if e.event) == [("meter_cover_open", RAISED)]
    assert told(await village.new()) == [("meter_cover_open", CLEARED)]
    assert meter.spans[0][0] > START - 2 * OVERLAP, "it does not go back a week again"


async def test_after_a_power_cut_before_the_position_was_saved_it_is_the_same_event(
    village: Pole, meter: LoggingMeter
) -> None:
    meter.log = [entry(44, -60)]
    await read_up(village)
    record = village.collector.records[A]
    [event_id] = record.log.recent if record.log is not None else ()
    # The database of before: the row without a position, as a power cut leaves it.
    await village.outbox.database.run(lambda c: c.execute("DELETE FROM meter_memory").rowcount)
    await village.start()
    again = [e for e in await read_up(village) if e.event]
    assert told(again) == [("meter_cover_open", RAISED)]
    after = village.collector.records[A].log
    assert after is not None
    assert after.recent == (event_id,)


async def test_a_log_that_does_not_answer_disturbs_nobody_and_is_asked_ever_more_rarely(
    village: Pole, meter: LoggingMeter
) -> None:
    meter.log_fault = MeterSilent("no answer")
    with capture_logs() as logs:
        await village.run(4 * 3600)
    assert village.collector.records[A].state is MeterState.REPORTING
    assert told(await village.new()) == []
    assert len(meter.spans) <= 6, "after two intervals, four, eight …"
    assert [each["meter"] for each in logs if each["event"] == "event log not read"] == [A]
    meter.log_fault = None
    meter.log = [entry(44, -60)]
    await village.run(2 * 3600)
    assert told(await village.new()) == [("meter_cover_open", RAISED)]


async def test_a_log_that_hangs_is_given_up_and_the_next_poll_is_in_time(
    village: Pole, meter: LoggingMeter
) -> None:
    meter.log_hangs = True
    village.collector._logs.timeout_s = 0.02
    assert village.collector._schedule.fast_s > LOG_READ_TIMEOUT_S
    await village.run(3 * 60)
    fast = [e.ts for e in await village.new(B) if VOLTAGE in codes(e)]
    assert len(fast) == 4
    assert village.collector.records[A].state is MeterState.REPORTING


async def test_a_meter_without_the_logs_of_its_map_is_read_as_ever(
    village: Pole, meter: LoggingMeter
) -> None:
    meter.log_fault = MeterRefused("object-undefined")
    await village.run(10 * 60)
    assert village.collector.records[A].state is MeterState.REPORTING


async def test_the_logs_of_a_silent_meter_are_not_asked_for(
    village: Pole, meter: LoggingMeter
) -> None:
    meter.fall_silent()
    await village.run(10 * 60)
    assert meter.spans == []


async def test_each_meter_of_a_line_has_its_turn(village: Pole, meter: LoggingMeter) -> None:
    other = village.bench.logging_meter(B)
    await village.run(1)
    assert len(meter.spans) == len(other.spans) == 1


async def test_a_log_waits_until_the_gateways_clock_is_trusted(tmp_path: Path) -> None:
    clock = ClockDouble(datetime(1970, 1, 1, 0, 1, tzinfo=UTC), boottime_s=60, synchronised=False)
    async with pole(tmp_path, clock) as village:
        meter = village.bench.logging_meter(A)
        await village.run(5 * 60)
        assert meter.spans == []
        clock.set(START, synchronised=True)
        await village.run(5 * 60)
        assert meter.spans


async def test_a_meter_with_a_slow_clock_loses_nothing(village: Pole, meter: LoggingMeter) -> None:
    """An hour behind: what it logs now it says was an hour ago."""
    meter.registers = (*meter.registers, RegisterInfo(CLOCK, "ISO 8601", PollGroup.DAILY))

    def logs(code: int) -> None:
        at = village.clock.now() - timedelta(hours=1)
        meter.log.append(LoggedEvent(at, True, FRAUD_LOG, code, "idis"))

    async def lives(minutes: int) -> None:
        for _ in range(minutes):
            meter.values[CLOCK] = (village.clock.now() - timedelta(hours=1)).isoformat()
            await village.run(60)

    await village.start()
    await lives(FIRST_LOOK.days + 5)
    await village.new()
    logs(44)
    await lives(6)
    logs(45)
    await lives(6)
    found = [e for e in await village.new() if e.event and e.event.source is EventSource.METER]
    assert told(found) == [("meter_cover_open", RAISED), ("meter_cover_open", CLEARED)]


async def test_a_meter_whose_clock_was_reset_tells_what_is_new_and_not_its_history(
    village: Pole, meter: LoggingMeter
) -> None:
    meter.registers = (*meter.registers, RegisterInfo(CLOCK, "ISO 8601", PollGroup.DAILY))
    meter.log = [entry(44, minutes) for minutes in range(-100_000, 0, 1_000)]
    meter.values[CLOCK] = START.isoformat()
    await village.start()
    await read_up(village)
    reset = datetime(2000, 1, 1, 0, 3, tzinfo=UTC)
    meter.values[CLOCK] = reset.isoformat()
    meter.log.append(LoggedEvent(reset, True, FRAUD_LOG, 42, "idis"))
    meter.spans.clear()
    await village.run(20 * 60)
    found = [e for e in await village.new() if e.event and e.event.source is EventSource.METER]
    assert told(found) == [("magnetic_field", RAISED)]
    assert found[0].registers[0].quality is Quality.SUSPECT
    assert sum((b - a for a, b in meter.spans), timedelta()) < timedelta(hours=3)


async def test_a_thousand_entries_are_a_storm_that_is_told_as_one(
    village: Pole, meter: LoggingMeter
) -> None:
    meter.log = [entry(46, -n / 10) for n in range(1_000)] + [entry(44, -0.05)]
    events = [e for e in await read_up(village) if e.event]
    kinds = [kind for kind, _ in told(events)]
    assert kinds.count("event_storm") == 1
    assert len(kinds) == EventLimits().per_hour + 1
    assert "meter_cover_open" in kinds, "the gravest go first"
    await village.run(3600)
    [over] = [e for e in await village.new() if e.event]
    assert over.event is not None
    assert (over.event.type, over.event.state) == ("event_storm", CLEARED)
    assert (
        over.event.detail
        == f"{1_001 - EventLimits().per_hour} events of that hour were only counted"
    )


async def test_what_the_disk_did_not_take_is_told_when_it_does(
    village: Pole, meter: LoggingMeter
) -> None:
    """A condition that still holds, and an entry of the log: neither is held for told."""
    await village.run(60)
    await village.new()
    store = FullStore(village.outbox)
    village.around(store=store)
    meter.values[VOLTAGE] = Decimal(260)
    meter.log = [entry(44, -5 * 24 * 60)]
    await village.run(10 * 60)
    assert await village.new() == []
    store.full = False
    await village.run(15 * 60)
    assert sorted(told(await village.new())) == [
        ("meter_cover_open", RAISED),
        ("over_voltage", RAISED),
    ]


class _Eventless(FullStore):
    """An outbox that takes readings and refuses whatever tells an event."""

    async def append(
        self, drafts: Sequence[Draft], *, within: Within | None = None
    ) -> AppendResult:
        if self.full and not any(draft.envelope.event for draft in drafts):
            return await self.outbox.append(drafts, within=within)
        return await super().append(drafts, within=within)


async def test_what_one_batch_of_a_cycle_tells_is_not_remembered_with_another_of_it(
    village: Pole, meter: LoggingMeter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut follows, so that only what was committed is known."""
    monkeypatch.setattr("openami.gateway.collector.APPEND_ENTRIES_MAX", 1)  # every entry a batch
    await village.run(60)
    village.around(store=_Eventless(village.outbox))
    meter.values[VOLTAGE] = Decimal(260)
    village.collector._save_at_end = _nothing  # type: ignore[method-assign]
    await village.run(3 * 60)  # the third poll tells it, and the next billing poll is yet to come
    assert told(await village.new()) == []
    await village.start()
    await village.run(5 * 60)
    assert told(await village.new()) == [("over_voltage", RAISED)]


async def _nothing() -> None:
    pass
