"""A contactor is ordered once, read back, and never opened by an order that only arms."""

import pytest
from tests.gateway.switched_meter import At, SwitchedMeter

from openami.gateway.actuation import move_relay
from openami.gateway.driver import RelayPosition
from openami.sip.errors import SipCode
from openami.sip.reports import ReportStatus

CONNECTED, DISCONNECTED, READY = (
    RelayPosition.CONNECTED,
    RelayPosition.DISCONNECTED,
    RelayPosition.READY_FOR_RECONNECTION,
)


@pytest.fixture
def meter() -> SwitchedMeter:
    return SwitchedMeter("M1")


async def no_wait(seconds: float) -> None:
    assert seconds >= 0


async def test_what_was_ordered_and_read_back_is_done(meter: SwitchedMeter) -> None:
    outcome = await move_relay(meter, DISCONNECTED, no_wait)
    assert (outcome.status, outcome.position) == (ReportStatus.DONE, DISCONNECTED)
    assert meter.moves == [DISCONNECTED]


async def test_a_closed_contactor_is_not_opened_by_arming_it(meter: SwitchedMeter) -> None:
    """It would be a disconnect without its budget, its protected hours and its second person."""
    outcome = await move_relay(meter, READY, no_wait)
    assert (outcome.status, outcome.code) == (ReportStatus.FAILED, SipCode.METER_ERROR)
    assert outcome.position is CONNECTED
    assert meter.moves == []


async def test_an_open_one_is_armed(meter: SwitchedMeter) -> None:
    meter.position = DISCONNECTED
    outcome = await move_relay(meter, READY, no_wait)
    assert (outcome.status, outcome.position) == (ReportStatus.DONE, READY)


async def test_a_contactor_that_sticks_has_failed_and_says_where_it_stands(
    meter: SwitchedMeter,
) -> None:
    meter.stuck = True
    outcome = await move_relay(meter, DISCONNECTED, no_wait)
    assert (outcome.status, outcome.position) == (ReportStatus.FAILED, CONNECTED)
    assert meter.moves == [DISCONNECTED], "once"


@pytest.mark.parametrize(
    ("lost", "status"), [(At.BEFORE, ReportStatus.FAILED), (At.AFTER, ReportStatus.DONE)]
)
async def test_an_order_nobody_answered_is_told_by_the_position_alone(
    meter: SwitchedMeter, lost: At, status: ReportStatus
) -> None:
    meter.lost_answer = lost
    assert (await move_relay(meter, DISCONNECTED, no_wait)).status is status


async def test_a_meter_that_is_silent_is_not_ordered(meter: SwitchedMeter) -> None:
    meter.silent = True
    assert (await move_relay(meter, DISCONNECTED, no_wait)).status is ReportStatus.FAILED
    assert meter.moves == []


async def test_an_answer_lost_before_the_order_is_asked_for_again(meter: SwitchedMeter) -> None:
    """One garbled frame on a line of forty meters is an ordinary day."""
    meter.silent = True

    async def noise_passes(seconds: float) -> None:
        assert seconds > 0
        meter.silent = False

    outcome = await move_relay(meter, DISCONNECTED, noise_passes)
    assert (outcome.status, outcome.position) == (ReportStatus.DONE, DISCONNECTED)
    assert meter.moves == [DISCONNECTED]
