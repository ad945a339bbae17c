"""What gateways have told of missing readings: a meter was silent, telemetry was thinned or waits. Pure.

Events say it in words meant for both programs: `comms_lost` and `comms_restored` (decision 0007),
`telemetry_thinned`, whose detail names the measured times "measured A to B" (decision 0020), and
`telemetry_withheld`, raised and cleared (decision 0076). An event that cannot be read says nothing; it is never an
error here.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, Protocol

from openami.headend.gap_life import Span
from openami.headend.store import StoredEvent
from openami.headend.store.arrivals import BACK, SILENT
from openami.profile import EventState, ProfileError, decode_envelope
from openami.profile.times import read_time

THINNED: Final = "telemetry_thinned"
WITHHELD: Final = "telemetry_withheld"

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


def withheld_spans(events: Iterable[StoredEvent]) -> list[Span]:
    """Return when a gateway's readings waited by its monthly cap, as it told; the last may still go on."""
    spans: list[Span] = []
    since: datetime | None = None
    told = (event for event in events if event.type == WITHHELD)
    for event in sorted(told, key=lambda event: event.occurred_at):
        if event.state == EventState.RAISED:
            since = since or event.occurred_at
        elif since is not None:
            spans.append(Span(since, event.occurred_at))
            since = None
    return spans if since is None else [*spans, Span(since, STILL)]


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
