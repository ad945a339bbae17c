"""The door before a real broker, with real TLS: what it sees, whom it lets in, and that nobody hurts another."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.conformance import packets
from tests.pki import Pki
from tests.tools import require_tool

from openami.clock import SystemClock
from openami.conformance.credentials import USERNAME, Credentials, door_context, make_credentials
from openami.conformance.door import CONNECTIONS_MAX, HELLO_S_MAX, Around, Door
from openami.conformance.observation import (
    Acknowledged,
    Connected,
    Disconnected,
    Observation,
    Published,
    Subscribed,
)
from openami.mqtt.client import Limits, MqttPort
from openami.mqtt.embedded import embedded_broker
from openami.mqtt.port import TransportError
from openami.mqtt.settings import BrokerSettings
from openami.pki.names import CommonName

TOPIC = "openami/v1/f/g/meter/M-1/telemetry"
WAIT_S = 10.0

pytestmark = pytest.mark.broker


@dataclass
class Watched:
    """A door that is open, and what it has told."""

    door: Door
    port: int
    credentials: Credentials
    seen: list[Observation] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def settings(self, client_id: str = "pole-1", **more: object) -> BrokerSettings:
        place = self.credentials
        certified = BrokerSettings(
            url=f"mqtts://localhost:{self.port}",
            client_id=client_id,
            ca_file=str(place.ca_file),
            cert_file=str(place.cert_file),
            key_file=str(place.key_file),
            session_expiry_days=0,
        )
        return replace(certified, **more)

    def by_password(self, password_file: Path) -> BrokerSettings:
        return self.settings(
            cert_file=None, key_file=None, username=USERNAME, password_file=str(password_file)
        )

    def of(self, kind: type[Observation]) -> list[Observation]:
        return [each for each in self.seen if isinstance(each, kind)]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await asyncio.sleep(0.01)


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    async with opened(tmp_path) as made:
        yield made


@contextlib.asynccontextmanager
async def opened(tmp_path: Path, *, hello_s_max: float = HELLO_S_MAX) -> AsyncIterator[Watched]:
    require_tool("mosquitto")
    clock = SystemClock()
    credentials = make_credentials(tmp_path / "kit", CommonName("f/g"), now=clock.now())
    tls = door_context(credentials, ("localhost", "127.0.0.1"), now=clock.now())
    async with embedded_broker(("mosquitto",), changes={"retain_available": "true"}) as broker:
        where = ("127.0.0.1", BrokerSettings(url=broker.url).endpoint.port)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        made: list[Watched] = []
        around = Around(
            broker=where,
            tls=tls,
            admit=credentials.refusal,
            see=lambda each: made[0].seen.append(each),
            tell=lambda sentence: made[0].told.append(sentence),
            clock=clock,
            hello_s_max=hello_s_max,
        )
        made.append(Watched(Door(around), listener.getsockname()[1], credentials))
        with listener:
            async with made[0].door.listening([listener]):
                yield made[0]


async def said(port: int, data: bytes, tls: ssl.SSLContext | None = None) -> bytes:
    """Say something and return all that is answered until the door closes."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=tls, server_hostname="localhost" if tls else None
    )
    writer.write(data)
    try:
        async with asyncio.timeout(WAIT_S):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_what_a_client_does_is_seen(watched: Watched) -> None:
    async with MqttPort(watched.settings()).connect() as connection:
        await connection.subscribe(["openami/v1/f/g/session/+"])
        await connection.publish(TOPIC, b"{}")
    await watched.until(lambda: bool(watched.of(Disconnected)))
    came, asked, told, taken, left = watched.seen
    assert isinstance(came, Connected)
    assert (came.client_id, came.protocol, came.tls) == ("pole-1", "5", "TLSv1.3")
    assert (came.certified_as, came.keep_alive_s, came.connection) == ("f/g", 60, 1)
    assert isinstance(asked, Subscribed)
    assert asked.filters == (("openami/v1/f/g/session/+", 1),)
    assert isinstance(told, Published)
    assert (told.topic, told.payload, told.qos, told.retain, told.dup) == (
        TOPIC, b"{}", 1, False, False,
    )  # fmt: skip
    # Head 2, length of the topic 2, packet id 2, length of the properties 1, and the alias it tells 3.
    assert told.wire_bytes == len(TOPIC) + len(b"{}") + 10
    assert isinstance(taken, Acknowledged)
    assert (taken.packet_id, taken.withheld) == (told.packet_id, False)
    assert isinstance(left, Disconnected)
    assert (left.orderly, left.by_kit) == (True, False)
    assert watched.told == []


