"""The machines of a simulated village: the real gateway and the real head-end, each on a disk, a clock and a link.

A machine can lose its power and its process can be killed, at any moment. What is killed runs no line of code any
more that could reach disk or network: the disk's connections are dead and the link is down before its tasks are
cancelled. Started again, it finds what a machine would find.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final

from openami.gateway.config import DATABASE_FILE, ConfigError, load_config
from openami.gateway.driver import Driver
from openami.gateway.main import Gateway, Machine, opened_outbox
from openami.headend.downlink import Downlink
from openami.headend.resending import Resending
from openami.headend.store import StoreError
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.open import open_store
from openami.headend.uplink import Uplink
from openami.mqtt.backoff import Backoff
from openami.mqtt.port import Connection, TransportError
from openami.profile import FeederId, GatewayId, shipped_catalogue
from openami.simulator.disk import Disk
from openami.simulator.driver import MeterBench, driver_of
from openami.simulator.network import Link
from openami.simulator.virtual_time import EPOCH_1970, MachineClock
from openami.simulator.world.keys import HES, VillageKeys
from openami.simulator.world.scenario import VillageSettings
from openami.simulator.world.witness import HeadendWitness
from openami.sip.canonical import encode_base64url

# systemd's RestartSec of our units: a program that ends is started again after so long.
RESTART_S: Final = 5.0
# Timers of a second are looked at less often: every rule they serve is in minutes, and a year has 31 million
# seconds.
LOOK_S: Final = 120.0
# Within what a collector must show that it lives.
CLOCK_LOOK_S: Final = 60.0
# What a session's nonce is made of.
NONCE_BYTES: Final = 16
# A battery-less machine whose clock was last set by nobody: years from now.
FAR_AHEAD: Final = timedelta(days=73 * 365)
_DRIVER: Final = "simulated"


@dataclass(slots=True)
class Supervised:
    """A program under a supervisor: started again when it ends, until its machine is off."""

    name: str
    live: Callable[[], Coroutine[None, None, None]]
    world_failed: tuple[type[Exception], ...]
    """What ends it without being its fault: it is started again."""
    lives: int = 0
    _task: "asyncio.Task[None] | None" = None

    def start(self) -> None:
        assert self._task is None
        self._task = asyncio.create_task(self._supervise(), name=self.name)

    @property
    def running(self) -> bool:
        return self._task is not None

    async def kill(self) -> None:
        """Cancel what is left of it; disk and link are dead already."""
        task, self._task = self._task, None
        if task is None:
            return
        # More than once: a TaskGroup that fails at the moment it is cancelled forgets it (before Python 3.13).
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=1.0)

    def bug(self) -> BaseException | None:
        """Return the bug it died of, if it did."""
        task = self._task
        if task is None or not task.done() or task.cancelled():
            return None
        return task.exception()

    async def _supervise(self) -> None:
        while True:
            self.lives += 1
            try:
                await self.live()
            except* self.world_failed:
                pass  # the disk was full or broken: the supervisor tries again
            await asyncio.sleep(RESTART_S)


class Door:
    """A gateway's link to the broker, whose TLS lets nobody in with a certificate that is over."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.expired = False
        self.tried: Callable[[], None] = lambda: None
        """Told of each attempt to connect."""

    @property
    def client_id(self) -> str:
        """The name it connects under."""
        return self.link.client_id

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        """Connect over the link. Raises TransportError."""
        self.tried()
        if self.expired:
            raise TransportError(
                "the broker refuses our certificate: it has expired",
                remedy="renew it: `openami gateway renew`",
                permanent=True,
            )
        return self.link.connect()


