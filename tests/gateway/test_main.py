"""The gateway as the program it is: Modbus meters, a real broker, its page, its signals."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.conftest import StartMosquitto
from tests.gateway.pole import GatewayProgram, modbus_meters, openami, serials
from tests.pki import Pki
from tests.tools import free_port

from openami.gateway.certificate import valid_until
from openami.mqtt.client import MqttPort
from openami.mqtt.port import Connection
from openami.mqtt.settings import BrokerSettings
from openami.profile import (
    Envelope,
    EventTopic,
    Quality,
    TelemetryTopic,
    decode_envelope,
    parse_topic,
)

WAIT_S = 60.0  # a test machine may do many things at once


@asynccontextmanager
async def listening(url: str, client_id: str = "head-end") -> AsyncIterator[Connection]:
    """Stand in the head-end's place: hear everything gateways publish."""
    async with MqttPort(BrokerSettings(url=url, client_id=client_id)).connect() as connection:
        await connection.subscribe([TelemetryTopic.filter(), EventTopic.filter()])
        yield connection


async def heard(connection: Connection, enough: Callable[[list[Envelope]], bool]) -> list[Envelope]:
    """Return what is heard until it is enough."""
    envelopes: list[Envelope] = []
    async with asyncio.timeout(WAIT_S):
        while not enough(envelopes):
            deliveries = await connection.receive(100)
            for delivery in deliveries:
                envelope = decode_envelope(delivery.payload)
                topic = parse_topic(delivery.topic)
                assert isinstance(topic, TelemetryTopic | EventTopic)
                assert topic.meter_serial == envelope.meter_serial
                envelopes.append(envelope)
            connection.acknowledge(deliveries)
    return envelopes


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not holds():
            await asyncio.sleep(0.05)


@pytest.fixture
async def meters() -> AsyncIterator[int]:
    async with modbus_meters(3) as port:
        yield port


@pytest.fixture
def programs() -> Iterator[list[GatewayProgram]]:
    started: list[GatewayProgram] = []
    yield started
    for program in started:
        program.kill()


@pytest.mark.broker
async def test_readings_walk_from_meters_to_broker_and_an_outage_loses_none(
    tmp_path: Path,
    mosquitto: StartMosquitto,
    meters: int,
    programs: list[GatewayProgram],
) -> None:
    # Its memory of who subscribed is to survive the kill: the head-end's session is not what is tested.
    broker = mosquitto("autosave_interval 1", "autosave_on_changes true")
    gateway = GatewayProgram(tmp_path, mqtt={"url": broker.url}, modbus_port=meters)
    gateway.configure(meters=3)
    programs.append(gateway)
    async with listening(broker.url) as head_end:
        gateway.start()
        first = await heard(head_end, lambda e: len(e) >= 9)
    assert {str(e.meter_serial) for e in first} == set(serials(3))
    values = {str(r.obis): (r.value, r.unit, r.quality) for e in first for r in e.registers}
    assert values["32.7.0"] == (230.5, "V", Quality.GOOD)
    assert values["1.8.0"] == (1842.5, "kWh", Quality.GOOD)
    assert values["1.7.0"] == (0.288, "kW", Quality.GOOD)

    page = await gateway.get("/")
    assert "DS1000-00002" in page.text
    assert "connected</b> to" in page.text
    assert (await gateway.get("/readyz")).json()["status"] == "ok"

    broker.kill()
    await until(lambda: "uplink down" in gateway.log())
    at_kill = gateway.figures().last_seq
    await until(lambda: gateway.figures().last_seq >= at_kill + 6)
    told = gateway.backlog()
    assert told["pending"] >= 6
    assert told["lastSeq"] >= at_kill + 6
    readiness = await gateway.get("/readyz")
    assert (readiness.status_code, readiness.json()["status"]) == (200, "degraded")

    broker.start()
    wanted = set(range(at_kill + 1, at_kill + 7))
    async with listening(broker.url) as head_end:
        after = await heard(head_end, lambda e: wanted <= {each.seq for each in e})
        assert {e.seq for e in after} >= wanted
    families = text_string_to_metric_families((await gateway.get("/metrics")).text)
    samples = {sample.name: sample.value for family in families for sample in family.samples}
    assert samples["openami_gateway_uplink_connects_total"] == 2
    assert samples["openami_gateway_sent_messages_total"] >= len(first) + 6
    assert samples["openami_gateway_uplink_connected"] == 1
    said = [
        json.loads(line)["reason"] for line in gateway.log().splitlines() if "uplink down" in line
    ]
    assert len(said) == len(set(said)), "each reason is said once, however often it was tried"

    assert gateway.end() == 0
    assert "stopped" in gateway.log()
    assert "Traceback" not in gateway.log()


