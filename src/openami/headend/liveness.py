"""Whether the head-end goes on: what feeds the service manager's watchdog (decision 0065).

A process whose event loop turns may still be stuck: a disk that never answers holds the commit, and with it the
ingest, for ever. So the parts that matter show themselves, and who has shown nothing for too long is stuck.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from openami.service_manager import ServiceManager, ServiceSettings

# Without a watchdog time of the service manager's own: longer than a database server may take for a statement
# (60 s) and a connection (10 s), which end by themselves.
STUCK_AFTER_S: Final = 180.0
# How often signs of life are looked for then: a journal tells of a stuck part within minutes.
LOOK_S: Final = 30.0

_log = structlog.get_logger("headend")


@dataclass(slots=True)
class Pulse:
    """One part: when it last had to show itself, by the event loop's clock; other threads may look and set.

    None while it owes nothing: an ingest without messages is not stuck, it waits.
    """

    name: str
    since_s: float | None = None

    @contextmanager
    def at_work(self, now_s: Callable[[], float]) -> Iterator[None]:
        """Owe a sign of life from here to the end of one piece of work."""
        self.since_s = now_s()
        try:
            yield
        finally:
            self.since_s = None

    def is_stuck(self, now_s: float, *, after_s: float) -> bool:
        """Return whether it has shown nothing for longer than that."""
        since_s = self.since_s
        return since_s is not None and now_s - since_s > after_s


class LifeSigns:
    """Tells the service manager that the head-end lives, while every part of it shows that it does."""

    def __init__(self, service: ServiceSettings, pulses: Callable[[], Sequence[Pulse]]) -> None:
        """``pulses`` returns those of the parts that there are now."""
        self.manager = ServiceManager(service.notify_socket)
        self._pulses = pulses
        self._watchdog_s = service.watchdog_s

    async def tell(self) -> None:
        """Tell it for ever; where a part is stuck, say so once and let the watchdog go hungry."""
        after_s, interval_s = STUCK_AFTER_S, LOOK_S
        if self._watchdog_s is not None:
            after_s, interval_s = self._watchdog_s, self._watchdog_s / 2
        said: list[str] = []
        while True:
            now_s = asyncio.get_running_loop().time()
            stuck = [each.name for each in self._pulses() if each.is_stuck(now_s, after_s=after_s)]
            if not stuck:
                self.manager.alive()
            elif stuck != said:
                _log.error("no sign of life", parts=stuck)
            said = stuck
            await asyncio.sleep(interval_s)