@dataclass(slots=True)
class GatewayMachine:
    """A gateway on its pole."""

    feeder_id: FeederId
    gateway_id: GatewayId
    serials: list[str]
    """What its configuration lists."""
    bench: MeterBench
    disk: Disk
    clock: MachineClock
    door: Door
    keys: VillageKeys
    dice: random.Random
    village: VillageSettings
    cards: int = 1
    """How many memory cards it has had."""
    boots: int = 0
    program: Supervised = field(init=False)
    _nonces: int = 0
    _bars: int = 0

    def __post_init__(self) -> None:
        # An OutboxError arrives as a ConfigError: the disk was full or broken at the start.
        self.program = Supervised(f"gateway {self.gateway_id}", self._live, (ConfigError,))

    @property
    def card(self) -> str:
        """The name of its memory card: another card is another memory."""
        return f"{self.gateway_id}#{self.cards}"

    @property
    def database(self) -> Path:
        return self.disk.directory / DATABASE_FILE

    def boot(self, wall: datetime | None, *, drift_ppm: float) -> None:
        """Start the machine, with its program."""
        self.boots += 1
        self.clock.boot(wall, drift_ppm=drift_ppm)
        self.restart()

    def restart(self) -> None:
        """Start its program on a machine that is up."""
        self.door.link.up = self._bars == 0
        self.program.start()

    async def kill(self) -> None:
        """End its program, whose disk is dead already."""
        self.door.link.cut()
        self.door.link.up = False
        await self.program.kill()

    def bar(self) -> None:
        """Take its way to the broker away."""
        self._bars += 1
        self.door.link.up = False

    def unbar(self) -> None:
        """Give it back, if nothing else bars it."""
        self._bars -= 1
        self.door.link.up = self._bars == 0 and self.program.running

    def wall_after(self, how: str, stopped_at: datetime) -> datetime | None:
        """Return what its clock says after a power cut; None when it was kept."""
        match how:
            case "1970":
                return EPOCH_1970
            case "stopped":
                return stopped_at
            case "ahead":
                return self.clock.true_now() + FAR_AHEAD
            case _:
                return None

    def renew_card(self) -> None:
        """Put an empty card in."""
        self.cards += 1
        for file in self.disk.directory.glob(f"{DATABASE_FILE}*"):
            file.unlink()

    async def _live(self) -> None:
        drivers: dict[str, type[Driver]] = {_DRIVER: driver_of(self.bench)}
        config = load_config(self._configured(), drivers, {})
        machine = Machine(
            clock=self.clock,
            port=self.door,
            boot_id=f"boot-{self.boots}",
            dice=self.dice,
            fresh_nonce=self._fresh_nonce,
            look_s=LOOK_S,
            clock_look_s=CLOCK_LOOK_S,
        )
        async with opened_outbox(config, machine) as outbox:
            gateway = await Gateway.made(config, drivers, outbox=outbox, machine=machine)
            await gateway.run(asyncio.Event(), None, lambda: None)

    def _configured(self) -> Path:
        directory = self.disk.directory
        key_file, roots_file = self.keys.write(directory / "keys", self.gateway_id)
        meters = [f'[[line.meter]]\nserial = "{serial}"' for serial in self.serials]
        file = directory / "gateway.toml"
        file.write_text(
            "\n".join(
                [
                    f'feeder_id = "{self.feeder_id}"',
                    f'gateway_id = "{self.gateway_id}"',
                    f'data_dir = "{directory}"',
                    'clock = "network"',
                    '[mqtt]\nurl = "mqtt://127.0.0.1:1883"',
                    f"[schedule]\nfast_s = {self.village.fast_s}",
                    f"billing_s = {self.village.billing_s}",
                    f"[outbox]\nbytes_max = {self.village.outbox_kib * 1024}",
                    f"kept_bytes_max = {self.village.outbox_kib * 512}",
                    f'[commands]\nkey_file = "{key_file}"\nroots_file = "{roots_file}"',
                    '[status]\nlisten = ""',
                    f'[[line]]\nname = "line-1"\ndriver = "{_DRIVER}"',
                    *meters,
                ]
            )
        )
        return file

    def _fresh_nonce(self) -> str:
        self._nonces += 1
        name = f"{self.gateway_id} {self._nonces}"
        return encode_base64url(sha256(name.encode()).digest()[:NONCE_BYTES])


@dataclass(slots=True)
class HeadendMachine:
    """The operator's head-end."""

    disk: Disk
    clock: MachineClock
    link: Link
    keys: VillageKeys
    dice: random.Random
    witness: HeadendWitness
    store: HeadEndStore | None = None
    """While it is open."""
    uplink: Uplink | None = None
    well_since_s: float = 0.0
    """The world's second since which its program and its disk work."""
    program: Supervised = field(init=False)
    _ids: int = 0

    def __post_init__(self) -> None:
        self.program = Supervised("head-end", self._live, (StoreError,))

    @property
    def database(self) -> Path:
        return self.witness.database

    def boot(self) -> None:
        """Start it, with its program."""
        self.link.up = True
        self.well_since_s = asyncio.get_running_loop().time()
        self.program.start()

    async def kill(self) -> None:
        """End its program, whose disk is dead already."""
        self.witness.close()
        self.link.cut()
        self.link.up = False
        await self.program.kill()

    async def _live(self) -> None:
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(open_store(f"sqlite:///{self.database}"))
            downlink = Downlink(
                store,
                self.keys.signer(HES),
                self.keys.roots,
                clock=self.clock,
                new_id=self._new_id,
                poll_interval_s=LOOK_S,
            )
            self.uplink = Uplink(
                self.link,
                store,
                catalogue=shipped_catalogue(),
                clock=self.clock,
                broker_backoff=Backoff(self.dice.random),
                store_backoff=Backoff(self.dice.random),
                beside=downlink,
            )
            resending = Resending(
                store,
                clock=self.clock,
                new_id=self._new_id,
                can_command=True,
                look_interval_s=LOOK_S,
            )
            self.store = store
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self.uplink.run(), name="uplink")
                    group.create_task(downlink.run(), name="downlink")
                    group.create_task(resending.run(), name="resending")
            finally:
                self.store = self.uplink = None

    def _new_id(self, prefix: str) -> str:
        self._ids += 1
        return f"{prefix}-{self.program.lives}-{self._ids:012d}"
