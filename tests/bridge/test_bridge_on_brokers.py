"""The whole bridge between two real brokers: from the firmware's messages to a judge who passes them."""

import asyncio
import json
import re
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.bridge.firmware_samples import POLE, FirmwarePole, as_payload, meter
from tests.conftest import StartMosquitto
from tests.gateway.clock_double import ClockDouble
from tests.mosquitto import Mosquitto
from tests.pki import Identity, Pki
from tests.tools import free_port, require_tool

from openami.bridge.config import BridgeConfig, read_config
from openami.bridge.main import SPOOL_FILE, run
from openami.clock import SystemClock
from openami.conformance.judge import Judge
from openami.conformance.observation import Published
from openami.mqtt.broker_rights import BridgeName, BrokerRights, mosquitto_acl
from openami.mqtt.client import MqttPort
from openami.mqtt.port import Connection, Delivery, TransportError
from openami.mqtt.settings import BrokerSettings
from openami.profile import Envelope, EventTopic, decode_envelope, parse_topic

pytestmark = pytest.mark.broker

WAIT_S = 10.0
BRIDGE_PAGE = Path("docs/bridge.md").read_text()
RIGHTS = BrokerRights(
    headends=("hes-1",),
    observers=("observer",),
    bridges=(BridgeName("bridge-1", "feeder-a", "pole-7"),),
)


@dataclass
class Stage:
    """Two brokers, the bridge's configuration between them, and who listens."""

    south: Mosquitto
    north: Mosquitto
    pki: Pki
    directory: Path
    config: BridgeConfig
    config_file: Path
    clock: ClockDouble = field(default_factory=ClockDouble)

    def north_settings(self, name: str) -> BrokerSettings:
        identity: Identity = self.pki.client(name)
        return BrokerSettings(
            url=self.north.tls_url,
            client_id=name,
            ca_file=str(self.pki.ca_file),
            cert_file=str(identity.cert_file),
            key_file=str(identity.key_file),
            session_expiry_days=0,
        )

    @asynccontextmanager
    async def listening(self, name: str, *filters: str) -> AsyncIterator[Connection]:
        async with MqttPort(self.north_settings(name)).connect() as connection:
            await connection.subscribe(filters)
            yield connection

    def publish_south(self, topic: str, payload: bytes) -> None:
        """Publish as the firmware does: QoS 0, nobody knows who."""
        subprocess.run(
            [
                require_tool("mosquitto_pub"),
                "-p",
                str(self.south.port),
                "-t",
                topic,
                "-s",
                "-q",
                "0",
            ],
            input=payload,
            check=True,
            timeout=WAIT_S,
        )

    def publish_round(self, pole: FirmwarePole) -> None:
        """Publish a pole's round, as at the clock's time."""
        for topic, payload, _ in pole.round(self.clock.now()):
            self.publish_south(topic, payload)

    @asynccontextmanager
    async def bridge(self) -> AsyncIterator[None]:
        """Run the bridge in this process."""
        stop, ready = asyncio.Event(), asyncio.Event()
        running = asyncio.create_task(
            run(self.config, clock=self.clock, stop=stop, on_ready=ready.set)
        )
        async with asyncio.timeout(WAIT_S):
            await ready.wait()
        try:
            yield
        finally:
            stop.set()
            async with asyncio.timeout(WAIT_S):
                await running


@pytest.fixture
def stage(mosquitto: StartMosquitto, pki: Pki, tmp_path: Path) -> Stage:
    south = mosquitto()
    acl = tmp_path / "north.acl"
    acl.write_text(mosquitto_acl(RIGHTS))
    server = pki.server()
    north = mosquitto(
        "listener {port} 127.0.0.1",
        f"cafile {pki.ca_file}",
        f"certfile {server.cert_file}",
        f"keyfile {server.key_file}",
        "require_certificate true",
        "use_identity_as_username true",
        "allow_anonymous false",
        f"acl_file {acl}",
    )
    identity = pki.client("bridge-1")
    file = tmp_path / "bridge.toml"
    file.write_text(
        f"""
data_dir = "data"
metrics = "127.0.0.1:{free_port()}"
[south]
url = "{south.url}"
[north]
url = "{north.tls_url}"
ca_file = "{pki.ca_file}"
cert_file = "{identity.cert_file}"
key_file = "{identity.key_file}"
[[pole]]
topic = "{POLE}"
feeder = "feeder-a"
gateway = "pole-7"
panel = "PANEL-7"
[pole.meters]
meter_0 = "DDS-1000"
meter_1 = "DDS-1001"
meter_2 = "DDS-1002"
"""
    )
    now = SystemClock().now().replace(microsecond=0)
    clock = ClockDouble(now - timedelta(hours=3))
    return Stage(south, north, pki, tmp_path, read_config(file), file, clock)


