"""What contactors were ordered to last: noted with the order, taken up from the journal, withdrawn if none."""

from pathlib import Path

import pytest
from tests.gateway.clock_double import ClockDouble
from tests.gateway.sip_world import Pole

from openami.gateway.driver import RelayPosition
from openami.gateway.relay_orders import RelayOrder, RelayOrders, last_orders
from openami.profile import MeterSerial
from openami.sip.actions import Action

METER = MeterSerial("M-1")


@pytest.fixture
def pole(tmp_path: Path) -> Pole:
    return Pole(tmp_path, ClockDouble(synchronised=False))


async def test_an_order_is_known_while_the_program_runs_and_after_a_restart(pole: Pole) -> None:
    async with pole.running() as gateway:
        await gateway.ready()
        await gateway.command(pole.parties.command(Action.DISCONNECT, pole.nonces["s-1"], seq=1))
        order = gateway.commanding._around.orders.last(METER)
        assert order == RelayOrder("s-1/M-1/1", RelayPosition.DISCONNECTED)
    async with pole.running() as gateway:
        orders = RelayOrders()
        orders.recall(await gateway.outbox.database.run(last_orders))
    assert orders.last(METER) == RelayOrder("s-1/M-1/1", RelayPosition.DISCONNECTED, recalled=True)
    assert orders.last(MeterSerial("M-2")) is None


async def test_an_order_that_never_got_to_its_meter_is_none(pole: Pole) -> None:
    """The report says failed; a contactor that stands as it stood does not disobey."""
    async with pole.running() as gateway:
        await gateway.ready()
        pole.meters["M-1"].silent = True
        await gateway.command(pole.parties.command(Action.DISCONNECT, pole.nonces["s-1"], seq=1))
        assert gateway.commanding._around.orders.last(METER) is None


def test_what_moves_no_contactor_is_no_order() -> None:
    orders = RelayOrders()
    orders.note(METER, Action.RESEND, "s-1/M-1/1")
    assert orders.last(METER) is None
