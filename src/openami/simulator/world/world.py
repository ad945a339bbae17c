"""The simulated world: real gateways and a real head-end in one process, on virtual time; one seed, one history.

Only sockets, clocks and disks are doubles, and each obeys its port's contract test (decision 0035). Faults happen at
their moments, people ask for relays to be moved, an attacker has the broker; a witness looks on and stops the world at
the first broken promise. When the story is over, everything is mended and the village is given time to tell what it
still has to tell; then the ledger is drawn.

    history = simulate(load_scenario("monsoon-week"), seed=7)
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from openami.headend.commands import LedgerCommand
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
from openami.simulator.world.faults import Fault, dice_faults, ends_at_h, kind_of
from openami.simulator.world.keys import HES, VillageKeys
from openami.simulator.world.ledger import Ledger, StoreReader, check_truth
from openami.simulator.world.machines import Door, GatewayMachine, HeadendMachine, Supervised
from openami.simulator.world.relays import check_relays
from openami.simulator.world.scenario import Scenario
from openami.simulator.world.trouble import Trouble
from openami.simulator.world.witness import Breach, CardWitness, HeadendWitness, PromiseBroken
from openami.sip.actions import Action

EPOCH: Final = datetime(2026, 7, 1, tzinfo=UTC)
"""The world's second 0."""
FEEDER: Final = FeederId("feeder-sim-01")
# A virtual disk that syncs as fast as a good card; a transaction takes as long as its syncs.
SYNC_S: Final = 0.004
# The witness looks at every card so often, so that thinning cannot take what nobody has seen.
LOOK_EVERY_S: Final = 3600.0
# After the story. A day's backlog of fifty meters is told in an hour; what has to be asked for takes some rounds of asking.
MENDED_S_MAX: Final = 5 * 86_400.0
MENDED_LOOK_S: Final = 900.0
# A machine's tasks: a dozen loops, a window of publishes.
TASKS_PER_MACHINE_MAX: Final = 100
# Keyrings are signed anew every month (sip.keyring_draft.LIFE is three).
KEYRING_EVERY_S: Final = 30 * 86_400.0
# Who asks for something asks again when the head-end is away.
ASK_AGAIN_S: Final = 60.0
_COMMAND_LIFE: Final = timedelta(minutes=10)

T = TypeVar("T")


@dataclass(slots=True)
class History:
    """How a world ended: its ledger, or the breach that stopped it and when."""

    seed: int
    ledger: Ledger = field(default_factory=Ledger)
    breach: BaseException | None = None
    lived_s: float = 0.0
    """Virtual seconds, the mended time after the story among them."""
    happened: dict[str, int] = field(default_factory=dict)
    """How often each kind of fault began."""


def simulate(scenario: Scenario, *, seed: int, days: float | None = None) -> History:
    """Live through a scenario and return its history. The same arguments, the same history."""
    days = scenario.days if days is None else days
    faults = scenario.fault or dice_faults(seed, days)
    with ExitStack() as stack:
        return World(scenario, stack, seed=seed, days=days, faults=faults).live()


