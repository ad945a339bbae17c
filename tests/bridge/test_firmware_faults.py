"""The firmware's faults: what can be undone exactly is, what cannot be believed is said or left out."""

import struct
from datetime import timedelta
from typing import Any

import pytest
from tests.bridge.bridged import Bridged, effect, envelopes, qualities, reasons, values
from tests.bridge.firmware_samples import float32, meter

from openami.bridge.counters import COARSE_ABOVE_KWH, Counter, counted
from openami.bridge.findings import Effect, Reason
from openami.profile import Envelope


def heard(**measured: Any) -> tuple[Envelope | None, Bridged, set[Reason]]:
    """Return what one meter's message comes to at a settled pole."""
    bridged = Bridged().settled()
    told = bridged.hear("meter_0", meter(bridged.uptime_ms(), **measured))
    published = [e for e in envelopes(told) if e.event is None]
    return (published[0] if published else None), bridged, reasons(told)


# --- DDS238: signed power, read as unsigned --------------------------------------------------------


def test_a_wrapped_power_is_mended_where_current_and_voltage_agree() -> None:
    """-951 W reads as 64,585 W: 951 W at 230 V are 4.4 A at the meter's power factor."""
    envelope, _, why = heard(PhW=64585, PhV=230.1, PhA=4.35, PF=0.95)
    assert envelope is not None
    assert (values(envelope)["1.7.0"], values(envelope)["2.7.0"]) == (0.0, 0.951)
    assert (qualities(envelope)["2.7.0"], why) == ("good", {Reason.POWER_WRAPPED})


@pytest.mark.parametrize("current", [0.2, 150.0])
def test_a_wrapped_power_that_nothing_confirms_is_suspect_as_it_came(current: float) -> None:
    envelope, _, why = heard(PhW=55000, PhV=230.1, PhA=current)
    assert envelope is not None
    assert values(envelope)["1.7.0"] == 55.0
    assert qualities(envelope)["1.7.0"] == "suspect"
    assert why == {Reason.POWER_CONTRADICTED}


def test_a_large_power_that_is_true_stays() -> None:
    envelope, _, why = heard(PhW=33000, PhV=230.0, PhA=150.0)
    assert envelope is not None
    assert (values(envelope)["1.7.0"], qualities(envelope)["1.7.0"]) == (33.0, "good")
    assert not why


@pytest.mark.parametrize(("watts", "share"), [(700, "within"), (1003, "beyond")])
def test_power_beyond_what_voltage_and_current_allow(watts: int, share: str) -> None:
    """230.1 V and 3.27 A are 752 VA; with a fifth and 100 W of slack 1,003 W is one step too many."""
    envelope, _, why = heard(PhW=watts, PhA=3.27)
    assert envelope is not None
    assert (qualities(envelope)["1.7.0"] == "good") == (share == "within")
    assert (Reason.POWER_CONTRADICTED in why) == (share == "beyond")


# --- DDSU666 and CHD130: another meter's registers ------------------------------------------------


def ddsu666(volts: float, amperes: float, kilowatts: float, kwh: float) -> dict[str, float]:
    """Return what the firmware makes of a DDSU666: floats read as scaled integers."""

    def bits(value: float) -> int:
        read: int = struct.unpack(">I", struct.pack(">f", value))[0]
        return read

    return {
        "PhV": float32((bits(volts) >> 16) / 10),
        "PhA": float32(bits(amperes) / 1000),
        "PhW": float32(bits(kilowatts) / 10),
        "PF": 0,
        "Hz": 0,
        "TotWhImport": float32(float32(bits(kwh) / 100) * 1000),
    }


@pytest.mark.parametrize("volts", [180.0, 230.5, 259.9])
def test_nothing_of_a_ddsu666_read_with_a_wrong_map_is_published(volts: float) -> None:
    members = ddsu666(volts, 2.83, 0.617, 1842.5)
    assert volts != 230.5 or members["PhV"] == pytest.approx(1725.4)
    assert members["TotWhImport"] / 1000 == pytest.approx(11_559_444, rel=1e-6)
    envelope, _, why = heard(**members)
    assert envelope is None
    assert why == {Reason.REGISTER_MAP_WRONG}


def test_not_even_a_counter_that_looks_possible() -> None:
    """11,559,444 kWh is within a counter's range; the voltage beside it says what it is."""
    envelope, _, _ = heard(PhV=1725.4, TotWhImport=1_842_500)
    assert envelope is None


@pytest.mark.parametrize(
    ("measured", "believed"),
    [
        ({"PhV": 1000.0, "PhW": 0, "PhA": 0}, True),
        ({"PhV": 1000.1}, False),
        ({"PhV": -230.0}, False),
        ({"Hz": 40.0}, True),
        ({"Hz": 39.9}, False),
        ({"Hz": 70.1}, False),
        ({"Hz": 5002}, False),
        ({"PhV": 0, "Hz": 50.0}, False),
    ],
)
def test_what_voltage_and_frequency_say_of_the_rest(
    measured: dict[str, float], believed: bool
) -> None:
    envelope, _, why = heard(**measured)
    assert (envelope is not None) == believed
    assert believed or why & {Reason.REGISTER_MAP_WRONG, Reason.NOT_MEASURED}


# --- ATM90E32: invented values --------------------------------------------------------------------


