"""What can be done to the outbox, on the thread that owns the database: each call whole or not at all.

`Outbox` is the door; this is the room behind it. The rows are `outbox_rows`, the figures `outbox_books`; here
stands in which order they are used, and in which transactions.
"""

import sqlite3
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from openami.gateway import day_account, outbox_books, outbox_rows, thinning
from openami.gateway.disk_reserve import DiskReserve
from openami.gateway.entries import (
    AppendResult,
    Kind,
    OutboxFull,
    Resent,
    Sealed,
    State,
    Within,
    WithinSealed,
)
from openami.gateway.outbox_books import Books
from openami.gateway.outbox_rows import Row, ceil_ms, to_ms
from openami.gateway.room import OutboxLimits, Shortage, charged, shortage
from openami.gateway.stamping import Stamped, settled, unsettled
from openami.gateway.thinning import Stage
from openami.gateway.timekeeping import Facts, Floor
from openami.sqlite_transaction import transaction

# SQLite's extended result codes carry the primary one in their last byte.
_PRIMARY_CODE_MASK: Final = 0xFF


@dataclass(frozen=True, slots=True)
class Batch:
    """What one call appends, with the time for the books and the boot for what is held."""

    stamped: Sequence[Stamped]
    now: datetime
    boot_id: str
    held_at_s: float | None = None
    """This second of the boot, when the clock is not trusted: what is dated now must be held too."""
    floor: Floor | None = None
    """The floor of the clock, when it is due to be stored."""
    tidy: bool = False
    """Whether the bounds in time are due to be kept as well."""
    within: Within | None = None
    """Work that is to be in the same transaction."""


