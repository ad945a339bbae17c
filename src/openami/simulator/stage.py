"""The stage of a demo: broker, head-end and gateway as real programs, the meters, and the account at the end.

The order matters twice. The head-end subscribes before the gateway publishes, because a broker keeps nothing for
who has never come. And it ends last, because what was published must still arrive.
"""

import asyncio
import contextlib
import dataclasses
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
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
from openami.simulator.config_files import BILLING_POLLS, gateway_toml, headend_toml
from openami.simulator.entrance import Entrance, free_address, let_in, shut_out
from openami.simulator.lines import VillageLine
from openami.simulator.orders import ANSWER_S_MAX, Orders
from openami.simulator.plan import VillagePlan
from openami.simulator.programs import PartFailed, Program
from openami.simulator.security import INTRUDER, DemoVillage, demo_village
from openami.simulator.view import Picture, clock_text
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


@dataclass(frozen=True, slots=True)
class Audience:
    """Who watches: ``show`` is given a picture every second, ``tell`` each turn of the story.

    ``stop`` ends the demo early and in good order; ``hurry`` ends the wait for what is still on its way as well.
    """

    clock: Clock
    show: Show
    tell: Tell
    stop: asyncio.Event
    hurry: asyncio.Event


@dataclass(frozen=True, slots=True)
class Cast:
    """Who plays: a village and its meters on their lines; ``billing_polls`` polls lie between two billing reads."""

    village: Village
    lines: tuple[VillageLine, ...]
    billing_polls: int = BILLING_POLLS

    @property
    def plan(self) -> VillagePlan:
        return self.village.plan


Casting = Callable[[datetime, Path], Cast]
"""The moment the village comes to life, and a directory of its own → who plays."""


@dataclass(slots=True)
class Stage:
    """The parts of a running demo."""

    settings: DemoSettings
    clock: Clock
    begun: datetime
    feeder_id: FeederId
    cast: Cast
    broker: str
    headend: Program
    gateway: Program
    outbox: Path
    store_url: str
    store: Store
    before: Tally
    intruder: BrokerSettings | None = None
    entrance: Entrance | None = None
    headend_wanted: bool = True
    news: list[str] = field(default_factory=list)
    latest: Mapping[MeterSerial, Sequence[Reading]] = field(default_factory=dict)

    def orders_for(
        self, serial: MeterSerial, *, answer_s_max: float = ANSWER_S_MAX
    ) -> Orders | None:
        """Return the commands of one meter; None where somebody else's broker stands between."""
        if self.intruder is None:
            return None
        return Orders(
            self.store_url,
            self.feeder_id,
            GATEWAY_ID,
            serial,
            self.cast.village,
            self.intruder,
            self.clock,
            answer_s_max,
        )

    def check(self) -> None:
        """Raise PartFailed if a part has ended that should be there."""
        self.gateway.check()
        if self.headend_wanted:
            self.headend.check()


@asynccontextmanager
async def stage_set(
    settings: DemoSettings, casting: Casting, audience: Audience
) -> AsyncIterator[Stage | None]:
    """Have all parts up while the context lasts; give None when we are stopped before they are.

    Raises PartFailed, TransportError when the broker lets nobody in or none can be started, and StoreError.
    """
    async with AsyncExitStack() as parts:
        stage = await _unless(audience.stop, _set_up(settings, casting, audience.clock, parts))
        if stage is not None:
            up_s = (audience.clock.now() - stage.begun).total_seconds()
            audience.tell(
                f"up after {up_s:.1f} s, with readings in the store: {stage.cast.plan.meters} meters, "
                f"a gateway, {stage.broker}, a head-end"
            )
            for line in () if stage.entrance is None else stage.entrance.lines:
                audience.tell(line)
        yield stage


async def ended(stage: Stage, audience: Audience) -> Account:
    """End the parts that bring readings, and return the account when what they sent has been taken."""
    audience.tell("ending: the gateway first, then the head-end, when it has taken what was sent")
    await stage.gateway.stop()
    if not stage.headend_wanted:
        await start_headend(stage)
    return await _settled(stage, audience.hurry)


async def _unless(stop: asyncio.Event, setting_up: Awaitable[Stage]) -> Stage | None:
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


async def _set_up(
    settings: DemoSettings, casting: Casting, clock: Clock, parts: AsyncExitStack
) -> Stage:
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
    cast = casting(evening, directory)
    await tell_assets(store_url, cast.plan, feeder_id, now=evening)
    await tell_past(store_url, cast.plan, feeder_id, GATEWAY_ID, begun=evening)
    stage = Stage(
        settings=settings,
        clock=clock,
        begun=begun,
        feeder_id=feeder_id,
        cast=cast,
        broker=broker.name,
        headend=headend,
        gateway=_program("gateway", directory),
        outbox=directory / "gateway" / _OUTBOX_FILE,
        store_url=store_url,
        store=store,
        before=await store.totals(),
        intruder=broker.intruder,
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
    stage: Stage, broker: _Broker, directory: Path, parts: AsyncExitStack
) -> None:
    places = [await parts.enter_async_context(line.serving()) for line in stage.cast.lines]
    (directory / "gateway.toml").write_text(
        gateway_toml(
            feeder_id=stage.feeder_id,
            gateway_id=GATEWAY_ID,
            data_dir=stage.outbox.parent,
            mqtt=broker.gateway,
            lines=places,
            billing_polls=stage.cast.billing_polls,
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


def announce(stage: Stage, what: str, elapsed_s: float, tell: Tell) -> None:
    told = f"{clock_text(timedelta(seconds=elapsed_s))}  {what}"
    stage.news = [*stage.news, told][-_NEWS_KEPT:]
    tell(told)


async def start_headend(stage: Stage) -> None:
    await stage.headend.start()
    stage.headend_wanted = True


async def look(stage: Stage, elapsed_s: float) -> Picture:
    tally = await stage.store.totals()
    duration_s = stage.settings.duration_s
    serials = [serial for line in stage.cast.lines for serial in line.serials]
    return Picture(
        now=stage.clock.now(),
        elapsed=timedelta(seconds=elapsed_s),
        duration=None if duration_s is None else timedelta(seconds=duration_s),
        plan=stage.cast.plan,
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


async def _settled(stage: Stage, hurry: asyncio.Event) -> Account:
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


async def _account(stage: Stage) -> Account:
    return await account(
        stage.outbox,
        stage.store,
        feeder_id=stage.feeder_id,
        since=stage.begun - _SINCE_MARGIN,
        before=stage.before,
    )