async def received(connection: Connection, count: int) -> list[Delivery]:
    """Return so many deliveries."""
    deliveries: list[Delivery] = []
    async with asyncio.timeout(WAIT_S):
        while len(deliveries) < count:
            some = await connection.receive(count - len(deliveries))
            connection.acknowledge(some)
            deliveries += some
    return deliveries


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.02)


def unsent(stage: Stage) -> int:
    """Return how many messages wait in the spool."""
    with closing(sqlite3.connect(stage.directory / "data" / SPOOL_FILE)) as connection:
        count: int = connection.execute("SELECT count(*) FROM message").fetchone()[0]
        return count


def scraped(stage: Stage) -> dict[str, float]:
    """Return the metrics' values, summed over labels."""
    with urllib.request.urlopen(f"http://{stage.config.metrics}/metrics", timeout=WAIT_S) as answer:
        text = answer.read().decode()
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values[sample.name] = values.get(sample.name, 0.0) + sample.value
            assert "DDS-1000" not in sample.labels.values()
    return values


async def counted(stage: Stage, name: str, count: int) -> None:
    """Wait until a metric says so much: what it counts is done a moment before, and never more."""
    async with asyncio.timeout(WAIT_S):
        while (said := (await asyncio.to_thread(scraped, stage)).get(name, 0)) < count:
            await asyncio.sleep(0.02)
    assert said == count


def envelope_of(delivery: Delivery) -> Envelope:
    return decode_envelope(delivery.payload)


# A round: nameplate on the first day, cabinet, panel, three meters.
OF_FIRST_ROUND = 6
OF_ROUND = 5


async def test_what_the_bridge_publishes_is_passed_by_the_kits_judge(stage: Stage) -> None:
    pole = FirmwarePole(booted_at=stage.clock.now() - timedelta(hours=2))
    judge = Judge("gateway", began_at=stage.clock.now())
    async with stage.listening("observer", "openami/v1/#") as kit, stage.bridge():
        for number in range(5):
            stage.publish_round(pole)
            for delivery in await received(kit, OF_ROUND if number else OF_FIRST_ROUND):
                judge.see(
                    Published(
                        stage.clock.now(), delivery.topic, delivery.payload, 1, delivery.retain
                    )
                )
            stage.clock.advance(300)
        await until(lambda: unsent(stage) == 0)
    judgement = judge.judgement(stage.clock.now())
    broken = [f for f in judgement.findings if f.verdict in ("failed", "warning")]
    assert not broken, broken
    passed = {f.requirement for f in judgement.findings if f.verdict == "passed"}
    assert {"OA-TOP-001", "OA-TOP-002", "OA-QOS-001", "OA-ENV-005", "OA-REG-008"} <= passed
    assert judgement.subject.names == ("feeder-a/pole-7",)


async def test_readings_are_good_and_dated_by_the_poll(stage: Stage) -> None:
    pole = FirmwarePole(booted_at=stage.clock.now() - timedelta(hours=2))
    async with (
        stage.listening("observer", "openami/v1/+/+/meter/DDS-1000/telemetry") as kit,
        stage.bridge(),
    ):
        deliveries: list[Delivery] = []
        for _ in range(3):
            stage.publish_round(pole)
            deliveries += await received(kit, 1)
            stage.clock.advance(300)
    envelope = envelope_of(deliveries[-1])
    assert {register.quality.value for register in envelope.registers} == {"good"}
    assert stage.clock.now() - envelope.ts == timedelta(seconds=308)


async def test_what_is_heard_while_the_operators_broker_is_away_comes_later(stage: Stage) -> None:
    pole = FirmwarePole(booted_at=stage.clock.now() - timedelta(hours=2))
    async with stage.bridge():
        stage.north.stop()
        stage.publish_round(pole)
        await until(lambda: unsent(stage) == OF_FIRST_ROUND)
    stage.north.start()
    async with stage.listening("observer", "openami/v1/#") as kit, stage.bridge():
        deliveries = await received(kit, OF_FIRST_ROUND)
        await until(lambda: unsent(stage) == 0)
    assert len({delivery.topic for delivery in deliveries}) == 4


