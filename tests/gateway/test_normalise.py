"""From what a meter told to what we vouch for."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.gateway.driver import PollGroup, RawReading, RegisterInfo
from openami.gateway.normalise import (
    METER_CLOCK_DRIFT_S_MAX,
    REGISTERS_PER_ENVELOPE_MAX,
    ROLLBACK_CONFIRMED_READINGS,
    TEXT_CHARS_MAX,
    Change,
    Doubt,
    Memory,
    Normalised,
    Source,
    envelopes,
    lost_readings,
    normalise,
    settled,
    to_the_millisecond,
    unit_faults,
    without_unknown_times,
)
from openami.profile import (
    EventState,
    FeederId,
    GatewayId,
    MeterSerial,
    Obis,
    Quality,
    decode_envelope,
    shipped_catalogue,
)

NOW = datetime(2026, 6, 22, 14, 30, 0, 250_900, tzinfo=UTC)
SECOND = timedelta(seconds=1)
BOOTTIME_S = 1000.25
IMPORT = Obis.parse("1.8.0")
VOLTAGE = Obis.parse("32.7.0")
NET_POWER = Obis.parse("16.7.0")
RELAY = Obis.parse("96.11.1")
SERIAL = Obis.parse("96.1.0")
METER_CLOCK = Obis.parse("1.0.0")
OF_NO_LIST = Obis.parse("1-0:129.8.7*255")

INFOS = {
    info.obis: info
    for info in (
        RegisterInfo(
            IMPORT, "kWh", PollGroup.BILLING, decimals=2, monotonic=True, rollover=99_999.99
        ),
        RegisterInfo(VOLTAGE, "V", PollGroup.FAST, decimals=1, minimum=0, maximum=500),
        RegisterInfo(NET_POWER, "kW", PollGroup.FAST, decimals=3),
        RegisterInfo(RELAY, "enum", PollGroup.BILLING),
        RegisterInfo(SERIAL, "", PollGroup.DAILY),
        RegisterInfo(METER_CLOCK, "ISO 8601", PollGroup.DAILY),
        RegisterInfo(OF_NO_LIST, "furlong", PollGroup.DAILY),
    )
}


def judged(
    *raw: RawReading,
    memory: Memory | None = None,
    now: datetime = NOW,
    clock_trusted: bool = True,
) -> Normalised:
    return normalise(
        raw,
        infos=INFOS,
        catalogue=shipped_catalogue(),
        memory={} if memory is None else memory,
        now=now,
        boottime_s=BOOTTIME_S,
        clock_trusted=clock_trusted,
    )


def kwh(text: str) -> RawReading:
    return RawReading(IMPORT, Decimal(text), "kWh")


def told_in_turn(values: Sequence[str]) -> list[tuple[float, Quality, tuple[Change, ...]]]:
    """Judge a counter's values one after the other; return what was published of each."""
    memory: Memory = {}
    published = []
    for index, value in enumerate(values):
        result = judged(kwh(value), memory=memory, now=NOW + index * SECOND)
        memory = result.memory
        reading = result.readings[0].reading
        assert isinstance(reading.value, int | float)
        published.append((float(reading.value), reading.quality, result.changes))
    return published


# --- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (RawReading(VOLTAGE, Decimal("230.49999237060547"), "V"), 230.5),
        (RawReading(VOLTAGE, Decimal("49.979999542236328"), "V"), 50.0),
        (RawReading(IMPORT, Decimal("1842.50"), "kWh"), 1842.5),
        (RawReading(IMPORT, Decimal("167772.17"), "kWh"), 167772.17),
        (RawReading(NET_POWER, Decimal("-0.951"), "kW"), -0.951),
        (RawReading(NET_POWER, Decimal("-0.0004"), "kW"), 0.0),
        (RawReading(IMPORT, 1842, "kWh"), 1842),
        (RawReading(RELAY, "connected", "enum"), "connected"),
        (RawReading(OF_NO_LIST, 7, "furlong"), 7),
        (RawReading(OF_NO_LIST, True, "furlong"), True),
    ],
)
def test_a_value_keeps_what_the_meter_said(raw: RawReading, expected: object) -> None:
    (timed,) = judged(raw).readings
    assert timed.reading.value == expected
    assert str(timed.reading.value) != "-0.0"
    assert timed.reading.quality is Quality.GOOD
    assert timed.reading.unit == INFOS[raw.obis].unit


def test_a_measured_time_is_the_millisecond_the_answer_was_in_hand() -> None:
    (timed,) = judged(kwh("1")).readings
    assert timed.ts == NOW.replace(microsecond=250_000)


def test_a_meter_with_a_time_of_its_own_is_believed() -> None:
    then = NOW - timedelta(hours=6)
    (timed,) = judged(RawReading(IMPORT, 5, "kWh", meter_time=then)).readings
    assert (timed.ts, timed.reading.quality) == (to_the_millisecond(then), Quality.GOOD)


