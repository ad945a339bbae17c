"""The head-end's composition root: builds everything, runs one TaskGroup, ends clean.

Stopping (SIGTERM, SIGINT, or the caller's event) finishes the batch in hand, committed and acknowledged, and
leaves the broker; the persistent session keeps what comes meanwhile.
"""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from openami.clock import Clock
from openami.headend.alarm_watch import AlarmWatch
from openami.headend.broker_check import BrokerFinding, Severity, judge_config, probe
from openami.headend.bulk_work import BulkWork
from openami.headend.certificate_watch import watch_certificate
from openami.headend.closing import Closing, can_close, refuse_unreadable
from openami.headend.config import ConfigError, HeadendConfig
from openami.headend.downlink import Downlink
from openami.headend.folding import Folding
from openami.headend.gap_life import Patience
from openami.headend.links import new_first_link
from openami.headend.listening import Listening, ListeningError
from openami.headend.liveness import LifeSigns, Pulse
from openami.headend.metrics import HeadendMetrics
from openami.headend.new_ids import new_id
from openami.headend.resending import Resending
from openami.headend.store import StoreError
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.open import open_store
from openami.headend.tracing import Tracing
from openami.headend.tracing_settings import TracingError, opened_tracing
from openami.headend.uplink import Uplink, why
from openami.mqtt.backoff import Backoff
from openami.mqtt.client import MqttPort
from openami.mqtt.port import TransportError
from openami.service_manager import ServiceSettings

# A line a minute is read by a person, and is half a megabyte of log a day at most.
STATISTICS_INTERVAL_S: Final = 60.0
# Rejected messages expire by the day; once an hour is soon enough.
PRUNE_INTERVAL_S: Final = 3600.0
# One head-end asks one broker and one database, so neither has to be spared for long; and every second
# that they are back and we are not is a second of lateness for the whole village.
RETRY_CEILING_S: Final = 15.0
_NO_MANAGER: Final = ServiceSettings()

_log = structlog.get_logger("headend")


async def run(
    config: HeadendConfig,
    *,
    clock: Clock,
    stop: asyncio.Event | None = None,
    on_ready: Callable[[], None] = lambda: None,
    on_listening: Callable[[str, str | None], None] = lambda _url, _link: None,
    service: ServiceSettings = _NO_MANAGER,
) -> None:
    """Run the head-end until ``stop`` is set or the process is told to end.

    ``on_ready`` is called when the broker delivers to us for the first time; ``on_listening`` when the console can
    be reached, with its address and, while there is no account, the link that makes the first one. ``service`` is
    what the service manager wants to hear. Raises ConfigError, TransportError and StoreError for what a person has
    to mend before anything can run.
    """
    stop = stop or asyncio.Event()
    catalogue = config.catalogue()
    config.keys()
    config.broker_config()  # a file that cannot be read is said before anything is opened
    listening = config.listening()
    config.proxy_rules()
    config.close_after_days()
    tracing = _tracing()
    async with _told_to_end(stop), AsyncExitStack() as resources:
        resources.push_async_callback(asyncio.to_thread, tracing.close)
        store = await _opened_store(config.store, resources, stop)
        if store is None:
            return
        await refuse_unreadable(store)
        await store.put_intervals(config.completeness.intervals_s)
        uplink = Uplink(
            MqttPort(config.mqtt),
            store,
            catalogue=catalogue,
            clock=clock,
            broker_backoff=_backoff(),
            store_backoff=_backoff(),
            beside=(downlink := _downlink(config, store, clock, tracing)),
            tracing=tracing,
        )
        metrics = _metrics(uplink, downlink)
        closing = _closing(config, store, clock)
        if closing is not None:
            metrics.closing = lambda: closing.seen
        try:
            resending = _resending(config, store, clock, can_command=downlink is not None)
            web, pulses = None, [uplink.pulse]
            if listening is not None:
                web = _web(
                    config,
                    listening,
                    uplink,
                    clock,
                    can_command=downlink is not None,
                    metrics=metrics,
                    tracing=tracing,
                    pulse=(web_pulse := Pulse("web")),
                )
                pulses.append(web_pulse)
                on_listening(listening.url, await _first_link(store, listening, clock))
            life = LifeSigns(service, pulses)
            await _run_tasks(
                config,
                store,
                uplink,
                downlink,
                resending,
                web,
                metrics,
                closing,
                life,
                stop,
                on_ready,
                clock,
            )
        except* (TransportError, StoreError) as failed:
            failure = failed.exceptions[0]
        else:
            return
    raise failure


