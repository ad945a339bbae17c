"""A gateway's bandwidth budget: kept on both engines, told when it is nearly used, and holding nothing back."""

from datetime import UTC, datetime, timedelta

import pytest
from tests.headend.decisions import FEEDER, GATEWAY, NOON, accepted

from openami.headend.alarm_watch import AlarmWatch
from openami.headend.audit import Entry
from openami.headend.bandwidth import (
    BUDGET_BYTES_MAX,
    BUDGET_BYTES_MIN,
    BudgetRefused,
    budget_entry,
    checked_budget,
    over_budget,
)
from openami.headend.broker_link import BrokerLink
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.traffic import DayTraffic
from openami.profile import Severity

MB = 1_000_000
GIVEN = Entry(who="erik", what="set")
THERE = (FEEDER, GATEWAY)


def sent(megabytes: float, day: str = "2026-06-22", gateway: str = GATEWAY) -> DayTraffic:
    return DayTraffic(FEEDER, gateway, day, 1, round(megabytes * MB))


async def test_a_budget_is_set_changed_and_taken_away_each_with_its_entry(
    store: HeadEndStore,
) -> None:
    assert await store.budgets() == {}
    for most in (40 * MB, BUDGET_BYTES_MAX, None):
        await store.set_budget(*THERE, most, budget_entry(GATEWAY, most, who="erik"), NOON)
        assert await store.budgets() == ({} if most is None else {THERE: most})
    results = [link.entry.result for link in await store.audit_links()]
    assert results == ["40,000,000 bytes a month", "10,000,000,000,000 bytes a month", "none"]


def test_what_nobody_means_is_refused() -> None:
    for wrong in (BUDGET_BYTES_MIN - 1, BUDGET_BYTES_MAX + 1, 0, -40):
        with pytest.raises(BudgetRefused):
            checked_budget(wrong)
    assert checked_budget(BUDGET_BYTES_MIN) == BUDGET_BYTES_MIN


@pytest.mark.parametrize(
    ("megabytes", "told"),
    [
        (31.9, None),
        (32.0, ("bandwidth_near", Severity.MINOR)),
        (39.9, ("bandwidth_near", Severity.MINOR)),
        (40.0, ("bandwidth_over", Severity.MAJOR)),
    ],
)
def test_near_is_four_fifths_and_over_is_all_of_it(
    megabytes: float, told: tuple[str, Severity] | None
) -> None:
    month = [
        sent(megabytes - 10, "2026-06-01"),
        sent(10),
        sent(99, "2026-05-31"),
        sent(99, gateway="g2"),
    ]
    found = over_budget({THERE: 40 * MB}, month, NOON)
    assert [(each.kind, each.severity) for each in found] == ([] if told is None else [told])


async def test_an_alarm_is_raised_and_over_with_the_month(store: HeadEndStore) -> None:
    class Now:
        at = datetime(2026, 6, 30, 12, tzinfo=UTC)

        def now(self) -> datetime:
            return self.at

        def boottime(self) -> float:
            return 0.0

        def synchronised(self) -> bool:
            return True

    clock = Now()
    watch = AlarmWatch(store, clock, lambda: BrokerLink(heard=False, since=clock.at))
    await store.set_budget(*THERE, BUDGET_BYTES_MIN, GIVEN, clock.at)
    big = [
        accepted(ts=clock.at + n * timedelta(seconds=1), payload=b"x" * 60_000) for n in range(17)
    ]
    await store.commit(big)
    await watch.look()
    [alarm] = await store.active_alarms()
    assert (alarm.kind, alarm.gateway_id, alarm.stands) == ("bandwidth_over", GATEWAY, True)
    assert alarm.detail == "1.0 MB of 1.0 MB this month"
    await watch.look()
    assert len(await store.active_alarms()) == 1
    clock.at += timedelta(days=1)
    await watch.look()
    [alarm] = await store.active_alarms()
    assert not alarm.stands
