"""The verdict: each reading the gateway took in durably is stored exactly once, with its value.

Both ends are read where they lie: the gateway's outbox file, the head-end's store, reading by reading.
"""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from openami.headend.store import Store
from openami.profile import FeederId, Value, decode_envelope

Identity = tuple[str, str, str]
"""Meter, register, measured time."""

LOOK_S = 0.1


def taken_in(outbox: Path, state: str = "%") -> dict[Identity, Value]:
    """Return the readings the outbox took in, and what each was first; ``state`` as SQL LIKE has it."""
    found: dict[Identity, Value] = {}
    with closing(sqlite3.connect(f"file:{outbox}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT payload FROM outbox_payload JOIN outbox_entry USING (seq) "
            "WHERE state LIKE ? ORDER BY seq",
            (state,),
        ).fetchall()
    for (payload,) in rows:
        envelope = decode_envelope(payload)
        for register in envelope.registers:
            identity = (envelope.meter_serial, str(register.obis), envelope.ts.isoformat())
            found.setdefault(identity, register.value)
    return found


def unsent(outbox: Path) -> int:
    """Return how many entries the broker has not acknowledged."""
    with closing(sqlite3.connect(f"file:{outbox}?mode=ro", uri=True)) as connection:
        (count,) = connection.execute(
            "SELECT count(*) FROM outbox_entry WHERE state <> 'sent'"
        ).fetchone()
    return int(count)


async def stored(store: Store, feeder_id: FeederId) -> list[tuple[Identity, Value]]:
    """Return every reading the store has of a feeder."""
    return [
        ((meter.meter_serial, str(reading.obis), reading.ts.isoformat()), reading.value)
        for meter in await store.meters(feeder_id=feeder_id)
        async for reading in store.readings(feeder_id, meter.meter_serial)
    ]


async def assert_stored_once(
    store: Store,
    feeder_id: FeederId,
    *,
    sent: Mapping[Identity, Value],
    read: Mapping[Identity, Value],
    patience_s: float,
) -> None:
    """Wait until what was sent is stored; nothing is doubled, changed, or was never read.

    ``read`` may be more than ``sent``: a last poll that is on the gateway's disk only, and what a kill between a
    PUBACK and its mark left unmarked.
    """
    async with asyncio.timeout(patience_s):
        while True:
            kept = await stored(store, feeder_id)
            if {identity for identity, _ in kept} >= sent.keys():
                break
            await asyncio.sleep(LOOK_S)
    assert max(Counter(identity for identity, _ in kept).values()) == 1
    assert all(read[identity] == value for identity, value in kept)
    tally = await store.totals()
    assert tally.conflicts == 0
    assert tally.rejected_messages == tally.rejected_items == 0
    assert tally.stored == len(kept)
