"""The gateway's composition root: builds everything, runs one TaskGroup, ends clean.

Two loops that do not wait for each other, with the outbox between them: the collectors fill it whether or
not there is a network, the uplink drains it whether or not the meters answer. Beside them: the status
server, the watch on the clock, the service manager.

A broker that is away, or shows a wrong certificate, ends nothing; a bug ends the process, and the service
manager starts it again. SIGTERM and SIGINT end it clean.
"""

import asyncio
import errno
import random
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from openami.clock import Clock
from openami.end_signals import told_to_end
from openami.gateway import cap_table, commanding, downlink, tickets
from openami.gateway.budget import Plan
from openami.gateway.cap_keeper import CapKeeper
from openami.gateway.certificate import valid_until
from openami.gateway.certificate_watch import CertificateWatch
from openami.gateway.clock_events import ClockLook, clock_drafts
from openami.gateway.collector import (
    ALIVE_WITHIN_S,
    CLOCK_LOOK_S,
    LineCollector,
    Surroundings,
)
from openami.gateway.commanding import TICK_S, Commanding, secret_nonce
from openami.gateway.commissioning.load_test import ASKED_NOW
from openami.gateway.commissioning.view import View
from openami.gateway.commissioning.web import Walk
from openami.gateway.config import ConfigError, GatewayConfig, LineConfig
from openami.gateway.database import DatabaseError
from openami.gateway.driver import Driver, LineDown, Meter, MeterSilent, RawReading
from openami.gateway.enrolment import GatewayKeys
from openami.gateway.entries import Draft
from openami.gateway.event_limits import EventLimits
from openami.gateway.handshake import Self
from openami.gateway.link_account import LinkAccount
from openami.gateway.memory import MeterMemories
from openami.gateway.meter_record import MeterRecord
from openami.gateway.metrics import GatewayMetrics
from openami.gateway.monthly_cap import CapStage
from openami.gateway.normalise import Source
from openami.gateway.on_change import OnChange
from openami.gateway.outbox import Outbox, OutboxError, open_outbox
from openami.gateway.planning import assumptions, running_plan
from openami.gateway.reconnect import Loop, Reconnector
from openami.gateway.relay_orders import RelayOrders, last_orders
from openami.gateway.snapshot import Snapshot, UplinkView
from openami.gateway.statements import DayStatements
from openami.gateway.status import WALK_HEADERS, serve, status_app
from openami.gateway.timekeeping import Facts, read_boot_id
from openami.keyfiles import KeyFileError, load_roots, load_signer
from openami.mqtt.backoff import Backoff
from openami.mqtt.cluster import ClusterPort
from openami.mqtt.port import Connection, MessagePort
from openami.profile import MeterSerial
from openami.service_manager import ServiceManager
from openami.sip.errors import SipError
from openami.sip.keys import Signer

# Without a watchdog time of the service manager's own, signs of life are looked for so often.
LIFE_LOOK_INTERVAL_S: Final = 30.0
# A snapshot serves everybody who asks within this time: no number of browsers slows the disk down.
SNAPSHOT_AGE_S_MAX: Final = 1.0
# A person on a pole waits for it; the line's own deadlines are shorter.
ASK_TIMEOUT_S: Final = 20.0
# Pending connections the kernel keeps for the status server.
LISTEN_BACKLOG: Final = 16

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a gateway runs on: its clock, its way to the broker, its boot and its dice.

    The one seam at which a simulated village replaces the world; everything else is the same program.
    """

    clock: Clock
    port: MessagePort
    boot_id: str
    """Another after every start of the machine: times of an earlier boot cannot be put right."""
    dice: random.Random
    """For jitter and spreading."""
    fresh_nonce: Callable[[], str]
    """Nobody guesses it: what makes a replayed command worthless."""
    look_s: float = TICK_S
    """How often the timers of commands and the folder of tickets are looked at."""
    clock_look_s: float = CLOCK_LOOK_S
    """How often the clock is looked at, for a step or a change of trust."""

    @classmethod
    def here(cls, config: GatewayConfig, clock: Clock) -> "Machine":
        """Return the machine this process runs on."""
        return cls(
            clock=clock,
            port=ClusterPort(config.mqtt),
            boot_id=read_boot_id(),
            dice=random.SystemRandom(),
            fresh_nonce=secret_nonce,
        )


async def run(
    config: GatewayConfig,
    drivers: Mapping[str, type[Driver]],
    *,
    clock: Clock,
    stop: asyncio.Event | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Run the gateway until ``stop`` is set or the process is told to end.

    ``on_ready`` is called when readings can be stored. Raises ConfigError for what a person has to mend
    before anything can run: a data directory that cannot be written, a port in use.
    """
    stop = stop or asyncio.Event()
    async with AsyncExitStack() as resources:
        resources.enter_context(told_to_end(stop.set))
        listener = resources.enter_context(_listening(config))
        machine = Machine.here(config, clock)
        outbox = await resources.enter_async_context(opened_outbox(config, machine))
        gateway = await Gateway.made(config, drivers, outbox=outbox, machine=machine)
        try:
            await gateway.run(stop, listener, on_ready)
        except* ConfigError as faults:
            fault = faults.exceptions[0]
        else:
            return
    raise fault