def _tracing() -> Tracing:
    """Return where spans go, if anywhere. Raises ConfigError."""
    try:
        return opened_tracing(os.environ)
    except TracingError as error:
        raise ConfigError(str(error)) from None


def _metrics(uplink: Uplink, downlink: Downlink | None) -> HeadendMetrics:
    return HeadendMetrics(
        uplink.statistics,
        refused_documents=lambda: 0 if downlink is None else downlink.refused_documents,
    )


def _closing(config: HeadendConfig, store: HeadEndStore, clock: Clock) -> Closing | None:
    """Return what closes months, where that is wanted and can be done. Raises ConfigError."""
    after_days = config.close_after_days()
    if after_days is None:
        return None
    if not can_close():
        _log.info("months stay open", reason="pyarrow is missing", remedy="openami[parquet]")
        return None
    return Closing(store, clock, after_days=after_days)


def _downlink(
    config: HeadendConfig, store: HeadEndStore, clock: Clock, tracing: Tracing
) -> Downlink | None:
    """Return what commands, where a key to command with is configured. Raises ConfigError."""
    keys = config.keys()
    if keys is None or config.signing is None:
        return None
    signer, roots = keys
    return Downlink(
        store,
        signer,
        roots,
        clock=clock,
        new_id=new_id,
        disconnects_per_hour_max=config.signing.disconnects_per_hour_max,
        tracing=tracing,
    )


def _disconnects_per_hour_max(config: HeadendConfig) -> int:
    return 0 if config.signing is None else config.signing.disconnects_per_hour_max


def _resending(
    config: HeadendConfig, store: HeadEndStore, clock: Clock, *, can_command: bool
) -> Resending:
    """Return what asks for missing readings; without a key to command with, it only says what is missing."""
    patience = Patience(grace=timedelta(seconds=config.completeness.grace_s))
    return Resending(store, clock=clock, new_id=new_id, can_command=can_command, patience=patience)


def _web(
    config: HeadendConfig,
    listening: Listening,
    uplink: Uplink,
    clock: Clock,
    *,
    can_command: bool,
    metrics: HeadendMetrics,
    tracing: Tracing,
    pulse: Pulse,
) -> Callable[[], Coroutine[Any, Any, None]]:
    """Return what serves the console and the API, its address taken. Raises ConfigError."""
    # Only a head-end with a console needs the libraries that serve one.
    from openami.headend.web.serving import Web, bind, serve

    web = Web(
        listening=listening,
        store_url=config.store,
        clock=clock,
        catalogue=config.catalogue(),
        link=lambda: uplink.link,
        can_command=can_command,
        disconnects_per_hour_max=_disconnects_per_hour_max(config),
        keys=config.keys(),
        proxy=config.proxy_rules(),
        metrics=metrics,
        tracing=tracing,
        pulse=pulse,
    )
    try:
        return partial(serve, web, bind(listening))
    except ListeningError as error:
        raise ConfigError(f"[web] {error}") from None


async def _first_link(store: HeadEndStore, listening: Listening, clock: Clock) -> str | None:
    """Return a link that makes the first account, while there is none: there is no password to begin with."""
    if await store.users():
        return None
    return listening.url + await new_first_link(store, who="head-end", now=clock.now())


def _backoff() -> Backoff:
    return Backoff(random.random, ceiling_s=RETRY_CEILING_S)


@asynccontextmanager
async def _told_to_end(stop: asyncio.Event) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    try:
        yield
    finally:
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(name)


async def _opened_store(
    url: str, resources: AsyncExitStack, stop: asyncio.Event
) -> HeadEndStore | None:
    """Return the store, open until ``resources`` are closed; None if we are told to end first.

    A database server may start later than we do, so we wait for it. Raises StoreError when waiting
    will not help.
    """
    backoff = _backoff()
    said = False
    while not stop.is_set():
        try:
            return await resources.enter_async_context(open_store(url))
        except StoreError as error:
            if error.permanent:
                raise
            if not said:
                _log.warning("waiting for the store", **why(error))
                said = True
        await _sleep_unless(stop, backoff.next_s())
    return None


