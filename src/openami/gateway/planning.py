"""From a configuration to what a month is reckoned from: asks the drivers which registers there are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Final

from msgspec import structs

from openami.gateway.budget import MeterPlan, Plan
from openami.gateway.config import GatewayConfig
from openami.gateway.driver import Driver
from openami.gateway.memory import last_values
from openami.gateway.meter_record import MeterRecord
from openami.gateway.normalise import Source
from openami.link_cost import WITHOUT_TLS, Assumptions
from openami.profile import MeterSerial, Obis, Value

# What mosquitto takes of a client unless its max_topic_alias says otherwise.
TOPIC_ALIASES: Final = 10


async def plan(
    config: GatewayConfig,
    drivers: Mapping[str, type[Driver]],
    *,
    changed_share: float,
    events_per_meter_day: float,
    price_per_mb: Decimal | None,
    connections_per_day: int = 1,
    topic_aliases: int = TOPIC_ALIASES,
) -> Plan:
    """Return what a month is reckoned from.

    Lines are opened and nothing is read: our drivers open their port at the first read, so a gateway that runs is
    not disturbed. Raises DriverError where another's driver has to reach its line for that, DatabaseError.
    """
    known = last_values(config.database)
    planned = replace(
        _plan(config, await _meters(config, drivers, known)),
        changed_share=changed_share,
        events_per_meter_day=events_per_meter_day,
        price_per_mb=price_per_mb,
        topic_aliases=topic_aliases if config.mqtt.protocol == "5" else 0,
    )
    assumed = structs.replace(planned.assumed, connections_per_day=connections_per_day)
    return replace(planned, assumed=assumed)


def running_plan(config: GatewayConfig, records: Iterable[MeterRecord]) -> Plan:
    """Return the same of a gateway that runs, by what its meters have told; on the upper side, without aliases."""
    return _plan(
        config,
        [
            MeterPlan(
                record.serial,
                tuple(record.infos.values()),
                {obis: each.known.value for obis, each in record.memory.items() if each.known},
            )
            for record in records
        ],
    )


def assumptions(config: GatewayConfig) -> Assumptions:
    """Return what is taken for granted of the link."""
    return Assumptions() if config.mqtt.endpoint.tls else WITHOUT_TLS


def _plan(config: GatewayConfig, meters: Sequence[MeterPlan]) -> Plan:
    return Plan(
        source=Source(config.feeder_id, config.gateway_id),
        catalogue=config.catalogue,
        schedule=config.schedule,
        meters=meters,
        protocol=config.mqtt.protocol,
        keep_alive_s=config.mqtt.keepalive_s,
        reports=config.reports,
        assumed=assumptions(config),
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
