"""After an outage the missing billing readings come from the meter's load profile, and none comes twice."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.gateway.clock_double import ClockDouble
from tests.gateway.profile_meter import ProfileContractBench, ProfileMeter, energy
from tests.gateway.scripted_driver import IMPORT, INFOS
from tests.gateway.test_collector import A, B, FullStore, Pole, codes, pole, qualities, told

from openami.gateway.driver import MeterRefused, MeterSilent
from openami.gateway.memory import MeterMemories
from openami.gateway.meter_record import MeterRecord
from openami.gateway.outages import BillingInstants
from openami.gateway.profile_contract import PROFILE_CHECKS, ProfileCheck
from openami.gateway.schedule import Schedule
from openami.profile import EventState, Quality

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def meter_of(village: Pole) -> ProfileMeter:
    meter = village.bench.meter(A)
    assert isinstance(meter, ProfileMeter)
    return meter


def replace_meter(village: Pole) -> ProfileMeter:
    meter = ProfileMeter(A, village.bench, clock=village.clock)
    village.bench.meters[A] = meter
    return meter


@pytest.fixture
async def village(tmp_path: Path) -> AsyncIterator[Pole]:
    async with pole(tmp_path, ClockDouble(NOON)) as made:
        replace_meter(made)
        yield made


async def billed(village: Pole) -> list[tuple[datetime, float, Quality]]:
    """Return A's new counter readings in the order of their times."""
    return sorted(
        (e.ts, float(r.value), r.quality)
        for e in await village.new()
        for r in e.registers
        if r.obis == IMPORT and e.event is None and r.quality is not Quality.COMMS_LOST
    )


@pytest.mark.parametrize("check", PROFILE_CHECKS, ids=lambda check: check.__name__)
async def test_the_double_keeps_the_contract_of_load_profiles(check: ProfileCheck) -> None:
    await check(ProfileContractBench())


async def test_an_outage_is_closed_with_the_meters_own_times(village: Pole) -> None:
    await village.run(5 * 60)  # polled at 12:00 and 12:05
    meter_of(village).fall_silent()
    await village.run(22 * 60)  # until 12:27
    await village.new()
    meter_of(village).recover()
    await village.run(3 * 60)
    found = await billed(village)
    # 12:10 to 12:25 from the profile; 12:28 is the first poll that is answered, 12:30 the next that is due.
    assert [ts for ts, _, _ in found] == [
        *(NOON + timedelta(minutes=minute) for minute in (10, 15, 20, 25)),
        NOON + timedelta(minutes=28),
        NOON + timedelta(minutes=30),
    ]
    assert [value for _, value, _ in found] == [float(energy(ts)) for ts, _, _ in found]
    assert {quality for _, _, quality in found} == {Quality.GOOD}
    assert village.metric("reread_intervals_total", outcome="held") == 4
    assert village.collector.records[A].history.outages == ()


async def outage(village: Pole, *, minutes: float = 22) -> None:
    """Have A silent from 12:05, and its outage over; what was said of it meanwhile is read away."""
    await village.run(5 * 60)
    meter_of(village).fall_silent()
    await village.run(minutes * 60)
    await village.new()
    meter_of(village).recover()


def outcomes(village: Pole) -> tuple[float, float]:
    return (
        village.metric("reread_intervals_total", outcome="held"),
        village.metric("reread_intervals_total", outcome="lost"),
    )


async def test_a_gateway_that_was_off_reads_what_it_missed(village: Pole) -> None:
    await village.run(5 * 60)
    await village.new()
    village.clock.advance(17 * 60)  # switched off until 12:22
    await village.start()
    await village.run(2 * 60)
    times = [ts for ts, _, _ in await billed(village)]
    assert times == [NOON + timedelta(minutes=minute) for minute in (10, 15, 20, 22)]


async def switched_off(village: Pole, *, minutes: float) -> None:
    """Have the gateway off from 12:05."""
    await village.run(5 * 60)
    await village.new()
    village.clock.advance(minutes * 60)
    await village.start()