class Gateway:
    """The parts of a running gateway."""

    def __init__(
        self,
        config: GatewayConfig,
        drivers: Mapping[str, type[Driver]],
        *,
        outbox: Outbox,
        machine: Machine,
        metrics: GatewayMetrics,
        collectors: list[LineCollector],
        commanding: Commanding | None = None,
        statements: DayStatements | None = None,
        cap: CapKeeper | None = None,
    ) -> None:
        self._config = config
        self._drivers = drivers
        self._outbox = outbox
        self._machine = machine
        self._clock = machine.clock
        self._metrics = metrics
        self._collectors = collectors
        self._commanding = commanding
        self._statements = statements
        self._source = Source(config.feeder_id, config.gateway_id)
        self._cap = cap
        self._uplink = UplinkView(
            config.mqtt.place,
            cap=cap.view if cap is not None and config.uplink.cap_bytes else None,
        )
        self._started_at = self._clock.now()
        self._service = ServiceManager(config.service.notify_socket)
        self._snapshot: tuple[float, Snapshot] | None = None
        self._snapshot_turn = asyncio.Lock()
        self._asking = asyncio.Lock()

    @classmethod
    async def made(
        cls,
        config: GatewayConfig,
        drivers: Mapping[str, type[Driver]],
        *,
        outbox: Outbox,
        machine: Machine,
    ) -> "Gateway":
        """Return a gateway that knows what its meters were when it last ran. Raises ConfigError."""
        clock = machine.clock
        metrics = GatewayMetrics()
        memories = MeterMemories(outbox.database, machine.boot_id)
        orders = await _recalled_orders(config, outbox)
        collectors: list[LineCollector] = []
        cap = await _cap(config, outbox, machine, metrics, collectors)
        around = Surroundings(
            source=Source(config.feeder_id, config.gateway_id),
            catalogue=config.catalogue,
            settings=config.schedule,
            store=outbox,
            memories=memories,
            clock=clock,
            clock_trusted=lambda: outbox.clock_verdict.trusted,
            metrics=metrics,
            orders=orders,
            on_change=partial(OnChange, config.reports) if cap is None else cap.on_change,
            clock_look_s=machine.clock_look_s,
        )
        for line in config.lines:
            known = await memories.recall(_records(line))
            records = {record.serial: record for record in known}
            collectors.append(LineCollector(line, drivers[line.driver], records, around))
        commanding = await _commanding(config, outbox, machine, metrics, collectors, orders, cap)
        return cls(
            config,
            drivers,
            outbox=outbox,
            machine=machine,
            metrics=metrics,
            collectors=collectors,
            commanding=commanding,
            statements=_statements(config, outbox, clock),
            cap=cap,
        )

    async def run(
        self, stop: asyncio.Event, listener: socket.socket | None, on_ready: Callable[[], None]
    ) -> None:
        """Run every part until ``stop`` is set. Raises an ExceptionGroup when one of them fails."""
        for caution in self._config.mqtt.cautions():
            _log.warning("caution", about=caution)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(collector.run(), name=f"line {collector.view.name}")
                for collector in self._collectors
            ]
            tasks.append(group.create_task(self._reconnector().run(), name="uplink"))
            tasks.append(group.create_task(self._watch_clock(), name="clock"))
            if self._cap is not None:
                tasks.append(group.create_task(self._cap.run(), name="monthly cap"))
            tasks.append(group.create_task(self._tell_life(), name="service manager"))
            watch = self._certificate_watch()
            if watch is not None:
                tasks.append(group.create_task(watch.run(), name="certificate"))
            if self._commanding is not None:
                tasks.append(group.create_task(self._commanding.run(), name="commanding"))
                watching = tickets.watch(
                    self._commanding, self._config.tickets, look_s=self._machine.look_s
                )
                tasks.append(group.create_task(watching, name="tickets"))
            if self._statements is not None:
                tasks.append(group.create_task(self._statements.run(), name="day statements"))
            if listener is not None:
                app = status_app(self.snapshot, self._metrics, more=self._walk().routes)
                tasks.append(group.create_task(serve(app, listener), name="status"))
            self._service.ready()
            on_ready()
            await stop.wait()
            self._service.stopping()
            for task in tasks:
                task.cancel()
        _log.info("stopped")

    def _reconnector(self) -> Reconnector:
        self._uplink.certificate_until = _certificate_until(self._config.mqtt.cert_file)
        return Reconnector(
            self._machine.port,
            self._outbox,
            self._config.uplink,
            clock=self._clock,
            backoff=Backoff(self._machine.dice.random),
            view=self._uplink,
            metrics=self._metrics,
            downlink=self._downlink(),
            cap=self._cap,
        )

    def _downlink(self) -> Sequence[Loop]:
        commanding, config = self._commanding, self._config
        if commanding is None:
            return ()

        async def receive(connection: Connection) -> None:
            await downlink.receive(commanding, connection, config.feeder_id, config.gateway_id)

        async def announce(connection: Connection) -> None:
            await downlink.announce(commanding, connection)

        return (receive, announce)

    def _certificate_watch(self) -> CertificateWatch | None:
        cert_file, directory = self._config.mqtt.cert_file, self._config.keys_directory
        if cert_file is None:
            return None
        return CertificateWatch(
            Path(cert_file),
            keys=None if directory is None else GatewayKeys(directory),
            url=self._config.enrolment.url,
            source=self._source,
            clock=self._clock,
            clock_trusted=lambda: self._outbox.clock_verdict.trusted,
            view=self._uplink,
            append=self._append_events,
        )

    async def _append_events(self, drafts: Sequence[Draft]) -> None:
        for draft in drafts:
            assert draft.envelope.event is not None
            self._metrics.events.labels(type=draft.envelope.event.type).inc()
        try:
            await self._outbox.append(drafts)
        except OutboxError as error:
            _log.error("event not stored", reason=str(error), remedy=error.remedy)

    async def snapshot(self) -> Snapshot:
        """Return how the gateway is doing, at most `SNAPSHOT_AGE_S_MAX` ago."""
        loop = asyncio.get_running_loop()
        async with self._snapshot_turn:
            if self._snapshot is None or loop.time() - self._snapshot[0] > SNAPSHOT_AGE_S_MAX:
                self._snapshot = (loop.time(), await self._take_snapshot())
            return self._snapshot[1]

    async def _take_snapshot(self) -> Snapshot:
        outbox, fault = None, ""
        try:
            outbox = await self._outbox.state()
        except OutboxError as error:
            fault = f"{error}; {error.remedy}"
        return Snapshot(
            feeder_id=self._config.feeder_id,
            gateway_id=self._config.gateway_id,
            now=self._clock.now(),
            started_at=self._started_at,
            records=[record for line in self._collectors for record in line.records.values()],
            lines=[collector.view for collector in self._collectors],
            uplink=self._uplink,
            outbox=outbox,
            outbox_fault=fault,
            stuck_lines=self._stuck_lines(),
        )

    def _walk(self) -> Walk:
        view = View(
            self._config,
            self._drivers,
            self._outbox.database,
            snapshot=self.snapshot,
            clock=self._clock,
        )
        return Walk(view, self._ask_now, WALK_HEADERS)

    async def _ask_now(self, serial: MeterSerial) -> Sequence[RawReading]:
        """Read what tells a meter and its house apart, now and between the polls' turns. Raises DriverError."""
        meter = next(
            (c.open_meters[serial] for c in self._collectors if serial in c.open_meters), None
        )
        if meter is None:
            raise LineDown("its line is not open")
        wanted = [info.obis for info in meter.registers if info.obis in ASKED_NOW]
        async with self._asking:
            try:
                async with asyncio.timeout(ASK_TIMEOUT_S):
                    return await meter.read(wanted)
            except TimeoutError:
                raise MeterSilent(f"no answer within {ASK_TIMEOUT_S:g} s") from None

    def _stuck_lines(self) -> list[str]:
        now_s = asyncio.get_running_loop().time()
        return [
            collector.view.name
            for collector in self._collectors
            if collector.view.beat_at is not None
            and now_s - collector.view.beat_at > ALIVE_WITHIN_S
        ]

    # --- beside the two loops --------------------------------------------------------------------

    async def _watch_clock(self) -> None:
        """Tell when the wall clock loses or gains trust, or is set (decision 0018)."""
        before: ClockLook | None = None
        while True:
            clock = self._clock
            facts = Facts(clock.now(), clock.boottime(), clock.synchronised())
            look = ClockLook(facts, self._outbox.clock_verdict.trusted)
            drafts = clock_drafts(before, look, self._source)
            before = look
            for draft in drafts:
                assert draft.envelope.event is not None
                event = draft.envelope.event
                _log.warning(
                    "clock event", type=event.type, state=event.state.value, about=event.detail
                )
            if drafts:
                await self._append_events(drafts)
            await asyncio.sleep(self._machine.clock_look_s)

    async def _tell_life(self) -> None:
        """Feed the service manager's watchdog while every line shows that it lives."""
        watchdog_s = self._config.service.watchdog_s
        interval_s = LIFE_LOOK_INTERVAL_S if watchdog_s is None else watchdog_s / 2
        said: list[str] = []
        while True:
            stuck = self._stuck_lines()
            if not stuck:
                self._service.alive()
            elif stuck != said:
                _log.error("no sign of life", lines=stuck)
            said = stuck
            await asyncio.sleep(interval_s)


