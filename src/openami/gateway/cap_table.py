"""The month's account in the gateway's database, and which waiting envelopes are the first of their hour or day."""

import sqlite3
from collections.abc import Mapping
from datetime import datetime

from openami.gateway.monthly_cap import CapStage, Standing
from openami.gateway.outbox_rows import ceil_ms, from_ms, to_ms

Series = tuple[int, str | None]
"""A meter's topic and a poll group, as the outbox knows them."""


def read(connection: sqlite3.Connection) -> Standing:
    """Return the month as it was last stored."""
    begin_ms, used, stage, withheld_ms = connection.execute(
        "SELECT begin_ms, used_bytes, stage, withheld_ms FROM link_month"
    ).fetchone()
    return Standing(_moment(begin_ms), used, CapStage(stage), _moment(withheld_ms))


def store(connection: sqlite3.Connection, standing: Standing) -> None:
    """Store it, within the transaction of whoever calls."""
    connection.execute(
        "UPDATE link_month SET begin_ms = ?, used_bytes = ?, stage = ?, withheld_ms = ?",
        (_ms(standing.month_began), standing.used_bytes, standing.stage, _ms(standing.withheld_at)),
    )


def _moment(ms: int | None) -> datetime | None:
    return None if ms is None else from_ms(ms)


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else to_ms(moment)


def waits(connection: sqlite3.Connection, *, since: datetime) -> bool:
    """Return whether telemetry waits that came before a moment; the oldest is the first that is looked at."""
    (found,) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM outbox_entry"
        " WHERE state = 'pending' AND kind = 'telemetry' AND since_ms < ? ORDER BY seq)",
        (to_ms(since),),
    ).fetchone()
    return bool(found)


def first_of_each(
    connection: sqlite3.Connection, *, since: datetime, above: int
) -> Mapping[Series, int]:
    """Return the first envelope of each meter and group that waits and was measured since a moment.

    Only those numbered above ``above`` are looked through.
    """
    rows = connection.execute(
        "SELECT topic_id, poll_group, min(seq) FROM outbox_entry"
        " WHERE state = 'pending' AND kind = 'telemetry' AND seq > ? AND ts_ms >= ?"
        " GROUP BY topic_id, poll_group",
        (above, ceil_ms(since)),
    )
    return {(topic, group): seq for topic, group, seq in rows}
