"""What a person sees of the demo."""

from datetime import UTC, datetime, timedelta

from openami.headend.store import Reading
from openami.profile import MeterSerial, Obis, Quality, Value
from openami.simulator.audit import Traffic
from openami.simulator.plan import plan_village
from openami.simulator.view import Picture, relay_changes, summary, table

NOW = datetime(2026, 6, 22, 13, 30, tzinfo=UTC)
PLAN = plan_village(meters=30, seed=1, start=NOW)
METER = PLAN.customers[0].serial


def reading(code: str, value: Value, *, age_s: int = 2, quality: Quality = Quality.GOOD) -> Reading:
    ts = NOW - timedelta(seconds=age_s)
    return Reading("feeder", METER, Obis.parse(code), ts, value, "", quality, NOW)


def picture(*readings: Reading, meter: MeterSerial = METER, headend_runs: bool = True) -> Picture:
    return Picture(
        now=NOW,
        elapsed=timedelta(seconds=61),
        duration=timedelta(minutes=10),
        plan=PLAN,
        broker="mosquitto",
        headend_runs=headend_runs,
        traffic=Traffic(sent=12, backlog=3),
        messages=9,
        stored=90,
        latest={meter: readings},
        news=("one", "two", "three", "four"),
    )


def row(shown: Picture) -> str:
    return next(line for line in table(shown, lines_max=100) if line.startswith(METER))


def test_a_meter_s_line_has_its_last_values() -> None:
    shown = row(
        picture(
            reading("32.7.0", 229.14),
            reading("1.7.0", 0.0484),
            reading("1.8.0", 1842.5),
            reading("96.8.0", 12.4),
            reading("96.11.1", "connected"),
        )
    )
    assert shown.split() == [
        METER,
        PLAN.customers[0].load_class.value,
        *("229.1", "0.048", "1842.50", "12.400", "connected", "good", "2", "s"),
    ]


def test_the_worst_quality_and_the_newest_time_are_a_meter_s() -> None:
    shown = row(
        picture(
            reading("32.7.0", 229.1, age_s=9, quality=Quality.COMMS_LOST),
            reading("1.7.0", 0.05, age_s=4, quality=Quality.SUSPECT),
        )
    )
    assert shown.split()[-3:] == ["comms_lost", "4", "s"]


def test_a_meter_never_heard_of_has_an_empty_line() -> None:
    assert row(picture()).split() == [METER, PLAN.customers[0].load_class.value]


def test_what_does_not_fit_is_counted() -> None:
    whole = table(picture(), lines_max=100)
    assert not any("more" in line for line in whole)
    assert sum(line.startswith(("VM-", "FH-")) for line in whole) == 30
    short = table(picture(), lines_max=24)
    assert len(short) <= 24
    shown = sum(line.startswith(("VM-", "FH-")) for line in short)
    assert f"… and {30 - shown} more" in short


def test_the_latest_news_stand_below() -> None:
    assert table(picture(), lines_max=100)[-3:] == ["two", "three", "four"]


def test_a_head_end_that_is_down_is_seen() -> None:
    assert "DOWN" in "\n".join(table(picture(headend_runs=False), lines_max=40))
    assert "DOWN" not in "\n".join(table(picture(), lines_max=40))
    assert summary(picture(headend_runs=False)).endswith("head-end down")


def test_the_summary_counts_both_ends() -> None:
    assert summary(picture()) == ("01:01  sent 12 messages, stored 9 with 90 readings, backlog 3")


def test_a_relay_that_moved_is_told() -> None:
    closed = {METER: [reading("96.11.1", "connected")]}
    opened = {METER: [reading("32.7.0", 230.0), reading("96.11.1", "disconnected")]}
    assert relay_changes(closed, opened) == [
        f"{METER}: the relay is disconnected now, because the credit is used up"
    ]
    assert relay_changes(opened, closed) == [
        f"{METER}: the relay is connected now, because credit was bought"
    ]


def test_a_relay_that_was_ordered_is_told_as_ordered() -> None:
    closed = {METER: [reading("96.11.1", "connected")]}
    opened = {METER: [reading("96.11.1", "disconnected")]}
    [told] = relay_changes(closed, opened, ordered=METER)
    assert told.startswith(f"{METER}: the relay is disconnected now, as it was ordered")


def test_a_relay_that_stands_or_is_new_is_not_told() -> None:
    closed = {METER: [reading("96.11.1", "connected")]}
    assert relay_changes(closed, closed) == []
    assert relay_changes({}, closed) == []
    assert relay_changes(closed, {}) == []
