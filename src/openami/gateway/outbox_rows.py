"""The outbox's rows in SQL: encode and insert, look up, move, delete.

Every function takes the connection first and is called with a transaction open where it writes. The running
totals are kept by the schema's triggers, so nobody here need think of them.
"""

import json
import sqlite3
from collections.abc import Collection, Generator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from msgspec.structs import replace

from openami.gateway.entries import Entry, Kind, State, Unfit
from openami.gateway.room import charged
from openami.gateway.stamping import Stamped
from openami.gateway.thinning import Candidate, Stage
from openami.profile import Envelope, ProfileError, decode_envelope

# Entries of an untrusted clock are corrected so many at a time: each is read, decoded and written anew.
RELEASED_PER_PASS: Final = 1_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


def to_ms(moment: datetime) -> int:
    """Return the milliseconds since 1970, what is less than one dropped."""
    return (moment - _EPOCH) // _MS


def ceil_ms(moment: datetime) -> int:
    """Return the first millisecond since 1970 that is not before the moment."""
    return -((_EPOCH - moment) // _MS)


def from_ms(ms: int) -> datetime:
    """Return the moment of so many milliseconds since 1970."""
    return _EPOCH + ms * _MS


class Row(msgspec.Struct, frozen=True):
    """An entry about to be inserted."""

    seq: int
    source: Stamped
    payload: bytes

    @property
    def bytes(self) -> int:
        """What it is charged with."""
        return charged(len(self.payload))


def encoded(stamped: Sequence[Stamped], first_seq: int) -> tuple[list[Row], tuple[Unfit, ...]]:
    """Number and encode; a draft no head-end could accept is set apart and takes no number."""
    rows: list[Row] = []
    unfit: list[Unfit] = []
    for item in stamped:
        seq = first_seq + len(rows)
        try:
            rows.append(Row(seq, item, replace(item.envelope, seq=seq).encode()))
        except ProfileError as error:
            unfit.append(Unfit(item.envelope, error))
    return rows, tuple(unfit)


def insert(
    connection: sqlite3.Connection, rows: Sequence[Row], *, now: datetime, boot_id: str
) -> None:
    """Insert entries, held where they name a second of the boot, otherwise pending."""
    now_ms = to_ms(now)
    topics = [row.source.topic for row in rows]
    connection.executemany(
        "INSERT OR IGNORE INTO outbox_topic (topic) VALUES (?)", [(topic,) for topic in set(topics)]
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
                topic,
                to_ms(row.source.envelope.ts),
                now_ms,
                row.bytes,
            )
            for row, topic in zip(rows, topics, strict=True)
        ],
    )
    connection.executemany(
        "INSERT INTO outbox_payload VALUES (?, ?)", [(row.seq, row.payload) for row in rows]
    )
    connection.executemany(
        "INSERT INTO outbox_held VALUES (?, ?, ?)",
        [
            (row.seq, boot_id, row.source.held_at_s)
            for row in rows
            if row.source.held_at_s is not None
        ],
    )


def insert_event(
    connection: sqlite3.Connection,
    seq: int,
    *,
    topic: str,
    ts: datetime,
    payload: bytes,
    now: datetime,
) -> None:
    """Insert an event whose bytes are made, pending."""
    connection.execute("INSERT OR IGNORE INTO outbox_topic (topic) VALUES (?)", (topic,))
    connection.execute(
        "INSERT INTO outbox_entry VALUES (?, 'pending', 'event', NULL,"
        " (SELECT id FROM outbox_topic WHERE topic = ?), ?, ?, ?)",
        (seq, topic, to_ms(ts), to_ms(now), charged(len(payload))),
    )
    connection.execute("INSERT INTO outbox_payload VALUES (?, ?)", (seq, payload))


