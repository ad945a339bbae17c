"""The uplink: takes from the outbox, publishes, and marks what the broker has acknowledged.

One connection's life; who connects again, and when, is the caller's affair. Nothing is forgotten here: an
entry is marked after its PUBACK, and what a lost connection or a crash leaves unmarked is sent again, which
harms nobody (decision 0006).

The order: events, then what was measured since the connection was made, then the backlog, each newest
first, because what is true now matters most. The backlog has its own pace and never more than half of the
window, so that no reading of today waits behind last week's.

A message the broker refuses is set aside, its topic rests for a while, and the others go on: a wrong ACL
for one meter costs that meter only, and one message that is always refused does not even cost its meter.
What was set aside is offered again after an hour.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Final, Literal

import msgspec
import structlog

from openami.clock import Clock
from openami.gateway.entries import Entry, Kind, OutboxError, Within
from openami.gateway.outbox import Outbox
from openami.gateway.pacing import Pace, Rest
from openami.link_cost import MB_BYTES
from openami.mqtt.port import Connection, PublishRefused

# Acknowledged and not yet marked; above it nothing more is published. Reached only while the disk is
# full: a second's worth otherwise. What is beyond it would be sent twice after a crash.
UNMARKED_ENTRIES_MAX: Final = 1_000
# While the disk does not take the marks, they are tried again so often.
MARK_RETRY_INTERVAL_S: Final = 5.0
# The broker's ACL is corrected by a person; until then each try costs the link for nothing.
REFUSED_OFFERED_AGAIN_AFTER: Final = timedelta(hours=1)
READMIT_INTERVAL_S: Final = 600.0  # how often is looked who is due
# Looked up at once (or a window, where that is more), so that a long backlog does not cost a walk to the disk's
# thread for each window. In memory: 40 kB of readings as they are, 6 MB if each were as large as a message may be.
READY_ENTRIES_MAX: Final = 100

_log = structlog.get_logger(__name__)

# A month of a connection that is never idle for longer than its pings, and says nothing else.
CAP_MB_MIN: Final = 1.0


class UplinkSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the gateway sends; the table ``[uplink]``."""

    in_flight_max: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 20
    """Messages under way at once. mosquitto takes 20 by default; over GPRS (0.7 s there and back) that is
    28 a second, more than the link carries."""
    backfill_per_s: Annotated[float, msgspec.Meta(ge=0)] = 20.0
    """Backlog envelopes a second, 0 for no limit. At 20 (16 kB/s) a day of fifty meters at 60 s is told in
    an hour; on a slower link the window slows it further."""
    mark_entries_max: Annotated[int, msgspec.Meta(ge=1, le=UNMARKED_ENTRIES_MAX)] = 200
    """Acknowledged messages are marked in one commit at the latest when they are so many."""
    mark_interval_s: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    """… or when the first has waited so long: one commit for a poll cycle, which is what spares the card,
    against a second's messages sent twice after a power cut."""
    cap_mb_a_month: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)] = 0.0
    """What the link may carry in a month, both ways, in MB of 1,000,000 bytes; 0 for no cap (decision 0076)."""
    cap_from_day: Annotated[int, msgspec.Meta(ge=1, le=28)] = 1
    """The day of the month on which the contract's month begins, at midnight in UTC."""

    @property
    def cap_bytes(self) -> int:
        """The cap in bytes; 0 for none."""
        return round(self.cap_mb_a_month * MB_BYTES)

    def __post_init__(self) -> None:
        if 0 < self.cap_mb_a_month < CAP_MB_MIN:
            raise ValueError(
                f"cap_mb_a_month = {self.cap_mb_a_month} is less than {CAP_MB_MIN:g}, which no connection "
                "keeps to; `openami gateway budget` tells what a month takes, 0 is no cap"
            )


@dataclass(frozen=True, slots=True)
class Passage:
    """Which telemetry may be sent now; events always may."""

    live: bool = True
    """What was measured since the connection was made."""
    backlog: bool = True
    among: frozenset[int] = frozenset()
    """Where not even what is live may: the numbers that may all the same."""


EVERYTHING: Final = Passage()


