"""What there is in a simulated village: machines, meters, broker, an attacker, and the witness who looks on.

Only sockets, clocks and disks are doubles, and each obeys its port's contract test (decision 0035). Nothing happens
by itself here but what the programs do; a village's days are `openami.simulator.world.story`.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from openami.headend.store import StoreError
from openami.headend.store.commands import HeadEndStore
from openami.mqtt.memory import INFLIGHT_MAX, MemoryBroker
from openami.mqtt.port import Delivery
from openami.profile import FeederId, GatewayId, MeterSerial, decode_envelope
from openami.simulator.disk import Disk
from openami.simulator.driver import MeterBench, SimulatedMeter
from openami.simulator.eavesdropper import Eavesdropper
from openami.simulator.network import Link, Tap
from openami.simulator.virtual_time import MachineClock, VirtualTimeLoop
from openami.simulator.world.bounds import GatewayBounds
from openami.simulator.world.keys import HES, VillageKeys
from openami.simulator.world.ledger import StoreReader, check_truth
from openami.simulator.world.machines import Door, GatewayMachine, HeadendMachine, Supervised
from openami.simulator.world.relays import EndsSeen, check_movements
from openami.simulator.world.scenario import VillageSettings
from openami.simulator.world.witness import Breach, CardWitness, HeadendWitness, PromiseBroken

EPOCH: Final = datetime(2026, 7, 1, tzinfo=UTC)
"""The world's second 0."""
FEEDER: Final = FeederId("feeder-sim-01")
# A virtual disk that syncs as fast as a good card; a transaction takes as long as its syncs.
SYNC_S: Final = 0.004
# A machine's tasks: a dozen loops, a window of publishes.
TASKS_PER_MACHINE_MAX: Final = 100
# Who asks for something asks again when the head-end is away.
ASK_AGAIN_S: Final = 60.0

T = TypeVar("T")


