"""What is to be told when the gateway's own clock loses or gains trust, or is set (pure, decision 0018).

These are events of the gateway itself, so they carry its id as meterSerial (decision 0009), and its clock
as the register they are about.
"""

from dataclasses import dataclass
from datetime import timedelta

from openami.gateway.entries import Draft, Kind
from openami.gateway.event_types import EventType
from openami.gateway.events import clock_reading, event_envelope
from openami.gateway.normalise import Source, to_the_millisecond
from openami.gateway.timekeeping import JUMP_TOLERANCE_S, Facts
from openami.profile import EventState, MeterSerial, Quality


@dataclass(frozen=True, slots=True)
class ClockLook:
    """One look at the clocks, and whether the wall clock was believed."""

    facts: Facts
    trusted: bool


def clock_drafts(before: ClockLook | None, after: ClockLook, source: Source) -> list[Draft]:
    """Return the events that the second of two looks gives rise to."""
    drafts = []
    was_trusted = before is None or before.trusted
    if was_trusted and not after.trusted:
        detail = "the gateway's clock is not to be trusted: readings wait until it is"
        drafts.append(_draft(EventType.CLOCK_INVALID, EventState.RAISED, after, source, detail))
    if not was_trusted and after.trusted:
        detail = "the gateway's clock is trusted"
        drafts.append(_draft(EventType.CLOCK_INVALID, EventState.CLEARED, after, source, detail))
    step_s = 0.0 if before is None else _step_s(before.facts, after.facts)
    if step_s:
        detail = f"the gateway's clock was set by {step_s:+.0f} s"
        drafts.append(_draft(EventType.CLOCK_ADJUSTED, EventState.INSTANT, after, source, detail))
    return drafts


def _step_s(before: Facts, after: Facts) -> float:
    step: timedelta = after.boot_moment - before.boot_moment
    return step.total_seconds() if abs(step.total_seconds()) > JUMP_TOLERANCE_S else 0.0


def _draft(
    kind: EventType, state: EventState, look: ClockLook, source: Source, detail: str
) -> Draft:
    now = to_the_millisecond(look.facts.wall)
    quality = Quality.GOOD if look.trusted else Quality.SUSPECT
    envelope = event_envelope(
        kind,
        state,
        source=source,
        serial=MeterSerial(source.gateway_id),
        occurred_at=now,
        registers=(clock_reading(now, quality),),
        ts=now,
        detail=detail,
    )
    return Draft(envelope, Kind.EVENT, boottime_s=look.facts.boottime_s)
