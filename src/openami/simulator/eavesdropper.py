"""An attacker who has the broker: records what passes, plays it back, and publishes what nobody wrote.

What it cannot do is sign: a forgery keeps the signature it was made from. It names every message it injects,
so that a checker knows what must have had no effect.
"""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from openami.mqtt.memory import MemoryBroker

# Recordings of one kind of topic: commands and sessions are rare and must not drown in telemetry. Each kind
# keeps a fair sample of all that passed; at 1 kB a message, 0.25 MB.
RECORDINGS_MAX: Final = 256
# The profile has four kinds of topic; whatever else passes shares what is left.
KINDS_MAX: Final = 8

_METER_LEVEL = 5
_LEAF_LEVEL = 6
_OTHER = "other"


@dataclass(frozen=True, slots=True)
class Recording:
    """A message as it passed the broker."""

    client_id: str
    topic: str
    payload: bytes


class Forgery(Enum):
    """What is done to a recording before it is published; REPLAY leaves it as it was."""

    REPLAY = "replay"
    BYTE_FLIPPED = "byte flipped"
    TOPIC_SWAPPED = "topic swapped"
    SESSION_SWAPPED = "session swapped"
    RETAINED = "retained"


@dataclass(frozen=True, slots=True)
class Injected:
    """A message the attacker published, and what it was made from."""

    forgery: Forgery
    original: Recording
    topic: str
    payload: bytes


class Eavesdropper:
    """Records at a broker, and injects there what it made of its recordings."""

    def __init__(
        self, broker: MemoryBroker, rng: random.Random, *, recordings_max: int = RECORDINGS_MAX
    ) -> None:
        self._broker = broker
        self._rng = rng
        self._recordings_max = recordings_max
        self._recordings: dict[str, list[Recording]] = {}
        self._passed: dict[str, int] = {}
        self._overhears: dict[str, Callable[[Recording], None] | None] = {}
        broker.listen(self._record)

    def recordings(self, kind: str) -> Sequence[Recording]:
        """Return what is kept of a kind of topic: `telemetry`, `event`, `command`, `session`."""
        return tuple(self._recordings.get(kind, ()))

    def attack(self, kind: str, forgery: Forgery) -> Injected | None:
        """Inject a forgery of some recording of this kind; None when there is nothing to make it from."""
        recordings = self._recordings.get(kind)
        if not recordings:
            return None
        original = self._rng.choice(recordings)
        forged = _FORGERS[forgery](original, recordings, self._rng)
        if forged is None:
            return None
        topic, payload = forged
        self._broker.inject(topic, payload, retain=forgery is Forgery.RETAINED)
        return Injected(forgery, original, topic, payload)

    def overhear(self, kind: str, listener: Callable[[Recording], None] | None) -> None:
        """Tell a listener of each message of this kind as it passes; with None, nobody any more."""
        self._overhears[kind] = listener

    def inject(self, topic: str, payload: bytes) -> None:
        """Publish this."""
        self._broker.inject(topic, payload)

    def _record(self, client_id: str, topic: str, payload: bytes) -> None:
        kind = kind_of(topic)
        if kind not in self._recordings and len(self._recordings) >= KINDS_MAX:
            kind = _OTHER
        kept = self._recordings.setdefault(kind, [])
        if (listener := self._overhears.get(kind)) is not None:
            listener(Recording(client_id, topic, payload))
        passed = self._passed[kind] = self._passed.get(kind, 0) + 1
        if len(kept) < self._recordings_max:
            kept.append(Recording(client_id, topic, payload))
        else:  # a reservoir: each message that passed is kept with the same chance
            place = int(self._rng.random() * passed)
            if place < self._recordings_max:
                kept[place] = Recording(client_id, topic, payload)


def kind_of(topic: str) -> str:
    """Return what kind of topic this is: a meter's topic by its leaf, `session`, or `other`."""
    levels = topic.split("/")
    if len(levels) == _LEAF_LEVEL + 1:
        return levels[_LEAF_LEVEL]
    return levels[-2] if len(levels) == _LEAF_LEVEL else _OTHER


_Forged = tuple[str, bytes] | None


def _replay(original: Recording, _others: Sequence[Recording], _rng: random.Random) -> _Forged:
    return original.topic, original.payload


def _flip_a_byte(original: Recording, _others: Sequence[Recording], rng: random.Random) -> _Forged:
    """One bit of one byte; in a signed document, of what is signed, where the signature can be told apart."""
    payload = bytearray(original.payload)
    if not payload:
        return None
    signed = original.payload.find(b'"signature"')
    payload[rng.randrange(signed if signed > 0 else len(payload))] ^= 1 << rng.randrange(7)
    return original.topic, bytes(payload)


def _swap_topic(original: Recording, others: Sequence[Recording], rng: random.Random) -> _Forged:
    """To another meter of the same gateway, or else any other topic of this kind."""
    topics = dict.fromkeys(each.topic for each in others if each.topic != original.topic)
    near = [each for each in topics if _gateway(each) == _gateway(original.topic)]
    choice = near or list(topics)
    return (rng.choice(choice), original.payload) if choice else None


def _swap_session(original: Recording, others: Sequence[Recording], rng: random.Random) -> _Forged:
    """The session id of another recording, signature kept."""
    mine = _session_id(original.payload)
    ids = dict.fromkeys(_session_id(each.payload) for each in others)
    choice = [each for each in ids if each is not None and each != mine]
    if mine is None or not choice:
        return None
    theirs = rng.choice(choice)
    payload = original.payload.replace(json.dumps(mine).encode(), json.dumps(theirs).encode())
    return original.topic.replace(f"/session/{mine}", f"/session/{theirs}"), payload


_FORGERS: dict[Forgery, Callable[[Recording, Sequence[Recording], random.Random], _Forged]] = {
    Forgery.REPLAY: _replay,
    Forgery.BYTE_FLIPPED: _flip_a_byte,
    Forgery.TOPIC_SWAPPED: _swap_topic,
    Forgery.SESSION_SWAPPED: _swap_session,
    Forgery.RETAINED: _replay,
}


def _gateway(topic: str) -> str:
    return "/".join(topic.split("/")[: _METER_LEVEL - 1])


def _session_id(payload: bytes) -> str | None:
    try:
        document = json.loads(payload)
    except ValueError:
        return None
    session_id = document.get("sessionId") if isinstance(document, dict) else None
    return session_id if isinstance(session_id, str) else None
