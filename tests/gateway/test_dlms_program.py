"""A ciphered DLMS meter of another maker's, through the gateway's own program to a broker, and a kill between."""

import asyncio
from datetime import datetime
from pathlib import Path

import pytest
from tests.conftest import StartMosquitto
from tests.drivers.strange_meters import (
    AUTHENTICATION_KEY,
    CLIENTS,
    ENCRYPTION_KEY,
    pydlms_arguments,
    strange_meter,
)
from tests.gateway.pole import GatewayProgram

from openami.clock import SystemClock
from openami.mqtt.client import MqttPort
from openami.mqtt.port import Connection
from openami.mqtt.settings import BrokerSettings
from openami.profile import Quality, TelemetryTopic, decode_envelope

_WAIT_S = 60.0  # a test machine may do many things at once


async def _energy(connection: Connection, since: datetime) -> tuple[object, str, Quality]:
    """Return the next 1.8.0 that is heard and was read since then."""
    async with asyncio.timeout(_WAIT_S):
        while True:
            deliveries = await connection.receive(100)
            connection.acknowledge(deliveries)
            for delivery in deliveries:
                envelope = decode_envelope(delivery.payload)
                for reading in envelope.registers:
                    if str(reading.obis) == "1.8.0" and envelope.ts >= since:
                        return reading.value, reading.unit, reading.quality


@pytest.mark.broker
async def test_a_ciphered_meter_is_published_and_read_on_after_a_kill(
    tmp_path: Path, mosquitto: StartMosquitto
) -> None:
    """The meter remembers the highest counter it has seen: a gateway that began again would be refused."""
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    for name, text in (
        (
            "meter.toml",
            f'encryption_key = "{ENCRYPTION_KEY}"\nauthentication_key = "{AUTHENTICATION_KEY}"\n'
            'system_title = "4f50454e00000001"\n',
        ),
        ("meter.counter", "0\n"),
    ):
        (keys / name).touch(mode=0o600)
        (keys / name).write_text(text)
    broker = mosquitto()
    async with strange_meter(pydlms_arguments("hls", hdlc=False)) as port:
        gateway = GatewayProgram(tmp_path, mqtt={"url": broker.url}, modbus_port=port)
        gateway.configure(meters=1)
        written = gateway.file.read_text().partition("[[line]]")[0]
        gateway.file.write_text(
            f'{written}[[line]]\ndriver = "dlms"\nname = "bus1"\ntransport = "tcp"\n'
            f'host = "127.0.0.1"\nport = {port}\n[[line.meter]]\nserial = "DS2000-1"\n'
            f'client = {CLIENTS["hls"]}\nkeys = "keys/meter.toml"\nidentity = "PYD0000000001"\n'
        )
        settings = BrokerSettings(url=broker.url, client_id="head-end")
        try:
            async with MqttPort(settings).connect() as connection:
                await connection.subscribe([TelemetryTopic.filter()])
                for _ in range(2):
                    since = SystemClock().now()
                    gateway.start()
                    assert await _energy(connection, since) == (12345.678, "kWh", Quality.GOOD)
                    gateway.kill()
        finally:
            gateway.kill()
    assert (keys / "meter.counter").read_text() == "2000\n"
    assert ENCRYPTION_KEY not in gateway.log().lower()
