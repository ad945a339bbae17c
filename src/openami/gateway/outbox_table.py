"""The outbox in SQL: what happens on the thread that owns the database.

`Outbox` is the door; this is the room behind it. Every function takes the connection first and leaves no
transaction open. The running totals are kept by the schema's triggers, so whoever inserts, moves or deletes
an entry need not think of them.
"""

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from openami.gateway import thinning
from openami.gateway.database import transaction
from openami.gateway.disk_reserve import DiskReserve
from openami.gateway.entries import (
    AppendResult,
    Entry,
    Kind,
    OutboxFull,
    Resent,
    Sealed,
    State,
    Thinned,
    Unfit,
    Within,
)
from openami.gateway.room import (
    Ceiling,
    FillRate,
    OutboxLimits,
    Usage,
    ceiling,
    charged,
    room_left,
    to_free,
)
from openami.gateway.stamping import Stamped, settled, unsettled
from openami.gateway.thinning import Candidate, Stage, Untold
from openami.gateway.timekeeping import Facts
from openami.profile import Envelope, ProfileError, decode_envelope

# Entries of an untrusted clock are corrected so many at a time: each is read, decoded and written anew.
RELEASED_PER_PASS: Final = 1_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_PRIMARY_CODE_MASK = 0xFF


def to_ms(moment: datetime) -> int:
    """Return milliseconds since 1970."""
    return (moment - _EPOCH) // _MS


def from_ms(ms: int) -> datetime:
    """Return the moment of so many milliseconds since 1970."""
    return _EPOCH + ms * _MS


@dataclass(frozen=True, slots=True)
class Batch:
    """What one call appends, with the time for the books and the boot for what is held."""

    stamped: Sequence[Stamped]
    now: datetime
    boot_id: str
    held_at_s: float | None = None
    """This second of the boot, when the clock is not trusted: what is dated now must be held too."""
    floor: datetime | None = None
    """The floor of the clock, when it is due to be stored."""


@dataclass(frozen=True, slots=True)
class Level:
    """How full the outbox stands."""

    entries: Mapping[tuple[State, Kind], int]
    usage: Usage
    bound: Ceiling

    def count(self, state: State) -> int:
        """Return how many entries are in a state."""
        return self.entries[state, Kind.EVENT] + self.entries[state, Kind.TELEMETRY]


@dataclass(frozen=True, slots=True)
class Figures:
    """What the state is made of; see `openami.gateway.outbox.OutboxState`."""

    level: Level
    last_seq: int
    last_append: datetime | None
    oldest_pending: datetime | None
    room: timedelta | None
    thinned: Mapping[Stage, Thinned]


@dataclass(frozen=True, slots=True)
class _Row:
    seq: int
    source: Stamped
    payload: bytes

    @property
    def bytes(self) -> int:
        return charged(len(self.payload))


