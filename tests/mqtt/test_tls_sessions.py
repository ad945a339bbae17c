"""TLS sessions over a real broker: resumed where nothing has changed, and never where something has."""

import asyncio
import os
import shutil
import signal
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.conftest import StartMosquitto
from tests.mosquitto import Mosquitto
from tests.pki import Identity, Pki

from openami.mqtt.client import Limits, MqttConnection, MqttPort
from openami.mqtt.port import TransportError
from openami.mqtt.settings import BrokerSettings, Endpoint
from openami.mqtt.tls import FULL_HANDSHAKE_EVERY_S, BrokerTls

pytestmark = pytest.mark.broker

WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Files:
    """A gateway's own files, which a test may replace under its feet."""

    ca_file: Path
    cert_file: Path
    key_file: Path

    def show(self, identity: Identity) -> None:
        shutil.copy(identity.cert_file, self.cert_file)
        shutil.copy(identity.key_file, self.key_file)


@dataclass(frozen=True, slots=True)
class Site:
    """A broker that asks for certificates, and a gateway's way to it."""

    broker: Mosquitto
    revoked: Path
    files: Files

    def settings(self, host: str = "127.0.0.1") -> BrokerSettings:
        return BrokerSettings(
            url=f"mqtts://{host}:{self.broker.port}",
            client_id="pole-1",
            ca_file=str(self.files.ca_file),
            cert_file=str(self.files.cert_file),
            key_file=str(self.files.key_file),
            connect_timeout_s=WAIT_S,
        )


@pytest.fixture
def site(mosquitto: StartMosquitto, pki: Pki, tmp_path: Path) -> Site:
    server = pki.server()
    revoked = tmp_path / "revoked.pem"
    shutil.copy(pki.revoked_file(), revoked)
    broker = mosquitto(
        "listener {port} 127.0.0.1",
        f"cafile {pki.ca_file}",
        f"certfile {server.cert_file}",
        f"keyfile {server.key_file}",
        f"crlfile {revoked}",
        "require_certificate true",
        "use_identity_as_username true",
    )
    files = Files(tmp_path / "ca.pem", tmp_path / "gw.pem", tmp_path / "gw.key")
    shutil.copy(pki.ca_file, files.ca_file)
    files.show(pki.client("feeder-1/pole-1"))
    return Site(broker, revoked, files)


async def is_resumed(port: MqttPort) -> bool:
    """Connect, prove that the connection carries, and tell whether the handshake was a short one."""
    async with port.connect() as connection:
        await connection.publish("openami/a", b"x")
        return connection.tls_resumed


async def test_a_reconnect_resumes_and_the_broker_knows_who_it_is(site: Site) -> None:
    port = MqttPort(site.settings())
    assert [await is_resumed(port) for _ in range(4)] == [False, True, True, True]
    assert site.broker.log().count("u'feeder-1/pole-1'") == 4


async def test_a_broker_that_forgot_its_sessions_is_met_with_a_full_handshake(site: Site) -> None:
    port = MqttPort(site.settings())
    assert not await is_resumed(port)
    site.broker.restart()
    assert [await is_resumed(port) for _ in range(2)] == [False, True]


async def test_a_renewed_certificate_is_shown_in_full(site: Site, pki: Pki) -> None:
    port = MqttPort(site.settings())
    assert [await is_resumed(port) for _ in range(2)] == [False, True]
    site.files.show(pki.client("feeder-1/pole-1-renewed"))
    assert [await is_resumed(port) for _ in range(2)] == [False, True]
    assert site.broker.log().count("u'feeder-1/pole-1-renewed'") == 2


async def test_another_authority_is_asked_about_the_broker_anew(site: Site, pki: Pki) -> None:
    """A session would have let us go on trusting whom we no longer trust."""
    port = MqttPort(site.settings())
    assert not await is_resumed(port)
    shutil.copy(pki.foreign_ca_file, site.files.ca_file)
    with pytest.raises(TransportError, match="signed by another authority"):
        await is_resumed(port)
    shutil.copy(pki.ca_file, site.files.ca_file)
    assert not await is_resumed(port)


async def test_another_host_is_asked_for_its_name(site: Site) -> None:
    """The session of one name is no proof of another, be it the same broker."""
    contexts = BrokerTls(site.settings())
    named, numbered = (
        Endpoint(True, host, site.broker.port, None) for host in ("localhost", "127.0.0.1")
    )
    first = contexts.context(numbered, 0.0)
    assert contexts.context(numbered, 1.0) is first
    assert contexts.context(named, 2.0) is not first
    assert contexts.context(numbered, 3.0) is not first