def _statements(config: GatewayConfig, outbox: Outbox, clock: Clock) -> DayStatements | None:
    """Return the part that states each day, if there is a key to sign with. Raises ConfigError."""
    if not config.commands.enabled:
        return None
    return DayStatements(
        outbox,
        _signer(config),
        feeder_id=config.feeder_id,
        gateway_id=config.gateway_id,
        clock=clock,
    )


def _signer(config: GatewayConfig) -> Signer:
    try:
        return load_signer(Path(config.commands.key_file))
    except KeyFileError as error:
        raise ConfigError(str(config.file), "commands", str(error), error.remedy) from None


async def _commanding(
    config: GatewayConfig,
    outbox: Outbox,
    machine: Machine,
    metrics: GatewayMetrics,
    collectors: Sequence[LineCollector],
    orders: RelayOrders,
    cap: CapKeeper | None,
) -> Commanding | None:
    """Return the part that takes commands, if the configuration names its keys. Raises ConfigError."""
    settings = config.commands
    if not settings.enabled:
        _log.info("commands are off", remedy="name key_file and roots_file in the table [commands]")
        return None
    signer = _signer(config)
    try:
        pinned = load_roots(Path(settings.roots_file))
    except KeyFileError as error:
        raise ConfigError(str(config.file), "commands", str(error), error.remedy) from None

    def meter(serial: MeterSerial) -> Meter | None:
        found = (each.open_meters.get(serial) for each in collectors)
        return next((each for each in found if each is not None), None)

    around = commanding.Surroundings(
        me=Self(config.feeder_id, config.gateway_id, signer.kid),
        signer=signer,
        pinned=pinned,
        serials=frozenset(config.serials),
        outbox=outbox,
        clock=machine.clock,
        meter=meter,
        lock_out=config.lock_out,
        metrics=metrics,
        spread=machine.dice.random,
        fresh_nonce=machine.fresh_nonce,
        orders=orders,
        readings_wait=(lambda: False) if cap is None else cap.readings_wait,
        tick_s=machine.look_s,
    )
    try:
        return await Commanding.made(around)
    except DatabaseError as error:
        raise ConfigError(str(config.file), "data_dir", str(error), error.remedy) from None
    except SipError as error:
        # Readings go on. Without the stored keyring nothing is believed, so that an older one cannot come back.
        _log.error(
            "commands are off: the stored keyring or a session is not one",
            reason=str(error),
            remedy="was the database edited, or its program older? Install that version, or enroll anew",
        )
        return None