async def run(
    outbox: Outbox,
    connection: Connection,
    settings: UplinkSettings,
    clock: Clock,
    *,
    passage: Callable[[], Passage] = lambda: EVERYTHING,
    within: Callable[[], Within | None] = lambda: None,
) -> None:
    """Send what the outbox holds and what comes, until the connection ends.

    ``passage`` is asked at each look into the outbox; who changes it sets ``outbox.appended``. ``within`` is asked
    for other work at each commit in which acknowledgements are marked.
    Raises TransportError when it ends, OutboxError when the outbox can never be written again; returns
    never otherwise.
    """
    uplink = _Uplink(outbox, connection, settings, clock, passage, within)
    try:
        await uplink.run()
    finally:
        await uplink.stop()


class _Uplink:
    """The state of one connection's sending: what is under way, what waits to be marked."""

    def __init__(
        self,
        outbox: Outbox,
        connection: Connection,
        settings: UplinkSettings,
        clock: Clock,
        passage: Callable[[], Passage],
        within: Callable[[], Within | None],
    ) -> None:
        self._passage = passage
        self._within = within
        self._outbox = outbox
        self._connection = connection
        self._settings = settings
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._under_way: dict[asyncio.Task[None], Entry] = {}
        self._ended: list[asyncio.Task[None]] = []  # of those, what is over; bound: in_flight_max
        self._stirred = asyncio.Event()  # something ended, or something is new
        self._ready: deque[Entry] = deque()  # fetched, in order; bound: see _fetch
        self._drained = False  # nothing more is there until something is appended
        self._fetched_at_s = 0.0  # a rest that ended since has kept something back
        self._acknowledged: list[int] = []
        self._mark_at_s = 0.0
        self._backlog_until = outbox.last_seq
        self._pace = Pace(settings.backfill_per_s)
        self._rests: dict[str, Rest] = {}  # by topic, so bounded by the meters
        self._readmit_at_s = 0.0

    async def run(self) -> None:
        wakened = self._until_appended()
        try:
            while True:
                await self._readmit_when_due()
                if wakened.done():
                    self._outbox.appended.clear()
                    self._ready.clear()  # something newer goes first
                    self._drained = False
                    wakened = self._until_appended()
                await self._fill_window()
                await self._wait()
                await self._collect()
                await self._mark_when_due()
        finally:
            wakened.cancel()

    def _until_appended(self) -> "asyncio.Future[Literal[True]]":
        wakened = asyncio.ensure_future(self._outbox.appended.wait())
        wakened.add_done_callback(lambda _: self._stirred.set())
        return wakened

    async def _wait(self) -> None:
        """Wait until something ended, is new, or is due."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._wait_s()):
                await self._stirred.wait()
        self._stirred.clear()

    async def stop(self) -> None:
        """Leave nothing running. What was acknowledged and not marked is sent again: harmless."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    # --- sending ----------------------------------------------------------------------------------

    async def _fill_window(self) -> None:
        """Start what the window, the pace and the outbox allow."""
        if self._wants_more():
            await self._fetch()
        backlog_room = self._backlog_room()
        while self._ready and self._room():
            entry = self._ready[0]
            if self._is_backlog(entry):
                if backlog_room <= 0 or self._pace.wait_s(self._loop.time()) > 0:
                    return
                backlog_room -= 1
                self._pace.took_one(self._loop.time())
            self._start(self._ready.popleft())

    def _wants_more(self) -> bool:
        return self._room() > 0 and not self._ready and not self._drained

    async def _fetch(self) -> None:
        """Look up what is to be sent next: what is live, and then the backlog."""
        at_most = max(READY_ENTRIES_MAX, self._settings.in_flight_max)
        busy = {entry.seq for entry in self._under_way.values()} | set(self._acknowledged)
        now_s = self._fetched_at_s = self._loop.time()
        paused = [topic for topic, rest in self._rests.items() if rest.until_s > now_s]
        passage = self._passage()
        self._ready = deque(
            await self._outbox.pending(
                at_most,
                after=self._live_after() if passage.live else 0,
                excluding=busy,
                paused=paused,
                among=None if passage.live else passage.among,
            )
        )
        if len(self._ready) < at_most and passage.backlog:
            busy.update(entry.seq for entry in self._ready)
            self._ready += await self._outbox.pending(
                at_most - len(self._ready), excluding=busy, paused=paused
            )
        self._drained = len(self._ready) < at_most and not self._rests

    def _start(self, entry: Entry) -> None:
        task = self._loop.create_task(
            self._connection.publish(entry.topic, entry.payload), name=f"publish {entry.seq}"
        )
        self._under_way[task] = entry
        task.add_done_callback(self._note_ended)

    def _note_ended(self, task: asyncio.Task[None]) -> None:
        self._ended.append(task)
        self._stirred.set()

    def _room(self) -> int:
        if len(self._acknowledged) >= UNMARKED_ENTRIES_MAX:
            return 0
        return self._settings.in_flight_max - len(self._under_way)

    def _backlog_room(self) -> int:
        """Half of the window at most is backlog, so that what is live finds room at once."""
        under_way = sum(map(self._is_backlog, self._under_way.values()))
        return max(1, self._settings.in_flight_max // 2) - under_way

    def _is_backlog(self, entry: Entry) -> bool:
        return entry.kind is Kind.TELEMETRY and entry.seq <= self._live_after()

    def _live_after(self) -> int:
        return max(self._backlog_until, self._outbox.backlog_until)

    # --- what came of it --------------------------------------------------------------------------

    async def _collect(self) -> None:
        """Take the results of what has ended. Raises TransportError."""
        ended, self._ended = self._ended, []
        broken: BaseException | None = None
        refused: list[tuple[Entry, PublishRefused]] = []
        for task in ended:
            entry = self._under_way.pop(task)
            match task.exception():
                case None:
                    self._note_acknowledged(entry)
                case PublishRefused() as refusal:
                    refused.append((entry, refusal))
                case error:
                    broken = error
        await self._set_aside(refused)
        if broken is not None:
            await self._mark()
            raise broken

    def _note_acknowledged(self, entry: Entry) -> None:
        self._rests.pop(entry.topic, None)
        if not self._acknowledged:
            self._mark_at_s = self._loop.time() + self._settings.mark_interval_s
        self._acknowledged.append(entry.seq)

    async def _set_aside(self, refused: Sequence[tuple[Entry, PublishRefused]]) -> None:
        for entry, refusal in refused:
            self._drained = False  # what rests with it is still there
            rest = self._rests.setdefault(entry.topic, Rest())
            rest.begin(self._loop.time())
            self._ready = deque(each for each in self._ready if each.topic != entry.topic)
            _log.warning("publish refused", topic=entry.topic, seq=entry.seq, reason=str(refusal))
            with _unless_for_good("refused messages cannot be set aside"):
                await self._outbox.set_aside([entry.seq], self._clock.now(), str(refusal))

    async def _readmit_when_due(self) -> None:
        if self._loop.time() >= self._readmit_at_s:
            self._readmit_at_s = self._loop.time() + READMIT_INTERVAL_S
            now = self._clock.now()
            with _unless_for_good("refused messages cannot be offered again"):
                await self._outbox.readmit(now - REFUSED_OFFERED_AGAIN_AFTER, now)

    async def _mark_when_due(self) -> None:
        if self._acknowledged and (
            len(self._acknowledged) >= self._settings.mark_entries_max
            or self._loop.time() >= self._mark_at_s
        ):
            await self._mark()

    async def _mark(self) -> None:
        """Mark in one commit; while the disk is full, keep them and go on sending."""
        if not self._acknowledged:
            return
        self._mark_at_s = self._loop.time() + MARK_RETRY_INTERVAL_S
        with _unless_for_good("sent messages cannot be marked"):
            await self._outbox.mark_sent(
                self._acknowledged, self._clock.now(), within=self._within()
            )
            self._acknowledged.clear()

    def _wait_s(self) -> float:
        """Return how long nothing will happen unless a PUBACK or a new entry comes."""
        now_s = self._loop.time()
        due_s = [self._readmit_at_s]
        # A rest that ended while we looked up is over, and still nobody has asked for what it kept back.
        since_s = self._fetched_at_s if self._wants_more() else now_s
        due_s += [rest.until_s for rest in self._rests.values() if rest.until_s > since_s]
        if self._acknowledged:
            due_s.append(self._mark_at_s)
        wait_s = min(due_s) - now_s
        if self._ready and self._room() and self._backlog_room() > 0:
            wait_s = min(wait_s, self._pace.wait_s(now_s))
        return max(0.0, wait_s)


@contextmanager
def _unless_for_good(what: str) -> Iterator[None]:
    """Go on when the disk is full: the broker takes what it took, and the outbox recovers by itself."""
    try:
        yield
    except OutboxError as error:
        if error.permanent:
            raise
        _log.warning("outbox not written", during=what, reason=str(error), remedy=error.remedy)
