"""What a group of rules is asked, and what it is shown."""

from collections.abc import Iterable
from datetime import datetime
from typing import ClassVar, Protocol, runtime_checkable

from openami.conformance.message import Message
from openami.conformance.observation import (
    Acknowledged,
    ActBegan,
    ActEnded,
    Connected,
    Disconnected,
    RelaySeen,
    Sent,
    Subscribed,
)
from openami.conformance.occasion import Occasion

# What rules see: an observation, and a message read once for all of them.
Seen = (
    Message
    | Connected
    | Disconnected
    | Subscribed
    | Acknowledged
    | Sent
    | ActBegan
    | ActEnded
    | RelaySeen
)


class Group(Protocol):
    """The rules of one group."""

    requirements: ClassVar[frozenset[str]]
    """The numbers it judges."""

    def see(self, seen: Seen) -> Iterable[Occasion]:
        """Return what the requirements were kept or broken by, and remember what later ones need."""
        ...


@runtime_checkable
class Waiting(Group, Protocol):
    """A group that waits for something that is due."""

    def look(self, now: datetime) -> Iterable[Occasion]:
        """Return what was due before now and did not come, once."""
        ...