class OutboxTable:
    """The outbox's statements, within its limits."""

    def __init__(self, limits: OutboxLimits, reserve: DiskReserve) -> None:
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
        self, connection: sqlite3.Connection, sealed: Sealed, within: Within, now: datetime
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
        result = self._write(connection, batch)
        if isinstance(result, AppendResult):
            return result
        self._make_room(connection, result, batch.now)
        result = self._write(connection, batch)
        if isinstance(result, AppendResult):
            return result
        events = tuple(item for item in batch.stamped if item.kind is Kind.EVENT)
        stored = self._write(connection, replace(batch, stamped=events)) if events else None
        if not isinstance(stored, AppendResult):
            stored = AppendResult()
        raise self._full(connection, refused=len(batch.stamped) - len(stored.seqs), result=stored)

    def _write(self, connection: sqlite3.Connection, batch: Batch) -> AppendResult | int:
        """Commit the batch; or touch nothing, and return how many bytes must go first."""
        with transaction(connection):
            (last_seq,) = connection.execute("SELECT last_seq FROM outbox_progress").fetchone()
            rows, unfit = _encoded(batch.stamped, last_seq + 1)
            need = self._need(connection, rows)
            if need:
                return need
            report = self._thinned_report(connection, batch, last_seq + len(rows) + 1)
            _insert(connection, [*rows, *report], batch)
            _note_progress(connection, [*rows, *report], batch)
        return AppendResult(
            seqs=tuple(row.seq for row in rows),
            last_seq=last_seq + len(rows) + len(report),
            held=any(row.source.held_at_s is not None for row in rows),
            unfit=unfit,
        )

    def _need(self, connection: sqlite3.Connection, rows: Sequence[_Row]) -> int:
        level = self.level(connection)
        incoming = sum(row.bytes for row in rows)
        telemetry = any(row.source.kind is Kind.TELEMETRY for row in rows)
        bound = level.bound.telemetry if telemetry else level.bound.events
        return to_free(level.usage.total, incoming, bound)

    def _full(
        self, connection: sqlite3.Connection, *, refused: int, result: AppendResult
    ) -> OutboxFull:
        level = self.level(connection)
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

    def _thinned_report(
        self, connection: sqlite3.Connection, batch: Batch, seq: int
    ) -> tuple[_Row, ...]:
        """Return the event about what thinning took since the last one, if one is due."""
        untold = _untold(connection)
        now_ms = to_ms(batch.now)
        (told_ms,) = connection.execute("SELECT thinned_told_ms FROM outbox_progress").fetchone()
        just_told = told_ms is not None and 0 <= now_ms - told_ms < thinning.EVENT_INTERVAL_MS
        if not untold or just_told or not batch.stamped:
            return ()
        first = batch.stamped[0]
        envelope = thinning.thinned_event(
            untold,
            feeder_id=first.envelope.feeder_id,
            gateway_id=first.envelope.gateway_id,
            seq=seq,
            now=batch.now,
        )
        connection.execute("UPDATE outbox_thinned SET untold = 0")
        connection.execute("UPDATE outbox_progress SET thinned_told_ms = ?", (now_ms,))
        source = Stamped(envelope, Kind.EVENT, None, batch.held_at_s)
        rows, _ = _encoded([source], seq)
        return tuple(rows)

    # --- out --------------------------------------------------------------------------------------

    def pending(
        self,
        connection: sqlite3.Connection,
        *,
        at_most: int,
        after: int,
        excluding: Collection[int],
        paused: Collection[str],
    ) -> Sequence[Entry]:
        """Return what may be sent, newest first, events before telemetry."""
        entries: list[Entry] = []
        for kind, above in ((Kind.EVENT, 0), (Kind.TELEMETRY, after)):
            rows = connection.execute(
                _PENDING,
                {
                    "kind": kind,
                    "above": above,
                    "excluding": json.dumps(sorted(excluding)),
                    "paused": json.dumps(sorted(paused)),
                    "at_most": at_most - len(entries),
                },
            )
            entries += (Entry(seq, kind, topic, payload) for seq, topic, payload in rows)
        return entries

    def mark_sent(
        self, connection: sqlite3.Connection, seqs: Collection[int], now: datetime
    ) -> None:
        """Note the broker's acknowledgements, in one commit. A number that is gone is passed over."""
        _move(connection, seqs, State.PENDING, State.SENT, now)

    def set_aside(
        self, connection: sqlite3.Connection, seqs: Collection[int], now: datetime
    ) -> None:
        """Take what the broker refused out of the way of the others."""
        _move(connection, seqs, State.PENDING, State.REFUSED, now)

    def readmit(
        self, connection: sqlite3.Connection, refused_until: datetime, now: datetime
    ) -> int:
        """Let what was refused up to a moment be offered again; return how many."""
        if not self.level(connection).count(State.REFUSED):
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
                (_ceil_ms(since), _ceil_ms(until), at_most + 1),
            ).fetchall()
            connection.executemany(
                "UPDATE outbox_entry SET state = 'pending', since_ms = ? WHERE seq = ?",
                ((to_ms(now), seq) for (seq,) in found[:at_most]),
            )
        return Resent(min(len(found), at_most), complete=len(found) <= at_most)

    # --- the untrusted clock ----------------------------------------------------------------------

    def release(
        self, connection: sqlite3.Connection, *, boot_id: str, facts: Facts, now: datetime
    ) -> None:
        """Correct and release what this boot has held, its clock now being trusted."""
        while held := _held(connection, boot_id, this_boot=True):
            with transaction(connection):
                for seq, held_at_s, envelope in held:
                    _let_go(connection, seq, settled(envelope, held_at_s, facts), now)

    def release_leftovers(
        self, connection: sqlite3.Connection, *, boot_id: str, now: datetime
    ) -> None:
        """Release what an earlier boot has held, as suspect: its time can never be known."""
        while held := _held(connection, boot_id, this_boot=False):
            with transaction(connection):
                for seq, _, envelope in held:
                    _let_go(connection, seq, unsettled(envelope), now)

    # --- bounds -----------------------------------------------------------------------------------

    def tidy(self, connection: sqlite3.Connection, now: datetime) -> None:
        """Keep the bounds in time: what was sent long ago, what stayed unsent too long."""
        kept_until = to_ms(now - timedelta(days=self._limits.kept_days))
        with transaction(connection):
            connection.execute(
                "DELETE FROM outbox_entry WHERE seq IN (SELECT seq FROM outbox_entry"
                " WHERE state = 'sent' AND since_ms < ? ORDER BY seq LIMIT ?)",
                (kept_until, thinning.ENTRIES_PER_PASS),
            )
        excess = self.level(connection).usage.kept - self._limits.kept_bytes_max
        if excess > 0:
            self._thin(connection, Stage.KEPT, excess, now)
        self._thin(connection, Stage.EXPIRED, self._limits.bytes_max, now)

    def _make_room(self, connection: sqlite3.Connection, need: int, now: datetime) -> None:
        for stage in thinning.ORDER:
            while need > 0 and (freed := self._thin(connection, stage, need, now)):
                need -= freed

    def _thin(self, connection: sqlite3.Connection, stage: Stage, need: int, now: datetime) -> int:
        """Delete what one stage gives up, count it in the same transaction, return the bytes freed."""
        expired_ms = to_ms(now - timedelta(days=self._limits.unsent_days_max))
        with transaction(connection):
            chosen = thinning.choose(stage, _candidates(connection, stage, expired_ms), need)
            if not chosen:
                return 0
            connection.executemany(
                "DELETE FROM outbox_entry WHERE seq = ?", ((each.seq,) for each in chosen)
            )
            _count_thinned(connection, stage, chosen, now)
        return sum(each.bytes for each in chosen)

    # --- figures ----------------------------------------------------------------------------------

    def level(self, connection: sqlite3.Connection) -> Level:
        """Return how full the outbox is, from the running totals."""
        entries: dict[tuple[State, Kind], int] = {}
        unsent = {Kind.EVENT: 0, Kind.TELEMETRY: 0}
        kept = 0
        rows = connection.execute("SELECT state, kind, entries, bytes FROM outbox_total")
        for state, kind, count, size in rows:
            entries[State(state), Kind(kind)] = count
            if state == State.SENT:
                kept += size
            else:
                unsent[Kind(kind)] += size
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        return Level(
            entries,
            Usage(unsent[Kind.EVENT], unsent[Kind.TELEMETRY], kept),
            ceiling(
                self._limits,
                file_bytes=pages * page_bytes,
                disk_free=self._reserve.free_bytes(),
            ),
        )

    def figures(self, connection: sqlite3.Connection) -> Figures:
        """Return what the outbox tells about itself: a few rows, whatever its size."""
        level = self.level(connection)
        last_seq, last_append_ms, recent_bytes, observed_s = connection.execute(
            "SELECT last_seq, last_append_ms, recent_bytes, observed_s FROM outbox_progress"
        ).fetchone()
        (oldest_ms,) = connection.execute(_OLDEST_PENDING).fetchone()
        return Figures(
            level,
            last_seq,
            None if last_append_ms is None else from_ms(last_append_ms),
            None if oldest_ms is None else from_ms(oldest_ms),
            room_left(FillRate(recent_bytes, observed_s), level.usage, level.bound),
            {
                Stage(stage): Thinned(count, size, *map(from_ms, moments))
                for stage, count, size, *moments in connection.execute(_THINNED)
            },
        )

    def floor(self, connection: sqlite3.Connection) -> datetime:
        """Return the latest time a source has vouched for."""
        (floor_ms,) = connection.execute("SELECT floor_ms FROM timekeeping").fetchone()
        return from_ms(floor_ms)