# 'pending' stands in the text because the index is only over those.
_PENDING = """
SELECT seq, topic, payload
FROM outbox_entry JOIN outbox_payload USING (seq) JOIN outbox_topic ON id = topic_id
WHERE state = 'pending' AND kind = :kind AND seq > :above
  AND seq NOT IN (SELECT value FROM json_each(:excluding))
  AND topic NOT IN (SELECT value FROM json_each(:paused))
ORDER BY seq DESC LIMIT :at_most
"""
# Looked up by their numbers: of a hundred thousand that wait, a few may go.
_PENDING_AMONG = """
SELECT seq, topic, payload
FROM outbox_entry JOIN outbox_payload USING (seq) JOIN outbox_topic ON id = topic_id
WHERE seq IN (SELECT value FROM json_each(:among)) AND state = 'pending' AND kind = :kind AND seq > :above
  AND seq NOT IN (SELECT value FROM json_each(:excluding))
  AND topic NOT IN (SELECT value FROM json_each(:paused))
ORDER BY seq DESC LIMIT :at_most
"""


def pending(
    connection: sqlite3.Connection,
    *,
    at_most: int,
    after: int,
    excluding: Collection[int],
    paused: Collection[str],
    among: Collection[int] | None = None,
) -> list[Entry]:
    """Return what may be sent: events before telemetry above ``after``, and ``among``; each newest first."""
    entries: list[Entry] = []
    for kind, above in ((Kind.EVENT, 0), (Kind.TELEMETRY, after)):
        by_number = among is not None and kind is Kind.TELEMETRY
        rows = connection.execute(
            _PENDING_AMONG if by_number else _PENDING,
            {
                "kind": kind,
                "among": json.dumps(sorted(among or ())),
                "above": above,
                "excluding": json.dumps(sorted(excluding)),
                "paused": json.dumps(sorted(paused)),
                "at_most": at_most - len(entries),
            },
        )
        entries += (Entry(seq, kind, topic, payload) for seq, topic, payload in rows)
    return entries


def move(
    connection: sqlite3.Connection, seqs: Collection[int], old: State, new: State, now: datetime
) -> None:
    """Move entries from one state to another; those that are not in it, or are gone, are passed over."""
    now_ms = to_ms(now)
    connection.executemany(
        "UPDATE outbox_entry SET state = ?, since_ms = ? WHERE seq = ? AND state = ?",
        [(new, now_ms, seq, old) for seq in seqs],
    )


_HELD = """
SELECT seq, boottime_s, payload FROM outbox_held JOIN outbox_payload USING (seq)
WHERE (boot_id = :boot_id) = :this_boot
ORDER BY seq LIMIT :at_most
"""


def held(
    connection: sqlite3.Connection, boot_id: str, *, this_boot: bool
) -> list[tuple[int, float, Envelope]]:
    """Return some of what this boot, or an earlier one, has held: number, second of its boot, envelope."""
    rows = connection.execute(
        _HELD, {"boot_id": boot_id, "this_boot": this_boot, "at_most": RELEASED_PER_PASS}
    ).fetchall()
    return [(seq, held_at_s, decode_envelope(payload)) for seq, held_at_s, payload in rows]


def let_go(connection: sqlite3.Connection, seq: int, envelope: Envelope, now: datetime) -> None:
    """Make a held entry pending, with the time it is now known or assumed to have."""
    payload = envelope.encode()
    connection.execute("UPDATE outbox_payload SET payload = ? WHERE seq = ?", (payload, seq))
    connection.execute(
        "UPDATE outbox_entry SET state = 'pending', ts_ms = ?, since_ms = ?, bytes = ? WHERE seq = ?",
        (to_ms(envelope.ts), to_ms(now), charged(len(payload)), seq),
    )
    connection.execute("DELETE FROM outbox_held WHERE seq = ?", (seq,))


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


def candidates(
    connection: sqlite3.Connection, stage: Stage, expired_ms: int
) -> Generator[Candidate, None, None]:
    """Yield what a stage of thinning may take, oldest first."""
    with closing(
        connection.execute(_CANDIDATES, {"stage": stage, "expired_ms": expired_ms})
    ) as rows:
        for row in rows:
            yield Candidate(*row)


def delete(connection: sqlite3.Connection, seqs: Collection[int]) -> None:
    """Delete entries, payloads and all."""
    connection.executemany("DELETE FROM outbox_entry WHERE seq = ?", ((seq,) for seq in seqs))
