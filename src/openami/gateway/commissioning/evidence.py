"""The first hour's evidence, read from the outbox beside the running gateway.

On a connection of its own that can only read: neither the poll cycle nor the uplink waits for it.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from openami.gateway.backlog import read_figures
from openami.gateway.commissioning.acceptance import UplinkFacts
from openami.gateway.commissioning.hour import HOUR, MeterHour, Recorded, read_hour
from openami.gateway.database import DatabaseError, explained
from openami.gateway.driver import PollGroup
from openami.gateway.entries import State
from openami.gateway.room import OutboxLimits
from openami.profile import ProfileError, decode_envelope

# A thousand meters asked every ten seconds come to less; what is beyond counts as not read.
ENVELOPES_MAX: Final = 400_000

# NOT INDEXED: the one index is of what is pending, and most of the hour is sent.
_HOUR: Final = (
    "SELECT poll_group, payload FROM outbox_entry NOT INDEXED JOIN outbox_payload USING (seq)"
    " WHERE ts_ms >= ? AND ts_ms < ? ORDER BY seq LIMIT ?"
)
_SENT: Final = (
    "SELECT state, count(*), min(ts_ms) FROM outbox_entry NOT INDEXED"
    " WHERE ts_ms >= ? AND ts_ms < ? GROUP BY state"
)


def hour_of(database: Path, began_at: datetime) -> dict[str, MeterHour]:
    """Return what each meter told in the hour from ``began_at``. Raises DatabaseError."""
    with closing(_reading(database)) as connection:
        try:
            return read_hour(
                _recorded(connection, began_at), began_at=began_at, ended_at=began_at + HOUR
            )
        except sqlite3.Error as error:
            raise explained(error, database) from error


def uplink_of(database: Path, began_at: datetime) -> UplinkFacts:
    """Return what became of the hour's messages. Raises DatabaseError."""
    with closing(_reading(database)) as connection:
        try:
            rows = connection.execute(_SENT, _bounds(began_at)).fetchall()
        except sqlite3.Error as error:
            raise explained(error, database) from error
    counts = {State(state): (count, oldest_ms) for state, count, oldest_ms in rows}

    def count(state: State) -> int:
        return int(counts.get(state, (0, 0))[0])

    waiting = [counts[s][1] for s in (State.PENDING, State.HELD) if s in counts]
    return UplinkFacts(
        sent=count(State.SENT),
        waiting=count(State.PENDING) + count(State.HELD),
        held=count(State.HELD),
        refused=count(State.REFUSED),
        oldest_waiting=datetime.fromtimestamp(min(waiting) / 1000, UTC) if waiting else None,
    )


def room_days(database: Path, limits: OutboxLimits) -> float | None:
    """Return for how many days the outbox lasts without a broker; None while unknown. Raises DatabaseError."""
    figures = read_figures(database, limits)
    if figures is None or figures.room is None:
        return None
    return figures.room / timedelta(days=1)


def _recorded(connection: sqlite3.Connection, began_at: datetime) -> Iterator[Recorded]:
    for group, payload in connection.execute(_HOUR, (*_bounds(began_at), ENVELOPES_MAX)):
        try:
            envelope = decode_envelope(payload)
        except ProfileError:
            continue  # of an older version of this program: nothing of this hour is
        yield Recorded(envelope, None if group is None else PollGroup(group))


def _bounds(began_at: datetime) -> tuple[int, int]:
    begin_ms = int(began_at.timestamp() * 1000)
    return begin_ms, begin_ms + int(HOUR.total_seconds() * 1000)


def _reading(database: Path) -> sqlite3.Connection:
    try:
        return sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)
    except sqlite3.OperationalError:
        raise DatabaseError(
            f"{database} is not there",
            remedy="the gateway makes it when it first runs",
            permanent=True,
        ) from None
