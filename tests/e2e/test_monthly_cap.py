"""A cap that bites, on a real link: the program itself over TLS to mosquitto, counted by the kernel."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import StartMosquitto
from tests.gateway.pole import GatewayProgram, modbus_meters
from tests.gateway.test_budget import SEGMENT_BYTES, CountedLink
from tests.pki import Pki

from openami.mqtt.client import MqttPort
from openami.mqtt.port import Connection
from openami.mqtt.settings import BrokerSettings
from openami.profile import Envelope, EventTopic, TelemetryTopic, decode_envelope

pytestmark = pytest.mark.broker

METERS = 2
WAIT_S = 60.0
# A poll of a second, and its way here: what is not told by then is not told.
QUIET_S = 1.5
WITHHELD = "telemetry_withheld"


@pytest.fixture
def programs() -> Iterator[list[GatewayProgram]]:
    started: list[GatewayProgram] = []
    yield started
    for program in started:
        program.kill()


class Heard:
    """What the head-end's side has heard."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.envelopes: list[Envelope] = []

    async def take(self) -> None:
        deliveries = await self._connection.receive(100)
        self._connection.acknowledge(deliveries)
        self.envelopes += [decode_envelope(each.payload) for each in deliveries]

    async def until(self, event: str) -> None:
        async with asyncio.timeout(WAIT_S):
            while event not in {e.event.type for e in self.envelopes if e.event}:
                await self.take()

    async def for_s(self, seconds: float) -> list[Envelope]:
        """Return what comes in so many seconds."""
        before = len(self.envelopes)
        try:
            async with asyncio.timeout(seconds):
                while True:
                    await self.take()
        except TimeoutError:
            return self.envelopes[before:]

    async def until_numbers_are_whole(self) -> None:
        async with asyncio.timeout(WAIT_S):
            while True:
                seqs = {each.seq for each in self.envelopes}
                if len(self.envelopes) > 1 and seqs == set(range(1, len(seqs) + 1)):
                    return
                await self.take()


async def month_bytes(gateway: GatewayProgram) -> int:
    text = (await gateway.get("/metrics")).text
    found = re.search(r"^openami_gateway_month_bytes (\S+)$", text, re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


async def test_where_the_cap_bites_events_go_and_readings_wait_and_none_is_lost(
    tmp_path: Path, mosquitto: StartMosquitto, pki: Pki, programs: list[GatewayProgram]
) -> None:
    server, client, other = pki.server(), pki.client("feeder-1/pole-1"), pki.client("head-end")
    broker = mosquitto(
        "listener {port} 127.0.0.1",
        f"cafile {pki.ca_file}",
        f"certfile {server.cert_file}",
        f"keyfile {server.key_file}",
        "require_certificate true",
        "set_tcp_nodelay true",
    )
    head_end = BrokerSettings(
        url=broker.tls_url,
        client_id="head-end",
        ca_file=str(pki.ca_file),
        cert_file=str(other.cert_file),
        key_file=str(other.key_file),
    )
    async with CountedLink(broker.port).open() as link, MqttPort(head_end).connect() as connection:
        mqtt = {
            "url": f"mqtts://127.0.0.1:{link.port}",
            "ca_file": str(pki.ca_file),
            "cert_file": str(client.cert_file),
            "key_file": str(client.key_file),
        }
        heard = Heard(connection)
        await connection.subscribe([TelemetryTopic.filter(), EventTopic.filter()])
        async with modbus_meters(METERS) as port:
            gateway = GatewayProgram(tmp_path, mqtt=mqtt, modbus_port=port)
            gateway.configure(meters=METERS, more=["[uplink]", "cap_mb_a_month = 1"])
            programs.append(gateway)
            gateway.start()
            # A reading a second is a hundred times what a month of a megabyte carries.
            await heard.until(WITHHELD)
            await heard.for_s(0.3)  # what was under way
            assert await heard.for_s(QUIET_S) == []
        # The meters are gone, and that is said.
        await heard.until("comms_lost")
        assert all(each.event is not None for each in await heard.for_s(QUIET_S))
        carried, counted = link.carried(), await month_bytes(gateway)
        assert 0.7 * counted < carried.stream + SEGMENT_BYTES * carried.segments < 1.02 * counted

        gateway.kill()
        gateway.start(OPENAMI_GATEWAY__UPLINK__CAP_MB_A_MONTH="100000")
        await heard.until_numbers_are_whole()
        assert await month_bytes(gateway) > counted, "a power cut forgives nothing"
    assert len(heard.envelopes) > 4 * METERS