# 'pending' stands in the text because the index is only over those.
_PENDING = """
SELECT seq, topic, payload
FROM outbox_entry JOIN outbox_payload USING (seq) JOIN outbox_topic ON id = topic_id
WHERE state = 'pending' AND kind = :kind AND seq > :above
  AND seq NOT IN (SELECT value FROM json_each(:excluding))
  AND topic NOT IN (SELECT value FROM json_each(:paused))
ORDER BY seq DESC LIMIT :at_most
"""

_OLDEST_PENDING = """
SELECT min(ts_ms) FROM outbox_entry WHERE seq IN (
    (SELECT min(seq) FROM outbox_entry WHERE state = 'pending' AND kind = 'event'),
    (SELECT min(seq) FROM outbox_entry WHERE state = 'pending' AND kind = 'telemetry'))
"""

_THINNED = "SELECT stage, entries, bytes, oldest_ts_ms, newest_ts_ms, last_ms FROM outbox_thinned"

# Oldest first by the table's own order: nothing is sorted, and the rows come as they are asked for.
_CANDIDATES = """
SELECT seq, topic_id, poll_group, ts_ms, since_ms, bytes FROM outbox_entry NOT INDEXED
WHERE CASE :stage
    WHEN 'kept' THEN state = 'sent'
    WHEN 'fast' THEN state <> 'sent' AND kind = 'telemetry' AND poll_group = 'fast'
    WHEN 'expired' THEN state <> 'sent' AND kind = 'telemetry' AND since_ms < :expired_ms
    ELSE state <> 'sent' AND kind = 'telemetry'
END
ORDER BY seq
"""