def test_an_invented_power_factor_is_left_out_and_its_power_suspect() -> None:
    volts, amperes = float32(230.12), float32(2.831)
    envelope, bridged, _ = heard(
        PhV=volts, PhA=amperes, PhW=float32(volts * amperes), PF=float32(0.99)
    )
    assert envelope is not None
    assert "13.7.0" not in values(envelope)
    assert qualities(envelope)["1.7.0"] == "suspect"
    assert qualities(envelope)["32.7.0"] == "good"
    told = bridged.hear(
        "meter_1",
        meter(bridged.uptime_ms(), PhV=volts, PhA=amperes, PhW=volts * amperes, PF=0.99),
    )
    found = {each.obis: each.effect for each in told.findings}
    assert found["1.7.0"] is Effect.SUSPECT
    assert found["13.7.0"] is Effect.LEFT_OUT


def test_a_power_factor_that_is_measured_stays() -> None:
    """0.99 with a power that is 0.99 of V·I."""
    envelope, _, why = heard(PhV=230.0, PhA=2.83, PhW=644, PF=0.99)
    assert envelope is not None
    assert values(envelope)["13.7.0"] == 0.99
    assert not why


def test_a_current_has_no_sign() -> None:
    envelope, bridged, _ = heard(PhA=-2.83, PhW=-617)
    assert envelope is not None
    assert values(envelope)["31.7.0"] == 2.83
    told = bridged.hear("meter_1", meter(bridged.uptime_ms(), PhA=-2.83))
    assert effect(told, Reason.CURRENT_NEGATIVE) is Effect.MENDED


@pytest.mark.parametrize(("amperes", "quality"), [(65.535, "suspect"), (65.5, "good")])
def test_a_current_at_the_end_of_its_sixteen_bits(amperes: float, quality: str) -> None:
    envelope, _, _ = heard(PhA=amperes, PhW=15000)
    assert envelope is not None
    assert qualities(envelope)["31.7.0"] == quality


@pytest.mark.parametrize("factor", [1.01, -1.01, 95])
def test_a_power_factor_that_is_none_is_left_out(factor: float) -> None:
    envelope, _, why = heard(PF=factor)
    assert envelope is not None
    assert "13.7.0" not in values(envelope)
    assert why == {Reason.OUT_OF_RANGE}


# --- counters -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kwh", "quality"), [(167_772.16, "good"), (167_773.0, "suspect")])
def test_a_counter_beyond_what_a_float_can_count(kwh: float, quality: str) -> None:
    envelope, _, why = heard(TotWhImport=kwh * 1000)
    assert envelope is not None
    assert qualities(envelope)["1.8.0"] == quality
    assert (Reason.COUNTER_COARSE in why) == (quality == "suspect")


def test_the_step_of_a_coarse_counter_is_said() -> None:
    step = counted(Counter(), 200_000_000.0, "1.8.0", zero_means_none=False).finding
    assert step is not None
    assert "16 Wh" in step.detail
    assert float32(200_000_008.0) != 200_000_008.0 + 8
    assert pytest.approx(167_772.16) == COARSE_ABOVE_KWH


def test_a_counter_that_began_again_is_suspect_until_it_has_gone_on() -> None:
    bridged = Bridged().settled()
    qualities_seen, events = [], []
    for watt_hours in (1_900_000, 40, 60, 80, 100):
        told = bridged.hear("meter_0", meter(bridged.uptime_ms(), TotWhImport=watt_hours))
        for envelope in envelopes(told):
            if envelope.event is not None:
                events.append(envelope.event.type)
            else:
                qualities_seen.append(qualities(envelope)["1.8.0"])
        bridged.now += timedelta(seconds=300)
    assert qualities_seen == ["good", "suspect", "suspect", "good", "good"]
    assert events == ["register_rollback"]


def test_a_single_step_back_is_a_disturbance() -> None:
    bridged = Bridged().settled()
    seen = []
    for watt_hours in (1_900_000, 40, 1_900_100, 1_900_200):
        told = bridged.hear("meter_0", meter(bridged.uptime_ms(), TotWhImport=watt_hours))
        seen += [qualities(e)["1.8.0"] for e in envelopes(told) if e.event is None]
        bridged.now += timedelta(seconds=300)
    assert seen == ["good", "suspect", "good", "good"]


def test_a_counter_that_keeps_going_back_is_never_believed() -> None:
    counter = Counter(believed_kwh=100.0)
    for watt_hours in (9000.0, 8000.0, 7000.0, 6000.0, 5000.0):
        now = counted(counter, watt_hours, "1.8.0", zero_means_none=False)
        assert now.finding is not None
        counter = now.counter
    assert counter.believed_kwh == 100.0


def test_a_counter_at_zero_is_a_new_meters_or_was_never_read() -> None:
    envelope, _, why = heard(TotWhImport=0)
    assert envelope is not None, "the pole's first rounds counted"
    assert why == {Reason.COUNTER_WENT_BACK}
    told = Bridged().hear("meter_0", meter(1000, TotWhImport=0))
    assert Reason.COUNTER_ZERO in reasons(told)
    assert qualities(envelopes(told)[0])["1.8.0"] == "suspect"


def test_a_negative_counter_is_left_out() -> None:
    """A signed count through a float: -1000 becomes -1024, and no energy is negative."""
    envelope, _, why = heard(TotWhImport=-1024)
    assert envelope is not None
    assert "1.8.0" not in values(envelope)
    assert why == {Reason.OUT_OF_RANGE}
