"""The demo: meters, gateway, broker and head-end on this machine, and an account at the end.

Gateway and head-end are the real programs in processes of their own, and the meters are Modbus servers, so
a reading walks the whole way: Modbus TCP → gateway → outbox → MQTT → head-end → store. The order matters
twice. The head-end subscribes before the gateway publishes, because a broker keeps nothing for who
has never come. And it ends last, because what was published must still arrive.
"""

import asyncio
import contextlib
import dataclasses
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from openami.clock import Clock
from openami.headend.store import Access, Reading, Store, Tally
from openami.headend.store.open import open_store
from openami.mqtt.client import MqttPort
from openami.mqtt.embedded import embedded_broker, find_mosquitto
from openami.mqtt.settings import BrokerSettings
from openami.profile import FeederId, GatewayId, MeterSerial
from openami.simulator.audit import Account, account, everything_arrived, traffic
from openami.simulator.config_files import gateway_toml, headend_toml
from openami.simulator.entrance import Entrance, free_address, let_in, shut_out
from openami.simulator.faults import Silent
from openami.simulator.lines import VillageLine, village_lines
from openami.simulator.orders import Orders, house_to_cut_off
from openami.simulator.plan import VillagePlan, epoch_ms
from openami.simulator.programs import PartFailed, Program
from openami.simulator.scenario import (
    Scene,
    Turn,
    story,
    story_length_s,
    village_tonight,
    with_credit_ending,
)
from openami.simulator.security import INTRUDER, DemoVillage, demo_village
from openami.simulator.view import Picture, clock_text, relay_changes
from openami.simulator.village import Village
from openami.simulator.village_assets import tell_assets
from openami.simulator.yesterday import tell_past

# A Python program on a slow, busy machine: imports, schema, subscription.
START_S_MAX = 30.0
# What has been published arrives within a second or two; a head-end that has to be started again needs
# its start besides.
SETTLE_S_MAX = 20.0
# A person reads no faster, and each look costs a query for each meter.
LOOK_EVERY_S = 1.0
# How often a start or an end is looked for.
_GLANCE_EVERY_S = 0.1
# The story is told from the first reading on, about so long after the village came to life.
_GATEWAY_START_MS = 1000
# A broker of somebody else's keeps nothing of the demo for longer than an hour.
_SESSION_EXPIRY_DAYS = 0.04
# Instants are aligned to the clock, so a first poll may carry the time just before the beginning.
_SINCE_MARGIN = timedelta(minutes=1)
# The latest turns of the story, for the view.
_NEWS_KEPT = 20

GATEWAY_ID = GatewayId("demo-gateway")
_OUTBOX_FILE = "gateway.db"
# What the head-end says when the broker delivers to it for the first time.
_HEADEND_READY = "ready: "
_NAMES = {"gateway": "gateway", "headend": "head-end"}

# The head-end survives its kill once; after that somebody is looking at its console.
_TOLD_ONCE = (Turn.HEADEND_DIES, Turn.HEADEND_RETURNS)
_COMMAND_TURNS = (Turn.HOUSE_CUT_OFF, Turn.HOUSE_RECONNECTED, Turn.COMMAND_REPLAYED)

Show = Callable[[Picture], None]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    """What a demo is asked for. Without ``duration_s`` it runs until it is stopped; without ``broker`` and
    ``store_url`` it has its own, which are gone afterwards."""

    meters: int
    seed: int
    duration_s: float | None
    broker: BrokerSettings | None = None
    store_url: str | None = None


@dataclass(slots=True)
class _Stage:
    """The parts of a running demo."""

    settings: DemoSettings
    clock: Clock
    begun: datetime
    feeder_id: FeederId
    plan: VillagePlan
    lines: tuple[VillageLine, ...]
    broker: str
    headend: Program
    gateway: Program
    outbox: Path
    store: Store
    before: Tally
    orders: Orders | None = None
    entrance: Entrance | None = None
    headend_wanted: bool = True
    news: list[str] = field(default_factory=list)
    latest: Mapping[MeterSerial, Sequence[Reading]] = field(default_factory=dict)

    def check(self) -> None:
        """Raise PartFailed if a part has ended that should be there."""
        self.gateway.check()
        if self.headend_wanted:
            self.headend.check()


