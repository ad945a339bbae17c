"""What gateways have told of missing readings: spans in which a meter was silent, or telemetry was thinned. Pure.

Events say it in words meant for both programs: `comms_lost` and `comms_restored` (decision 0007), and
`telemetry_thinned`, whose detail names the measured times "measured A to B" (decision 0020). An event that cannot
be read says nothing; it is never an error here.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, Protocol

from openami.headend.gap_life import Span
from openami.headend.store import StoredEvent
from openami.headend.store.arrivals import BACK, SILENT
from openami.profile import ProfileError, decode_envelope
from openami.profile.times import read_time

THINNED: Final = "telemetry_thinned"

# A moment nobody has told the end of.
STILL: Final = datetime.max.replace(tzinfo=UTC)

_measured = re.compile(r"measured (\S+) to (\S+?)(?=[;\s]|$)", re.ASCII).finditer


def thinned_spans(events: Iterable[StoredEvent]) -> list[Span]:
    """Return the spans of which a gateway said that it thinned something; what it told is about all its meters."""
    spans: list[Span] = []
    for event in events:
        if event.type != THINNED:
            continue
        try:
            told = decode_envelope(event.payload).event
        except ProfileError:
            continue
        for found in _measured("" if told is None else told.detail or ""):
            begin, end = read_time(found[1]), read_time(found[2])
            if begin is not None and end is not None:
                spans.append(Span(begin, end))
    return spans


class TypedMoment(Protocol):
    """What kind of thing happened when."""

    @property
    def type(self) -> str: ...
    @property
    def occurred_at(self) -> datetime: ...


def silent_spans(events: Iterable[TypedMoment]) -> list[Span]:
    """Return when one meter did not answer, as its gateway told; the last may still go on."""
    spans: list[Span] = []
    since: datetime | None = None
    for event in sorted(events, key=lambda event: event.occurred_at):
        if event.type == SILENT and since is None:
            since = event.occurred_at
        elif event.type == BACK and since is not None:
            spans.append(Span(since, event.occurred_at))
            since = None
    return spans if since is None else [*spans, Span(since, STILL)]