class World:
    """Everything there is in a village."""

    def __init__(self, village: VillageSettings, stack: ExitStack, *, seed: int) -> None:
        """``stack`` outlives the world: its disks are there until then."""
        self.village = village
        self.seed = seed
        self.breach: BaseException | None = None
        """What ended the world, if it did not end well."""
        self.stored = 0
        """Messages the witness has found whole in the store."""
        self._stack = stack
        self._disks: list[Disk] = []
        self._stopped = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.loop = VirtualTimeLoop(self._sync_cost_s)
        stack.callback(self.loop.close)
        self.broker = MemoryBroker()
        self.attacker = Eavesdropper(self.broker, self.dice("attacker"))
        self.meters: dict[str, SimulatedMeter] = {}
        ids = tuple(f"pole-{number:04d}" for number in range(1, self.village.gateways + 1))
        self.keys = VillageKeys(seed, FEEDER, ids)
        self.gateways = [self._made_gateway(GatewayId(id_)) for id_ in ids]
        self.cards = {gateway.card: CardWitness(gateway.card) for gateway in self.gateways}
        self.bounds: dict[str, GatewayBounds] = {
            gateway.gateway_id: GatewayBounds(gateway.gateway_id) for gateway in self.gateways
        }
        for gateway in self.gateways:
            gateway.door.tried = partial(self._on_tried, gateway.gateway_id)
        self.headend = self.made_headend()
        self._ends = EndsSeen()
        self._movements = 0

    def live(self, story: Callable[[], Coroutine[None, None, None]]) -> None:
        """Live until the story ends, or the first broken promise, which is then in ``breach``."""
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(self._live(story))
        finally:
            asyncio.set_event_loop(None)

    async def _live(self, story: Callable[[], Coroutine[None, None, None]]) -> None:
        async def told() -> None:
            await story()
            self._stop(None)

        self.begin("story", told)
        await self._stopped.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for gateway in self.gateways:
            await gateway.kill()
        await self.headend.kill()

    # --- making ----------------------------------------------------------------------------------

    def dice(self, name: str) -> random.Random:
        """Return somebody's own chances, so that one who throws more often changes nobody else's."""
        return random.Random(f"{name} {self.seed}")

    def made_disk(self) -> Disk:
        """Return a new disk, there until the world ends."""
        disk = self._stack.enter_context(Disk())
        disk.sync_delay_s = SYNC_S
        self._disks.append(disk)
        return disk

    def made_meter(self, serial: str, dice: random.Random) -> SimulatedMeter:
        """Return a new meter; some stand just below a million kilowatt-hours and roll over within days."""
        counter = 999_999_500_000 if dice.random() < 0.2 else dice.randrange(9 * 10**11)
        load = dice.randrange(20_000, 2_000_000)
        meter = SimulatedMeter(MeterSerial(serial), self.now_ms, load, counter)
        self.meters[serial] = meter
        return meter

    def made_link(self, client_id: str, tap: Tap | None = None) -> Link:
        """Return a way to the broker under this name."""
        return Link(self.broker.port(client_id), self.dice(client_id), tap=tap)

    def _made_gateway(self, gateway_id: GatewayId) -> GatewayMachine:
        dice = self.dice(gateway_id)
        serials = [f"M-{gateway_id[-4:]}-{n:03d}" for n in range(1, self.village.meters + 1)]
        bench = MeterBench({MeterSerial(s): self.made_meter(s, dice) for s in serials})
        tap = Tap(
            on_sent=partial(self._on_sent, gateway_id),
            on_published=partial(self._on_published, gateway_id),
        )
        return GatewayMachine(
            feeder_id=FEEDER,
            gateway_id=gateway_id,
            serials=serials,
            bench=bench,
            disk=self.made_disk(),
            clock=MachineClock(self.loop, EPOCH),
            door=Door(self.made_link(f"{FEEDER}/{gateway_id}", tap)),
            keys=self.keys,
            dice=dice,
            village=self.village,
        )

    def made_headend(self) -> HeadendMachine:
        """Return a head-end, with a witness of its own."""
        disk = self.made_disk()
        witness = HeadendWitness(disk.directory / "headend.db")
        return HeadendMachine(
            disk=disk,
            clock=MachineClock(self.loop, EPOCH),
            link=self.made_link(
                HES, Tap(on_acknowledged=partial(self._on_acknowledged, witness, disk))
            ),
            keys=self.keys,
            dice=self.dice(HES),
            witness=witness,
        )

    # --- time ------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """Return the true time, in milliseconds since 1970."""
        return int(EPOCH.timestamp()) * 1000 + int(self.loop.time() * 1000)

    def now(self) -> datetime:
        """Return the true time."""
        return EPOCH + timedelta(seconds=round(self.loop.time(), 6))

    async def sleep_until(self, second: float) -> None:
        """Sleep until this second of the world."""
        await asyncio.sleep(max(0.0, second - self.loop.time()))

    def _sync_cost_s(self) -> float:
        return sum(disk.take_cost_s() for disk in self._disks)

    # --- living ----------------------------------------------------------------------------------

    def begin(
        self, name: str, work: Callable[[], Coroutine[None, None, None]]
    ) -> asyncio.Task[None]:
        """Let somebody live beside the others; what they die of ends the world."""

        task = asyncio.create_task(work(), name=name)
        task.add_done_callback(self._ended)
        self._tasks = [each for each in self._tasks if not each.done()]
        self._tasks.append(task)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """A broken promise, or a bug of somebody's: told with the seed."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._stop(error)

    async def in_store(self, work: Callable[[HeadEndStore], Awaitable[T]]) -> T:
        """Ask the head-end's store, again and again while it is away."""
        while True:
            store = self.headend.store
            if store is not None:
                try:
                    return await work(store)
                except StoreError:
                    pass  # it is away: the disk is full, or the machine was just killed
            await asyncio.sleep(ASK_AGAIN_S)

    def _stop(self, error: BaseException | None) -> None:
        self.breach = self.breach or error
        self._stopped.set()

    # --- what the witness sees -------------------------------------------------------------------

    def _on_tried(self, gateway_id: str) -> None:
        try:
            self.bounds[gateway_id].attempted(self.loop.time())
        except Breach as breach:
            self._stop(breach)

    def _on_sent(self, gateway_id: str, _: str, topic: str, payload: bytes) -> None:
        if "/session/" not in topic:
            return
        try:
            self.bounds[gateway_id].acted(self.loop.time())
        except Breach as breach:
            self._stop(breach)

    def _on_published(self, gateway_id: str, _: str, topic: str, payload: bytes) -> None:
        if "/session/" in topic or self._stopped.is_set():
            return
        envelope = decode_envelope(payload)
        card = next(each.card for each in self.gateways if each.gateway_id == gateway_id)
        if envelope.seq is None:  # a report told once more, beside the outbox
            return
        try:
            if self.cards[card].acknowledged(envelope.seq, payload):
                check_truth(envelope, self.meters)
        except Breach as breach:
            self._stop(breach)

    def _on_acknowledged(
        self, witness: HeadendWitness, disk: Disk, _: str, deliveries: Sequence[Delivery]
    ) -> None:
        try:
            witness.on_acknowledged(deliveries, disk.unsynced)
        except Breach as breach:
            self._stop(breach)

    def look_around(self) -> None:
        """Hold every card, the store and every bound against what was seen. Raises Breach."""
        for gateway in self.gateways:
            self.look_at(gateway)
        self._check_bounds()
        self._look_at_commands()
        self.stored += StoreReader(self.headend.database).settle(self.cards.values())

    def look_at(self, gateway: GatewayMachine) -> None:
        """Hold a card against what it was seen to have; nothing, while its program is not running."""
        if gateway.program.running and not gateway.disk.dead:
            self.cards[gateway.card].look(gateway.database)

    def _look_at_commands(self) -> None:
        headend = self.headend
        if sum(len(meter.movements) for meter in self.meters.values()) > self._movements:
            self._movements = check_movements(headend.database, self.meters)
        if headend.program.running and not headend.disk.failing and headend.store is not None:
            well_since_ms = self.now_ms() - int((self.loop.time() - headend.well_since_s) * 1000)
            self._ends.look(headend.database, self.now_ms(), well_since_ms=well_since_ms)

    def _check_bounds(self) -> None:
        """Promise 6: what could grow has its bound. And no program has died of a bug."""
        programs: list[Supervised] = [self.headend.program, *(g.program for g in self.gateways)]
        for program in programs:
            if (fault := program.bug()) is not None:
                raise fault
        tasks = len(asyncio.all_tasks())
        if tasks > len(programs) * TASKS_PER_MACHINE_MAX + len(self._tasks):
            raise PromiseBroken(6, f"{tasks} tasks on {len(programs)} machines")
        for gateway in self.gateways:
            bytes_max = self.village.outbox_kib * 1024
            self.cards[gateway.card].check_bound(bytes_max)
            self.bounds[gateway.gateway_id].check_files(
                gateway.database, outbox_bytes_max=bytes_max
            )
            if (held := self.broker.unacknowledged(gateway.door.client_id)) > INFLIGHT_MAX:
                raise PromiseBroken(6, f"{gateway.card} leaves {held} messages unacknowledged")