def test_a_meter_ahead_of_a_trusted_clock_is_not() -> None:
    ahead = NOW + timedelta(seconds=METER_CLOCK_DRIFT_S_MAX + 1)
    raw = RawReading(IMPORT, 5, "kWh", meter_time=ahead)
    result = judged(raw)
    assert result.readings[0].ts == to_the_millisecond(NOW)
    assert result.readings[0].reading.quality is Quality.SUSPECT
    assert result.changes[0].doubt is Doubt.CLOCK_INVALID
    assert judged(raw, clock_trusted=False).readings[0].ts == to_the_millisecond(ahead)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (RawReading(Obis.parse("9.9.9"), 1, "V"), "map does not have"),
        (RawReading(VOLTAGE, 230, "mV"), "the unit is 'mV', expected 'V'"),
        (RawReading(VOLTAGE, "230", "V"), "a string where a number belongs"),
        (RawReading(VOLTAGE, True, "V"), "a boolean where a number belongs"),
        (RawReading(RELAY, 1, "enum"), "a number where a string belongs"),
        (RawReading(VOLTAGE, Decimal("NaN"), "V"), "not a number"),
        (RawReading(VOLTAGE, Decimal("-Infinity"), "V"), "not a number"),
        (RawReading(VOLTAGE, Decimal("1e400"), "V"), "beyond what a double holds"),
        (RawReading(SERIAL, "x" * (TEXT_CHARS_MAX + 1), ""), "at most 256"),
        (RawReading(SERIAL, "12\x0034", ""), "cannot be printed"),
        (RawReading(SERIAL, "12\ud80034", ""), "cannot be printed"),
    ],
)
def test_what_is_no_value_of_the_register_is_left_out(raw: RawReading, reason: str) -> None:
    result = judged(raw, kwh("1"))
    assert [timed.reading.obis for timed in result.readings] == [IMPORT]
    (unusable,) = result.unusable
    assert unusable.obis == raw.obis
    assert reason in unusable.reason
    assert raw.obis not in result.memory


def test_a_text_of_the_longest_length_is_taken() -> None:
    (timed,) = judged(RawReading(SERIAL, "x" * TEXT_CHARS_MAX, "")).readings
    assert timed.reading.quality is Quality.GOOD


def test_a_map_whose_unit_is_not_the_lists_is_a_fault() -> None:
    wrong = RegisterInfo(IMPORT, "Wh", PollGroup.BILLING)
    assert unit_faults(INFOS.values(), shipped_catalogue()) == []
    (fault,) = unit_faults([wrong], shipped_catalogue())
    assert "1.8.0" in fault
    assert "'kWh' in the register list, 'Wh' in the meter's map" in fault


def test_a_unit_is_published_as_the_list_spells_it() -> None:
    info = RegisterInfo(IMPORT, "KWH", PollGroup.BILLING)
    assert unit_faults([info], shipped_catalogue()) == []
    result = normalise(
        [RawReading(IMPORT, 1, "KWH")],
        infos={IMPORT: info},
        catalogue=shipped_catalogue(),
        memory={},
        now=NOW,
        boottime_s=BOOTTIME_S,
        clock_trusted=True,
    )
    assert result.readings[0].reading.unit == "kWh"


# --- doubts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "quality"),
    [
        ("0", Quality.GOOD),
        ("500", Quality.GOOD),
        ("500.1", Quality.SUSPECT),
        ("-0.1", Quality.SUSPECT),
        ("6502.5", Quality.SUSPECT),
        ("-3.7e19", Quality.SUSPECT),
    ],
)
def test_the_narrower_range_decides_and_its_bounds_belong_to_it(
    value: str, quality: Quality
) -> None:
    (timed,) = judged(RawReading(VOLTAGE, Decimal(value), "V")).readings
    assert timed.reading.quality is quality


def test_a_state_that_is_none_of_the_list_is_suspect() -> None:
    result = judged(RawReading(RELAY, "ajar", "enum"))
    assert result.readings[0].reading.quality is Quality.SUSPECT
    assert result.changes[0].detail.startswith("'ajar' is none of connected")


def test_a_doubt_is_told_when_it_begins_and_when_it_ends_and_not_between() -> None:
    memory: Memory = {}
    told = []
    for volts in ("230", "999", "998", "231", "232"):
        result = judged(RawReading(VOLTAGE, Decimal(volts), "V"), memory=memory)
        memory = result.memory
        told.append([(change.doubt, change.state) for change in result.changes])
    assert told == [
        [],
        [(Doubt.IMPLAUSIBLE_VALUE, EventState.RAISED)],
        [],
        [(Doubt.IMPLAUSIBLE_VALUE, EventState.CLEARED)],
        [],
    ]


