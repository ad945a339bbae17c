"""A village whose relays obey: TLS with client certificates, the shipped access rules, real programs."""

import asyncio
import dataclasses
import json
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from tests.conftest import StartMosquitto
from tests.headend.program import openami_process
from tests.keys.villages import client_file
from tests.mosquitto import Mosquitto

from openami.clock import SystemClock
from openami.gateway.driver import RelayPosition
from openami.headend.village import HES
from openami.headend.village import Village as OperatorVillage
from openami.headend.worker_settings import SESSION
from openami.mqtt.broker_rights import BrokerRights, mosquitto_acl, mosquitto_conf
from openami.mqtt.client import MqttPort
from openami.mqtt.port import Connection
from openami.mqtt.settings import BrokerSettings
from openami.profile import FeederId, GatewayId, MeterSerial
from openami.simulator.config_files import gateway_toml, headend_toml
from openami.simulator.lines import village_lines
from openami.simulator.programs import Program
from openami.simulator.scenario import village_tonight
from openami.simulator.security import DemoVillage, demo_village
from openami.simulator.village import Village
from openami.sip.keyring import Limits

FEEDER_ID = FeederId("feeder-e2e")
GATEWAY_ID = GatewayId("gateway-e2e")
OBSERVER = "observer"
# A broker in an attacker's hands writes what it likes, whatever its access rules were.
TAMPERER = "the-broker-itself"
RELAY_MODEL = "dds238"
LIMITS = Limits(disconnects_per_hour=200, min_dwell_s=0)
DEADLINE_S = 40.0
SEED = 20261123


class CountedVillage(Village):
    """A village that counts every order a relay is given."""

    orders: list[tuple[MeterSerial, RelayPosition]]

    def order_relay(self, serial: MeterSerial, position: RelayPosition) -> None:
        if not hasattr(self, "orders"):
            self.orders = []
        self.orders.append((serial, position))
        super().order_relay(serial, position)


@dataclass
class System:
    """Everything between a relay and the command line."""

    broker: Mosquitto
    gateway: Program
    headend: Program
    village: CountedVillage
    operator: DemoVillage
    directory: Path
    data_dir: Path
    store_url: str

    @property
    def outbox(self) -> Path:
        return self.data_dir / "gateway.db"

    @property
    def serials(self) -> Sequence[MeterSerial]:
        """The customers' meters."""
        return [customer.serial for customer in self.village.plan.customers]

    def power_w(self, serial: MeterSerial) -> float:
        """Return what flows through a meter now."""
        return self.village.measured(serial).phases[0].active_w

    def orders(self) -> Counter[MeterSerial]:
        """Return how often each relay was ordered."""
        return Counter(serial for serial, _ in self.village.orders)

    async def run(self, *words: str, code: int = 0) -> str:
        """Run a command of the command line on this store."""
        return await asyncio.to_thread(
            openami_process, *words, "--store", self.store_url, code=code
        )

    async def run_json(self, *words: str, code: int = 0) -> dict[str, Any]:
        """Run a command that prints one object."""
        [line] = (await self.run(*words, "--json", code=code)).splitlines()
        members: dict[str, Any] = json.loads(line)
        return members

    def client(self, name: str) -> BrokerSettings:
        """Return how somebody with a certificate of this name reaches the broker."""
        now = SystemClock().now()
        return BrokerSettings(
            url=secure_url(self.broker.port),
            client_id=name,
            ca_file=str(self.operator.village.broker_directory / "ca.pem"),
            cert_file=str(client_file(self.operator.village, self.directory, name, now=now)),
            session_expiry_days=0,
        )

    @asynccontextmanager
    async def joined(self, name: str, *filters: str) -> AsyncIterator[Connection]:
        """Connect to the broker under this name, subscribed."""
        async with MqttPort(self.client(name)).connect() as connection:
            if filters:
                await connection.subscribe(filters)
            yield connection

    def assert_sound(self) -> None:
        """Neither program has met what it did not expect."""
        for log in ("gateway.log", "headend.log"):
            assert "Traceback" not in (self.directory / log).read_text()


def secure_url(port: int, host: str = "localhost") -> str:
    return f"mqtts://{host}:{port}"


def broker_lines(village: OperatorVillage, directory: Path, changes: dict[str, str]) -> list[str]:
    """Return the configuration that `openami broker-config mosquitto` prints, on loopback.

    ``changes`` are what of its lines the test wants otherwise.
    """
    acl = directory / "openami.acl"
    own = sorted(file.stem for file in village.transport_file(HES).parent.glob(f"{HES}*.pem"))
    acl.write_text(mosquitto_acl(BrokerRights(headends=(*own, TAMPERER), observers=(OBSERVER,))))
    (directory / "data").mkdir(exist_ok=True)
    text = mosquitto_conf(certs=str(village.broker_directory), acl_file=str(acl))
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "log_"))]
    changes = {
        "listener 8883": "listener {port} 127.0.0.1",
        "persistence_location /var/lib/mosquitto/": f"persistence_location {directory}/data/",
    } | changes
    assert changes.keys() <= set(lines), lines
    return [changes.get(line, line) for line in lines]


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where the parts are, when a test wants them elsewhere than side by side on this machine."""

    store_url: str | None = None
    """The head-end's store; a SQLite file in the test's directory otherwise."""
    data_dir: Path | None = None
    """The gateway's."""
    operator_side: Sequence[str] = ()
    """What goes before the broker's and the head-end's commands: a namespace."""
    broker_host: str = "localhost"
    """How broker and clients are called and found."""
    link: Callable[[int], AbstractAsyncContextManager[int]] | None = None
    """What lies between the gateway and the broker's port: yields the port the gateway is told."""
    keepalive_s: int = 60
    uplink: str = ""
    """Lines for the gateway's table ``[uplink]``."""


