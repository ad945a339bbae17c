"""All poles of a bridge: each message goes to its own, and what is known of it is kept (no IO).

What can be known is bounded by the map: a pole that does not stand there is told, and nothing of it is kept
but its name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from openami.bridge.events import Outgoing
from openami.bridge.findings import Finding, Reason, finding
from openami.bridge.firmware import parse_topic
from openami.bridge.meshems import Message, Pole, PoleMap, Translation, silences, translate

# Names of strangers that are remembered, so that each is told once. A public broker has thousands.
STRANGERS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one message, or of a silence."""

    at: datetime
    pole: str
    """Empty where the topic names none."""
    topic: str
    outgoing: tuple[Outgoing, ...]
    findings: tuple[Finding, ...]
    is_new: bool = False
    """A stranger that was not heard before."""


class Poles:
    """The poles of the map, and what is known of each."""

    def __init__(self, known: Mapping[str, PoleMap]) -> None:
        self._known = known
        self._poles = {name: Pole() for name in known}
        self._strangers: set[str] = set()  # bound: STRANGERS_MAX

    def take(self, message: Message, *, clock_trusted: bool) -> Told:
        """Return what a message comes to."""
        topic = parse_topic(message.topic)
        if topic is None:
            told = finding(
                Reason.FOREIGN_TOPIC, f"{message.topic[:100]!r} is none of the firmware's"
            )
            return Told(message.arrived_at, "", message.topic, (), (told,))
        known = self._known.get(topic.pole)
        if known is None:
            is_new = topic.pole not in self._strangers and len(self._strangers) < STRANGERS_MAX
            if is_new:
                self._strangers.add(topic.pole)
            told = finding(Reason.UNKNOWN_POLE, f"{topic.pole} does not stand in the map")
            return Told(message.arrived_at, topic.pole, message.topic, (), (told,), is_new)
        translation = translate(
            message, topic, self._poles[topic.pole], known, clock_trusted=clock_trusted
        )
        return self._kept(topic.pole, message.topic, message.arrived_at, translation)

    def silences(self, now: datetime) -> Iterator[Told]:
        """Yield what is to be said of the meters that have been silent for too long."""
        for name, known in self._known.items():
            translation = silences(self._poles[name], known, now)
            if translation.findings:
                yield self._kept(name, "", now, translation)

    def _kept(self, pole: str, topic: str, at: datetime, translation: Translation) -> Told:
        self._poles[pole] = translation.pole
        return Told(at, pole, topic, translation.outgoing, translation.findings)
