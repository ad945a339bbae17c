"""When it was measured, what is repeated for ever, and what does not come at all."""

from datetime import datetime, timedelta

import pytest
from tests.bridge.bridged import MAP, Bridged, envelopes, of_meter, qualities, reasons, values
from tests.bridge.firmware_samples import ROUND_S, START, cabinet, meter

from openami.bridge.findings import Effect, Reason
from openami.bridge.pole_clock import (
    AGE_S_MAX,
    DISAGREEMENT_S_MAX,
    WINDOW_S,
    PoleClock,
    measured_at,
    with_round,
)
from openami.profile import Envelope, EventState, utc_text

# --- the pole's clock -----------------------------------------------------------------------------


def clock_after(*rounds: tuple[int, float]) -> PoleClock:
    """Return what is known after rounds: stamp in ms, and seconds after the start at which each arrived."""
    clock = PoleClock()
    for uptime_ms, after_s in rounds:
        clock = with_round(clock, uptime_ms % 2**32, START + timedelta(seconds=after_s))
    return clock


def age_s(clock: PoleClock, uptime_ms: int, after_s: float) -> float | None:
    """Return how old something is held to be as it arrives; None when that is not known."""
    at = START + timedelta(seconds=after_s)
    moment = measured_at(clock, uptime_ms % 2**32, at)
    return None if moment is None else (at - moment).total_seconds()


def test_one_round_proves_nothing() -> None:
    """Its stamp could be seconds, or stand still."""
    clock = clock_after((1_000_000, 0), (1_000_000, 0.05))
    assert age_s(clock, 992_000, 0.1) is None


def test_two_rounds_that_agree_date_what_follows() -> None:
    clock = clock_after((1_000_000, 0), (1_300_000, 300))
    assert age_s(clock, 1_292_000, 300.4) == pytest.approx(8.4)


def test_the_fastest_message_is_believed() -> None:
    """The first was 3 s late: nothing arrives before it was sent."""
    clock = clock_after((1_000_000, 3.0), (1_300_000, 300.1))
    assert age_s(clock, 1_300_000, 300.1) == pytest.approx(0.0)
    assert age_s(clock, 1_299_000, 302.1) == pytest.approx(3.0)


@pytest.mark.parametrize(("late_s", "is_known"), [(DISAGREEMENT_S_MAX, True), (31.0, False)])
def test_a_round_that_is_too_late_is_another_boot(late_s: float, is_known: bool) -> None:
    clock = clock_after((1_000_000, 0), (1_300_000, 300), (1_600_000, 600 + late_s))
    assert (age_s(clock, 1_600_000, 600 + late_s) is not None) == is_known


def test_a_boot_begins_anew() -> None:
    clock = clock_after((90_000_000, 0), (90_300_000, 300), (20_000, 600))
    assert age_s(clock, 12_000, 600) is None
    clock = with_round(clock, 320_000, START + timedelta(seconds=900))
    assert age_s(clock, 312_000, 900) == pytest.approx(8.0)


@pytest.mark.parametrize("turn", [2**31, 2**32])
def test_the_counters_turn_is_no_boot(turn: int) -> None:
    """`long` turns negative after 24.8 days, and milliseconds begin anew after 49.7."""
    clock = clock_after((turn - 200_000, 0), (turn + 100_000, 300))
    assert age_s(clock, turn + 92_000, 300) == pytest.approx(8.0)


def test_seconds_since_1970_date_nothing() -> None:
    clock = PoleClock()
    for n in range(20):
        clock = with_round(clock, 300 * n, START + timedelta(seconds=300 * n))
        assert measured_at(clock, 300 * n - 8, START + timedelta(seconds=300 * n)) is None


def test_a_stamp_that_stands_still_dates_nothing() -> None:
    clock = clock_after(*((5_000, 10.0 * n) for n in range(3)))
    assert age_s(clock, 5_000, 20) is None


def test_what_seems_older_than_any_delivery_is_not_known() -> None:
    clock = clock_after((10_000_000, 0), (10_300_000, 300))
    assert age_s(clock, 10_300_000 - int(AGE_S_MAX * 1000), 300) == pytest.approx(AGE_S_MAX)
    assert age_s(clock, 10_300_000 - int(AGE_S_MAX * 1000) - 1000, 300) is None


def test_a_crystal_that_is_off_does_not_make_messages_old() -> None:
    """A pole that is slow by 100 ppm, for a day: five times what its crystal may be."""
    clock = PoleClock()
    ages = []
    for n in range(288):
        after_s = 300.0 * n
        uptime_ms = int(after_s * 1000 * (1 - 1e-4))
        clock = with_round(clock, uptime_ms, START + timedelta(seconds=after_s))
        age = age_s(clock, uptime_ms, after_s)
        ages.append(age or 0.0)
    assert max(ages) <= 2 * WINDOW_S * 1e-4 + 0.05