async def _run_tasks(
    config: HeadendConfig,
    store: HeadEndStore,
    uplink: Uplink,
    downlink: Downlink | None,
    resending: Resending,
    web: Callable[[], Coroutine[Any, Any, None]] | None,
    metrics: HeadendMetrics,
    closing: Closing | None,
    life: LifeSigns,
    stop: asyncio.Event,
    on_ready: Callable[[], None],
    clock: Clock,
) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_watch_certificate(config, metrics, clock), name="certificate"),
            group.create_task(_check_and_run(config, uplink), name="uplink"),
            group.create_task(_announce(uplink, on_ready), name="announce"),
            group.create_task(_report(uplink), name="statistics"),
            group.create_task(_prune_hourly(uplink, resending, store, clock), name="prune"),
            group.create_task(resending.run(), name="resending"),
            group.create_task(AlarmWatch(store, clock, lambda: uplink.link).run(), name="alarms"),
            group.create_task(Folding(store).run(), name="energy"),
            group.create_task(life.tell(), name="service manager"),
        ]
        if closing is not None:
            tasks.append(group.create_task(closing.run(), name="closing"))
        if downlink is not None:
            bulk = BulkWork(
                store,
                clock,
                new_id=new_id,
                disconnects_per_hour_max=_disconnects_per_hour_max(config),
            )
            tasks.append(group.create_task(downlink.run(), name="downlink"))
            tasks.append(group.create_task(bulk.run(), name="bulk"))
        if web is not None:
            tasks.append(group.create_task(web(), name="web"))
        life.manager.ready()
        await stop.wait()
        life.manager.stopping()
        for task in tasks:
            task.cancel()
    _log.info("stopped", **uplink.statistics.line())


async def _watch_certificate(config: HeadendConfig, metrics: HeadendMetrics, clock: Clock) -> None:
    def seen(until: datetime) -> None:
        metrics.certificate_until = until

    if config.mqtt.cert_file is not None:
        await watch_certificate(Path(config.mqtt.cert_file), clock, seen=seen)


async def _check_and_run(config: HeadendConfig, uplink: Uplink) -> None:
    """Say what of the broker would lose data, then stream: the operator decides, we do not refuse."""
    text = config.broker_config()
    read = () if text is None else judge_config(text)
    _say(read)
    found = await _probed_broker(config)
    known = {finding.code for finding in read}
    _say([finding for finding in found if finding.code not in known])
    await uplink.run()


async def _probed_broker(config: HeadendConfig) -> Sequence[BrokerFinding]:
    """Return what trying the broker out has shown, as soon as there is one.

    Raises TransportError when it refuses us for good.
    """
    backoff = _backoff()
    said = False
    while True:
        try:
            return await probe(config.mqtt)
        except TransportError as error:
            if error.permanent:
                raise
            if not said:
                _log.warning("no connection to the broker", **why(error))
                said = True
        await asyncio.sleep(backoff.next_s())


def _say(findings: Sequence[BrokerFinding]) -> None:
    for finding in findings:
        say = _log.warning if finding.severity is Severity.LOSES_DATA else _log.info
        say("broker judged", about=finding.sentence, code=finding.code, remedy=finding.remedy)


async def _announce(uplink: Uplink, on_ready: Callable[[], None]) -> None:
    await uplink.subscribed.wait()
    on_ready()


async def _report(uplink: Uplink) -> None:
    """Say once a minute what has been done, if anything has."""
    said: dict[str, int] = {}
    while True:
        await asyncio.sleep(STATISTICS_INTERVAL_S)
        line = uplink.statistics.line()
        if line != said:
            _log.info("statistics", **line)
            said = line


async def _prune_hourly(
    uplink: Uplink, resending: Resending, store: HeadEndStore, clock: Clock
) -> None:
    while True:
        await asyncio.sleep(PRUNE_INTERVAL_S)
        try:
            await uplink.prune()
            await resending.prune()
            await store.prune_accounts(clock.now())
        except StoreError as error:  # the stream will meet the same error and act on it
            _log.warning("what is beyond its bounds was not pruned", **why(error))


async def _sleep_unless(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
