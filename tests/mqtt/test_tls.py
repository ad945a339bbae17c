"""TLS with real certificates: what is right works, and each wrong thing is told in a sentence."""

import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.conftest import StartMosquitto
from tests.mosquitto import Mosquitto
from tests.pki import Identity, Pki

from openami.mqtt.client import MqttPort
from openami.mqtt.port import TransportError
from openami.mqtt.settings import BrokerSettings, Protocol

pytestmark = pytest.mark.broker

StartTls = Callable[..., Mosquitto]


@pytest.fixture
def start_tls(mosquitto: StartMosquitto, pki: Pki) -> StartTls:
    def start(server: Identity | None = None, *lines: str) -> Mosquitto:
        identity = server or pki.server()
        return mosquitto(
            "listener {port} 127.0.0.1",
            f"cafile {pki.ca_file}",
            f"certfile {identity.cert_file}",
            f"keyfile {identity.key_file}",
            *lines,
        )

    return start


def settings(
    url: str, ca_file: Path, identity: Identity | None = None, protocol: Protocol = "5"
) -> BrokerSettings:
    return BrokerSettings(
        url=url,
        client_id="hes",
        ca_file=str(ca_file),
        cert_file=None if identity is None else str(identity.cert_file),
        key_file=None if identity is None else str(identity.key_file),
        protocol=protocol,
        connect_timeout_s=10,
    )


async def raised_by_connecting(settings: BrokerSettings) -> TransportError:
    with pytest.raises(TransportError) as raised:
        async with MqttPort(settings).connect() as connection:
            await connection.publish("openami/a", b"")
    assert raised.value.remedy
    return raised.value


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_broker_we_can_trust(start_tls: StartTls, pki: Pki, host: str) -> None:
    broker = start_tls()
    async with MqttPort(settings(f"mqtts://{host}:{broker.port}", pki.ca_file)).connect() as c:
        await c.subscribe(["openami/#"])
        payload = b"x" * 65_536  # several TLS records
        await c.publish("openami/a", payload)
        (delivery,) = await c.receive(10)
        assert delivery.payload == payload


async def test_many_messages_over_tls_arrive_in_order(start_tls: StartTls, pki: Pki) -> None:
    """What TLS has decrypted ahead must not be left lying."""
    broker = start_tls(None, "max_queued_messages 10000", "set_tcp_nodelay true")
    async with MqttPort(settings(broker.tls_url, pki.ca_file)).connect() as connection:
        await connection.subscribe(["openami/#"])
        for number in range(300):
            await connection.publish("openami/a", str(number).encode() * 100)
        seen: list[bytes] = []
        while len(seen) < 300:
            deliveries = await connection.receive(1000)
            connection.acknowledge(deliveries)
            seen += [delivery.payload for delivery in deliveries]
        assert seen == [str(number).encode() * 100 for number in range(300)]


async def test_a_client_certificate_is_shown(start_tls: StartTls, pki: Pki) -> None:
    broker = start_tls(None, "require_certificate true", "use_identity_as_username true")
    ours = settings(broker.tls_url, pki.ca_file, pki.client("feeder-1/gateway-1"))
    async with MqttPort(ours).connect() as connection:
        await connection.publish("openami/a", b"")
    assert "u'feeder-1/gateway-1'" in broker.log()


async def test_another_authority(start_tls: StartTls, pki: Pki) -> None:
    broker = start_tls()
    error = await raised_by_connecting(settings(broker.tls_url, pki.foreign_ca_file))
    assert "signed by another authority than" in str(error)
    assert str(pki.foreign_ca_file) in str(error)
    assert error.remedy == "check ca_file"
    assert error.permanent


async def test_the_systems_authorities_where_none_is_named(start_tls: StartTls, pki: Pki) -> None:
    broker = start_tls()
    error = await raised_by_connecting(BrokerSettings(url=broker.tls_url, client_id="hes"))
    assert "signed by another authority than this system's authorities" in str(error)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_certificate_for_another_name(start_tls: StartTls, pki: Pki, host: str) -> None:
    broker = start_tls(pki.server(host="broker.example", address="192.0.2.1"))
    error = await raised_by_connecting(settings(f"mqtts://{host}:{broker.port}", pki.ca_file))
    assert f"certificate is for another name than {host}" in str(error)
    assert error.permanent


async def test_a_certificate_that_has_expired(start_tls: StartTls, pki: Pki) -> None:
    broker = start_tls(pki.expired_server())
    error = await raised_by_connecting(settings(broker.tls_url, pki.ca_file))
    assert "certificate has expired" in str(error)
    assert "renew it" in error.remedy


