"""An ordered relay in the village: the load behind it goes, and the meter takes orders as its maker chose."""

from datetime import UTC, datetime

import pytest
from tests.gateway.clock_double import ClockDouble

from openami.gateway.driver import RelayPosition
from openami.gateway.drivers.modbus.map_files import load_map
from openami.simulator.lines import map_name
from openami.simulator.modbus_meter import ModbusMeter
from openami.simulator.modbus_server import Area, Write, WriteRefused
from openami.simulator.plan import PREPAID_MODEL, epoch_ms, plan_village
from openami.simulator.village import Village

EVENING = datetime(2026, 7, 1, 15, tzinfo=UTC)
_HOUR_MS = 3_600_000


def a_village() -> Village:
    return Village(plan_village(meters=8, seed=1, start=EVENING))


def test_a_disconnected_house_draws_nothing_until_it_is_reconnected() -> None:
    village = a_village()
    serial = village.plan.customers[0].serial
    village.advance(village.now_ms + _HOUR_MS)
    village.order_relay(serial, RelayPosition.DISCONNECTED)
    cut_off = village.measured(serial)
    assert cut_off.relay is RelayPosition.DISCONNECTED
    assert cut_off.phases[0].active_w == 0
    village.advance(village.now_ms + _HOUR_MS)
    assert village.measured(serial).import_uj == cut_off.import_uj
    village.order_relay(serial, RelayPosition.CONNECTED)
    village.advance(village.now_ms + 24 * _HOUR_MS)
    assert village.measured(serial).import_uj > cut_off.import_uj
    balance = village.balance()
    parts = balance.customers_uj + balance.losses_uj + balance.theft_uj
    assert balance.head_uj == parts, "to the last microjoule"


@pytest.mark.parametrize(
    ("model", "how", "other"),
    [("dds238", Write.SEVERAL, Write.ONE), (PREPAID_MODEL, Write.ONE, Write.SEVERAL)],
)
def test_a_simulated_meter_takes_its_relays_order_and_no_other_write(
    model: str, how: Write, other: Write
) -> None:
    village = a_village()
    clock = ClockDouble(EVENING)
    # Any house with a meter that fits the map: a prepaid one has a credit to show.
    prepaid = model == PREPAID_MODEL
    customer = next(c for c in village.plan.customers if (c.credit_uj is not None) is prepaid)
    village.advance(epoch_ms(clock.now()))
    register_map = load_map(map_name(model))
    relay = register_map.relay
    assert relay is not None
    meter = ModbusMeter(
        register_map,
        lambda: village.measured(customer.serial),
        maker_number=1,
        order_relay=lambda position: village.order_relay(customer.serial, position),
    )
    assert meter.registers(Area.HOLDING)[relay.address] == relay.connected
    meter.write(how, relay.address, relay.disconnected)
    assert village.measured(customer.serial).relay is RelayPosition.DISCONNECTED
    assert meter.registers(Area.HOLDING)[relay.address] == relay.disconnected
    for attempt in (
        (other, relay.address, relay.connected),
        (how, relay.address + 1, relay.connected),
        (how, relay.address, 7),
    ):
        with pytest.raises(WriteRefused):
            meter.write(*attempt)
    assert village.measured(customer.serial).relay is RelayPosition.DISCONNECTED
