"""The broker's rules with real certificates on a real mosquitto: every topic that is not somebody's own."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from tests.conftest import StartMosquitto
from tests.keys.villages import client_file, new_village, wall
from tests.mosquitto import Mosquitto

from openami.headend.register import Issued
from openami.headend.village import HES, Village
from openami.mqtt.broker_rights import BrokerRights, Market, mosquitto_acl, mosquitto_conf
from openami.mqtt.client import MqttPort
from openami.mqtt.port import Connection, PublishRefused, TransportError
from openami.mqtt.settings import BrokerSettings
from openami.pki.certificates import (
    LIFE,
    issue_server,
    new_serial,
    new_transport_key,
    print_certificate,
    print_key,
    read_certificate,
)

pytestmark = pytest.mark.broker

ROOT = "openami/v1"
OWN = f"{ROOT}/feeder-1/gateway-1"
NEIGHBOUR = f"{ROOT}/feeder-1/gateway-2"
ELSEWHERE = f"{ROOT}/feeder-2/gateway-1"
RIGHTS = BrokerRights(
    headends=(HES,), observers=("observer",), markets=(Market("market-coop", "feeder-1"),)
)
# What is on its way on loopback arrives in milliseconds; a test that waits for nothing waits so long.
ARRIVAL_S_MAX = 5.0


@dataclass(frozen=True, slots=True)
class Stage:
    """A village and its broker."""

    village: Village
    broker: Mosquitto
    directory: Path

    def settings(self, cert_file: Path | None, client_id: str = "any") -> BrokerSettings:
        return BrokerSettings(
            url=f"mqtts://localhost:{self.broker.port}",
            client_id=client_id,
            ca_file=str(self.village.directory / "authority" / "ca.pem"),
            cert_file=None if cert_file is None else str(cert_file),
            connect_timeout_s=10,
            session_expiry_days=0,
        )

    def certificate(self, name: str) -> Path:
        return client_file(self.village, self.directory, name, now=wall())

    @asynccontextmanager
    async def client(self, name: str, *filters: str) -> AsyncIterator[Connection]:
        """Connect with a fresh certificate of this name, subscribed."""
        async with MqttPort(self.settings(self.certificate(name))).connect() as connection:
            if filters:
                await connection.subscribe(filters)
            yield connection

    def reload(self, rights: BrokerRights) -> None:
        """Write other access rules and have the broker read them."""
        write_acl(self.broker.directory, rights)
        before = self.broker.log().count("Reloading")
        os.kill(self.broker.pid, signal.SIGHUP)
        for _ in range(500):
            if self.broker.log().count("Reloading") > before:
                return
            time.sleep(0.01)
        raise AssertionError(self.broker.log())


def write_acl(directory: Path, rights: BrokerRights) -> Path:
    file = directory / "openami.acl"
    file.write_text(mosquitto_acl(rights))
    return file


@pytest.fixture
def stage(mosquitto: StartMosquitto, tmp_path: Path) -> Stage:
    """A broker with the configuration as `openami broker-config` prints it, but for port and place of the log."""
    village = new_village(tmp_path / "operator", now=wall())
    return Stage(village, mosquitto(*broker_lines(village, tmp_path)), tmp_path)


def broker_lines(village: Village, directory: Path) -> Sequence[str]:
    acl = write_acl(directory, RIGHTS)
    text = mosquitto_conf(certs=str(village.broker_directory), acl_file=str(acl))
    (directory / "data").mkdir(exist_ok=True)
    replaced = {
        "listener 8883": "listener {port} 127.0.0.1",
        "persistence_location /var/lib/mosquitto/": f"persistence_location {directory}/data/",
    }
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "log_"))]
    assert replaced.keys() <= set(lines)
    return [replaced.get(line, line) for line in lines]


async def arriving(connection: Connection, *, until: str) -> list[str]:
    """Return the topics of what arrives, up to and including one."""
    topics: list[str] = []
    async with asyncio.timeout(ARRIVAL_S_MAX):
        while until not in topics:
            deliveries = await connection.receive(100)
            connection.acknowledge(deliveries)
            topics += [delivery.topic for delivery in deliveries]
    return topics


async def test_what_a_gateway_may_say(stage: Stage) -> None:
    """Its own telemetry, events and sessions; nothing of a neighbour's, and no command even to itself."""
    forbidden = [
        f"{OWN}/meter/m1/command",
        f"{NEIGHBOUR}/meter/m1/telemetry",
        f"{NEIGHBOUR}/meter/m1/event",
        f"{NEIGHBOUR}/meter/m1/command",
        f"{NEIGHBOUR}/session/s1",
        f"{ELSEWHERE}/meter/m1/telemetry",
        f"{OWN}/meter/m1/response",
        f"{OWN}/meter/m1/telemetry/more",
        f"{OWN}/session/s1/more",
        f"{OWN}/status",
        OWN,
        "openami/v2/feeder-1/gateway-1/meter/m1/telemetry",
        "openami/probe/x",
        "elsewhere",
    ]
    async with stage.client("feeder-1/gateway-1") as gateway:
        for allowed in ("meter/m1/telemetry", "meter/m1/event", "session/s1"):
            await gateway.publish(f"{OWN}/{allowed}", b"{}")
        for topic in forbidden:
            with pytest.raises(PublishRefused):
                await gateway.publish(topic, b"{}")
        await gateway.publish(f"{OWN}/meter/m1/telemetry", b"{}")


