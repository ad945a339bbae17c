"""What goes when the outbox is full, in which order, and how it is told (decision 0020)."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.clock_double import START, ClockDouble
from tests.gateway.outbox_samples import FEEDER, GATEWAY, event, rows, telemetry

from openami.gateway.driver import PollGroup
from openami.gateway.outbox import Draft, Kind, Outbox, OutboxFull, OutboxLimits, open_outbox
from openami.gateway.room import (
    FillRate,
    Shortage,
    Usage,
    ceiling,
    charged,
    room_left,
    shortage,
)
from openami.gateway.thinning import (
    DAY_MS,
    ENTRIES_PER_PASS,
    HOUR_MS,
    ORDER,
    Candidate,
    Stage,
    Untold,
    choose,
    thinned_event,
)
from openami.profile import Envelope, decode_envelope

MINUTE_MS = 60_000
KIB = 1024


def candidates(
    *times_ms: int, topic_id: int = 1, group: str | None = "billing", first: int = 1
) -> list[Candidate]:
    return [
        Candidate(first + n, topic_id, group, ts_ms, ts_ms, 100) for n, ts_ms in enumerate(times_ms)
    ]


def chosen(stage: Stage, oldest_first: Sequence[Candidate], need: int) -> list[int]:
    return [each.seq for each in choose(stage, oldest_first, need)]


# --- the rule


@pytest.mark.parametrize("stage", [Stage.KEPT, Stage.OLDEST, Stage.EXPIRED])
def test_the_oldest_go_until_there_is_room_and_not_one_more(stage: Stage) -> None:
    some = candidates(*range(5))
    assert chosen(stage, some, 200) == [1, 2]
    assert chosen(stage, some, 201) == [1, 2, 3]
    assert chosen(stage, some, 10_000) == [1, 2, 3, 4, 5]


def test_fast_telemetry_goes_by_whole_hours() -> None:
    some = candidates(0, MINUTE_MS, HOUR_MS - 1, HOUR_MS, HOUR_MS + 1)
    assert chosen(Stage.FAST, some, 100) == [1, 2, 3]
    assert chosen(Stage.FAST, some, 300) == [1, 2, 3]
    assert chosen(Stage.FAST, some, 301) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("stage", "period_ms"), [(Stage.HOURLY, HOUR_MS), (Stage.DAILY, DAY_MS)])
def test_of_an_hour_or_a_day_the_first_of_each_meter_stays(stage: Stage, period_ms: int) -> None:
    first_meter = candidates(0, 1, period_ms - 1, period_ms, period_ms + 1)
    second_meter = candidates(2, period_ms + 2, topic_id=2, first=11)
    together = sorted(first_meter + second_meter, key=lambda each: each.ts_ms)
    assert chosen(stage, together, 10_000) == [2, 3, 5]


def test_groups_are_thinned_apart_because_they_hold_other_registers() -> None:
    billing = candidates(0, 15 * MINUTE_MS)
    daily = candidates(0, group="daily", first=11)
    assert chosen(Stage.HOURLY, [*billing, *daily], 10_000) == [2]


def test_a_pass_is_bounded() -> None:
    many = candidates(*[0] * (ENTRIES_PER_PASS + 5))
    assert len(choose(Stage.OLDEST, many, 10**9)) == ENTRIES_PER_PASS
    # … but for the hour it is in: half an hour would look like a fault of the meter.
    assert len(choose(Stage.FAST, many, 10**9)) == ENTRIES_PER_PASS + 5


@given(st.lists(st.integers(0, 3 * DAY_MS), max_size=60).map(sorted), st.integers(1, 10_000))
def test_thinned_by_the_hour_every_hour_that_had_a_reading_still_has_one(
    times_ms: list[int], need: int
) -> None:
    some = candidates(*times_ms)
    gone = set(chosen(Stage.HOURLY, some, need))
    left = [each.ts_ms // HOUR_MS for each in some if each.seq not in gone]
    assert set(left) == {ts_ms // HOUR_MS for ts_ms in times_ms}
    if len(gone) * 100 < need:  # it gave all it could
        assert len(left) == len(set(left))


# --- the bounds


def test_events_have_a_share_of_their_own() -> None:
    bound = ceiling(OutboxLimits(bytes_max=1600), file_bytes=0, disk_free=10**9)
    assert (bound.telemetry, bound.events) == (1500, 1600)


def test_a_small_disk_bounds_more_than_the_setting_but_what_lies_there_is_ours() -> None:
    limits = OutboxLimits(bytes_max=1600)
    assert ceiling(limits, file_bytes=600, disk_free=200).events == 800
    assert ceiling(limits, file_bytes=600, disk_free=0).events == 600


def test_the_byte_that_does_not_fit_asks_for_itself_and_the_headroom() -> None:
    usage = Usage(unsent_events=0, unsent_telemetry=800, kept=100)
    assert shortage(usage, 100, 1000) is None
    assert shortage(usage, 101, 1000) == Shortage(must=1, headroom=50, hopeless=False)


def test_what_would_not_fit_beside_the_events_is_hopeless() -> None:
    usage = Usage(unsent_events=700, unsent_telemetry=200, kept=100)
    for incoming, hopeless in ((300, False), (301, True)):
        missing = shortage(usage, incoming, 1000)
        assert missing is not None
        assert missing.hopeless is hopeless


def test_a_payload_that_fills_a_page_alone_is_charged_for_it() -> None:
    assert charged(500) < 700
    assert charged(2_100) > 4_096
    assert charged(4_200) > 2 * 4_096
    assert charged(64 * KIB) > 64 * KIB


def test_the_room_is_what_is_free_over_what_comes_in_a_day() -> None:
    bound = ceiling(OutboxLimits(bytes_max=16_000), file_bytes=0, disk_free=10**9)
    usage = Usage(unsent_events=1_000, unsent_telemetry=4_000, kept=9_000)
    rate = FillRate()
    assert room_left(rate, usage, bound) is None
    for _ in range(10 * 24):
        rate = rate.after(100, 3600)
    assert rate.bytes_per_day == pytest.approx(2_400, rel=0.05)
    left = room_left(rate, usage, bound)
    assert left is not None
    assert left / timedelta(days=1) == pytest.approx(10_000 / 2_400, rel=0.05)


def test_a_pause_or_a_clock_that_steps_does_not_spoil_the_rate() -> None:
    rate = FillRate()
    for _ in range(48):
        rate = rate.after(100, 3600)
    for elapsed_s in (-1e9, 1e9):
        after = rate.after(0, elapsed_s).bytes_per_day
        assert after == pytest.approx(rate.bytes_per_day, rel=0.06)


# --- the outbox at its bound


async def filled(outbox: Outbox, clock: ClockDouble, *, hours: int, meters: int = 3) -> None:
    """What a gateway appends: fast every five minutes, billing every fifteen."""
    for minute in range(0, hours * 60, 5):
        groups = [PollGroup.FAST] + ([PollGroup.BILLING] if minute % 15 == 0 else [])
        await outbox.append(
            [telemetry(clock.now(), m, group) for m in range(meters) for group in groups]
        )
        clock.advance(300)


async def test_one_byte_more_than_the_bound_thins_and_the_bound_itself_does_not(
    tmp_path: Path,
) -> None:
    clock = ClockDouble()
    async with open_outbox(tmp_path / "probe.db", OutboxLimits(), clock) as outbox:
        await outbox.append([telemetry(START)])
        each = (await outbox.state()).bytes_used
    exact = each * 64 * 16 // 15  # its telemetry share holds sixty-four
    for spare, thinned in ((0, False), (-16, True)):
        path = tmp_path / f"{spare}.db"
        async with open_outbox(path, OutboxLimits(bytes_max=exact + spare), clock) as outbox:
            for _ in range(64):
                await outbox.append([telemetry(START)])
            state = await outbox.state()
            assert bool(state.thinned) is thinned
            assert state.bytes_used <= exact + spare


async def test_a_full_outbox_gives_up_what_was_sent_then_fast_then_thins_billing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "gateway.db"
    clock = ClockDouble(START.replace(hour=0))
    async with open_outbox(path, OutboxLimits(bytes_max=100 * KIB), clock) as outbox:
        await outbox.append([event(clock.now())])
        await filled(outbox, clock, hours=1)
        await outbox.mark_sent([2, 3, 4], clock.now())
        stages: list[Stage] = []
        for _ in range(60):
            await filled(outbox, clock, hours=12)
            state = await outbox.state()
            assert state.bytes_used <= 100 * KIB
            stages += [each for each in ORDER if each in state.thinned and each not in stages]
            if Stage.OLDEST in stages:
                break
            if Stage.HOURLY not in stages:
                assert _billing(path) == _billing_expected(clock)
        assert stages == [*ORDER]
        events = [e for e in await outbox.pending(1_000_000) if e.kind is Kind.EVENT]
    assert events[-1].seq == 1  # what happened is still there
    _reports_tell_all(path, [decode_envelope(each.payload) for each in events[:-1]])


def _billing(path: Path) -> int:
    ((count,),) = rows(path, "SELECT count(*) FROM outbox_entry WHERE poll_group = 'billing'")
    assert isinstance(count, int)
    return count


def _billing_expected(clock: ClockDouble) -> int:
    quarters = int((clock.now() - START.replace(hour=0)) / timedelta(minutes=15))
    return quarters * 3 - 1  # number 3 was sent and given up


def _reports_tell_all(path: Path, reports: Sequence[Envelope]) -> None:
    """At most one an hour, and what they tell with what is still untold is what went."""
    times = []
    told = 0
    for report in reports:
        assert report.event is not None
        assert report.event.type == "telemetry_thinned"
        assert str(report.meter_serial) == GATEWAY
        times.append(report.ts)
        detail = report.event.detail or ""
        told += sum(int(part.split()[0]) for part in detail.split(": ")[2:])
    # Newest first, as they are sent.
    assert all(newer - older >= timedelta(hours=1) for newer, older in pairwise(times))
    ((untold, lost),) = rows(
        path, "SELECT sum(untold), sum(entries) FROM outbox_thinned WHERE stage <> 'kept'"
    )
    assert isinstance(untold, int)
    assert told + untold == lost


async def test_nothing_but_events_left_telemetry_is_refused_and_events_are_taken(
    tmp_path: Path,
) -> None:
    clock = ClockDouble()
    async with open_outbox(
        tmp_path / "gateway.db", OutboxLimits(bytes_max=64 * KIB), clock
    ) as outbox:
        with pytest.raises(OutboxFull) as full:
            await _append_for_ever(outbox, clock, telemetry, event)
        assert full.value.refused == 1
        assert len(full.value.result.seqs) == 1
        assert "of 65536 bytes" in str(full.value)
        assert "bytes_max" in full.value.remedy
        assert not full.value.permanent
        before = (await outbox.state()).pending_events
        assert outbox.last_seq == full.value.result.last_seq
        with pytest.raises(OutboxFull) as events_full:
            await _append_for_ever(outbox, clock, event)
        state = await outbox.state()
        assert state.pending_events > before
        assert state.pending == state.pending_events
        assert state.bytes_used <= 64 * KIB
        assert events_full.value.refused == 1
        # … and it recovers by itself when the uplink does.
        entries = await outbox.pending(1_000_000)
        await outbox.mark_sent([entry.seq for entry in entries], clock.now())
        await outbox.append([telemetry(clock.now())])


async def test_nothing_is_given_up_for_what_cannot_be_stored_anyway(tmp_path: Path) -> None:
    clock = ClockDouble()
    limits = OutboxLimits(bytes_max=64 * KIB)
    async with open_outbox(tmp_path / "gateway.db", limits, clock) as outbox:
        await outbox.append([telemetry(START) for _ in range(80)])
        with pytest.raises(OutboxFull):
            await outbox.append([telemetry(START) for _ in range(200)])
        state = await outbox.state()
        assert (state.pending, state.thinned) == (80, {})


async def test_the_headroom_alone_does_not_begin_a_harsher_stage(tmp_path: Path) -> None:
    """Few kept, much billing: what was kept makes room, and no bill pays for comfort."""
    clock = ClockDouble()
    limits = OutboxLimits(bytes_max=64 * KIB)
    async with open_outbox(tmp_path / "gateway.db", limits, clock) as outbox:
        await outbox.append([telemetry(START)])
        await outbox.mark_sent([1], clock.now())
        state = await outbox.state()
        while not state.thinned:
            await outbox.append([telemetry(START)])
            state = await outbox.state()
        assert set(state.thinned) == {Stage.KEPT}
        assert state.kept == 0


async def _append_for_ever(
    outbox: Outbox, clock: ClockDouble, *make: Callable[[datetime], Draft]
) -> None:
    for _ in range(1_000):
        clock.advance(1)
        await outbox.append([each(clock.now()) for each in make])


async def test_what_was_sent_is_kept_for_its_days_and_no_longer(tmp_path: Path) -> None:
    clock = ClockDouble()
    limits = OutboxLimits(kept_days=7.0)
    async with open_outbox(tmp_path / "gateway.db", limits, clock) as outbox:
        await outbox.append([telemetry(clock.now())])
        await outbox.mark_sent([1], clock.now())
        clock.advance(7 * 86_400)
        await outbox.append([])
        assert (await outbox.state()).kept == 1
        clock.advance(601)
        await outbox.append([])
        state = await outbox.state()
        assert state.kept == 0
        assert not state.thinned  # it had its time


async def test_what_was_sent_is_kept_within_its_bytes(tmp_path: Path) -> None:
    clock = ClockDouble()
    limits = OutboxLimits(kept_bytes_max=10 * KIB)
    async with open_outbox(tmp_path / "gateway.db", limits, clock) as outbox:
        await outbox.append([telemetry(START, meter) for meter in range(50)])
        await outbox.mark_sent(range(1, 51), clock.now())
        clock.advance(601)
        await outbox.append([])
        state = await outbox.state()
        assert state.bytes_used <= 10 * KIB
        assert state.thinned[Stage.KEPT].entries == 50 - state.kept
        assert not await outbox.pending(10)  # what was delivered once is no loss to report


async def test_telemetry_unsent_for_a_year_goes_and_is_told_events_stay(tmp_path: Path) -> None:
    clock = ClockDouble()
    async with open_outbox(tmp_path / "gateway.db", OutboxLimits(), clock) as outbox:
        await outbox.append([telemetry(clock.now()), event(clock.now())])
        clock.advance(365 * 86_400)
        await outbox.append([])
        assert (await outbox.state()).pending == 2
        clock.advance(601)
        await outbox.append([telemetry(clock.now())])
        state = await outbox.state()
        assert state.thinned[Stage.EXPIRED].entries == 1
        assert state.thinned[Stage.EXPIRED].oldest_ts == START
        kinds = [entry.kind for entry in await outbox.pending(10)]
        assert kinds == [Kind.EVENT, Kind.EVENT, Kind.TELEMETRY]


def test_the_gateway_stands_in_the_meters_place_for_its_own_events() -> None:
    told = [
        Untold(Stage.FAST, 12, START, START + timedelta(hours=1)),
        Untold(Stage.HOURLY, 3, START, START),
    ]
    envelope = thinned_event(told, feeder_id=FEEDER, gateway_id=GATEWAY, seq=9, now=START)
    assert decode_envelope(envelope.encode()) == envelope
    assert str(envelope.meter_serial) == GATEWAY
    assert envelope.event is not None
    assert "fast: 12 envelopes measured 2026-07-01T12:00:00Z to 2026-07-01T13:00:00Z" in (
        envelope.event.detail or ""
    )
    assert PollGroup.FAST.value == Stage.FAST.value  # the statement of that stage names the group


async def sent(outbox: Outbox, clock: ClockDouble, cycles: int) -> None:
    """Append cycles of five hundred meters, and have them acknowledged."""
    for _ in range(cycles):
        drafts = [telemetry(clock.now(), meter, PollGroup.FAST) for meter in range(500)]
        await outbox.mark_sent((await outbox.append(drafts)).seqs, clock.now())


async def test_more_than_a_pass_kept_too_long_is_gone_a_minute_later(tmp_path: Path) -> None:
    clock = ClockDouble()
    limits = OutboxLimits(kept_days=1.0)
    async with open_outbox(tmp_path / "gateway.db", limits, clock) as outbox:
        await sent(outbox, clock, ENTRIES_PER_PASS // 500 + 2)
        clock.advance(25 * 3600)
        await outbox.append([])
        assert (await outbox.state()).kept == 1_000, "a pass deletes no more"
        clock.advance(60)
        await outbox.append([])
        assert (await outbox.state()).kept == 0


async def test_more_than_a_pass_kept_beyond_its_bytes_is_gone_a_minute_later(
    tmp_path: Path,
) -> None:
    clock = ClockDouble()
    limits = OutboxLimits(kept_bytes_max=100 * KIB)
    async with open_outbox(tmp_path / "gateway.db", limits, clock) as outbox:
        await sent(outbox, clock, ENTRIES_PER_PASS // 500 + 2)
        clock.advance(601)
        await outbox.append([])
        assert (await outbox.state()).bytes_used > limits.kept_bytes_max
        clock.advance(60)
        await outbox.append([])
        assert 0 < (await outbox.state()).bytes_used <= limits.kept_bytes_max
