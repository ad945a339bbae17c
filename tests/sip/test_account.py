"""A meter's day in a few numbers: what they tell apart, and what they do not."""

import random
from hashlib import sha256

import pytest

from openami.profile import Obis, Quality, Value
from openami.sip.account import MeterDay, Standing, element, is_counted

ENERGY, VOLTAGE, RELAY = map(Obis.parse, ("1.8.0", "32.7.0", "96.11.1"))
READINGS = [("M-1", ENERGY, 1_782_138_600_000 + n, n / 8, "kWh") for n in range(20)]


def account(readings: list[tuple[str, Obis, int, float, str]]) -> MeterDay:
    day = MeterDay()
    for reading in readings:
        day.add(*reading)
    return day


def test_an_element_is_what_the_record_says() -> None:
    told = '["M-1","1.8.0",1782138600000,7,"kWh"]'
    want = int.from_bytes(sha256(told.encode()).digest(), "big")
    assert element("M-1", ENERGY, 1_782_138_600_000, 7, "kWh") == want
    assert element("M-1", Obis.parse("1-0:1.8.0*255"), 1_782_138_600_000, 7.0, "kWh") == want


def test_the_order_does_not_matter() -> None:
    shuffled = READINGS.copy()
    random.Random(1).shuffle(shuffled)
    assert account(shuffled) == account(READINGS)


@pytest.mark.parametrize(
    "other",
    [
        ("M-2", *READINGS[3][1:]),
        ("M-1", VOLTAGE, *READINGS[3][2:]),
        (*READINGS[3][:2], READINGS[3][2] + 1, *READINGS[3][3:]),
        (*READINGS[3][:3], READINGS[3][3] + 0.125, "kWh"),
        (*READINGS[3][:4], "Wh"),
    ],
)
def test_one_reading_changed_anywhere_is_another_day(
    other: tuple[str, Obis, int, float, str],
) -> None:
    assert account([*READINGS[:3], other, *READINGS[4:]]).digest != account(READINGS).digest


def test_what_stands_twice_does_not_cancel_out() -> None:
    assert account(READINGS * 2).digest != 0
    assert account(READINGS * 2).digest != account(READINGS).digest


@pytest.mark.parametrize(
    ("one", "other"), [(True, 1), ("1", 1), ("true", True), (0.1, 0.2), (2**53 - 1, 2**53 - 2)]
)
def test_values_that_are_not_the_same(one: Value, other: Value) -> None:
    assert element("M", ENERGY, 0, one, "") != element("M", ENERGY, 0, other, "")


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (0.0, -0.0), (100_000, 1e5)])
def test_values_that_are_the_same(one: Value, other: Value) -> None:
    assert element("M", ENERGY, 0, one, "") == element("M", ENERGY, 0, other, "")


def test_the_energys_first_and_last_standing_by_time() -> None:
    day = account([READINGS[5], READINGS[19], READINGS[2], READINGS[7]])
    assert (day.first, day.last) == (
        Standing(READINGS[2][2], READINGS[2][3]),
        Standing(READINGS[19][2], READINGS[19][3]),
    )
    assert account([("M-1", VOLTAGE, 1, 231.5, "V")]).first is None


@pytest.mark.parametrize(
    ("obis", "quality", "counted"),
    [
        (ENERGY, Quality.GOOD, True),
        (ENERGY, Quality.SUSPECT, True),
        (ENERGY, Quality.COMMS_LOST, False),
        (RELAY, Quality.GOOD, False),
        (Obis.parse("95.8.0"), Quality.GOOD, True),
    ],
)
def test_measured_values_count(obis: Obis, quality: Quality, counted: bool) -> None:
    assert is_counted(obis, quality) is counted
