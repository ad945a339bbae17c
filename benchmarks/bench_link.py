"""Bytes on a link: a full and a resumed TLS handshake, and a message with its topic and with an alias.

    python -m benchmarks.bench_link [MESSAGES]

mosquitto with certificates on both sides, on this machine; what the kernel counted within TCP at the client's
socket, both ways. Bytes do not depend on how busy the machine is; how many segments they went in does.
"""

import asyncio
import json
import socket
import struct
import sys
import tempfile
from pathlib import Path

from tests.mosquitto import Mosquitto
from tests.pki import Pki

from openami.clock import SystemClock
from openami.mqtt.client import MqttConnection, MqttPort
from openami.mqtt.settings import BrokerSettings, Protocol
from openami.profile import FeederId, GatewayId, MeterSerial, TelemetryTopic

TOPIC = str(
    TelemetryTopic(
        FeederId("feeder-north-paravur-01"), GatewayId("pole-ems-0042"), MeterSerial("DS1000-88421")
    )
)
PAYLOAD = b"x" * 700  # eight registers with eight values


def carried(connection: MqttConnection) -> int:
    """Return the bytes within TCP so far."""
    transport = connection._wire._transport
    assert transport is not None
    # struct tcp_info of Linux: bytes_acked, bytes_received.
    info = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 144)
    acked, received = struct.unpack_from("<QQ", info, 120)
    return int(acked + received)


async def opening(port: MqttPort) -> int:
    """Return what a connection takes up to its CONNACK."""
    async with port.connect() as connection:
        return carried(connection)


async def message(port: MqttPort, messages: int) -> float:
    """Return what a message and its PUBACK take, one after the other."""
    async with port.connect() as connection:
        await connection.publish(TOPIC, PAYLOAD)
        before = carried(connection)
        for _ in range(messages):
            await connection.publish(TOPIC, PAYLOAD)
        return (carried(connection) - before) / messages


async def main(messages: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as directory:
        pki = Pki(Path(directory), SystemClock().now())
        server, client = pki.server(), pki.client("feeder-1/pole-1")
        for aliases in (0, 10):
            (place := Path(directory, str(aliases))).mkdir()
            broker = Mosquitto(
                place,
                [
                    "listener {port} 127.0.0.1",
                    f"cafile {pki.ca_file}",
                    f"certfile {server.cert_file}",
                    f"keyfile {server.key_file}",
                    "require_certificate true",
                    f"max_topic_alias {aliases}",
                ],
            )
            broker.start()

            def port(protocol: Protocol, url: str = broker.tls_url) -> MqttPort:
                return MqttPort(
                    BrokerSettings(
                        url=url,
                        client_id="pole-1",
                        ca_file=str(pki.ca_file),
                        cert_file=str(client.cert_file),
                        key_file=str(client.key_file),
                        protocol=protocol,
                    )
                )

            try:
                protocols: tuple[Protocol, ...] = ("5", "3.1.1") if not aliases else ("5",)
                for protocol in protocols:
                    way = port(protocol)
                    told = {
                        "benchmark": "link",
                        "protocol": protocol,
                        "aliases": aliases,
                        "full": await opening(way),
                        "resumed": [await opening(way) for _ in range(3)],
                        "message": await message(way, messages),
                    }
                    print(json.dumps(told))
            finally:
                broker.stop()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