class World:
    """Everything there is in a village. What breaks it is `openami.simulator.world.trouble`."""

    def __init__(
        self,
        scenario: Scenario,
        stack: ExitStack,
        *,
        seed: int,
        days: float,
        faults: Sequence[Fault],
    ) -> None:
        self.village = scenario.village
        self.history = History(seed)
        self.breach: BaseException | None = None
        self._days = days
        self._faults = faults
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
        self.headend = self.made_headend()

    def live(self) -> History:
        """Live the story to its end, or to the first broken promise."""
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(self._live())
        finally:
            self.history.breach = self.breach
            self.history.lived_s = self.loop.time()
            asyncio.set_event_loop(None)
        return self.history

    # --- making ----------------------------------------------------------------------------------

    def dice(self, name: str) -> random.Random:
        """Return somebody's own chances, so that one who throws more often changes nobody else's."""
        return random.Random(f"{name} {self.history.seed}")

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
        tap = Tap(on_published=partial(self._on_published, gateway_id))
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

    async def _live(self) -> None:
        self._begin("story", self._story)
        await self._stopped.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for gateway in self.gateways:
            await gateway.kill()
        await self.headend.kill()

    def _begin(self, name: str, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Let somebody live beside the others; what they die of ends the world."""

        async def guarded() -> None:
            try:
                await work()
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # a broken promise, or a bug: told with the seed
                self._stop(error)

        task = asyncio.create_task(guarded(), name=name)
        self._tasks = [each for each in self._tasks if not each.done()]
        self._tasks.append(task)
        return task

    def _stop(self, error: BaseException | None) -> None:
        self.breach = self.breach or error
        self._stopped.set()

    async def _story(self) -> None:
        self.headend.boot()
        dice = self.dice("crystals")
        for gateway in self.gateways:
            gateway.boot(None, drift_ppm=dice.uniform(-20, 20))
            gateway.clock.follow()
        self._begin("keyrings", self._keyrings)
        self._begin("looks", self._looks)
        people = self._begin("people", self._people)
        trouble = Trouble(self)
        troubles = []
        for fault in self._faults:
            await self.sleep_until(fault.at_h * 3600)
            kind = kind_of(fault)
            self.history.happened[kind] = self.history.happened.get(kind, 0) + 1
            troubles.append(self._begin(str(fault), partial(trouble.happen, fault)))
        await self.sleep_until(self._days * 86_400)
        people.cancel()
        await self.sleep_until(3600 * max(map(ends_at_h, self._faults), default=0.0))
        await asyncio.gather(*troubles)
        await trouble.mend_everything()
        await self._tell_all()
        self._draw_ledger()
        self._stop(None)

    async def _tell_all(self) -> None:
        """Give the village time to tell what it has, until nothing is missing or no more will come."""
        until_s = self.loop.time() + MENDED_S_MAX
        while self.loop.time() < until_s:
            await asyncio.sleep(MENDED_LOOK_S)
            self._look_around()
            waiting = sum(len(self.cards[gateway.card].unsettled) for gateway in self.gateways)
            if not waiting and not self.broker.owed(HES) and not await self._open_commands():
                return

    async def _open_commands(self) -> bool:
        return bool(await self.in_store(lambda store: store.commands(only_open=True, at_most=1)))

    # --- what the witness sees -------------------------------------------------------------------

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

    async def _looks(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self._look_around()

    def _look_around(self) -> None:
        for gateway in self.gateways:
            self.look_at(gateway)
        self._check_bounds()
        self.history.ledger.stored += StoreReader(self.headend.database).settle(self.cards.values())

    def look_at(self, gateway: GatewayMachine) -> None:
        """Hold a card against what it was seen to have; nothing, while its program is not running."""
        if gateway.program.running:
            self.cards[gateway.card].look(gateway.database)

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
            self.cards[gateway.card].check_bound(self.village.outbox_kib * 1024)
            if (held := self.broker.unacknowledged(gateway.door.client_id)) > INFLIGHT_MAX:
                raise PromiseBroken(6, f"{gateway.card} leaves {held} messages unacknowledged")

    def _draw_ledger(self) -> None:
        ledger = self.history.ledger
        now = {gateway.card for gateway in self.gateways}
        ledger.lost = sum(len(c.unsettled) for name, c in self.cards.items() if name in now)
        ledger.gone_with_card = sum(
            len(c.unsettled) for name, c in self.cards.items() if name not in now
        )
        ledger.thinned = sum(card.thinned for card in self.cards.values())
        ledger.expected = ledger.stored + ledger.thinned + ledger.gone_with_card + ledger.lost
        seen = sum(card.messages for card in self.cards.values())
        unseen = sum(card.thinned - card.thinned_seen for card in self.cards.values())
        assert ledger.expected == seen + unseen, "each message is counted once"
        StoreReader(self.headend.database).count(ledger)
        ledger.commands, ledger.movements = check_relays(
            self.headend.database, self.meters, now_ms=self.now_ms()
        )
        if ledger.lost:
            missing = {n: sorted(c.unsettled)[:3] for n, c in self.cards.items() if c.unsettled}
            raise PromiseBroken(2, f"{ledger.lost} messages are lost: {missing}")

    # --- people ----------------------------------------------------------------------------------

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

    async def _keyrings(self) -> None:
        while True:
            keyring, entry = self.keys.next_keyring(self.now())
            await self.in_store(lambda store: store.add_keyring(keyring, entry))  # noqa: B023
            await asyncio.sleep(KEYRING_EVERY_S)

    async def _people(self) -> None:
        """Cut somebody off, give somebody the light back, all day."""
        dice, number = self.dice("people"), 0
        while self.village.commands_per_day:
            await asyncio.sleep(dice.expovariate(self.village.commands_per_day / 86_400))
            number += 1
            gateway, now = dice.choice(self.gateways), self.now()
            new = LedgerCommand(
                id=f"cmd-{number}",
                idempotency_key=f"key-{number}",
                feeder_id=FEEDER,
                gateway_id=gateway.gateway_id,
                meter_serial=dice.choice(gateway.serials),
                action=dice.choice((Action.DISCONNECT, Action.RECONNECT)),
                requested_by="people",
                reason="simulated",
                requested_at=now,
                not_after=(now + _COMMAND_LIFE).replace(microsecond=0),
                due_at=now,
            )
            verdict = await self.in_store(lambda store: store.request_command(new, now))  # noqa: B023
            assert verdict is not None