async def run_demo(
    settings: DemoSettings,
    *,
    clock: Clock,
    show: Show,
    tell: Tell,
    stop: asyncio.Event,
    hurry: asyncio.Event,
) -> Account | None:
    """Run a demo and return its account; None when it was stopped before all parts were up.

    ``show`` is given a picture every second, ``tell`` each turn of the story. ``stop`` ends the demo early
    and in good order; ``hurry`` ends the wait for what is still on its way as well. Raises PartFailed,
    TransportError when the broker lets nobody in or none can be started, and StoreError.
    """
    async with AsyncExitStack() as parts:
        stage = await _unless(stop, _set_up(settings, clock, parts))
        if stage is None:
            return None
        up_s = (clock.now() - stage.begun).total_seconds()
        tell(
            f"up after {up_s:.1f} s, with readings in the store: {stage.plan.meters} meters, "
            f"a gateway, {stage.broker}, a head-end"
        )
        if stage.entrance is not None:
            for line in stage.entrance.lines:
                tell(line)
        await _play(stage, show, tell, stop)
        tell("ending: the gateway first, then the head-end, when it has taken what was sent")
        await stage.gateway.stop()
        if not stage.headend_wanted:
            await _start_headend(stage)
        return await _settled(stage, hurry)


async def _unless(stop: asyncio.Event, setting_up: Awaitable[_Stage]) -> _Stage | None:
    """Return the stage, or None when we are stopped first."""
    task = asyncio.ensure_future(setting_up)
    stopped = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, stopped):
            each.cancel()
        await asyncio.gather(task, stopped, return_exceptions=True)


# --- setting up ----------------------------------------------------------------------------------


async def _set_up(settings: DemoSettings, clock: Clock, parts: AsyncExitStack) -> _Stage:
    """Start every part in its order; ``parts`` ends them in the other and leaves nothing behind."""
    begun = clock.now()
    feeder_id = FeederId(f"demo-{begun:%Y%m%dT%H%M%S}")
    directory = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="openami-demo-")))
    broker = await _broker(settings, feeder_id, directory, clock, parts)
    store_url = settings.store_url or f"sqlite:///{directory / 'headend.db'}"
    address = free_address()
    headend, store = await _headend(store_url, address, broker, directory, parts)
    if broker.village is not None:
        await broker.village.hand_over_keyring(store_url, now=clock.now())
    evening = clock.now()
    plan = with_credit_ending(
        village_tonight(meters=settings.meters, seed=settings.seed, now=evening),
        story_length_s(settings.duration_s),
        begins_ms=epoch_ms(evening) + _GATEWAY_START_MS,
    )
    await tell_assets(store_url, plan, feeder_id, now=evening)
    await tell_past(store_url, plan, feeder_id, GATEWAY_ID, begun=evening)
    village = Village(plan)
    lines = village_lines(village, clock)
    house = house_to_cut_off(plan)
    orders = None
    if house is not None and broker.intruder is not None:
        orders = Orders(store_url, feeder_id, GATEWAY_ID, house, village, broker.intruder, clock)
    stage = _Stage(
        settings=settings,
        clock=clock,
        begun=begun,
        feeder_id=feeder_id,
        plan=plan,
        lines=lines,
        broker=broker.name,
        headend=headend,
        gateway=_program("gateway", directory),
        outbox=directory / "gateway" / _OUTBOX_FILE,
        store=store,
        before=await store.totals(),
        orders=orders,
    )
    await _start_gateway(stage, broker, directory, parts)
    stage.entrance = await let_in(store_url, address, now=clock.now())
    if settings.store_url is not None:
        parts.push_async_callback(shut_out, store_url, now=clock.now())
    return stage


@dataclass(frozen=True, slots=True)
class _Broker:
    """How each side reaches the broker, its name for a person, and the village's keys where it has any."""

    headend: BrokerSettings
    gateway: BrokerSettings
    name: str
    village: DemoVillage | None = None
    intruder: BrokerSettings | None = None