async def test_a_retained_message_at_qos_0_is_seen_as_it_is(watched: Watched) -> None:
    tls = _trusting(watched)
    hello = packets.connect(
        flags=0xC2,
        after=packets.text(USERNAME) + packets.text(watched.credentials.password),
    )
    message = packets.publish(TOPIC, b"{}", qos=0, retain=True)
    answer = await said(watched.port, hello + message + packets.DISCONNECT, tls)
    assert answer == packets.CONNACK
    [told] = watched.of(Published)
    assert isinstance(told, Published)
    assert (told.qos, told.retain, told.packet_id) == (0, True, None)


async def test_who_comes_without_tls_is_told_so_and_sent_away(watched: Watched) -> None:
    assert await said(watched.port, packets.connect("old-pole")) == bytes((0x20, 2, 0, 5))
    came, left = watched.seen
    assert isinstance(came, Connected)
    assert (came.client_id, came.tls) == ("old-pole", None)
    assert isinstance(left, Disconnected)
    assert left.by_kit
    [sentence] = watched.told
    assert "old-pole came without TLS" in sentence
    assert "OA-TLS-001" in sentence


async def test_a_password_lets_in_and_another_one_does_not(
    watched: Watched, tmp_path: Path
) -> None:
    right, wrong = watched.credentials.directory / "password", tmp_path / "wrong"
    wrong.write_text("guessed")
    wrong.chmod(0o600)
    async with MqttPort(watched.by_password(right)).connect() as connection:
        await connection.publish(TOPIC, b"{}")
    for settings, why in (
        (watched.by_password(wrong), "wrong user name or password"),
        (watched.settings(cert_file=None, key_file=None), "neither a certificate nor a password"),
    ):
        with pytest.raises(TransportError):
            async with MqttPort(settings).connect():
                pass
        assert why in watched.told[-1]
    assert len(watched.of(Connected)) == 1, "who was not let in is not judged"


async def test_a_certificate_of_another_authority_is_explained(watched: Watched, pki: Pki) -> None:
    theirs = pki.foreign_client("f/g")
    settings = watched.settings(cert_file=str(theirs.cert_file), key_file=str(theirs.key_file))
    with pytest.raises(TransportError):
        async with MqttPort(settings).connect():
            pass
    await watched.until(lambda: bool(watched.told))
    assert "not signed by the kit's CA" in watched.told[0]


async def test_who_does_not_trust_the_kit_is_told_what_to_do(watched: Watched, pki: Pki) -> None:
    """Some libraries say why they leave, asyncio does not."""
    tls = ssl.create_default_context(cafile=str(pki.ca_file))

    def leave_with_an_alert() -> None:
        with (
            socket.create_connection(("127.0.0.1", watched.port)) as plain,
            pytest.raises(ssl.SSLCertVerificationError),
        ):
            tls.wrap_socket(plain, server_hostname="localhost")

    await asyncio.to_thread(leave_with_an_alert)
    await watched.until(lambda: len(watched.told) == 1)
    with pytest.raises(TransportError):
        async with MqttPort(watched.settings(ca_file=str(pki.ca_file))).connect():
            pass
    await watched.until(lambda: len(watched.told) == 2)
    for sentence in watched.told:
        assert "does not trust the kit's CA certificate" in sentence


async def test_a_link_is_cut_and_kept_down(watched: Watched) -> None:
    port = MqttPort(watched.settings())
    async with port.connect() as connection:
        watched.door.take_down()
        with pytest.raises(TransportError):
            await connection.receive(1)
    await watched.until(lambda: bool(watched.of(Disconnected)))
    [left] = watched.of(Disconnected)
    assert isinstance(left, Disconnected)
    assert (left.orderly, left.by_kit) == (False, True)
    with pytest.raises(TransportError):
        async with port.connect():
            pass
    watched.door.put_up()
    async with port.connect() as connection:
        await connection.publish(TOPIC, b"{}")


