"""The witness: watches a simulated village from outside the programs, and says at once when a promise is broken.

It sees what anybody could see: what passes the broker, what the two database files hold, where the contactors
stand. It is asked at the moments that matter: before a machine loses its power and after it is back, at every
acknowledgement, at the end of each day. Nothing in gateway or head-end knows of it.

Promise 2 is checked on the gateway's own file. What is committed there before a cut is there after it, unless
the broker had it (and the time it is kept has passed) or thinning counted it; what is marked as sent, the
broker had. Promise 3 on the head-end's: at each acknowledgement, and after each cut, it has committed at
least as many messages as it acknowledged.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from openami.gateway.thinning import Stage, is_loss
from openami.mqtt.port import Delivery
from openami.profile import decode_envelope

# What is named of a breach; the seed tells the rest.
_NAMED_MAX: Final = 5
_SESSION_TOPIC = "/session/"


class Breach(AssertionError):
    """The village saw what must never happen."""


class PromiseBroken(Breach):
    """One of the six promises does not hold: which, and what was seen."""

    def __init__(self, promise: int, seen: str) -> None:
        super().__init__(f"promise {promise} is broken: {seen}")
        self.promise = promise


class WrongReading(Breach):
    """A reading says what no meter told, or at another time than it was told."""


@dataclass(slots=True)
class CardWitness:
    """What one memory card of a gateway has been seen to hold and say. Keys are ``seq``."""

    name: str
    unsettled: dict[int, bytes] = field(default_factory=dict)
    """Committed on the card and not yet found in the store: as it was published, or as it stood last."""
    unacknowledged: set[int] = field(default_factory=set)
    """Of those, what no PUBACK was seen for."""
    messages: int = 0
    """Messages seen on the card or from it, each once."""
    looked_to: int = 0
    """The last number that was given when the card was last looked at."""
    thinned: int = 0
    """Messages thinning had taken by then, by its own count."""
    thinned_seen: int = 0
    """Of those, what had been seen before."""
    bytes_used: int = 0
    """What its outbox said it held at the last look."""
    _early: set[int] = field(default_factory=set)
    """Acknowledged by the broker since the last look."""

    def look(self, database: Path) -> None:
        """Read what the card has now, and hold it against what it had. Raises PromiseBroken."""
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            if not self._is_made(connection):
                return
            rows = connection.execute(
                "SELECT seq, payload FROM outbox_entry JOIN outbox_payload USING (seq)"
                " WHERE seq > ? OR state = 'held'",
                (self.looked_to,),
            ).fetchall()
            (last_seq,) = connection.execute("SELECT last_seq FROM outbox_progress").fetchone()
            (self.bytes_used,) = connection.execute(
                "SELECT sum(bytes) FROM outbox_total"
            ).fetchone()
            stages = connection.execute("SELECT stage, entries FROM outbox_thinned").fetchall()
            thinned = sum(entries for stage, entries in stages if is_loss(Stage(stage)))
            if last_seq < max(self.looked_to, max(self._early, default=0)):
                raise PromiseBroken(2, f"{self.name}: numbers went back to {last_seq}")
            for seq, payload in rows:
                self._note(seq, payload)
            self._early.clear()
            self.looked_to = last_seq
            self._check_marks(connection)
            self._check_kept(connection, thinned)

    def acknowledged(self, seq: int, payload: bytes) -> bool:
        """The broker has told the gateway that it has this one; return whether that is news."""
        if seq > self.looked_to:
            if seq in self._early:
                return False
            self._early.add(seq)
            self.messages += 1
        elif seq not in self.unsettled:
            return False
        self.unsettled[seq] = payload
        self.unacknowledged.discard(seq)
        return True

    def check_bound(self, bytes_max: int) -> None:
        """Raise PromiseBroken if its outbox holds more than it may."""
        if self.bytes_used > bytes_max:
            raise PromiseBroken(6, f"{self.name} holds {self.bytes_used} bytes of {bytes_max}")

    def strike_what_is_not_kept(self, database: Path, *, kept_since: datetime) -> int:
        """Strike off what the broker had and lost, and the card no longer keeps; return how many there were.

        A card keeps what was sent for some days, and in so many bytes (decision 0008): only what was measured
        before ``kept_since``, or what thinning counts as kept and gone, may be missing.
        """
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            there = {seq for (seq,) in connection.execute("SELECT seq FROM outbox_entry")}
            (given_up,) = connection.execute(
                "SELECT coalesce(sum(entries), 0) FROM outbox_thinned WHERE stage = ?",
                (Stage.KEPT,),
            ).fetchone()
        gone = self.unsettled.keys() - self.unacknowledged - there
        aged = {seq for seq in gone if decode_envelope(self.unsettled[seq]).ts < kept_since}
        if len(gone - aged) > given_up:
            return 0
        for seq in gone:
            del self.unsettled[seq]
        return len(gone)

    def _is_made(self, connection: sqlite3.Connection) -> bool:
        """Whether there is an outbox at all: on a new card whose first write failed there is none yet."""
        made = connection.execute(
            "SELECT 1 FROM sqlite_schema WHERE name = 'outbox_entry'"
        ).fetchone()
        if made is None and (self.looked_to or self._early):
            raise PromiseBroken(2, f"{self.name} is empty, and had {self.looked_to} messages")
        return made is not None

    def _note(self, seq: int, payload: bytes) -> None:
        if seq > self.looked_to and seq not in self._early:
            self.messages += 1
            self.unacknowledged.add(seq)
        if seq in self.unacknowledged:
            self.unsettled[seq] = payload

    def _check_marks(self, connection: sqlite3.Connection) -> None:
        """What is marked as sent, the broker had."""
        if not self.unacknowledged:
            return
        marked = {
            seq
            for (seq,) in connection.execute(
                "SELECT seq FROM outbox_entry WHERE state = 'sent' AND seq >= ?",
                (min(self.unacknowledged),),
            )
        }
        wrong = sorted(marked & self.unacknowledged)
        if wrong:
            raise PromiseBroken(
                2, f"{self.name}: {wrong[:_NAMED_MAX]} are marked as sent, and no PUBACK was seen"
            )

    def _check_kept(self, connection: sqlite3.Connection, thinned: int) -> None:
        """What the broker has not acknowledged is on the card, or thinning has counted it."""
        more, self.thinned = thinned - self.thinned, thinned
        if not self.unacknowledged:
            return
        there = {
            seq
            for (seq,) in connection.execute(
                "SELECT seq FROM outbox_entry WHERE seq >= ?", (min(self.unacknowledged),)
            )
        }
        gone = self.unacknowledged - there
        if len(gone) > more:
            raise PromiseBroken(
                2,
                f"{self.name}: {len(gone)} messages are gone from the card unacknowledged, "
                f"{more} were thinned: {sorted(gone)[:_NAMED_MAX]}",
            )
        for seq in gone:
            self.unacknowledged.discard(seq)
            del self.unsettled[seq]
        self.thinned_seen += len(gone)


@dataclass(slots=True)
class HeadendWitness:
    """What the head-end has acknowledged, against what it has committed."""

    database: Path
    acknowledged: int = 0
    _connection: sqlite3.Connection | None = None

    def on_acknowledged(self, deliveries: Sequence[Delivery], unsynced: int) -> None:
        """The head-end answers for messages: they are committed, and synced. Raises PromiseBroken."""
        told = sum(_SESSION_TOPIC not in delivery.topic for delivery in deliveries)
        if not told:
            return
        self.acknowledged += told
        if unsynced:
            raise PromiseBroken(3, f"{told} messages are acknowledged, {unsynced} writes unsynced")
        self.check()

    def check(self) -> None:
        """Raise PromiseBroken if less is committed than was acknowledged."""
        if self._connection is None:
            self._connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        (messages,) = self._connection.execute("SELECT messages FROM tally").fetchone()
        if messages < self.acknowledged:
            raise PromiseBroken(
                3, f"{self.acknowledged} messages are acknowledged, {messages} committed"
            )

    def close(self) -> None:
        """Let go of the file: the machine is about to lose its power."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