def test_our_own_clock_being_set_is_a_new_beginning() -> None:
    clock = clock_after((1_000_000, 0), (1_300_000, 300), (1_600_000, 600 - 3600))
    assert age_s(clock, 1_592_000, 600 - 3600) is None


# --- what that means for readings -----------------------------------------------------------------


def test_until_the_poles_clock_is_known_readings_are_stamped_as_they_arrive_and_suspect() -> None:
    bridged = Bridged()
    first = bridged.round()
    (envelope,) = of_meter(first, "DDS-1000")
    assert envelope.ts >= START
    assert set(qualities(envelope).values()) == {"suspect"}
    assert Reason.AGE_UNKNOWN in reasons(first)
    (later,) = of_meter(bridged.round(), "DDS-1000")
    assert set(qualities(later).values()) == {"good"}


@pytest.mark.parametrize("stamp", [None, "soon", True, 1.5, 2**32, -(2**31) - 1, 10**30])
def test_a_message_without_a_usable_stamp_is_suspect(stamp: object) -> None:
    bridged = Bridged().settled()
    told = bridged.hear("meter_0", meter(1000) | {"timestamp": stamp})
    (envelope,) = envelopes(told)
    assert envelope.ts == bridged.now
    assert set(qualities(envelope).values()) == {"suspect"}
    assert reasons(told) == {Reason.AGE_UNKNOWN}


def test_a_message_that_was_held_up_keeps_its_own_time() -> None:
    bridged = Bridged().settled()
    members = meter(bridged.uptime_ms())
    late = bridged.now + timedelta(minutes=5)
    (envelope,) = envelopes(bridged.hear("meter_0", members, late))
    assert abs(envelope.ts - bridged.now) < timedelta(seconds=0.2)
    assert qualities(envelope)["1.8.0"] == "good"


# --- what is repeated -----------------------------------------------------------------------------


def meter_lives(bridged: Bridged, rounds: int) -> list[list[Envelope]]:
    """Return what is published of a meter, round by round."""
    return [of_meter(bridged.round(), "DDS-1000") for _ in range(rounds)]


def test_a_failed_poll_that_is_stamped_as_fresh_is_doubted_and_then_lost() -> None:
    bridged = Bridged().settled()
    (good,) = of_meter(bridged.round(), "DDS-1000")
    bridged.pole.answering = False
    lives = meter_lives(bridged, 20)
    told = [[sorted(set(qualities(e).values())) for e in published] for published in lives]
    assert told[:2] == [[["good"]]] * 2, "ten minutes: it may be a quiet house"
    assert told[2:11] == [[["suspect"]]] * 9
    lost, event = lives[11]
    assert set(qualities(lost).values()) == {"comms_lost"}
    assert event.event is not None
    assert (event.event.type, event.event.state) == ("comms_lost", EventState.RAISED)
    assert told[12:] == [[]] * 8, "it is said once"
    assert values(lost) == values(good)


def test_the_lost_value_has_the_time_at_which_it_was_last_vouched_for() -> None:
    bridged = Bridged().settled()
    bridged.round()
    bridged.pole.answering = False
    lives = meter_lives(bridged, 12)
    last_good = [e for life in lives for e in life if "good" in qualities(e).values()][-1]
    assert lives[11][0].ts == last_good.ts


def test_a_meter_that_answers_again_is_good_at_once() -> None:
    bridged = Bridged().settled()
    bridged.pole.answering = False
    meter_lives(bridged, 14)
    bridged.pole.answering = True
    reading, event = of_meter(bridged.round(), "DDS-1000")
    assert set(qualities(reading).values()) == {"good"}
    assert event.event is not None
    assert (event.event.type, event.event.state) == ("comms_restored", EventState.CLEARED)


def test_a_house_without_load_is_alive_while_its_voltage_moves() -> None:
    bridged = Bridged().settled()
    for house in bridged.pole.houses:
        house.power_w = 0.0
    lives = meter_lives(bridged, 24)
    assert {q for life in lives for e in life for q in qualities(e).values()} == {"good"}


def test_a_stamp_that_stands_still_is_a_poll_that_has_stopped() -> None:
    """The reading keeps its identity: the same time, and never better than it was."""
    bridged = Bridged().settled()
    members = meter(bridged.uptime_ms())
    (first,) = envelopes(bridged.hear("meter_0", members))
    bridged.now += timedelta(seconds=ROUND_S)
    told = bridged.hear("meter_0", members)
    (again,) = envelopes(told)
    assert again.ts == first.ts
    assert set(qualities(again).values()) == {"suspect"}
    assert reasons(told) == {Reason.NOT_POLLED}


