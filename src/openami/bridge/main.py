"""The bridge's composition root: builds everything, runs one TaskGroup, ends clean.

Two loops that do not wait for each other, with the spool between them. A broker that is away, on either
side, ends nothing and is said once; SIGTERM and SIGINT end the bridge clean.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import start_http_server

from openami.bridge import north, south
from openami.bridge.commands import RefusedCommands
from openami.bridge.config import BridgeConfig, ConfigError
from openami.bridge.events import Outgoing
from openami.bridge.finding_log import FindingLog
from openami.bridge.meshems import Message
from openami.bridge.metrics import BridgeMetrics
from openami.bridge.spool import Draft, Spool, SpoolError, open_spool
from openami.bridge.translating import Poles, Told
from openami.clock import Clock
from openami.end_signals import told_to_end
from openami.mqtt.backoff import Backoff
from openami.mqtt.cluster import ClusterPort
from openami.mqtt.port import Connection, Delivery, MessagePort, TransportError
from openami.profile import EventTopic, ProfileError

SPOOL_FILE: Final = "bridge.db"
# Silence is told in rounds of minutes; a quarter of one is soon enough.
SILENCE_LOOK_S: Final = 15.0
# Asking the kernel for its opinion of the clock costs more than a message does.
CLOCK_LOOK_S: Final = 10.0
# Before this no envelope of the profile can have been measured (OA-ENV-012): the clock was never set.
_CLOCK_SET_SINCE: Final = datetime(2020, 1, 1, tzinfo=UTC)
# Decided one after the other; the broker keeps the rest.
COMMANDS_TAKEN_MAX: Final = 20

SOUTH_CAUTION: Final = (
    "the firmware's broker is not encrypted: whoever is on its network can read the houses' loads, invent "
    "readings, and switch relays; keep it on a network of its own (docs/bridge.md)"
)

_log = structlog.get_logger("bridge")


async def run(
    config: BridgeConfig,
    *,
    clock: Clock,
    stop: asyncio.Event | None = None,
    on_ready: Callable[[], None] = lambda: None,
    on_told: Callable[[Told], None] | None = None,
) -> None:
    """Run the bridge until ``stop`` is set or the process is told to end.

    ``on_ready`` is called when both sides are connected for the first time; ``on_told`` with what became
    of each message. Raises ConfigError for what a person has to mend before anything can run.
    """
    stop = stop or asyncio.Event()
    metrics = BridgeMetrics()
    try:
        with told_to_end(stop.set), _scraped(config, metrics):
            async with open_spool(
                Path(config.data_dir) / SPOOL_FILE,
                bytes_max=config.spool_megabytes_max * 1024 * 1024,
            ) as spool:
                bridge = Bridge(config, spool, clock=clock, metrics=metrics, on_told=on_told)
                await bridge.run(
                    stop,
                    south=ClusterPort(config.south),
                    north=ClusterPort(config.north),
                    on_ready=on_ready,
                )
    except SpoolError as error:
        raise ConfigError(f"{error}; {error.remedy}") from None


class Bridge:
    """The parts of a running bridge."""

    def __init__(
        self,
        config: BridgeConfig,
        spool: Spool,
        *,
        clock: Clock,
        metrics: BridgeMetrics,
        on_told: Callable[[Told], None] | None = None,
    ) -> None:
        poles = config.poles()
        self._config = config
        self._spool = spool
        self._clock = clock
        self._metrics = metrics
        self._on_told = on_told
        self._poles = Poles(poles)
        self._finding_log = FindingLog()
        sources = {
            serial: pole.source(serial)
            for pole in poles.values()
            for serial in [*pole.meters.values(), *([pole.panel] if pole.panel else [])]
        }
        self._commands = RefusedCommands(sources)
        self._clock_trusted: bool | None = None
        self._clock_looked_s = 0.0
        self._connected: set[str] = set()
        self._proved: set[str] = set()
        """The sides on whose connection of now something was acknowledged."""

    async def run(
        self,
        stop: asyncio.Event,
        *,
        south: MessagePort,
        north: MessagePort,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        """Run every part until ``stop`` is set. Raises an ExceptionGroup when one of them fails."""
        if not self._config.south.endpoint.tls:
            _log.warning("caution", about=SOUTH_CAUTION)
        for caution in self._config.north.cautions():
            _log.warning("caution", about=caution)
        both = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    self._again("south", lambda: self._listen(south, both)), name="south"
                ),
                group.create_task(
                    self._again("north", lambda: self._send(north, both)), name="north"
                ),
                group.create_task(self._tell_silences(), name="silences"),
                group.create_task(_when(both, on_ready), name="ready"),
            ]
            await stop.wait()
            for task in tasks:
                task.cancel()
        _log.info("stopped")

    # --- connecting ------------------------------------------------------------------------------

    async def _again(self, side: str, attempt: Callable[[], Awaitable[None]]) -> None:
        """Connect again and again; what is wrong is said when it is another fault than the last time."""
        backoff, loop, said = Backoff(random.SystemRandom().random), asyncio.get_running_loop(), ""
        while True:
            began_s = loop.time()
            self._proved.discard(side)
            try:
                await attempt()
            except (TransportError, SpoolError) as error:
                self._metrics.connect_failures.labels(side=side).inc()
                if side in self._connected or str(error) != said:
                    _log.warning("down", side=side, reason=str(error), remedy=error.remedy)
                said = str(error)
            finally:
                self._connected.discard(side)
                self._metrics.connected.labels(side=side).set(0)
            backoff.connection_lost(held_s=loop.time() - began_s, acknowledged=side in self._proved)
            await asyncio.sleep(backoff.next_s())

    def _note_connected(self, side: str, both: asyncio.Event) -> None:
        self._connected.add(side)
        self._metrics.connected.labels(side=side).set(1)
        settings = self._config.south if side == "south" else self._config.north
        _log.info("connected", side=side, broker=settings.place)
        if len(self._connected) == 2:
            both.set()

    # --- the way in ------------------------------------------------------------------------------

    async def _listen(self, port: MessagePort, both: asyncio.Event) -> None:
        await south.listen(port, lambda: self._note_connected("south", both), self._take)

    async def _take(self, deliveries: Sequence[Delivery]) -> None:
        now, trusted = self._clock.now(), self._is_clock_trusted()
        told: list[Told] = []
        for delivery in deliveries:
            self._metrics.received.inc()
            message = Message(delivery.topic, delivery.payload, now, delivery.retain)
            told.append(self._poles.take(message, clock_trusted=trusted))
        await self._keep(told)
        self._proved.add("south")  # these are acknowledged now

    async def _tell_silences(self) -> None:
        while True:
            await asyncio.sleep(SILENCE_LOOK_S)
            await self._keep(list(self._poles.silences(self._clock.now())))
            try:
                self._metrics.show(await self._spool.figures(self._clock.now()))
            except SpoolError as error:
                _log.error("spool not read", reason=str(error), remedy=error.remedy)

    async def _keep(self, told: Sequence[Told]) -> None:
        """Say what was found, and store what is to be sent."""
        for each in told:
            self._finding_log.say(each)
            for found in each.findings:
                self._metrics.findings.labels(found.reason.value, found.effect.value).inc()
            if self._on_told is not None:
                self._on_told(each)
        await self._spooled([outgoing for each in told for outgoing in each.outgoing])

    async def _spooled(self, outgoing: Sequence[Outgoing]) -> None:
        if self._clock.now() < _CLOCK_SET_SINCE:
            if outgoing:
                self._metrics.unspooled.inc(len(outgoing))
                _log.error("nothing is published", reason="this machine's clock was never set")
            return
        drafts = list(map(_draft, outgoing))
        for draft in drafts:
            self._metrics.translated.labels("event" if draft.is_event else "telemetry").inc()
        try:
            dropped = await self._spool.append(drafts)
        except SpoolError as error:
            # The firmware has sent it once and keeps nothing: there is nobody to ask again.
            self._metrics.unspooled.inc(len(drafts))
            _log.error("not stored", messages=len(drafts), reason=str(error), remedy=error.remedy)
            return
        if dropped:
            _log.warning(
                "the spool is full: the oldest were deleted",
                messages=dropped,
                remedy="see why the broker cannot be reached, or raise spool_megabytes_max",
            )

    def _is_clock_trusted(self) -> bool:
        if self._config.clock == "host":
            return True
        now_s = asyncio.get_running_loop().time()
        before = self._clock_trusted
        if before is None or now_s - self._clock_looked_s >= CLOCK_LOOK_S:
            self._clock_looked_s = now_s
            self._clock_trusted = self._clock.synchronised()
            if not self._clock_trusted and before is not False:
                _log.warning(
                    "this machine's clock follows no time source: every reading is suspect",
                    remedy='let it (NTP), or vouch for it yourself: clock = "host"',
                )
        return bool(self._clock_trusted)

    # --- the way up ------------------------------------------------------------------------------

    async def _send(self, port: MessagePort, both: asyncio.Event) -> None:
        async with port.connect() as connection:
            await connection.subscribe(self._commands.filters())
            self._note_connected("north", both)
            await _first_to_end(
                north.send(
                    connection,
                    self._spool,
                    self._clock,
                    self._metrics,
                    proved=lambda: self._proved.add("north"),
                ),
                self._refuse_commands(connection),
            )

    async def _refuse_commands(self, connection: Connection) -> None:
        while True:
            deliveries = await connection.receive(COMMANDS_TAKEN_MAX)
            for delivery in deliveries:
                self._metrics.commands.inc()
                told = self._commands.take(delivery.topic, self._clock.now())
                if told is not None:
                    _log.warning(
                        "a command was refused: bridged meters cannot be commanded",
                        topic=delivery.topic[:200],
                    )
                    await self._spooled([told])
            connection.acknowledge(deliveries)


async def _first_to_end(*loops: Awaitable[None]) -> None:
    """Run loops over one connection until one of them ends, which none does by itself; raise its error.

    No TaskGroup: before Python 3.13 a group whose task fails at the moment it is cancelled forgets the
    cancellation, and a bridge that was told to end would connect on for ever.
    """
    tasks = [asyncio.ensure_future(each) for each in loops]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in ended:
        task.result()


async def _when(event: asyncio.Event, act: Callable[[], None]) -> None:
    await event.wait()
    act()


def _draft(outgoing: Outgoing) -> Draft:
    try:
        payload = outgoing.envelope.encode()
    except ProfileError as error:  # our own rules make no such envelope
        raise AssertionError(f"{outgoing.topic}: {error}") from error
    return Draft(isinstance(outgoing.topic, EventTopic), str(outgoing.topic), payload)


@contextmanager
def _scraped(config: BridgeConfig, metrics: BridgeMetrics) -> Iterator[None]:
    """Answer Prometheus on a thread of its own. Raises ConfigError when the port cannot be had."""
    address = config.metrics_address
    if address is None:
        yield
        return
    try:
        server, thread = start_http_server(address[1], address[0], metrics.registry)
    except OSError as error:
        raise ConfigError(f"metrics = {config.metrics!r}: {error.strerror}") from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
