"""Which time an envelope is stored with, given what is known of the clock (pure, decision 0018)."""

from dataclasses import dataclass
from datetime import datetime

import msgspec
from msgspec.structs import replace

from openami.gateway.driver import PollGroup
from openami.gateway.entries import Draft, Kind
from openami.gateway.timekeeping import Facts, Knowledge, Verdict, corrected, dated
from openami.profile import (
    Envelope,
    EventSource,
    EventTopic,
    Quality,
    TelemetryTopic,
    utc_text,
)


class Stamped(msgspec.Struct, frozen=True):
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
    known: Knowledge

    @property
    def now(self) -> datetime:
        """The time for the outbox's own books: never before what is known, whatever the clock says."""
        if self.verdict.trusted:
            return self.facts.wall
        return self.known.lower_bound(self.facts.boottime_s)


def stamp(draft: Draft, look: Look) -> Stamped:
    """Settle the time of a fresh draft, or bound it and say when in this boot it was.

    A draft without a second of this boot has its time from elsewhere: what is wrong with this clock is
    not wrong with it.
    """
    ts, second, held_at_s = draft.envelope.ts, draft.boottime_s, None
    if second is not None and not look.verdict.trusted:
        ts, held_at_s = look.known.lower_bound(second), second
    elif second is not None and second <= look.known.stepped_at_s:
        ts = dated(ts, second, look.facts)
    return Stamped(moved(draft.envelope, ts), draft.kind, draft.group, held_at_s)


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
