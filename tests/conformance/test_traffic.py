"""The profile of traffic counts what came, and stays small whatever comes."""

from datetime import timedelta

import pytest
from tests.conformance.report.sample import BEGAN, NAME, PLAIN, afternoon, telemetry, topic, traffic

from openami.conformance.observation import Connected, Published
from openami.conformance.traffic import (
    CONNECTIONS_KEPT_MAX,
    GATEWAYS_MAX,
    HOURS_KEPT_MAX,
    METERS_MAX,
    REGISTERS_PER_METER_MAX,
    SEQ_GAPS_KEPT_MAX,
    SPACINGS_KEPT_MAX,
    UNITS_PER_REGISTER_MAX,
    Traffic,
    usual_interval_s,
)

REGISTER = [("1.8.0", 1, "kWh", "good")]


def published(on: str, payload: bytes = b"{}") -> Published:
    return Published(BEGAN, on, payload, qos=1, retain=False)


def test_an_afternoon_is_counted() -> None:
    profile = traffic()
    meter = profile.meters[NAME, "DS1000-88422"]
    assert meter.telemetry.messages == 13
    assert meter.registers["31.7.0"].units == ["mA"]
    assert meter.registers["1.8.0"].suspect == 13
    assert usual_interval_s(meter.spacings) == 900
    assert profile.gateways[NAME].keep_alive_s == 60
    silent = profile.meters[NAME, "DS1000-88423"]
    assert silent.registers["1.8.0"].comms_lost == 4
    assert silent.moments == 10


def test_what_is_no_envelope_is_counted_with_its_bytes() -> None:
    profile = Traffic()
    profile.see(published(topic("M-1"), b"not JSON"))
    meter = profile.meters[NAME, "M-1"]
    assert (meter.unreadable, meter.telemetry.payload_bytes) == (1, 8)


def test_the_good_registers_of_a_bad_message_are_counted() -> None:
    profile = Traffic()
    profile.see(telemetry("M-1", BEGAN, [*REGISTER, ("32.7.0", None, "V", "good")]))
    assert list(profile.meters[NAME, "M-1"].registers) == ["1.8.0"]


@pytest.mark.parametrize(
    "on", ["", "a/b", topic("M-1", "command"), f"openami/v1/{NAME}/session/s-1", "\0"]
)
def test_other_topics_are_elsewhere(on: str) -> None:
    profile = Traffic()
    profile.see(published(on))
    assert (profile.elsewhere, profile.meters) == (1, {})


def test_what_is_sent_again_is_no_second_message() -> None:
    profile = Traffic()
    profile.see(telemetry("M-1", BEGAN, REGISTER))
    profile.see(telemetry("M-1", BEGAN, REGISTER, dup=True))
    meter = profile.meters[NAME, "M-1"]
    assert (meter.telemetry.messages, meter.timed) == (1, 1)


def test_events_are_another_flow() -> None:
    profile = Traffic()
    message = telemetry("M-1", BEGAN, REGISTER)
    profile.see(Published(BEGAN, topic("M-1", "event"), message.payload, 1, False))
    meter = profile.meters[NAME, "M-1"]
    assert (meter.telemetry.messages, meter.events.messages, meter.moments) == (0, 1, 0)


# --- bounds --------------------------------------------------------------------------------------


def test_meters_beyond_the_bound_are_counted_and_not_kept() -> None:
    profile = Traffic()
    for number in range(METERS_MAX + 3):
        profile.see(published(topic(f"M-{number}")))
    assert (len(profile.meters), profile.left_out) == (METERS_MAX, 3)


def test_gateways_beyond_the_bound_are_counted_and_not_kept() -> None:
    profile = Traffic()
    for number in range(GATEWAYS_MAX + 2):
        profile.see(published(f"openami/v1/f-1/gw-{number}/meter/M-1/telemetry"))
    assert (len(profile.gateways), profile.left_out) == (GATEWAYS_MAX, 2)


def test_registers_and_units_have_bounds() -> None:
    profile = Traffic()
    for number in range(REGISTERS_PER_METER_MAX + 4):
        code = f"1.8.{number}" if number < 100 else f"2.8.{number - 100}"
        profile.see(telemetry("M-1", BEGAN, [(code, 1, "kWh", "good")]))
    for number in range(UNITS_PER_REGISTER_MAX + 4):
        profile.see(telemetry("M-1", BEGAN, [("1.8.0", 1, f"u{number}" * 100, "good")]))
    meter = profile.meters[NAME, "M-1"]
    assert (len(meter.registers), meter.registers_left_out) == (REGISTERS_PER_METER_MAX, 4)
    assert len(meter.registers["1.8.0"].units) == UNITS_PER_REGISTER_MAX
    assert max(map(len, meter.registers["1.8.0"].units)) <= 24


