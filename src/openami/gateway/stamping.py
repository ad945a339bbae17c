"""Which time an envelope is stored with, given what is known of the clock (pure, decision 0018)."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from msgspec.structs import replace

from openami.gateway.driver import PollGroup
from openami.gateway.entries import Draft, Kind
from openami.gateway.timekeeping import (
    Facts,
    Verdict,
    believed_time,
    corrected,
    lower_bound,
    seconds_of_boot,
)
from openami.profile import (
    Envelope,
    EventSource,
    EventTopic,
    Quality,
    TelemetryTopic,
    utc_text,
)


@dataclass(frozen=True, slots=True)
class Stamped:
    """A draft with its time settled, or, where ``held_at_s`` names a second of this boot, with a bound."""

    envelope: Envelope
    kind: Kind
    group: PollGroup | None
    held_at_s: float | None = None

    @property
    def topic(self) -> str:
        """Where it will be published."""
        place = (self.envelope.feeder_id, self.envelope.gateway_id, self.envelope.meter_serial)
        return str(EventTopic(*place) if self.kind is Kind.EVENT else TelemetryTopic(*place))


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the clock and what was made of it: all that stamping a batch depends on."""

    facts: Facts
    verdict: Verdict
    before: Facts | None
    floor: datetime

    @property
    def now(self) -> datetime:
        """The time for the outbox's own books: never before what is known, whatever the clock says."""
        if self.verdict.trusted:
            return self.facts.wall
        return self.floor + timedelta(seconds=self.facts.boottime_s)


def stamp(draft: Draft, look: Look) -> Stamped:
    """Settle the time of a fresh draft, or bound it and say when in this boot it was."""
    ts = draft.envelope.ts
    second = draft.boottime_s
    if look.verdict.trusted:
        if look.verdict.jump_s:
            ts = believed_time(ts, second, before=look.before, facts=look.facts)
        return Stamped(moved(draft.envelope, ts), draft.kind, draft.group)
    if second is None:
        second = seconds_of_boot(ts, look.facts)
    if second is None:
        return Stamped(draft.envelope, draft.kind, draft.group)
    bound = lower_bound(ts, second, look.floor)
    return Stamped(moved(draft.envelope, bound), draft.kind, draft.group, second)


def settled(envelope: Envelope, held_at_s: float, facts: Facts) -> Envelope:
    """Return a held envelope with the time the now trusted clock gives it."""
    return moved(envelope, corrected(held_at_s, facts))


def unsettled(envelope: Envelope) -> Envelope:
    """Return a held envelope whose time can never be known: what was good is suspect.

    Quality is lowered, never raised (decision 0007): a lost meter's value stays ``comms_lost``.
    """
    registers = tuple(
        replace(register, quality=Quality.SUSPECT) if register.quality is Quality.GOOD else register
        for register in envelope.registers
    )
    return replace(envelope, registers=registers)


def moved(envelope: Envelope, ts: datetime) -> Envelope:
    """Return the envelope at another time; what the gateway's own clock dated moves with it."""
    if ts == envelope.ts:
        return envelope
    event = envelope.event
    if event is not None and event.source is EventSource.GATEWAY:
        occurred_at = datetime.fromisoformat(event.occurred_at) + (ts - envelope.ts)
        event = replace(event, occurred_at=utc_text(occurred_at))
    return replace(envelope, ts=ts, event=event)
