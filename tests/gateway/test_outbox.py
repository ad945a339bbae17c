"""What an outbox promises to those who append, to the uplink, and to a head-end that asks again."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.gateway.clock_double import START, ClockDouble
from tests.gateway.outbox_samples import all_pending, event, rows, telemetry

from openami.gateway.outbox import (
    APPEND_ENTRIES_MAX,
    Draft,
    Kind,
    Outbox,
    OutboxLimits,
    open_outbox,
)
from openami.gateway.timekeeping import ClockSource
from openami.profile import Code, Obis, Quality, RegisterReading, decode_envelope, parse_topic

LIMITS = OutboxLimits()
HOUR = timedelta(hours=1)


@pytest.fixture
def clock() -> ClockDouble:
    return ClockDouble()


@pytest.fixture
async def outbox(tmp_path: Path, clock: ClockDouble) -> AsyncIterator[Outbox]:
    async with open_outbox(tmp_path / "gateway.db", LIMITS, clock) as opened:
        yield opened


async def test_what_is_appended_can_be_sent_under_its_number(outbox: Outbox) -> None:
    result = await outbox.append([telemetry(START, 1), telemetry(START, 2)])
    assert result.seqs == (1, 2)
    assert outbox.last_seq == result.last_seq == 2
    newest, oldest = await outbox.pending(10)
    assert (newest.seq, oldest.seq) == (2, 1)
    envelope = decode_envelope(newest.payload)
    assert envelope.seq == 2
    assert envelope.ts == START
    assert newest.topic == "openami/v1/feeder-north/pole-7/meter/DS1000-00002/telemetry"
    parse_topic(newest.topic)


async def test_events_go_before_telemetry_and_each_newest_first(outbox: Outbox) -> None:
    await outbox.append([telemetry(START), event(START), telemetry(START, 2)])
    await outbox.append([event(START, 2), telemetry(START, 3)])
    assert await all_pending(outbox) == [4, 2, 5, 3, 1]
    assert [entry.seq for entry in await outbox.pending(3)] == [4, 2, 5]
    topics = {entry.kind: entry.topic for entry in await outbox.pending(5)}
    assert topics[Kind.EVENT].endswith("/event")


async def test_the_uplink_can_ask_for_the_live_and_for_what_it_has_not_in_hand(
    outbox: Outbox,
) -> None:
    await outbox.append([event(START), *(telemetry(START, meter) for meter in range(5))])
    live = await outbox.pending(10, after=4)
    assert [entry.seq for entry in live] == [1, 6, 5]
    rest = await outbox.pending(10, excluding=[1, 5, 6])
    assert [entry.seq for entry in rest] == [4, 3, 2]
    without_one_meter = await outbox.pending(10, after=4, paused=[live[1].topic])
    assert [entry.seq for entry in without_one_meter] == [1, 5]


async def test_what_is_marked_is_not_offered_again_and_is_kept(outbox: Outbox) -> None:
    await outbox.append([telemetry(START, meter) for meter in range(3)])
    await outbox.mark_sent([2, 3], START)
    assert await all_pending(outbox) == [1]
    state = await outbox.state()
    assert (state.pending, state.kept) == (1, 2)
    await outbox.mark_sent([2, 99], START)  # twice, and one that never was
    await outbox.set_aside([1], START, "no")
    await outbox.mark_sent([1], START)  # refused is not sent
    assert (await outbox.state()).kept == 2


async def test_appending_nothing_is_no_news(outbox: Outbox) -> None:
    assert (await outbox.append([])).seqs == ()
    assert not outbox.appended.is_set()
    await outbox.append([telemetry(START)])
    assert outbox.appended.is_set()


async def test_a_batch_at_its_bound_is_taken_and_a_larger_one_is_a_bug(outbox: Outbox) -> None:
    await outbox.append([telemetry(START)] * APPEND_ENTRIES_MAX)
    with pytest.raises(AssertionError):
        await outbox.append([telemetry(START)] * (APPEND_ENTRIES_MAX + 1))


async def test_a_draft_no_head_end_could_accept_does_not_cost_the_others(outbox: Outbox) -> None:
    good = telemetry(START)
    too_long = RegisterReading(Obis.parse("96.1.0"), "x" * 70_000, "", Quality.GOOD)
    bad = Draft(replace(good.envelope, registers=(too_long,)))
    result = await outbox.append([good, bad, good])
    assert result.seqs == (1, 2)
    assert [unfit.error.code for unfit in result.unfit] == [Code.TOO_LARGE]
    assert await all_pending(outbox) == [2, 1]


async def test_numbers_go_on_after_a_restart_though_every_entry_is_gone(
    tmp_path: Path, clock: ClockDouble
) -> None:
    path = tmp_path / "gateway.db"
    limits = OutboxLimits(kept_days=0.0)
    async with open_outbox(path, limits, clock) as outbox:
        await outbox.append([telemetry(START)])
        await outbox.mark_sent([1], clock.now())
        clock.advance(3600)
        await outbox.append([])  # the bounds in time are kept when something is appended
        assert (await outbox.state()).kept == 0
    assert rows(path, "SELECT count(*) FROM outbox_entry") == [(0,)]
    async with open_outbox(path, limits, clock) as outbox:
        assert outbox.last_seq == 1
        assert (await outbox.append([telemetry(clock.now())])).seqs == (2,)


async def test_a_restart_wakes_the_uplink_if_there_is_something_to_send(
    tmp_path: Path, clock: ClockDouble
) -> None:
    path = tmp_path / "gateway.db"
    async with open_outbox(path, LIMITS, clock) as outbox:
        await outbox.append([telemetry(START), event(START)])
        before = await outbox.pending(10)
    async with open_outbox(path, LIMITS, clock) as outbox:
        assert outbox.appended.is_set()
        assert await outbox.pending(10) == before
        await outbox.mark_sent([1, 2], START)
    async with open_outbox(path, LIMITS, clock) as outbox:
        assert not outbox.appended.is_set()


# --- what was sent can be asked for again


async def test_what_was_sent_is_sent_again_byte_for_byte(outbox: Outbox) -> None:
    await outbox.append([telemetry(START + n * HOUR) for n in range(4)])
    before = await outbox.pending(10)
    await outbox.mark_sent([1, 2, 3, 4], START)
    outbox.appended.clear()
    resent = await outbox.resend(START + HOUR, START + 3 * HOUR)
    assert (resent.entries, resent.complete) == (2, True)
    assert outbox.appended.is_set()
    assert await outbox.pending(10) == [entry for entry in before if entry.seq in (2, 3)]
    assert outbox.backlog_until == 4


async def test_the_range_of_a_resend_takes_its_start_and_not_its_end(outbox: Outbox) -> None:
    tick = timedelta(microseconds=1)
    await outbox.append([telemetry(START)])
    await outbox.mark_sent([1], START)
    assert (await outbox.resend(START - HOUR, START)).entries == 0
    assert (await outbox.resend(START + tick, START + HOUR)).entries == 0
    assert (await outbox.resend(START, START + tick)).entries == 1


async def test_a_resend_is_bounded_and_says_whether_there_is_more(outbox: Outbox) -> None:
    await outbox.append([telemetry(START, meter) for meter in range(5)])
    await outbox.mark_sent(range(1, 6), START)
    first = await outbox.resend(START, START + HOUR, at_most=4)
    assert (first.entries, first.complete) == (4, False)
    rest = await outbox.resend(START, START + HOUR, at_most=4)
    assert (rest.entries, rest.complete) == (1, True)
    assert (await outbox.state()).pending == 5


async def test_a_resend_leaves_what_still_waits_alone(outbox: Outbox) -> None:
    await outbox.append([telemetry(START)])
    assert (await outbox.resend(START, START + HOUR)).entries == 0
    assert await all_pending(outbox) == [1]


# --- what the broker refused


async def test_what_was_refused_steps_aside_until_it_is_readmitted(outbox: Outbox) -> None:
    await outbox.append([telemetry(START, 1), telemetry(START, 2)])
    await outbox.set_aside([2], START, "not allowed")
    assert await all_pending(outbox) == [1]
    state = await outbox.state()
    assert (state.refused, state.refusal) == (1, "not allowed")
    tick = timedelta(milliseconds=1)
    assert await outbox.readmit(START - tick, START) == 0
    assert await outbox.readmit(START, START + HOUR) == 1
    assert await outbox.readmit(START + HOUR, START + HOUR) == 0
    assert await all_pending(outbox) == [2, 1]
    assert (await outbox.state()).refusal == ""


# --- what it tells about itself


async def test_the_state_of_an_empty_outbox(outbox: Outbox) -> None:
    state = await outbox.state()
    assert state.pending == state.held == state.refused == state.kept == state.bytes_used == 0
    assert state.oldest_pending is None
    assert state.last_append is None
    assert state.room_days is None
    assert state.bytes_max == LIMITS.bytes_max
    assert state.thinned == {}
    assert state.clock.trusted


async def test_the_state_tells_what_waits_longest_and_how_long_the_room_lasts(
    outbox: Outbox, clock: ClockDouble
) -> None:
    first = clock.now()
    for _ in range(24 * 4):
        await outbox.append([telemetry(clock.now(), meter) for meter in range(20)])
        clock.advance(900)
    state = await outbox.state()
    assert state.oldest_pending == first
    assert state.last_append == clock.now() - timedelta(minutes=15)
    assert state.pending == 20 * 24 * 4
    bytes_per_day = state.bytes_used
    room = LIMITS.bytes_max * 15 / 16 - bytes_per_day
    assert state.room_days == pytest.approx(room / bytes_per_day, rel=0.05)


async def test_what_is_charged_covers_the_file(tmp_path: Path, clock: ClockDouble) -> None:
    """The bound in bytes is a promise about the disk, not about payloads."""
    path = tmp_path / "gateway.db"
    async with open_outbox(path, LIMITS, clock) as outbox:
        # Until the log is copied into it, the file lacks even the schema's own pages.
        await outbox.database.run(
            lambda connection: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        )
        empty = path.stat().st_size
        for _ in range(60):
            await outbox.append([telemetry(clock.now(), meter) for meter in range(50)])
            clock.advance(60)
        charged = (await outbox.state()).bytes_used
    grown = path.stat().st_size - empty
    assert grown <= charged <= 1.35 * grown


async def test_the_running_totals_are_the_sums_of_the_rows(
    tmp_path: Path, clock: ClockDouble
) -> None:
    path = tmp_path / "gateway.db"
    async with open_outbox(path, LIMITS, clock) as outbox:
        await outbox.append([telemetry(START, meter) for meter in range(9)] + [event(START)])
        await outbox.mark_sent([1, 2, 3, 10], START)
        await outbox.set_aside([4], START, "no")
        assert rows(path, _TOTALS) == rows(path, _SUMS)


_TOTALS = "SELECT state, kind, entries, bytes FROM outbox_total WHERE entries ORDER BY 1, 2"
_SUMS = "SELECT state, kind, count(*), sum(bytes) FROM outbox_entry GROUP BY 1, 2 ORDER BY 1, 2"


# --- the untrusted clock


async def test_readings_of_an_untrusted_clock_wait_and_get_their_true_time(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    clock = ClockDouble()
    async with open_outbox(path, LIMITS, clock, clock_source=ClockSource.NETWORK) as outbox:
        await outbox.append([telemetry(clock.now())])
    clock.reboot(_reset)
    async with open_outbox(
        path, LIMITS, clock, clock_source=ClockSource.NETWORK, boot_id="second"
    ) as outbox:
        held = await outbox.append(
            [
                telemetry(clock.now(), 1, boottime_s=clock.boottime() - 5),
                telemetry(clock.now(), 2, boottime_s=clock.boottime() - 7),
                event(clock.now(), boottime_s=clock.boottime()),
            ]
        )
        assert held.held
        assert await all_pending(outbox) == [1]
        state = await outbox.state()
        assert (state.held, state.pending, state.clock.trusted) == (3, 1, False)
        measured = clock.boottime()
        clock.advance(300)
        clock.set(START + timedelta(days=2), synchronised=True)
        await outbox.append([telemetry(clock.now())])
        true = clock.now() - timedelta(seconds=clock.boottime() - measured)
        by_seq = {entry.seq: decode_envelope(entry.payload) for entry in await outbox.pending(10)}
        assert set(by_seq) == {1, 2, 3, 4, 5}
        assert by_seq[2].ts == true - timedelta(seconds=5)
        assert by_seq[3].ts == true - timedelta(seconds=7)
        assert by_seq[4].ts == true
        assert by_seq[4].event is not None
        assert by_seq[4].event.occurred_at == "2026-07-03T11:55:00Z"
        assert {by_seq[seq].registers[0].quality for seq in (2, 3, 4)} == {Quality.GOOD}
        assert outbox.backlog_until == 5
        assert (await outbox.state()).held == 0


async def test_what_can_never_be_dated_goes_out_as_suspect_with_the_best_bound(
    tmp_path: Path,
) -> None:
    path = tmp_path / "gateway.db"
    clock = ClockDouble()
    source = ClockSource.NETWORK
    async with open_outbox(path, LIMITS, clock, clock_source=source, boot_id="one") as outbox:
        await outbox.append([telemetry(clock.now())])  # the floor is stored with it
    clock.reboot(_reset)
    async with open_outbox(path, LIMITS, clock, clock_source=source, boot_id="two") as outbox:
        await outbox.append(
            [
                telemetry(clock.now(), boottime_s=20.0),
                telemetry(clock.now(), 2, boottime_s=20.0, quality=Quality.COMMS_LOST),
                telemetry(START - HOUR, 3, quality=Quality.COMMS_LOST),
            ]
        )
        assert await all_pending(outbox) == [4, 1]  # 4: its time is not of this clock
    clock.reboot(_reset)
    async with open_outbox(path, LIMITS, clock, clock_source=source, boot_id="three") as outbox:
        assert outbox.appended.is_set()
        by_seq = {entry.seq: decode_envelope(entry.payload) for entry in await outbox.pending(10)}
        assert by_seq[2].ts == START + timedelta(seconds=20)
        assert by_seq[2].registers[0].quality is Quality.SUSPECT
        assert by_seq[3].registers[0].quality is Quality.COMMS_LOST
        assert by_seq[4].ts == START - HOUR


async def test_a_bound_is_counted_from_the_floor_and_not_from_the_boot_when_both_are_of_one_boot(
    tmp_path: Path,
) -> None:
    path = tmp_path / "gateway.db"
    clock = ClockDouble(boottime_s=20 * 3600)
    source = ClockSource.NETWORK
    async with open_outbox(path, LIMITS, clock, clock_source=source, boot_id="one") as outbox:
        await outbox.append(
            [telemetry(clock.now())]
        )  # the floor, START, is of this boot's second hour 20
    for number in (2, 3):
        clock.advance(60)
        clock.set(_reset, synchronised=False)
        async with open_outbox(path, LIMITS, clock, clock_source=source, boot_id="one") as outbox:
            await outbox.append([telemetry(clock.now(), number, boottime_s=clock.boottime())])
    clock.reboot(_reset)
    async with open_outbox(path, LIMITS, clock, clock_source=source, boot_id="two") as outbox:
        by_seq = {entry.seq: decode_envelope(entry.payload) for entry in await outbox.pending(10)}
        assert by_seq[2].ts == START + timedelta(seconds=60)
        assert by_seq[3].ts == START + timedelta(seconds=120)


async def test_the_same_boot_keeps_holding_after_the_program_restarts(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    clock = ClockDouble(_reset, boottime_s=20, synchronised=False)
    source = ClockSource.NETWORK
    async with open_outbox(path, LIMITS, clock, clock_source=source, boot_id="one") as outbox:
        await outbox.append([telemetry(clock.now(), boottime_s=clock.boottime())])
    clock.advance(60)
    async with open_outbox(path, LIMITS, clock, clock_source=source, boot_id="one") as outbox:
        assert await all_pending(outbox) == []
        clock.set(START, synchronised=True)
        await outbox.append([])
        (entry,) = await outbox.pending(10)
        assert decode_envelope(entry.payload).ts == START - timedelta(seconds=60)


async def test_readings_stored_just_after_the_clock_was_set_are_not_dated_1970(
    tmp_path: Path,
) -> None:
    clock = ClockDouble(_reset, boottime_s=20, synchronised=False)
    async with open_outbox(
        tmp_path / "gateway.db", LIMITS, clock, clock_source=ClockSource.NETWORK
    ) as outbox:
        clock.advance(5)
        before = telemetry(clock.now(), 1, boottime_s=clock.boottime())
        others = telemetry(clock.now(), 2, boottime_s=clock.boottime())
        meters_own = telemetry(START - HOUR, 3)
        clock.advance(2)
        clock.set(START, synchronised=True)
        after = telemetry(clock.now(), 4, boottime_s=clock.boottime())
        await outbox.append([before, meters_own])
        clock.advance(1)
        await outbox.append([others, after])  # another line, a moment later
        times = {entry.seq: decode_envelope(entry.payload).ts for entry in await outbox.pending(9)}
    dated = START - timedelta(seconds=2)
    assert times == {1: dated, 2: START - HOUR, 3: dated, 4: START}


_reset = START.replace(year=1970, month=1, day=1, hour=0)


# --- asyncio


async def test_tasks_may_append_at_once_and_a_cancelled_one_harms_nobody(outbox: Outbox) -> None:
    tasks = [asyncio.create_task(outbox.append([telemetry(START, n)] * 3)) for n in range(20)]
    await asyncio.sleep(0)
    tasks[7].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    done = [result for result in results if not isinstance(result, BaseException)]
    numbers = [seq for result in done for seq in result.seqs]
    assert len(numbers) == len(set(numbers)) == 57
    assert set(numbers) <= set(await all_pending(outbox))