@pytest.mark.broker
async def test_a_wrong_authority_is_said_with_its_remedy_and_ends_nothing(
    tmp_path: Path,
    mosquitto: StartMosquitto,
    pki: Pki,
    meters: int,
    programs: list[GatewayProgram],
) -> None:
    server = pki.server()
    broker = mosquitto(
        "listener {port} 127.0.0.1",
        f"cafile {pki.ca_file}",
        f"certfile {server.cert_file}",
        f"keyfile {server.key_file}",
        "require_certificate true",
    )
    client = pki.client("feeder-1/pole-1")
    mqtt = {
        "url": broker.tls_url,
        "ca_file": str(pki.foreign_ca_file),
        "cert_file": str(client.cert_file),
        "key_file": str(client.key_file),
    }
    gateway = GatewayProgram(tmp_path, mqtt=mqtt, modbus_port=meters)
    gateway.configure(meters=1)
    programs.append(gateway)
    gateway.start()
    await gateway.ready()
    await until(lambda: gateway.figures().last_seq >= 2 and "uplink down" in gateway.log())
    (uplink,) = [
        check
        for check in (await gateway.get("/readyz")).json()["checks"]
        if check["name"] == "uplink"
    ]
    assert "ca_file" in uplink["detail"]
    assert gateway.log().count("uplink down") == 1
    page = (await gateway.get("/")).text
    assert (
        f"our certificate is valid until {valid_until(client.cert_file.read_text()):%Y-%m-%d}"
        in page
    )
    assert "Traceback" not in gateway.log()
    assert gateway.end() == 0


async def test_the_service_manager_hears_of_start_life_and_end(
    tmp_path: Path, meters: int, programs: list[GatewayProgram]
) -> None:
    gateway = GatewayProgram(
        tmp_path, mqtt={"url": f"mqtt://127.0.0.1:{free_port()}"}, modbus_port=meters
    )
    gateway.configure(meters=1)
    programs.append(gateway)
    address = f"\0openami-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(WAIT_S)
        gateway.start(NOTIFY_SOCKET=f"@{address[1:]}", WATCHDOG_USEC="400000")
        told = [await asyncio.to_thread(manager.recv, 100) for _ in range(4)]
        assert set(told) == {b"READY=1", b"WATCHDOG=1"}
        assert told.count(b"WATCHDOG=1") >= 3
        assert gateway.end() == 0
        rest = []
        manager.setblocking(False)
        try:
            while True:
                rest.append(manager.recv(100))
        except BlockingIOError:
            pass
    assert rest[-1] == b"STOPPING=1"