async def test_a_message_the_broker_refuses_is_set_aside_and_the_others_go(stage: Stage) -> None:
    """The access list forgot a gateway of the map."""
    text = stage.config_file.read_text()
    second = text[text.index("[[pole]]") :].replace(POLE, "StreetPoleEMS_000002")
    second = second.replace("pole-7", "pole-8").replace("DDS-", "X-").replace("PANEL-7", "PANEL-8")
    stage.config_file.write_text(text + second)
    stage.config = read_config(stage.config_file)
    async with stage.listening("observer", "openami/v1/#") as kit, stage.bridge():
        stage.publish_south("openami/StreetPoleEMS_000002/meter_0", as_payload(meter(1000)))
        stage.publish_south(f"openami/{POLE}/meter_0", as_payload(meter(1000)))
        (delivery,) = await received(kit, 1)
        assert "/pole-7/" in delivery.topic
        await until(lambda: unsent(stage) == 1)
        await counted(stage, "openami_bridge_refused_messages_total", 1)


# --- nothing goes south ---------------------------------------------------------------------------


@asynccontextmanager
async def tapped(broker: Mosquitto) -> AsyncIterator[list[Delivery]]:
    """Yield what anybody publishes on a broker, as it comes."""
    heard: list[Delivery] = []
    settings = BrokerSettings(url=broker.url, client_id="tap", session_expiry_days=0)
    async with MqttPort(settings).connect() as connection:
        await connection.subscribe(["#"])

        async def listen() -> None:
            while True:
                heard.extend(await connection.receive(100))

        task = asyncio.create_task(listen())
        try:
            yield heard
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


ATTACKS = (
    b'{"cmd":"relay","address":2,"state":"open"}',
    json.dumps({"ts": "2026-06-22T14:30:00Z", "registers": []}).encode(),
    b"",
    b"\xff" * 5000,
)


async def test_a_command_from_north_leads_to_nothing_south(stage: Stage) -> None:
    async with (
        tapped(stage.south) as heard,
        stage.listening("hes-1", "openami/v1/+/+/meter/+/event") as head_end,
        stage.bridge(),
    ):
        stage.publish_south(f"openami/{POLE}/meter_0", as_payload(meter(1000)))
        for serial in ("DDS-1000", "PANEL-7"):
            for attack in ATTACKS:
                await head_end.publish(f"openami/v1/feeder-a/pole-7/meter/{serial}/command", attack)
        told = await received(head_end, 2)
        stage.publish_south("openami/StreetPoleEMS_37EAB0/subpanel_BWPubOut", b"{}")
        await until(lambda: len(heard) == 2)
    assert {delivery.topic for delivery in heard} == {
        f"openami/{POLE}/meter_0",
        f"openami/{POLE}/subpanel_BWPubOut",
    }, "only the pole has published"
    for delivery in told:
        assert isinstance(parse_topic(delivery.topic), EventTopic)
        event = envelope_of(delivery).event
        assert event is not None
        assert event.type == "commands_refused"


async def test_commands_are_told_once_an_hour_and_only_for_meters_of_the_map(stage: Stage) -> None:
    async with stage.listening("hes-1", "openami/v1/+/+/meter/+/event") as head_end, stage.bridge():
        topic = "openami/v1/feeder-a/pole-7/meter/{}/command"
        for _ in range(50):
            await head_end.publish(topic.format("DDS-1000"), b"x")
            await head_end.publish(topic.format("somebody-else"), b"x")
        await counted(stage, "openami_bridge_commands_refused_total", 100)
        stage.clock.advance(3601)
        await head_end.publish(topic.format("DDS-1000"), b"x")
        told = await received(head_end, 2)
        await counted(stage, "openami_bridge_commands_refused_total", 101)
    assert len({envelope_of(each).event.event_id for each in told}) == 2  # type: ignore[union-attr]


def make_password_file(file: Path) -> None:
    command = [str(require_tool("mosquitto_passwd")), "-b", "-c", str(file), "bridge", "secret"]
    subprocess.run(command, check=True, timeout=WAIT_S)