async def test_no_interval_is_read_twice_though_the_gateway_is_restarted_each_minute(
    village: Pole,
) -> None:
    await switched_off(village, minutes=10 * 60)
    found = []
    for _ in range(12):
        await village.start()
        await village.run(60)
        found += await billed(village)
    late = [ts for ts, _, _ in found if ts.second == 0 and ts < NOON + timedelta(minutes=605)]
    assert late == [NOON + timedelta(minutes=minute) for minute in range(10, 605, 5)]
    assert len(meter_of(village).spans) == len(set(meter_of(village).spans))


async def test_live_polls_come_first_and_a_cycle_has_few_stretches(village: Pole) -> None:
    """A day is 12 stretches of two hours; four of them a minute, each behind what was polled in it."""
    await switched_off(village, minutes=24 * 60)
    await village.run(30)
    assert len(meter_of(village).spans) == 4
    envelopes = await village.new()
    first_late = next(
        at for at, e in enumerate(envelopes) if e.ts.second == 0 and e.ts.minute == 10
    )
    live = [
        at for at, e in enumerate(envelopes) if qualities(e) == {Quality.GOOD} and len(codes(e)) > 1
    ]
    assert live[0] < first_late
    await village.run(3 * 60)
    assert outcomes(village) == (24 * 12 - 1, 0)


async def test_the_next_poll_waits_for_no_load_profile(village: Pole) -> None:
    """The clock of the test stands still meanwhile, so that what is cut off is cut off by real time."""
    village.collector._schedule = Schedule(fast_s=1, billing_s=5)
    village.collector._instants = BillingInstants.of(village.collector._schedule)
    await village.run(5)
    village.clock.advance(30)
    meter_of(village).profile_hangs = True
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    await village.run(2.5)
    # One stretch was begun, and cut off when its second was over.
    assert loop.time() - began_at < 1.5
    assert meter_of(village).tries == 1
    (outage,) = village.collector.records[A].history.outages
    assert outage.failures == 1


async def test_what_the_meter_no_longer_holds_is_told_once_and_not_asked_for_again(
    village: Pole,
) -> None:
    meter_of(village).rows_max = 3
    await outage(village)
    await village.run(3 * 60)
    envelopes = await village.new()
    (event,) = [e.event for e in envelopes if e.event and e.event.type == "intervals_lost"]
    assert event.state is EventState.INSTANT
    assert event.detail == (
        "1 billing intervals between 2026-07-01T12:05:00Z and 2026-07-01T12:28:00Z are lost: "
        "its load profile does not hold them"
    )
    assert outcomes(village) == (3, 1)
    spans = len(meter_of(village).spans)
    await village.run(20 * 60)
    assert len(meter_of(village).spans) == spans
    assert "intervals_lost" not in [type_ for type_, _ in told(await village.new())]


async def test_a_load_profile_that_cannot_be_read_rests_longer_each_time_and_is_given_up(
    village: Pole,
) -> None:
    meter_of(village).profile_fault = MeterRefused("object-undefined")
    await outage(village)
    await village.run(20 * 60)
    polls = village.metric("polls_total", outcome="answer")
    assert polls > 30, "its polls go on"
    assert meter_of(village).tries == 3  # at once, after five minutes, after ten more
    await village.run(90 * 60)
    assert meter_of(village).tries == 5
    (event,) = [
        e.event for e in await village.new() if e.event and e.event.type == "intervals_lost"
    ]
    assert event.detail is not None
    assert event.detail.endswith("its load profile could not be read")


async def test_a_disturbance_loses_nothing(village: Pole) -> None:
    meter_of(village).profile_fault = MeterSilent("noise")
    await outage(village)
    await village.run(2 * 60)
    meter_of(village).profile_fault = None
    await village.run(6 * 60)
    assert outcomes(village) == (4, 0)


@pytest.mark.parametrize("ahead_s", [-61, 61, 3600])
async def test_times_of_a_clock_that_is_wrong_are_not_published(
    village: Pole, ahead_s: float
) -> None:
    await outage(village)
    meter_of(village).ahead_s = ahead_s
    await village.run(3 * 60)
    envelopes = await village.new()
    (event,) = [e.event for e in envelopes if e.event and e.event.type == "intervals_lost"]
    assert event.detail is not None
    assert "the meter's clock was wrong" in event.detail
    assert meter_of(village).spans == []
    assert outcomes(village) == (0, 4)


