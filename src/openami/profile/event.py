"""Event: the details of what happened, in the envelope's optional member ``event``.

The profile has an event topic and no payload for it. An event is the ordinary envelope, so a consumer
that knows only the profile still sees valid registers, plus this member (decision 0009).
"""

from enum import StrEnum

import msgspec


class EventState(StrEnum):
    """Whether the condition began, ended, or has no duration."""

    RAISED = "raised"
    CLEARED = "cleared"
    INSTANT = "instant"


class Severity(StrEnum):
    """How soon a person should look."""

    INFO = "info"
    MINOR = "minor"
    MAJOR = "major"
    CRITICAL = "critical"


class EventSource(StrEnum):
    """Who noticed: the meter's own log, or the gateway by a rule."""

    METER = "meter"
    GATEWAY = "gateway"


class Event(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One event.

    ``event_id`` is stable: the same event told twice has the same id, so a repeat is a duplicate.
    ``occurred_at`` is RFC 3339 in UTC, the meter's own time where it gave one. A ``code`` never travels
    without its ``code_system``: the same number means different things in different lists.
    """

    event_id: str
    type: str
    state: EventState
    severity: Severity
    occurred_at: str
    source: EventSource
    code_system: str | None = None
    code: int | None = None
    detail: str | None = None
