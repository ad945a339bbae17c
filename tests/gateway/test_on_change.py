"""What need not be told, and that nobody is misled by it: the rule, and the collector under it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.pole import GatewayProgram, modbus_meters
from tests.gateway.scripted_driver import IMPORT, POWER, VOLTAGE
from tests.gateway.test_collector import SOURCE, FullStore, Pole, pole

from openami.gateway.config import DATABASE_FILE
from openami.gateway.database import read_only
from openami.gateway.driver import PollGroup, RegisterInfo
from openami.gateway.normalise import TimedReading
from openami.gateway.on_change import Deadband, GroupReport, OnChange, Reported
from openami.headend.completeness import Told, account, usual_interval
from openami.headend.store.arrivals import Arrival
from openami.profile import (
    Envelope,
    Obis,
    Quality,
    RegisterReading,
    Value,
    decode_envelope,
    shipped_catalogue,
)

WAIT_S = 60.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
START = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
CATALOGUE = shipped_catalogue()
RELAY = Obis.parse("96.3.10")
INFOS = {
    VOLTAGE: RegisterInfo(VOLTAGE, "V", PollGroup.FAST),
    POWER: RegisterInfo(POWER, "kW", PollGroup.FAST),
    RELAY: RegisterInfo(RELAY, "enum", PollGroup.FAST),
    IMPORT: RegisterInfo(IMPORT, "kWh", PollGroup.FAST),
}
REPORT = GroupReport(heartbeat_s=600, deadband={"32.7.0": 2, "1.7.0": "5%"})
ON_CHANGE = OnChange({PollGroup.FAST: REPORT})


def told(
    values: dict[Obis, Value],
    reported: dict[Obis, Reported],
    now: datetime,
    *,
    quality: Quality = Quality.GOOD,
    accounted: bool = True,
    something_happened: bool = False,
    rule: OnChange = ON_CHANGE,
) -> tuple[dict[Obis, Value], dict[Obis, Reported]]:
    """Return what one poll tells, and what is then known to have been told."""
    readings = [
        TimedReading(now, RegisterReading(code, value, INFOS[code].unit, quality))
        for code, value in values.items()
    ]
    some, after = rule.told(
        readings,
        reported,
        infos=INFOS,
        catalogue=CATALOGUE,
        now=now,
        accounted=accounted,
        something_happened=something_happened,
    )
    return {timed.reading.obis: timed.reading.value for timed in some}, dict(after)


VALUES: dict[Obis, Value] = {VOLTAGE: 230.0, POWER: 0.2, RELAY: "connected", IMPORT: 18.0}
MINUTE = timedelta(minutes=1)


def test_the_first_is_told_and_what_stays_within_its_deadband_is_not() -> None:
    first, known = told(VALUES, {}, START)
    assert first == VALUES
    near = {**VALUES, VOLTAGE: 232.0, POWER: 0.21}
    assert told(near, known, START + MINUTE)[0] == {IMPORT: 18.0}  # a counter is always told
    beyond = {**VALUES, VOLTAGE: 232.1, POWER: 0.211, RELAY: "disconnected"}
    assert told(beyond, known, START + MINUTE)[0] == beyond


def test_a_value_that_creeps_is_told_when_it_has_left_what_was_told() -> None:
    """The deadband lies around what the head-end has, not around the last reading."""
    _, known = told(VALUES, {}, START)
    for minute, voltage in enumerate((231.0, 231.9), 1):
        some, known = told({VOLTAGE: voltage}, known, START + minute * MINUTE)
        assert some == {}
    some, _ = told({VOLTAGE: 232.5}, known, START + 3 * MINUTE)
    assert some == {VOLTAGE: 232.5}


@pytest.mark.parametrize("step", [timedelta(minutes=10), -MINUTE], ids=["heartbeat", "set back"])
def test_a_new_heartbeat_tells_everything(step: timedelta) -> None:
    _, known = told(VALUES, {}, START)
    assert told(VALUES, known, START + step)[0] == VALUES


def test_a_quality_that_changes_either_way_is_told_and_one_that_lasts_is_not() -> None:
    _, known = told(VALUES, {}, START)
    lower, known = told(VALUES, known, START + MINUTE, quality=Quality.SUSPECT)
    assert lower == VALUES
    lasting, known = told(VALUES, known, START + 2 * MINUTE, quality=Quality.SUSPECT)
    assert lasting == {IMPORT: 18.0}
    assert told(VALUES, known, START + 3 * MINUTE)[0] == VALUES


def test_beside_an_event_all_that_was_read_is_told() -> None:
    _, known = told(VALUES, {}, START)
    assert told(VALUES, known, START + MINUTE, something_happened=True)[0] == VALUES


def test_of_a_meter_that_is_accounted_by_another_register_nothing_is_withheld() -> None:
    _, known = told(VALUES, {}, START, accounted=False)
    assert told(VALUES, known, START + MINUTE, accounted=False)[0] == VALUES


@pytest.mark.parametrize(
    ("info", "covered"),
    [
        (INFOS[VOLTAGE], True),
        (INFOS[IMPORT], False),  # a counter by the register list
        (RegisterInfo(Obis.parse("128.8.0"), "kWh", PollGroup.FAST, monotonic=True), False),
        (RegisterInfo(Obis.parse("128.8.0"), "kWh", PollGroup.FAST), True),
        (RegisterInfo(VOLTAGE, "V", PollGroup.BILLING), False),
    ],
)
def test_counters_are_never_covered(info: RegisterInfo, covered: bool) -> None:
    assert ON_CHANGE.covers(info, CATALOGUE, accounted=True) is covered


def test_a_group_that_is_not_named_is_told_as_before() -> None:
    daily = OnChange({PollGroup.DAILY: GroupReport(heartbeat_s=86400)})
    _, known = told(VALUES, {}, START, rule=daily)
    assert told(VALUES, known, START + MINUTE, rule=daily)[0] == VALUES


@pytest.mark.parametrize(
    ("before", "after"), [(True, 1), ("1", 1), (0.0, "0"), (True, False), ("on", "off")]
)
def test_values_of_two_kinds_are_two_values(before: Value, after: Value) -> None:
    assert not Deadband(10.0).holds(before, after)
    assert Deadband(10.0).holds(after, after)


numbers = st.floats(-1e6, 1e6).map(lambda x: round(x, 3)) | st.integers(-3, 3)
polls = st.lists(
    st.tuples(
        st.integers(1, 900),
        st.fixed_dictionaries({}, optional={VOLTAGE: numbers, POWER: numbers}),
        st.sampled_from([Quality.GOOD, Quality.SUSPECT]),
        st.booleans(),
    ),
    max_size=40,
)


@given(polls)
def test_who_hears_is_never_further_off_than_the_deadband(
    script: Sequence[tuple[int, dict[Obis, Value], Quality, bool]],
) -> None:
    """Whatever comes: what was last told stands for what is measured, in value, quality and time."""
    now, known = START, dict[Obis, Reported]()
    heard: dict[Obis, tuple[float, Quality, datetime]] = {}
    for seconds, values, quality, happened in script:
        now += timedelta(seconds=seconds)
        some, known = told(values, known, now, quality=quality, something_happened=happened)
        for code, value in some.items():
            assert isinstance(value, int | float)
            heard[code] = value, quality, now
        for code, value in values.items():
            assert isinstance(value, int | float)
            last, of_quality, at = heard[code]
            width = 2 if code == VOLTAGE else 0.05 * abs(last)
            assert abs(value - last) <= width
            assert of_quality is quality
            assert (at - EPOCH) // timedelta(seconds=600) == (now - EPOCH) // timedelta(seconds=600)
        if happened:
            assert some == values


# --- the collector under it ----------------------------------------------------------------------


@pytest.fixture
async def village(tmp_path: Path) -> AsyncIterator[Pole]:
    async with pole(tmp_path) as made:
        made.around(on_change=lambda: ON_CHANGE)
        yield made


def measured(envelopes: Sequence[Envelope], code: Obis) -> list[datetime]:
    return [e.ts for e in envelopes for r in e.registers if r.obis == code and e.event is None]


async def test_a_quiet_meter_is_told_by_its_heartbeats_and_its_day_is_complete(
    village: Pole,
) -> None:
    """Billing registers come as ever, so the head-end's account of the day misses nothing (decision 0030)."""
    await village.run(6 * 3600)
    envelopes = await village.new()
    beats = measured(envelopes, VOLTAGE)
    assert len(beats) == 1 + 6 * 6
    assert {ts.minute % 10 for ts in beats[1:]} == {0}
    billing = [round(ts.timestamp() * 1000) for ts in measured(envelopes, IMPORT)]
    assert usual_interval(billing) == 300
    day = account(
        (SOURCE.feeder_id, SOURCE.gateway_id, "METER-A"),
        date(2026, 7, 1),
        [Arrival(ms, 0, Quality.GOOD) for ms in billing],
        interval_s=usual_interval(billing),
        known_since=envelopes[0].ts,
        told=Told(),
        now=village.clock.now(),
    )
    assert (day.missing, day.received) == (0, 6 * 12)