async def test_last_values_survive_a_kill(
    tmp_path: Path, programs: list[GatewayProgram], mosquitto: StartMosquitto
) -> None:
    """Killed with -9, then the meters are gone: the counters are told as last known, with their time."""
    broker = mosquitto()
    async with modbus_meters(1) as port:
        gateway = GatewayProgram(tmp_path, mqtt={"url": broker.url}, modbus_port=port)
        gateway.configure(meters=1)
        programs.append(gateway)
        async with listening(broker.url) as head_end:
            gateway.start()
            before = await heard(head_end, _has_import)
            gateway.kill()
    async with listening(broker.url) as head_end:
        gateway.start()
        after = await heard(
            head_end, lambda e: any(_has_import([x]) and x.event is None and _lost(x) for x in e)
        )
    times = {e.ts for e in before if _has_import([e])}
    lost = [e for e in after if _lost(e) and e.event is None and _has_import([e])]
    assert {e.ts for e in lost} <= times
    assert any(e.event is not None and e.event.type == "comms_lost" for e in after)
    assert gateway.end() == 0


def _has_import(envelopes: Sequence[Envelope]) -> bool:
    return any(str(r.obis) == "1.8.0" for e in envelopes for r in e.registers)


def _lost(envelope: Envelope) -> bool:
    return all(r.quality is Quality.COMMS_LOST for r in envelope.registers)


# --- what keeps it from starting -----------------------------------------------------------------


def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    gateway = GatewayProgram(tmp_path, mqtt={}, modbus_port=1)
    gateway.configure(meters=1)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as other:
        other.bind(("127.0.0.1", gateway.status_port))
        other.listen()
        told = openami("gateway", "run", "-c", str(gateway.file))
    assert told.returncode == 2
    assert told.stderr == (
        f"openami: {gateway.file}: status.listen: another program listens on "
        f"127.0.0.1:{gateway.status_port}; choose another port, or stop that program "
        "(`ss -ltnp` names it)\n"
    )


def test_a_data_directory_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    gateway = GatewayProgram(tmp_path, mqtt={}, modbus_port=1)
    gateway.configure(meters=1)
    gateway.data_dir.write_text("a file")
    told = openami("gateway", "run", "-c", str(gateway.file))
    assert told.returncode == 2
    assert told.stderr.count("\n") == 1
    assert f"data_dir: {gateway.data_dir} cannot be made: File exists; name a" in told.stderr


def test_a_configuration_is_checked_without_touching_a_wire(tmp_path: Path) -> None:
    gateway = GatewayProgram(tmp_path, mqtt={}, modbus_port=1)
    gateway.configure(meters=2)
    told = openami("gateway", "check", "-c", str(gateway.file))
    assert told.returncode == 0
    assert "ok: 2 meters on 1 line" in told.stderr
    assert not gateway.data_dir.exists()
    gateway.file.write_text(gateway.file.read_text().replace("unit = 2", "unit = 1"))
    told = openami("gateway", "check", "-c", str(gateway.file))
    assert told.returncode == 2
    assert told.stderr.startswith(f"openami: {gateway.file}:23: line[0].meter[1].unit: ")
    assert told.stderr.count("\n") == 1


def test_a_backlog_that_is_none_yet(tmp_path: Path) -> None:
    gateway = GatewayProgram(tmp_path, mqtt={}, modbus_port=1)
    gateway.configure(meters=1)
    told = openami("gateway", "backlog", "-c", str(gateway.file))
    assert told.returncode == 1
    assert "gateway.db is not there" in told.stderr


# --- certificates --------------------------------------------------------------------------------


def test_the_end_of_a_certificate_is_read(pki: Pki) -> None:
    from cryptography import x509

    for identity in (pki.client("feeder-1/pole-1"), pki.server()):
        pem = identity.cert_file.read_bytes()
        expected = x509.load_pem_x509_certificate(pem).not_valid_after_utc
        assert valid_until(pem.decode()) == expected


def test_what_is_no_certificate_has_no_end(pki: Pki) -> None:
    pem = pki.client("x").cert_file.read_text()
    assert valid_until("") is None
    assert valid_until(pki.client("x").key_file.read_text()) is None
    body = pem.index("\n") + 1
    for length in range(0, len(pem) - body - 30, 7):
        cut = f"{pem[: body + length]}\n-----END CERTIFICATE-----\n"
        found = valid_until(cut)
        assert found is None or found == valid_until(pem)