async def test_a_clock_that_was_put_right_meanwhile_does_not_make_its_old_times_true(
    village: Pole,
) -> None:
    meter_of(village).ahead_s = 3600
    await outage(village)
    assert village.collector.records[A].clock_doubted
    meter_of(village).ahead_s = 0
    await village.run(3 * 60)
    assert meter_of(village).spans == []
    assert outcomes(village) == (0, 4)


async def test_without_a_register_for_its_clock_a_meter_is_not_vouched_for(village: Pole) -> None:
    meter_of(village).registers = INFOS
    await outage(village)
    await village.run(3 * 60)
    late = [quality for ts, _, quality in await billed(village) if ts.minute < 28]
    assert late == [Quality.SUSPECT] * 4


async def test_nothing_is_read_again_before_the_gateways_own_clock_is_trusted(
    village: Pole,
) -> None:
    await village.run(5 * 60)
    village.clock.advance(17 * 60)
    village.clock.reboot(datetime(1970, 1, 1, tzinfo=UTC))
    booted = NOON + timedelta(minutes=22) - timedelta(seconds=20)
    await village.start("another boot")
    await village.run(2 * 60)
    assert meter_of(village).spans == []
    village.clock.set(booted + timedelta(seconds=village.clock.boottime()), synchronised=True)
    await village.new()
    await village.run(2 * 60)
    late = [ts for ts, _, _ in await billed(village) if ts.second == 0 and ts.minute <= 20]
    assert late == [NOON + timedelta(minutes=minute) for minute in (10, 15, 20)]


async def test_readings_and_the_note_that_they_were_read_are_one_commit(village: Pole) -> None:
    """A disk that takes neither has the stretch read again, and published once."""
    await outage(village)
    store = FullStore(village.outbox)
    village.around(store=store)
    await village.run(2 * 60)
    assert outcomes(village) == (0, 0)
    store.full = False
    await village.run(6 * 60)
    late = [ts for ts, _, _ in await billed(village) if ts.minute < 27]
    assert late == [NOON + timedelta(minutes=minute) for minute in (10, 15, 20, 25)]


class NoTimeToSave(MeterMemories):
    """A power cut before whatever is not saved in the readings' own transaction."""

    async def save(self, records: Iterable[MeterRecord]) -> None:
        pass


async def test_a_power_cut_after_a_stretch_has_nothing_read_twice(village: Pole) -> None:
    await switched_off(village, minutes=10 * 60)
    found = []
    for _ in range(4):
        village.around(memories=NoTimeToSave(village.outbox.database, "this boot"))
        await village.run(30)
        found += [ts for ts, _, _ in await billed(village)]
        await village.start()
    spans = meter_of(village).spans
    assert len(spans) == len(set(spans)) == 5
    late = [ts for ts in found if ts < NOON + timedelta(minutes=604)]
    assert late == [NOON + timedelta(minutes=minute) for minute in range(10, 605, 5)]


async def test_a_clock_that_was_wrong_before_the_gateway_was_off_is_remembered(
    village: Pole,
) -> None:
    meter_of(village).ahead_s = 3600
    await switched_off(village, minutes=22)
    meter_of(village).ahead_s = 0
    await village.run(60)
    assert not village.collector.records[A].clock_doubted
    assert meter_of(village).spans == []
    assert outcomes(village) == (0, 4)


async def test_a_meter_without_a_load_profile_has_no_history(village: Pole) -> None:
    village.bench.meter(B).fall_silent()
    await village.run(22 * 60)
    village.bench.meter(B).recover()
    await village.run(2 * 60)
    assert village.collector.records[B].history.outages == ()
    assert village.collector.records[B].history.billed is None


async def test_meters_take_turns(village: Pole) -> None:
    other = village.bench.meters[B] = ProfileMeter(B, village.bench, clock=village.clock)
    await switched_off(village, minutes=24 * 60)
    await village.run(30)
    assert isinstance(other, ProfileMeter)
    assert (len(meter_of(village).spans), len(other.spans)) == (2, 2)
