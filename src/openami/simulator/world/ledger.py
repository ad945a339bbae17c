"""The ledger of a simulated village: every message a gateway has committed, and what became of it.

It counts in messages, because that is what is lost or kept as a whole: a message is *stored* when the
head-end's store has each of its registers under the meter, moment and code it names, with the value it says,
and its event where it is one. Everything is read at the two ends: the cards' own files through their
witnesses, the store's own tables.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final

from openami.profile import Envelope, Quality, RegisterReading, decode_envelope
from openami.simulator.driver import IMPORT, SimulatedMeter
from openami.simulator.world.witness import CardWitness, WrongReading

_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_BUCKET_MS: Final = 14_400_000  # the store's four hours (decision 0012)
# A clock that is believed is right to its drift since the last time source: 100 ppm over two days, and a
# poll's length.
CLOCK_ERROR_MS_MAX: Final = 30_000

Told = tuple[str, str, int, object]
"""Meter, register, milliseconds since 1970, value."""


@dataclass(slots=True)
class Ledger:
    """What became of every message, in messages; ``expected`` is the sum of the five that follow it."""

    expected: int = 0
    """Committed by a gateway, each once."""
    stored: int = 0
    thinned: int = 0
    """Taken by the outbox's stated rule, counted and reported by the gateway."""
    gone_with_card: int = 0
    """On a card that was taken away, and nowhere else."""
    beyond_kept: int = 0
    """Lost by a broker that had acknowledged them, and asked for when their card no longer kept them."""
    lost: int = 0
    duplicates: int = 0
    """Readings that came to the head-end again and were ignored."""
    rejected: int = 0
    """Messages the head-end would not take: an attacker's."""
    conflicts: int = 0
    """Second values under one identity, kept beside the first."""
    commands: int = 0
    movements: int = 0
    """Contactors that were ordered."""

    def rows(self) -> dict[str, int]:
        """Return the figures by name."""
        return asdict(self)


class StoreReader:
    """Reads the head-end's store from outside."""

    def __init__(self, database: Path) -> None:
        self._database = database

    def count(self, ledger: Ledger) -> None:
        """Note what the store itself has counted."""
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as connection:
            ledger.duplicates, ledger.rejected, ledger.conflicts = connection.execute(
                "SELECT duplicates, rejected_messages, conflicts FROM tally"
            ).fetchone()

    def settle(self, cards: Iterable[CardWitness]) -> int:
        """Strike off every message the store has whole; return how many there were."""
        payloads = [p for card in cards for p in card.unsettled.values()]
        if not payloads:
            return 0
        envelopes = {payload: decode_envelope(payload) for payload in payloads}
        moments = [_ms(envelope.ts) for envelope in envelopes.values()]
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as connection:
            told = _stored(connection, min(moments), max(moments))
            events = set(connection.execute("SELECT meter_serial, event_id FROM event"))
        settled = 0
        for card in cards:
            for seq in list(card.unsettled):
                if seq in card.unacknowledged:
                    continue
                if _is_stored(envelopes[card.unsettled[seq]], told, events):
                    del card.unsettled[seq]
                    settled += 1
        return settled


def _stored(connection: sqlite3.Connection, first_ms: int, last_ms: int) -> set[Told]:
    first, last = first_ms // _BUCKET_MS - 1, last_ms // _BUCKET_MS + 1
    found: set[Told] = set()
    for table in ("reading", "conflict"):
        found |= set(
            connection.execute(
                "SELECT meter_serial, obis, bucket * 14400000 + ms, value"  # noqa: S608 – our words
                f" FROM {table} JOIN series ON series.id = series WHERE bucket BETWEEN ? AND ?",
                (first, last),
            )
        )
    return found


def _is_stored(envelope: Envelope, told: set[Told], events: set[tuple[str, str]]) -> bool:
    ms, serial, event = _ms(envelope.ts), str(envelope.meter_serial), envelope.event
    if event is not None and (serial, event.event_id) not in events:
        return False
    return all((serial, str(r.obis), ms, r.value) in told for r in envelope.registers)


def check_truth(envelope: Envelope, meters: Mapping[str, SimulatedMeter]) -> None:
    """Raise WrongReading if a counter's value is none its meter told, or not at that time.

    What is not ``good`` says itself that it is not to be believed.
    """
    if envelope.event is not None:
        return
    meter = meters[envelope.meter_serial]
    for register in envelope.registers:
        if register.obis == IMPORT and register.quality is Quality.GOOD:
            _check_counter(envelope, register, meter)


def _check_counter(envelope: Envelope, register: RegisterReading, meter: SimulatedMeter) -> None:
    told = meter.told.get(Decimal(str(register.value)))
    if told is None:
        raise WrongReading(f"{meter.serial} never told {register.value} kWh")
    first_ms, last_ms = told
    ms = _ms(envelope.ts)
    if not first_ms - CLOCK_ERROR_MS_MAX <= ms <= last_ms + CLOCK_ERROR_MS_MAX:
        true = _EPOCH + timedelta(milliseconds=last_ms)
        raise WrongReading(
            f"{meter.serial} told {register.value} kWh until {true}, it is dated {envelope.ts}"
        )


def _ms(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)