async def _cap(
    config: GatewayConfig,
    outbox: Outbox,
    machine: Machine,
    metrics: GatewayMetrics,
    collectors: Sequence[LineCollector],
) -> CapKeeper | None:
    """Return the part that keeps to the monthly cap, if there is one, or was. Raises ConfigError."""
    try:
        standing = await outbox.database.run(cap_table.read)
    except DatabaseError as error:
        raise ConfigError(str(config.file), "data_dir", str(error), error.remedy) from None
    if not config.uplink.cap_bytes and standing.stage is CapStage.FULL and not standing.withheld_at:
        return None
    account = LinkAccount(
        assumptions(config), protocol=config.mqtt.protocol, keepalive_s=config.mqtt.keepalive_s
    )

    def plan() -> Plan:
        records = (record for line in collectors for record in line.records.values())
        return running_plan(config, records)

    return CapKeeper(
        outbox,
        config.uplink,
        account,
        plan=plan,
        reports=config.reports,
        source=Source(config.feeder_id, config.gateway_id),
        clock=machine.clock,
        metrics=metrics,
        standing=standing,
    )


async def _recalled_orders(config: GatewayConfig, outbox: Outbox) -> RelayOrders:
    """Return the last relay orders, as the journal has them. Raises ConfigError."""
    orders = RelayOrders()
    try:
        orders.recall(await outbox.database.run(last_orders))
    except DatabaseError as error:
        raise ConfigError(str(config.file), "data_dir", str(error), error.remedy) from None
    return orders


