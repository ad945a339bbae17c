"""The AlarmStore port: alarms, and how far the events have been looked through for them.

Whoever looks writes what follows from a page of events together with the place they were read to, in one
transaction: after a crash the same page is looked at again, and raises nothing twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from openami.headend.alarms import Alarm
from openami.headend.store import StoredEvent

# As long as findings: this month beside the same month of last year.
ALARMS_KEPT_DAYS = 400
# Over for a month and seen by nobody, an alarm is history like the others.
UNSEEN_KEPT_DAYS = 30
# What is shown and looked at as active. A feeder of 500 meters that all flap is 500; ten of those are a page nobody
# reads, and the newest are kept in sight.
ACTIVE_MAX = 5_000
# Events of one look: a day of a large village, a few milliseconds of the database.
EVENTS_AT_ONCE_MAX = 1_000
# What a person acknowledges with one word: a storm over the largest feeder.
ACKNOWLEDGED_AT_ONCE_MAX = 500
# A note is a sentence to the next shift.
NOTE_CHARS_MAX = 500


@dataclass(frozen=True, slots=True)
class NewEvents:
    """Events in the order they came, from where the last look ended, and where this one does."""

    events: Sequence[StoredEvent]
    looked_to: int


class AlarmStore(Protocol):
    """What the head-end keeps of alarms. Every method raises StoreError."""

    async def active_alarms(self, feeder_id: str | None = None) -> Sequence[Alarm]:
        """Return what stands, then what is over and was not acknowledged; the newest first, ACTIVE_MAX at most."""
        ...

    async def past_alarms(
        self,
        *,
        feeder_id: str | None = None,
        before: datetime | None = None,
        at_most: int = 100,
    ) -> Sequence[Alarm]:
        """Return what is over and acknowledged, raised before a moment; newest first."""
        ...

    async def alarm(self, alarm_id: str) -> Alarm | None: ...

    async def new_events(self) -> NewEvents:
        """Return the events that no look has had yet, EVENTS_AT_ONCE_MAX at most."""
        ...

    async def put_alarms(self, alarms: Sequence[Alarm], *, looked_to: int | None = None) -> None:
        """Write alarms as they are now, but for who acknowledged them; and how far events were looked through."""
        ...

    async def acknowledge_alarms(
        self, alarm_ids: Sequence[str], *, who: str, note: str, now: datetime
    ) -> int:
        """Note that somebody has seen alarms, with an entry in the audit log; return how many newly were."""
        ...

    async def prune_alarms(self, now: datetime) -> int:
        """Delete what was over too long ago; return how many alarms went."""
        ...
