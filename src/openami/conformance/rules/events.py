"""Events that are told again: by their ids."""

from collections.abc import Iterable
from typing import ClassVar, Final

import msgspec

from openami.conformance.message import Message
from openami.conformance.occasion import Occasion
from openami.conformance.recent import Recent
from openami.conformance.rules.group import Seen
from openami.profile import pointer

# Events that are remembered: some hundred a day and feeder, so those of weeks; 3 MB.
EVENTS_KEPT_MAX: Final = 5_000


class Events:
    """Judges the ids of events."""

    requirements: ClassVar = frozenset(("OA-EVT-003",))

    def __init__(self) -> None:
        self._ids: Recent[int, str] = Recent(EVENTS_KEPT_MAX)

    def see(self, seen: Seen) -> Iterable[Occasion]:
        if not isinstance(seen, Message) or seen.envelope is None or seen.envelope.event is None:
            return ()
        envelope, event = seen.envelope, seen.envelope.event
        without_id = msgspec.structs.replace(event, event_id="")
        said = hash((seen.published.topic, envelope.ts, envelope.registers, without_id))
        told = self._ids.get(said)
        self._ids.note(said, event.event_id)
        if told is None:
            return ()
        fault = None
        if told != event.event_id:
            fault = f"the same event was {told} before and is {event.event_id} now: it counts twice"
        return (Occasion("OA-EVT-003", fault, pointer("event", "eventId") if fault else ""),)
