"""The head-end's look at its broker: each trap is found, our own configuration has none of them."""

import asyncio
from pathlib import Path

import pytest
from tests.conftest import StartMosquitto
from tests.mqtt.scripted import CONNACK_311, DISCONNECT, Peer, scripted_broker
from tests.pki import Pki

from openami.headend.broker_check import BrokerFinding, Severity, judge_config, probe
from openami.mqtt.client import MqttPort
from openami.mqtt.embedded import LOSSLESS
from openami.mqtt.port import TransportError
from openami.mqtt.settings import BrokerSettings, Protocol

LOSSLESS_LINES = tuple(
    f"{name} {value}" for name, value in LOSSLESS.items() if name != "persistence"
)
DEPLOY = Path("deploy/mosquitto")


def codes(findings: tuple[BrokerFinding, ...] | list[BrokerFinding]) -> set[str]:
    assert all(finding.sentence and finding.remedy for finding in findings)
    return {finding.code for finding in findings}


def settings(url: str, protocol: Protocol = "5") -> BrokerSettings:
    return BrokerSettings(url=url, client_id="openami-headend", protocol=protocol)


# --- the running broker ----------------------------------------------------------------------------


@pytest.mark.broker
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_broker_with_its_default_settings(
    mosquitto: StartMosquitto, protocol: Protocol
) -> None:
    broker = mosquitto()
    findings = await probe(settings(broker.url, protocol))
    assert codes(list(findings)) == {"QUEUE_LIMIT", "NODELAY", "NO_SIZE_LIMIT"}
    queue = next(finding for finding in findings if finding.code == "QUEUE_LIMIT")
    assert queue.severity is Severity.LOSES_DATA
    assert "kept 1020" in queue.sentence


@pytest.mark.broker
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_broker_with_our_settings(mosquitto: StartMosquitto, protocol: Protocol) -> None:
    broker = mosquitto(*LOSSLESS_LINES)
    assert list(await probe(settings(broker.url, protocol))) == []


@pytest.mark.broker
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("limit", ["message_size_limit 65535", "max_packet_size 65536"])
async def test_a_broker_that_takes_too_small_messages(
    mosquitto: StartMosquitto, protocol: Protocol, limit: str
) -> None:
    lines = [line for line in LOSSLESS_LINES if not line.startswith("message_size_limit")]
    broker = mosquitto(*lines, limit)
    assert codes(list(await probe(settings(broker.url, protocol)))) == {"MESSAGE_SIZE"}


@pytest.mark.broker
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_an_acl_that_keeps_the_probe_out(
    mosquitto: StartMosquitto, tmp_path: Path, protocol: Protocol
) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite openami/v1/#\n")
    broker = mosquitto(f"acl_file {acl}")
    (finding,) = await probe(settings(broker.url, protocol))
    assert finding.severity is Severity.NOT_CHECKED
    assert "openami/probe/#" in finding.sentence


@pytest.mark.broker
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_the_probe_leaves_nothing_behind(
    mosquitto: StartMosquitto, protocol: Protocol
) -> None:
    broker = mosquitto(*LOSSLESS_LINES)
    head_end = MqttPort(settings(broker.url))
    async with head_end.connect() as connection:
        await connection.subscribe(["openami/v1/#"])
    await probe(settings(broker.url, protocol))
    async with head_end.connect() as connection:
        assert connection.resumed
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.receive(1), 0.1)
    broker.stop()
    # mosquitto's file names every session it keeps, and holds every message that waits.
    kept = (broker.directory / "data" / "mosquitto.db").read_bytes()
    assert b"openami-headend" in kept
    assert b"probe" not in kept


@pytest.mark.broker
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_the_head_ends_own_session_is_never_touched(
    mosquitto: StartMosquitto, pki: Pki, tmp_path: Path, protocol: Protocol
) -> None:
    """Our own deployment names sessions by certificate: the probe would be given the real one."""
    broker = mosquitto(*deployed_lines(pki, tmp_path))
    identity = pki.client("hes-1")
    ours = BrokerSettings(
        url=broker.tls_url,
        client_id="openami-headend",
        protocol=protocol,
        ca_file=str(pki.ca_file),
        cert_file=str(identity.cert_file),
        key_file=str(identity.key_file),
    )
    assert list(await probe(ours)) == []  # the first time there is no session yet
    topic = "openami/v1/f/g/session/s"
    async with MqttPort(ours).connect() as connection:
        assert not connection.resumed
        await connection.subscribe(["openami/v1/+/+/session/+"])
        await connection.publish(topic, b"waits")
    (finding,) = await probe(ours)
    assert finding.severity is Severity.NOT_CHECKED
    assert "certificate" in finding.sentence
    async with MqttPort(ours).connect() as connection:
        assert connection.resumed
        async with asyncio.timeout(5):
            (delivery,) = await connection.receive(10)
        assert (delivery.topic, delivery.payload) == (topic, b"waits")


def deployed_lines(pki: Pki, directory: Path) -> list[str]:
    """Return our deployment's configuration with this test's files in their places."""
    server = pki.server()
    places = {
        "cafile": pki.ca_file,
        "certfile": server.cert_file,
        "keyfile": server.key_file,
        "crlfile": pki.revoked_file(),
        "acl_file": directory / "openami.acl",
        "listener": "{port} 127.0.0.1",
    }
    (directory / "openami.acl").write_text((DEPLOY / "acl").read_text())
    lines = []
    for line in (DEPLOY / "mosquitto.conf").read_text().splitlines():
        name, _, value = line.partition(" ")
        if not name or name.startswith("#") or name in ("log_dest", "log_type"):
            continue
        if name in ("persistence", "persistence_location", "connection_messages"):
            continue  # the test's broker has its own
        lines.append(f"{name} {places.get(name, value)}")
    return lines


