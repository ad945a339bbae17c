"""The account of each day in the gateway's database: counted from the outbox, kept until it is stated.

Every function takes the connection. Envelopes are counted
in the order of their numbers and a bounded number at a time, behind the collectors and not in their way; what is
held for the clock stops the count until its time is known.
"""

# Statements are put together from this program's own words; every value is bound.
# ruff: noqa: S608

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final

from openami.gateway.thinning import Candidate
from openami.profile import (
    Envelope,
    EventTopic,
    ProfileError,
    TelemetryTopic,
    decode_envelope,
    parse_topic,
)
from openami.sip.account import DIGEST_BYTES, MeterDay, Standing, day_of, is_counted, ms_of
from openami.sip.statements import METERS_PER_PART_MAX, PARTS_MAX, Stated
from openami.sqlite_transaction import transaction

# So many days after the last stated one are kept account of: twice what is still stated; a meter that tells
# a day years ahead, or a gateway whose key was taken away, fills no disk.
OPEN_DAYS_MAX: Final = 62
# Read, decoded and hashed in one go: twenty milliseconds, a hundred on a Pi, in which no reading is stored.
ENVELOPES_PER_STEP_MAX: Final = 100


@dataclass(slots=True)
class _Row:
    """A meter's day, and what of it was counted last: a meter that tells one moment twice counts once."""

    account: MeterDay = field(default_factory=MeterDay)
    told: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Part:
    """What is to be stated next."""

    day: date
    part: int
    parts: int
    meters: tuple[Stated, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """Up to which day there are statements (None: it has not begun), and whether one is half made."""

    stated_until: date | None
    parts_done: int


def progress(connection: sqlite3.Connection) -> Progress:
    """Return how far the statements are."""
    (until, done) = connection.execute(
        "SELECT stated_until, parts_done FROM day_progress"
    ).fetchone()
    return Progress(None if until is None else date.fromisoformat(until), done)


def begin(connection: sqlite3.Connection, today: date) -> None:
    """Begin with today, or with tomorrow where the outbox is older than the account: half a day is not a day."""
    with transaction(connection):
        (accounted,) = connection.execute("SELECT accounted_seq FROM day_progress").fetchone()
        skipped = today if accounted else today - timedelta(days=1)
        connection.execute(
            "UPDATE day_progress SET stated_until = ? WHERE stated_until IS NULL", (str(skipped),)
        )


def skip_to(connection: sqlite3.Connection, stated_until: date) -> None:
    """Give days up that are too long ago to be stated."""
    with transaction(connection):
        _close_day(connection, stated_until)


# --- counting ------------------------------------------------------------------------------------

_NEXT: Final = """
SELECT seq, payload FROM outbox_entry NOT INDEXED JOIN outbox_payload USING (seq)
WHERE seq > (SELECT accounted_seq FROM day_progress)
  AND seq < coalesce((SELECT min(seq) FROM outbox_held), 9223372036854775807)
ORDER BY seq LIMIT ?
"""
_PUT: Final = """
INSERT INTO day_account (day, meter, readings, digest, first_ms, first_value, last_ms, last_value, told)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (day, meter) DO UPDATE SET
    readings = excluded.readings, digest = excluded.digest,
    first_ms = excluded.first_ms, first_value = excluded.first_value,
    last_ms = excluded.last_ms, last_value = excluded.last_value, told = excluded.told
"""


def count_some(connection: sqlite3.Connection) -> bool:
    """Count the next envelopes in one transaction; return whether there may be more."""
    with transaction(connection):
        closed = _closed_until(connection)
        if closed is None:
            return False
        found = connection.execute(_NEXT, (ENVELOPES_PER_STEP_MAX,)).fetchall()
        if not found:
            return False
        rows: dict[tuple[str, str], _Row] = {}
        for _, payload in found:
            try:
                envelope = decode_envelope(payload)
            except ProfileError:
                continue  # of an older version: no head-end stores a reading of it either
            day = day_of(ms_of(envelope.ts))
            if _is_open(day, closed):
                _count(connection, rows, str(day), envelope)
        connection.executemany(_PUT, [_cells(*key, row) for key, row in rows.items()])
        connection.execute("UPDATE day_progress SET accounted_seq = ?", (found[-1][0],))
    return len(found) == ENVELOPES_PER_STEP_MAX


def waits_for_the_clock(connection: sqlite3.Connection) -> bool:
    """Return whether something is recorded whose time is not known yet."""
    return connection.execute("SELECT 1 FROM outbox_held LIMIT 1").fetchone() is not None


def count_thinned(connection: sqlite3.Connection, chosen: Sequence[Candidate]) -> None:
    """Count envelopes that were given up unsent, for the statements still to be made."""
    closed = _closed_until(connection)
    meters: dict[int, str] = {}
    counts: dict[tuple[str, str], int] = {}
    for candidate in chosen:
        day = day_of(candidate.ts_ms)
        if not _is_open(day, closed):
            continue
        if candidate.topic_id not in meters:
            meters[candidate.topic_id] = _meter_of(connection, candidate.topic_id)
        key = (str(day), meters[candidate.topic_id])
        counts[key] = counts.get(key, 0) + 1
    connection.executemany(
        "INSERT INTO day_account (day, meter, thinned) VALUES (?, ?, ?)"
        " ON CONFLICT (day, meter) DO UPDATE SET thinned = thinned + excluded.thinned",
        [(*key, count) for key, count in counts.items()],
    )


def _count(
    connection: sqlite3.Connection,
    rows: dict[tuple[str, str], _Row],
    day: str,
    envelope: Envelope,
) -> None:
    meter, ts_ms = envelope.meter_serial, ms_of(envelope.ts)
    counted = [r for r in envelope.registers if is_counted(r.obis, r.quality)]
    if not counted:
        return
    key = (day, meter)
    if key not in rows:
        rows[key] = _read(connection, day, meter)
    row = rows[key]
    for register in counted:
        name = str(register.obis)
        if row.told.get(name) != ts_ms:
            row.told[name] = ts_ms
            row.account.add(meter, register.obis, ts_ms, register.value, register.unit)


def _closed_until(connection: sqlite3.Connection) -> date | None:
    """Return the last day that is stated, or about to be: of it nothing is counted any more."""
    known = progress(connection)
    if known.stated_until is None or not known.parts_done:
        return known.stated_until
    return known.stated_until + timedelta(days=1)


def _is_open(day: date, closed: date | None) -> bool:
    return closed is not None and closed < day <= closed + timedelta(days=OPEN_DAYS_MAX)


def _read(connection: sqlite3.Connection, day: str, meter: str) -> _Row:
    found = connection.execute(
        f"SELECT {_COLUMNS}, told FROM day_account WHERE day = ? AND meter = ?", (day, meter)
    ).fetchone()
    return _Row() if found is None else _Row(_account(*found[:-1]), json.loads(found[-1]))


_COLUMNS: Final = "readings, digest, first_ms, first_value, last_ms, last_value"


def _account(
    readings: int,
    digest: bytes,
    first_ms: int | None,
    first_value: int | float,
    last_ms: int | None,
    last_value: int | float,
) -> MeterDay:
    return MeterDay(
        readings,
        int.from_bytes(digest, "big"),
        None if first_ms is None else Standing(first_ms, first_value),
        None if last_ms is None else Standing(last_ms, last_value),
    )


def _cells(day: str, meter: str, row: _Row) -> tuple[object, ...]:
    account = row.account
    first, last = account.first, account.last
    return (
        day,
        meter,
        account.readings,
        account.digest.to_bytes(DIGEST_BYTES, "big"),
        None if first is None else first.ts_ms,
        None if first is None else first.value,
        None if last is None else last.ts_ms,
        None if last is None else last.value,
        json.dumps(row.told),
    )


def _meter_of(connection: sqlite3.Connection, topic_id: int) -> str:
    (text,) = connection.execute(
        "SELECT topic FROM outbox_topic WHERE id = ?", (topic_id,)
    ).fetchone()
    topic = parse_topic(text)
    assert isinstance(topic, TelemetryTopic | EventTopic), "the outbox has no other"
    return topic.meter_serial


# --- stating -------------------------------------------------------------------------------------


def next_part(connection: sqlite3.Connection, day: date) -> Part:
    """Return the next part of a day's statement. What was stated of it is not there any more."""
    rows = connection.execute(
        f"SELECT meter, thinned, {_COLUMNS} FROM day_account WHERE day = ? ORDER BY meter LIMIT ?",
        (str(day), METERS_PER_PART_MAX),
    ).fetchall()
    (left,) = connection.execute(
        "SELECT count(*) FROM day_account WHERE day = ?", (str(day),)
    ).fetchone()
    parts, done = connection.execute("SELECT parts, parts_done FROM day_progress").fetchone()
    if not done:
        parts = min(PARTS_MAX, max(1, -(-left // METERS_PER_PART_MAX)))
    meters = tuple(Stated(meter, _account(*cells), thinned) for meter, thinned, *cells in rows)
    return Part(day, done + 1, parts, meters)


def note_stated(connection: sqlite3.Connection, part: Part) -> None:
    """Note in the transaction that stores a part that it is made; with the last, that its day is."""
    connection.executemany(
        "DELETE FROM day_account WHERE day = ? AND meter = ?",
        [(str(part.day), stated.meter) for stated in part.meters],
    )
    if part.part < part.parts:
        connection.execute(
            "UPDATE day_progress SET parts = ?, parts_done = ?", (part.parts, part.part)
        )
    else:
        _close_day(connection, part.day)


def _close_day(connection: sqlite3.Connection, day: date) -> None:
    connection.execute("DELETE FROM day_account WHERE day <= ?", (str(day),))
    connection.execute(
        "UPDATE day_progress SET stated_until = ?, parts = 0, parts_done = 0", (str(day),)
    )