async def test_what_a_gateway_hears(stage: Stage) -> None:
    """Subscribed to everything there is, it gets its own commands and sessions."""
    async with (
        stage.client("feeder-1/gateway-1", "#", "openami/v1/#", "$SYS/#") as gateway,
        stage.client("feeder-1/gateway-2") as neighbour,
        stage.client("hes-1") as hes,
    ):
        await neighbour.publish(f"{NEIGHBOUR}/meter/m1/telemetry", b"{}")
        await neighbour.publish(f"{NEIGHBOUR}/session/s1", b"{}")
        await hes.publish(f"{NEIGHBOUR}/meter/m1/command", b"{}")
        await hes.publish(f"{OWN}/session/s1", b"{}")
        await hes.publish(f"{OWN}/meter/m1/command", b"{}")
        topics = await arriving(gateway, until=f"{OWN}/meter/m1/command")
        assert set(topics) == {f"{OWN}/session/s1", f"{OWN}/meter/m1/command"}


async def test_what_a_head_end_may_say(stage: Stage) -> None:
    """Commands and sessions to everybody; no reading and no event, so that a thief of it forges no evidence."""
    async with stage.client("hes-1") as hes:
        for topic in (f"{OWN}/meter/m1/command", f"{ELSEWHERE}/session/s1", "openami/probe/x"):
            await hes.publish(topic, b"{}")
        for topic in (f"{OWN}/meter/m1/telemetry", f"{OWN}/meter/m1/event", "openami/v1/x"):
            with pytest.raises(PublishRefused):
                await hes.publish(topic, b"{}")


async def test_what_a_head_end_hears(stage: Stage) -> None:
    async with (
        stage.client("hes-1", "openami/v1/#") as hes,
        stage.client("feeder-1/gateway-1") as gateway,
    ):
        heard = ("meter/m1/event", "session/s1", "meter/m1/telemetry")
        for leaf in heard:
            await gateway.publish(f"{OWN}/{leaf}", b"{}")
        topics = await arriving(hes, until=f"{OWN}/meter/m1/telemetry")
        assert set(topics) == {f"{OWN}/{leaf}" for leaf in heard}


async def test_what_a_market_participant_may(stage: Stage) -> None:
    """Sessions and results of its feeder; no command, no reading, nothing of another feeder."""
    async with (
        stage.client("market-coop", "openami/v1/#") as market,
        stage.client("feeder-1/gateway-1") as gateway,
        stage.client("feeder-2/gateway-1") as elsewhere,
        stage.client("hes-1") as hes,
    ):
        await market.publish(f"{OWN}/session/s1", b"{}")
        forbidden = [
            f"{OWN}/meter/m1/command",
            f"{OWN}/meter/m1/event",
            f"{OWN}/meter/m1/telemetry",
            f"{ELSEWHERE}/session/s1",
            f"{ELSEWHERE}/meter/m1/command",
        ]
        for topic in forbidden:
            with pytest.raises(PublishRefused):
                await market.publish(topic, b"{}")
        await elsewhere.publish(f"{ELSEWHERE}/session/s1", b"{}")
        await elsewhere.publish(f"{ELSEWHERE}/meter/m1/event", b"{}")
        await hes.publish(f"{OWN}/meter/m1/command", b"{}")
        await gateway.publish(f"{OWN}/meter/m1/telemetry", b"{}")
        await gateway.publish(f"{OWN}/meter/m1/event", b"{}")
        topics = await arriving(market, until=f"{OWN}/meter/m1/event")
        assert set(topics) == {f"{OWN}/session/s1", f"{OWN}/meter/m1/event"}


async def test_an_observer_says_nothing(stage: Stage) -> None:
    async with (
        stage.client("observer", "openami/v1/#") as observer,
        stage.client("hes-1") as hes,
    ):
        for topic in (f"{OWN}/meter/m1/command", f"{OWN}/session/s1", f"{OWN}/meter/m1/event"):
            with pytest.raises(PublishRefused):
                await observer.publish(topic, b"{}")
        await hes.publish(f"{OWN}/meter/m1/command", b"{}")
        await arriving(observer, until=f"{OWN}/meter/m1/command")