@pytest.mark.parametrize("who", ["bridge", "StreetPoleEMS_37EAB0", "somebody"])
async def test_the_documented_access_list_lets_nobody_command(
    mosquitto: StartMosquitto, tmp_path: Path, who: str
) -> None:
    (text,) = re.findall(
        r"```text\n(# mosquitto, the firmware's broker.*?)```",
        BRIDGE_PAGE,
        re.DOTALL,
    )
    (tmp_path / "south.acl").write_text(text)
    passwords = tmp_path / "passwords"
    make_password_file(passwords)
    passwords.chmod(0o644)
    broker = mosquitto(f"acl_file {tmp_path / 'south.acl'}", f"password_file {passwords}")
    (tmp_path / "password").write_text("secret")
    bridge = BrokerSettings(
        url=broker.url,
        client_id="openami-bridge-meshems",
        username="bridge",
        password_file=str(tmp_path / "password"),
        session_expiry_days=0,
    )
    own = BrokerSettings(url=broker.url, client_id=who, session_expiry_days=0)
    second = msgspec.structs.replace(bridge, client_id="openami-bridge-2")
    async with (
        MqttPort(bridge).connect() as reader,
        MqttPort(second if who == "bridge" else own).connect() as writer,
    ):
        await reader.subscribe(["openami/+/+", "openami/+/+/door"])
        for topic in (f"openami/{POLE}/cmd", "openami/StreetPoleEMS_000002/meter_0"):
            with pytest.raises(TransportError, match="does not allow us this topic"):
                await writer.publish(topic, b"{}")
        if who == POLE:
            for topic in (f"openami/{POLE}/meter_0", f"openami/{POLE}//door"):
                await writer.publish(topic, b"open")
                assert [each.topic for each in await received(reader, 1)] == [topic]


# --- the program ----------------------------------------------------------------------------------


async def test_the_program_tells_each_message_as_json_and_ends_clean(stage: Stage) -> None:
    command = [sys.executable, "-m", "openami", "bridge", "meshems", "-c", str(stage.config_file)]
    process = await asyncio.create_subprocess_exec(
        *command, "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    logged = asyncio.create_task(log_until_ready(process.stderr.readline))
    async with asyncio.timeout(30):
        await logged
    stage.publish_south(f"openami/{POLE}/meter_0", as_payload(meter(1000, PhW=64585, PhA=4.35)))
    async with asyncio.timeout(WAIT_S):
        row: dict[str, Any] = json.loads(await process.stdout.readline())
    assert row["pole"] == POLE
    (published,) = row["published"]
    assert published["topic"] == "openami/v1/feeder-a/pole-7/meter/DDS-1000/telemetry"
    assert {found["reason"] for found in row["findings"]} >= {"power_wrapped"}
    assert datetime.fromisoformat(row["at"]).tzinfo is not None
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(WAIT_S):
        await process.communicate()
    assert process.returncode == 0


async def log_until_ready(readline: Callable[[], Awaitable[bytes]]) -> None:
    """Read the log until both sides are connected; by then it has said how little the south is worth."""
    said = b""
    while b"ready: 3 meters on 1 poles" not in (line := await readline()):
        assert line, "it ended"
        said += line
    assert b"the firmware's broker is not encrypted" in said


async def test_what_was_heard_outlives_a_kill(stage: Stage) -> None:
    """Killed with -9 while the operator's broker is away: nothing that was stored is lost, or told twice."""
    command = [sys.executable, "-m", "openami", "bridge", "meshems", "-c", str(stage.config_file)]
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
    assert process.stderr is not None
    async with asyncio.timeout(30):
        await log_until_ready(process.stderr.readline)
    stage.north.stop()
    pole = FirmwarePole(booted_at=stage.clock.now() - timedelta(hours=2))
    stage.publish_round(pole)
    await until(lambda: unsent(stage) == OF_FIRST_ROUND)
    process.kill()
    await process.communicate()
    stage.north.start()
    async with stage.listening("observer", "openami/v1/#") as kit, stage.bridge():
        deliveries = await received(kit, OF_FIRST_ROUND)
        await until(lambda: unsent(stage) == 0)
    told = [
        (each.topic, str(sorted(r.obis for r in envelope_of(each).registers)))
        for each in deliveries
    ]
    assert len(set(told)) == OF_FIRST_ROUND


async def test_a_machine_whose_clock_was_never_set_publishes_nothing(stage: Stage) -> None:
    """What it would date cannot be: no head-end takes a reading of 1970."""
    stage.clock.set(datetime(1970, 1, 1, 0, 5, tzinfo=UTC), synchronised=False)
    async with stage.bridge():
        stage.publish_south(f"openami/{POLE}/meter_0", as_payload(meter(1000)))
        await counted(stage, "openami_bridge_received_messages_total", 1)
        assert unsent(stage) == 0
        stage.clock.set(SystemClock().now(), synchronised=True)
        async with stage.listening("observer", "openami/v1/#") as kit:
            stage.publish_south(f"openami/{POLE}/meter_1", as_payload(meter(2000, 1)))
            (delivery,) = await received(kit, 1)
    assert "DDS-1001" in delivery.topic