def test_one_low_glitch_is_suspect_and_what_follows_is_good() -> None:
    qualities = [quality for _, quality, _ in told_in_turn(["1842", "12", "1843", "1844"])]
    assert qualities == [Quality.GOOD, Quality.SUSPECT, Quality.GOOD, Quality.GOOD]


def test_a_counter_that_went_back_is_believed_again_when_it_has_gone_on() -> None:
    published = told_in_turn(["1842", "0", "0.5", "0.5", "0.6", "0.4"])
    assert [quality for _, quality, _ in published] == [
        Quality.GOOD,
        Quality.SUSPECT,
        Quality.SUSPECT,
        Quality.GOOD,
        Quality.GOOD,
        Quality.SUSPECT,
    ]
    states = [[change.state for change in changes] for _, _, changes in published]
    assert states == [[], [EventState.RAISED], [], [EventState.CLEARED], [], [EventState.RAISED]]


def test_a_counter_that_keeps_going_back_is_never_believed() -> None:
    qualities = [q for _, q, _ in told_in_turn(["9", "8", "7", "6", "5", "4", "3", "2"])]
    assert qualities == [Quality.GOOD] + [Quality.SUSPECT] * 7


@pytest.mark.parametrize(
    ("before", "after", "quality"),
    [
        ("99999.00", "0.50", Quality.GOOD),
        ("99500.00", "499.98", Quality.GOOD),
        ("99500.00", "500.02", Quality.SUSPECT),  # more than 1 % of the range in between
        ("50000.00", "0.00", Quality.SUSPECT),
        ("99999.99", "99999.98", Quality.SUSPECT),
    ],
)
def test_a_rollover_is_no_rollback(before: str, after: str, quality: Quality) -> None:
    assert told_in_turn([before, after])[1][1] is quality


@pytest.mark.parametrize(
    ("text", "trusted", "quality"),
    [
        ("2026-06-22T14:30:59Z", True, Quality.GOOD),
        ("2026-06-22T14:31:00Z", True, Quality.GOOD),
        ("2026-06-22T14:31:01Z", True, Quality.SUSPECT),
        ("2026-06-22T20:00:00+05:30", True, Quality.GOOD),
        ("2026-06-22T14:28:59Z", True, Quality.SUSPECT),
        ("2006-06-22T14:28:59Z", False, Quality.GOOD),  # ours is no better
        ("2026-06-22T14:30:00", True, Quality.GOOD),  # whose zone?
        ("soon", True, Quality.SUSPECT),
    ],
)
def test_a_meters_clock_is_held_against_a_trusted_one(
    text: str, trusted: bool, quality: Quality
) -> None:
    result = judged(RawReading(METER_CLOCK, text, "ISO 8601"), clock_trusted=trusted)
    assert result.readings[0].reading.quality is quality


# --- comms_lost ----------------------------------------------------------------------------------


def test_a_lost_meter_is_told_with_its_last_values_and_their_own_time() -> None:
    memory = judged(kwh("1842.5")).memory
    memory = judged(RawReading(VOLTAGE, 230, "V"), memory=memory, now=NOW + 60 * SECOND).memory
    lost = lost_readings(memory, [IMPORT, VOLTAGE, RELAY])
    assert [(t.ts, t.reading.obis, t.reading.value, t.reading.quality) for t in lost] == [
        (to_the_millisecond(NOW), IMPORT, 1842.5, Quality.COMMS_LOST),
        (to_the_millisecond(NOW + 60 * SECOND), VOLTAGE, 230, Quality.COMMS_LOST),
    ]


def test_a_suspect_value_is_not_repeated_as_a_known_one() -> None:
    memory = judged(kwh("1842.5")).memory
    memory = judged(kwh("12"), memory=memory, now=NOW + SECOND).memory
    (lost,) = lost_readings(memory, [IMPORT])
    assert (lost.ts, lost.reading.value) == (to_the_millisecond(NOW), 1842.5)
    only_suspect = judged(RawReading(VOLTAGE, 9999, "V")).memory
    assert lost_readings(only_suspect, [VOLTAGE]) == ()


# --- envelopes -----------------------------------------------------------------------------------

SOURCE = Source(FeederId("feeder-1"), GatewayId("pole-1"))
METER = MeterSerial("DS1000-88421")


def test_one_envelope_for_each_measured_time() -> None:
    earlier = RawReading(VOLTAGE, 230, "V", meter_time=NOW - timedelta(minutes=15))
    readings = judged(kwh("1"), earlier, RawReading(RELAY, "connected", "enum")).readings
    made = [made for made, _ in envelopes(readings, source=SOURCE, serial=METER)]
    assert [[str(r.obis) for r in envelope.registers] for envelope in made] == [
        ["32.7.0"],
        ["1.8.0", "96.11.1"],
    ]
    assert [decode_envelope(envelope.encode()) for envelope in made] == made
    assert list(envelopes([], source=SOURCE, serial=METER)) == []


