"""How each fault is brought about in a world, and how everything is mended in the end."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final, assert_never

from openami.mqtt.port import TransportError
from openami.profile import MeterSerial
from openami.simulator.driver import SimulatedMeter
from openami.simulator.eavesdropper import Forgery, Recording
from openami.simulator.forged_order import forged_order
from openami.simulator.network import NO_FAULTS, LinkFaults
from openami.simulator.world import faults as f
from openami.simulator.world.machines import GatewayMachine, HeadendMachine
from openami.simulator.world.witness import CardWitness
from openami.simulator.world.world import World

# After a start the program has opened its file within seconds; then the card is held against what it had.
LOOK_AFTER_START_S: Final = 30.0
# A power cut at a write that never comes is disarmed: the gateway was quiet.
ARMED_S_MAX: Final = 6 * 3600.0
ARMED_LOOK_S: Final = 0.5
# While it is carried out, after its report, at the end of its life, after its nonce's.
ECHOED_AFTER_S: Final = (0.0, 0.003, 2.0, 60.0, 280.0, 900.0)
# A person who set a clock wrong is corrected by the time source when it is next heard.
CLOCK_CORRECTED_AFTER_S: Final = 3600.0
# A crystal without temperature compensation.
USUAL_DRIFT_PPM: Final = 20.0
# A new card is a trip to the pole.
NEW_CARD_AFTER_S: Final = 1800.0
# A clone that is thrown out comes again after so long, and holds the connection as long.
CLONE_S: Final = 20.0
_TAKEN_MAX = 20

_REPLAYS: Final = (
    ("telemetry", Forgery.REPLAY),
    ("event", Forgery.REPLAY),
    ("command", Forgery.REPLAY),
    ("command", Forgery.RETAINED),
    ("session", Forgery.REPLAY),
    ("session", Forgery.RETAINED),
)
# Readings carry no signature (docs/threat-model.md): who has the broker can write some. Orders do.
_FORGERIES: Final = tuple(
    (kind, forgery)
    for kind in ("command", "session")
    for forgery in (Forgery.BYTE_FLIPPED, Forgery.TOPIC_SWAPPED, Forgery.SESSION_SWAPPED)
)


class Trouble:
    """The hand that breaks things."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._dice = world.dice("trouble")
        self._swapped = 0

    async def happen(self, fault: f.Fault) -> None:
        """Let a fault happen; return when it is over."""
        world = self._world
        match fault:
            case f.UplinkDown():
                await self._barred(self._gateway(fault.gateway), fault.for_h)
            case f.RadioLoss():
                await self._radio_loss(fault)
            case f.BrokerRestart():
                world.broker.stop()
                await _hours(fault.for_h)
                world.broker.start()
            case f.BrokerCrash():
                await self._broker_crash(fault)
            case f.PowerCut():
                await self._power_cut(self._gateway(fault.gateway), fault)
            case f.PowerCutAtWrite():
                await self._power_cut_at_write(self._gateway(fault.gateway), fault)
            case f.PowerCutAtOrder():
                await self._power_cut_at_order(self._gateway(fault.gateway), fault.write)
            case f.GatewayKilled():
                await self._gateway_killed(self._gateway(fault.gateway))
            case f.HeadendKilled():
                await self._headend_away(fault.for_h, powerless=False)
            case f.HeadendPowerCut():
                await self._headend_away(fault.for_h, powerless=True)
            case f.SecondHeadend():
                await self._second_headend(fault.for_h)
            case f.CardStolen():
                await self._card_stolen(self._gateway(fault.gateway))
            case f.ClonedCard():
                await self._cloned_card(self._gateway(fault.gateway), fault.for_h)
            case f.CertificateExpired():
                door = self._gateway(fault.gateway).door
                door.expired = True
                await _hours(fault.for_h)
                door.expired = False
            case f.Replayed():
                self._attack(_REPLAYS, fault.messages)
            case f.Echoed():
                await self._echoed(fault.for_h)
            case f.Forged():
                self._attack(_FORGERIES, fault.messages)
                self._forge_order()
            case f.DatabaseDown() | f.DiskFull() | f.DiskSlow():
                await self._disk(fault)
            case f.ClockJump() | f.ClockLost():
                await self._clock(fault)
            case f.MeterDead() | f.MeterLate() | f.MeterStuck() | f.MeterSwapped() | f.LineCut():
                await self._meter(fault)
            case _:
                assert_never(fault)

    async def mend_everything(self) -> None:
        """Let everything work again: what is lost after this, nobody's fault excuses."""
        world = self._world
        world.broker.start()
        for gateway in world.gateways:
            gateway.door.link.faults = NO_FAULTS
            gateway.disk.cut_after_writes = None
            if not gateway.program.running:
                gateway.boot(None, drift_ppm=0.0)
            gateway.clock.follow()
        if not world.headend.program.running:
            world.headend.boot()
        await asyncio.sleep(LOOK_AFTER_START_S)

    # --- whom it happens to ----------------------------------------------------------------------

    def _gateway(self, number: int) -> GatewayMachine:
        gateways = self._world.gateways
        return gateways[number % len(gateways)]

    def _meter_of(self, gateway: GatewayMachine, number: int) -> SimulatedMeter:
        return gateway.bench.meters[MeterSerial(gateway.serials[number % len(gateway.serials)])]

    # --- the way to the broker -------------------------------------------------------------------

    async def _barred(self, gateway: GatewayMachine, hours: float) -> None:
        gateway.bar()
        await _hours(hours)
        gateway.unbar()

    async def _radio_loss(self, fault: f.RadioLoss) -> None:
        link = self._gateway(fault.gateway).door.link
        link.faults = LinkFaults(
            latency_s=fault.latency_s,
            jitter_s=fault.latency_s / 2,
            lost_before=fault.breaks / 3,
            lost_after=fault.breaks / 3,
            acknowledgements_lost=fault.breaks / 3,
            duplicated=fault.duplicates,
            reordered=0.1 if fault.reorders else 0.0,
        )
        await _hours(fault.for_h)
        link.faults = NO_FAULTS

    async def _cloned_card(self, gateway: GatewayMachine, hours: float) -> None:
        link = self._world.made_link(gateway.door.client_id)
        until_s = self._world.loop.time() + hours * 3600
        while self._world.loop.time() < until_s:
            with suppress(TransportError, TimeoutError):
                async with link.connect() as connection, asyncio.timeout(CLONE_S):
                    while True:
                        await connection.receive(_TAKEN_MAX)
            await asyncio.sleep(CLONE_S)

    async def _broker_crash(self, fault: f.BrokerCrash) -> None:
        broker, headend = self._world.broker, self._world.headend
        broker.save()
        if fault.headend_away and headend.program.running:
            await self._end(headend, powerless=False)
        await asyncio.sleep(fault.lost_tail_s)
        broker.crash()
        broker.start()
        if fault.headend_away and not headend.program.running:
            headend.boot()

    def _attack(self, ways: Sequence[tuple[str, Forgery]], messages: int) -> None:
        for _ in range(messages):
            self._world.attacker.attack(*self._dice.choice(ways))

    async def _echoed(self, hours: float) -> None:
        """Each command once more at each of these times, some of them while it is being carried out."""
        attacker, loop = self._world.attacker, self._world.loop

        def heard(command: Recording) -> None:
            for after_s in ECHOED_AFTER_S:
                loop.call_later(after_s, attacker.inject, command.topic, command.payload)

        attacker.overhear("command", heard)
        await _hours(hours)
        attacker.overhear("command", None)

    def _forge_order(self) -> None:
        attacker = self._world.attacker
        order = forged_order(
            attacker.recordings("command"),
            attacker.recordings("session"),
            self._world.keys.signer("attacker"),
            self._world.now(),
        )
        if order is not None:
            topic, payload = order
            attacker.inject(str(topic), payload)

    # --- gateways --------------------------------------------------------------------------------

    async def _power_cut(self, gateway: GatewayMachine, fault: f.PowerCut) -> None:
        if not gateway.program.running:
            return
        self._world.look_at(gateway)
        stopped_at = gateway.clock.now()
        gateway.disk.power_cut(self._dice)
        await gateway.kill()
        await _hours(fault.for_h)
        await self._start(
            gateway,
            gateway.wall_after(fault.wall_after, stopped_at),
            drift_ppm=fault.drift_ppm,
            no_time_h=fault.no_time_h,
        )

    async def _start(
        self,
        gateway: GatewayMachine,
        wall: datetime | None = None,
        *,
        drift_ppm: float = USUAL_DRIFT_PPM,
        no_time_h: float = 0.0,
    ) -> None:
        """Start a gateway that is off; without ``wall`` a battery kept the time."""
        if gateway.program.running:
            return
        gateway.boot(wall, drift_ppm=drift_ppm)
        await asyncio.sleep(LOOK_AFTER_START_S)
        self._world.look_at(gateway)
        await _hours(no_time_h)
        if gateway.program.running:
            gateway.clock.follow()

    async def _power_cut_at_write(self, gateway: GatewayMachine, fault: f.PowerCutAtWrite) -> None:
        if not gateway.program.running:
            return
        self._world.look_at(gateway)
        gateway.disk.cut_after_writes = fault.write
        for _ in range(int(ARMED_S_MAX / ARMED_LOOK_S)):
            await asyncio.sleep(ARMED_LOOK_S)
            if gateway.disk.dead or not gateway.program.running:
                break
        await self._cut_if_dead(gateway)

    async def _power_cut_at_order(self, gateway: GatewayMachine, write: int) -> None:
        """Arm the next order: what the gateway writes after it is what the power fails at."""
        meters = [gateway.bench.meters[MeterSerial(serial)] for serial in gateway.serials]

        ordered = asyncio.Event()

        def armed() -> None:
            gateway.disk.cut_after_writes = write
            ordered.set()

        for meter in meters:
            meter.ordered = armed
        with suppress(TimeoutError):
            async with asyncio.timeout(ARMED_S_MAX):
                await ordered.wait()
        for meter in meters:
            meter.ordered = None
        await asyncio.sleep(ARMED_LOOK_S)
        await self._cut_if_dead(gateway)
        for order in self._world.attacker.recordings("command")[-1:]:
            self._world.attacker.inject(order.topic, order.payload)

    async def _cut_if_dead(self, gateway: GatewayMachine) -> None:
        gateway.disk.cut_after_writes = None
        if gateway.disk.dead and gateway.program.running:
            gateway.disk.power_cut(self._dice)
            await gateway.kill()
            await self._start(gateway)

    async def _gateway_killed(self, gateway: GatewayMachine) -> None:
        if not gateway.program.running:
            return
        self._world.look_at(gateway)
        gateway.disk.process_killed()
        await gateway.kill()
        gateway.restart()
        await asyncio.sleep(LOOK_AFTER_START_S)
        self._world.look_at(gateway)

    async def _card_stolen(self, gateway: GatewayMachine) -> None:
        if not gateway.program.running:
            return
        self._world.look_at(gateway)
        gateway.disk.power_cut(self._dice)
        await gateway.kill()
        gateway.renew_card()
        self._world.cards[gateway.card] = CardWitness(gateway.card)
        await asyncio.sleep(NEW_CARD_AFTER_S)
        await self._start(gateway)

    # --- the head-end ----------------------------------------------------------------------------

    async def _headend_away(self, hours: float, *, powerless: bool) -> None:
        headend = self._world.headend
        if not headend.program.running:
            return
        await self._end(headend, powerless=powerless)
        await _hours(hours)
        if not headend.program.running:
            headend.boot()

    async def _end(self, headend: HeadendMachine, *, powerless: bool) -> None:
        headend.witness.close()
        if powerless:
            headend.disk.power_cut(self._dice)
        else:
            headend.disk.process_killed()
        await headend.kill()

    async def _second_headend(self, hours: float) -> None:
        second = self._world.made_headend()
        second.boot()
        await _hours(hours)
        await self._end(second, powerless=False)

    # --- disks, clocks, meters -------------------------------------------------------------------

    async def _disk(self, fault: f.DatabaseDown | f.DiskFull | f.DiskSlow) -> None:
        match fault:
            case f.DatabaseDown():
                headend = self._world.headend
                headend.disk.failing = True
                await _hours(fault.for_h)
                headend.disk.failing = False
                headend.well_since_s = self._world.loop.time()
            case f.DiskFull():
                disk = self._gateway(fault.gateway).disk
                disk.bytes_free = 0
                await _hours(fault.for_h)
                disk.bytes_free = None
            case f.DiskSlow():
                disk = self._gateway(fault.gateway).disk
                usual_s, disk.sync_delay_s = disk.sync_delay_s, fault.sync_s
                await _hours(fault.for_h)
                disk.sync_delay_s = min(usual_s, disk.sync_delay_s)

    async def _clock(self, fault: f.ClockJump | f.ClockLost) -> None:
        gateway = self._gateway(fault.gateway)
        clock = gateway.clock
        clock.lose_source()
        if isinstance(fault, f.ClockJump):
            clock.jump(timedelta(seconds=fault.by_s))
            await asyncio.sleep(CLOCK_CORRECTED_AFTER_S)
        else:
            clock.drift(fault.drift_ppm)
            await _hours(fault.for_h)
        if gateway.program.running:
            clock.follow()

    async def _meter(
        self, fault: f.MeterDead | f.MeterLate | f.MeterStuck | f.MeterSwapped | f.LineCut
    ) -> None:
        gateway = self._gateway(fault.gateway)
        if isinstance(fault, f.LineCut):
            gateway.bench.down.add("line-1")
            await _hours(fault.for_h)
            gateway.bench.down.discard("line-1")
            return
        meter = self._meter_of(gateway, fault.meter)
        match fault:
            case f.MeterDead():
                meter.silent = True
            case f.MeterLate():
                meter.delay_s = fault.delay_s
            case f.MeterStuck():
                meter.stuck, meter.answer_lost = not fault.answer_lost, fault.answer_lost
            case f.MeterSwapped():
                if meter.answers_as is None:
                    await self._swap(gateway, meter, fault.for_h)
                return
        await _hours(fault.for_h)
        meter.silent, meter.delay_s, meter.stuck, meter.answer_lost = False, 0.0, False, False

    async def _swap(self, gateway: GatewayMachine, old: SimulatedMeter, hours: float) -> None:
        """Another meter answers at the address; after a while somebody corrects the configuration."""
        self._swapped += 1
        new = self._world.made_meter(f"{old.serial[:10]}-{self._swapped}", self._dice)
        old.answers_as = new.serial
        await _hours(hours)
        gateway.bench.meters[new.serial] = new
        gateway.serials[gateway.serials.index(old.serial)] = new.serial
        await self._gateway_killed(gateway)


async def _hours(hours: float) -> None:
    await asyncio.sleep(hours * 3600)
