"""The outbox: what the gateway has to say stays on its disk until the broker has it, and longer.

The collector appends, the uplink takes; neither waits for the other, and a power cut takes nothing that
``append`` has returned for (decision 0011). Each envelope gets a number, ``seq``, that is never given
twice, so that the head-end sees what is missing; and what was sent is kept for a while, so that it can be
asked for again (decision 0008).

The outbox is bounded in bytes and in age. When it is full, telemetry is thinned by a stated rule, counted,
and reported; events never go (decision 0020, `openami.gateway.thinning`). Entries of a clock that is not to
be believed are held back until it is (decision 0018, `openami.gateway.timekeeping`).

    async with open_outbox(path, OutboxLimits(), SystemClock()) as outbox:
        await outbox.append([Draft(envelope, Kind.TELEMETRY, PollGroup.BILLING)])

Errors: an outbox lets only OutboxError out; its subclass OutboxFull says what of a batch was refused.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from openami.clock import Clock
from openami.gateway import outbox_books, outbox_rows
from openami.gateway.database import Database, DatabaseError, open_database
from openami.gateway.disk_reserve import DiskReserve
from openami.gateway.entries import (
    AppendResult,
    Draft,
    Entry,
    Kind,
    OutboxError,
    OutboxFull,
    Resent,
    Sealed,
    State,
    Thinned,
    Unfit,
    Within,
    WithinSealed,
)
from openami.gateway.outbox_table import Batch, OutboxTable
from openami.gateway.room import OutboxLimits
from openami.gateway.stamping import Look, stamp
from openami.gateway.thinning import Stage
from openami.gateway.timekeeping import (
    FLOOR_STORED_EVERY,
    WRITTEN,
    ClockSource,
    Facts,
    Floor,
    Knowledge,
    Verdict,
    judge,
    machine_keeps_time,
    read_boot_id,
)

__all__ = [
    "AppendResult",
    "Draft",
    "Entry",
    "Kind",
    "Outbox",
    "OutboxError",
    "OutboxFull",
    "OutboxLimits",
    "OutboxState",
    "Resent",
    "Thinned",
    "Unfit",
    "open_outbox",
]

# A poll cycle of five hundred meters is one batch; more is a mistake, and would hold the disk too long.
APPEND_ENTRIES_MAX: Final = 2_000
# A head-end asks for days at a time; so many entries are a second's work, and the caller asks on.
RESEND_ENTRIES_MAX: Final = 10_000
# The bounds in time are days: looking every ten minutes is exact enough, and spreads the deleting.
TIDY_INTERVAL_S: Final = 600.0
# After a pass that was not enough, as after a long silence was drained: ten thousand a minute is more than any
# gateway reads, and the walk through millions of entries to find them is not made at every poll.
TIDY_AGAIN_INTERVAL_S: Final = 60.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OutboxState:
    """What the outbox tells about itself."""

    pending: int
    pending_events: int
    held: int
    """Waiting for the clock to be trusted."""
    refused: int
    """Refused by the broker, offered again later; ``refusal`` is what it said last."""
    kept: int
    """Sent, and kept to be asked for again."""
    oldest_pending: datetime | None
    """Measured time of the one that waits longest."""
    bytes_used: int
    bytes_max: int
    """The configured bound, or less where the disk does not give as much."""
    room_days: float | None
    """How long it can go on without an uplink and without thinning, at the recent rate; None: unknown."""
    thinned: Mapping[Stage, Thinned]
    last_append: datetime | None
    last_seq: int
    clock: Verdict
    refusal: str = ""


class Outbox:
    """The open outbox; see the module. Made by `open_outbox`."""

    def __init__(
        self,
        database: Database,
        table: OutboxTable,
        clock: Clock,
        *,
        keeps_time: bool,
        boot_id: str,
    ) -> None:
        self.appended: asyncio.Event = asyncio.Event()
        """Set when there may be something new to send; the one who waits for it clears it."""
        self.last_seq = 0
        """The highest number given so far."""
        self.backlog_until = 0
        """Telemetry up to this number is old news: it was resent, or held until its time was known."""
        self._database = database
        self._table = table
        self._clock = clock
        self._keeps_time = keeps_time
        self._boot_id = boot_id
        self._known = Knowledge()
        self._floor_stored = WRITTEN
        self._verdict: Verdict
        self._holding = False
        self._tidy_at_s = float("-inf")
        self._refusal = ""

    @property
    def database(self) -> Database:
        """The file it lives in: what else the gateway must remember goes there too."""
        return self._database

    @property
    def clock_verdict(self) -> Verdict:
        """Whether the wall clock was believed at the last look, which every append takes."""
        return self._verdict

    async def append(
        self,
        drafts: Sequence[Draft],
        *,
        within: Within | None = None,
    ) -> AppendResult:
        """Store drafts in one durable transaction, in order; when this returns, they are safe.

        A draft that no head-end could accept is left out and named in the result. ``within`` is other work of the
        same transaction: what is remembered of what is told. At most `APPEND_ENTRIES_MAX`. Raises OutboxError;
        OutboxFull when telemetry had no room but events may have been stored.
        """
        assert len(drafts) <= APPEND_ENTRIES_MAX
        look = self._look()
        batch = Batch(
            stamped=[stamp(draft, look) for draft in drafts],
            now=look.now,
            boot_id=self._boot_id,
            held_at_s=None if look.verdict.trusted else look.facts.boottime_s,
            floor=self._floor_due(look),
            tidy=self._tidy_due(look),
            within=within,
        )
        try:
            result = await self._run(partial(self._table.append, batch=batch))
        except OutboxFull as full:
            self._note_appended(full.result)
            raise
        if batch.floor is not None:
            self._floor_stored = batch.floor.moment
        if result.overdue:
            self._tidy_at_s = look.facts.boottime_s + TIDY_AGAIN_INTERVAL_S
        self._note_appended(result)
        if look.verdict.trusted and self._holding:
            await self._release(look)
        return result

    async def append_sealed(self, sealed: Sealed, *, within: WithinSealed) -> int:
        """Store an event whose bytes are ready-made, with other work in the same transaction; return its number.

        It is never held back for the clock: it was dated and signed by whoever made it. Raises OutboxError; then
        neither has happened.
        """
        look = self._look()
        seq = await self._run(
            partial(self._table.append_sealed, sealed=sealed, within=within, now=look.now)
        )
        self.last_seq = max(self.last_seq, seq)
        self.appended.set()
        return seq

    async def pending(
        self,
        at_most: int,
        *,
        after: int = 0,
        excluding: Collection[int] = (),
        paused: Collection[str] = (),
        among: Collection[int] | None = None,
    ) -> Sequence[Entry]:
        """Return what may be sent: events before telemetry, each newest first.

        Telemetry only above number ``after`` and, where it is given, numbered in ``among``; nothing that is
        numbered in ``excluding`` or goes to a topic in ``paused``.
        """
        return await self._run(
            partial(
                outbox_rows.pending,
                at_most=at_most,
                after=after,
                excluding=excluding,
                paused=paused,
                among=among,
            )
        )

    async def mark_sent(
        self,
        seqs: Collection[int],
        now: datetime,
        *,
        within: Within | None = None,
    ) -> None:
        """Note that the broker has acknowledged these; one commit for all, and for other work."""
        await self._run(partial(self._table.mark_sent, seqs=seqs, now=now, within=within))

    async def set_aside(self, seqs: Collection[int], now: datetime, reason: str) -> None:
        """Note that the broker refused these, so that they do not stand in the way of others."""
        await self._run(partial(self._table.set_aside, seqs=seqs, now=now))
        self._refusal = reason

    async def readmit(self, refused_until: datetime, now: datetime) -> int:
        """Offer again what was refused up to a moment; return how many there are."""
        work = partial(self._table.readmit, refused_until=refused_until, now=now)
        readmitted = await self._run(work)
        if readmitted:
            self.appended.set()
        return readmitted

    async def resend(
        self, since: datetime, until: datetime, at_most: int = RESEND_ENTRIES_MAX
    ) -> Resent:
        """Send again what was sent and measured from ``since`` to before ``until``, as backlog.

        Takes at most ``at_most``; where the answer is not complete, ask again.
        """
        look = self._look()
        resent = await self._run(
            partial(
                self._table.resend,
                since=since,
                until=until,
                at_most=min(at_most, RESEND_ENTRIES_MAX),
                now=look.now,
            )
        )
        if resent.entries:
            self._wake_for_backlog()
        return resent

    async def state(self) -> OutboxState:
        """Return what the outbox tells about itself; a few rows are read, whatever its size."""
        figures = await self._run(self._table.books.figures)
        level = figures.level
        return OutboxState(
            pending=level.count(State.PENDING),
            pending_events=level.entries[State.PENDING, Kind.EVENT],
            held=level.count(State.HELD),
            refused=level.count(State.REFUSED),
            kept=level.count(State.SENT),
            oldest_pending=figures.oldest_pending,
            bytes_used=level.usage.total,
            bytes_max=level.bound.events,
            room_days=None if figures.room is None else figures.room.total_seconds() / 86_400,
            thinned=figures.thinned,
            last_append=figures.last_append,
            last_seq=figures.last_seq,
            clock=self._verdict,
            refusal=self._refusal if level.count(State.REFUSED) else "",
        )

    async def begin(self) -> None:
        """Take up where the last process ended; called once, by `open_outbox`."""
        await self._recall_floor()
        look = self._look()
        release = partial(self._table.release_leftovers, boot_id=self._boot_id, now=look.now)
        await self._run(release)
        await self._recall_floor()
        self._look()
        figures = await self._run(self._table.books.figures)
        self.last_seq = figures.last_seq
        self._holding = figures.level.count(State.HELD) > 0
        if figures.level.count(State.PENDING):
            self.appended.set()

    def _look(self) -> Look:
        facts = Facts(self._clock.now(), self._clock.boottime(), self._clock.synchronised())
        self._verdict, self._known = judge(facts, self._known, keeps_time=self._keeps_time)
        return Look(facts, self._verdict, self._known)

    async def _recall_floor(self) -> None:
        floor = await self._run(outbox_books.read_floor)
        self._known = floor.known_in(self._boot_id)
        self._floor_stored = self._known.floor

    def _floor_due(self, look: Look) -> Floor | None:
        """Return the floor when it has moved far enough to be worth storing: flash wears."""
        known = look.known
        if abs(known.floor - self._floor_stored) < FLOOR_STORED_EVERY:
            return None
        return Floor(known.floor, self._boot_id, known.floor_at_s)

    def _note_appended(self, result: AppendResult) -> None:
        self._holding = self._holding or result.held
        if result.seqs:
            self.last_seq = result.last_seq
            self.appended.set()

    async def _release(self, look: Look) -> None:
        await self._run(
            partial(self._table.release, boot_id=self._boot_id, facts=look.facts, now=look.now)
        )
        self._holding = False
        self._wake_for_backlog()

    def _wake_for_backlog(self) -> None:
        self.backlog_until = self.last_seq
        self.appended.set()

    def _tidy_due(self, look: Look) -> bool:
        if look.facts.boottime_s < self._tidy_at_s or not look.verdict.trusted:
            return False
        self._tidy_at_s = look.facts.boottime_s + TIDY_INTERVAL_S
        return True

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._database.run(work)
        except DatabaseError as error:
            raise _outbox_error(error) from error


@asynccontextmanager
async def open_outbox(
    path: Path,
    limits: OutboxLimits,
    clock: Clock,
    *,
    clock_source: ClockSource = ClockSource.AUTO,
    boot_id: str | None = None,
) -> AsyncIterator[Outbox]:
    """Open the outbox in the gateway's database file, made if it is not there. Raises OutboxError."""
    async with AsyncExitStack() as stack:
        try:
            database = await stack.enter_async_context(open_database(path))
        except DatabaseError as error:
            raise _outbox_error(error) from error
        outbox = Outbox(
            database,
            OutboxTable(limits, DiskReserve(path)),
            clock,
            keeps_time=_keeps_time(clock_source),
            boot_id=boot_id or read_boot_id(),
        )
        await outbox.begin()
        yield outbox


def _keeps_time(source: ClockSource) -> bool:
    match source:
        case ClockSource.AUTO:
            return machine_keeps_time()
        case ClockSource.NETWORK:
            return False
        case ClockSource.RTC:
            return True


def _outbox_error(error: DatabaseError) -> OutboxError:
    return OutboxError(str(error), remedy=error.remedy, permanent=error.permanent)