class OutboxTable:
    """The outbox's statements, within its limits."""

    def __init__(self, limits: OutboxLimits, reserve: DiskReserve) -> None:
        self.books = Books(limits, reserve)
        self._limits = limits
        self._reserve = reserve

    # --- in ---------------------------------------------------------------------------------------

    def append(self, connection: sqlite3.Connection, batch: Batch) -> AppendResult:
        """Store a batch in one durable transaction, thinning before if there is no room.

        Raises OutboxFull; sqlite3.Error when the disk is full and thinning cannot help.
        """
        self._reserve.take()
        try:
            return self._append(connection, batch)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & _PRIMARY_CODE_MASK != sqlite3.SQLITE_FULL:
                raise
        # Others have filled the disk. With the reserve given back the log can be copied into the file,
        # and what is thinned becomes free pages in it, which need nothing of the disk.
        self._reserve.release()
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return self._append(connection, batch)

    def append_sealed(
        self, connection: sqlite3.Connection, sealed: Sealed, within: WithinSealed, now: datetime
    ) -> int:
        """Store a ready-made event and do the work that belongs to it, in one transaction; return its number.

        The bound in bytes is not asked for: it tells what has already been done, and there are as few of
        them as there are commands. Raises sqlite3.Error when the disk is full.
        """
        self._reserve.take()
        try:
            return _write_sealed(connection, sealed, within, now)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & _PRIMARY_CODE_MASK != sqlite3.SQLITE_FULL:
                raise
        self._reserve.release()
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return _write_sealed(connection, sealed, within, now)

    def _append(self, connection: sqlite3.Connection, batch: Batch) -> AppendResult:
        overdue = batch.tidy and self._tidy(connection, batch.now)
        result = self._write(connection, batch)
        if isinstance(result, Shortage) and not result.hopeless:
            self._make_room(connection, result, batch.now)
            result = self._write(connection, batch)
        if isinstance(result, AppendResult):
            return replace(result, overdue=overdue)
        events = tuple(item for item in batch.stamped if item.kind is Kind.EVENT)
        written = self._write(connection, replace(batch, stamped=events)) if events else None
        stored = written if isinstance(written, AppendResult) else AppendResult()
        raise self._full(connection, refused=len(batch.stamped) - len(stored.seqs), result=stored)

    def _write(self, connection: sqlite3.Connection, batch: Batch) -> AppendResult | Shortage:
        """Commit the batch; or touch nothing, and return what is missing."""
        with transaction(connection):
            (last_seq,) = connection.execute("SELECT last_seq FROM outbox_progress").fetchone()
            rows, unfit = outbox_rows.encoded(batch.stamped, last_seq + 1)
            if missing := self._missing(connection, rows):
                return missing
            report = _thinned_report(connection, batch, last_seq + len(rows) + 1)
            _store(connection, [*rows, *report], batch)
            if batch.within is not None:
                batch.within(connection)
        return AppendResult(
            seqs=tuple(row.seq for row in rows),
            last_seq=last_seq + len(rows) + len(report),
            held=any(row.source.held_at_s is not None for row in rows),
            unfit=unfit,
        )

    def _missing(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> Shortage | None:
        level = self.books.level(connection)
        incoming = sum(row.bytes for row in rows)
        telemetry = any(row.source.kind is Kind.TELEMETRY for row in rows)
        bound = level.bound.telemetry if telemetry else level.bound.events
        return shortage(level.usage, incoming, bound)

    def _full(
        self, connection: sqlite3.Connection, *, refused: int, result: AppendResult
    ) -> OutboxFull:
        level = self.books.level(connection)
        if level.bound.events < self._limits.bytes_max:
            what = "the disk is full"
            remedy = (
                "free some space: the gateway goes on by itself, and what it has stored is safe"
            )
        else:
            what = f"the outbox is full ({level.usage.total} of {self._limits.bytes_max} bytes)"
            remedy = "restore the uplink, or raise bytes_max in the table [outbox]"
        return OutboxFull(
            f"{what} and holds nothing more that may be thinned: {refused} envelopes were not stored",
            remedy=remedy,
            refused=refused,
            result=result,
        )

    # --- out --------------------------------------------------------------------------------------

    def mark_sent(
        self,
        connection: sqlite3.Connection,
        seqs: Collection[int],
        now: datetime,
        within: Within | None = None,
    ) -> None:
        """Note the broker's acknowledgements, in one commit with other work."""
        with transaction(connection):
            outbox_rows.move(connection, seqs, State.PENDING, State.SENT, now)
            if within is not None:
                within(connection)

    def set_aside(
        self, connection: sqlite3.Connection, seqs: Collection[int], now: datetime
    ) -> None:
        """Take what the broker refused out of the way of the others."""
        with transaction(connection):
            outbox_rows.move(connection, seqs, State.PENDING, State.REFUSED, now)

    def readmit(
        self, connection: sqlite3.Connection, refused_until: datetime, now: datetime
    ) -> int:
        """Let what was refused up to a moment be offered again; return how many."""
        if not self.books.level(connection).count(State.REFUSED):
            return 0
        with transaction(connection):
            return connection.execute(
                "UPDATE outbox_entry SET state = 'pending', since_ms = ?"
                " WHERE state = 'refused' AND since_ms <= ?",
                (to_ms(now), to_ms(refused_until)),
            ).rowcount

    def resend(
        self,
        connection: sqlite3.Connection,
        *,
        since: datetime,
        until: datetime,
        at_most: int,
        now: datetime,
    ) -> Resent:
        """Make sent envelopes measured from ``since`` to before ``until`` pending again."""
        with transaction(connection):
            found = connection.execute(
                "SELECT seq FROM outbox_entry WHERE state = 'sent' AND ts_ms >= ? AND ts_ms < ?"
                " ORDER BY seq LIMIT ?",
                (ceil_ms(since), ceil_ms(until), at_most + 1),
            ).fetchall()
            seqs = [seq for (seq,) in found[:at_most]]
            outbox_rows.move(connection, seqs, State.SENT, State.PENDING, now)
        return Resent(len(seqs), complete=len(found) <= at_most)

    # --- the untrusted clock ----------------------------------------------------------------------

    def release(
        self, connection: sqlite3.Connection, *, boot_id: str, facts: Facts, now: datetime
    ) -> None:
        """Correct and release what this boot has held, its clock now being trusted."""
        while held := outbox_rows.held(connection, boot_id, this_boot=True):
            with transaction(connection):
                for seq, held_at_s, envelope in held:
                    outbox_rows.let_go(connection, seq, settled(envelope, held_at_s, facts), now)

    def release_leftovers(
        self, connection: sqlite3.Connection, *, boot_id: str, now: datetime
    ) -> None:
        """Release what an earlier boot has held, as suspect: its time can never be known.

        But it was not before the bounds they bear, so the floor is raised to the latest of them.
        """
        while held := outbox_rows.held(connection, boot_id, this_boot=False):
            with transaction(connection):
                for seq, _, envelope in held:
                    outbox_rows.let_go(connection, seq, unsettled(envelope), now)
                latest = max(envelope.ts for _, _, envelope in held)
                outbox_books.raise_floor(connection, latest)

    # --- bounds -----------------------------------------------------------------------------------

    def _tidy(self, connection: sqlite3.Connection, now: datetime) -> bool:
        """Keep the bounds in time: what was sent long ago, what stayed unsent too long.

        Returns whether there is more than a pass takes: so it is after a long silence was drained.
        """
        kept_until = to_ms(now - timedelta(days=self._limits.kept_days))
        with transaction(connection):
            outdated = connection.execute(
                "DELETE FROM outbox_entry WHERE seq IN (SELECT seq FROM outbox_entry"
                " WHERE state = 'sent' AND since_ms < ? ORDER BY seq LIMIT ?)",
                (kept_until, thinning.ENTRIES_PER_PASS),
            ).rowcount
        excess = self.books.level(connection).usage.kept - self._limits.kept_bytes_max
        if excess > 0:
            excess -= self._thin(connection, Stage.KEPT, excess, now)
        self._thin(connection, Stage.EXPIRED, self._limits.bytes_max, now)
        return excess > 0 or outdated >= thinning.ENTRIES_PER_PASS

    def _make_room(self, connection: sqlite3.Connection, missing: Shortage, now: datetime) -> None:
        """Thin stage by stage; the headroom is for the stage at work, a next one begins only in need."""
        must = missing.must
        for stage in thinning.ORDER:
            while must > 0 and (
                freed := self._thin(connection, stage, must + missing.headroom, now)
            ):
                must -= freed

    def _thin(self, connection: sqlite3.Connection, stage: Stage, need: int, now: datetime) -> int:
        """Delete what one stage gives up, count it in the same transaction, return the bytes freed."""
        expired_ms = to_ms(now - timedelta(days=self._limits.unsent_days_max))
        with transaction(connection):
            # Closed here: a disk that fails in the middle leaves the reading of them unfinished.
            with closing(outbox_rows.candidates(connection, stage, expired_ms)) as candidates:
                chosen = thinning.choose(stage, candidates, need)
            if not chosen:
                return 0
            outbox_rows.delete(connection, [each.seq for each in chosen])
            outbox_books.count_thinned(connection, stage, chosen, now)
            if thinning.is_loss(stage):
                day_account.count_thinned(connection, chosen)
        return sum(each.bytes for each in chosen)


def _write_sealed(
    connection: sqlite3.Connection, sealed: Sealed, within: WithinSealed, now: datetime
) -> int:
    with transaction(connection):
        (last_seq,) = connection.execute("SELECT last_seq FROM outbox_progress").fetchone()
        seq: int = last_seq + 1
        payload = sealed.seal(seq)
        outbox_rows.insert_event(
            connection, seq, topic=sealed.topic, ts=sealed.ts, payload=payload, now=now
        )
        outbox_books.note_appended(connection, entries=1, size=charged(len(payload)), now=now)
        within(connection, payload)
    return seq


def _store(connection: sqlite3.Connection, rows: Sequence[Row], batch: Batch) -> None:
    outbox_rows.insert(connection, rows, now=batch.now, boot_id=batch.boot_id)
    size = sum(row.bytes for row in rows)
    outbox_books.note_appended(connection, entries=len(rows), size=size, now=batch.now)
    if batch.floor is not None:
        outbox_books.store_floor(connection, batch.floor)


def _thinned_report(connection: sqlite3.Connection, batch: Batch, seq: int) -> Sequence[Row]:
    """Return the event about what thinning took since the last one, if one is due."""
    untold = outbox_books.untold(connection, batch.now)
    if not untold or not batch.stamped:
        return ()
    about = batch.stamped[0].envelope
    envelope = thinning.thinned_event(
        untold, feeder_id=about.feeder_id, gateway_id=about.gateway_id, seq=seq, now=batch.now
    )
    outbox_books.note_told(connection, batch.now)
    rows, _ = outbox_rows.encoded([Stamped(envelope, Kind.EVENT, None, batch.held_at_s)], seq)
    return rows