async def test_a_change_is_told_at_the_poll_that_sees_it(village: Pole) -> None:
    await village.run(60)
    await village.new()
    village.bench.meter(village.serials[0]).values[POWER] = Decimal("1.9")
    await village.run(60)
    (envelope,) = await village.new()
    assert [(r.obis, r.value) for r in envelope.registers] == [(POWER, 1.9)]


async def test_a_meter_that_is_back_tells_all(village: Pole) -> None:
    await village.run(60)
    meter = village.bench.meter(village.serials[0])
    meter.fall_silent()
    await village.run(3 * 60)
    await village.new()
    meter.recover()
    await village.run(60)
    assert len(measured(await village.new(), VOLTAGE)) == 1


async def test_what_could_not_be_stored_was_not_told(village: Pole) -> None:
    store = FullStore(village.outbox)
    village.around(store=store)
    await village.run(1)
    store.full = False
    await village.run(60)
    assert len(measured(await village.new(), VOLTAGE)) == 1


async def test_a_new_process_tells_everything(village: Pole) -> None:
    await village.run(60)
    await village.new()
    await village.start()
    village.around(on_change=lambda: ON_CHANGE)
    await village.run(1)
    assert len(measured(await village.new(), VOLTAGE)) == 1


# --- the program ---------------------------------------------------------------------------------


async def test_the_program_does_what_its_file_says(tmp_path: Path) -> None:
    """A quiet meter's fast registers come with the heartbeats, its counters with every billing poll."""
    async with modbus_meters(1) as port:
        program = GatewayProgram(tmp_path, mqtt={"url": "mqtt://127.0.0.1:1"}, modbus_port=port)
        report = ["[report.fast]", "heartbeat_s = 60"]
        program.configure(meters=1, fast_s=1, billing_s=1, more=report)
        program.start()
        try:
            await program.ready()
            async with asyncio.timeout(WAIT_S):
                while program.figures().last_seq < 5:
                    await asyncio.sleep(0.1)
        finally:
            program.end()
    with read_only(program.data_dir / DATABASE_FILE) as connection:
        payloads = connection.execute("SELECT payload FROM outbox_payload ORDER BY seq").fetchall()
    envelopes = [decode_envelope(payload) for (payload,) in payloads]
    assert len(measured(envelopes, IMPORT)) >= 3
    beats = {ts.replace(second=0, microsecond=0) for ts in measured(envelopes, VOLTAGE)}
    assert len(measured(envelopes, VOLTAGE)) == len(beats)
