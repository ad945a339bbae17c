"""What a reading costs on a gateway's link, with TLS and without: counted on the way to a real broker.

    python -m benchmarks.bench_wire [--cycles 30]

Outbox and uplink are the gateway's own, over MQTT 5; a relay between it and mosquitto counts what goes through,
each way. That is what TLS, or without it MQTT, hands to TCP: 52 bytes of IP and TCP header for each segment come on
top (`openami.link_cost`, which reckons with a TLS record for each message: what leaves at once shares one). Twenty
meters a cycle; the broker asks for a client's certificate, as the village's does. One figure a line.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from benchmarks.bench_outbox import CLOCK, cycle
from benchmarks.figures import figure, say
from openami.gateway import uplink
from openami.gateway.outbox import Outbox, OutboxLimits, open_outbox
from openami.gateway.uplink import UplinkSettings
from openami.mqtt.client import MqttPort
from openami.mqtt.embedded import embedded_broker
from openami.mqtt.settings import BrokerSettings
from openami.profile import FeederId, GatewayId
from openami.simulator.security import demo_village

METERS = 20
REGISTERS = (1, 3, 8)
FEEDER, GATEWAY = FeederId("feeder-north-paravur-01"), GatewayId("pole-ems-0042")
CYCLE_S_MAX = 30.0
CHUNK_BYTES = 65_536
# The last acknowledgement has arrived and is not marked yet; what TLS says after its handshake has come.
QUIET_S = 0.2


@dataclass
class Relay:
    """Bytes that went through."""

    port: int = 0
    up: int = 0
    down: int = 0


@asynccontextmanager
async def relay(port: int) -> AsyncIterator[Relay]:
    """Listen, and pass everything on to a port of this machine."""
    counted = Relay()

    async def upward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            counted.up += len(data)
            writer.write(data)
        writer.close()

    async def downward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            counted.down += len(data)
            writer.write(data)
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broker_reader, broker_writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(ConnectionError):
            await asyncio.gather(upward(reader, broker_writer), downward(broker_reader, writer))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    counted.port = server.sockets[0].getsockname()[1]
    try:
        yield counted
    finally:
        server.close()


async def sent(outbox: Outbox) -> None:
    """Return when the outbox has nothing that was not acknowledged."""
    async with asyncio.timeout(CYCLE_S_MAX):
        while (await outbox.state()).pending:
            await asyncio.sleep(0.01)


async def measure(settings: BrokerSettings, counted: Relay, cycles: int, name: str) -> None:
    """Send cycles of each size; say what a reading of each costs, and what connecting does."""
    words = "TLS with certificates on both sides" if name == "tls" else "without TLS"
    with tempfile.TemporaryDirectory() as folder:
        async with (
            open_outbox(Path(folder) / "gateway.db", OutboxLimits(), CLOCK) as outbox,
            MqttPort(settings).connect() as connection,
        ):
            await asyncio.sleep(QUIET_S)
            both = counted.up + counted.down
            say(figure(f"wire.{name}.connect", f"to connect, both ways, {words}", "B", [both]))
            sending = asyncio.create_task(
                uplink.run(outbox, connection, UplinkSettings(backfill_per_s=0), CLOCK)
            )
            try:
                number = 0
                for registers in REGISTERS:
                    ups, downs = [], []
                    for _ in range(cycles):
                        number += 1
                        up, down = counted.up, counted.down
                        await outbox.append(cycle(number, METERS, registers))
                        await sent(outbox)
                        await asyncio.sleep(QUIET_S / 10)
                        ups.append((counted.up - up) / METERS / registers)
                        downs.append((counted.down - down) / METERS / registers)
                    each = f"a reading, {registers} in a message, {words}"
                    say(figure(f"wire.{name}.{registers}.up", f"{each}: up", "B", ups))
                    say(figure(f"wire.{name}.{registers}.down", f"{each}: down", "B", downs))
            finally:
                sending.cancel()
                with suppress(asyncio.CancelledError):
                    await sending


@asynccontextmanager
async def counted_broker(tls_files: Mapping[str, bytes] | None = None) -> AsyncIterator[Relay]:
    """Run a broker; yield the relay before it."""
    async with (
        embedded_broker(("mosquitto",), tls_files=tls_files) as broker,
        relay(int(broker.url.rsplit(":", 1)[1])) as counted,
    ):
        yield counted


async def main(cycles: int) -> int:
    """Measure without TLS and with it."""
    async with counted_broker() as counted:
        url = f"mqtt://127.0.0.1:{counted.port}"
        settings = BrokerSettings(url=url, client_id=f"{FEEDER}/{GATEWAY}")
        await measure(settings, counted, cycles, "plain")
    with tempfile.TemporaryDirectory(prefix="openami-bench-") as folder:
        now = CLOCK.now() - timedelta(minutes=1)
        operator = demo_village(Path(folder), FEEDER, GATEWAY, now=now)
        async with counted_broker(operator.broker_files) as counted:
            settings = operator.gateway_settings(f"mqtts://127.0.0.1:{counted.port}")
            await measure(settings, counted, cycles, "tls")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="what a reading costs on the link")
    parser.add_argument("--cycles", type=int, default=30)
    sys.exit(asyncio.run(main(parser.parse_args().cycles)))