@asynccontextmanager
async def commanded_village(
    mosquitto: StartMosquitto,
    directory: Path,
    *,
    meters: int,
    broker_changes: dict[str, str] | None = None,
    fast_s: int = 1,
    billing_s: int = 10,
    headend_more: str = "",
    slices: int = 0,
    around: Surroundings = Surroundings(),
) -> AsyncIterator[System]:
    """Start meters with relays, broker, head-end and enrolled gateway; stop them in the end.

    ``headend_more`` is added to the head-end's configuration. ``slices``: into how many several head-ends share
    the feeders, which ``headend_more`` has to say as well.
    """
    clock = SystemClock()
    now = clock.now()
    operator = demo_village(
        directory, FEEDER_ID, GATEWAY_ID, now=now, limits=LIMITS,
        broker_names=(around.broker_host, "127.0.0.1"),
    )  # fmt: skip
    if slices:
        operator.village.certify_slices(slices, now=now)
    broker = mosquitto(
        *broker_lines(operator.village, directory, broker_changes or {}),
        within=around.operator_side,
    )
    url = secure_url(broker.port, around.broker_host)
    data_dir = around.data_dir or directory / "gateway"
    plan = village_tonight(meters=meters, seed=SEED, now=now)
    customers = tuple(
        dataclasses.replace(c, model=RELAY_MODEL, credit_uj=None, bypass_permille=0)
        for c in plan.customers
    )
    village = CountedVillage(dataclasses.replace(plan, customers=customers))
    village.orders = []
    store_url = around.store_url or f"sqlite:///{directory / 'headend.db'}"
    async with AsyncExitStack() as parts:
        gateway_url = url
        if around.link is not None:
            gateway_url = secure_url(await parts.enter_async_context(around.link(broker.port)))
        places = [
            await parts.enter_async_context(line.serving())
            for line in village_lines(village, clock)
        ]
        (directory / "headend.toml").write_text(
            headend_toml(
                store_url=store_url,
                mqtt=replace(operator.headend_settings(url), keepalive_s=around.keepalive_s),
                tables=operator.headend_tables,
            ).replace(f"{HES}.pem", f"{SESSION if slices else HES}.pem")
            + headend_more
        )
        toml = gateway_toml(
            feeder_id=FEEDER_ID,
            gateway_id=GATEWAY_ID,
            data_dir=data_dir,
            mqtt=replace(operator.gateway_settings(gateway_url), keepalive_s=around.keepalive_s),
            lines=places,
            tables=operator.gateway_tables,
        )
        toml = toml.replace("fast_s = 2", f"fast_s = {fast_s}")
        toml = toml.replace("billing_s = 10", f"billing_s = {billing_s}")
        toml = toml.replace("[uplink]\n", f"[uplink]\n{around.uplink}\n")
        (directory / "gateway.toml").write_text(toml)
        programs = {
            name: Program(
                name,
                [name, "run", "-c", str(directory / f"{name}.toml")],
                log=directory / f"{name}.log",
                within=within,
            )
            for name, within in (("headend", around.operator_side), ("gateway", ()))
        }
        for program in programs.values():
            parts.push_async_callback(program.stop)
        await programs["headend"].start()
        # A broker keeps nothing for who has never come: the head-end subscribes first.
        await until(lambda: programs["headend"].has_said("ready"))
        await operator.hand_over_keyring(store_url, now=now)
        await programs["gateway"].start()
        system = System(
            broker=broker,
            gateway=programs["gateway"],
            headend=programs["headend"],
            village=village,
            operator=operator,
            directory=directory,
            data_dir=data_dir,
            store_url=store_url,
        )
        await until(lambda: telemetry_sent(system.outbox) > 0)
        yield system


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, at most DEADLINE_S."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.02)


def telemetry_sent(outbox: Path) -> int:
    """Return how many messages the broker has acknowledged; none of an outbox that is not there yet."""
    try:
        connection = sqlite3.connect(f"file:{outbox}?mode=ro", uri=True)
    except sqlite3.OperationalError:
        return 0
    try:
        [(count,)] = connection.execute("SELECT count(*) FROM outbox_entry WHERE state = 'sent'")
    except sqlite3.OperationalError:  # its schema is just being made
        return 0
    finally:
        connection.close()
    return int(count)