@pytest.mark.broker
async def test_a_gateway_writes_below_its_own_root_only(
    mosquitto: StartMosquitto, pki: Pki, tmp_path: Path
) -> None:
    broker = mosquitto(*deployed_lines(pki, tmp_path))

    def port(name: str) -> MqttPort:
        identity = pki.client(name)
        return MqttPort(
            BrokerSettings(
                url=broker.tls_url,
                client_id="whatever",
                ca_file=str(pki.ca_file),
                cert_file=str(identity.cert_file),
                key_file=str(identity.key_file),
            )
        )

    async with port("hes-1").connect() as head_end, port("f-1/g-1").connect() as gateway:
        await head_end.subscribe(["openami/v1/+/+/meter/+/telemetry"])
        await gateway.publish("openami/v1/f-1/g-1/meter/m/telemetry", b"mine")
        for foreign in (
            "openami/v1/f-1/g-2/meter/m/telemetry",
            "openami/v1/f-1/g-1/meter/m/command",
            "openami/probe/x",
        ):
            with pytest.raises(TransportError, match="does not allow us this topic"):
                await gateway.publish(foreign, b"not mine")
        async with asyncio.timeout(5):
            (delivery,) = await head_end.receive(10)
        assert delivery.payload == b"mine"


async def test_a_broker_that_throws_out_whoever_tries() -> None:
    """Some do, for a topic they do not allow. The head-end must start all the same."""

    async def throw_out(peer: Peer) -> None:
        await peer.packet()
        await peer.send(CONNACK_311)
        first, _ = await peer.packet()
        assert first in (0x82, DISCONNECT)  # SUBSCRIBE

    async with scripted_broker(throw_out) as peer:
        (finding,) = await probe(peer)
    assert finding.severity is Severity.NOT_CHECKED
    assert "ended the connection" in finding.sentence


async def test_a_broker_that_stops_answering() -> None:
    """The head-end waits for its own check five seconds at most."""

    async def stop_answering(peer: Peer) -> None:
        await peer.packet()
        await peer.send(CONNACK_311)
        await peer.until_closed()

    loop = asyncio.get_running_loop()
    begin_s = loop.time()
    async with scripted_broker(stop_answering) as peer:
        (finding,) = await probe(peer)
    assert finding.severity is Severity.NOT_CHECKED
    assert "longer than 5 s" in finding.sentence
    assert loop.time() - begin_s < 10


async def test_a_broker_that_is_not_there() -> None:
    with pytest.raises(TransportError, match="nothing listens"):
        await probe(settings("mqtt://127.0.0.1:1"))


# --- its configuration -----------------------------------------------------------------------------


def test_our_configurations_are_without_a_finding() -> None:
    for name in ("mosquitto.conf", "loopback.conf"):
        assert list(judge_config((DEPLOY / name).read_text())) == []


def test_an_empty_configuration_has_every_trap_of_the_defaults() -> None:
    assert codes(list(judge_config(""))) == {
        "QUEUE_LIMIT",
        "PERSISTENCE",
        "AUTOSAVE",
        "NO_SIZE_LIMIT",
        "NODELAY",
        "INFLIGHT",
        "RETAIN",
    }


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("max_queued_messages 0", "QUEUE_UNLIMITED"),
        ("max_queued_messages 99999", "QUEUE_LIMIT"),
        ("max_queued_messages 100000", None),
        ("max_queued_messages many", "NOT_CHECKED"),
        ("max_queued_bytes 51199999", "QUEUE_BYTES"),
        ("max_queued_bytes 51200000", None),
        ("persistence false", "PERSISTENCE"),
        ("autosave_interval 0", "AUTOSAVE"),
        ("autosave_interval 30", None),
        ("autosave_interval 31", "AUTOSAVE"),
        ("autosave_on_changes true", "AUTOSAVE_ON_CHANGES"),
        ("persistent_client_expiration 6d", "SESSION_EXPIRY"),
        ("persistent_client_expiration 7d", None),
        ("persistent_client_expiration 1w", None),
        ("persistent_client_expiration 100h", "SESSION_EXPIRY"),
        ("persistent_client_expiration soon", "NOT_CHECKED"),
        ("message_size_limit 65535", "MESSAGE_SIZE"),
        ("message_size_limit 65536", None),
        ("message_size_limit 0", "NO_SIZE_LIMIT"),
        ("max_packet_size 65536", "MESSAGE_SIZE"),
        ("max_packet_size 66000", None),
        ("max_inflight_messages 999", "INFLIGHT"),
        ("max_inflight_messages 0", None),
        ("set_tcp_nodelay false", "NODELAY"),
        ("retain_available true", "RETAIN"),
        ("include_dir /etc/mosquitto/conf.d", "INCLUDES"),
        ("  # max_queued_messages 5", None),
        ("", None),
    ],
)
def test_each_setting_at_its_edge(line: str, code: str | None) -> None:
    """The last of two lines counts, as in mosquitto."""
    good = "\n".join(f"{name} {value}" for name, value in LOSSLESS.items())
    expected = set() if code is None else {code}
    assert codes(list(judge_config(f"{good}\n{line}\n"))) == expected
