"""From a configuration to what a month is reckoned from: asks the drivers which registers there are."""

from collections.abc import Mapping
from decimal import Decimal

from openami.gateway.budget import MeterPlan, Plan
from openami.gateway.config import GatewayConfig
from openami.gateway.driver import Driver
from openami.gateway.memory import last_values
from openami.gateway.normalise import Source
from openami.link_cost import WITHOUT_TLS, Assumptions
from openami.profile import MeterSerial, Obis, Value


async def plan(
    config: GatewayConfig,
    drivers: Mapping[str, type[Driver]],
    *,
    database: str,
    changed_share: float,
    events_per_meter_day: float,
    price_per_mb: Decimal | None,
) -> Plan:
    """Return what a month is reckoned from.

    Lines are opened and nothing is read: our drivers open their port at the first read, so a gateway that runs is
    not disturbed. Raises DriverError where another's driver has to reach its line for that, DatabaseError.
    """
    known = last_values(config.data_dir / database)
    return Plan(
        source=Source(config.feeder_id, config.gateway_id),
        catalogue=config.catalogue,
        schedule=config.schedule,
        meters=await _meters(config, drivers, known),
        protocol=config.mqtt.protocol,
        keep_alive_s=config.mqtt.keepalive_s,
        reports=config.reports,
        changed_share=changed_share,
        events_per_meter_day=events_per_meter_day,
        price_per_mb=price_per_mb,
        assumed=Assumptions() if config.mqtt.endpoint.tls else WITHOUT_TLS,
    )


async def _meters(
    config: GatewayConfig,
    drivers: Mapping[str, type[Driver]],
    known: Mapping[MeterSerial, Mapping[Obis, Value]],
) -> list[MeterPlan]:
    found = []
    for line in config.lines:
        async with drivers[line.driver].open(line.settings) as opened:
            found += [
                MeterPlan(serial, tuple(meter.registers), known.get(serial, {}))
                for serial, meter in opened.meters.items()
            ]
    return found
