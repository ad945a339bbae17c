"""What the real client does beyond the port's contract: bounds, pings, and brokers that misbehave."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from tests.conftest import StartMosquitto
from tests.mqtt.scripted import (
    CONNACK_5,
    CONNACK_311,
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    Peer,
    connack_5,
    publish_5,
    publish_311,
    scripted_broker,
    suback_311,
)

from openami.mqtt.client import PACKET_BYTES_MAX, Limits, MqttPort
from openami.mqtt.port import Delivery, PublishRefused, TransportError
from openami.mqtt.settings import BrokerSettings, Protocol

TOPIC = "openami/v1/f/g/meter/m/telemetry"
QUICK = Limits(tick_s=0.05, answer_timeout_s=0.3)


async def raised_by_connecting(settings: BrokerSettings) -> TransportError:
    with pytest.raises(TransportError) as raised:
        async with MqttPort(settings).connect():
            pytest.fail("it let us in")
    return raised.value


# --- a session needs a name ------------------------------------------------------------------------


def test_a_session_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="client_id is empty"):
        MqttPort(BrokerSettings())
    MqttPort(BrokerSettings(session_expiry_days=0))


@pytest.mark.broker
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_without_a_session_nothing_is_kept(
    mosquitto: StartMosquitto, protocol: Protocol
) -> None:
    broker = mosquitto()
    settings = BrokerSettings(
        url=broker.url, client_id="w", protocol=protocol, session_expiry_days=0
    )
    for _ in range(2):
        async with MqttPort(settings).connect() as connection:
            assert not connection.resumed
            await connection.subscribe(["#"])


@pytest.mark.broker
async def test_an_mqtt_5_session_ends_when_its_expiry_says(mosquitto: StartMosquitto) -> None:
    broker = mosquitto()
    settings = BrokerSettings(url=broker.url, client_id="w", session_expiry_days=1 / 86_400)
    async with MqttPort(settings).connect() as connection:
        await connection.subscribe(["#"])
    await asyncio.sleep(2.5)
    async with MqttPort(settings).connect() as connection:
        assert not connection.resumed


# --- bounds ----------------------------------------------------------------------------------------


@pytest.mark.broker
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize(
    "limits", [Limits(queued_messages_max=500), Limits(queued_bytes_max=200_000)]
)
async def test_a_flood_waits_with_the_broker_and_none_is_lost(
    mosquitto: StartMosquitto, protocol: Protocol, limits: Limits
) -> None:
    """The receiver does not read for a while: memory is bounded, and it all comes in the end."""
    broker = mosquitto("max_queued_messages 100000", "max_inflight_messages 0")
    settings = BrokerSettings(url=broker.url, client_id="hes", protocol=protocol)
    payload = b"x" * 380
    count = 5_000
    async with MqttPort(settings, limits).connect() as hes:
        await hes.subscribe([TOPIC])
        gateway_settings = msgspec.structs.replace(settings, client_id="gw")
        async with MqttPort(gateway_settings).connect() as gateway:
            await asyncio.gather(*(gateway.publish(TOPIC, payload) for _ in range(count)))
        await asyncio.sleep(0.2)
        held = len(await hes.receive(count))
        # One turn of the loop, 64 KiB, may have been under way when the bound was reached.
        assert held <= 500 + 64 * 1024 // len(payload)
    async with MqttPort(settings, limits).connect() as hes:
        seen = 0
        async with asyncio.timeout(20):
            while seen < count:
                deliveries = await hes.receive(count)
                hes.acknowledge(deliveries)
                seen += len(deliveries)
        assert seen == count


async def test_what_a_resumed_session_brings_does_not_hold_back_its_subscription() -> None:
    """A broker sends what it kept before it answers; our own bound must not stop us from hearing it."""

    async def flood_then_answer(peer: Peer) -> None:
        await peer.packet()
        await peer.send(CONNACK_311)
        _, body = await peer.packet()
        for packet_id in range(1, 1001):
            await peer.send(publish_311(TOPIC.encode(), b"kept", packet_id))
        await peer.send(suback_311(body[:2]))
        await peer.until_closed()

    async with (
        scripted_broker(flood_then_answer) as settings,
        MqttPort(settings, Limits(queued_messages_max=10)).connect() as connection,
    ):
        async with asyncio.timeout(5):
            await connection.subscribe([TOPIC])
        assert len(await connection.receive(2_000)) == 1000


async def test_no_more_is_under_way_than_the_window_and_than_the_broker_takes() -> None:
    seen: list[int] = []

    async def take_two(peer: Peer) -> None:
        await peer.packet()
        await peer.send(connack_5(properties=b"\x21\x00\x02"))  # Receive Maximum 2
        async with asyncio.timeout(1):
            while True:
                first, _ = await peer.packet()
                seen.append(first & 0xF0)

    async with (
        scripted_broker(take_two, "5") as settings,
        MqttPort(settings).connect() as connection,
    ):
        publishing = [asyncio.create_task(connection.publish(TOPIC, b"")) for _ in range(5)]
        await asyncio.sleep(0.2)
        assert seen == [0x30, 0x30]
        for task in publishing:
            task.cancel()
        await asyncio.gather(*publishing, return_exceptions=True)


async def test_a_message_larger_than_the_broker_takes_is_refused_before_it_is_sent() -> None:
    async def small(peer: Peer) -> None:
        await peer.packet()
        await peer.send(connack_5(properties=b"\x27\x00\x00\x04\x00"))  # Maximum Packet Size 1024
        _, body = await peer.packet()
        assert len(body) <= 1024
        topic_bytes = int.from_bytes(body[:2], "big")
        await peer.send(bytes([0x40, 2]) + body[2 + topic_bytes : 4 + topic_bytes])
        await peer.until_closed()

    room = 1024 - len(TOPIC) - 10
    async with scripted_broker(small, "5") as settings, MqttPort(settings).connect() as connection:
        with pytest.raises(PublishRefused, match="larger than the broker takes") as refused:
            await connection.publish(TOPIC, b"x" * (room + 1))
        assert refused.value.permanent
        await connection.publish(TOPIC, b"x" * room)


# --- pings -----------------------------------------------------------------------------------------

_KEEPALIVE_1_S = b"\x13\x00\x01"  # an MQTT 5 broker may set it: Server Keep Alive


async def test_it_pings_when_it_has_nothing_to_say() -> None:
    pings: list[bytes] = []

    async def answer(peer: Peer) -> None:
        await peer.packet()
        await peer.send(connack_5(properties=_KEEPALIVE_1_S))
        while True:
            first, body = await peer.packet()
            if first != PINGREQ[0]:
                return
            pings.append(body)
            await peer.send(PINGRESP)

    async with (
        scripted_broker(answer, "5") as settings,
        MqttPort(settings, QUICK).connect() as connection,
    ):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.receive(1), 3.5)
    assert 2 <= len(pings) <= 4


async def test_a_broker_that_does_not_answer_a_ping_is_gone() -> None:
    async def silent(peer: Peer) -> None:
        await peer.packet()
        await peer.send(connack_5(properties=_KEEPALIVE_1_S))
        await peer.until_closed()

    async with (
        scripted_broker(silent, "5") as settings,
        MqttPort(settings, QUICK).connect() as connection,
    ):
        with pytest.raises(TransportError, match=r"has been silent for \d s") as raised:
            await asyncio.wait_for(connection.receive(1), 5)
        assert not raised.value.permanent


async def test_a_paused_connection_pings_on_and_does_not_judge() -> None:
    """The answers to its pings wait unread behind the messages."""
    pings = 0

    async def flood(peer: Peer) -> None:
        nonlocal pings
        await peer.packet()
        await peer.send(connack_5(properties=_KEEPALIVE_1_S))
        topic, properties = TOPIC.encode(), b"\0"
        body = len(topic).to_bytes(2, "big") + topic + b"\0\x01" + properties
        for _ in range(100):
            await peer.send(bytes([0x32, len(body)]) + body)
        while True:
            first, _ = await peer.packet()
            if first == PINGREQ[0]:
                pings += 1
                await peer.send(PINGRESP)

    limits = Limits(tick_s=0.05, queued_messages_max=10)
    async with scripted_broker(flood, "5") as settings:
        settings = msgspec.structs.replace(settings, session_expiry_days=1)
        async with MqttPort(settings, limits).connect() as connection:
            await asyncio.sleep(3.5)
            assert pings >= 3
            seen: list[Delivery] = []
            async with asyncio.timeout(2):
                while len(seen) < 100:
                    seen += await connection.receive(100)
            pings_before = pings
            with pytest.raises(TimeoutError):  # and it lives on, judging again
                await asyncio.wait_for(connection.receive(1), 2.5)
            assert pings > pings_before


@pytest.mark.broker
@pytest.mark.slow
async def test_mosquitto_keeps_a_client_that_has_paused(mosquitto: StartMosquitto) -> None:
    """It would throw out a client that is silent for one and a half keepalives."""
    broker = mosquitto("max_queued_messages 100000", "max_inflight_messages 0")
    settings = BrokerSettings(url=broker.url, client_id="hes", protocol="3.1.1", keepalive_s=5)
    async with MqttPort(settings, Limits(queued_messages_max=10)).connect() as hes:
        await hes.subscribe([TOPIC])
        gateway = msgspec.structs.replace(settings, client_id="gw")
        async with MqttPort(gateway).connect() as connection:
            await asyncio.gather(*(connection.publish(TOPIC, b"x" * 1000) for _ in range(500)))
        await asyncio.sleep(9)
        seen = 0
        async with asyncio.timeout(5):
            while seen < 500:
                deliveries = await hes.receive(1000)
                hes.acknowledge(deliveries)
                seen += len(deliveries)


# --- brokers that misbehave ------------------------------------------------------------------------


async def test_a_broker_that_never_lets_us_in() -> None:
    async def silent(peer: Peer) -> None:
        await peer.until_closed()

    async with scripted_broker(silent) as settings:
        settings = msgspec.structs.replace(settings, connect_timeout_s=0.2)
        error = await raised_by_connecting(settings)
    assert "no answer within 0.2 s" in str(error)
    assert not error.permanent


async def test_a_broker_that_closes_instead_of_answering() -> None:
    async def close(peer: Peer) -> None:
        await peer.packet()

    async with scripted_broker(close, "5") as settings:
        error = await raised_by_connecting(settings)
    assert "closed the connection instead of answering" in str(error)
    assert "mqtts://" in error.remedy
    assert '"3.1.1"' in error.remedy


@pytest.mark.parametrize(
    "garbage", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 64, b"\xff" * 64]
)
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_peer_that_is_no_broker(garbage: bytes, protocol: Protocol) -> None:
    async def talk(peer: Peer) -> None:
        await peer.packet()
        await peer.send(garbage)
        await peer.until_closed()

    async with scripted_broker(talk, protocol) as settings:
        settings = msgspec.structs.replace(settings, connect_timeout_s=0.5)
        error = await raised_by_connecting(settings)
    assert error.remedy
    assert "not MQTT" in str(error) or "no answer" in str(error)


@pytest.mark.parametrize(
    ("reason", "said", "permanent"),
    [
        (0x84, "does not speak this version of MQTT", True),
        (0x01, "does not speak this version of MQTT", True),  # a 3.1.1 broker, answering MQTT 5
        (0x85, "refuses this client id", True),
        (0x86, "refuses user name or password", True),
        (0x87, "does not let us in", True),
        (0x88, "not available now", False),
        (0x89, "busy", False),
        (0x8A, "banned", True),
        (0x97, "quota", False),
        (0x80, "refuses the connection", False),
    ],
)
async def test_each_refusal_of_mqtt_5_in_words(reason: int, said: str, permanent: bool) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.packet()
        await peer.send(connack_5(reason))

    async with scripted_broker(refuse, "5") as settings:
        error = await raised_by_connecting(settings)
    assert said in str(error)
    assert error.permanent is permanent


@pytest.mark.parametrize(
    ("reason", "said", "permanent"),
    [
        (1, "not MQTT 3.1.1", False),
        (2, "refuses this client id", True),
        (3, "not available now", False),
        (4, "refuses user name or password", True),
        (5, "does not let us in", True),
    ],
)
async def test_each_refusal_of_mqtt_311_in_words(reason: int, said: str, permanent: bool) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.packet()
        await peer.send(bytes([0x20, 2, 0, reason]))

    async with scripted_broker(refuse) as settings:
        error = await raised_by_connecting(settings)
    assert said in str(error)
    assert error.permanent is permanent


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (0x8E, "another client took over our session"),
        (0x8B, "shutting down"),
        (0x8D, "has not heard from us in time"),
        (0x95, "larger than it takes"),
        (0x80, "its reason"),
    ],
)
async def test_a_broker_that_ends_the_connection_says_why(reason: int, said: str) -> None:
    async def throw_out(peer: Peer) -> None:
        await peer.packet()
        await peer.send(CONNACK_5 + bytes([DISCONNECT, 2, reason, 0]))
        await peer.until_closed()

    async with (
        scripted_broker(throw_out, "5") as settings,
        MqttPort(settings).connect() as connection,
    ):
        with pytest.raises(TransportError, match=said) as raised:
            await asyncio.wait_for(connection.receive(1), 2)
        if reason == 0x8E:
            assert "'hes'" in str(raised.value)
            assert "its own client_id" in raised.value.remedy


async def test_a_puback_that_never_comes() -> None:
    async def forget(peer: Peer) -> None:
        await peer.packet()
        await peer.send(CONNACK_311)
        await peer.until_closed()

    async with (
        scripted_broker(forget) as settings,
        MqttPort(settings, QUICK).connect() as connection,
    ):
        with pytest.raises(TransportError, match=r"not answered within 0\.3 s"):
            await asyncio.wait_for(connection.publish(TOPIC, b""), 2)
        with pytest.raises(TransportError, match="not answered"):
            await asyncio.wait_for(connection.subscribe([TOPIC]), 2)


async def test_a_connection_cut_in_the_middle_of_a_packet() -> None:
    async def cut(peer: Peer) -> None:
        await peer.packet()
        await peer.send(CONNACK_311 + publish_311(TOPIC.encode(), b"x" * 300, 1)[:-1])

    async with scripted_broker(cut) as settings, MqttPort(settings).connect() as connection:
        with pytest.raises(TransportError, match="was lost"):
            await asyncio.wait_for(connection.receive(1), 2)


async def test_a_broker_that_sends_more_than_it_was_told_to_is_left() -> None:
    """Otherwise what is waited for would grow to what a length of four bytes can say, 256 MB."""
    whole = publish_5(TOPIC.encode(), b"x" * PACKET_BYTES_MAX, 1)

    async def send(peer: Peer) -> None:
        await peer.packet()
        await peer.send(CONNACK_5 + whole[:100])
        await peer.until_closed()

    async with scripted_broker(send, "5") as settings, MqttPort(settings).connect() as connection:
        with pytest.raises(TransportError, match=f"{len(whole)} bytes, and was told") as raised:
            await asyncio.wait_for(connection.receive(1), 2)
    assert "max_packet_size" in raised.value.remedy


@pytest.mark.parametrize(
    ("protocol", "sent"),
    [
        ("3.1.1", CONNACK_311 + publish_311(TOPIC.encode(), b"x" * 200, 7)),
        ("5", CONNACK_5 + publish_5(TOPIC.encode(), b"x" * 200, 7)),
        # As a PUBACK's packet id may look, its half is no PUBLISH.
        ("5", CONNACK_5 + b"\x40\x02\x32\x32" + publish_5(TOPIC.encode(), b"x" * 200, 7)),
    ],
)
async def test_a_packet_may_come_byte_by_byte(protocol: Protocol, sent: bytes) -> None:
    async def dribble(peer: Peer) -> None:
        await peer.packet()
        for byte in sent:
            await peer.send(bytes([byte]))
            await asyncio.sleep(0.001)
        await peer.until_closed()

    async with (
        scripted_broker(dribble, protocol) as settings,
        MqttPort(settings).connect() as connection,
    ):
        (delivery,) = await asyncio.wait_for(connection.receive(1), 5)
        assert (delivery.topic, delivery.payload, delivery.packet_id) == (TOPIC, b"x" * 200, 7)


# mqtt5 warns of such a topic beside the exception we catch.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("protocol", "sent"),
    [
        ("3.1.1", CONNACK_311 + publish_311(b"openami/\xff\xfe", b"", 9)),
        ("5", CONNACK_5 + publish_5(b"openami/\xff\xfe", b"", 9)),
    ],
)
async def test_a_topic_that_is_not_utf8_reaches_whoever_judges_it(
    protocol: Protocol, sent: bytes
) -> None:
    acknowledged: list[bytes] = []

    async def send(peer: Peer) -> None:
        await peer.packet()
        await peer.send(sent)
        acknowledged.append((await peer.packet())[1])
        await peer.until_closed()

    async with (
        scripted_broker(send, protocol) as settings,
        MqttPort(settings).connect() as connection,
    ):
        deliveries = await asyncio.wait_for(connection.receive(1), 2)
        assert deliveries[0].topic == "openami/\ufffd\ufffd"
        connection.acknowledge(deliveries)
        await asyncio.sleep(0.1)
    assert acknowledged == [b"\x00\x09"]


async def test_acknowledgements_leave_in_the_order_given_and_before_the_end() -> None:
    acknowledged: list[int] = []

    async def send(peer: Peer) -> None:
        await peer.packet()
        await peer.send(CONNACK_311)
        for packet_id in range(1, 6):
            await peer.send(publish_311(TOPIC.encode(), b"", packet_id))
        while True:
            first, body = await peer.packet()
            if first == DISCONNECT:
                acknowledged.append(0)
            elif first == 0x40:
                acknowledged.append(int.from_bytes(body, "big"))

    async with scripted_broker(send) as settings:
        async with MqttPort(settings).connect() as connection:
            deliveries: list[Delivery] = []
            while len(deliveries) < 5:
                deliveries += await asyncio.wait_for(connection.receive(5), 2)
            connection.acknowledge([deliveries[2], deliveries[0]])
            connection.acknowledge(deliveries[3:])
        await asyncio.sleep(0.05)
    assert acknowledged == [3, 1, 4, 5, 0]


# --- logging in ------------------------------------------------------------------------------------


@pytest.mark.broker
async def test_a_password_from_a_file(mosquitto: StartMosquitto, tmp_path: Path) -> None:
    # mosquitto_passwd's format; the password is "secret".
    passwords = tmp_path / "passwords"
    passwords.write_text(_hashed("hes", "secret"))
    broker = mosquitto("allow_anonymous false", f"password_file {passwords}")
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("secret\n")
    wrong.write_text("Secret\n")

    def settings(password_file: Path, protocol: Protocol) -> BrokerSettings:
        return BrokerSettings(
            url=broker.url,
            client_id="hes",
            username="hes",
            password_file=str(password_file),
            protocol=protocol,
        )

    async with MqttPort(settings(right, "5")).connect() as connection:
        await connection.publish(TOPIC, b"")
    for protocol in ("5", "3.1.1"):
        error = await raised_by_connecting(settings(wrong, protocol))
        assert error.permanent
        assert error.remedy
    error = await raised_by_connecting(BrokerSettings(url=broker.url, client_id="x"))
    assert "does not let us in" in str(error)
    error = await raised_by_connecting(settings(tmp_path / "none", "5"))
    assert "no such file" in str(error)


def _hashed(user: str, password: str) -> str:
    """Return a line of a mosquitto password file (PBKDF2-SHA512, as mosquitto_passwd writes it)."""
    import base64
    import hashlib

    salt, rounds = b"0123456789ab", 101
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
    parts = [str(rounds), base64.b64encode(salt).decode(), base64.b64encode(key).decode()]
    return f"{user}:$7${'$'.join(parts)}\n"


# --- no broker -------------------------------------------------------------------------------------


async def test_nobody_listens() -> None:
    error = await raised_by_connecting(BrokerSettings(url="mqtt://127.0.0.1:1", client_id="x"))
    assert "nothing listens at port 1 of 127.0.0.1" in str(error)
    error = await raised_by_connecting(BrokerSettings(url="mqtt://localhost:1", client_id="x"))
    assert "nothing listens at port 1 of localhost" in str(error)
    assert not error.permanent


async def test_a_name_that_does_not_exist() -> None:
    error = await raised_by_connecting(
        BrokerSettings(url="mqtt://no-such-broker.invalid", client_id="x")
    )
    assert "no-such-broker.invalid cannot be resolved" in str(error)
    assert "spelling" in error.remedy


@pytest.mark.broker
async def test_a_caller_that_is_cancelled_leaves_the_connection_usable(
    mosquitto: StartMosquitto,
) -> None:
    broker = mosquitto()
    settings = BrokerSettings(url=broker.url, client_id="hes")
    async with MqttPort(settings, Limits(publish_window_max=2)).connect() as connection:
        for _ in range(20):
            task = asyncio.create_task(connection.publish(TOPIC, b""))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        async with asyncio.timeout(5):  # every slot of the window has come back
            await asyncio.gather(*(connection.publish(TOPIC, b"") for _ in range(10)))
