"""Event: the details of what happened, in the envelope's optional member ``event``.

The profile has an event topic and no payload for it. An event is the ordinary envelope, so a consumer
that knows only the profile still sees valid registers, plus this member (decision 0009).
"""

import re
from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from openami.profile.times import TIME_PATTERN, read_time

# Names in lists of events and keys in a store: what an id may be, and longer for hashes with a prefix.
EVENT_NAME_PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}"
# A sentence for a person; whatever is longer belongs into a log.
DETAIL_CHARS_MAX: Final = 1000
# As for values: beyond it doubles cannot tell neighbours apart.
_CODE_MAX = 2**53 - 1

_is_event_name = re.compile(EVENT_NAME_PATTERN).fullmatch

_Name = Annotated[str, Meta(extra_json_schema={"pattern": f"^{EVENT_NAME_PATTERN}$"})]
_Time = Annotated[str, Meta(extra_json_schema={"pattern": f"^{TIME_PATTERN}$"})]
_Code = Annotated[int, Meta(ge=-_CODE_MAX, le=_CODE_MAX)]
_Detail = Annotated[
    str, Meta(max_length=DETAIL_CHARS_MAX, extra_json_schema={"pattern": "^[^\\u0000]*$"})
]


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

    event_id: _Name
    type: _Name
    state: EventState
    severity: Severity
    occurred_at: _Time
    source: EventSource
    code_system: _Name | None = None
    code: _Code | None = None
    detail: _Detail | None = None


def read_event(member: object) -> Event | None:
    """Return the event a member ``event`` holds; None when it is not of our shape.

    Somebody else may use the name for something of their own, so another shape is no fault (decision
    0009).
    """
    try:
        event = msgspec.convert(member, Event)
    except msgspec.ValidationError:
        return None
    names = (event.event_id, event.type, event.code_system)
    if not all(name is None or _is_event_name(name) for name in names):
        return None
    if event.code is not None and event.code_system is None:
        return None
    if event.detail is not None and "\0" in event.detail:
        return None
    return None if read_time(event.occurred_at) is None else event