async def test_an_acknowledgement_is_kept_back_and_the_message_has_arrived(
    watched: Watched,
) -> None:
    async with MqttPort(watched.settings("reader")).connect() as reader:
        await reader.subscribe([TOPIC])
        async with MqttPort(watched.settings()).connect() as connection:
            watched.door.withholding = True
            publishing = asyncio.create_task(connection.publish(TOPIC, b"{}"))
            [delivery] = await reader.receive(1)
            assert delivery.payload == b"{}"
            await watched.until(lambda: bool(watched.of(Acknowledged)))
            [taken] = watched.of(Acknowledged)
            assert isinstance(taken, Acknowledged)
            assert taken.withheld
            assert not publishing.done()
            watched.door.withholding = False
            watched.door.cut()
            with pytest.raises(TransportError):
                await publishing


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "neither TLS nor MQTT"),
        (packets.connect(level=9), "level 9"),
    ],
)
async def test_who_speaks_something_else_is_closed_and_the_others_go_on(
    watched: Watched, data: bytes, why: str
) -> None:
    async with MqttPort(watched.settings()).connect() as connection:
        assert await said(watched.port, data) == b""
        assert why in watched.told[0]
        await connection.publish(TOPIC, b"{}")


async def test_nonsense_after_the_greeting_ends_that_connection_alone(watched: Watched) -> None:
    hello = packets.connect(
        flags=0xC2,
        after=packets.text(USERNAME) + packets.text(watched.credentials.password),
    )
    async with MqttPort(watched.settings("good")).connect() as connection:
        answer = await said(watched.port, hello + bytes(8), _trusting(watched))
        assert answer in (b"", packets.CONNACK)
        await watched.until(lambda: bool(watched.told))
        assert "does not speak MQTT" in watched.told[0]
        await connection.publish(TOPIC, b"{}")
    left = watched.of(Disconnected)
    assert [each.orderly for each in left if isinstance(each, Disconnected)] == [False, True]


async def test_who_reads_nothing_holds_up_nobody(watched: Watched) -> None:
    """A subscriber stops reading; what is for it fills its buffers, and the publisher does not notice."""
    slow_limits = Limits(queued_messages_max=1, receive_maximum=65_535)
    async with (
        MqttPort(watched.settings("slow"), slow_limits).connect() as slow,
        MqttPort(watched.settings("quick")).connect() as quick,
    ):
        await slow.subscribe([TOPIC])
        payload = bytes(50_000)
        async with asyncio.timeout(30):
            for _ in range(200):  # 10 MB: more than all buffers on the way
                await quick.publish(TOPIC, payload)
    taken = [each for each in watched.of(Acknowledged) if isinstance(each, Acknowledged)]
    assert len(taken) == 200


async def test_silent_visitors_keep_nobody_out(watched: Watched) -> None:
    """Half the places are taken by who says nothing; the others are served, and the door still closes."""
    visitors = [
        socket.create_connection(("127.0.0.1", watched.port)) for _ in range(CONNECTIONS_MAX // 2)
    ]
    try:
        async with MqttPort(watched.settings()).connect() as connection:
            await connection.publish(TOPIC, b"{}")
    finally:
        for visitor in visitors:
            visitor.close()


async def test_a_visitor_too_many_is_closed_at_once(watched: Watched) -> None:
    visitors = [
        socket.create_connection(("127.0.0.1", watched.port)) for _ in range(CONNECTIONS_MAX)
    ]
    try:
        await asyncio.sleep(0.2)
        assert await said(watched.port, b"") == b""
    finally:
        for visitor in visitors:
            visitor.close()


async def test_who_says_nothing_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    async with opened(tmp_path, hello_s_max=0.2) as watched:
        assert await said(watched.port, b"") == b""


def _trusting(watched: Watched) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(watched.credentials.ca_file))
