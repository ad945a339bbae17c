"""The outbox's books: how full it is, how fast it fills, what it has given up. In SQL; a few rows each.

The totals by state and kind are kept by the schema's triggers, in the transaction of whatever changes them.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from openami.gateway import thinning
from openami.gateway.disk_reserve import DiskReserve
from openami.gateway.entries import Kind, State, Thinned
from openami.gateway.outbox_rows import from_ms, to_ms
from openami.gateway.room import Ceiling, FillRate, OutboxLimits, Usage, ceiling, room_left
from openami.gateway.thinning import Candidate, Stage, Untold
from openami.gateway.timekeeping import Floor


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


class Books:
    """The figures, read within the outbox's limits and what its disk gives."""

    def __init__(self, limits: OutboxLimits, reserve: DiskReserve) -> None:
        self._limits = limits
        self._reserve = reserve

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


_OLDEST_PENDING = """
SELECT min(ts_ms) FROM outbox_entry WHERE seq IN (
    (SELECT min(seq) FROM outbox_entry WHERE state = 'pending' AND kind = 'event'),
    (SELECT min(seq) FROM outbox_entry WHERE state = 'pending' AND kind = 'telemetry'))
"""

_THINNED = "SELECT stage, entries, bytes, oldest_ts_ms, newest_ts_ms, last_ms FROM outbox_thinned"


def note_appended(
    connection: sqlite3.Connection, *, entries: int, size: int, now: datetime
) -> None:
    """Count numbers given and bytes taken, and so the rate of filling."""
    last_ms, recent_bytes, observed_s = connection.execute(
        "SELECT last_append_ms, recent_bytes, observed_s FROM outbox_progress"
    ).fetchone()
    elapsed_s = 0.0 if last_ms is None else (to_ms(now) - last_ms) / 1000
    rate = FillRate(recent_bytes, observed_s).after(size, elapsed_s)
    connection.execute(
        "UPDATE outbox_progress SET last_seq = last_seq + ?, last_append_ms = ?,"
        " recent_bytes = ?, observed_s = ?",
        (entries, to_ms(now), rate.recent_bytes, rate.observed_s),
    )


def count_thinned(
    connection: sqlite3.Connection, stage: Stage, gone: Sequence[Candidate], now: datetime
) -> None:
    """Count what a stage has taken, for good and for the next report."""
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


def untold(connection: sqlite3.Connection, now: datetime) -> list[Untold]:
    """Return what thinning took and no event has told; nothing while the last event is fresh."""
    (told_ms,) = connection.execute("SELECT thinned_told_ms FROM outbox_progress").fetchone()
    if told_ms is not None and 0 <= to_ms(now) - told_ms < thinning.EVENT_INTERVAL_MS:
        return []
    rows = connection.execute(
        "SELECT stage, untold, untold_oldest_ts_ms, untold_newest_ts_ms FROM outbox_thinned"
        " WHERE untold > 0"
    )
    return [Untold(Stage(stage), n, from_ms(old), from_ms(new)) for stage, n, old, new in rows]


def note_told(connection: sqlite3.Connection, now: datetime) -> None:
    """Note that an event tells all of it."""
    connection.execute("UPDATE outbox_thinned SET untold = 0")
    connection.execute("UPDATE outbox_progress SET thinned_told_ms = ?", (to_ms(now),))


def read_floor(connection: sqlite3.Connection) -> Floor:
    """Return the latest time a source has vouched for."""
    floor_ms, boot_id, at_s = connection.execute(
        "SELECT floor_ms, boot_id, at_s FROM timekeeping"
    ).fetchone()
    return Floor(from_ms(floor_ms), boot_id, at_s)


def store_floor(connection: sqlite3.Connection, floor: Floor) -> None:
    """Store it."""
    connection.execute(
        "UPDATE timekeeping SET floor_ms = ?, boot_id = ?, at_s = ?",
        (to_ms(floor.moment), floor.boot_id, floor.at_s),
    )


def raise_floor(connection: sqlite3.Connection, moment: datetime) -> None:
    """Store a bound that an earlier boot has left, if it is later than what is stored."""
    connection.execute(
        "UPDATE timekeeping SET floor_ms = :ms, boot_id = '', at_s = 0 WHERE floor_ms < :ms",
        {"ms": to_ms(moment)},
    )