def test_an_envelope_fits_a_message() -> None:
    info = {
        (obis := Obis.parse(f"1-0:200.{d}.{e}")): RegisterInfo(obis, "u" * 20, PollGroup.DAILY)
        for d in range(2)
        for e in range(REGISTERS_PER_ENVELOPE_MAX // 2 + 1)
    }
    raw = [RawReading(obis, Decimal("123456.789"), "u" * 20) for obis in info]
    result = normalise(
        raw,
        infos=info,
        catalogue=shipped_catalogue(),
        memory={},
        now=NOW,
        boottime_s=BOOTTIME_S,
        clock_trusted=True,
    )
    made = [made for made, _ in envelopes(result.readings, source=SOURCE, serial=METER)]
    assert [len(envelope.registers) for envelope in made] == [REGISTERS_PER_ENVELOPE_MAX, 2]
    assert all(envelope.encode() for envelope in made)


def test_a_time_of_our_own_clock_goes_with_its_second_of_this_boot() -> None:
    earlier = RawReading(VOLTAGE, 230, "V", meter_time=NOW - timedelta(minutes=15))
    readings = judged(kwh("1"), earlier).readings
    made = envelopes(readings, source=SOURCE, serial=METER)
    assert [boottime_s for _, boottime_s in made] == [None, BOOTTIME_S]


# --- an untrusted clock --------------------------------------------------------------------------


def test_what_an_untrusted_clock_dated_is_put_right_when_it_is_trusted() -> None:
    wrong = datetime(1970, 1, 1, tzinfo=UTC)
    memory = judged(kwh("5"), now=wrong, clock_trusted=False).memory
    later = settled(memory, NOW - timedelta(seconds=2000.25))  # booted so long ago
    assert [t.ts for t in lost_readings(later, [IMPORT])] == [
        to_the_millisecond(NOW - 1000 * SECOND)
    ]
    assert settled(later, NOW) == later


def test_a_time_that_was_never_known_is_not_told_after_a_restart() -> None:
    memory = judged(kwh("5"), clock_trusted=False).memory
    assert lost_readings(without_unknown_times(memory), [IMPORT]) == ()
    known = judged(kwh("5")).memory
    assert without_unknown_times(known) == known


# --- what must always hold -----------------------------------------------------------------------

counters = st.lists(
    st.decimals(min_value=-10, max_value=120_000, places=2), min_size=1, max_size=25
)


@given(counters)
def test_a_rollback_is_never_good_before_it_is_confirmed(values: list[Decimal]) -> None:
    """A value below the last good one is good only as a rollover, or when the counter has gone on."""
    memory: Memory = {}
    suspects_below = 0
    for index, value in enumerate(values):
        known = None if IMPORT not in memory else memory[IMPORT].known
        result = judged(RawReading(IMPORT, value, "kWh"), memory=memory, now=NOW + index * SECOND)
        memory = result.memory
        good = result.readings[0].reading.quality is Quality.GOOD
        if not 0 <= value <= Decimal("999999999.999"):
            assert not good
            suspects_below = 0
        elif known is None or float(value) >= float(known.value):
            assert good
            suspects_below = 0
        elif good:
            grew = 99_999.99 - float(known.value) + float(value)
            assert grew <= 1000 or suspects_below >= ROLLBACK_CONFIRMED_READINGS - 1
            suspects_below = 0
        else:
            suspects_below += 1


@given(st.decimals(allow_nan=True, allow_infinity=True) | st.integers())
def test_what_is_published_of_a_voltage_is_in_range_or_suspect(value: Decimal | int) -> None:
    result = judged(RawReading(VOLTAGE, value, "V"))
    for timed in result.readings:
        number = timed.reading.value
        assert isinstance(number, int | float)
        assert timed.reading.quality is Quality.SUSPECT or 0 <= number <= 500
    for envelope, _ in envelopes(result.readings, source=SOURCE, serial=METER):
        assert decode_envelope(envelope.encode()).registers == envelope.registers


@given(counters, st.integers(0, 10**6))
def test_a_lost_value_keeps_the_time_and_value_it_was_good_with(
    values: list[Decimal], silence_s: int
) -> None:
    memory: Memory = {}
    good: list[tuple[datetime, object]] = []
    for index, value in enumerate(values):
        result = judged(RawReading(IMPORT, value, "kWh"), memory=memory, now=NOW + index * SECOND)
        memory = result.memory
        good += [
            (timed.ts, timed.reading.value)
            for timed in result.readings
            if timed.reading.quality is Quality.GOOD
        ]
    lost = [(t.ts, t.reading.value) for t in lost_readings(memory, [IMPORT])]
    assert lost == good[-1:]
