"""A client's connection: TLS, the version of MQTT, what it subscribes to, and who publishes commands.

Seen at the kit's door alone. A connection counts as the judged one's until what it publishes shows that it is
the other side's: gateways publish readings, a head-end commands.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

from openami.conformance.judgement import Kind
from openami.conformance.message import Message
from openami.conformance.observation import Connected, Disconnected, Subscribed
from openami.conformance.occasion import Occasion
from openami.conformance.recent import Recent
from openami.conformance.rules.group import Seen
from openami.profile import CommandTopic, EventTopic, TelemetryTopic, Topic

# Open connections that are followed; the kit's door holds far fewer at once.
CONNECTIONS_KEPT_MAX: Final = 1_000

_SPOKEN = ("5", "3.1.1")


@dataclass(slots=True)
class _Link:
    """One connection, and what is not said of it until it is known whose it is."""

    client_id: str
    waiting: list[Occasion]  # bound: one for its version, one for TLS
    party: Kind | None = None


class Links:
    """Judges connections."""

    requirements: ClassVar = frozenset(("OA-TLS-001", "OA-MQT-001", "OA-QOS-004", "OA-TOP-005"))

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._links: Recent[int, _Link] = Recent(CONNECTIONS_KEPT_MAX)

    def see(self, seen: Seen) -> Iterable[Occasion]:
        match seen:
            case Connected():
                self._links.note(seen.connection, _Link(seen.client_id, list(_facts(seen))))
                return ()
            case Disconnected():
                link = self._links.forget(seen.connection)
                return _turned_away(link) if seen.by_kit and link is not None else ()
            case Subscribed():
                return self._judge_subscription(seen)
            case Message() if seen.published.connection is not None:
                return self._judge_sender(seen, self._links.get(seen.published.connection))
            case _:
                return ()

    def _judge_sender(self, message: Message, link: _Link | None) -> Iterator[Occasion]:
        if link is None:
            return
        if link.party is None:
            link.party = message.party
            if link.party == self._kind:
                yield from link.waiting
            link.waiting.clear()
        if link.party == "gateway" and _is_of_meter(message.kind):
            fault = None
            if message.kind is CommandTopic:
                fault = f"{link.client_id} publishes readings, and this command too"
            yield Occasion("OA-TOP-005", fault, by=link.client_id if fault else "")

    def _judge_subscription(self, seen: Subscribed) -> Iterator[Occasion]:
        link = self._links.get(seen.connection)
        if link is None or link.party not in (None, self._kind):
            return
        for topic_filter, qos in seen.filters:
            if _is_of_profile(topic_filter):
                fault = f"{topic_filter} was subscribed to with QoS 0" if qos == 0 else None
                yield Occasion("OA-QOS-004", fault, by=link.client_id)


def _turned_away(link: _Link) -> Iterator[Occasion]:
    """Judge who was sent away before it could publish: without TLS, nobody gets further."""
    return (each for each in link.waiting if each.fault is not None and link.party is None)


def _facts(seen: Connected) -> Iterator[Occasion]:
    unencrypted = None
    if seen.tls is None:
        unencrypted = f"{seen.client_id or 'a client'} is connected without TLS"
    yield Occasion("OA-TLS-001", unencrypted, by=seen.client_id)
    unknown = None
    if seen.protocol not in _SPOKEN:
        unknown = f"{seen.client_id} speaks MQTT {seen.protocol}"
    yield Occasion("OA-MQT-001", unknown, by=seen.client_id)


def _is_of_profile(topic_filter: str) -> bool:
    """Whether a filter, shared (MQTT 5, 4.8.2) or not, asks for the profile's topics."""
    levels = topic_filter.split("/")
    return levels[2 if levels[0] == "$share" and len(levels) > 2 else 0] == "openami"


def _is_of_meter(kind: type[Topic] | None) -> bool:
    return kind in (TelemetryTopic, EventTopic, CommandTopic)