def _records(line: LineConfig) -> Iterator[MeterRecord]:
    for meter in line.settings.meters:
        yield MeterRecord(
            serial=meter.serial,
            line=line.settings.name,
            limits=line.limits.get(meter.serial, EventLimits()),
        )


def _certificate_until(cert_file: str | None) -> datetime | None:
    if cert_file is None:
        return None
    return valid_until(Path(cert_file).read_text("ascii", "replace"))


# --- what must be had before anything can run ----------------------------------------------------


@contextmanager
def _listening(config: GatewayConfig) -> Iterator[socket.socket | None]:
    """Take the status server's port. Raises ConfigError when it cannot be had."""
    address = config.status.address
    if address is None:
        yield None
        return
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(LISTEN_BACKLOG)
        except OSError as error:
            raise _cannot_listen(error, config) from None
        listener.setblocking(False)
        yield listener


def _cannot_listen(error: OSError, config: GatewayConfig) -> ConfigError:
    listen, file = config.status.listen, str(config.file)
    match error.errno:
        case errno.EADDRINUSE:
            return ConfigError(
                file,
                "status.listen",
                f"another program listens on {listen}",
                "choose another port, or stop that program (`ss -ltnp` names it)",
            )
        case errno.EACCES:
            remedy = "choose a port above 1023"
        case _:
            remedy = "write an address of this machine, or 0.0.0.0"
    return ConfigError(file, "status.listen", f"{listen}: {error.strerror}", remedy)


@asynccontextmanager
async def opened_outbox(config: GatewayConfig, machine: Machine) -> AsyncIterator[Outbox]:
    """Open the gateway's database. Raises ConfigError when its place cannot be used."""
    async with AsyncExitStack() as stack:
        try:
            config.data_dir.mkdir(parents=True, exist_ok=True)
            opening = open_outbox(
                config.database,
                config.outbox,
                machine.clock,
                clock_source=config.clock,
                boot_id=machine.boot_id,
            )
            outbox = await stack.enter_async_context(opening)
        except OSError as error:
            raise ConfigError(
                str(config.file),
                "data_dir",
                f"{config.data_dir} cannot be made: {error.strerror}",
                "name a directory the gateway's user may write to",
            ) from None
        except OutboxError as error:
            raise ConfigError(str(config.file), "data_dir", str(error), error.remedy) from None
        yield outbox