async def test_a_certificate_that_is_not_yet_valid(start_tls: StartTls, pki: Pki) -> None:
    """What a gateway sees whose clock stands at 1970; it may pass, when the clock is set."""
    broker = start_tls(pki.future_server())
    error = await raised_by_connecting(settings(broker.tls_url, pki.ca_file))
    assert "not yet valid" in str(error)
    assert "clock" in error.remedy
    assert not error.permanent


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_broker_that_asks_for_a_certificate_we_do_not_show(
    start_tls: StartTls, pki: Pki, protocol: Protocol
) -> None:
    """In TLS 1.3 the refusal comes, with a reset, when we believe ourselves connected."""
    broker = start_tls(None, "require_certificate true")
    error = await refused_for_our_certificate(settings(broker.tls_url, pki.ca_file, None, protocol))
    assert "the broker asks for a client certificate" in str(error)
    assert error.remedy == "set cert_file and key_file"
    assert error.permanent


async def test_a_client_certificate_of_another_authority(start_tls: StartTls, pki: Pki) -> None:
    broker = start_tls(None, "require_certificate true")
    foreign = settings(broker.tls_url, pki.ca_file, pki.foreign_client("hes"))
    error = await refused_for_our_certificate(foreign)
    assert "does not accept our certificate: it is signed by another authority" in str(error)
    assert "cert_file" in error.remedy
    assert error.permanent


async def refused_for_our_certificate(settings: BrokerSettings) -> TransportError:
    """Return the error that says why. On a busy machine the reset can win; it names the suspicion."""
    for _ in range(5):
        error = await raised_by_connecting(settings)
        if "closed the connection instead of answering" not in str(error):
            return error
        assert "check cert_file" in error.remedy
    pytest.fail("the reset always wins")


@pytest.mark.parametrize("shown", ["none", "foreign"])
async def test_the_same_refusals_in_tls_1_2(pki: Pki, shown: str) -> None:
    context = server_context(pki)
    context.load_verify_locations(pki.ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with handshaking_server(context) as url:
        identity = None if shown == "none" else pki.foreign_client("hes")
        error = await raised_by_connecting(settings(url, pki.ca_file, identity))
    assert "certificate" in str(error)
    assert "cert_file" in error.remedy
    assert error.permanent


async def test_tls_older_than_1_2_is_not_spoken(pki: Pki) -> None:
    context = server_context(pki)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with handshaking_server(context) as url:
        error = await raised_by_connecting(settings(url, pki.ca_file))
    assert "no TLS 1.2 or newer" in str(error)
    assert error.permanent


def server_context(pki: Pki) -> ssl.SSLContext:
    context, server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pki.server()
    context.load_cert_chain(server.cert_file, server.key_file)
    return context


@contextmanager
def handshaking_server(context: ssl.SSLContext) -> Iterator[str]:
    """Serve one TLS handshake with plain sockets: asyncio's server closes without its alert."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError), context.wrap_socket(connection, server_side=True):
            pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"mqtts://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(10)


async def test_tls_to_a_port_without(mosquitto: StartMosquitto, pki: Pki) -> None:
    broker = mosquitto()
    error = await raised_by_connecting(settings(broker.tls_url, pki.ca_file))
    assert "TLS" in str(error)
    assert "8883" in error.remedy


async def test_no_tls_to_a_port_with(start_tls: StartTls) -> None:
    broker = start_tls()
    error = await raised_by_connecting(BrokerSettings(url=broker.url, client_id="hes"))
    assert "closed the connection instead of answering" in str(error)
    assert "mqtts://" in error.remedy


async def test_files_that_cannot_be_used(pki: Pki, tmp_path: Path) -> None:
    """Told before anything is sent, so no broker is needed."""
    ours, other = pki.client("hes"), pki.client("other")
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("not PEM\n")
    none = tmp_path / "none.pem"

    def said(ca: Path, cert: Path, key: Path) -> BrokerSettings:
        return settings("mqtts://127.0.0.1:1", ca, Identity(cert, key))

    for broken, text in (
        (said(none, ours.cert_file, ours.key_file), f"ca_file {none}: there is no such file"),
        (
            said(garbage, ours.cert_file, ours.key_file),
            f"ca_file {garbage}: it holds no usable PEM",
        ),
        (said(pki.ca_file, none, ours.key_file), f"cert_file {none}: there is no such file"),
        (said(pki.ca_file, garbage, ours.key_file), f"cert_file {garbage}: it holds no usable PEM"),
        (said(pki.ca_file, ours.cert_file, none), f"key_file {none}: there is no such file"),
        (said(pki.ca_file, ours.cert_file, garbage), f"key_file {garbage}: it holds no usable PEM"),
        (said(pki.ca_file, ours.cert_file, other.key_file), "the key is not this certificate's"),
    ):
        error = await raised_by_connecting(broken)
        assert text in str(error)
        assert error.permanent


async def test_a_key_with_a_passphrase_does_not_wait_for_somebody_to_type_it(
    pki: Pki, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives import serialization

    ours = pki.client("hes")
    key = serialization.load_pem_private_key(ours.key_file.read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    error = await raised_by_connecting(
        settings("mqtts://127.0.0.1:1", pki.ca_file, Identity(ours.cert_file, locked))
    )
    assert "passphrase" in str(error)