async def _broker(
    settings: DemoSettings,
    feeder_id: FeederId,
    directory: Path,
    clock: Clock,
    parts: AsyncExitStack,
) -> _Broker:
    """Find the broker that was named, or start one: with certificates and access rules where it can."""
    if settings.broker is not None:
        await _knock(settings.broker)
        given = msgspec.structs.replace(settings.broker, session_expiry_days=_SESSION_EXPIRY_DAYS)
        return _two_names(given, feeder_id, str(given.endpoint))
    if find_mosquitto() is None:
        own = await parts.enter_async_context(embedded_broker())
        plain = BrokerSettings(url=own.url, protocol=own.protocol)
        village = demo_village(directory, feeder_id, GATEWAY_ID, now=clock.now())
        name = f"{own.program} on {own.url}, without TLS (mosquitto would ask for certificates)"
        intruder = msgspec.structs.replace(plain, client_id=INTRUDER, session_expiry_days=0)
        return dataclasses.replace(
            _two_names(plain, feeder_id, name), village=village, intruder=intruder
        )
    # A tenth of a second, in which nothing else runs yet; in a thread it could outlive its directory.
    village = demo_village(directory, feeder_id, GATEWAY_ID, now=clock.now())
    own = await parts.enter_async_context(
        embedded_broker(("mosquitto",), tls_files=village.broker_files)
    )
    return _Broker(
        headend=village.headend_settings(own.url),
        gateway=village.gateway_settings(own.url),
        name=f"{own.program} on {own.url}",
        village=village,
        intruder=village.intruder_settings(own.url, now=clock.now()),
    )


def _two_names(broker: BrokerSettings, feeder_id: FeederId, name: str) -> _Broker:
    """Two clients of one broker are told apart by their names, where no certificate does it."""
    return _Broker(
        headend=msgspec.structs.replace(broker, client_id=f"{feeder_id}-headend"),
        gateway=msgspec.structs.replace(broker, client_id=f"{feeder_id}-gateway"),
        name=name,
    )


async def _knock(broker: BrokerSettings) -> None:
    """Connect once and leave: the programs would wait for a broker that is down, a person would not."""
    visitor = msgspec.structs.replace(
        broker, client_id=f"demo-{uuid.uuid4().hex}", session_expiry_days=0
    )
    async with MqttPort(visitor).connect():
        pass


async def _headend(
    store_url: str, address: str, broker: _Broker, directory: Path, parts: AsyncExitStack
) -> tuple[Program, Store]:
    """Start the head-end; return it, subscribed, and its store, open to read."""
    config = directory / "headend.toml"
    tables: dict[str, Mapping[str, str]] = {"web": {"listen": address}}
    if broker.village is not None:
        tables |= broker.village.headend_tables
    config.write_text(headend_toml(store_url=store_url, mqtt=broker.headend, tables=tables))
    headend = _program("headend", directory)
    parts.push_async_callback(headend.stop)
    await headend.start()

    async def has_subscribed() -> bool:
        return headend.has_said(_HEADEND_READY)

    await _until(has_subscribed, headend, "has not subscribed")
    # Opened by us after the head-end has made it, and closed before the head-end ends.
    return headend, await parts.enter_async_context(open_store(store_url, Access.READ))


async def _start_gateway(
    stage: _Stage, broker: _Broker, directory: Path, parts: AsyncExitStack
) -> None:
    places = [await parts.enter_async_context(line.serving()) for line in stage.lines]
    (directory / "gateway.toml").write_text(
        gateway_toml(
            feeder_id=stage.feeder_id,
            gateway_id=GATEWAY_ID,
            data_dir=stage.outbox.parent,
            mqtt=broker.gateway,
            lines=places,
            tables={} if broker.village is None else broker.village.gateway_tables,
        )
    )
    parts.push_async_callback(stage.gateway.stop)
    await stage.gateway.start()

    async def first_has_arrived() -> bool:
        stored = (await stage.store.totals()).stored > stage.before.stored
        return stored and traffic(stage.outbox).sent > 0

    await _until(first_has_arrived, stage.gateway, "has brought nothing into the store")


def _program(command: str, directory: Path) -> Program:
    return Program(
        _NAMES[command],
        [command, "run", "-c", str(directory / f"{command}.toml")],
        log=directory / f"{command}.log",
    )


async def _until(condition: Callable[[], Awaitable[bool]], part: Program, failing: str) -> None:
    """Wait until a part has come so far. Raises PartFailed if it ends, or takes too long."""
    try:
        async with asyncio.timeout(START_S_MAX):
            while not await condition():
                part.check()
                await asyncio.sleep(_GLANCE_EVERY_S)
    except TimeoutError:
        raise PartFailed(
            f"the {part.name} {failing} in {START_S_MAX:.0f} s; its last word: {part.last_words()}"
        ) from None


# --- the story -----------------------------------------------------------------------------------


