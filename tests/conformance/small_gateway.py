"""A gateway of one meter, for the kit: it keeps nothing, and is wrong in what a test wants."""

import asyncio
import json
from dataclasses import dataclass

from openami.clock import SystemClock
from openami.mqtt.client import MqttPort
from openami.mqtt.port import Connection, TransportError
from openami.mqtt.settings import BrokerSettings
from openami.pki.names import GatewayName
from openami.profile import (
    CommandTopic,
    Envelope,
    FeederId,
    GatewayId,
    MeterSerial,
    Obis,
    Quality,
    RegisterReading,
    TelemetryTopic,
)

NAME = GatewayName(FeederId("f"), GatewayId("g"))
SERIAL = MeterSerial("M-1")
INTERVAL_S = 0.2


@dataclass
class SmallGateway:
    """A gateway of one meter: it keeps nothing, and may obey whoever orders."""

    settings: BrokerSettings
    obeys: bool = False
    listens: bool = True
    silent: bool = False
    tells_relay: bool = True
    connected: bool = True
    mute: bool = False
    """It stays connected and tells nothing."""
    readings: int = 0

    async def run(self) -> None:
        while True:
            try:
                async with (
                    MqttPort(self.settings).connect() as connection,
                    asyncio.TaskGroup() as group,
                ):
                    await self._tell(connection)
                    if self.listens:
                        await connection.subscribe([CommandTopic.filter("f", "g")])
                        group.create_task(self._listen(connection))
                    while True:
                        await asyncio.sleep(INTERVAL_S)
                        if not self.mute:
                            await self._tell(connection)
            except* TransportError:
                await asyncio.sleep(INTERVAL_S)

    async def _tell(self, connection: Connection) -> None:
        self.readings += 1
        quality = Quality.COMMS_LOST if self.silent else Quality.GOOD
        position = "connected" if self.connected else "disconnected"
        registers = (
            RegisterReading(Obis.parse("1.8.0"), self.readings / 10, "kWh", quality),
            RegisterReading(Obis.parse("96.11.1"), position, "enum", quality),
        )
        envelope = Envelope(
            ts=SystemClock().now(),
            feeder_id=NAME.feeder_id,
            gateway_id=NAME.gateway_id,
            meter_serial=SERIAL,
            registers=registers if self.tells_relay else registers[:1],
        )
        topic = TelemetryTopic(NAME.feeder_id, NAME.gateway_id, SERIAL)
        await connection.publish(str(topic), envelope.encode())

    async def _listen(self, connection: Connection) -> None:
        while True:
            deliveries = await connection.receive(1)
            connection.acknowledge(deliveries)
            for delivery in deliveries:
                if self.obeys:
                    [register] = json.loads(delivery.payload)["registers"]
                    self.connected = register["value"] == "connected"
