"""A meter's state in one word, and each step past its edges."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from openami.headend.states import (
    GATEWAY_SILENT_AFTER_MINUTES,
    METER_SILENT_AFTER_MINUTES,
    WITHHOLDING_SILENT_AFTER_MINUTES,
    GatewayState,
    MeterState,
    count_states,
    gateway_state,
    meter_state,
    states_of,
)
from openami.headend.store import GatewayRow, MeterRow
from openami.profile import Quality

NOW = datetime(2026, 6, 22, 15, 0, tzinfo=UTC)
A_STEP = timedelta(milliseconds=1)
GATEWAY_EDGE = timedelta(minutes=GATEWAY_SILENT_AFTER_MINUTES)
METER_EDGE = timedelta(minutes=METER_SILENT_AFTER_MINUTES)
FRESH = timedelta(seconds=30)


def gateway(ago: timedelta = FRESH, name: str = "g") -> GatewayRow:
    return GatewayRow("f", name, NOW - ago, NOW - ago, 7)


def meter(ago: timedelta = FRESH, worst: Quality = Quality.GOOD, gateway_id: str = "g") -> MeterRow:
    return MeterRow("f", "m", gateway_id, NOW - ago, NOW - ago, NOW - ago, worst, None)


@pytest.mark.parametrize(
    ("worst", "state"),
    [
        (Quality.GOOD, MeterState.REPORTING),
        (Quality.SUSPECT, MeterState.SUSPECT),
        (Quality.COMMS_LOST, MeterState.METER_SILENT),
    ],
)
def test_a_meter_heard_of_is_judged_by_its_worst_latest_register(
    worst: Quality, state: MeterState
) -> None:
    assert meter_state(meter(worst=worst), gateway(), now=NOW) is state


def test_a_meter_of_which_its_gateway_says_nothing_more() -> None:
    assert meter_state(meter(METER_EDGE), gateway(), now=NOW) is MeterState.REPORTING
    past = meter_state(meter(METER_EDGE + A_STEP), gateway(), now=NOW)
    assert past is MeterState.METER_SILENT


@pytest.mark.parametrize("worst", list(Quality))
def test_of_a_silent_gateways_meters_nothing_is_known(worst: Quality) -> None:
    silent = gateway(GATEWAY_EDGE + A_STEP)
    assert meter_state(meter(worst=worst), silent, now=NOW) is MeterState.GATEWAY_SILENT
    heard = meter_state(meter(worst=worst), gateway(GATEWAY_EDGE), now=NOW)
    assert heard is not MeterState.GATEWAY_SILENT


def test_a_gateway_is_silent_one_step_past_the_edge() -> None:
    assert gateway_state(gateway(GATEWAY_EDGE), NOW) is GatewayState.REPORTING
    assert gateway_state(gateway(GATEWAY_EDGE + A_STEP), NOW) is GatewayState.GATEWAY_SILENT


def test_where_readings_wait_by_a_cap_nobody_is_silent_who_only_waits() -> None:
    """The gateway is heard every two hours; that a meter does not answer is an event, which never waits."""
    edge = timedelta(minutes=WITHHOLDING_SILENT_AFTER_MINUTES)
    capped = replace(gateway(edge), withholds=True)
    assert gateway_state(capped, NOW) is GatewayState.REPORTING
    assert meter_state(meter(timedelta(days=3)), capped, now=NOW) is MeterState.REPORTING
    lost = meter(timedelta(days=3), Quality.COMMS_LOST)
    assert meter_state(lost, capped, now=NOW) is MeterState.METER_SILENT
    gone = replace(gateway(edge + A_STEP), withholds=True)
    assert gateway_state(gone, NOW) is GatewayState.GATEWAY_SILENT


def test_a_meter_nobody_has_told_of() -> None:
    assert meter_state(None, gateway(), now=NOW) is MeterState.NEVER_SEEN
    assert meter_state(meter(), None, now=NOW) is MeterState.NEVER_SEEN


def test_each_meter_is_judged_with_its_own_gateway() -> None:
    gateways = [gateway(name="lives"), gateway(GATEWAY_EDGE + A_STEP, "gone")]
    meters = [meter(gateway_id="lives"), meter(gateway_id="gone")]
    assert [state for _, state in states_of(meters, gateways, now=NOW)] == [
        MeterState.REPORTING,
        MeterState.GATEWAY_SILENT,
    ]


def test_states_are_counted_in_their_order() -> None:
    states = [MeterState.GATEWAY_SILENT, MeterState.REPORTING, MeterState.GATEWAY_SILENT]
    counted = count_states(states)
    assert list(counted.items()) == [("reporting", 1), ("gateway_silent", 2)]