async def test_once_a_day_everybody_is_verified_in_full(site: Site) -> None:
    contexts, endpoint = BrokerTls(site.settings()), site.settings().endpoint
    first = contexts.context(endpoint, 0.0)
    assert contexts.context(endpoint, FULL_HANDSHAKE_EVERY_S - 1) is first
    assert contexts.context(endpoint, FULL_HANDSHAKE_EVERY_S) is not first


async def test_the_systems_authorities_are_asked_each_time(site: Site) -> None:
    contexts = BrokerTls(BrokerSettings(url=site.broker.tls_url, client_id="pole-1"))
    endpoint = Endpoint(True, "127.0.0.1", site.broker.port, None)
    assert contexts.context(endpoint, 0.0) is not contexts.context(endpoint, 1.0)


async def test_a_revoked_certificate_gets_in_by_no_session(site: Site, pki: Pki) -> None:
    """mosquitto makes its context anew when it is told to read the list again, and forgets every session."""
    port = MqttPort(site.settings())
    assert [await is_resumed(port) for _ in range(2)] == [False, True]
    pki.revoke(site.files.cert_file, site.revoked)
    logged = len(site.broker.log())
    os.kill(site.broker.pid, signal.SIGHUP)
    async with asyncio.timeout(WAIT_S):
        while "Reloading config" not in site.broker.log()[logged:]:
            await asyncio.sleep(0.01)
    with pytest.raises(TransportError):
        await is_resumed(port)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_handshake_that_fails_over_its_session_is_made_in_full_the_next_time(
    pki: Pki, version: ssl.TLSVersion
) -> None:
    """A server that resumes nothing and says so by hanging up must not lock us out."""
    offered: list[bool] = []
    with hanging_up_on_sessions(pki, version, offered) as url:
        settings = BrokerSettings(
            url=url, client_id="pole-1", ca_file=str(pki.ca_file), connect_timeout_s=WAIT_S
        )
        port = MqttPort(settings, Limits(close_timeout_s=0.05))
        async with port.connect() as connection:
            assert not connection.tls_resumed
        with pytest.raises(TransportError):
            async with port.connect():
                pytest.fail("it let us in")
        async with port.connect() as connection:
            assert not connection.tls_resumed
    assert offered == [False, True, False]


@contextmanager
def hanging_up_on_sessions(pki: Pki, version: ssl.TLSVersion, offered: list[bool]) -> Iterator[str]:
    """Serve three connections: greet who comes without a session, hang up on who offers one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server = pki.server()
    context.load_cert_chain(server.cert_file, server.key_file)
    context.maximum_version = version

    def serve_one(raw: socket.socket) -> None:
        hello = raw.recv(16_384, socket.MSG_PEEK)
        offered.append(offers_a_session(hello))
        if offered[-1]:
            return
        with suppress(OSError), context.wrap_socket(raw, server_side=True) as talk:
            talk.recv(16_384)
            talk.sendall(b"\x20\x03\x00\x00\x00")
            while talk.recv(16_384):
                pass

    def serve() -> None:
        for _ in range(3):
            raw, _ = listener.accept()
            with raw:
                serve_one(raw)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"mqtts://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(WAIT_S)


def offers_a_session(hello: bytes) -> bool:
    """Read a ClientHello's extensions (RFC 8446 §4.1.2): a pre-shared key, or a ticket that is not empty."""
    at = 5 + 4 + 2 + 32
    at += 1 + hello[at]
    at += 2 + int.from_bytes(hello[at : at + 2], "big")
    at += 1 + hello[at] + 2
    while at < len(hello):
        kind, length = struct.unpack_from(">HH", hello, at)
        if kind == 41 or (kind == 35 and length):
            return True
        at += 4 + length
    return False


async def test_a_short_handshake_is_half_a_full_one(site: Site) -> None:
    """As the kernel counts them at the gateway's socket, from its first byte to CONNACK."""
    port = MqttPort(site.settings())
    full, short = [await opening_bytes(port) for _ in range(2)]
    assert 3_500 < full < 5_000
    assert 0.4 * full < short < 0.6 * full


async def opening_bytes(port: MqttPort) -> int:
    async with port.connect() as connection:
        return carried(connection)


def carried(connection: MqttConnection) -> int:
    """Return the bytes within TCP, both ways."""
    tls = connection._wire._transport
    assert tls is not None
    # struct tcp_info of Linux: bytes_acked, bytes_received.
    info = tls.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 144)
    acked, received = struct.unpack_from("<QQ", info, 120)
    return int(acked + received)