_HELD = """
SELECT seq, boottime_s, payload FROM outbox_held JOIN outbox_payload USING (seq)
WHERE (boot_id = :boot_id) = :this_boot
ORDER BY seq LIMIT :at_most
"""


def _candidates(
    connection: sqlite3.Connection, stage: Stage, expired_ms: int
) -> Iterator[Candidate]:
    with closing(
        connection.execute(_CANDIDATES, {"stage": stage, "expired_ms": expired_ms})
    ) as rows:
        for row in rows:
            yield Candidate(*row)


def _held(
    connection: sqlite3.Connection, boot_id: str, *, this_boot: bool
) -> list[tuple[int, float, Envelope]]:
    rows = connection.execute(
        _HELD, {"boot_id": boot_id, "this_boot": this_boot, "at_most": RELEASED_PER_PASS}
    ).fetchall()
    return [(seq, held_at_s, decode_envelope(payload)) for seq, held_at_s, payload in rows]


def _encoded(stamped: Sequence[Stamped], first_seq: int) -> tuple[list[_Row], tuple[Unfit, ...]]:
    """Number and encode; a draft no head-end could accept is set apart and takes no number."""
    rows: list[_Row] = []
    unfit: list[Unfit] = []
    for item in stamped:
        seq = first_seq + len(rows)
        try:
            rows.append(_Row(seq, item, msgspec.structs.replace(item.envelope, seq=seq).encode()))
        except ProfileError as error:
            unfit.append(Unfit(item.envelope, error))
    return rows, tuple(unfit)


def _insert(connection: sqlite3.Connection, rows: Sequence[_Row], batch: Batch) -> None:
    now_ms = to_ms(batch.now)
    connection.executemany(
        "INSERT OR IGNORE INTO outbox_topic (topic) VALUES (?)",
        [(topic,) for topic in {row.source.topic for row in rows}],
    )
    connection.executemany(
        "INSERT INTO outbox_entry VALUES"
        " (?, ?, ?, ?, (SELECT id FROM outbox_topic WHERE topic = ?), ?, ?, ?)",
        [
            (
                row.seq,
                State.PENDING if row.source.held_at_s is None else State.HELD,
                row.source.kind,
                row.source.group,
                row.source.topic,
                to_ms(row.source.envelope.ts),
                now_ms,
                row.bytes,
            )
            for row in rows
        ],
    )
    connection.executemany(
        "INSERT INTO outbox_payload VALUES (?, ?)", [(row.seq, row.payload) for row in rows]
    )
    connection.executemany(
        "INSERT INTO outbox_held VALUES (?, ?, ?)",
        [
            (row.seq, batch.boot_id, row.source.held_at_s)
            for row in rows
            if row.source.held_at_s is not None
        ],
    )


