"""The demo's past: it ends where the village begins, and the feeder's account of it adds up."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from openami.profile import MeterSerial
from openami.simulator.plan import UJ_PER_KWH, VillagePlan
from openami.simulator.scenario import village_tonight
from openami.simulator.village import Village
from openami.simulator.yesterday import DAYS_MAX, ENVELOPES_MAX, INTERVAL, instants_before, past_of

BEGUN = datetime(2026, 6, 22, 13, 37, 12, 345_000, tzinfo=UTC)


def plan(meters: int) -> VillagePlan:
    return village_tonight(meters=meters, seed=1, now=BEGUN)


@pytest.mark.parametrize("meters", [2, 20, 500])
def test_instants_are_quarter_hours_and_bounded(meters: int) -> None:
    instants = instants_before(plan(meters), BEGUN)
    assert len(instants) == min(DAYS_MAX * 96, ENVELOPES_MAX // meters)
    assert instants[-1] == datetime(2026, 6, 22, 13, 30, tzinfo=UTC)
    assert all(later - earlier == INTERVAL for earlier, later in pairwise(instants))
    assert instants_before(plan(2), instants[-1] + timedelta(minutes=1))[-1] < instants[-1]


def test_every_counter_rises_to_where_the_plan_has_it_and_the_head_meters_more_than_all() -> None:
    village = plan(6)
    registers: dict[MeterSerial, list[float]] = {}
    for _, serial, kwh in past_of(village, BEGUN):
        registers.setdefault(serial, []).append(kwh)
    assert len(registers) == village.meters
    now = Village(village)
    for serial, told in registers.items():
        assert told == sorted(told)
        assert told[-1] <= now.measured(serial).import_uj / UJ_PER_KWH + 0.005
    grown = {serial: told[-1] - told[0] for serial, told in registers.items()}
    supplied = grown.pop(village.head_serial)
    assert 0 < sum(grown.values()) < supplied < 1.5 * sum(grown.values())
