"""After an outage the missing billing readings come from the meter's load profile, and none comes twice."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.gateway.clock_double import ClockDouble
from tests.gateway.profile_meter import ProfileMeter, energy
from tests.gateway.scripted_driver import IMPORT
from tests.gateway.test_collector import A, Pole, pole

from openami.profile import Quality

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
