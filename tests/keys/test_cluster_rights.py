"""The rights on real clusters, when OPENAMI_TEST_CLUSTERS=1 asks for it: they take a minute.

What one of them cannot hold is a test as well: docs/scale.md says the same.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import msgspec
import pytest
from benchmarks.clusters.certificates import Certificates
from benchmarks.clusters.cluster import Cluster
from benchmarks.clusters.nats import NatsCluster
from benchmarks.clusters.rabbitmq import RabbitCluster
from tests.tools import require_tool

from openami.mqtt.broker_rights import BridgeName, BrokerRights, Market
from openami.mqtt.cluster import ClusterPort
from openami.mqtt.port import Connection, TransportError

pytestmark = [pytest.mark.broker, pytest.mark.slow]

ROOT = "openami/v1"
GATEWAY, NEIGHBOUR = "feeder-1/gateway-1", "feeder-1/gateway-2"
OWN, OTHER = f"{ROOT}/{GATEWAY}", f"{ROOT}/{NEIGHBOUR}"
RIGHTS = BrokerRights(
    headends=("hes-1",),
    observers=("observer",),
    markets=(Market("market-coop", "feeder-1"),),
    bridges=(BridgeName("bridge-1", "feeder-2", "gateway-1"),),
    gateways=(GATEWAY, NEIGHBOUR),
)
ARRIVAL_S_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Stage:
    """A running cluster and its certificates."""

    broker: str
    cluster: Cluster
    certificates: Certificates

    @asynccontextmanager
    async def client(
        self, name: str, *filters: str, client_id: str = "", keeps: bool = False
    ) -> AsyncIterator[Connection]:
        """Connect with a certificate of this name, subscribed; with a session that stays if it ``keeps``."""
        given = self.certificates.settings(name, self.cluster.urls, client_id=client_id)
        days = 14.0 if keeps else 0.0
        port = ClusterPort(msgspec.structs.replace(given, session_expiry_days=days))
        async with port.connect() as connection:
            if filters:
                await connection.subscribe(filters)
            yield connection


@pytest.fixture(scope="module", params=["nats", "rabbitmq"])
def stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """Three nodes of NATS, which alone are JetStream's quorum; one of RabbitMQ, whose rights are the same."""
    kind = cast(str, request.param)
    if os.environ.get("OPENAMI_TEST_CLUSTERS") != "1":
        pytest.skip("OPENAMI_TEST_CLUSTERS=1 starts NATS and RabbitMQ, which takes a minute")
    require_tool(f"{kind}-server")
    place: Path = tmp_path_factory.mktemp(kind)
    certificates = Certificates(place / "certs")
    cluster: Cluster = (
        NatsCluster(place, certificates, RIGHTS)
        if kind == "nats"
        else RabbitCluster(place, certificates, RIGHTS, size=1)
    )
    try:
        cluster.start()
        yield Stage(kind, cluster, certificates)
    finally:
        cluster.stop()


async def heard(connection: Connection, until: str) -> list[str]:
    """Return the topics of what arrives, up to that one."""
    topics: list[str] = []
    async with asyncio.timeout(ARRIVAL_S_MAX):
        while until not in topics:
            deliveries = await connection.receive(100)
            connection.acknowledge(deliveries)
            topics += [delivery.topic for delivery in deliveries]
    return topics


FORBIDDEN_TO_SAY = [
    (GATEWAY, f"{OTHER}/meter/m1/telemetry"),
    (GATEWAY, f"{OWN}/meter/m1/command"),
    (GATEWAY, f"{OWN}/telemetry"),
    ("market-coop", f"{OWN}/meter/m1/command"),
    ("market-coop", f"{ROOT}/feeder-2/gateway-1/session/s1"),
    ("bridge-1", f"{OWN}/meter/m1/event"),
    ("observer", f"{OWN}/session/s1"),
    ("hes-1", f"{OWN}/meter/m1/telemetry"),
]


@pytest.mark.parametrize(("name", "topic"), FORBIDDEN_TO_SAY)
async def test_what_nobody_may_say_reaches_nobody(stage: Stage, name: str, topic: str) -> None:
    """An observer of everything hears what the gateway may say, and not what was forbidden before it."""
    async with stage.client("observer", f"{ROOT}/#") as observer:
        try:
            async with stage.client(name, client_id=name + "x") as client:
                await client.publish(topic, b"forbidden")
        except TransportError:
            assert stage.broker == "rabbitmq"  # NATS says PUBACK, as mosquitto does in 3.1.1
        async with stage.client(GATEWAY) as gateway:
            await gateway.publish(f"{OWN}/meter/m1/event", b"{}")
        assert await heard(observer, f"{OWN}/meter/m1/event") == [f"{OWN}/meter/m1/event"]


