"""The head-end's composition root: builds everything, runs one TaskGroup, ends clean.

Stopping (SIGTERM, SIGINT, or the caller's event) finishes the batch in hand, committed and acknowledged, and
leaves the broker; the persistent session keeps what comes meanwhile.
"""

import asyncio
import itertools
import os
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from openami.clock import Clock
from openami.end_signals import told_to_end
from openami.headend.broker_check import BrokerFinding, Severity, judge_config, probe
from openami.headend.certificate_watch import watch_certificate
from openami.headend.closing import refuse_unreadable
from openami.headend.config import ConfigError, HeadendConfig
from openami.headend.duties import patient
from openami.headend.links import new_first_link
from openami.headend.listening import Listening, ListeningError
from openami.headend.liveness import LifeSigns, Pulse
from openami.headend.metrics import HeadendMetrics
from openami.headend.slices import REST
from openami.headend.statistics import Statistics
from openami.headend.store import StoreError
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.open import open_store
from openami.headend.streams import Alone, Streams, prove_store_on
from openami.headend.tracing import Tracing
from openami.headend.tracing_settings import TracingError, opened_tracing
from openami.headend.uplink import why
from openami.headend.workers import Workers
from openami.mqtt.port import TransportError
from openami.service_manager import ServiceSettings

# A line a minute is read by a person, and is half a megabyte of log a day at most.
STATISTICS_INTERVAL_S: Final = 60.0
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
    config.catalogue()
    config.keys()
    config.broker_config()  # a file that cannot be read is said before anything is opened
    config.check_workers()
    listening = config.listening()
    config.proxy_rules()
    config.close_after_days()
    tracing = _tracing()
    async with AsyncExitStack() as resources:
        resources.enter_context(told_to_end(stop.set))
        resources.push_async_callback(asyncio.to_thread, tracing.close)
        store = await _opened_store(config.store, resources, stop)
        if store is None:
            return
        await refuse_unreadable(store)
        streams = _streams(config, store, clock, tracing)
        metrics = HeadendMetrics(
            streams.statistics, refused_documents=lambda: streams.refused_documents
        )
        try:
            web, web_pulse = None, Pulse("web")
            if listening is not None:
                web = _web(
                    config,
                    listening,
                    streams,
                    clock,
                    metrics=metrics,
                    tracing=tracing,
                    pulse=web_pulse,
                )
                on_listening(listening.url, await _first_link(store, listening, clock))
            life = LifeSigns(service, lambda: [*streams.pulses, web_pulse])
            await _run_tasks(config, streams, web, metrics, life, stop, on_ready, clock)
        except* (TransportError, StoreError) as failed:
            failure = _first_of(failed)
        else:
            return
    raise failure


def _first_of(group: BaseExceptionGroup[TransportError | StoreError]) -> Exception:
    """Return the first error of a group, however deep it lies."""
    found = group.exceptions[0]
    return _first_of(found) if isinstance(found, BaseExceptionGroup) else found


def _streams(config: HeadendConfig, store: HeadEndStore, clock: Clock, tracing: Tracing) -> Streams:
    if config.workers is None:
        return Alone(config, store, clock=clock, tracing=tracing)
    return Workers(config, config.workers, store, clock=clock, tracing=tracing)


def _tracing() -> Tracing:
    """Return where spans go, if anywhere. Raises ConfigError."""
    try:
        return opened_tracing(os.environ)
    except TracingError as error:
        raise ConfigError(str(error)) from None


def _web(
    config: HeadendConfig,
    listening: Listening,
    streams: Streams,
    clock: Clock,
    *,
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
        link=streams.link,
        standing=streams.standing,
        prove_ingest=partial(prove_store_on, asyncio.get_running_loop(), streams),
        can_command=config.signing is not None,
        disconnects_per_hour_max=config.disconnects_per_hour_max,
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


async def _opened_store(
    url: str, resources: AsyncExitStack, stop: asyncio.Event
) -> HeadEndStore | None:
    """Return the store, open until ``resources`` are closed; None if we are told to end first.

    A database server may start later than we do, so we wait for it. Raises StoreError when waiting
    will not help.
    """
    backoff = patient()
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
    streams: Streams,
    web: Callable[[], Coroutine[Any, Any, None]] | None,
    metrics: HeadendMetrics,
    life: LifeSigns,
    stop: asyncio.Event,
    on_ready: Callable[[], None],
    clock: Clock,
) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_watch_certificate(config, metrics, clock), name="certificate"),
            group.create_task(streams.run(partial(_check_broker, config)), name="streams"),
            group.create_task(_announce(streams, on_ready), name="announce"),
            group.create_task(_report(streams.statistics), name="statistics"),
            group.create_task(life.tell(), name="service manager"),
        ]
        if web is not None:
            tasks.append(group.create_task(web(), name="web"))
        life.manager.ready()
        await stop.wait()
        life.manager.stopping()
        for task in tasks:
            task.cancel()
    _log.info("stopped", **streams.statistics.line())


async def _watch_certificate(config: HeadendConfig, metrics: HeadendMetrics, clock: Clock) -> None:
    def seen(until: datetime) -> None:
        metrics.certificate_until = until

    cert_file = config.session(REST).cert_file
    if cert_file is not None:
        await watch_certificate(Path(cert_file), clock, seen=seen)


async def _check_broker(config: HeadendConfig) -> None:
    """Say what of the broker would lose data: the operator decides, we do not refuse."""
    text = config.broker_config()
    read = () if text is None else judge_config(text)
    _say(read)
    if config.workers is not None:
        return  # trying it out would borrow a session, and another worker may be using it
    found = await _probed_broker(config)
    known = {finding.code for finding in read}
    _say([finding for finding in found if finding.code not in known])


async def _probed_broker(config: HeadendConfig) -> Sequence[BrokerFinding]:
    """Return what trying the broker out has shown, as soon as there is one.

    Raises TransportError when it refuses us for good.
    """
    backoff = patient()
    said = False
    settings = config.session(REST)
    addresses = itertools.cycle(settings.addresses)
    while True:
        try:
            return await probe(settings.at(next(addresses)))
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


async def _announce(streams: Streams, on_ready: Callable[[], None]) -> None:
    await streams.subscribed.wait()
    on_ready()


async def _report(statistics: Statistics) -> None:
    """Say once a minute what has been done, if anything has."""
    said: dict[str, int] = {}
    while True:
        await asyncio.sleep(STATISTICS_INTERVAL_S)
        line = statistics.line()
        if line != said:
            _log.info("statistics", **line)
            said = line


async def _sleep_unless(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