def _write_sealed(
    connection: sqlite3.Connection, sealed: Sealed, within: Within, now: datetime
) -> int:
    with transaction(connection):
        (last_seq,) = connection.execute("SELECT last_seq FROM outbox_progress").fetchone()
        seq: int = last_seq + 1
        payload = sealed.seal(seq)
        connection.execute("INSERT OR IGNORE INTO outbox_topic (topic) VALUES (?)", (sealed.topic,))
        connection.execute(
            "INSERT INTO outbox_entry VALUES (?, 'pending', 'event', NULL,"
            " (SELECT id FROM outbox_topic WHERE topic = ?), ?, ?, ?)",
            (seq, sealed.topic, to_ms(sealed.ts), to_ms(now), charged(len(payload))),
        )
        connection.execute("INSERT INTO outbox_payload VALUES (?, ?)", (seq, payload))
        connection.execute("UPDATE outbox_progress SET last_seq = ?", (seq,))
        within(connection, payload)
    return seq


def _note_progress(connection: sqlite3.Connection, rows: Sequence[_Row], batch: Batch) -> None:
    last_ms, recent_bytes, observed_s = connection.execute(
        "SELECT last_append_ms, recent_bytes, observed_s FROM outbox_progress"
    ).fetchone()
    now_ms = to_ms(batch.now)
    elapsed_s = 0.0 if last_ms is None else (now_ms - last_ms) / 1000
    rate = FillRate(recent_bytes, observed_s).after(sum(row.bytes for row in rows), elapsed_s)
    connection.execute(
        "UPDATE outbox_progress SET last_seq = last_seq + ?, last_append_ms = ?,"
        " recent_bytes = ?, observed_s = ?",
        (len(rows), now_ms, rate.recent_bytes, rate.observed_s),
    )
    if batch.floor is not None:
        connection.execute("UPDATE timekeeping SET floor_ms = ?", (to_ms(batch.floor),))


def _move(
    connection: sqlite3.Connection, seqs: Collection[int], old: State, new: State, now: datetime
) -> None:
    with transaction(connection):
        connection.executemany(
            "UPDATE outbox_entry SET state = ?, since_ms = ? WHERE seq = ? AND state = ?",
            [(new, to_ms(now), seq, old) for seq in seqs],
        )


def _let_go(connection: sqlite3.Connection, seq: int, envelope: Envelope, now: datetime) -> None:
    payload = envelope.encode()
    connection.execute("UPDATE outbox_payload SET payload = ? WHERE seq = ?", (payload, seq))
    connection.execute(
        "UPDATE outbox_entry SET state = 'pending', ts_ms = ?, since_ms = ?, bytes = ? WHERE seq = ?",
        (to_ms(envelope.ts), to_ms(now), charged(len(payload)), seq),
    )
    connection.execute("DELETE FROM outbox_held WHERE seq = ?", (seq,))


def _count_thinned(
    connection: sqlite3.Connection, stage: Stage, gone: Sequence[Candidate], now: datetime
) -> None:
    oldest, newest = min(each.ts_ms for each in gone), max(each.ts_ms for each in gone)
    connection.execute(
        "INSERT INTO outbox_thinned VALUES (:stage, :n, :bytes, :oldest, :newest, :now, :untold,"
        " :oldest, :newest)"
        " ON CONFLICT (stage) DO UPDATE SET entries = entries + :n, bytes = bytes + :bytes,"
        " oldest_ts_ms = min(oldest_ts_ms, :oldest), newest_ts_ms = max(newest_ts_ms, :newest),"
        " last_ms = :now,"
        " untold_oldest_ts_ms = iif(untold, min(untold_oldest_ts_ms, :oldest), :oldest),"
        " untold_newest_ts_ms = iif(untold, max(untold_newest_ts_ms, :newest), :newest),"
        " untold = untold + :untold",
        {
            "stage": stage,
            "n": len(gone),
            "bytes": sum(each.bytes for each in gone),
            "oldest": oldest,
            "newest": newest,
            "now": to_ms(now),
            "untold": len(gone) if thinning.is_loss(stage) else 0,
        },
    )


def _untold(connection: sqlite3.Connection) -> list[Untold]:
    rows = connection.execute(
        "SELECT stage, untold, untold_oldest_ts_ms, untold_newest_ts_ms FROM outbox_thinned"
        " WHERE untold > 0"
    )
    return [Untold(Stage(stage), n, from_ms(old), from_ms(new)) for stage, n, old, new in rows]


def _ceil_ms(moment: datetime) -> int:
    """Return the first stored millisecond that is not before the moment."""
    return -((_EPOCH - moment) // _MS)