def test_the_same_stamp_with_other_values_dates_nothing() -> None:
    bridged = Bridged().settled()
    stamp = bridged.uptime_ms()
    bridged.hear("meter_0", meter(stamp))
    bridged.now += timedelta(seconds=ROUND_S)
    told = bridged.hear("meter_0", meter(stamp, PhV=231.0))
    (envelope,) = envelopes(told)
    assert envelope.ts == bridged.now
    assert set(qualities(envelope).values()) == {"suspect"}


# --- what does not come ---------------------------------------------------------------------------


def silences(bridged: Bridged, now: datetime) -> list[Envelope]:
    return [outgoing.envelope for each in bridged.poles.silences(now) for outgoing in each.outgoing]


def test_a_silent_pole_is_said_for_each_of_its_meters_and_once() -> None:
    bridged = Bridged().settled()
    bridged.round()
    last = bridged.now - timedelta(seconds=ROUND_S)
    assert not silences(bridged, last + MAP.patience.silent_after - timedelta(seconds=1))
    told = silences(bridged, last + MAP.patience.silent_after + timedelta(seconds=1))
    readings = [e for e in told if e.event is None]
    events = [e for e in told if e.event is not None]
    assert {e.meter_serial for e in readings} == {*MAP.meters.values(), MAP.panel}
    assert {q for e in readings for q in qualities(e).values()} == {"comms_lost"}
    assert {e.meter_serial for e in events} == {*MAP.meters.values(), MAP.panel}
    assert not silences(bridged, last + timedelta(hours=5))


def test_a_pole_that_was_never_heard_is_not_lost() -> None:
    assert not silences(Bridged(), START + timedelta(days=30))


def test_a_meter_that_was_never_vouched_for_has_no_last_value() -> None:
    bridged = Bridged()
    bridged.hear("meter_0", meter(1000))
    told = silences(bridged, START + timedelta(hours=1))
    assert [e.event and e.event.type for e in told] == ["comms_lost"]


def test_a_meter_whose_messages_are_all_left_out_is_silent_too() -> None:
    bridged = Bridged().settled()
    bridged.round()
    for _ in range(4):
        bridged.hear("meter_0", meter(bridged.uptime_ms(), PhV=0, PhA=0))
        bridged.now += timedelta(seconds=ROUND_S)
    told = [e for e in silences(bridged, bridged.now) if e.meter_serial == "DDS-1000"]
    assert [e.event and e.event.type for e in told] == [None, "comms_lost"]


def test_a_silence_ends_with_an_event() -> None:
    bridged = Bridged().settled()
    bridged.round()
    bridged.now += timedelta(hours=2)
    silences(bridged, bridged.now)
    reading, event = of_meter(bridged.round(), "DDS-1000")
    assert qualities(reading)["1.8.0"] == "good"
    assert event.event is not None
    assert event.event.type == "comms_restored"


def test_what_comes_after_a_silence_and_is_what_it_was_before_restores_nothing() -> None:
    bridged = Bridged().settled()
    bridged.round()
    bridged.pole.answering = False
    bridged.now += timedelta(hours=2)
    silences(bridged, bridged.now)
    assert meter_lives(bridged, 3) == [[], [], []]
    bridged.pole.answering = True
    reading, event = of_meter(bridged.round(), "DDS-1000")
    assert qualities(reading)["1.8.0"] == "good"
    assert event.event is not None
    assert event.event.type == "comms_restored"


def test_a_cabinet_whose_air_is_as_it_was_is_heard_again_after_a_silence() -> None:
    """A tenth of a degree an hour is no fault."""
    bridged = Bridged().settled()
    bridged.now += timedelta(minutes=20)
    silences(bridged, bridged.now)
    (envelope,) = envelopes(bridged.hear("subpanel_ENV", cabinet(bridged.uptime_ms())))
    assert set(qualities(envelope).values()) == {"good"}


def test_an_event_told_twice_has_one_id() -> None:
    first, second = Bridged().settled(), Bridged().settled()
    ids = []
    for bridged in (first, second):
        told = silences(bridged, bridged.now + timedelta(hours=1))
        ids.append([e.event.event_id for e in told if e.event is not None])
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == len(ids[0])


def test_the_cabinets_last_air_is_lost_without_an_event() -> None:
    bridged = Bridged().settled()
    bridged.hear("subpanel_ENV", cabinet(bridged.uptime_ms()))
    told = list(bridged.poles.silences(bridged.now + timedelta(hours=1)))
    assert {f.effect for each in told for f in each.findings} == {Effect.LOST}
    air = [o.envelope for each in told for o in each.outgoing if "96.9.0" in values(o.envelope)]
    assert len(air) == 1
    assert utc_text(air[0].ts).endswith("Z")