def test_hours_and_spacings_have_bounds() -> None:
    profile = Traffic()
    ts = BEGAN
    for number in range(HOURS_KEPT_MAX + 10):
        ts += timedelta(seconds=3600 + number)
        profile.see(telemetry("M-1", ts, REGISTER))
        profile.see(telemetry("M-1", ts, [("1.8.0", 1, "kWh", "comms_lost")], at=ts))
    meter = profile.meters[NAME, "M-1"]
    assert len(meter.minutes) == HOURS_KEPT_MAX
    assert len(meter.lost_hours) == HOURS_KEPT_MAX
    assert len(meter.spacings) == SPACINGS_KEPT_MAX


def test_gaps_have_a_bound() -> None:
    profile = Traffic()
    for seq in range(0, 3 * (SEQ_GAPS_KEPT_MAX + 5), 3):
        profile.see(telemetry("M-1", BEGAN, REGISTER, seq=seq))
    gateway = profile.gateways[NAME]
    assert len(gateway.gaps) == SEQ_GAPS_KEPT_MAX
    assert gateway.gaps_left_out == 4


def test_connections_have_a_bound() -> None:
    profile = Traffic()
    for number in range(CONNECTIONS_KEPT_MAX + 5):
        profile.see(Connected(BEGAN, number, NAME, "5", True, 30, None, None, None))
    profile.see(telemetry("M-1", BEGAN, REGISTER, connection=0))
    assert profile.gateways[NAME].keep_alive_s is None
    profile.see(telemetry("M-1", BEGAN, REGISTER, connection=CONNECTIONS_KEPT_MAX + 4))
    assert profile.gateways[NAME].keep_alive_s == 30


# --- numbers -------------------------------------------------------------------------------------


def gaps(*seqs: int) -> list[tuple[int, int]]:
    profile = Traffic()
    for seq in seqs:
        profile.see(telemetry("M-1", BEGAN, REGISTER, seq=seq))
    return [(gap.first, gap.last) for gap in profile.gateways[NAME].gaps]


@pytest.mark.parametrize(
    ("seqs", "expected"),
    [
        ((1, 2, 3), []),
        ((5, 6), []),
        ((1, 3), [(2, 2)]),
        ((1, 5), [(2, 4)]),
        ((1, 5, 3), [(2, 2), (4, 4)]),
        ((1, 5, 2, 3, 4), []),
        ((1, 5, 3, 3), [(2, 2), (4, 4)]),
        ((1, 2, 2, 1), []),
        ((9, 1, 2), []),
    ],
)
def test_a_gap_is_what_did_not_come(seqs: tuple[int, ...], expected: list[tuple[int, int]]) -> None:
    assert gaps(*seqs) == expected


# --- intervals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [
        ((0, 15, 30), None),
        ((0, 15, 30, 45), 900),
        ((0, 15, 30, 45, 105), 900),
        ((0, 10, 30, 60), 1200),
    ],
)
def test_an_interval_is_the_commonest_spacing_or_the_median(
    minutes: tuple[int, ...], expected: int | None
) -> None:
    profile = Traffic()
    for minute in minutes:
        profile.see(telemetry("M-1", BEGAN + timedelta(minutes=minute), REGISTER))
    assert usual_interval_s(profile.meters[NAME, "M-1"].spacings) == expected


@pytest.mark.parametrize(("hours", "outside"), [(-168, 0), (-169, 1), (1, 0), (2, 1)])
def test_readings_of_another_week_or_of_tomorrow_are_set_aside(hours: int, outside: int) -> None:
    profile = Traffic()
    profile.see(telemetry("M-1", BEGAN + timedelta(hours=hours), PLAIN, at=BEGAN))
    assert profile.meters[NAME, "M-1"].outside == outside


def test_the_afternoon_has_a_beginning_and_an_end() -> None:
    profile = traffic(afternoon())
    assert (profile.began_at, profile.ended_at) == (BEGAN, BEGAN + timedelta(minutes=195))