async def _play(stage: _Stage, show: Show, tell: Tell, stop: asyncio.Event) -> None:
    """Tell the story, again and again, until the time is over or the demo is stopped."""
    seconds = asyncio.get_running_loop().time
    began_s = seconds()
    duration_s = stage.settings.duration_s
    length_s = story_length_s(duration_s)
    scenes: list[Scene] = []
    tellings = 0
    while not stop.is_set():
        elapsed_s = seconds() - began_s
        if duration_s is not None and elapsed_s >= duration_s:
            return
        if elapsed_s >= tellings * length_s:
            scenes = [
                Scene(tellings * length_s + scene.at_s, scene.turn)
                for scene in story(length_s)
                if not (tellings and scene.turn in _TOLD_ONCE)
            ]
            tellings += 1
        while scenes and scenes[0].at_s <= elapsed_s:
            await _bring_about(stage, scenes.pop(0).turn, elapsed_s, tell)
        stage.check()
        picture = await _look(stage, elapsed_s)
        ordered = None if stage.orders is None else stage.orders.serial
        for change in relay_changes(stage.latest, picture.latest, ordered=ordered):
            _announce(stage, change, elapsed_s, tell)
        stage.latest = picture.latest
        show(picture)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY_S):
                await stop.wait()


async def _bring_about(stage: _Stage, turn: Turn, elapsed_s: float, tell: Tell) -> None:
    # The last meter of the last row: the feeder's own is the first of the first.
    line = stage.lines[-1]
    if turn in _COMMAND_TURNS:
        await _command(stage, turn, elapsed_s, tell)
        return
    match turn:
        case Turn.METER_DIES:
            line.set_fault(line.serials[-1], Silent())
        case Turn.METER_REVIVES:
            line.set_fault(line.serials[-1], None)
        case Turn.HEADEND_DIES:
            stage.headend_wanted = False
            await stage.headend.kill()
        case Turn.HEADEND_RETURNS:
            await _start_headend(stage)
    _announce(stage, turn.value, elapsed_s, tell)


async def _command(stage: _Stage, turn: Turn, elapsed_s: float, tell: Tell) -> None:
    """Bring a command about, where there is a house for it and nobody else's broker between."""
    if stage.orders is None:
        return
    _announce(stage, turn.value, elapsed_s, tell)

    def say(text: str) -> None:
        _announce(stage, text, elapsed_s, tell)

    match turn:
        case Turn.HOUSE_CUT_OFF:
            await stage.orders.disconnect(say)
        case Turn.HOUSE_RECONNECTED:
            await stage.orders.reconnect(say)
        case Turn.COMMAND_REPLAYED:
            await stage.orders.replay(say)


def _announce(stage: _Stage, what: str, elapsed_s: float, tell: Tell) -> None:
    told = f"{clock_text(timedelta(seconds=elapsed_s))}  {what}"
    stage.news = [*stage.news, told][-_NEWS_KEPT:]
    tell(told)


async def _start_headend(stage: _Stage) -> None:
    await stage.headend.start()
    stage.headend_wanted = True


async def _look(stage: _Stage, elapsed_s: float) -> Picture:
    tally = await stage.store.totals()
    duration_s = stage.settings.duration_s
    serials = [serial for line in stage.lines for serial in line.serials]
    return Picture(
        now=stage.clock.now(),
        elapsed=timedelta(seconds=elapsed_s),
        duration=None if duration_s is None else timedelta(seconds=duration_s),
        plan=stage.plan,
        broker=stage.broker,
        headend_runs=stage.headend_wanted,
        traffic=traffic(stage.outbox),
        messages=tally.messages - stage.before.messages,
        stored=tally.stored - stage.before.stored,
        latest={s: await stage.store.latest(stage.feeder_id, s) for s in serials},
        news=tuple(stage.news),
        entrance=() if stage.entrance is None else stage.entrance.lines,
    )


# --- the account ---------------------------------------------------------------------------------


async def _settled(stage: _Stage, hurry: asyncio.Event) -> Account:
    """Wait until all that was sent has arrived, or for as long as waiting makes sense; then count."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_S_MAX):
            while not hurry.is_set():
                stage.headend.check()
                if await everything_arrived(stage.outbox, stage.store, before=stage.before):
                    found = await _account(stage)
                    if not found.lost:
                        return found
                await asyncio.sleep(_GLANCE_EVERY_S)
    return await _account(stage)


async def _account(stage: _Stage) -> Account:
    return await account(
        stage.outbox,
        stage.store,
        feeder_id=stage.feeder_id,
        since=stage.begun - _SINCE_MARGIN,
        before=stage.before,
    )