@pytest.mark.parametrize(
    "name", ["+/+", "feeder-1/#", "feeder-1/gateway-1/meter", "gateway-1", "#"]
)
async def test_a_name_the_authority_never_signs_opens_nothing(stage: Stage, name: str) -> None:
    """Should it all the same, a wildcard in it widens no rule."""
    with suppress(TransportError):  # whether it gets in at all is the broker's choice
        async with stage.client(name) as client:
            for topic in (
                f"{OWN}/meter/m1/telemetry",
                f"{OWN}/meter/m1/command",
                f"{OWN}/session/s1",
                f"{OWN}/meter/meter/m1/telemetry",
                f"{ROOT}/{name}/meter/m1/command",
            ):
                if "+" in topic or "#" in topic:
                    continue
                if topic.startswith(f"{ROOT}/{name}/") and topic.endswith("telemetry"):
                    continue
                with pytest.raises(PublishRefused):
                    await client.publish(topic, b"{}")


async def test_nobody_takes_over_the_head_ends_session(stage: Stage) -> None:
    """A gateway that calls itself hes-1 in CONNECT is itself; the head-end stays connected and hears."""
    async with stage.client("hes-1", "openami/v1/#") as hes:
        thief = stage.settings(stage.certificate("feeder-1/gateway-2"), client_id="hes-1")
        async with MqttPort(thief).connect() as taken, stage.client("feeder-1/gateway-1") as own:
            await taken.subscribe(["openami/v1/#"])
            await own.publish(f"{OWN}/meter/m1/event", b"{}")
            await taken.publish(f"{NEIGHBOUR}/meter/m1/event", b"{}")
            topics = await arriving(hes, until=f"{NEIGHBOUR}/meter/m1/event")
            assert f"{OWN}/meter/m1/event" in topics
            with pytest.raises(PublishRefused):
                await taken.publish(f"{OWN}/meter/m1/command", b"{}")


async def test_a_copied_card_throws_the_original_out(stage: Stage) -> None:
    """One name is one session: that is how a clone shows."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(
            stage.client("feeder-1/gateway-1", f"{OWN}/session/+")
        )
        await stack.enter_async_context(stage.client("feeder-1/gateway-1"))
        with pytest.raises(TransportError):
            async with asyncio.timeout(ARRIVAL_S_MAX):
                await first.receive(1)
        # Its own end fails as well: the connection is gone.
        with suppress(TransportError):
            await stack.aclose()


async def test_who_does_not_get_in(stage: Stage, tmp_path: Path) -> None:
    """Another authority's, one that has ended, a server's, one of a future year, and none."""
    village, now = stage.village, wall()
    elsewhere = new_village(tmp_path / "elsewhere", now=now)
    key = new_transport_key()
    server = issue_server(
        village.authority(), key.public_key(), ["hes-1"], now=now, serial=new_serial()
    )
    (tmp_path / "server.pem").write_bytes(print_certificate(server) + print_key(key))
    kept_out = {
        "foreign authority": client_file(elsewhere, tmp_path, "hes-1", now=now),
        "expired": client_file(village, tmp_path, "hes-1", now=now - LIFE - timedelta(hours=1)),
        "not yet valid": client_file(village, tmp_path, "hes-1", now=now + timedelta(days=31)),
        "a server's": tmp_path / "server.pem",
        "none": None,
    }
    for why, cert_file in kept_out.items():
        with pytest.raises(TransportError):
            async with MqttPort(stage.settings(cert_file)).connect():
                pytest.fail(why)
    good = client_file(village, tmp_path, "hes-1", now=now + timedelta(days=29))
    async with MqttPort(stage.settings(good)).connect():
        pass


async def test_a_renewed_certificate_is_taken_at_the_next_connection(
    stage: Stage, tmp_path: Path
) -> None:
    """One port, one file: what ended is exchanged for what holds, without a new start."""
    now = wall()
    file = client_file(stage.village, tmp_path, "hes-1", now=now - LIFE - timedelta(hours=1))
    port = MqttPort(stage.settings(file))
    with pytest.raises(TransportError):
        async with port.connect():
            pass
    client_file(stage.village, tmp_path, "hes-1", now=now).replace(file)
    async with port.connect() as connection:
        await connection.publish(f"{OWN}/session/s1", b"{}")


async def test_the_revoked_are_kept_out_and_cut_off(stage: Stage) -> None:
    """The list stops new connections, the access rule the one that is open; others go on."""
    village = stage.village
    gone = stage.certificate("feeder-1/gateway-1")
    with village.register() as register:
        register.enter(Issued.of(read_certificate(gone.read_bytes())))
        assert register.revoke("feeder-1/gateway-1", now=wall()) == 1
    async with (
        MqttPort(stage.settings(gone)).connect() as open_one,
        stage.client("feeder-1/gateway-2") as neighbour,
    ):
        await open_one.publish(f"{OWN}/meter/m1/event", b"{}")
        village.write_revocation_list(now=wall())
        denied = BrokerRights(headends=(HES,), denied=("feeder-1/gateway-1",))
        write_acl(stage.directory, denied)
        stage.reload(denied)
        with pytest.raises(PublishRefused):
            await open_one.publish(f"{OWN}/meter/m1/event", b"{}")
        await neighbour.publish(f"{NEIGHBOUR}/meter/m1/event", b"{}")
    with pytest.raises(TransportError):
        async with MqttPort(stage.settings(gone)).connect():
            pass
    async with stage.client("feeder-1/gateway-2"):
        pass