@pytest.mark.parametrize(
    ("name", "filter_"),
    [
        (GATEWAY, f"{OTHER}/meter/+/command"),
        (GATEWAY, f"{OTHER}/session/+"),
        (GATEWAY, f"{ROOT}/#"),
        (GATEWAY, f"{ROOT}/+/+/meter/+/command"),
        (GATEWAY, "#"),
        (GATEWAY, "$MQTT/sub/#"),
        ("market-coop", f"{ROOT}/feeder-1/+/meter/+/telemetry"),
        ("bridge-1", f"{OWN}/meter/+/command"),
        ("hes-1", f"{ROOT}/#"),
    ],
)
async def test_what_nobody_may_read_is_refused(stage: Stage, name: str, filter_: str) -> None:
    with pytest.raises(TransportError):
        async with stage.client(name, filter_):
            pass


async def test_everybody_may_do_what_is_theirs(stage: Stage) -> None:
    """A reading, an offer and a command each reach the one they are for."""
    async with (
        stage.client("hes-1", f"{ROOT}/+/+/meter/+/telemetry", f"{ROOT}/+/+/session/+") as hes,
        stage.client(GATEWAY, f"{OWN}/meter/+/command", f"{OWN}/session/+") as gateway,
        stage.client("bridge-1", f"{ROOT}/feeder-2/gateway-1/meter/+/command") as bridge,
        stage.client("market-coop", f"{ROOT}/feeder-1/+/session/+") as market,
    ):
        await gateway.publish(f"{OWN}/meter/m1/telemetry", b"{}")
        await bridge.publish(f"{ROOT}/feeder-2/gateway-1/meter/m1/telemetry", b"{}")
        await heard(hes, f"{ROOT}/feeder-2/gateway-1/meter/m1/telemetry")
        await hes.publish(f"{OWN}/meter/m1/command", b"{}")
        await market.publish(f"{OWN}/session/s1", b"{}")
        assert set(await heard(gateway, f"{OWN}/session/s1")) <= {
            f"{OWN}/meter/m1/command",
            f"{OWN}/session/s1",
        }
        await heard(hes, f"{OWN}/session/s1")


async def test_who_does_not_get_in(stage: Stage, tmp_path: Path) -> None:
    """A certificate of another authority with the right name, a name that nobody has, and none at all."""
    own = stage.certificates.settings(GATEWAY, stage.cluster.urls)
    foreign = str(Certificates(tmp_path / "elsewhere").client(GATEWAY))
    stranger = str(stage.certificates.client("feeder-9/gateway-9"))
    for cert_file in (foreign, stranger, None):
        with pytest.raises(TransportError):
            async with ClusterPort(msgspec.structs.replace(own, cert_file=cert_file)).connect():
                pytest.fail(f"{cert_file} was let in")
    async with ClusterPort(own).connect():
        pass


async def test_who_comes_in_under_the_head_ends_name(stage: Stage) -> None:
    """RabbitMQ keeps its session for it; NATS lets anybody clear it away, whoever knows its client id."""
    filter_ = f"{ROOT}/+/+/meter/+/telemetry"
    async with stage.client("hes-1", filter_, keeps=True):
        pass
    async with stage.client(GATEWAY) as gateway:
        await gateway.publish(f"{OWN}/meter/m9/telemetry", b"{}")
    try:
        async with stage.client(NEIGHBOUR, client_id="hes-1") as thief:
            assert stage.broker == "nats"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await thief.receive(1)
    except TransportError:
        assert stage.broker == "rabbitmq"
    async with stage.client("hes-1", filter_, keeps=True) as hes:
        assert hes.resumed is (stage.broker == "rabbitmq")
        if hes.resumed:
            await heard(hes, f"{OWN}/meter/m9/telemetry")


async def test_an_id_with_a_dot_is_refused(stage: Stage) -> None:
    """Rather than carried as two levels, to nobody."""
    with pytest.raises(TransportError):
        async with stage.client(GATEWAY) as gateway:
            await gateway.publish(f"{OWN}/meter/m.1/telemetry", b"{}")


async def test_who_is_no_longer_named_is_cut_off_and_kept_out(stage: Stage) -> None:
    async with stage.client(NEIGHBOUR) as neighbour:
        async with stage.client(GATEWAY) as gateway:
            await gateway.publish(f"{OWN}/meter/m1/event", b"{}")
            stage.cluster.apply(replace(RIGHTS, denied=(GATEWAY,)))
            with pytest.raises(TransportError):
                async with asyncio.timeout(ARRIVAL_S_MAX):
                    await gateway.receive(1)
        await neighbour.publish(f"{OTHER}/meter/m1/event", b"{}")
    with pytest.raises(TransportError):
        async with stage.client(GATEWAY):
            pass
