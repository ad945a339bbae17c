"""The gateway as a program: a signed command over a real broker to a Modbus relay and back; replays; kill -9."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.conftest import StartMosquitto
from tests.gateway.pole import GatewayProgram, openami
from tests.gateway.sip_world import FEEDER, GATEWAY, ROOT, Parties

from openami.clock import SystemClock
from openami.gateway.drivers.modbus.map_files import load_map
from openami.mqtt.client import MqttPort
from openami.mqtt.port import Connection
from openami.mqtt.settings import BrokerSettings
from openami.profile import EventTopic, SessionTopic, Topic, parse_topic
from openami.simulator.faults import Slow
from openami.simulator.modbus_server import Area, ModbusLine, Write, WriteRefused, serving
from openami.sip.actions import Action
from openami.sip.acts import ActType, read_acts
from openami.sip.canonical import Document, encode_base64url, read_document

WAIT_S = 20.0
SERIAL = "M-1"
_POLE_SEED = 5
# A contactor that takes its time, so that a program can be killed while it moves.
_SLOW_S = 0.6


class Dds238:
    """A DDS238 with a relay: its registers, and every order that reached it."""

    def __init__(self) -> None:
        self.relay = load_map("dds238").relay
        assert self.relay is not None
        self.words = dict.fromkeys(range(0x1B), 0) | {0x0C: 2305, 0x11: 5000, 0x10: 1000}
        self.words[self.relay.address] = self.relay.connected
        self.orders: list[int] = []

    def registers(self, area: Area) -> Mapping[int, int]:
        return self.words if area is Area.HOLDING else {}

    def write(self, how: Write, address: int, word: int) -> None:
        assert self.relay is not None
        if (how, address) != (Write.SEVERAL, self.relay.address):
            raise WriteRefused
        self.words[address] = word
        self.orders.append(word)


class HeadEnd:
    """Signs as a head-end does, and hears what the gateway answers."""

    def __init__(self, connection: Connection) -> None:
        self.parties = Parties(SystemClock())  # type: ignore[arg-type]  # it only asks what time it is
        self.connection = connection
        self.nonces: list[str] = []
        self.reports: list[Mapping[str, object]] = []
        self.heard: list[tuple[Topic, Document]] = []

    async def send(self, message: tuple[object, bytes]) -> None:
        await self.connection.publish(str(message[0]), message[1])

    async def until(self, enough: "Callable[[HeadEnd], bool]", wait_s: float = WAIT_S) -> None:
        async with asyncio.timeout(wait_s):
            while not enough(self):
                deliveries = await self.connection.receive(10)
                self.connection.acknowledge(deliveries)
                for delivery in deliveries:
                    topic = parse_topic(delivery.topic)
                    document = read_document(delivery.payload)
                    self.heard.append((topic, document))
                    if isinstance(topic, SessionTopic) and topic.session_id == "s-1":
                        self.nonces += [
                            act.nonce
                            for act in read_acts(document)
                            if act.type is ActType.ACCEPT and act.nonce is not None
                        ]
                    if isinstance(topic, EventTopic) and "report" in document.members:
                        self.reports.append(document.members["report"])

    async def ready(self) -> None:
        """Offer until the gateway has accepted: a broker keeps nothing for who has not subscribed yet."""
        keyring, offer = self.parties.keyring(), self.parties.offer()
        async with asyncio.timeout(WAIT_S):
            while not self.nonces:
                await self.send(keyring)
                await self.send(offer)
                try:
                    await self.until(lambda hes: bool(hes.nonces), 0.3)
                except TimeoutError:
                    continue


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[HeadEnd]:
    async with MqttPort(BrokerSettings(url=url, client_id="hes-1")).connect() as connection:
        await connection.subscribe(
            [SessionTopic.filter(FEEDER, GATEWAY), EventTopic.filter(FEEDER, GATEWAY)]
        )
        yield HeadEnd(connection)


def enrolled(program: GatewayProgram, directory: Path) -> None:
    """Give the gateway its key and its roots, and turn commands on."""
    key_file, roots_file = directory / "gateway.key", directory / "roots.json"
    private = Ed25519PrivateKey.from_private_bytes(bytes([_POLE_SEED]) * 32)
    key_file.touch(0o600)
    key_file.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    roots = {"threshold": 1, "keys": [encode_base64url(ROOT.public.raw)]}
    roots_file.touch(0o600)
    roots_file.write_text(json.dumps(roots))
    program.configure(meters=1)
    text = program.file.read_text()
    text = text.replace('map = "sdm120"', 'map = "dds238"').replace("DS1000-00001", SERIAL)
    text = text.replace(
        "[status]", '[commands]\nkey_file = "gateway.key"\nroots_file = "roots.json"\n[status]'
    )
    program.file.write_text(text)


@pytest.fixture
def meter() -> Dds238:
    return Dds238()


@pytest.fixture
async def line(meter: Dds238) -> AsyncIterator[tuple[ModbusLine, int]]:
    line = ModbusLine({1: meter})
    async with serving(line) as port:
        yield line, port


@pytest.fixture
def gateways() -> Iterator[list[GatewayProgram]]:
    started: list[GatewayProgram] = []
    yield started
    for program in started:
        program.kill()


@pytest.mark.broker
async def test_a_command_walks_to_the_relay_and_its_report_back_a_replay_does_not(
    tmp_path: Path,
    mosquitto: StartMosquitto,
    meter: Dds238,
    line: tuple[ModbusLine, int],
    gateways: list[GatewayProgram],
) -> None:
    broker = mosquitto()
    gateway = GatewayProgram(tmp_path, mqtt={"url": broker.url}, modbus_port=line[1])
    enrolled(gateway, tmp_path)
    gateways.append(gateway)
    async with listening(broker.url) as hes:
        gateway.start()
        await hes.ready()
        order = hes.parties.command(Action.DISCONNECT, hes.nonces[-1], seq=1)
        await hes.send(order)
        await hes.until(lambda hes: len(hes.reports) == 1)
        assert (hes.reports[0]["status"], hes.reports[0]["code"]) == ("done", "OK")
        assert meter.orders == [0]
        await hes.send(order)
        await hes.until(lambda hes: len(hes.reports) == 2)
        assert hes.reports[1] == hes.reports[0], "the stored report"

        at_kill = len(hes.nonces)
        gateway.kill()
        gateway.start()
        await hes.until(lambda hes: len(hes.nonces) > at_kill)
        withheld = hes.parties.command(Action.RECONNECT, hes.nonces[0], seq=2)
        await hes.send(withheld)
        await hes.until(lambda hes: hes.reports[-1]["code"] == "STALE_NONCE")
        assert meter.orders == [0]

        # By hand, without the head-end: the emergency door.
        _, ticket = hes.parties.ticket(ticket="t-1")
        (tmp_path / "house.json").write_bytes(ticket)
        # The relay has just moved; the dwell of a minute holds for tickets as well.
        told = await asyncio.to_thread(
            openami, "gateway", "ticket", "-c", str(gateway.file), str(tmp_path / "house.json")
        )
        assert told.returncode == 4, told.stderr
        assert "DWELL" in told.stderr
    assert gateway.end() == 0
    assert "Traceback" not in gateway.log()


@pytest.mark.broker
async def test_killed_while_the_contactor_moves_it_never_moves_it_again(
    tmp_path: Path,
    mosquitto: StartMosquitto,
    meter: Dds238,
    line: tuple[ModbusLine, int],
    gateways: list[GatewayProgram],
) -> None:
    broker = mosquitto()
    gateway = GatewayProgram(tmp_path, mqtt={"url": broker.url}, modbus_port=line[1])
    enrolled(gateway, tmp_path)
    gateways.append(gateway)
    async with listening(broker.url) as hes:
        gateway.start()
        await hes.ready()
        line[0].set_fault(1, Slow(_SLOW_S))
        order = hes.parties.command(Action.DISCONNECT, hes.nonces[-1], seq=1)
        await hes.send(order)
        async with asyncio.timeout(WAIT_S):
            while not meter.orders:
                await asyncio.sleep(0.01)
        gateway.kill()
        line[0].set_fault(1, None)
        assert hes.reports == []
        gateway.start()
        await hes.until(lambda hes: len(hes.reports) == 1)
        assert hes.reports[0]["status"] == "done", "read back, not done again"
        await hes.send(order)
        await hes.until(lambda hes: len(hes.reports) == 2)
        assert hes.reports[1] == hes.reports[0]
    assert meter.orders == [0]
    assert gateway.end() == 0


def test_a_key_that_others_may_read_keeps_the_gateway_from_starting(tmp_path: Path) -> None:
    gateway = GatewayProgram(tmp_path, mqtt={"url": "mqtt://127.0.0.1:1"}, modbus_port=1)
    enrolled(gateway, tmp_path)
    (tmp_path / "gateway.key").chmod(0o640)
    told = openami("gateway", "run", "-c", str(gateway.file))
    assert told.returncode == 2
    assert "gateway.key is open to other users (mode 0640)" in told.stderr
    assert "chmod" in told.stderr


def test_half_a_configuration_of_commands_is_told(tmp_path: Path) -> None:
    gateway = GatewayProgram(tmp_path, mqtt={"url": "mqtt://127.0.0.1:1"}, modbus_port=1)
    enrolled(gateway, tmp_path)
    gateway.file.write_text(gateway.file.read_text().replace('roots_file = "roots.json"\n', ""))
    told = openami("gateway", "check", "-c", str(gateway.file))
    assert told.returncode == 2
    assert "roots_file is missing" in told.stderr


async def test_a_journal_that_was_edited_turns_commands_off_and_readings_go_on(
    tmp_path: Path, line: tuple[ModbusLine, int], gateways: list[GatewayProgram]
) -> None:
    gateway = GatewayProgram(tmp_path, mqtt={"url": "mqtt://127.0.0.1:1"}, modbus_port=line[1])
    enrolled(gateway, tmp_path)
    gateways.append(gateway)
    gateway.start()
    await gateway.ready()
    assert gateway.end() == 0
    with closing(sqlite3.connect(gateway.data_dir / "gateway.db")) as database, database:
        database.execute(
            "INSERT INTO command_keyring VALUES (1, 1, '{}', ?)",
            (f'{{"threshold": 1, "keys": ["{encode_base64url(ROOT.public.raw)}"]}}',),
        )
        database.execute("UPDATE command_keyring SET document = CAST(document AS BLOB)")
    before = gateway.backlog()["lastSeq"]
    gateway.start()
    await gateway.ready()
    async with asyncio.timeout(WAIT_S):
        while gateway.backlog()["lastSeq"] <= before:
            await asyncio.sleep(0.1)
    assert "commands are off" in gateway.log()
    assert gateway.end() == 0
