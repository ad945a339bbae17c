"""The demo's account: what the gateway says it sent against what the head-end's store has.

Both sides are read at their own end of the wire: the gateway's outbox file, entry by entry, and the
head-end's store. A reading is counted once under its identity, (meter, register, measured time)
(decision 0006); a silent meter's last values go out again under the identity they had, so they are among
the duplicates and not among the published.
"""

import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from openami.headend.store import Store, Tally
from openami.profile import (
    EventTopic,
    FeederId,
    MeterSerial,
    Obis,
    TelemetryTopic,
    decode_envelope,
    parse_topic,
)

# What of the lost is named, when something was lost.
LOST_NAMED_MAX = 10

_SENT_ON_TOPIC = (
    "SELECT payload FROM outbox_entry JOIN outbox_payload USING (seq) "
    "WHERE state = 'sent' AND topic_id = ?"
)


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """What makes a reading that reading."""

    meter_serial: MeterSerial
    ts: datetime
    obis: Obis


@dataclass(frozen=True, slots=True)
class Account:
    """The end of a demo, in readings.

    published   acknowledged by the broker to the gateway, each identity once
    stored      of those, in the head-end's store
    duplicates  came to the head-end again under an identity it had: redelivered after a kill, or a silent
                meter's last values
    rejected    registers, and messages as a whole, that the head-end would not take
    lost        published and not in the store: ``published`` is ``stored`` and ``lost``
    """

    published: int
    stored: int
    duplicates: int
    rejected: int
    lost: tuple[Identity, ...]


@dataclass(frozen=True, slots=True)
class Traffic:
    """The outbox in messages, as it stands."""

    sent: int = 0
    backlog: int = 0


def traffic(outbox: Path) -> Traffic:
    """Return the outbox's totals; nothing of a file that is not there yet."""
    totals = {"sent": 0, "pending": 0, "held": 0, "refused": 0}
    try:
        with closing(_open(outbox)) as connection:
            rows = connection.execute(
                "SELECT state, sum(entries) FROM outbox_total GROUP BY state"
            ).fetchall()
    except sqlite3.OperationalError:  # not made yet, or its schema is just being made
        return Traffic()
    totals |= {state: int(entries) for state, entries in rows}
    return Traffic(sent=totals.pop("sent"), backlog=sum(totals.values()))


async def account(
    outbox: Path, store: Store, *, feeder_id: FeederId, since: datetime, before: Tally
) -> Account:
    """Compare both ends, meter by meter; ``before`` is the store's tally when the demo began."""
    published = stored = 0
    lost: list[Identity] = []
    for serial, topic_ids in _topics(outbox).items():
        sent = set(_sent(outbox, serial, topic_ids))
        kept = {each async for each in _kept(store, feeder_id, serial, since)}
        published += len(sent)
        stored += len(sent & kept)
        lost += sorted(sent - kept)
    tally = await store.totals()
    return Account(
        published=published,
        stored=stored,
        duplicates=tally.duplicates - before.duplicates,
        rejected=_rejected(tally) - _rejected(before),
        lost=tuple(lost),
    )


async def everything_arrived(outbox: Path, store: Store, *, before: Tally) -> bool:
    """Return whether the head-end has taken as many messages as were sent; cheap, to wait by."""
    tally = await store.totals()
    return tally.messages - before.messages >= traffic(outbox).sent


def _rejected(tally: Tally) -> int:
    return tally.rejected_items + tally.rejected_messages


def _topics(outbox: Path) -> dict[MeterSerial, list[int]]:
    """Return the ids of each meter's topics, in telemetry and events."""
    with closing(_open(outbox)) as connection:
        rows = connection.execute("SELECT id, topic FROM outbox_topic").fetchall()
    found: dict[MeterSerial, list[int]] = {}
    for topic_id, text in rows:
        topic = parse_topic(text)
        assert isinstance(topic, TelemetryTopic | EventTopic)  # the outbox has no other
        found.setdefault(topic.meter_serial, []).append(topic_id)
    return found


def _sent(outbox: Path, serial: MeterSerial, topic_ids: Sequence[int]) -> Iterator[Identity]:
    with closing(_open(outbox)) as connection:
        for topic_id in topic_ids:
            for (payload,) in connection.execute(_SENT_ON_TOPIC, (topic_id,)):
                envelope = decode_envelope(payload)
                for register in envelope.registers:
                    yield Identity(serial, envelope.ts, register.obis)


async def _kept(
    store: Store, feeder_id: FeederId, serial: MeterSerial, since: datetime
) -> AsyncIterator[Identity]:
    async for reading in store.readings(feeder_id, serial, since=since):
        yield Identity(serial, reading.ts, reading.obis)


def _open(outbox: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{outbox}?mode=ro", uri=True)
